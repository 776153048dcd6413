//! The metadata service as a gateway or compactor reaches it: [`Client`] is [`Metadata`] over the network. It finds the
//! owners, and hides from its callers that they change; it never guesses what became of an ask.

mod ask;
mod dial;
mod directory;
mod flight;
mod links;
mod outage;
mod pace;
mod peers;
mod repeat;
mod session;
mod time;
mod watch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lakefall_queue::ShardId;
use lakefall_queue::clock::Ambient;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Answer, Command, Query, Reply, wire};
use lakefall_service::net::Dialing;
use lakefall_service::{FollowingClock, Tasks, trace};
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use peers::RpcPeers;

use super::proto::IdentifyRequest;
use super::{ClientSecurity, ClientTls, MAX_ASK, Renewal};
use crate::metrics as names;
use crate::node::{Metadata, News};
use crate::store::Identity;
use ask::{Asking, ask};
use dial::{CallError, Dialer, call_error};
use directory::{Address, Directory, Trouble};
use flight::Flights;
use links::Links;
use session::What;
use time::Told;

/// Pauses between attempts grow from this…
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// …to this: short beside the time that a takeover takes.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How long one replica may take to ask the store, before the next is asked.
const IDENTIFY: Duration = Duration::from_secs(3);
/// Larger questions are not looked for among those under way.
const SHARED_QUERY: usize = 1_024;

/// How the metadata service is reached.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// URLs of replicas that are asked first; they name the others.
    pub endpoints: Vec<String>,
    /// Token and certificates.
    pub security: ClientSecurity,
    /// How long an ask is tried. Longer than a takeover takes, so that callers do not notice one.
    pub deadline: Duration,
    /// How long a connection may take to be opened.
    pub connect_timeout: Duration,
    /// How it is opened.
    pub dialing: Dialing,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            security: ClientSecurity::default(),
            deadline: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(1),
            dialing: Dialing::Tcp,
        }
    }
}

/// Why the metadata service cannot be asked. A person must act; the sentence says how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ClientError(pub(super) String);

/// The metadata service, somewhere else. Connects when it is first asked, and lives as long as it is held.
pub struct Client {
    core: Arc<Core>,
    flights: Arc<Flights<(ShardId, Bytes), Result<Answer>>>,
}

/// What the client's tasks share.
struct Core {
    links: Links,
    directory: Arc<Directory>,
    ambient: Ambient,
    news: watch::Newsstand,
    deadline: Duration,
}

impl Client {
    /// Starts looking for the metadata service, in tasks that end with `stop`: cancel it when nobody here asks any more.
    /// Fails only when an endpoint or a certificate makes no sense.
    pub fn connect(config: ClientConfig, ambient: Ambient, tasks: &Tasks, stop: CancellationToken) -> Result<Arc<Self>, ClientError> {
        let dialer = Dialer::new(&config.security, config.connect_timeout, config.dialing)?;
        if config.endpoints.is_empty() {
            return Err(ClientError(
                "metadata.endpoints is empty: name at least one metadata replica, like http://10.0.0.7:8082".to_owned(),
            ));
        }
        for endpoint in &config.endpoints {
            dialer.client(endpoint).map_err(|reason| ClientError(format!("metadata.endpoints: {reason}")))?;
        }
        let time = Arc::new(Told::new(Arc::new(FollowingClock::new(Arc::clone(&ambient.clock)))));
        let endpoints = config.endpoints.iter().map(|endpoint| Address::from(endpoint.as_str())).collect();
        let directory = Arc::new(Directory::new(endpoints));
        let links = Links {
            dialer: dialer.clone(),
            directory: Arc::clone(&directory),
            ambient: ambient.clone(),
            tasks: tasks.clone(),
            stop: stop.clone(),
            time: Arc::clone(&time),
            by_address: Mutex::new(HashMap::new()),
        };
        let core = Arc::new(Core {
            links,
            directory: Arc::clone(&directory),
            ambient: ambient.clone(),
            news: watch::Newsstand::new(),
            deadline: config.deadline,
        });
        tasks.spawn("metadata-directory", directory.run(dialer, ambient, time, stop));
        tasks.spawn("metadata-news", watch::run(Arc::clone(&core)));
        Ok(Arc::new(Self { core, flights: Arc::new(Flights::new()) }))
    }

    /// Returns when a replica told who owns what. Waits for one to come up; the error is one that waiting does not mend.
    pub async fn ready(&self) -> Result<(), ClientError> {
        let mut known = self.core.directory.known();
        let settled = known.wait_for(|known| known.shards > 0 || matches!(known.trouble(), Some(Trouble::Refused(_)))).await;
        match settled {
            Ok(known) => match known.trouble() {
                Some(Trouble::Refused(reason)) if known.shards == 0 => Err(ClientError(reason.clone())),
                Some(_) | None => Ok(()),
            },
            Err(_) => Err(ClientError("the metadata client has stopped".to_owned())),
        }
    }

    /// Looks at renewed certificates; what comes back puts them into use for connections to come, and leaves those that are open.
    pub fn renewal(&self, tls: &ClientTls) -> Result<Renewal, ClientError> {
        self.core.links.dialer.renewal(tls)
    }

