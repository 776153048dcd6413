"""Makes the chart's README.md and values.schema.json of the comments in values.yaml and of docs/configuration.md.

    python3 helm/tools/values.py           writes both
    python3 helm/tools/values.py --check   says whether they are as they would be written; exit code 1 if not

A value's comment begins with `# --`. `# @schema {...}` adds to the type that its default tells. `# ==` begins a chapter of the README.
Needs PyYAML.
"""

import json
import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/lakefall"
SETTINGS = ROOT / "docs/configuration.md"

# What the chart sets itself, or mounts from Secrets: refused in `config`, with the place to set it instead.
MANAGED = {
    "listen": "the chart",
    "admin_listen": "the chart",
    "data_dir": "the chart",
    "store.access_key_id": "secrets.storeCredentials",
    "store.secret_access_key": "secrets.storeCredentials",
    "metadata.listen": "the chart",
    "metadata.advertise": "the chart",
    "metadata.endpoints": "the chart",
    "metadata.token": "secrets.token",
    "metadata.token_file": "secrets.token",
    "metadata.tls.ca": "rpcTLS",
    "metadata.tls.cert": "rpcTLS",
    "metadata.tls.key": "rpcTLS",
    "metadata.tls.server_name": "rpcTLS",
    "metadata.postgres.password": "secrets.databasePassword",
    "metadata.postgres.password_file": "secrets.databasePassword",
    "metadata.postgres.ca_file": "secrets.databaseCA",
    "receipts.key": "secrets.receiptsKey",
    "receipts.key_file": "secrets.receiptsKey",
    "receipts.previous": "secrets.previousReceiptsKeys",
    "cache.disk_path": "gateway.cacheDisk",
    "cache.disk_bytes": "gateway.cacheDisk",
    "telemetry.headers": "secrets.telemetryHeaders",
    "telemetry.headers_file": "secrets.telemetryHeaders",
    "telemetry.ca_file": "secrets.telemetryCA",
    "catalog.token": "secrets.catalogToken",
    "catalog.token_file": "secrets.catalogToken",
    "catalog.client_secret": "secrets.catalogClientSecret",
    "catalog.client_secret_file": "secrets.catalogClientSecret",
    "catalog.ca_file": "secrets.catalogCA",
}

# What several processes can share. That no password stands in a URL is checked by a template, which does not repeat it.
PATTERNS = {
    "metadata.url": "^postgres(ql)?://",
    "store.url": "^(s3|gs|az)://",
    "store.endpoint": "^https?://",
    "telemetry.endpoint": "^https?://",
    "catalog.uri": "^https?://",
    "catalog.oauth_uri": "^https?://",
}

DEFS = {
    "texts": {"type": "object", "additionalProperties": {"type": "string"}},
    "objects": {"type": "array", "items": {"type": "object"}},
    "amount": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+%$"}]},
    "name": {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {"name": {"type": "string", "minLength": 1}},
    },
    "parentRef": {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "namespace": {"type": "string"},
            "sectionName": {"type": "string"},
            "port": {"type": "integer", "minimum": 1, "maximum": 65535},
            "group": {"type": "string"},
            "kind": {"type": "string"},
        },
    },
    "env": {
        "description": "Secrets by valueFrom only, and no settings of Lakefall: those stand in config.",
        "type": "array",
        "items": {
            "type": "object",
            "additionalProperties": False,
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "not": {"pattern": "^LAKEFALL_"}},
                "value": {"type": "string"},
                "valueFrom": {"type": "object"},
            },
            "oneOf": [{"required": ["value"]}, {"required": ["valueFrom"]}],
            "if": {"properties": {"name": {"pattern": "(KEY|SECRET|PASSWORD|TOKEN)$"}}},
            "then": {"not": {"required": ["value"]}},
        },
    },
    "quantities": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "cpu": {"anyOf": [{"type": "number"}, {"type": "string", "pattern": "^([0-9]+m|[0-9]+(\\.[0-9]+)?)$"}]},
            "memory": {"$ref": "#/$defs/bytes"},
            "ephemeral-storage": {"$ref": "#/$defs/bytes"},
        },
    },
    "bytes": {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(Gi|Mi|G|M)?$"}]},
    "resources": {
        "type": "object",
        "additionalProperties": False,
        "required": ["requests", "limits"],
        "properties": {
            "requests": {"$ref": "#/$defs/quantities"},
            "limits": {"allOf": [{"$ref": "#/$defs/quantities"}], "required": ["memory"]},
        },
    },
}


def comments(text):
    """The comment above each key, as (path, text, schema), and the chapters, as (path of the first key, title, text)."""
    found, chapters = {}, []
    words, schema, chapter, stack = [], {}, None, []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# == "):
            chapter = [stripped[5:], []]
            words, schema = [], {}
        elif stripped.startswith("# -- "):
            words, schema = [stripped[5:]], {}
        elif stripped.startswith("# @schema "):
            schema = json.loads(stripped[10:])
        elif stripped.startswith("# ") and words:
            words.append(stripped[2:])
        elif stripped.startswith("# ") and chapter:
            chapter[1].append(stripped[2:])
        elif match := re.match(r"^( *)([A-Za-z][\w.-]*):", line):
            depth = len(match[1]) // 2
            stack = stack[:depth] + [match[2]]
            path = tuple(stack)
            if chapter:
                chapters.append((path, chapter[0], " ".join(chapter[1])))
                chapter = None
            if words:
                found[path] = (" ".join(words), schema)
            words, schema = [], {}
    return found, chapters


