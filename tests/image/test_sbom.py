"""The bill of materials (.ci/sbom): its form by CycloneDX's own schema, its content against cargo."""

import json
import subprocess
import unittest
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).resolve().parents[2]

class BillOfMaterials(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.text = cls.make()
        cls.bill = json.loads(cls.text)

    @staticmethod
    def make() -> str:
        return subprocess.run([ROOT / ".ci/sbom"], check=True, stdout=subprocess.PIPE, text=True).stdout

    def test_it_has_the_form_of_cyclonedx(self):
        validator = JsonStrictValidator(SchemaVersion.V1_5)
        self.assertIsNone(validator.validate_str(self.text))
        wrong = {"bomFormat": "CycloneDX", "specVersion": "1.5", "components": [{"type": "library", "nam": "x"}]}
        self.assertIsNotNone(validator.validate_str(json.dumps(wrong)), "the validator lets everything pass")

    def test_it_lists_what_cargo_links_and_nothing_else(self):
        command = "cargo tree --locked --package lakefall --edges normal,no-proc-macro --prefix none --format {p}".split()
        command += ["--target", "x86_64-unknown-linux-gnu"]
        told = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
        linked = {tuple(line.split()[:2]) for line in told.splitlines() if line.strip()}
        listed = {(c["name"], "v" + c["version"]) for c in self.bill["components"] if c["scope"] == "required"}
        product = self.bill["metadata"]["component"]
        self.assertEqual(listed | {(product["name"], "v" + product["version"])}, linked)

    def test_every_component_has_a_licence_and_what_comes_from_a_registry_a_checksum(self):

        for component in self.bill["components"]:
            self.assertTrue(component["licenses"][0]["expression"], component["name"])
            if not component["name"].startswith("lakefall-"):
                self.assertRegex(component["hashes"][0]["content"], "^[0-9a-f]{64}$", component["name"])

    def test_dependencies_name_components(self):
        known = {c["bom-ref"] for c in self.bill["components"]} | {self.bill["metadata"]["component"]["bom-ref"]}
        self.assertEqual({d["ref"] for d in self.bill["dependencies"]}, known)
        for dependency in self.bill["dependencies"]:
            self.assertLessEqual(set(dependency["dependsOn"]), known, dependency["ref"])

    def test_the_same_lock_file_makes_the_same_bill(self):
        self.assertEqual(self.make(), self.text)

if __name__ == "__main__":
    unittest.main()
