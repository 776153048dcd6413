"""Runs the tests of the chart: every function `test_…` of the modules named below, each a sentence. Ends with how many passed."""

import importlib
import inspect
import pathlib
import sys
import tempfile
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).parent))
MODULES = ["rendering", "policies", "truth", "processes", "planted"]


def main():
    wanted = sys.argv[1:]
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for module in map(importlib.import_module, MODULES):
        for name, test in vars(module).items():
            if not name.startswith("test_") or (wanted and not any(word in name for word in wanted)):
                continue
            started = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                arguments = {"tmp": pathlib.Path(folder)} if "tmp" in inspect.signature(test).parameters else {}
                try:
                    said = test(**arguments)
                    outcome = "skipped" if said else "passed"
                except Exception:  # noqa: BLE001 -- whatever a test raises is its failure
                    outcome, said = "failed", traceback.format_exc()
            counts[outcome] += 1
            sentence = name.removeprefix("test_").replace("_", " ")
            print(f"{outcome:<8} {sentence} ({time.monotonic() - started:.1f} s){': ' if said else ''}{said or ''}", flush=True)
    print(f"chart: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
