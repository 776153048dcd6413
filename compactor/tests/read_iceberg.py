"""Reads a table of Lakefall with pyiceberg, and prints what it found as JSON.

read_iceberg.py DOCUMENT            the table as one of its documents has it
read_iceberg.py CATALOG-URI NAME    the table of a REST catalog
"""

import json
import sys

import pyarrow.compute as pc
from pyiceberg.catalog import load_catalog
from pyiceberg.expressions import And, GreaterThanOrEqual, LessThan
from pyiceberg.table import StaticTable

if len(sys.argv) == 2:
    table = StaticTable.from_metadata(sys.argv[1])
else:
    table = load_catalog("lakefall", type="rest", uri=sys.argv[1]).load_table(sys.argv[2])
rows = table.scan().to_arrow()
offsets = rows["offset"]
data = rows["data"]


def field(name):
    return pc.struct_field(data, name) if any(f.name == name for f in data.type) else None


def history():
    for snapshot in table.snapshots():
        try:
            yield table.scan(snapshot_id=snapshot.snapshot_id).to_arrow().num_rows
        except FileNotFoundError:
            yield None


day = And(GreaterThanOrEqual("appended_at", "2026-01-31T00:00:00+00:00"), LessThan("appended_at", "2026-02-01T00:00:00+00:00"))
last = pc.max(offsets).as_py()
found = {
    "rows": rows.num_rows,
    "offsets": [pc.min(offsets).as_py(), last],
    "on_first_day": len(list(table.scan(row_filter=day).plan_files())),
    "notes": 0 if field("note") is None else len(field("note")) - field("note").null_count,
    "prices": pc.sum(field("price")).as_py(),
    "xs": pc.sum(pc.struct_field(data, ["at", "x"])).as_py(),
    "tags": len([tags for tags in field("tags").to_pylist() if tags == ["a", None]]),
    "history": list(history()),
    "planned": len(list(table.scan(row_filter=GreaterThanOrEqual("offset", last)).plan_files())),
    "values": json.loads(rows.filter(pc.equal(offsets, last))["value"][0].as_py()),
}
print(json.dumps(found))