def settings():
    """The settings as docs/configuration.md has them: key, default, bounds, meaning."""
    rows = []
    for line in SETTINGS.read_text().splitlines():
        if line.startswith("| `") and not line.startswith("| `LAKEFALL"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
            rows.append((cells[0].strip("`"), cells[1].strip("`"), cells[2], cells[3]))
    return rows


def number(text):
    return float(text.replace(",", "")) if "." in text else int(text.replace(",", ""))


def setting_schema(key, default, bounds, meaning):
    """A setting's schema: numbers have their bounds, words their choice."""
    schema = {"description": re.sub(r"`", "", meaning)}
    match = re.match(r"^([\d.,]+) to ([\d.,]+)", bounds)
    if default in ("true", "false"):
        schema["type"] = "boolean"
    elif key == "uploads.eager":
        schema |= {"type": "integer", "minimum": 1}
    elif match:
        low, high = number(match[1].strip(",")), number(match[2].strip(","))
        schema |= {"type": "number" if isinstance(low, float) else "integer", "minimum": low, "maximum": high}
    elif re.fullmatch(r"(`[a-z0-9-]+`(, )?){2,}", bounds):
        schema["enum"] = re.findall(r"`([^`]+)`", bounds)
    elif bounds == "a list":
        schema |= {"type": "array", "items": {"type": "string"}}
    elif default.isdigit():
        raise SystemExit(f"docs/configuration.md: the bounds of {key} cannot be read: {bounds}")
    else:
        schema["type"] = "string"
    if key in PATTERNS:
        schema["pattern"] = PATTERNS[key]
    return schema


def config_schema():
    root = {"type": "object", "additionalProperties": False, "properties": {}}
    rows = settings()
    unknown = set(MANAGED) - {key for key, *_ in rows}
    if unknown:
        raise SystemExit(f"helm/tools/values.py names settings that docs/configuration.md has not: {sorted(unknown)}")
    for key, default, bounds, meaning in rows:
        if key in MANAGED:
            continue
        *sections, name = key.split(".")
        node = root
        for section in sections:
            node = node["properties"].setdefault(section, {"type": "object", "additionalProperties": False, "properties": {}})
        node["properties"][name] = setting_schema(key, default, bounds, meaning)
    return root


TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def schema_of(value, path, found):
    words, extra = found.get(path, (None, {}))
    if isinstance(value, dict) and not extra:
        properties = {key: schema_of(inner, path + (key,), found) for key, inner in value.items()}
        schema = {"type": "object", "additionalProperties": False, "properties": properties}
    else:
        schema = dict(extra)
        if not {"type", "$ref", "enum", "anyOf"} & set(schema):
            schema["type"] = TYPES[type(value)]
        if words is None:
            raise SystemExit(f"values.yaml: {'.'.join(path)} has no comment that begins with `# --`")
    if words:
        schema["description"] = re.sub(r"`", "", words)
    return schema


def values_schema(values, found):
    schema = schema_of(values, (), found)
    # Helm hands the values of a parent chart's `global` to every chart.
    schema["properties"]["global"] = {"type": "object"}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Values of the chart lakefall"}
    return json.dumps(head | schema | {"$defs": DEFS | {"config": config_schema()}}, indent=1) + "\n"


def rows_of(value, path, found, chapters):
    """Lines of the README's tables."""
    for chapter_path, title, text in chapters:
        if chapter_path == path:
            yield f"\n## {title}\n" + (f"\n{text}\n" if text else "") + "\n| value | default | meaning |\n|---|---|---|"
    if path in found:
        words = found[path][0].replace("|", "\\|")
        default = json.dumps(value, separators=(", ", ": ")).replace("|", "\\|")
        yield f"| `{'.'.join(path)}` | `{default}` | {words} |"
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from rows_of(inner, path + (key,), found, chapters)


def readme(values, found, chapters):
    head = (CHART / "README.head.md").read_text().rstrip("\n")
    managed = "\n".join(f"| `{key}` | {place if place == 'the chart' else f'`{place}`'} |" for key, place in MANAGED.items())
    tail = f"\n\n## Settings that `config` does not take\n\n| setting | set by |\n|---|---|\n{managed}\n"
    return head + "\n" + "\n".join(rows_of(values, (), found, chapters)) + tail


def main():
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    found, chapters = comments(text)
    made = {CHART / "values.schema.json": values_schema(values, found), CHART / "README.md": readme(values, found, chapters)}
    stale = [path for path, wanted in made.items() if not path.exists() or path.read_text() != wanted]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what values.yaml and docs/configuration.md make: run .ci/chart --update")
        return 1 if stale else 0
    for path in stale:
        path.write_text(made[path])
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
