"""Compares the Parquet files of a server with the rows that were sent: tables.py <tables folder> <flights.ndjson> <hooks.ndjson>"""

import json
import sys
from collections import defaultdict

import duckdb
import pyarrow.compute as pc
import pyarrow.dataset as ds

tables, flights_path, hooks_path = sys.argv[1:]
flights = [line for line in open(flights_path, "rb").read().split(b"\n") if line]
hooks = [line for line in open(hooks_path, "rb").read().split(b"\n") if line]


def rows(topic, lines):
    dataset = ds.dataset(f"{tables}/{topic}", format="parquet", partitioning="hive")
    table = dataset.to_table(columns=["offset", "value", "json", "date"]).sort_by("offset")
    assert table["offset"].to_pylist() == list(range(len(lines))), topic
    assert table["value"].to_pylist() == lines, topic
    assert all(table["json"].to_pylist()), topic
    path = f"'{tables}/{topic}/*/*.parquet'"
    (count, first, last) = duckdb.sql(f'SELECT count(*), min("offset"), max("offset") FROM {path}').fetchall()[0]
    assert (count, first, last) == (len(lines), 0, len(lines) - 1), topic
    return dataset, path


dataset, path = rows("flights", flights)
expected = defaultdict(lambda: [0, 0, 0])
for line in flights:
    row = json.loads(line)
    of = expected[row["carrier"]]
    of[0] += 1
    if row["dep_delay"] is not None:
        of[1] += row["dep_delay"]
        of[2] += 1
query = f"SELECT data.carrier, count(*), sum(data.dep_delay), count(data.dep_delay) FROM {path} GROUP BY 1"
assert {c: [n, int(s), m] for c, n, s, m in duckdb.sql(query).fetchall()} == dict(expected), "delays by carrier in DuckDB"
table = dataset.to_table(columns={"carrier": pc.field("data", "carrier"), "delay": pc.field("data", "dep_delay")})
found = table.group_by("carrier").aggregate([("carrier", "count"), ("delay", "sum"), ("delay", "count")]).to_pylist()
assert {r["carrier"]: [r["carrier_count"], r["delay_sum"], r["delay_count"]] for r in found} == dict(expected), "and in pyarrow"
# Pushed down: the page index and statistics are there.
(below,) = duckdb.sql(f'SELECT count(*) FROM {path} WHERE "offset" < 1000').fetchall()[0]
assert below == min(1000, len(flights))

dataset, path = rows("hooks", hooks)
parsed = [json.loads(line) for line in hooks]
events = [event for (event,) in duckdb.sql(f'SELECT data.event FROM {path} ORDER BY "offset"').fetchall()]
assert events == [row["event"] for row in parsed]
actions = [a for (a,) in duckdb.sql(f'SELECT data.payload.action FROM {path} ORDER BY "offset"').fetchall()]
assert actions == [row["payload"].get("action") for row in parsed], "nested fields"
table = dataset.to_table(columns={"offset": pc.field("offset"), "action": pc.field("data", "payload", "action")}).sort_by("offset")
assert table["action"].to_pylist() == actions
print(f"{len(flights)} flights and {len(hooks)} webhooks are the same rows and values in pyarrow and DuckDB")
