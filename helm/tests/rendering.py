"""That the chart renders to what Kubernetes takes, and to what it was before."""

import os
import re
import shutil
import subprocess

import kubernetes_validate
import yaml

from chart import CASES, CHART, ROOT, TESTS, VERSIONS, objects, of_kind, refusal, run, text

GOLDEN = ["minimal", "aws", "google", "evaluation"]
OTHERS = ("cert-manager.io/", "gateway.networking.k8s.io/", "keda.sh/", "monitoring.coreos.com/")

# Values over the smallest ones, and a word of what helm must say to them.
BAD = [
    ({"gatway": {}}, "gatway"),
    ({"gateway": {"replica": 1}}, "replica"),
    ({"gateway": {"replicas": "two"}}, "replicas"),
    ({"config": {"segment": {"target_byte": 1}}}, "target_byte"),
    ({"config": {"segment": {"target_bytes": 1}}}, "target_bytes"),
    ({"config": {"segment": {"target_bytes": 2.5}}}, "target_bytes"),
    ({"config": {"metadata": {"postgres": {"password": "hunter2"}}}}, "password"),
    ({"config": {"metadata": {"token": "hunter2"}}}, "token"),
    ({"config": {"metadata": {"url": "postgres://lakefall:hunter2@db/lakefall"}}}, "config.metadata.url: a password"),
    ({"migration": {"url": "postgres://owner:hunter2@db/lakefall"}}, "migration.url: a password"),
    ({"config": {"telemetry": {"endpoint": "http://me:hunter2@collector:4317"}}}, "config.telemetry.endpoint: a password"),
    *(
        ({role: {"config": {"telemetry": {"endpoint": "http://me:hunter2@collector:4317"}}}}, f"{role}.config.telemetry.endpoint: a password")
        for role in ("gateway", "metadata", "compactor")
    ),
    ({"config": {"metadata": {"url": "sqlite:///tmp/x"}}}, "url"),
    ({"config": {"store": {"secret_access_key": "hunter2"}}}, "secret_access_key"),
    ({"config": {"store": {"url": "memory:///"}}}, "url"),
    ({"config": {"listen": "0.0.0.0:1"}}, "listen"),
    ({"config": {"log": {"format": "xml"}}}, "format"),
    ({"secrets": {"token": {"existingSecret": ""}}}, "secrets.token.existingSecret"),
    ({"rpcTLS": {"enabled": True}}, "rpcTLS.existingSecrets.gateway"),
    ({"gateway": {"ingress": {"enabled": True, "hosts": ["a.example"]}}}, "networkPolicy.ingressControllers"),
    ({"gateway": {"ingress": {"enabled": True}}}, "gateway.ingress.hosts"),
    ({"gateway": {"httpRoute": {"enabled": True}}}, "gateway.httpRoute.parentRefs"),
    ({"gateway": {"autoscaling": {"enabled": True}, "keda": {"enabled": True}}}, "gateway.autoscaling.enabled and gateway.keda.enabled"),
    ({"gateway": {"autoscaling": {"enabled": True, "cpuPercent": 0}}}, "cpuPercent and bufferPercent are both 0"),
    ({"gateway": {"autoscaling": {"enabled": True, "minReplicas": 11}}}, "gateway.autoscaling.minReplicas is 11"),
    ({"gateway": {"resources": {"limits": {"memory": "1Gi"}}}}, "gateway.resources.limits.memory is 1Gi"),
    ({"gateway": {"config": {"sql": {"max_concurrent": 40}}}}, "gateway.resources.limits.memory"),
    ({"gateway": {"resources": {"limits": {"memory": None}}}}, "memory"),
    ({"gateway": {"cacheDisk": {"enabled": True}}}, "ephemeral-storage"),
    ({"gateway": {"extraEnv": [{"name": "LAKEFALL_LOG__LEVEL", "value": "debug"}]}}, "extraEnv"),
    ({"storeEnv": [{"name": "AZURE_STORAGE_ACCOUNT_KEY", "value": "hunter2"}]}, "storeEnv"),
    ({"gateway": {"serviceAccount": {"create": False}}}, "gateway.serviceAccount.name"),
    ({"compactor": {"config": {"compactor": {"threads": 16}}}}, "compactor.resources.limits.memory"),
    ({"image": {"digest": "sha256:1"}}, "digest"),
    ({"podSecurity": {"runAsUser": 0}}, "runAsUser"),
    ({"monitoring": {"rules": {"enabled": True, "disabled": ["NoSuch"]}}}, "no alert NoSuch"),
]


def test_every_case_passes_the_strict_lint():
    for case, path in CASES.items():
        code, out, error = run("lint", "--strict", "--kube-version", VERSIONS[0], CHART, "--values", path)
        assert code == 0, f"{case}:\n{out}{error}"
    assert len(CASES) >= 8, "too few cases"


