//! Who owns which shard, as far as is known: learned by asking any replica, and from those that say that they are the wrong
//! one. It may be wrong at any time; that costs a redirect.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use lakefall_queue::clock::Ambient;
use lakefall_queue::{ShardId, Timestamp};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::codec::replica_from_proto;
use super::super::proto::{DescribeReply, DescribeRequest};
use super::dial::{CallError, Dialer, call_error};
use super::outage::Outage;
use super::pace::jittered;
use super::time::Told;
use crate::store::Replica;

/// A replica's URL.
pub(super) type Address = Arc<str>;

/// A replica that does not answer in this time is not waited for: the next one is asked beside it.
const NEXT_AFTER: Duration = Duration::from_millis(200);
/// And is given up after this one.
const GIVE_UP: Duration = Duration::from_secs(3);
/// Pause between two rounds at least, about: callers that find the wrong owner all want one.
const BETWEEN: Duration = Duration::from_millis(30);
/// Pause after a round that came to nothing, although nobody wants another: a client that starts first waits for a replica.
const AFTER_TROUBLE: Duration = Duration::from_millis(500);
/// A round that nobody wanted: for the clock, and for replicas that joined.
const REFRESH: Duration = Duration::from_secs(20);
/// Most shards that are believed.
const MOST_SHARDS: u32 = 1 << 20;

/// What is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// `None` until a replica answered.
    pub(super) cluster: Option<Arc<str>>,
    /// 0 until a replica answered.
    pub(super) shards: u32,
    /// Replicas that are alive.
    pub(super) replicas: BTreeSet<Address>,
    owners: Vec<Option<Address>>,
    /// Why the last round came to nothing.
    trouble: Option<Trouble>,
}

/// Why no replica answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A person must act.
    Refused(String),
    /// It may pass.
    Unreachable(String),
}

impl Trouble {
    pub(super) fn reason(&self) -> &str {
        let (Self::Refused(reason) | Self::Unreachable(reason)) = self;
        reason
    }
}

impl Known {
    pub(super) fn owner(&self, shard: ShardId) -> Option<&Address> {
        self.owners.get(shard.0 as usize)?.as_ref()
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = &Address> {
        self.owners.iter().flatten()
    }

    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }
}

/// The knowledge, and the wish for more.
pub(super) struct Directory {
    endpoints: Vec<Address>,
    known: watch::Sender<Known>,
    wanted: Notify,
}

impl Directory {
    pub(super) fn new(endpoints: Vec<Address>) -> Self {
        Self { endpoints, known: watch::channel(Known::default()).0, wanted: Notify::new() }
    }

