-- Usage. Explained in docs/metadata.md. `topic`: 0, the whole namespace; `grain`: 0, an hour, 1, a day; `counts` is protobuf (UsageRow).

CREATE TABLE usage (
    shard     integer NOT NULL,
    start_ms  bigint  NOT NULL,
    topic     bigint  NOT NULL,
    grain     integer NOT NULL,
    namespace text    NOT NULL,
    counts    bytea   NOT NULL,
    PRIMARY KEY (shard, namespace, topic, grain, start_ms)
);

CREATE TABLE usage_reporters (
    shard    integer NOT NULL,
    reporter uuid    NOT NULL,
    sequence bigint  NOT NULL,
    seen_ms  bigint  NOT NULL,
    PRIMARY KEY (shard, reporter)
);

UPDATE cluster SET schema = 5;
