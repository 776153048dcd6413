"""Reads the Parquet files of a directory with pyarrow and DuckDB and compares their rows with rows.json there."""

import json
import pathlib
import sys

import duckdb
import pyarrow
import pyarrow.compute as pc
import pyarrow.parquet as pq

PROPERTIES = ("lakefall.", "traceparent", "tracestate")
COLUMNS = ["partition", "offset", "timestamp", "appended_at", "key", "value", "headers", "json"]


def text(data):
    return None if data is None else bytes(data).hex()


def row(record, millis):
    own = [h for h in record["headers"] if not h["name"].startswith(PROPERTIES)]
    return {
        "partition": record["partition"],
        "offset": record["offset"],
        "timestamp": millis(record["timestamp"]),
        "appended_at": millis(record["appended_at"]),
        "key": text(record["key"]),
        "value": text(record["value"]),
        "own_headers": [[h["name"], text(h["value"])] for h in own],
        "json": record["json"],
    }


def same(who, found, expected):
    wrong = [pair for pair in zip(found, expected) if pair[0] != pair[1]]
    if wrong or len(found) != len(expected):
        sys.exit(f"{who}: {len(found)} rows of {len(expected)}; read {wrong[:1]}")


def with_pyarrow(path):
    table = pq.read_table(path)
    for name in ("timestamp", "appended_at"):
        assert str(table.schema.field(name).type) == "timestamp[ms, tz=UTC]", table.schema
        table = table.set_column(table.schema.get_field_index(name), name, pc.cast(table[name], "int64"))
    return [row(record, int) for record in table.to_pylist()]


def with_duckdb(path):
    times = "epoch_ms(timestamp) as timestamp, epoch_ms(appended_at) as appended_at"
    relation = duckdb.sql(f"select * replace ({times}) from '{path}' order by \"offset\"")
    return [row(dict(zip(relation.columns, record)), int) for record in relation.fetchall()]


def check_typed(path):
    """Columns of the values' fields: what fits is there, what does not is null and still has its value."""
    columns = duckdb.sql(f"select data.n, data.part, data.text, data.yes, data.deep.list, data.deep.of, decode(value) from '{path}' where \"offset\" >= 1020 order by \"offset\"").fetchall()
    for n, (number, part, words, yes, numbers, objects, value) in enumerate(columns, 20):
        expected = [
            (1, 0.5, 'ä"\n', True, [1, 2, None], [{"a": 1, "b": None}, {"a": None, "b": "x"}]),
            (n, None, json.dumps({"not": ["text", n]}, separators=(",", ":")), None, None, None),
            (None,) * 6,
            (None,) * 6,
        ][n % 4]
        if (number, part, words, yes, numbers, objects) != expected:
            sys.exit(f"row {n}: read {(number, part, words, yes, numbers, objects)}, expected {expected} of {value}")
    same("pyarrow's data", pq.read_table(path)["data"].is_null().to_pylist()[20:], [n % 4 > 1 for n in range(20, len(columns) + 20)])


def main(directory):
    expected = json.loads((directory / "rows.json").read_text())
    for name in ("plain", "typed"):
        path = directory / f"{name}.parquet"
        assert pq.read_schema(path).names == COLUMNS + ["data"] * (name == "typed"), pq.read_schema(path)
        same(f"pyarrow, {name}", with_pyarrow(path), expected)
        same(f"DuckDB, {name}", with_duckdb(path), expected)
    check_typed(directory / "typed.parquet")
    many = directory / "many.parquet"
    metadata = pq.read_metadata(many)
    assert metadata.num_row_groups == 2 and metadata.metadata[b"lakefall.format"] == b"1", metadata
    assert metadata.row_group(0).column(1).has_offset_index, "no page index"
    found = duckdb.sql(f"select count(*), min(\"offset\"), max(\"offset\") from '{many}' where key = 'key 7'::blob").fetchall()
    assert found == [(700, 12, 69912)], found
    found = duckdb.sql(f"select decode(value) from '{many}' where \"offset\" = 65545").fetchall()
    assert found == [("value 65540",)], found
    print(f"{len(expected)} rows, with pyarrow {pyarrow.__version__} and DuckDB {duckdb.__version__}")


main(pathlib.Path(sys.argv[1]))
