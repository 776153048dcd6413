//! One link to each replica: its channel and its session, opened when they are needed and again after they broke.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lakefall_queue::clock::Ambient;
use lakefall_service::Tasks;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::super::proto::metadata_client::MetadataClient;
use super::dial::Dialer;
use super::directory::{Address, Directory};
use super::pace::jittered;
use super::session::{Lost, Session};
use super::time::Told;
use crate::metrics as names;

/// A replica that could not be reached is left alone for so long, whoever wants to ask it.
const HOLD_OFF: Duration = Duration::from_millis(100);

/// All links of a client.
pub(super) struct Links {
    pub(super) dialer: Dialer,
    pub(super) directory: Arc<Directory>,
    pub(super) ambient: Ambient,
    pub(super) tasks: Tasks,
    pub(super) stop: CancellationToken,
    pub(super) time: Arc<Told>,
    pub(super) by_address: Mutex<HashMap<Address, Link>>,
}

pub(super) struct Link {
    client: MetadataClient<Channel>,
    /// How often certificates had been renewed when the client was made.
    renewals: u64,
    session: Option<Arc<Session>>,
    not_before: Instant,
}

impl Links {
    /// A client for other calls, on the same connection.
    pub(super) fn client(&self, address: &Address) -> Result<MetadataClient<Channel>, String> {
        let mut links = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(self.link(&mut links, address)?.client.clone())
    }

    /// The session with a replica, opened if there is none.
    pub(super) fn session(&self, address: &Address) -> Result<Arc<Session>, Lost> {
        let mut links = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let link = self.link(&mut links, address).map_err(Lost::Refused)?;
        let now = Instant::now();
        match &link.session {
            Some(session) if session.is_open() => return Ok(Arc::clone(session)),
            Some(session) => {
                metrics::counter!(names::RPC_RECONNECTS, "stream" => "session").increment(1);
                // A connection that broke is opened again at once.
                if !session.was_answered() {
                    link.not_before = now + jittered(HOLD_OFF, &self.ambient);
                }
                link.session = None;
            }
            None => {}
        }
        if now < link.not_before {
            return Err(Lost::NotSent(format!("the metadata replica {address} could not be reached just now")));
        }
        if self.stop.is_cancelled() {
            return Err(Lost::NotSent("this process stops".to_owned()));
        }
        let cluster = self.directory.look(|known| known.cluster.clone());
        let dress = |frames| self.dialer.request(frames, cluster.as_deref());
        let (session, task) = Session::open(link.client.clone(), dress, self.stop.child_token(), Arc::clone(&self.time));
        self.tasks.spawn("metadata-session", task);
        let session = Arc::new(session);
        link.session = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Forgets replicas that are gone.
    pub(super) fn keep(&self, wanted: &BTreeSet<Address>) {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner).retain(|address, _| wanted.contains(address));
    }

    fn link<'a>(&self, links: &'a mut HashMap<Address, Link>, address: &Address) -> Result<&'a mut Link, String> {
        let renewals = self.dialer.renewals();
        if links.get(address).is_none_or(|link| link.renewals != renewals) {
            let client = self.dialer.client(address)?;
            // A session that is open goes on over the connection that it has.
            let session = links.remove(address).and_then(|link| link.session);
            links.insert(Arc::clone(address), Link { client, renewals, session, not_before: Instant::now() });
        }
        links.get_mut(address).ok_or_else(|| format!("{address} was forgotten"))
    }
}
