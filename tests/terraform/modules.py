"""What `terraform test` told of its runs, and the texts of the modules."""

import json
import os
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2] / "terraform"
RESULTS = Path(os.environ.get("LAKEFALL_TEST_TERRAFORM_RESULTS", ROOT.parent / "target/terraform/results"))


@cache
def state(module: str, run: str) -> dict:
    """The state after a run: its outputs and resources."""
    for line in (RESULTS / f"{module}.jsonl").read_text().splitlines():
        message = json.loads(line)
        if message["type"] == "test_state" and message["@testrun"] == run:
            return message["test_state"]
    raise AssertionError(f"no run {run} of {module}: run .ci/terraform")


def outputs(module: str, run: str) -> dict:
    return {name: output["value"] for name, output in state(module, run)["outputs"].items()}


def resources(module: str, run: str, of_type: str) -> list[dict]:
    return [r["values"] for r in state(module, run)["root_module"]["resources"] if r["type"] == of_type]


def blocks(text: str, kind: str) -> dict[str, str]:
    """The top-level blocks of a kind by name. `terraform fmt` has put every end at the line's begin."""
    return dict(re.findall(rf'^{kind} "(\w+)" {{\n(.*?)^}}', text, re.M | re.S))