    /// Why no replica answers, if none does; for people.
    pub fn trouble(&self) -> Option<String> {
        self.core.directory.look(|known| known.trouble().map(Trouble::reason).map(str::to_owned))
    }

    /// The cluster's time, as replicas tell it; this machine's own until one did.
    pub fn clock(&self) -> Arc<FollowingClock> {
        Arc::clone(self.core.links.time.clock())
    }

    /// Refuses to ask before it is known how many shards there are: the caller may have chosen one by a wrong number.
    async fn reached(&self, shard: ShardId, until: Instant) -> Result<()> {
        let known_before = self.core.directory.look(|known| known.shards > 0);
        let shards = self.described(until).await?;
        if !known_before && shards > 1 {
            return Err(Error::Unavailable { reason: "the metadata service was only just reached".to_owned(), retry_after: FIRST_PAUSE });
        }
        if shard.0 < shards { Ok(()) } else { Err(Error::Internal(format!("there is no shard {shard}"))) }
    }

    /// How many shards there are, as soon as a replica told.
    async fn described(&self, until: Instant) -> Result<u32> {
        let shards = || self.core.directory.look(|known| known.shards);
        if shards() == 0 {
            // Why it failed is told below.
            let _ = tokio::time::timeout_at(until, self.ready()).await;
        }
        match shards() {
            0 => Err(Error::unavailable(self.trouble().unwrap_or_else(|| "the metadata service was not reached yet".to_owned()))),
            shards => Ok(shards),
        }
    }
}

fn fits(bytes: &Bytes) -> Result<()> {
    if bytes.len() > MAX_ASK {
        return Err(Error::TooLarge { what: "a metadata request", limit: MAX_ASK as u64, actual: bytes.len() as u64 });
    }
    Ok(())
}

#[async_trait]
impl Metadata for Client {
    /// 1 until a replica was reached; an ask that was waiting meanwhile is refused if that was wrong.
    fn shards(&self) -> u32 {
        self.core.directory.look(|known| known.shards.max(1))
    }

    async fn execute(&self, shard: ShardId, command: Command) -> Result<Reply> {
        let until = Instant::now() + self.core.deadline;
        self.reached(shard, until).await?;
        let bytes = wire::encode_command(&command);
        fits(&bytes)?;
        let asking =
            Asking { shard, what: What::Command(bytes), repeatable: repeat::is_repeatable(&command), trace: trace::current(), until };
        let decode = |bytes| wire::decode_reply(bytes).map_err(|malformed| malformed.to_string());
        ask(&self.core, asking, decode, |reply| repeat::doubted(&command, reply)).await
    }

    async fn query(&self, shard: ShardId, query: Query) -> Result<Answer> {
        let until = Instant::now() + self.core.deadline;
        self.reached(shard, until).await?;
        let bytes = wire::encode_query(&query);
        fits(&bytes)?;
        let (core, key) = (Arc::clone(&self.core), (shard, bytes.clone()));
        // Its own time begins when it is its turn.
        let asked = move || async move {
            let until = Instant::now() + core.deadline;
            let asking = Asking { shard, what: What::Query(bytes), repeatable: true, trace: None, until };
            ask(&core, asking, |bytes| wire::decode_answer(bytes).map_err(|malformed| malformed.to_string()), |answer| answer).await
        };
        if key.1.len() > SHARED_QUERY {
            return asked().await;
        }
        // One that waits for the one before it has less time left than it asks with.
        let share = self.flights.share(key, || Box::pin(asked()));
        let Ok((answer, shared)) = tokio::time::timeout_at(until + LONGEST_PAUSE, share).await else {
            return Err(Error::unavailable("the metadata service did not answer in time"));
        };
        if shared {
            metrics::counter!(names::RPC_SHARED_QUERIES).increment(1);
        }
        answer
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<News>> {
        self.core.news.subscribe()
    }

    async fn identity(&self) -> Result<Identity> {
        let until = Instant::now() + self.core.deadline;
        self.described(until).await?;
        let core = &self.core;
        let (replicas, cluster) = core.directory.look(|known| (known.replicas.clone(), known.cluster.clone()));
        let mut reason = "no metadata replica is known".to_owned();
        for address in replicas {
            let asked = async {
                let mut client = core.links.client(&address).map_err(CallError::Broken)?;
                client
                    .identify(core.links.dialer.request(IdentifyRequest {}, cluster.as_deref()))
                    .await
                    .map_err(|status| call_error(&status))
            };
            match tokio::time::timeout_at(until.min(Instant::now() + IDENTIFY), asked).await {
                Ok(Ok(reply)) => {
                    let reply = reply.into_inner();
                    return Ok(Identity { cluster: reply.cluster, incarnation: reply.incarnation });
                }
                Ok(Err(CallError::Refused(why) | CallError::Broken(why))) => reason = why,
                Err(_) => reason = format!("the metadata replica {address} does not answer"),
            }
        }
        Err(Error::unavailable(reason))
    }
}
