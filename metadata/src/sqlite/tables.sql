-- The state of each shard as of its last checkpoint. Times are milliseconds since 1970, ids are blobs of 16 bytes.
CREATE TABLE IF NOT EXISTS shards (
    shard INTEGER PRIMARY KEY, version INTEGER NOT NULL, seq INTEGER NOT NULL, epoch INTEGER NOT NULL,
    time_ms INTEGER NOT NULL, next_topic INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS namespaces (
    shard INTEGER NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, created_ms INTEGER NOT NULL, description TEXT NOT NULL,
    PRIMARY KEY (shard, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS topics (
    shard INTEGER NOT NULL, id INTEGER NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL,
    created_ms INTEGER NOT NULL, config_json TEXT NOT NULL,
    PRIMARY KEY (shard, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS partitions (
    shard INTEGER NOT NULL, topic INTEGER NOT NULL, partition INTEGER NOT NULL, log_start INTEGER NOT NULL, next INTEGER NOT NULL,
    retired INTEGER NOT NULL, fencing_token BLOB, bytes INTEGER NOT NULL, extents INTEGER NOT NULL, deleted INTEGER NOT NULL,
    compaction BLOB,
    PRIMARY KEY (shard, topic, partition)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS extents (
    shard INTEGER NOT NULL, topic INTEGER NOT NULL, partition INTEGER NOT NULL, base_offset INTEGER NOT NULL, records INTEGER NOT NULL,
    object BLOB NOT NULL, position INTEGER NOT NULL, length INTEGER NOT NULL, first_timestamp_ms INTEGER NOT NULL,
    max_timestamp_ms INTEGER NOT NULL, appended_ms INTEGER NOT NULL, object_size INTEGER NOT NULL,
    level INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (shard, topic, partition, base_offset)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (
    shard INTEGER NOT NULL, id BLOB NOT NULL, size INTEGER NOT NULL, live_extents INTEGER NOT NULL, committed_ms INTEGER NOT NULL,
    released_ms INTEGER, refused INTEGER NOT NULL, answer BLOB, key TEXT,
    PRIMARY KEY (shard, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cursors (
    shard INTEGER NOT NULL, namespace TEXT NOT NULL, cursor TEXT NOT NULL, topic TEXT NOT NULL, topic_id INTEGER NOT NULL,
    version INTEGER NOT NULL, updated_ms INTEGER NOT NULL, offsets BLOB NOT NULL,
    PRIMARY KEY (shard, namespace, cursor, topic)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS producers (
    shard INTEGER NOT NULL, topic INTEGER NOT NULL, partition INTEGER NOT NULL, id TEXT NOT NULL, epoch INTEGER NOT NULL,
    next_sequence INTEGER NOT NULL, seen_ms INTEGER NOT NULL, batches BLOB NOT NULL,
    PRIMARY KEY (shard, topic, partition, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dedup (
    shard INTEGER NOT NULL, topic INTEGER NOT NULL, hash BLOB NOT NULL, partition INTEGER NOT NULL, record_offset INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (shard, topic, hash)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS idempotency (
    shard INTEGER NOT NULL, namespace TEXT NOT NULL, key TEXT NOT NULL, expires_ms INTEGER NOT NULL, answer BLOB NOT NULL,
    PRIMARY KEY (shard, namespace, key)
) WITHOUT ROWID;
-- `more`: the rest of the row as protobuf (QueueRow), with the fields empty that have columns.
CREATE TABLE IF NOT EXISTS queues (
    shard INTEGER NOT NULL, id INTEGER NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL,
    generation INTEGER NOT NULL, created_ms INTEGER NOT NULL, config_json TEXT NOT NULL, bindings_json TEXT NOT NULL,
    acked_total INTEGER NOT NULL, dead_total INTEGER NOT NULL, more BLOB NOT NULL,
    PRIMARY KEY (shard, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS queue_partitions (
    shard INTEGER NOT NULL, queue INTEGER NOT NULL, topic INTEGER NOT NULL, partition INTEGER NOT NULL, floor INTEGER NOT NULL,
    head INTEGER NOT NULL, scanned INTEGER NOT NULL, more BLOB NOT NULL,
    PRIMARY KEY (shard, queue, topic, partition)
) WITHOUT ROWID;
-- `finished` and `entries` are numbers of messages; `state` is protobuf (QueueBlockRow). Tens of kilobytes at most.
CREATE TABLE IF NOT EXISTS queue_blocks (
    shard INTEGER NOT NULL, queue INTEGER NOT NULL, topic INTEGER NOT NULL, partition INTEGER NOT NULL, block INTEGER NOT NULL,
    finished INTEGER NOT NULL, entries INTEGER NOT NULL, state BLOB NOT NULL,
    PRIMARY KEY (shard, queue, topic, partition, block)
);
CREATE TABLE IF NOT EXISTS subjects (
    shard INTEGER NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, revision INTEGER NOT NULL, created_ms INTEGER NOT NULL,
    compatibility INTEGER NOT NULL, next_version INTEGER NOT NULL,
    PRIMARY KEY (shard, namespace, name)
) WITHOUT ROWID;
-- `definition` is protobuf (SchemaText).
CREATE TABLE IF NOT EXISTS schemas (
    shard INTEGER NOT NULL, namespace TEXT NOT NULL, subject TEXT NOT NULL, version INTEGER NOT NULL, id INTEGER NOT NULL,
    created_ms INTEGER NOT NULL, definition BLOB NOT NULL,
    PRIMARY KEY (shard, namespace, subject, version)
);
-- `topic`: 0, the whole namespace; `grain`: 0, an hour, 1, a day; `counts`: protobuf (UsageRow, with the fields empty that have columns).
CREATE TABLE IF NOT EXISTS usage (
    shard INTEGER NOT NULL, namespace TEXT NOT NULL, topic INTEGER NOT NULL, grain INTEGER NOT NULL, start_ms INTEGER NOT NULL,
    counts BLOB NOT NULL,
    PRIMARY KEY (shard, namespace, topic, grain, start_ms)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS usage_reporters (
    shard INTEGER NOT NULL, reporter BLOB NOT NULL, sequence INTEGER NOT NULL, seen_ms INTEGER NOT NULL,
    PRIMARY KEY (shard, reporter)
) WITHOUT ROWID;
