//! The shards of the cluster as one replica sees them: each is served here, is being given back, or is elsewhere. Shared by
//! those who ask, the supervisors that serve, and the attendance that decides; only moves that make sense exist.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lakefall_queue::ShardId;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::owner::Request;
use crate::placement::Mine;
use crate::store::{Holding, Lease, Replica, ReplicaId};
use crate::tenure::Tenure;

/// Requests that wait for one shard; beyond it callers wait for a place.
const QUEUE: usize = 8_192;

/// An order to take a shard and to serve it until told otherwise.
pub(crate) struct Tenancy {
    /// Closed at the end, so that nobody's request is left in it.
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) farewell: Farewell,
}

/// How a tenancy ends in order.
#[derive(Clone)]
pub(crate) struct Farewell {
    /// Write a checkpoint while serving, and say so.
    pub(crate) prepare: CancellationToken,
    /// Stop taking requests, answer those that wait, give the shard back.
    pub(crate) go: CancellationToken,
}

enum Place {
    /// Served by another replica, as the store said last; or by nobody.
    Away(Option<Replica>),
    /// Being taken, loaded, or served.
    Here(Hold),
    /// Given back as soon as what waits is answered.
    Leaving(Option<(Lease, Arc<Tenure>)>),
}

struct Hold {
    requests: mpsc::Sender<Request>,
    /// `None` until it is taken.
    lease: Option<(Lease, Arc<Tenure>)>,
    serving: bool,
    farewell: Farewell,
    /// To be given back when its checkpoint is written, whatever the others do.
    giving: bool,
    prepared: bool,
}

/// All shards. Clones share everything.
#[derive(Clone)]
pub(crate) struct Slots(Arc<Inner>);

struct Inner {
    places: Vec<Mutex<Place>>,
    /// Changes with every place.
    changes: watch::Sender<u64>,
    /// Asks the attendance to look now.
    wake: Notify,
    /// Whether the attendance looked at least once.
    attended: watch::Sender<bool>,
}

impl Slots {
    pub(crate) fn new(shards: u32) -> Self {
        Self(Arc::new(Inner {
            places: (0..shards).map(|_| Mutex::new(Place::Away(None))).collect(),
            changes: watch::channel(0).0,
            wake: Notify::new(),
            attended: watch::channel(false).0,
        }))
    }

    pub(crate) fn count(&self) -> u32 {
        self.0.places.len() as u32
    }

    /// The queue of a shard that is served here, else who serves it. `None`: there is no such shard.
    pub(crate) fn queue(&self, shard: ShardId) -> Option<Result<mpsc::Sender<Request>, Option<Replica>>> {
        self.place(shard).map(|place| match &*place {
            Place::Here(hold) => Ok(hold.requests.clone()),
            Place::Away(owner) => Err(owner.clone()),
            Place::Leaving(_) => Err(None),
        })
    }

    /// Begins a tenancy of a shard that is away; requests for it wait from here on.
    pub(crate) fn order(&self, shard: ShardId, farewell: Farewell) -> Option<Tenancy> {
        let mut place = self.place(shard)?;
        let Place::Away(_) = &*place else { return None };
        let (sender, requests) = mpsc::channel(QUEUE);
        let hold = Hold { requests: sender, lease: None, serving: false, farewell: farewell.clone(), giving: false, prepared: false };
        *place = Place::Here(hold);
        Some(Tenancy { requests, farewell })
    }

    /// The store gave the lease.
    pub(crate) fn taken(&self, shard: ShardId, lease: Lease, tenure: Arc<Tenure>) {
        self.here(shard, |hold| hold.lease = Some((lease, tenure)));
    }

    pub(crate) fn serving(&self, shard: ShardId, serving: bool) {
        self.here(shard, |hold| hold.serving = serving);
    }

    /// Its checkpoint is written, or will not be.
    pub(crate) fn prepared(&self, shard: ShardId) {
        self.here(shard, |hold| {
            hold.prepared = true;
            if hold.giving {
                hold.farewell.go.cancel();
            }
        });
    }

    /// Asks for a shard to be handed over when its checkpoint is written.
    pub(crate) fn give(&self, shard: ShardId) {
        self.here(shard, |hold| {
            hold.giving = true;
            hold.farewell.prepare.cancel();
        });
    }

    /// No more requests are taken.
    pub(crate) fn leaving(&self, shard: ShardId) {
        if let Some(mut place) = self.place(shard)
            && let Place::Here(hold) = &*place
        {
            *place = Place::Leaving(hold.lease.clone());
        }
        self.changed();
    }

    /// The tenancy is over.
    pub(crate) fn away(&self, shard: ShardId) {
        if let Some(mut place) = self.place(shard) {
            *place = Place::Away(None);
        }
        self.changed();
    }

