//! Producers, readers and compactors over a [`Bench`].

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use lakefall_compactor::compaction::NoColumns;
use lakefall_compactor::{Compactor, CompactorConfig};
use lakefall_metadata::{Identity, News};
use lakefall_queue::ledger::{Extent, ObjectLevel, object_key};
use lakefall_queue::topic::Topic;
use lakefall_queue::{StoredRecord, ValueKind};
use lakefall_storage::batch::{DecodeContext, decode, walk};
use lakefall_storage::parquet::{ChainDigest, ChainHash, ParquetFile, Want};
use object_store::path::Path as ObjectPath;
use object_store::{CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions};
use object_store::{PutOptions, PutPayload, PutResult};
use tokio::sync::{Notify, broadcast};

use super::*;

impl Bench {
    /// A topic with settings, in the namespace of a shard.
    pub(crate) async fn topic_with(&self, shard: ShardId, name: &str, config: TopicConfig) -> Topic {
        let shards = self.metadata.shards();
        let mut names = (0..1_000).map(|n| NamespaceName::new(&format!("n{n}")).unwrap());
        let namespace = names.find(|name| name.shard(shards) == shard).unwrap();
        let put = Command::PutNamespace { name: namespace.clone(), description: String::new(), condition: Precondition::Always };
        self.metadata.execute(shard, put).await.unwrap();
        let name = TopicName::new(name).unwrap();
        let put = Command::PutTopic { namespace, name, config, condition: Precondition::Always, idempotency: None };
        match self.metadata.execute(shard, put).await.unwrap() {
            Reply::Topic(topic, _) => topic,
            other => panic!("{other:?}"),
        }
    }

    /// Stores and commits one segment with records of some topics.
    pub(crate) async fn append(&self, each: &[(&Topic, Vec<Record>)]) {
        let mut each: Vec<_> = each.iter().collect();
        each.sort_by_key(|(topic, _)| topic.id);
        let mut builder = SegmentBuilder::new();
        for (topic, records) in &each {
            let mut batch = BatchEncoder::new(Compression::Zstd);
            records.iter().for_each(|record| batch.push(record, self.ambient.now()));
            builder.add(topic.id, P0, batch.finish().unwrap()).unwrap();
        }
        let id = SegmentId::mint(self.ambient.now(), self.ambient.entropy.draw());
        let stored = Stored { id, segment: builder.finish() };
        self.store.put_new(&stored.id.key(), stored.segment.chunks.clone()).await.unwrap();
        // All of them are of one shard.
        let extents = stored.segment.index.extents.iter().map(|extent| {
            let slice = Slice {
                length: extent.length as u32,
                records: extent.records as u32,
                first_timestamp: extent.first_timestamp,
                max_timestamp: extent.max_timestamp,
                ..Slice::default()
            };
            ProposedExtent { topic: extent.topic, partition: P0, position: extent.position, slices: vec![slice] }
        });
        let commit = SegmentCommit { segment: stored.id, size: stored.segment.len, extents: extents.collect(), atoms: Vec::new() };
        match self.metadata.execute(each[0].0.id.shard(), Command::Commit(commit)).await.unwrap() {
            Reply::Committed(reply) => assert!(was_stored(&reply)),
            other => panic!("{other:?}"),
        }
    }

    /// A compactor that has just been started.
    pub(crate) fn compactor(&self) -> Compactor {
        self.compactor_over(Arc::clone(&self.metadata), self.store.clone())
    }

    pub(crate) fn compactor_over(&self, metadata: Arc<dyn Metadata>, store: Store) -> Compactor {
        Compactor::new(CompactorConfig::default(), metadata, store, self.ambient.clone(), Arc::new(NoColumns))
    }

    /// Rounds until there is nothing to do now. Answers how many did something.
    pub(crate) async fn settle(&self, compactor: &Compactor) -> usize {
        let mut did = 0;
        loop {
            let (merged, rolled) = (compactor.merge_round().await, compactor.roll_round().await);
            assert!(!merged.failed && !rolled.failed, "{merged:?} {rolled:?}");
            if !merged.did && !rolled.did {
                return did;
            }
            did += 1;
        }
    }

    /// All extents of a topic's only partition.
    pub(crate) async fn extents(&self, topic: &Topic) -> Vec<Extent> {
        let mut found: Vec<Extent> = Vec::new();
        let mut from = Offset(0);
        loop {
            let query = Query::Locate { topic: topic.id, partition: P0, from, max_bytes: u64::MAX, max_extents: 1_000 };
            let Answer::Located(located) = self.metadata.query(topic.id.shard(), query).await.unwrap() else { panic!("another answer") };
            let Some(last) = located.extents.last() else { return found };
            from = last.end();
            found.extend(located.extents);
        }
    }

    pub(crate) async fn levels(&self, topic: &Topic) -> Vec<ObjectLevel> {
        let mut levels: Vec<ObjectLevel> = self.extents(topic).await.iter().map(|extent| extent.level).collect();
        levels.dedup();
        levels
    }

