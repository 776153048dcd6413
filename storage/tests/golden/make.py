"""Makes the golden batches with kafka-python, a Kafka client that owes nothing to Lakefall.

Run it only to add cases; the files are committed:
    python storage/tests/golden/make.py          (packages: tests/python/requirements.txt)
"""

import json
import pathlib

import kafka.record.default_records as kafka_records
from kafka.codec import snappy_encode

HERE = pathlib.Path(__file__).parent
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "snappy-raw": 2, "lz4": 3, "zstd": 4}
BASE = 1_700_000_000_000


def records():
    yield BASE, b"key", b"value", []
    yield BASE - 5_000, None, b"earlier than the first, without a key", []
    yield BASE + 1, b"tombstone", None, [("reason", b"gone"), ("no value", None)]
    yield BASE + 2, b"", b"", [("", b"")]
    yield BASE + 3, None, None, []
    yield BASE + 4, "clé".encode(), '{"ключ": "значение"}'.encode(), [("h", b"1"), ("h", b"2"), ("ü", bytes(range(256)))]
    yield BASE + 5, b"traced", b"x", [("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
    for n in range(60):
        yield BASE + 10 + n * 7, b"k%d" % (n % 10), b"a value that repeats itself, number %d" % n, []
    yield BASE + 100_000, b"large", b"0123456789abcdef" * 100, []


def expected():
    text = lambda data: None if data is None else data.hex()
    return [
        {"offset": n, "timestamp": timestamp, "key": text(key), "value": text(value), "headers": [[name, text(data)] for name, data in headers]}
        for n, (timestamp, key, value, headers) in enumerate(records())
    ]


def build(codec):
    builder = kafka_records.DefaultRecordBatchBuilder(2, codec, False, -1, -1, -1, 1 << 24)
    for n, (timestamp, key, value, headers) in enumerate(records()):
        builder.append(n, timestamp, key, value, headers)
    return bytes(builder.build())


def main():
    framed = kafka_records.snappy_encode
    for name, codec in CODECS.items():
        raw = name == "snappy-raw"
        kafka_records.snappy_encode = (lambda data: snappy_encode(data, xerial_compatible=False)) if raw else framed
        (HERE / f"kafka-{name}.bin").write_bytes(build(codec))
    (HERE / "kafka.json").write_text(json.dumps(expected(), indent=None, separators=(",", ":")) + "\n")


main()
