"""Media types that schemathesis does not know: how to write and how to read them."""

import json

import schemathesis


def lines(value):
    records = value if isinstance(value, list) else [value]
    return "".join(json.dumps(record) + "\n" for record in records).encode()


@schemathesis.serializer("application/x-ndjson")
def ndjson(ctx, value):
    return value if isinstance(value, bytes) else lines(value)


@schemathesis.deserializer("application/vnd.apache.arrow.stream", "application/octet-stream")
def raw(ctx, response):
    return response.content
