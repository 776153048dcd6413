"""What the documents for operators name must exist: metrics, settings, alerts, commands, files."""

import re
import subprocess
import tomllib
import unittest
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "docs" / name for name in ("cost.md", "deploy-aws.md", "operations.md", "runbook.md")]
PAGES += sorted((ROOT / "terraform").rglob("README.md"))


@cache
def tracked() -> list[Path]:
    told = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, check=True, capture_output=True)
    return [ROOT / name for name in told.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def anchors(text: str) -> set[str]:
    """Of headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


class WhatThePagesNameExists(unittest.TestCase):
    def test_metrics(self):
        sources = "".join(f.read_text() for f in tracked() if f.suffix == ".rs")
        for page in PAGES:
            for name in set(re.findall(r"\blakefall_[a-z_]+(?:_total|_seconds|_bytes)\b", page.read_text())):
                bare = re.sub(r"_(bucket|sum|count)$", "", name)
                self.assertIn(f'"{bare}"', sources, f"{page.name}: {name}")

    def test_settings(self):
        settings = set(re.findall(r"^\| `([a-z_.]+)` \|", (ROOT / "docs/configuration.md").read_text(), re.M))
        sections = {name.split(".")[0] for name in settings if "." in name}
        prices = tomllib.loads((ROOT / "cli/src/commands/cost/prices.toml").read_text())
        known = settings | {f"{group}.{key}" for group, keys in prices.items() if isinstance(keys, dict) for key in keys}
        for page in PAGES:
            for name in set(re.findall(r"`([a-z]+(?:\.[a-z_]+)+)`", page.read_text())):
                if name.split(".")[0] in sections and not name.endswith((".md", ".rs", ".toml")):
                    self.assertIn(name, known, page.name)

    def test_prices_of_examples_have_the_keys_of_those_built_in(self):
        built_in = tomllib.loads((ROOT / "cli/src/commands/cost/prices.toml").read_text())
        shape = lambda table: {(group, key) for group, keys in table.items() for key in (keys if isinstance(keys, dict) else [""])}
        for file in sorted((ROOT / "terraform").rglob("prices.toml")):
            self.assertEqual(shape(tomllib.loads(file.read_text())), shape(built_in), file)

    def test_links(self):
        for page in PAGES:
            for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
                if re.match(r"https?:", target):
                    continue
                path, _, anchor = target.partition("#")
                there = (page.parent / path).resolve() if path else page
                self.assertTrue(there.exists(), f"{page.name}: {target}")
                if anchor:
                    self.assertIn(anchor, anchors(there.read_text()), f"{page.name}: {target}")

    def test_commands(self):
        known = (ROOT / "docs/cli.md").read_text()
        for page in PAGES:
            for command in set(re.findall(r"(?:^ *|`)lakefall ([a-z]+(?: [a-z]+)?)", page.read_text(), re.M)):
                words = command.split()
                groups = re.findall(rf"^\| `lakefall {words[0]}\b(?: ([a-z\\|-]+))?", known, re.M)
                self.assertTrue(groups, f"{page.name}: lakefall {command}")
                # What follows is a subcommand where the command has some and nothing else.
                if len(words) > 1 and "" not in groups:
                    self.assertIn(words[1], "|".join(groups).replace("\\", "").split("|"), f"{page.name}: lakefall {command}")


class TheRunbook(unittest.TestCase):
    TEXT = (ROOT / "docs/runbook.md").read_text()

    def sections(self) -> dict[str, str]:
        parts = re.split(r"^## (.*)$", self.TEXT, flags=re.M)
        return dict(zip(parts[1::2], parts[2::2]))

    def test_every_alert_of_the_chart_has_a_section_and_every_section_an_alert(self):
        chart = (ROOT / "helm/lakefall/templates/monitoring/_alerts.tpl").read_text()
        alerts = set(re.findall(r"^- alert: (\w+)", chart, re.M))
        self.assertTrue(alerts)
        self.assertEqual({name for name in self.sections() if name.startswith("Lakefall")}, alerts)

    def test_every_section_says_where_to_look_and_what_to_do(self):
        for name, text in self.sections().items():
            self.assertIn("**Look:**", text, name)
            self.assertIn("**Do:**", text, name)
            if name.startswith("Lakefall"):
                self.assertIn("**Means:**", text, name)


if __name__ == "__main__":
    unittest.main()
