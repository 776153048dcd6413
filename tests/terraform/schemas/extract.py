"""Writes the schemas in this folder: of each resource and data source that the modules use, which arguments and blocks it has.

    python extract.py FOLDER

FOLDER holds unpacked npm packages `@cdktf/provider-<name>` as `<name>/package`. Their TypeScript was generated from the
providers' own schemas and tells of each argument its type and whether it is required, optional or computed. The versions of
the providers are in each schema.
"""

import base64
import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
MODULES = HERE.parents[2] / "terraform"
SIMPLE = {"string": "string", "number": "number", "boolean": "bool", "any": "dynamic"}
SENSITIVE = re.compile(r"(^|_)(password|secret|token|private_key|access_key|connection_string|client_key)($|_wo$)")
# Arguments that the generated code leaves out, as it has other names for them there.
META = {"connection", "count", "depends_on", "for_each", "lifecycle", "provider", "provisioner"}


def source(folder: Path) -> str:
    text = (folder / "index.js").read_text()
    encoded = text.rsplit("base64,", 1)[1].strip()
    return json.loads(base64.b64decode(encoded))["sourcesContent"][0]


def classes(text: str) -> dict[str, str]:
    starts = [(m.start(), m.group(1)) for m in re.finditer(r"^export class (\w+)", text, re.M)]
    ends = [start for start, _ in starts[1:]] + [len(text)]
    return {name: text[start:end] for (start, name), end in zip(starts, ends)}


def shapes(text: str) -> dict[str, dict[str, tuple[bool, str, str]]]:
    """Of each function that makes HCL, and of the resource itself under the empty name: argument -> is nested, kind, type."""
    found = {}
    entry = re.compile(r"^ +(\w+): \{\n +value: .*\n +isBlock: (true|false),\n +type: \"(\w+)\",\n +storageClassType: \"(\w+)\"", re.M)
    begin = re.compile(r"export function (\w+)ToHclTerraform|protected (synthesizeHclAttributes)\(", re.M)
    marks = [(m.start(), m.group(1) or "") for m in begin.finditer(text)]
    for (start, name), end in zip(marks, [start for start, _ in marks[1:]] + [len(text)]):
        key = name[:1].upper() + name[1:]
        found[key] = {m.group(1): (m.group(2) == "true", m.group(3), m.group(4)) for m in entry.finditer(text, start, end)}
    return found


def typed(kind: str, storage: str):
    if storage in SIMPLE:
        return SIMPLE[storage]
    for ending, outer in (("ListList", "list"), ("List", "list"), ("Map", "map")):
        if storage.endswith(ending) and storage.removesuffix(ending).lower() in SIMPLE:
            inner = SIMPLE[storage.removesuffix(ending).lower()]
            if ending == "ListList":
                return ["list", ["list", inner]]
            return [kind if kind in ("list", "set", "map") else outer, inner]
    return None


GETTERS = {"getStringAttribute": "string", "getNumberAttribute": "number", "getBooleanAttribute": "bool", "getAnyMapAttribute": ["map", "dynamic"],
           "getListAttribute": ["list", "string"], "getNumberListAttribute": ["list", "number"], "getStringMapAttribute": ["map", "string"],
           "getNumberMapAttribute": ["map", "number"], "getBooleanMapAttribute": ["map", "bool"]}


