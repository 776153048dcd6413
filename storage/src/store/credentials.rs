//! Credentials from AWS's default chain, for requests to S3: loaded when the first request needs them, kept until shortly
//! before they expire, loaded anew when the service refused them. It must never show a secret, and never ask the chain
//! once per request.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use lakefall_queue::clock::Ambient;
use metrics::counter;
use object_store::aws::AwsCredential;
use object_store::client::CredentialProvider;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::metrics::STORE_CREDENTIALS;

/// Renewed this long before they expire, so that no request is under way with credentials about to end.
const RENEW_AHEAD: Duration = Duration::from_secs(300);
/// After a failed renewal, and after a refusal that new credentials did not cure: the chain is asked no sooner than this.
const PAUSE: Duration = Duration::from_secs(5);

/// The chain and what it last gave. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Chain(Arc<Inner>);

struct Inner {
    ambient: Ambient,
    /// How often the credentials changed.
    changes: AtomicU64,
    /// Held while the chain is asked: whoever comes meanwhile waits for the same answer.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Built again after a refusal: parts of the chain read their files only once.
    chain: Option<SharedCredentialsProvider>,
    held: Option<Held>,
    /// When the chain was last asked.
    asked: Option<Instant>,
}

#[derive(Clone)]
struct Held {
    credentials: Credentials,
    wire: Arc<AwsCredential>,
}

impl Chain {
    /// Asks nothing yet.
    pub(crate) fn new(ambient: Ambient) -> Self {
        Self(Arc::new(Inner { ambient, changes: AtomicU64::new(0), state: Mutex::default() }))
    }

    /// Asks `chain` until it is refused.
    #[cfg(test)]
    fn over(ambient: Ambient, chain: SharedCredentialsProvider) -> Self {
        let state = Mutex::new(State { chain: Some(chain), ..State::default() });
        Self(Arc::new(Inner { ambient, changes: AtomicU64::new(0), state }))
    }

    /// Credentials that are good for a while.
    pub(crate) async fn load(&self) -> Result<Credentials, CredentialsError> {
        Ok(self.held().await?.credentials)
    }

    /// How often the credentials changed: an attempt notes it for [`Self::refused`].
    pub(crate) fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Acquire)
    }

    /// The service refused the credentials of an attempt that began after so many `changes`. Answers whether there are
    /// others now, so that the request is worth repeating.
    pub(crate) async fn refused(&self, changes: u64) -> bool {
        let mut state = self.0.state.lock().await;
        let Some(before) = state.held.clone() else { return false };
        if self.changes() != changes {
            return true;
        }
        if state.asked.is_some_and(|asked| asked.elapsed() < PAUSE) {
            return false;
        }
        state.chain = None;
        match self.ask(&mut state).await {
            Ok(held) => *held.wire != *before.wire,
            Err(error) => {
                tracing::warn!(error = %Told(&error), "no new credentials were found after the store refused the old ones");
                false
            }
        }
    }

    async fn held(&self) -> Result<Held, CredentialsError> {
        let mut state = self.0.state.lock().await;
        let now = self.now();
        let Some(held) = state.held.clone() else { return self.ask(&mut state).await };
        let left = held.credentials.expiry().map(|expiry| expiry.duration_since(now).unwrap_or_default());
        if left.is_none_or(|left| left > RENEW_AHEAD) {
            return Ok(held);
        }
        let valid = left.is_some_and(|left| !left.is_zero());
        if valid && state.asked.is_some_and(|asked| asked.elapsed() < PAUSE) {
            return Ok(held);
        }
        match self.ask(&mut state).await {
            Err(error) if valid => {
                tracing::warn!(error = %Told(&error), "credentials could not be renewed yet; the old ones are still good");
                Ok(held)
            }
            asked => asked,
        }
    }

    async fn ask(&self, state: &mut State) -> Result<Held, CredentialsError> {
        state.asked = Some(Instant::now());
        let chain = match &state.chain {
            Some(chain) => chain.clone(),
            None => {
                let built = SharedCredentialsProvider::new(DefaultCredentialsChain::builder().build().await);
                state.chain.insert(built).clone()
            }
        };
        let answer = chain.provide_credentials().await;
        counter!(STORE_CREDENTIALS, "outcome" => if answer.is_ok() { "ok" } else { "failed" }).increment(1);
        let credentials = answer?;
        let wire = Arc::new(AwsCredential {
            key_id: credentials.access_key_id().to_owned(),
            secret_key: credentials.secret_access_key().to_owned(),
            token: credentials.session_token().map(str::to_owned),
        });
        if state.held.as_ref().is_some_and(|held| held.wire != wire) {
            self.0.changes.fetch_add(1, Ordering::AcqRel);
        }
        Ok(state.held.insert(Held { credentials, wire }).clone())
    }

    fn now(&self) -> SystemTime {
        let millis = u64::try_from(self.0.ambient.now().as_millis()).unwrap_or_default();
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chain")
    }
}

#[async_trait]
impl CredentialProvider for Chain {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let error = match self.held().await {
            Ok(held) => return Ok(held.wire),
            Err(error) => error,
        };
        let source = Told(&error).to_string().into();
        Err(match error {
            // Nothing will change by itself.
            CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
                object_store::Error::Unauthenticated { path: "credentials".to_owned(), source }
            }
            // Where they come from does not answer.
            _ => object_store::Error::Generic { store: "AWS credentials", source },
        })
    }
}

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.load())
    }
}

/// An error with its causes: those of the chain say nothing by themselves.
pub(crate) struct Told<'a>(pub(crate) &'a CredentialsError);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = std::error::Error::source(self.0);
        while let Some(at) = cause {
            write!(f, ": {at}")?;
            cause = at.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::super::ambient::system;
    use super::*;

    /// Gives a new key each time, good for `lasts`.
    #[derive(Debug)]
    struct Rotating(AtomicUsize, Option<Duration>);

    impl Rotating {
        fn next(&self) -> Result<Credentials, CredentialsError> {
            let number = self.0.fetch_add(1, Ordering::SeqCst);
            let expiry = self.1.map(|lasts| Chain::new(system()).now() + lasts);
            Ok(Credentials::new(format!("key-{number}"), "secret", None, expiry, "test"))
        }
    }

    impl ProvideCredentials for Rotating {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::ready(self.next())
        }
    }

    fn chain(lasts: Option<Duration>) -> Chain {
        Chain::over(system(), SharedCredentialsProvider::new(Rotating(AtomicUsize::new(0), lasts)))
    }

    async fn key(chain: &Chain) -> String {
        chain.get_credential().await.unwrap().key_id.clone()
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_are_kept_until_shortly_before_they_expire() {
        let good = chain(Some(RENEW_AHEAD * 2));
        for _ in 0..3 {
            assert_eq!(key(&good).await, "key-0");
        }
        let ending = chain(Some(RENEW_AHEAD / 2));
        assert_eq!(key(&ending).await, "key-0");
        assert_eq!(key(&ending).await, "key-0", "not asked for each request");
        tokio::time::advance(PAUSE * 2).await;
        assert_eq!(key(&ending).await, "key-1");
        let ended = chain(Some(Duration::ZERO));
        assert_eq!((key(&ended).await, key(&ended).await), ("key-0".to_owned(), "key-1".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_of_refusals_asks_the_chain_once_in_a_while() {
        let chain = chain(None);
        assert!(!chain.refused(0).await, "nothing was in use");
        key(&chain).await;
        assert!(!chain.refused(0).await, "just asked");
    }

    #[test]
    fn no_secret_is_shown() {
        assert!(!format!("{:?}", chain(None)).contains("secret"));
    }
}
