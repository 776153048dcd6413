-- Compaction. `level`: 0, a gateway's segment; 1, one that a compactor merged; 2, a Parquet file, whose object has a `key` of its
-- own. `compaction` is protobuf (CompactionState): how far compaction is in the partition.
ALTER TABLE extents ADD COLUMN level smallint NOT NULL DEFAULT 0;
ALTER TABLE objects ADD COLUMN key text;
ALTER TABLE partitions ADD COLUMN compaction bytea;

UPDATE cluster SET schema = 3;
