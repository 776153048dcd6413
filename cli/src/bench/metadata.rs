//! `lakefall bench metadata`: commits against metadata replicas through their RPC, with no bucket and no gateway. The segments
//! it commits exist nowhere: run it against a cluster that is thrown away afterwards.

use std::sync::Arc;
use std::time::Duration;

use lakefall_metadata::{Metadata, rpc};
use lakefall_queue::clock::Ambient;
use lakefall_queue::error::Error;
use lakefall_queue::ledger::{Answer, Command, ProposedExtent, Query, Reply, SegmentCommit, Slice};
use lakefall_queue::limits::Limits;
use lakefall_queue::topic::TopicConfig;
use lakefall_queue::verbs::Precondition;
use lakefall_queue::{NamespaceName, PartitionIndex, SegmentId, ShardId, TopicId, TopicName};
use lakefall_service::{Secret, Tasks, system_ambient};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::args::MetadataArgs;
use super::process::Who;
use super::report::{Report, Run};
use super::run::Usage;
use super::stats::Stats;
use super::target::Fault;
use crate::failure::Failure;

/// Bytes that each extent claims to have.
const EXTENT_BYTES: u32 = 1_000;

/// What the generator works with.
struct Generator {
    client: Arc<rpc::Client>,
    ambient: Ambient,
    shard: ShardId,
    /// Every partition that is appended to.
    partitions: Vec<(TopicId, PartitionIndex)>,
    extents: usize,
    until: Instant,
}

/// Commits for the time asked for, and tells commits as requests and extents as records.
pub(super) fn bench_metadata(args: &MetadataArgs) -> Result<Report, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Failed(error.to_string()))?.block_on(Box::pin(run(args)))
}

async fn run(args: &MetadataArgs) -> Result<Report, Failure> {
    let (tasks, stop, ambient) = (Tasks::new(), CancellationToken::new(), system_ambient());
    let config = rpc::ClientConfig {
        endpoints: args.endpoints.clone(),
        security: rpc::ClientSecurity { token: args.token.clone().map(Secret::new), ..rpc::ClientSecurity::default() },
        ..rpc::ClientConfig::default()
    };
    let client = rpc::Client::connect(config, ambient.clone(), &tasks, stop.clone()).map_err(|error| Failure::Usage(error.to_string()))?;
    tokio::time::timeout(Duration::from_secs(10), client.ready())
        .await
        .map_err(|_| Failure::Unreachable(format!("no metadata replica answers at {}", args.endpoints.join(", "))))?
        .map_err(|error| Failure::Unreachable(error.to_string()))?;
    let namespace = NamespaceName::default_name();
    let shard = namespace.shard(client.shards());
    let partitions = partitions(&client, shard, &namespace, args.partitions).await?;
    let before = groups(&client, shard).await?;
    let (bench, server) = (Usage::read(Who::Bench)?, Usage::of(&args.server_pid)?);
    let started = Instant::now();
    let generator = Arc::new(Generator { client, ambient, shard, partitions, extents: args.extents, until: started + args.duration });
    let workers: Vec<_> = (0..args.in_flight).map(|worker| tokio::spawn(Arc::clone(&generator).work(worker))).collect();
    let mut all = Stats::new()?;
    for worker in workers {
        all.merge(worker.await.map_err(|error| Failure::Defect(error.to_string()))??)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let journaled = groups(&generator.client, shard).await? - before;
    let bench = bench.until(Usage::read(Who::Bench)?);
    let server = server.zip(Usage::of(&args.server_pid)?).map(|(before, after)| before.until(after));
    stop.cancel();
    let mut report = Report::new(vec![Run::new("commits", seconds, all)], bench, server);
    report.journal_groups_per_second = Some(journaled as f64 / seconds);
    Ok(report)
}

impl Generator {
    async fn work(self: Arc<Self>, worker: usize) -> Result<Stats, Failure> {
        let mut stats = Stats::new()?;
        let mut next = worker.wrapping_mul(7_919);
        while Instant::now() < self.until {
            let commit = self.commit(&mut next);
            let begun = Instant::now();
            match self.client.execute(self.shard, Command::Commit(commit)).await {
                Ok(_) => stats.answered(self.extents as u64, self.extents as u64 * u64::from(EXTENT_BYTES), begun.elapsed()),
                Err(error) => stats.failed(&Fault::Refused(error.to_string())),
            }
        }
        Ok(stats)
    }

    /// A segment that holds a record for each of some partitions, taken in turn.
    fn commit(&self, next: &mut usize) -> SegmentCommit {
        let now = self.ambient.now();
        let mut chosen: Vec<_> = (0..self.extents.min(self.partitions.len()))
            .map(|_| {
                *next = (*next + 1) % self.partitions.len();
                self.partitions[*next]
            })
            .collect();
        chosen.sort_unstable();
        let slice = || Slice { length: EXTENT_BYTES, records: 1, first_timestamp: now, max_timestamp: now, ..Slice::default() };
        let extents = chosen
            .into_iter()
            .zip(0_u64..)
            .map(|((topic, partition), i)| ProposedExtent {
                topic,
                partition,
                position: i * u64::from(EXTENT_BYTES),
                slices: vec![slice()],
            })
            .collect();
        let size = self.extents as u64 * u64::from(EXTENT_BYTES);
        SegmentCommit { segment: SegmentId::mint(now, self.ambient.entropy.draw()), size, extents, atoms: Vec::new() }
    }
}

/// Topics with as many partitions as are wanted, created where they are missing.
async fn partitions(
    client: &rpc::Client,
    shard: ShardId,
    namespace: &NamespaceName,
    wanted: usize,
) -> Result<Vec<(TopicId, PartitionIndex)>, Failure> {
    let largest = Limits::default().partitions as usize;
    let mut found = Vec::with_capacity(wanted);
    for number in 0.. {
        let missing = wanted - found.len();
        if missing == 0 {
            break;
        }
        let name = TopicName::new(&format!("bench-{number}")).map_err(refused)?;
        let partitions = missing.min(largest) as u32;
        let command = Command::PutTopic {
            namespace: namespace.clone(),
            name,
            config: TopicConfig { partitions, ..TopicConfig::default() },
            condition: Precondition::Always,
            idempotency: None,
        };
        match client.execute(shard, command).await.map_err(refused)? {
            Reply::Topic(topic, _) => found.extend((0..partitions).map(|index| (topic.id, PartitionIndex(index)))),
            other => return Err(Failure::Defect(format!("a topic was answered with {other:?}"))),
        }
    }
    Ok(found)
}

async fn groups(client: &rpc::Client, shard: ShardId) -> Result<u64, Failure> {
    match client.query(shard, Query::Position).await.map_err(refused)? {
        Answer::Position(position) => Ok(position.seq.0),
        other => Err(Failure::Defect(format!("asked for the journal's position, got {other:?}"))),
    }
}

fn refused(error: Error) -> Failure {
    Failure::Failed(format!("the metadata service refused: {error}"))
}
