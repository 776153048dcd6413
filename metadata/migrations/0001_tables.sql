-- The first schema. What each table and column means is in docs/metadata.md.
--
-- Times that a ledger wrote are milliseconds since 1970 (`…_ms`): exact, and without the bounds of timestamptz. Times by
-- this server's own clock are timestamptz. Unsigned numbers of 64 bits are stored as the bigint with the same bits.

-- One row. `schema` is what the migrations have made of this database; `oldest_program` is the oldest schema that a program
-- must have been built for to work on it.
CREATE TABLE cluster (
    one            boolean     PRIMARY KEY DEFAULT true CHECK (one),
    id             uuid        NOT NULL DEFAULT gen_random_uuid(),
    shards         integer     CHECK (shards > 0),
    schema         integer     NOT NULL,
    oldest_program integer     NOT NULL,
    created        timestamptz NOT NULL DEFAULT now()
);
INSERT INTO cluster (schema, oldest_program) VALUES (1, 1);

-- ---- Who is there, and who owns what -------------------------------------------------------------------------------

CREATE TABLE replicas (
    id          uuid        PRIMARY KEY,
    address     text        NOT NULL,
    alive_until timestamptz NOT NULL
) WITH (fillfactor = 50);

-- An append locks the row of its shard, so heartbeats must not touch it: leases are a table of their own. `epoch` is the
-- same in both: one statement raises it.
CREATE TABLE shards (
    id    integer PRIMARY KEY,
    epoch bigint  NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE leases (
    shard   integer     PRIMARY KEY,
    epoch   bigint      NOT NULL DEFAULT 0,
    replica uuid,
    address text,
    until   timestamptz NOT NULL DEFAULT 'epoch'
) WITH (fillfactor = 50);

-- ---- The journal: a table for each shard, and in it three slots that are filled in turn and emptied by TRUNCATE ------

CREATE TABLE journal (
    shard   integer     NOT NULL,
    slot    smallint    NOT NULL,
    seq     bigint      NOT NULL,
    epoch   bigint      NOT NULL,
    writer  uuid        NOT NULL,
    written timestamptz NOT NULL DEFAULT clock_timestamp(),
    payload bytea       NOT NULL,
    PRIMARY KEY (shard, slot, seq)
) PARTITION BY LIST (shard);

-- ---- Checkpoints: the state of each shard after the entry `seq` of its journal ---------------------------------------

CREATE TABLE checkpoints (
    shard      integer     PRIMARY KEY,
    version    integer     NOT NULL,
    seq        bigint      NOT NULL,
    epoch      bigint      NOT NULL,
    time_ms    bigint      NOT NULL,
    next_topic bigint      NOT NULL,
    written    timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

CREATE TABLE namespaces (
    shard       integer NOT NULL,
    name        text    NOT NULL,
    version     bigint  NOT NULL,
    created_ms  bigint  NOT NULL,
    description text    NOT NULL,
    PRIMARY KEY (shard, name)
);

CREATE TABLE topics (
    shard      integer NOT NULL,
    id         bigint  NOT NULL,
    namespace  text    NOT NULL,
    name       text    NOT NULL,
    version    bigint  NOT NULL,
    created_ms bigint  NOT NULL,
    config     json    NOT NULL,
    PRIMARY KEY (shard, id)
);

CREATE TABLE partitions (
    shard         integer NOT NULL,
    topic         bigint  NOT NULL,
    partition     integer NOT NULL,
    log_start     bigint  NOT NULL,
    next          bigint  NOT NULL,
    retired       bigint  NOT NULL,
    bytes         bigint  NOT NULL,
    extents       bigint  NOT NULL,
    deleted       boolean NOT NULL,
    fencing_token numeric(20, 0),
    PRIMARY KEY (shard, topic, partition)
) WITH (fillfactor = 80);

-- `latest_ms` is the latest `max_timestamp_ms` of the partition's extents up to this one: it never falls from one extent to
-- the next, so an extent is found by time in as many steps as the key has bits.
CREATE TABLE extents (
    shard              integer NOT NULL,
    partition          integer NOT NULL,
    topic              bigint  NOT NULL,
    base_offset        bigint  NOT NULL,
    records            bigint  NOT NULL,
    object             uuid    NOT NULL,
    object_size        bigint  NOT NULL,
    position           bigint  NOT NULL,
    length             bigint  NOT NULL,
    first_timestamp_ms bigint  NOT NULL,
    max_timestamp_ms   bigint  NOT NULL,
    latest_ms          bigint  NOT NULL,
    appended_ms        bigint  NOT NULL,
    PRIMARY KEY (shard, topic, partition, base_offset)
);

CREATE TABLE objects (
    shard        integer NOT NULL,
    id           uuid    NOT NULL,
    size         bigint  NOT NULL,
    live_extents bigint  NOT NULL,
    committed_ms bigint  NOT NULL,
    released_ms  bigint,
    refused      boolean NOT NULL,
    answer       bytea,
    PRIMARY KEY (shard, id)
) WITH (fillfactor = 80);

-- `offsets[i]` is the position in the partition `partitions[i]`.
CREATE TABLE cursors (
    shard      integer   NOT NULL,
    namespace  text      NOT NULL,
    cursor     text      NOT NULL,
    topic      text      NOT NULL,
    topic_id   bigint    NOT NULL,
    version    bigint    NOT NULL,
    updated_ms bigint    NOT NULL,
    partitions integer[] NOT NULL,
    offsets    bigint[]  NOT NULL,
    PRIMARY KEY (shard, namespace, cursor, topic)
) WITH (fillfactor = 80);

CREATE TABLE producers (
    shard         integer NOT NULL,
    topic         bigint  NOT NULL,
    partition     integer NOT NULL,
    id            text    NOT NULL,
    epoch         bigint  NOT NULL,
    next_sequence bigint  NOT NULL,
    seen_ms       bigint  NOT NULL,
    batches       bytea   NOT NULL,
    PRIMARY KEY (shard, topic, partition, id)
) WITH (fillfactor = 80);

CREATE TABLE dedup (
    shard         integer NOT NULL,
    partition     integer NOT NULL,
    topic         bigint  NOT NULL,
    hash          uuid    NOT NULL,
    record_offset bigint  NOT NULL,
    expires_ms    bigint  NOT NULL,
    PRIMARY KEY (shard, topic, hash)
);

CREATE TABLE idempotency (
    shard      integer NOT NULL,
    namespace  text    NOT NULL,
    key        text    NOT NULL,
    expires_ms bigint  NOT NULL,
    answer     bytea   NOT NULL,
    PRIMARY KEY (shard, namespace, key)
);

-- ---- For people: what is asked most often. State as of each shard's last checkpoint ----------------------------------

CREATE VIEW lakefall_owners AS
SELECT l.shard, l.epoch,
       CASE WHEN l.until > clock_timestamp() THEN l.replica END AS replica,
       CASE WHEN l.until > clock_timestamp() THEN l.address END AS address,
       greatest(l.until - clock_timestamp(), interval '0') AS remaining
FROM leases l;

CREATE VIEW lakefall_topics AS
SELECT t.shard, t.namespace, t.name AS topic, t.id, count(p.partition) AS partitions,
       coalesce(sum(p.next - p.log_start), 0)::bigint AS records, coalesce(sum(p.bytes), 0)::bigint AS bytes,
       coalesce(sum(p.extents), 0)::bigint AS extents, to_timestamp(t.created_ms / 1000.0) AS created
FROM topics t
LEFT JOIN partitions p ON p.shard = t.shard AND p.topic = t.id AND NOT p.deleted
GROUP BY t.shard, t.id;

CREATE VIEW lakefall_lag AS
SELECT c.shard, c.namespace, c.cursor, c.topic, at.partition, at.record_offset, p.next AS end_offset,
       greatest(p.next - greatest(at.record_offset, p.log_start), 0) AS lag,
       to_timestamp(c.updated_ms / 1000.0) AS moved
FROM cursors c
CROSS JOIN LATERAL unnest(c.partitions, c.offsets) AS at (partition, record_offset)
JOIN partitions p ON p.shard = c.shard AND p.topic = c.topic_id AND p.partition = at.partition AND NOT p.deleted;

CREATE VIEW lakefall_journal AS
SELECT s.id AS shard, s.epoch, coalesce(c.seq, 0) AS checkpoint_seq, c.written AS checkpoint_written,
       j.entries, j.bytes, j.newest
FROM shards s
LEFT JOIN checkpoints c ON c.shard = s.id
CROSS JOIN LATERAL (
    SELECT count(*) AS entries, coalesce(sum(length(payload)), 0)::bigint AS bytes, max(written) AS newest
    FROM journal WHERE shard = s.id AND seq > coalesce(c.seq, 0)
) j;