    /// What a reader gets of one extent.
    pub(crate) async fn read_extent(&self, topic: &Topic, extent: &Extent) -> Vec<StoredRecord> {
        let key = object_key(&topic.namespace, &topic.name, extent);
        let honest = Store::over(self.bucket.honest());
        let end = extent.position + u64::from(extent.length);
        let bytes = honest.get_range(&key, extent.position..end).await.unwrap();
        let mut records = Vec::new();
        if extent.level == ObjectLevel::Parquet {
            let file = ParquetFile::open(&bytes, extent.object_size).unwrap();
            for (index, group) in file.row_groups().iter().enumerate() {
                let own = bytes.slice(group.bytes.start as usize..group.bytes.end as usize);
                file.decode(index, &own, Want::from(Offset(0)), &mut records).unwrap();
            }
            return records;
        }
        let mut base = extent.base_offset;
        for step in walk(&bytes) {
            let (header, range) = step.unwrap();
            let merged = extent.level == ObjectLevel::Merged;
            let context = DecodeContext { merged, ..DecodeContext::new(P0, base, extent.appended_at) };
            decode(&bytes.slice(range), context, Offset(0), &mut records).unwrap();
            base = base.plus(u64::from(header.records));
        }
        assert_eq!(base, extent.end());
        records
    }

    /// All that a reader gets of a topic's only partition.
    pub(crate) async fn read(&self, topic: &Topic) -> Vec<StoredRecord> {
        let mut records = Vec::new();
        for extent in self.extents(topic).await {
            records.extend(self.read_extent(topic, &extent).await);
        }
        records
    }

    /// The records of a topic's only partition as one number.
    pub(crate) async fn hash(&self, topic: &Topic) -> ChainDigest {
        let mut hash = ChainHash::new();
        self.read(topic).await.iter().for_each(|record| hash.update(record));
        hash.digest()
    }

    /// Keys of everything, in order.
    pub(crate) async fn all_keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = Store::over(self.bucket.honest()).list("").map_ok(|info| info.key).try_collect().await.unwrap();
        keys.retain(|key| key.starts_with("seg/") || key.starts_with("tables/"));
        keys.sort();
        keys
    }

    /// Keys of the objects that topics refer to, in order.
    pub(crate) async fn referenced(&self, topics: &[&Topic]) -> Vec<String> {
        let mut keys = Vec::new();
        for topic in topics {
            keys.extend(self.extents(topic).await.iter().map(|extent| object_key(&topic.namespace, &topic.name, extent)));
        }
        keys.sort();
        keys.dedup();
        keys
    }
}

/// A record with a key and a JSON value.
pub(crate) fn json_record(key: &str, value: &serde_json::Value) -> Record {
    Record {
        key: (!key.is_empty()).then(|| Bytes::copy_from_slice(key.as_bytes())),
        value: (!value.is_null()).then(|| Bytes::from(value.to_string())),
        kind: ValueKind::Json,
        ..Record::default()
    }
}

/// So many records, each with a number.
pub(crate) fn numbered(from: usize, count: usize) -> Vec<Record> {
    (from..from + count).map(|n| json_record(&format!("k{}", n % 7), &serde_json::json!({"n": n, "text": "x".repeat(n % 50)}))).collect()
}

/// Lets so many steps pass, before and after each request, then none ever again: as for a process that is killed there.
pub(crate) struct Cut {
    left: AtomicI64,
    reached: Notify,
    released: tokio::sync::watch::Sender<bool>,
}

impl Cut {
    pub(crate) fn after(steps: i64) -> Arc<Self> {
        Arc::new(Self { left: AtomicI64::new(steps), reached: Notify::new(), released: tokio::sync::watch::channel(false).0 })
    }

    async fn pass(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            self.reached.notify_one();
            let _ = self.released.subscribe().wait_for(|released| *released).await;
        }
    }

    /// Returns when something is held.
    pub(crate) async fn held(&self) {
        self.reached.notified().await;
    }

    /// Lets what is held go on, and everything after it.
    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }

    /// Does `work` until it is done or cut; whether it was done.
    pub(crate) async fn during(&self, work: impl Future<Output = ()>) -> bool {
        tokio::select! {
            () = work => true,
            () = self.reached.notified() => false,
        }
    }
}

/// A metadata service and a store behind a cut.
pub(crate) struct Behind<T>(pub(crate) T, pub(crate) Arc<Cut>);

impl<T> std::fmt::Debug for Behind<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Behind")
    }
}

impl<T> std::fmt::Display for Behind<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Behind")
    }
}

#[async_trait]
impl Metadata for Behind<Arc<dyn Metadata>> {
    fn shards(&self) -> u32 {
        self.0.shards()
    }

    async fn execute(&self, shard: ShardId, command: Command) -> lakefall_queue::error::Result<Reply> {
        self.1.pass().await;
        let done = self.0.execute(shard, command).await;
        self.1.pass().await;
        done
    }

    async fn query(&self, shard: ShardId, query: Query) -> lakefall_queue::error::Result<Answer> {
        self.0.query(shard, query).await
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<News>> {
        self.0.subscribe()
    }

    async fn identity(&self) -> lakefall_queue::error::Result<Identity> {
        self.0.identity().await
    }
}

#[async_trait]
impl ObjectStore for Behind<Arc<Bucket>> {
    async fn put_opts(&self, location: &ObjectPath, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        self.1.pass().await;
        let done = self.0.put_opts(location, payload, options).await;
        self.1.pass().await;
        done
    }

    async fn put_multipart_opts(
        &self,
        location: &ObjectPath,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &ObjectPath, options: GetOptions) -> object_store::Result<GetResult> {
        self.1.pass().await;
        self.0.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<ObjectPath>>,
    ) -> BoxStream<'static, object_store::Result<ObjectPath>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> object_store::Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &ObjectPath, to: &ObjectPath, options: CopyOptions) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}
