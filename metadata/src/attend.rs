//! Attendance: says every few moments that this replica is alive, renews its leases, hears who else is there, and orders what
//! follows from that ([`crate::placement`]). It waits for nothing that could make it late: shards are taken and given back by
//! their supervisors.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use lakefall_queue::ShardId;
use lakefall_queue::clock::Clock;
use lakefall_service::{FollowingClock, Tasks};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::metrics as names;
use crate::peers::Membership;
use crate::placement::plan;
use crate::slots::{Farewell, Slots, Tenancy};
use crate::store::{MetadataStore, Replica, Roll, StoreError};

/// Rolls in the time of a lease.
const ROLLS: u32 = 5;
/// A roll that takes longer than this part of a lease is given up: there must be time for the next.
const PATIENCE: u32 = 4;
/// After a roll that failed, the next one comes after this part of a lease.
const RETRY: u32 = 20;
/// Between two rolls at least, however often one is woken.
const BREATH: Duration = Duration::from_millis(20);
/// What a lease that ends is given before one looks whether it did.
const SLACK: Duration = Duration::from_millis(5);
/// How long owners may write their last checkpoints at a stop, while they serve; or a quarter of a lease.
const LAST_CHECKPOINTS: Duration = Duration::from_secs(1);
/// How long a nudge may take.
const NUDGE: Duration = Duration::from_secs(1);
/// A clock that is further off than this is reported.
const SKEW_MS: i64 = 1_000;

/// What the store said last.
#[derive(Default)]
pub(crate) struct LastRoll(Mutex<Option<(Roll, Duration)>>);

impl LastRoll {
    /// The roll, and when it was asked for by the monotonic clock.
    pub(crate) fn get(&self) -> Option<(Roll, Duration)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, roll: Roll, asked: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((roll, asked));
    }
}

/// The one who renews and decides.
pub(crate) struct Attendance {
    pub(crate) membership: Membership,
    pub(crate) store: Arc<dyn MetadataStore>,
    /// Of this replica's leases.
    pub(crate) lease: Duration,
    pub(crate) slots: Slots,
    pub(crate) clock: Arc<FollowingClock>,
    pub(crate) last: Arc<LastRoll>,
    /// To the supervisors, by shard. They end with this.
    pub(crate) orders: Vec<mpsc::Sender<Tenancy>>,
    pub(crate) tasks: Tasks,
}

