//! Replicas whose ways to the store are slow, lossy and cut, while clients ask all of them. What clients are told must look as
//! if there were one shard that nobody ever left: whoever still answered from a state that another has moved on from is caught.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lakefall_metadata::{Node, NotDone};
use lakefall_queue::error::Outcome;
use lakefall_queue::ledger::{CommitReply, Reply, SliceOutcome};
use lakefall_queue::{ShardId, TopicId};
use tokio::time::{Instant, sleep};

use crate::support::cluster::{Cluster, Member, within};
use crate::support::fixtures::{commit, segment};
use crate::support::link::{Dice, Weather};
use crate::support::{locate, located};

const SEEDS: u64 = 60;
const REPLICAS: usize = 3;
const SHARDS: u32 = 2;
const CLIENTS: u64 = 4;
const LEASE: Duration = Duration::from_secs(2);
const RUN: Duration = Duration::from_secs(40);

/// What the clients of a shard were told so far. Everything here is of one thread, so its order is the order of events.
#[derive(Default)]
struct Told {
    /// No answer that is asked for from here on may show less.
    floor: u64,
    /// Offset by segment.
    acked: BTreeMap<u64, u64>,
    answers: u64,
    refused: u64,
    unknown: u64,
}

struct Run {
    seed: u64,
    told: Vec<Mutex<Told>>,
    topics: Vec<TopicId>,
    segments: AtomicU64,
}

impl Run {
    async fn client(self: Arc<Self>, number: u64, nodes: Vec<Arc<Node>>) {
        let mut dice = Dice::new(self.seed * 1_000 + number);
        let until = Instant::now() + RUN;
        let mut open = None;
        while Instant::now() < until {
            let node = &nodes[dice.below(nodes.len() as u64) as usize];
            let shard = dice.below(u64::from(SHARDS)) as usize;
            if dice.below(2) == 0 {
                // What is unknown is asked for again, with the same segment; wherever it is now.
                let (shard, id) = open.take().unwrap_or_else(|| (shard, self.segments.fetch_add(1, Ordering::SeqCst)));
                if !self.commit(node, shard, id).await {
                    open = Some((shard, id));
                }
            } else {
                self.look(node, shard).await;
            }
            sleep(Duration::from_millis(dice.below(40))).await;
        }
    }

    /// Whether it is known what became of it.
    async fn commit(&self, node: &Node, shard: usize, id: u64) -> bool {
        let known = self.told[shard].lock().unwrap().acked.get(&id).copied();
        let reply = node.execute_here(ShardId(shard as u32), commit(id, self.topics[shard], 1)).await;
        let mut told = self.told[shard].lock().unwrap();
        match reply {
            Ok(Reply::Committed(reply)) => {
                let CommitReply { slices, .. } = &*reply;
                let [SliceOutcome::Stored(base)] = slices[..] else { panic!("seed {}: {slices:?}", self.seed) };
                assert!(known.is_none_or(|known| known == base.0), "seed {}: L3: {known:?}, then {base}", self.seed);
                told.acked.insert(id, base.0);
                told.floor = told.floor.max(base.0 + 1);
                told.answers += 1;
                true
            }
            Ok(other) => panic!("seed {}: {other:?}", self.seed),
            Err(NotDone::Elsewhere(_)) => {
                told.refused += 1;
                false
            }
            Err(NotDone::Failed(error)) => {
                told.unknown += u64::from(error.outcome() == Outcome::Unknown);
                told.refused += u64::from(error.outcome() == Outcome::NotApplied);
                false
            }
        }
    }

    async fn look(&self, node: &Node, shard: usize) {
        let floor = self.told[shard].lock().unwrap().floor;
        let answer = located(node.query_here(ShardId(shard as u32), locate(self.topics[shard], 0)).await.map_err(Into::into));
        if let Ok(found) = answer {
            let mut told = self.told[shard].lock().unwrap();
            assert!(found.end.0 >= floor, "seed {}: {} answers {} when {floor} was known", self.seed, node.me().address, found.end);
            told.floor = told.floor.max(found.end.0);
            told.answers += 1;
        }
    }
}