    /// What the store says of the shards that are away.
    pub(crate) fn told(&self, me: ReplicaId, holdings: &[Holding]) {
        for holding in holdings {
            if let Some(mut place) = self.place(holding.shard)
                && let Place::Away(owner) = &mut *place
            {
                owner.clone_from(&holding.owner.clone().filter(|owner| owner.id != me));
            }
        }
    }

    /// Who is asked for a shard, and how long the lease lasts that is known here.
    pub(crate) fn owner(&self, shard: ShardId, me: &Replica) -> (Option<Replica>, Option<Duration>) {
        match self.place(shard).as_deref() {
            Some(Place::Here(hold)) => (Some(me.clone()), hold.lease.as_ref().and_then(|(_, tenure)| tenure.left())),
            Some(Place::Away(owner)) => (owner.clone(), None),
            Some(Place::Leaving(_)) | None => (None, None),
        }
    }

    /// Leases to renew: also of what is being given back, until it is.
    pub(crate) fn leases(&self) -> Vec<(Lease, Arc<Tenure>)> {
        let of = |place: &Mutex<Place>| match &*lock(place) {
            Place::Here(hold) => hold.lease.clone(),
            Place::Leaving(lease) => lease.clone(),
            Place::Away(_) => None,
        };
        self.0.places.iter().filter_map(of).collect()
    }

    /// What is here, as placement counts it.
    pub(crate) fn mine(&self) -> Mine {
        let mut mine = Mine::default();
        for (shard, place) in (0..).map(ShardId).zip(&self.0.places) {
            match &*lock(place) {
                Place::Here(hold) if !hold.giving => mine.held.insert(shard),
                Place::Here(_) | Place::Leaving(_) => mine.leaving.insert(shard),
                Place::Away(_) => false,
            };
        }
        mine
    }

    /// How many are served.
    pub(crate) fn served(&self) -> usize {
        self.0.places.iter().filter(|place| matches!(&*lock(place), Place::Here(hold) if hold.serving)).count()
    }

    /// Asks every owner to write its last checkpoint; true when all did.
    pub(crate) fn prepare_all(&self) -> bool {
        let mut all = true;
        for place in &self.0.places {
            if let Place::Here(hold) = &*lock(place) {
                hold.farewell.prepare.cancel();
                all &= hold.prepared || !hold.serving;
            }
        }
        all
    }

    /// Ends every tenancy; true when none is left.
    pub(crate) fn go_all(&self) -> bool {
        let mut none = true;
        for place in &self.0.places {
            match &*lock(place) {
                Place::Here(hold) => {
                    hold.farewell.go.cancel();
                    none = false;
                }
                Place::Leaving(_) => none = false,
                Place::Away(_) => {}
            }
        }
        none
    }

    /// Returns when `reached` says so; it is asked again after every change.
    pub(crate) async fn wait_until(&self, mut reached: impl FnMut(&Self) -> bool) {
        let mut changes = self.0.changes.subscribe();
        while !reached(self) {
            // The sender is a part of this.
            let _ = changes.changed().await;
        }
    }

    /// Returns when it is known who holds what, and all that is held here is served.
    pub(crate) async fn ready(&self) {
        // The sender is a part of this.
        let _ = self.0.attended.subscribe().wait_for(|attended| *attended).await;
        let serves = |place: &Mutex<Place>| !matches!(&*lock(place), Place::Here(hold) if !hold.serving);
        self.wait_until(|slots| slots.0.places.iter().all(serves)).await;
    }

    /// Returns when nothing is held here.
    pub(crate) async fn empty(&self) {
        let away = |place: &Mutex<Place>| !matches!(&*lock(place), Place::Here(_));
        self.wait_until(|slots| slots.0.places.iter().all(away)).await;
    }

    /// What there is to take was ordered.
    pub(crate) fn settled(&self) {
        self.0.attended.send_replace(true);
    }

    /// Changes with every place.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    pub(crate) fn wake(&self) {
        self.0.wake.notify_one();
    }

    pub(crate) async fn woken(&self) {
        self.0.wake.notified().await;
    }

    fn here(&self, shard: ShardId, change: impl FnOnce(&mut Hold)) {
        if let Some(mut place) = self.place(shard)
            && let Place::Here(hold) = &mut *place
        {
            change(hold);
        }
        self.changed();
    }

    fn changed(&self) {
        self.0.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn place(&self, shard: ShardId) -> Option<MutexGuard<'_, Place>> {
        self.0.places.get(shard.0 as usize).map(lock)
    }
}

fn lock(place: &Mutex<Place>) -> MutexGuard<'_, Place> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}