impl Attendance {
    /// Runs until stopped, then hands everything over.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), StoreError> {
        let mut giving = BTreeSet::new();
        let mut known = BTreeSet::new();
        let mut skewed = false;
        while !stop.is_cancelled() {
            let began = Instant::now();
            let roll = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                roll = self.roll() => roll,
            };
            let pause = match &roll {
                Ok(roll) => {
                    self.place(roll);
                    self.watch_clock(&mut skewed);
                    // Others that are rich give to one who comes.
                    if known.is_empty() {
                        self.nudge(&roll.replicas);
                    }
                    known = roll.replicas.iter().map(|replica| replica.id).collect();
                    self.until_next(roll)
                }
                Err(error) => {
                    tracing::warn!(%error, "the metadata store did not renew the leases of this replica");
                    self.lease / RETRY
                }
            };
            giving.extend(self.slots.mine().leaving);
            self.measure();
            let due = began + pause;
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = self.slots.woken() => {}
                () = sleep_until(due) => {}
            }
            // What was given back is for others to take, now.
            let leaving = self.slots.mine().leaving;
            if giving.iter().any(|shard| !leaving.contains(shard)) {
                self.nudge_others();
            }
            giving = leaving;
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep_until(began + BREATH) => {}
            }
        }
        self.leave().await;
        Ok(())
    }

    /// One round trip: renews what is held and hears of the others.
    async fn roll(&self) -> Result<Roll, StoreError> {
        let held = self.slots.leases();
        let leases: Vec<_> = held.iter().map(|(lease, _)| *lease).collect();
        // Time runs from here: the store counted it from later on.
        let asked = self.clock.elapsed();
        let late = |_| StoreError::Unknown("it did not answer in time".to_owned());
        let roll = timeout(self.lease / PATIENCE, self.store.renew(&leases)).await.map_err(late)??;
        self.clock.told_within(roll.now, self.clock.elapsed().saturating_sub(asked));
        for (lease, tenure) in held {
            if roll.renewed.contains(&lease.shard) {
                tenure.renewed(asked, self.lease);
            } else if !self.slots.mine().leaving.contains(&lease.shard) {
                ::metrics::counter!(names::LEASES_LOST).increment(1);
                tracing::warn!(shard = lease.shard.0, "the lease of a shard is lost");
                tenure.lost();
            }
        }
        self.last.set(roll.clone(), asked);
        Ok(roll)
    }

    fn place(&self, roll: &Roll) {
        let me = self.membership.me.id;
        self.slots.told(me, &roll.holdings);
        let plan = plan(me, roll, &self.slots.mine());
        if !plan.take.is_empty() || !plan.give.is_empty() {
            tracing::info!(take = ?numbers(&plan.take), give = ?numbers(&plan.give), replicas = roll.replicas.len(), "shards move");
        }
        for shard in plan.take {
            self.order(shard);
        }
        for shard in plan.give {
            self.slots.give(shard);
        }
        self.slots.settled();
    }

    fn order(&self, shard: ShardId) {
        let farewell = Farewell { prepare: CancellationToken::new(), go: CancellationToken::new() };
        let Some(tenancy) = self.slots.order(shard, farewell) else { return };
        // There is a place: a shard that is away has no tenancy. Else its supervisor is gone, and so is the process soon.
        if self.orders.get(shard.0 as usize).is_none_or(|orders| orders.try_send(tenancy).is_err()) {
            self.slots.away(shard);
        }
    }

    /// When to look again: in time for the leases, and as soon as another's ends that was not renewed.
    fn until_next(&self, roll: &Roll) -> Duration {
        let me = self.membership.me.id;
        let foreign = roll.holdings.iter().filter(|h| h.owner.as_ref().is_some_and(|owner| owner.id != me));
        let ends = foreign.map(|holding| holding.remaining + SLACK).min();
        ends.unwrap_or(self.lease).min(self.lease / ROLLS)
    }

    fn watch_clock(&self, skewed: &mut bool) {
        let Some(skew_ms) = self.clock.skew_ms() else { return };
        ::metrics::gauge!(names::CLOCK_SKEW_SECONDS).set(skew_ms as f64 / 1_000.0);
        let off = skew_ms.abs() > SKEW_MS;
        if off && !*skewed {
            tracing::warn!(skew_ms, "this machine's clock differs from the metadata store's, by which everything goes");
        }
        *skewed = off;
    }

    fn measure(&self) {
        if let Some((_, asked)) = self.last.get() {
            ::metrics::gauge!(names::ROLL_AGE_SECONDS).set(self.clock.elapsed().saturating_sub(asked).as_secs_f64());
        }
    }

    /// Hands everything over at once: last checkpoints while serving, then all shards back, then nobody counts on this
    /// replica any more.
    async fn leave(&self) {
        let checkpoints = timeout(LAST_CHECKPOINTS.min(self.lease / PATIENCE), self.slots.wait_until(Slots::prepare_all));
        let (renewed, _) = tokio::join!(self.roll(), checkpoints);
        if let Err(error) = renewed {
            tracing::warn!(%error, "the leases were not renewed before they are given back");
        }
        // Owners step down by themselves when their leases end: a store that does not answer holds up nobody for longer.
        if timeout(self.lease, self.slots.wait_until(Slots::go_all)).await.is_err() {
            tracing::warn!("not every shard could be given back: others wait until the leases end");
        }
        match timeout(self.lease / PATIENCE, self.store.leave()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the others were not told that this replica is gone"),
            Err(_) => tracing::warn!("the others were not told in time that this replica is gone"),
        }
        let others = self.others();
        join_all(others.iter().map(|other| timeout(NUDGE, self.membership.peers.nudge(other)))).await;
    }

    fn others(&self) -> Vec<Replica> {
        let replicas = self.last.get().map(|(roll, _)| roll.replicas).unwrap_or_default();
        replicas.into_iter().filter(|replica| replica.id != self.membership.me.id).collect()
    }

    fn nudge_others(&self) {
        self.nudge(&self.others());
    }

    fn nudge(&self, replicas: &[Replica]) {
        for replica in replicas.iter().filter(|replica| replica.id != self.membership.me.id) {
            let (peers, replica) = (Arc::clone(&self.membership.peers), replica.clone());
            self.tasks.spawn("nudge", async move {
                // One that was not reached looks by itself before long.
                let _ = timeout(NUDGE, peers.nudge(&replica)).await;
            });
        }
    }
}

fn numbers(shards: &[ShardId]) -> Vec<u32> {
    shards.iter().map(|shard| shard.0).collect()
}
