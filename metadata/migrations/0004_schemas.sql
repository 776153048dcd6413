-- Schemas. Explained in docs/metadata.md.

CREATE TABLE subjects (
    shard         integer NOT NULL,
    next_version  bigint  NOT NULL,
    namespace     text    NOT NULL,
    name          text    NOT NULL,
    revision      bigint  NOT NULL,
    created_ms    bigint  NOT NULL,
    compatibility integer NOT NULL,
    PRIMARY KEY (shard, namespace, name)
);

-- `definition` is protobuf (SchemaText).
CREATE TABLE schemas (
    shard      integer NOT NULL,
    namespace  text    NOT NULL,
    subject    text    NOT NULL,
    version    bigint  NOT NULL,
    id         bigint  NOT NULL,
    created_ms bigint  NOT NULL,
    definition bytea   NOT NULL,
    PRIMARY KEY (shard, namespace, subject, version)
);

UPDATE cluster SET schema = 4;