class Reader:
    def __init__(self, text: str):
        self.text, self.classes, self.shapes = text, classes(text), shapes(text)

    def block(self, of_class: str, shape: dict) -> dict:
        body = self.classes[of_class]
        attributes, blocks = {}, {}
        heads = list(re.finditer(r"// (\w+) - computed: (\w+), optional: (\w+), required: (\w+)", body))
        for at, head in enumerate(heads):
            name = head.group(1)
            computed, optional, required = (head.group(i) == "true" for i in (2, 3, 4))
            piece = body[head.end() : heads[at + 1].start() if at + 1 < len(heads) else len(body)]
            flags = {k: True for k, on in (("computed", computed), ("optional", optional), ("required", required)) if on}
            nested = re.search(r"= new (\w+?)(List|MapList|Map|OutputReference)\(this, \"", piece)
            if nested:
                inner, how = nested.group(1), nested.group(2)
                kind = shape.get(name, (True, "list", ""))[1]
                one = how == "OutputReference"
                reference = inner + "OutputReference"
                if reference not in self.classes:
                    attributes[name] = {"type": "dynamic", **flags}
                    continue
                content = self.block(reference, self.shapes.get(inner, {}))
                is_block = re.search(rf"\* {name} block\n", self.text) is not None
                if is_block and (optional or required):
                    mode = "single" if kind == "struct" else kind
                    blocks[name] = {"nesting": mode, "block": content}
                    if one and mode != "single":
                        blocks[name]["max"] = 1
                    if required:
                        blocks[name]["min"] = 1
                elif optional or required:
                    attributes[name] = {"nested": {"nesting": "single" if one else kind, "block": content}, **flags}
                else:
                    wrapped = ["object", {k: v.get("type", "dynamic") for k, v in content["attributes"].items()}]
                    attributes[name] = {"type": wrapped if one else ["list", wrapped], **flags}
                continue
            if name in shape:
                _, kind, storage = shape[name]
                made = typed(kind, storage) or "dynamic"
            else:
                getter = re.search(r"(get\w+Attribute)\('", piece)
                made = GETTERS.get(getter.group(1), "dynamic") if getter else "dynamic"
                if "Fn.tolist(this.getListAttribute" in piece:
                    made = ["set", "string"]
            attributes[name] = {"type": made, **flags}
            if name.endswith("_wo"):
                attributes[name]["write_only"] = True
            if SENSITIVE.search(name) and made == "string":
                attributes[name]["sensitive"] = True
        result = {"attributes": attributes}
        if blocks:
            result["blocks"] = blocks
        return result


def one(folder: Path, class_suffix: str = "") -> dict:
    reader = Reader(source(folder))
    resource = next(name for name, body in reader.classes.items() if re.search(r"extends cdktf\.Terraform(Resource|DataSource|Provider)\b", body))
    return reader.block(resource, reader.shapes[""])


def provider_block(folder: Path) -> dict:
    """The provider's own settings: the generated class tells their names only, so every one is optional and of any type."""
    text = source(folder)
    names = re.findall(r"^  // (\w+) - computed: \w+, optional: \w+, required: \w+", text[text.rfind("export class") :], re.M)
    blocks = {name for name in names if re.search(rf"\* {name} block\n", text)}
    result = {"attributes": {name: {"type": "dynamic", "optional": True} for name in names if name not in blocks}}
    if blocks:
        inner = {}
        for name in sorted(blocks):
            inner[name] = {"nesting": "list", "block": {"attributes": {}}, "open": True}
        result["blocks"] = {name: {"nesting": "list", "block": {"attributes": {}}} for name in inner}
    return result


def used() -> dict[str, set[tuple[str, str]]]:
    """(resource or data, type) by provider, as the modules name them."""
    found: dict[str, set[tuple[str, str]]] = {}
    for file in MODULES.rglob("*.tf"):
        for kind, of_type in re.findall(r'^\s*(resource|data) "(\w+)" "', file.read_text(), re.M):
            found.setdefault(of_type.split("_")[0], set()).add((kind, of_type))
    return found


def main() -> None:
    packages = Path(sys.argv[1])
    for provider, wanted in sorted(used().items()):
        if provider == "terraform":
            continue
        package = packages / provider / "package"
        manifest = json.loads((package / "package.json").read_text())["cdktf"]["provider"]
        schema = {"provider": manifest["name"].split("/", 1)[1], "version": manifest["version"], "configuration": provider_block(package / "lib" / "provider")}
        for group, kind in (("resources", "resource"), ("data_sources", "data")):
            schema[group] = {}
            for of_type in sorted(name for k, name in wanted if k == kind):
                bare = of_type.split("_", 1)[1].replace("_", "-")
                folder = package / "lib" / ("data-" * (kind == "data") + (of_type.replace("_", "-") if kind == "data" else bare))
                schema[group][of_type] = one(folder)
        text = json.dumps(schema, indent=1, sort_keys=True)
        (HERE / f"{provider}.json").write_text(text + "\n")
        print(provider, schema["version"], {g: len(schema[g]) for g in ("resources", "data_sources")}, len(text))


if __name__ == "__main__":
    main()