def test_every_object_is_one_by_the_schemas_of_the_oldest_and_the_newest_kubernetes():
    seen = 0
    for version in VERSIONS:
        for case in CASES:
            for one in objects(case, version):
                if one["apiVersion"].startswith(OTHERS):
                    continue
                try:
                    kubernetes_validate.validate(one, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    raise AssertionError(f"{case}, Kubernetes {version}: {one['kind']} {one['metadata']['name']}: {error.message}") from error
                seen += 1
    assert seen > 300, f"only {seen} objects were looked at"


def test_the_schemas_find_a_field_that_does_not_exist():
    broken = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": [{"port": 1, "targtPort": 1}]}}
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(broken, version, strict=True)
        except kubernetes_validate.ValidationError:
            continue
        raise AssertionError(f"the schema of {version} took it")


def decoded(documents):
    return subprocess.run([os.environ["LAKEFALL_TEST_KINDS"]], input=documents, capture_output=True, text=True, check=False)


def test_every_object_of_another_project_decodes_strictly_into_that_projects_type():
    kinds = set()
    for case in CASES:
        others = [one for one in objects(case) if one["apiVersion"].startswith(OTHERS)]
        if others:
            kinds |= {one["kind"] for one in others}
            done = decoded(yaml.safe_dump_all(others))
            assert done.returncode == 0, f"{case}:\n{done.stdout}{done.stderr}"
            assert done.stdout == f"{len(others)} decoded, 0 failed\n", done.stdout
    assert kinds == {"Certificate", "HTTPRoute", "PodMonitor", "PrometheusRule", "ScaledObject", "ServiceMonitor"}, kinds
    wrong = of_kind("google", "ScaledObject")[0]
    wrong = wrong | {"spec": wrong["spec"] | {"maxReplicas": 3}}
    done = decoded(yaml.safe_dump_all([wrong]))
    assert done.returncode == 1 and "maxReplicas" in done.stdout, done.stdout


def test_the_important_cases_render_as_they_did_when_somebody_last_looked():
    stale = []
    for case in GOLDEN:
        # What is drawn anew each time is no part of it.
        now = re.sub(r'(?m)^(  (?:token|receipts-key|password|access-key-id|secret-access-key): )".*"$', r'\1"(drawn)"', text(case))
        path = TESTS / "golden" / f"{case}.yaml"
        if os.environ.get("UPDATE_GOLDEN"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(now)
        if not path.exists() or path.read_text() != now:
            stale.append(path.name)
    assert not stale, f"{stale} differ: look at `git diff` after .ci/chart --update, and commit what is meant"


def test_values_that_cannot_be_meant_are_refused_by_name():
    assert refusal({}) is None, "the smallest values are refused"
    for values, word in BAD:
        said = refusal(values)
        assert said is not None, f"{values} is taken"
        assert word in said, f"{values}: {word!r} is not in {said}"
        assert "hunter2" not in said, f"a secret is repeated: {said}"


def test_what_must_be_said_is_asked_for_with_an_example():
    token, store, metadata = {"token": {"existingSecret": "lakefall"}}, {"url": "s3://a/b"}, {"url": "postgres://a@b/c"}
    for values, words in [
        ({"config": {"store": store, "metadata": metadata}}, ["secrets.token.existingSecret", "kubectl create secret generic"]),
        ({"secrets": token, "config": {"metadata": metadata}}, ["config.store.url", "s3://bucket/prefix"]),
        ({"secrets": token, "config": {"store": store}}, ["config.metadata.url", "postgres://user@host/database"]),
    ]:
        said = refusal(values, over=())
        assert said and all(word in said for word in words), f"{values}: {said}"


def test_the_package_renders_like_the_folder(tmp):
    code, out, error = run("package", CHART, "--destination", tmp)
    assert code == 0, error
    code, packed, error = run("template", "queue", *tmp.glob("*.tgz"), "--namespace", "shop", "--kube-version", VERSIONS[-1], "--values", CASES["aws"])
    assert (code, packed) == (0, text("aws")), error


def test_the_notes_give_commands_that_name_what_is_there(tmp):
    # Helm shows notes only where it reaches a cluster: here they are what a ConfigMap of a copy of the chart holds.
    copy = shutil.copytree(CHART, tmp / "lakefall")
    (copy / "templates/NOTES.txt").rename(copy / "notes")
    head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes}\ndata:\n  notes: |\n"
    (copy / "templates/notes.yaml").write_text(head + '    {{- tpl (.Files.Get "notes") . | nindent 4 }}\n')
    for case in ("minimal", "aws", "google", "evaluation"):
        code, out, error = run("template", "queue", copy, "--namespace", "shop", "--values", CASES[case], "--show-only", "templates/notes.yaml")
        assert code == 0, error
        notes = yaml.safe_load(out)["data"]["notes"]
        services = {one["metadata"]["name"] for one in of_kind(case, "Service")}
        for service in re.findall(r"service/(\S+)", notes):
            assert service in services, f"{case}: there is no Service {service}"
        assert "asks nobody who they are" in notes and ("NOT FOR PRODUCTION" in notes) == (case == "evaluation"), notes


def test_what_is_made_from_values_and_settings_is_fresh():
    import sys

    for tool in ("values.py", "dashboards.py"):
        done = subprocess.run([sys.executable, ROOT / "helm/tools" / tool, "--check"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