/// Changes the weather, lets clocks jump, and nudges for no reason.
async fn chaos(seed: u64, members: &[Member]) {
    let mut dice = Dice::new(seed ^ 0xc0de);
    let until = Instant::now() + RUN;
    while Instant::now() < until {
        let member = &members[dice.below(members.len() as u64) as usize];
        match dice.below(10) {
            0..=2 => member.link.set(Weather::Cut),
            3..=5 => member.link.set(Weather::Rough { delay_ms: 1 + dice.below(1_500), lost: dice.below(30) }),
            6..=7 => member.link.set(Weather::Fair),
            8 => member.clock.jump(Duration::from_millis(dice.below(5_000))),
            _ => member.node.nudge(),
        }
        sleep(Duration::from_millis(dice.below(2_500))).await;
    }
    members.iter().for_each(|member| member.link.set(Weather::Fair));
}

async fn weather(seed: u64) -> Told {
    let mut cluster = Cluster::new(SHARDS);
    cluster.lease = LEASE;
    cluster.config.checkpoint_entries = 20;
    cluster.config.recent_extents = 4;
    let mut members = Vec::new();
    for _ in 0..REPLICAS {
        members.push(cluster.join_with(Weather::Fair, seed).await);
    }
    cluster.settled(&members).await;
    let mut topics = Vec::new();
    for shard in cluster.shards() {
        topics.push(cluster.owner(&members, shard).await.topic(shard, cluster.namespace(shard)).await);
    }
    let told = cluster.shards().map(|_| Mutex::default()).collect();
    let run = Arc::new(Run { seed, told, topics, segments: AtomicU64::new(1) });
    let nodes: Vec<_> = members.iter().map(|member| Arc::clone(&member.node)).collect();
    let clients: Vec<_> = (0..CLIENTS).map(|number| tokio::spawn(Arc::clone(&run).client(number, nodes.clone()))).collect();
    chaos(seed, &members).await;
    for client in clients {
        client.await.unwrap();
    }
    // Everybody comes back, and all that was acknowledged is where it was said to be, and whatever is there was asked for once.
    cluster.settled(&members).await;
    let mut total = Told::default();
    for shard in cluster.shards() {
        let mut found = None;
        within(Duration::from_secs(10), || async {
            let owner = cluster.owner(&members, shard).await;
            let topic = run.topics[shard.0 as usize];
            located(owner.node.query_here(shard, locate(topic, 0)).await.map_err(Into::into)).is_ok()
        })
        .await;
        let owner = cluster.owner(&members, shard).await;
        if let Ok(answer) = located(owner.node.query_here(shard, locate(run.topics[shard.0 as usize], 0)).await.map_err(Into::into)) {
            found = Some(answer);
        }
        let found = found.unwrap_or_else(|| panic!("seed {seed}: shard {shard} cannot be read"));
        let told = std::mem::take(&mut *run.told[shard.0 as usize].lock().unwrap());
        let at: BTreeMap<u64, _> = found.extents.iter().map(|extent| (extent.base_offset.0, extent.object)).collect();
        assert_eq!(at.len() as u64, found.end.0, "seed {seed}: L2: dense, one record each");
        let objects: std::collections::BTreeSet<_> = at.values().collect();
        assert_eq!(objects.len(), at.len(), "seed {seed}: L3: nothing is there twice");
        for (id, offset) in &told.acked {
            assert_eq!(at.get(offset), Some(&segment(*id)), "seed {seed}: acknowledged at {offset}");
        }
        total.answers += told.answers;
        total.refused += told.refused;
        total.unknown += told.unknown;
    }
    for member in &members {
        member.leave().await;
    }
    total
}

#[tokio::test(start_paused = true)]
async fn two_replicas_never_both_answer_for_a_shard_in_any_weather() {
    let mut total = Told::default();
    for seed in 0..SEEDS {
        let told = weather(seed).await;
        total.answers += told.answers;
        total.refused += told.refused;
        total.unknown += told.unknown;
    }
    println!("{SEEDS} seeds: {} answers, {} refusals, {} unknown", total.answers, total.refused, total.unknown);
    assert!(total.answers > 100 * SEEDS && total.refused > 10 * SEEDS && total.unknown > SEEDS, "the weather was too good, or too bad");
}
