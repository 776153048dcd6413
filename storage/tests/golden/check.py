"""Reads every lakefall-*.bin of a directory with kafka-python and compares the records with lakefall.json there."""

import json
import pathlib
import sys

from kafka.record.memory_records import MemoryRecords


def text(data):
    return None if data is None else bytes(data).hex()


def read(path):
    found = []
    batches = MemoryRecords(path.read_bytes())
    while batches.has_next():
        batch = batches.next_batch()
        if not batch.validate_crc():
            sys.exit(f"{path.name}: the checksum does not match")
        for record in batch:
            headers = [[name, text(data)] for name, data in record.headers]
            found.append({"offset": record.offset, "timestamp": record.timestamp, "key": text(record.key), "value": text(record.value), "headers": headers})
    return found


def main(directory):
    expected = json.loads((directory / "lakefall.json").read_text())
    paths = sorted(directory.glob("lakefall-*.bin"))
    for path in paths:
        found = read(path)
        if found != expected:
            wrong = next((pair for pair in zip(found, expected) if pair[0] != pair[1]), (len(found), len(expected)))
            sys.exit(f"{path.name}: read {wrong[0]}, expected {wrong[1]}")
    if len(paths) != 3:
        sys.exit(f"expected three batches, found {len(paths)}")
    print(f"{len(paths)} batches, {len(expected)} records each")


main(pathlib.Path(sys.argv[1]))
