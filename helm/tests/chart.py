"""The chart as the tests see it: rendered by the real `helm`, as objects. Knows no rule; those are in the modules beside it."""

import functools
import os
import pathlib
import subprocess
import tempfile

import yaml

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Another one is a copy with a fault in it, see planted.py.
CHART = pathlib.Path(os.environ.get("LAKEFALL_TEST_CHART", ROOT / "helm/lakefall"))
TESTS = ROOT / "helm/tests"
HELM = os.environ["LAKEFALL_TEST_HELM"]
# The oldest that the chart says it works on, and the newest whose schemas are at hand.
VERSIONS = ["1.30", "1.37"]

CASES = {path.stem: path for path in sorted((TESTS / "values").glob("*.yaml"))} | {"evaluation": CHART / "values-evaluation.yaml"}


def run(*arguments):
    """Runs helm; its exit code and all that it said."""
    done = subprocess.run([HELM, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


@functools.cache
def text(case, version=VERSIONS[-1], *more):
    """A case of values, rendered."""
    code, out, error = run("template", "queue", CHART, "--namespace", "shop", "--kube-version", version, "--values", CASES[case], *more)
    assert code == 0, f"{case} is not rendered: {error}"
    return out


@functools.cache
def objects(case, version=VERSIONS[-1], *more):
    """A case of values, as objects."""
    return [one for one in yaml.safe_load_all(text(case, version, *more)) if one]


def refusal(values, over=("minimal",)):
    """What helm says to values over those of a case, as text; None when it takes them."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values, file)
        file.flush()
        files = [word for case in over for word in ("--values", CASES[case])]
        code, _, error = run("template", "queue", CHART, "--kube-version", VERSIONS[-1], *files, "--values", file.name)
    return error if code else None


def of_kind(case, *kinds):
    return [one for one in objects(case) if one["kind"] in kinds]


def named(case, kind, name):
    found = [one for one in of_kind(case, kind) if one["metadata"]["name"] == name]
    assert len(found) == 1, f"{case}: {len(found)} of {kind} {name}"
    return found[0]


def pods(case):
    """Every pod that the objects make: (where it is from, its labels, its spec)."""
    for one in objects(case):
        where = f"{case}: {one['kind']} {one['metadata']['name']}"
        if one["kind"] == "Pod":
            yield where, one["metadata"]["labels"], one["spec"]
        elif "template" in one.get("spec", {}) and "spec" in one["spec"]["template"]:
            template = one["spec"]["template"]
            yield where, template["metadata"]["labels"], template["spec"]


def component(labels):
    return labels["app.kubernetes.io/component"]


def role_pods(case):
    """Pods of the three roles by role."""
    roles = ("gateway", "metadata", "compactor")
    return {component(labels): (where, labels, spec) for where, labels, spec in pods(case) if component(labels) in roles}


def settings(case, role):
    """The settings of a role as its ConfigMap has them, as (key with its section, value)."""
    files = [one for one in of_kind(case, "ConfigMap") if "lakefall.toml" in one["data"]]
    file = next(one for one in files if component(one["metadata"]["labels"]) == role)

    def flat(tree, path=""):
        for key, value in tree.items():
            if isinstance(value, dict):
                yield from flat(value, f"{path}{key}.")
            else:
                yield f"{path}{key}", value

    return dict(flat(tomllib.loads(file["data"]["lakefall.toml"])))
