//! Replays: copies of a range of a topic into another one. Each batch is appended and the replay's progress moved in one
//! atom, so a replay that was cut short goes on where it was when it is asked for again: nothing is there twice, nothing is
//! left out. Must never keep progress anywhere but in that atom.

mod chosen;
mod copied;
mod place;
mod range;
mod run;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use lakefall_queue::error::{Error, Result};
use lakefall_queue::queue::Operation;
use lakefall_queue::replay::{REPLAY_NAME_MAX_BYTES, Replay, ReplayTarget};
use lakefall_queue::topic::Topic;
use lakefall_queue::verbs::{Caller, Verbs};
use lakefall_queue::{NamespaceName, ReplayName, TopicName};

use self::chosen::Predicate;
use self::copied::Selection;
use self::place::Place;
use self::run::{Pace, Run};
use crate::queues::{Expression, Operations};

/// Longest key that records are chosen by, in bytes: as long as a key may ever be.
const KEY_MAX_BYTES: usize = 1 << 20;
/// How often a replay is looked for and begun while somebody else begins it.
const TRIES: usize = 3;

/// The replays that run on this gateway. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Replays(Arc<Mutex<HashSet<(NamespaceName, ReplayName)>>>);

/// Keeps a replay's name while it runs.
struct Claim {
    all: Replays,
    name: (NamespaceName, ReplayName),
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

impl Replays {
    fn claim(&self, namespace: &NamespaceName, replay: &ReplayName) -> Result<Claim> {
        let name = (namespace.clone(), replay.clone());
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone()) {
            return Ok(Claim { all: self.clone(), name });
        }
        let reason = "it is running: wait for its end, or cancel its operation".to_owned();
        Err(Error::ReplayConflict { replay: replay.clone(), reason })
    }

    /// Starts a replay, or goes on with it where it was left. What is wrong with it is told now, not by its operation.
    pub(crate) async fn start(&self, verbs: Arc<dyn Verbs>, operations: &Operations, caller: &Caller, replay: Replay) -> Result<Operation> {
        check(&replay)?;
        let filter = replay.from.filter.as_deref().map(|text| Expression::compile("/from/filter", text)).transpose()?;
        let source = verbs.describe_topic(caller, &replay.from.topic).await?.topic;
        let target = target(&*verbs, caller, &replay.to).await?;
        if source.id == target.id {
            return Err(Error::invalid("/to", format!("the records lie in topic {} already: name another one", source.name)));
        }
        if let Some(partition) = replay.from.partition.filter(|partition| partition.0 >= source.config.partitions) {
            return Err(Error::PartitionNotFound { topic: source.name, partition, partitions: source.config.partitions });
        }
        let predicate = match replay.from.predicate.clone() {
            Some(text) => Some(Predicate::new(&*verbs, caller, &source.name, text).await?),
            None => None,
        };
        let claim = self.claim(&caller.namespace, &replay.name)?;
        let place = begun(&*verbs, caller, &replay, &source, &target).await?;
        let caller = caller.clone();
        let namespace = caller.namespace.clone();
        operations.start(&namespace, "replay", |progress| async move {
            let _claim = claim;
            let selection = Selection { source: source.name, key: replay.from.key, filter };
            let pace = Pace { max_per_second: replay.max_per_second, dry_run: replay.dry_run };
            Run { verbs, caller, selection, predicate, target, place, pace, progress, unsaved: 0 }.go().await
        })
    }
}

fn check(replay: &Replay) -> Result<()> {
    if replay.max_per_second == Some(0) {
        return Err(Error::invalid("/max_per_second", "max_per_second must be 1 or more"));
    }
    if replay.name.as_str().len() > REPLAY_NAME_MAX_BYTES {
        return Err(Error::invalid("/name", format!("a replay's name is at most {REPLAY_NAME_MAX_BYTES} bytes")));
    }
    if replay.from.key.as_ref().is_some_and(|key| key.len() > KEY_MAX_BYTES) {
        return Err(Error::invalid("/from/key", format!("a key is at most {KEY_MAX_BYTES} bytes")));
    }
    Ok(())
}

async fn target(verbs: &dyn Verbs, caller: &Caller, to: &ReplayTarget) -> Result<Topic> {
    let name: TopicName = match to {
        ReplayTarget::Topic(name) => name.clone(),
        ReplayTarget::Queue(queue) => verbs.queue_topic(caller, queue).await?,
    };
    Ok(verbs.describe_topic(caller, &name).await?.topic)
}

/// Where the replay stands: where it was left, else at its beginning, which is kept from now on.
async fn begun(verbs: &dyn Verbs, caller: &Caller, replay: &Replay, source: &Topic, target: &Topic) -> Result<Place> {
    let mut place = Place::new(replay, target)?;
    for _ in 0..TRIES {
        if place.find(verbs, caller).await? {
            return Ok(place);
        }
        range::resolve(verbs, caller, &replay.from, source, &mut place).await?;
        if replay.dry_run {
            return Ok(place);
        }
        match place.keep(verbs, caller).await {
            // Begun by another gateway at the same moment, or by an earlier attempt whose answer was lost.
            Err(Error::VersionMismatch { .. } | Error::Unknown { .. }) => {}
            kept => return kept.map(|()| place),
        }
    }
    Err(Error::unavailable("the replay's cursors keep changing"))
}