    pub(super) fn known(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    pub(super) fn look<T>(&self, at: impl FnOnce(&Known) -> T) -> T {
        at(&self.known.borrow())
    }

    /// Asks for a round, without waiting for it.
    pub(super) fn want(&self) {
        self.wanted.notify_one();
    }

    /// Returns when the shard's owner is known to be another than `not`.
    pub(super) async fn moved(&self, shard: ShardId, not: Option<&Address>) {
        let mut known = self.known.subscribe();
        let _ = known.wait_for(|known| known.owner(shard).is_some_and(|owner| Some(owner) != not)).await;
    }

    /// A replica said that another serves the shard.
    pub(super) fn redirected(&self, shard: ShardId, from: &Address, to: Option<&Replica>) {
        self.known.send_if_modified(|known| {
            let Some(owner) = known.owners.get_mut(shard.0 as usize) else { return false };
            // Told by who was asked meanwhile, or learned elsewhere: newer than this.
            if owner.as_ref().is_some_and(|owner| owner != from) {
                return false;
            }
            *owner = to.map(|replica| Address::from(replica.address.as_str())).filter(|to| to != from);
            true
        });
    }

    /// A replica said what it serves.
    pub(super) fn serves(&self, replica: &Address, shards: &BTreeSet<ShardId>) {
        let lost = self.known.send_if_modified(|known| {
            let mut changed = false;
            for (shard, owner) in (0..).map(ShardId).zip(&mut known.owners) {
                let mine = owner.as_ref() == Some(replica);
                if shards.contains(&shard) && !mine {
                    *owner = Some(Arc::clone(replica));
                    changed = true;
                } else if !shards.contains(&shard) && mine {
                    *owner = None;
                    changed = true;
                }
            }
            changed
        });
        if lost && self.look(|known| known.owners.iter().any(Option::is_none)) {
            self.want();
        }
    }

    /// Asks replicas whenever somebody wants it, until `stop`.
    pub(super) async fn run(self: Arc<Self>, dialer: Dialer, ambient: Ambient, time: Arc<Told>, stop: CancellationToken) {
        let mut outage = Outage::default();
        loop {
            let (found, refused) = tokio::select! {
                round = self.round(&dialer, &ambient) => round,
                () = stop.cancelled() => return,
            };
            self.learn(found, refused, &time);
            outage.log(self.look(|known| known.trouble.clone()).as_ref());
            let pause = tokio::time::sleep(jittered(BETWEEN, &ambient));
            let idle = if self.look(|known| known.trouble.is_some()) { AFTER_TROUBLE } else { REFRESH };
            let idle = tokio::time::sleep(jittered(idle, &ambient));
            tokio::select! {
                () = async { pause.await; self.wanted.notified().await } => {}
                () = idle => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Whom to ask. An owner that a redirect named is among them: of the others none may be left.
    fn candidates(&self) -> Vec<Address> {
        let all: BTreeSet<_> = self.look(|known| self.endpoints.iter().chain(&known.replicas).chain(known.owners()).cloned().collect());
        all.into_iter().collect()
    }

    /// Asks one replica after the other, in random order, until one answers. The error is everybody's.
    async fn round(&self, dialer: &Dialer, ambient: &Ambient) -> (Option<(DescribeReply, Duration)>, Vec<(Address, CallError)>) {
        let mut left = self.candidates();
        let cluster = self.look(|known| known.cluster.clone());
        let mut asked = FuturesUnordered::new();
        let mut failed = Vec::new();
        loop {
            if !left.is_empty() {
                let pick = (ambient.entropy.draw() % left.len() as u128) as usize;
                asked.push(describe(dialer, left.swap_remove(pick), cluster.clone()));
            }
            let next = tokio::time::sleep(NEXT_AFTER);
            tokio::select! {
                answer = asked.next() => match answer {
                    Some((_, Ok(found))) => return (Some(found), failed),
                    Some((address, Err(error))) => failed.push((address, error)),
                    None => return (None, failed),
                },
                () = next, if !left.is_empty() => {}
            }
        }
    }

    fn learn(&self, found: Option<(DescribeReply, Duration)>, failed: Vec<(Address, CallError)>, time: &Told) {
        let found = found.filter(|(reply, _)| (1..=MOST_SHARDS).contains(&reply.shards));
        self.known.send_modify(|known| {
            let Some((reply, took)) = found else {
                known.trouble = Some(trouble(failed));
                return;
            };
            if let Some(cluster) = &known.cluster
                && **cluster != *reply.cluster
            {
                known.trouble = Some(Trouble::Refused(format!(
                    "metadata.endpoints lead to two clusters, {cluster} and {}: name replicas of one",
                    reply.cluster
                )));
                return;
            }
            known.trouble = None;
            time.told(Timestamp::from_millis(reply.now_ms), took);
            known.cluster.get_or_insert_with(|| reply.cluster.as_str().into());
            known.shards = reply.shards;
            known.owners.resize(reply.shards as usize, None);
            let address = |wire: &_| replica_from_proto(wire).map(|replica| Address::from(replica.address));
            known.replicas = reply.replicas.iter().filter_map(address).collect();
            for holding in reply.holdings {
                let Some(owner) = known.owners.get_mut(holding.shard as usize) else { continue };
                let told = holding.owner.as_ref().and_then(address);
                // Who is asked may not have heard of the newest owner; one that lives is better than none.
                if told.is_some() || owner.as_ref().is_some_and(|owner| !known.replicas.contains(owner)) {
                    *owner = told;
                }
            }
        });
    }
}

async fn describe(dialer: &Dialer, address: Address, cluster: Option<Arc<str>>) -> (Address, Result<(DescribeReply, Duration), CallError>) {
    let asked = async {
        // The time that the answer alone took says how old it is.
        let mut client = dialer.connected(&address).await?;
        let started = Instant::now();
        let request = dialer.request(DescribeRequest {}, cluster.as_deref());
        let reply = client.describe(request).await.map_err(|status| call_error(&status))?;
        Ok((reply.into_inner(), started.elapsed()))
    };
    let answer = tokio::time::timeout(GIVE_UP, asked).await;
    (address, answer.unwrap_or_else(|_| Err(CallError::Broken("it does not answer".to_owned()))))
}

fn trouble(mut failed: Vec<(Address, CallError)>) -> Trouble {
    // They were asked in random order, and people compare.
    failed.sort_by(|(one, _), (other, _)| one.cmp(other));
    let refused = failed.iter().find_map(|(address, error)| match error {
        CallError::Refused(reason) => Some(format!("{address}: {reason}")),
        CallError::Broken(_) => None,
    });
    if let Some(refused) = refused {
        return Trouble::Refused(refused);
    }
    let reasons: Vec<String> = failed
        .iter()
        .map(|(address, error)| {
            let (CallError::Refused(reason) | CallError::Broken(reason)) = error;
            format!("{address}: {reason}")
        })
        .collect();
    let reasons = if reasons.is_empty() { "none is named".to_owned() } else { reasons.join("; ") };
    // Alerts of TLS, and what rustls says of certificates.
    let tls = ["certificate", "alert", "InvalidContentType"].iter().any(|word| reasons.contains(word));
    let check = if tls { "check metadata.tls on both sides" } else { "check that they run and that metadata.endpoints names them" };
    Trouble::Unreachable(format!("no metadata replica answers ({reasons}): {check}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ReplicaId;

    #[test]
    fn an_owner_that_a_redirect_named_is_asked_in_the_next_round() {
        let [first, second]: [Address; 2] = ["http://127.0.0.1:1".into(), "http://127.0.0.1:2".into()];
        let directory = Directory::new(vec![Arc::clone(&first)]);
        directory.known.send_modify(|known| known.owners = vec![Some(Arc::clone(&first)); 2]);
        assert_eq!(directory.candidates(), [Arc::clone(&first)]);
        let replica = Replica { id: ReplicaId(2), address: second.to_string() };
        directory.redirected(ShardId(1), &first, Some(&replica));
        assert_eq!(directory.candidates(), [first, second]);
    }
}
