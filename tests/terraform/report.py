"""Says of a `terraform test -json` what passed, and of what failed why:  report.py NAME FILE"""

import json
import sys

name, path = sys.argv[1:]
for line in open(path):
    message = json.loads(line)
    kind = message.get("type")
    if kind == "test_run" and message["test_run"].get("progress", "complete") == "complete":
        run = message["test_run"]
        print(f"{name}: {run['run']}: {run['status']}")
    elif kind == "diagnostic" and message["diagnostic"]["severity"] == "error":
        told = message["diagnostic"]
        where = told.get("range", {})
        print(f"  {where.get('filename', '')}:{where.get('start', {}).get('line', '')}: {told['summary']}: {told['detail']}")
    elif kind == "test_summary":
        summary = message["test_summary"]
        print(f"{name}: {summary['passed']} passed, {summary['failed'] + summary['errored']} failed")
