"""That the tests of this folder can fail: a fault is put into a copy of the chart, and the test that is for it must find it."""

import os
import pathlib
import shutil
import subprocess
import sys

from chart import CHART

# File below templates/, what is replaced (everywhere in it), by what, and words of the test that must fail then.
FAULTS = [
    ("_pods.tpl", "runAsNonRoot: true", "runAsNonRoot: false", "no_process_is_root"),
    ("_pods.tpl", "drop: [ALL]", "drop: [NET_RAW]", "no_process_is_root"),
    ("_pods.tpl", "automountServiceAccountToken: false", "automountServiceAccountToken: true", "no_pod_has_the_token"),
    ("_pods.tpl", "enableServiceLinks: false", "enableServiceLinks: true", "no_pod_gets_the_variables"),
    ("_pods.tpl", "path: /readyz", "path: /ready", "every_server_is_probed"),
    ("_pods.tpl", "add $drain 999) 1000) 10", "add $drain 999) 1000) 5", "longer_than_its_drain"),
    ("_pods.tpl", '"receipts-key")', '"receipts")', "every_file_that_the_settings_name"),
    ("_pods.tpl", "LAKEFALL_METADATA__ADVERTISE", "LAKEFALL_METADATA__ADVERTISED", "every_variable_is_a_setting"),
    ("_settings.tpl", '"token_file"', '"tokenfile"', "every_setting_in_a_configmap"),
    ("_settings.tpl", '"password_file" (printf "%s/database-password" $secrets)', '"password" "hunter2"', "no_secret_stands_in"),
    ("_settings.tpl", '"server_name" (include "lakefall.rpcName" $root)', '"server_name" "metadata"', "certificates_bear_the_name"),
    ("_checks.tpl", "134217728", "134217729", "defaults_that_templates_reckon"),
    ("_pods.tpl", '"telemetry-headers")', '"headers")', "every_file_that_the_settings_name"),
    ("_network.tpl", "port: 8082", "port: 8083", "what_one_pod_may_send"),
    ("networkpolicies.yaml", '"app.kubernetes.io/component" | toYaml', '"component" | toYaml', "every_pod_is_under_a_policy"),
    ("gateway.yaml", "targetPort: http", "targetPort: admin", "no_service_of_clients"),
    ("gateway.yaml", "revisionHistoryLimit", "revisionHistory", "one_by_the_schemas"),
    ("autoscaling.yaml", "maxReplicaCount", "maxReplicas", "decodes_strictly"),
    ("autoscaling.yaml", "lakefall_produced_bytes_total", "lakefall_produced_byte_total", "every_query_is_one"),
    ("monitoring/_alerts.tpl", 'outcome="failed"}[10m]', 'outcome="broken"}[10m]', "every_query_is_one"),
    ("monitoring/_alerts.tpl", "alert: LakefallErrors", "alert: LakefallMistakes", "every_alert_has_its_page"),
    ("migration.yaml", "pre-install,pre-upgrade", "post-install,post-upgrade", "the_migration_runs_before"),
    ("evaluation/secret.yaml", "helm.sh/resource-policy: keep", "helm.sh/resource-policy: drop", "an_uninstall_deletes_no_data"),
    ("metadata.yaml", "clusterIP: None", "type: ClusterIP", "by_the_name_of_the_headless"),
]


def test_a_fault_that_is_planted_in_the_chart_is_found_by_the_test_that_is_for_it(tmp):
    if "LAKEFALL_TEST_CHART" in os.environ:
        return "this is a copy with a fault in it"
    run = pathlib.Path(__file__).parent / "run.py"
    for number, (name, old, new, words) in enumerate(FAULTS):
        copy = shutil.copytree(CHART, tmp / str(number) / "lakefall")
        path = copy / "templates" / name
        text = path.read_text()
        assert old in text, f"{name} has no {old!r}: plant another fault"
        path.write_text(text.replace(old, new))
        done = subprocess.run(
            [sys.executable, run, words], env=os.environ | {"LAKEFALL_TEST_CHART": str(copy)}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1 and "1 failed" in done.stdout, f"{name}: {old!r} as {new!r} is not found:\n{done.stdout}{done.stderr}"
    return None
