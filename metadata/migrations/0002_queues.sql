-- Queues, and the views that go with them. Explained in docs/metadata.md.
-- Programs of schema 1 go on working beside this: they know of no table in it.

-- `more`: the rest of the row as protobuf (QueueRow), with the fields empty that have columns.
CREATE TABLE queues (
    shard       integer NOT NULL,
    id          bigint  NOT NULL,
    namespace   text    NOT NULL,
    name        text    NOT NULL,
    version     bigint  NOT NULL,
    generation  bigint  NOT NULL,
    created_ms  bigint  NOT NULL,
    config      json    NOT NULL,
    bindings    json    NOT NULL,
    acked_total bigint  NOT NULL,
    dead_total  bigint  NOT NULL,
    more        bytea   NOT NULL,
    PRIMARY KEY (shard, id)
) WITH (fillfactor = 80);

CREATE TABLE queue_partitions (
    shard     integer NOT NULL,
    partition integer NOT NULL,
    queue     bigint  NOT NULL,
    topic     bigint  NOT NULL,
    floor     bigint  NOT NULL,
    head      bigint  NOT NULL,
    scanned   bigint  NOT NULL,
    more      bytea   NOT NULL,
    PRIMARY KEY (shard, queue, topic, partition)
) WITH (fillfactor = 80);

-- Each checkpoint writes the blocks anew that changed since the one before.
CREATE TABLE queue_blocks (
    shard     integer NOT NULL,
    partition integer NOT NULL,
    queue     bigint  NOT NULL,
    topic     bigint  NOT NULL,
    block     bigint  NOT NULL,
    finished  integer NOT NULL,
    entries   integer NOT NULL,
    state     bytea   NOT NULL,
    PRIMARY KEY (shard, queue, topic, partition, block)
) WITH (fillfactor = 80);

-- Of the block that holds the floor, those below the floor are finished, too, and counted in `floor`.
CREATE VIEW lakefall_queues AS
SELECT q.shard, q.namespace, q.name AS queue, q.id, count(p.partition) AS partitions,
       coalesce(sum(greatest(p.next - greatest(qp.floor, p.log_start) - coalesce(b.finished, 0), 0)), 0)::bigint AS backlog,
       coalesce(sum(greatest(p.next - greatest(qp.scanned, p.log_start), 0)), 0)::bigint AS not_looked_at,
       coalesce(sum(b.entries), 0)::bigint AS set_apart, coalesce(sum(b.bytes), 0)::bigint AS state_bytes,
       q.acked_total, q.dead_total, to_timestamp(q.created_ms / 1000.0) AS created
FROM queues q
LEFT JOIN queue_partitions qp ON qp.shard = q.shard AND qp.queue = q.id
LEFT JOIN partitions p ON p.shard = qp.shard AND p.topic = qp.topic AND p.partition = qp.partition AND NOT p.deleted
LEFT JOIN LATERAL (
    SELECT sum(CASE WHEN qb.block = qp.floor / 4096 THEN greatest(qb.finished - qp.floor % 4096, 0) ELSE qb.finished END) AS finished,
           sum(qb.entries) AS entries, sum(octet_length(qb.state)) AS bytes
    FROM queue_blocks qb
    WHERE qb.shard = qp.shard AND qb.queue = qp.queue AND qb.topic = qp.topic AND qb.partition = qp.partition
          AND qb.block >= qp.floor / 4096
) b ON true
GROUP BY q.shard, q.id;

UPDATE cluster SET schema = 2;
