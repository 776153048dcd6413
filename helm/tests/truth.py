"""That what the chart says of the executable is true: settings, variables, commands, ports, paths, metrics; and that its documents say
what there is. It judges by the repository's sources and docs, and by the executable itself where one is built."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

import promql_parser
import yaml

from chart import CASES, CHART, ROOT, objects, of_kind, pods, role_pods, settings

sys.path.insert(0, str(ROOT / "helm/tools"))
import values as made  # noqa: E402 -- the tool beside the tests, whose reading of the docs is shared

DOCS = ROOT / "docs/deploy-kubernetes.md"
RUNBOOK = ROOT / "docs/runbook.md"
# What others add to a metric: Prometheus, the chart's monitors, and histograms themselves.
GIVEN_LABELS = {"namespace", "lakefall", "role", "pod", "le", "__name__"}
GIVEN_METRICS = {"up"}


def known_settings():
    return {key: default for key, default, _, _ in made.settings()}


def sources():
    """Every Rust file that is no test, as one text."""
    listed = subprocess.run(["git", "ls-files", "*.rs"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return "\n".join((ROOT / path).read_text() for path in listed if "tests" not in path.split("/"))


SOURCES = sources()


def test_every_setting_in_a_configmap_is_one_of_the_executable():
    known, seen = known_settings(), 0
    for case in CASES:
        for role in ("gateway", "metadata", "compactor"):
            for key in settings(case, role):
                assert key in known, f"{case}: {role} is given {key}"
                seen += 1
    assert seen > 100, f"only {seen} settings were looked at"


def test_every_variable_is_a_setting_or_one_that_the_executable_reads():
    known = known_settings()
    for case in CASES:
        for where, _, spec in pods(case):
            for one in spec["containers"][0].get("env", []):
                name = one["name"]
                if name == "LAKEFALL_CONFIG":
                    assert f'"{name}"' in SOURCES
                elif name.startswith("LAKEFALL_"):
                    assert name.removeprefix("LAKEFALL_").lower().replace("__", ".") in known, f"{where}: {name}"


def test_defaults_that_templates_reckon_with_are_those_of_the_settings():
    known, seen = known_settings(), 0
    for path in CHART.glob("templates/**/*.*"):
        for section, key, default in re.findall(r'"lakefall\.setting" \(list \S+ \S+ "(\w+)" "(\w+)" (\d+)\)', path.read_text()):
            assert known[f"{section}.{key}"] == default, f"{path.name}: {section}.{key}"
            seen += 1
    assert seen >= 8, f"only {seen} were found"


def test_ports_and_paths_are_those_of_the_executable():
    known = known_settings()
    assert known["listen"].endswith(":8080") and known["admin_listen"].endswith(":8081") and known["metadata.listen"].endswith(":8082")
    ports = {"http": ("listen", 8080), "admin": ("admin_listen", 8081), "rpc": ("metadata.listen", 8082)}
    for case in CASES:
        for role, (where, _, spec) in role_pods(case).items():
            for port in spec["containers"][0]["ports"]:
                key, number = ports[port["name"]]
                assert port["containerPort"] == number and settings(case, role)[key].endswith(f":{number}"), where
    for path in ("/healthz", "/readyz", "/metrics"):
        assert f'.route("{path}"' in (ROOT / "service/src/admin.rs").read_text(), path
    margin = re.search(r"STOP_MARGIN: Duration = Duration::from_secs\((\d+)\)", (ROOT / "cli/src/roles/mod.rs").read_text())
    assert margin and margin[1] == "5", "the grace of pods reckons with 5 s beyond http.drain_ms"


def test_every_command_in_a_pod_or_a_document_is_one_of_the_executable():
    commands = set(re.findall(r"(?m)^    /// .*\n    (?:#\[.*\n    )*([A-Z]\w+)[({ ]", (ROOT / "cli/src/args.rs").read_text()))
    used = set()
    for case in CASES:
        for where, _, spec in pods(case):
            for one in spec["containers"]:
                if "lakefall" in one["image"]:
                    used.add(one["args"][0])
    for path in (DOCS, RUNBOOK, CHART / "README.md"):
        used |= set(re.findall(r"(?m)(?:^|`|-- )lakefall ([a-z]+)", path.read_text()))
    assert {"gateway", "metadata", "compactor", "bucket", "topic"} <= used, used
    for word in used:
        assert word.capitalize() in commands, f"lakefall {word} is no command: {commands}"
    assert "Migrate(MigrateArgs)" in SOURCES and "Init(InitArgs)" in SOURCES


def test_the_executable_takes_the_settings_of_every_role_in_every_case(tmp):
    executable = os.environ.get("LAKEFALL_TEST_EXECUTABLE", str(ROOT / "target/debug/lakefall"))
    if not os.access(executable, os.X_OK):
        return "no executable is built (LAKEFALL_TEST_EXECUTABLE)"
    for case in CASES:
        for role, (_, _, spec) in role_pods(case).items():
            file = tmp / f"{case}-{role}.toml"
            config = next(one for one in of_kind(case, "ConfigMap") if one["metadata"]["name"].endswith(f"-{role}"))
            file.write_text(config["data"]["lakefall.toml"])
            given = {one["name"]: one.get("value", "a" * 40) for one in spec["containers"][0]["env"] if one["name"].startswith("LAKEFALL_")}
            given["LAKEFALL_CONFIG"] = str(file)
            done = subprocess.run([executable, "config", "print", "--cluster"], env=given, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{case}, {role}: {done.stderr}"
    return None


def metric_names():
    """Names of metrics by kind, from the constants of each crate and the macros that use them."""
    names = set(re.findall(r'const \w+: &str = "(lakefall_\w+)"', SOURCES)) | set(re.findall(r'"(process_\w+)"', SOURCES))
    histograms = {name for name in names if name.endswith(("_seconds", "_bytes", "_commands", "_asks"))}
    return names | {f"{name}_bucket" for name in histograms}


def expressions():
    """Every query of alerts, dashboards and autoscalers, with where it stands."""
    for case in CASES:
        for one in of_kind(case, "PrometheusRule"):
            for group in one["spec"]["groups"]:
                for rule in group["rules"]:
                    yield f"{case}: {rule['alert']}", rule["expr"]
        for one in of_kind(case, "ScaledObject"):
            for trigger in one["spec"]["triggers"]:
                if "query" in trigger["metadata"]:
                    yield f"{case}: {one['metadata']['name']}", trigger["metadata"]["query"]
    for path in sorted(CHART.glob("dashboards/*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.name}: {panel['title']}", target["expr"].replace("$__rate_interval", "5m")


def selectors(node):
    """The vector selectors in a parsed query."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for part in ("expr", "lhs", "rhs", "vector_selector", "param"):
        inner = getattr(node, part, None)
        if inner is not None and not isinstance(inner, str):
            yield from selectors(inner)
    for inner in getattr(node, "args", None) or []:
        yield from selectors(inner)


def test_every_query_is_one_of_prometheus_and_asks_for_metrics_labels_and_values_that_exist():
    names, labels, seen = metric_names(), set(re.findall(r'"(\w+)" =>', SOURCES)), 0
    for where, text in expressions():
        found = list(selectors(promql_parser.parse(text)))
        assert found, f"{where} asks for nothing: {text}"
        for one in found:
            assert one.name in names | GIVEN_METRICS, f"{where}: there is no metric {one.name}"
            matchers = {match.name: match.value for match in one.matchers.matchers}
            assert {"namespace", "lakefall"} <= set(matchers), f"{where} asks for other clusters too: {text}"
            assert set(matchers) <= labels | GIVEN_LABELS, f"{where}: {matchers}"
            for label, value in matchers.items():
                if label not in GIVEN_LABELS and label != "status":
                    for word in value.split("|"):
                        assert f'"{word}"' in SOURCES, f"{where}: {label} is never {word}"
            seen += 1
        for group in re.findall(r"by \(([^)]*)\)", text):
            for label in filter(None, re.split(r"[, ]+", group)):
                assert label in labels | GIVEN_LABELS, f"{where}: there is no label {label}"
    assert seen > 120, f"only {seen} were looked at"


def test_a_metric_that_does_not_exist_would_be_found():
    assert "lakefall_buffer_byte" not in metric_names() and "lakefall_produce_seconds_bucket" in metric_names()
    assert [one.name for one in selectors(promql_parser.parse("max(a{x='1'}) / on () sum(rate(b[5m])) > 1"))] == ["a", "b"]


def test_every_alert_has_its_page_in_the_runbook_and_every_page_its_alert():
    text = (CHART / "templates/monitoring/_alerts.tpl").read_text()
    alerts = set(re.findall(r"(?m)^- alert: (\w+)$", text))
    pages = set(re.findall(r"(?m)^## (Lakefall\w+)$", RUNBOOK.read_text()))
    assert alerts == pages, f"without a page: {sorted(alerts - pages)}; without an alert: {sorted(pages - alerts)}"
    rendered = {}
    for one in of_kind("aws", "PrometheusRule"):
        rendered |= {rule["alert"]: rule for rule in one["spec"]["groups"][0]["rules"]}
    assert set(rendered) == alerts - {"LakefallCacheDiskOff"}, "the one that is disabled alone is missing"
    for name, rule in rendered.items():
        assert rule["annotations"]["runbook_url"].endswith(f"#{name.lower()}"), name
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert rule["annotations"]["summary"].endswith("."), name


def test_values_that_documents_name_exist():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    settings_known, seen = known_settings(), 0
    for path in (DOCS, RUNBOOK, CHART / "README.head.md", CHART / "templates/NOTES.txt"):
        text = path.read_text()
        named = set(re.findall(r"--set(?:-string)? ([A-Za-z][\w.]*)=", text))
        chapters = "gateway|compactor|migration|secrets|rpcTLS|networkPolicy|monitoring|evaluation|podSecurity"
        named |= set(re.findall(rf"`((?:{chapters})\.[\w.]+)`", text)) - set(settings_known)
        for one in named:
            seen += 1
            if one.startswith("config."):
                assert one.removeprefix("config.") in settings_known, f"{path.name}: {one}"
                continue
            node = values
            for part in one.split("."):
                assert isinstance(node, dict) and part in node, f"{path.name} names {one}"
                node = node[part]
    assert seen > 20, f"only {seen} were found"


def test_documents_link_to_files_and_headings_that_exist():
    def anchors(path):
        heads = re.findall(r"(?m)^#+ (.+)$", path.read_text())
        return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}

    for path in (DOCS, RUNBOOK, CHART / "README.md"):
        for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
            if "://" in link:
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            assert target.exists(), f"{path.name}: {link}"
            assert not anchor or anchor in anchors(target), f"{path.name}: {link}"


def test_manifests_and_values_in_the_documents_are_what_they_say(tmp):
    import kubernetes_validate

    from chart import refusal

    text, manifests, taken = DOCS.read_text(), 0, 0
    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        one = yaml.safe_load(block)
        if "kind" in one:
            kubernetes_validate.validate(one, "1.37", strict=True)
            for variable in one["spec"]["containers"][0]["env"]:
                assert variable["name"].removeprefix("LAKEFALL_").lower().replace("__", ".") in known_settings(), variable
            manifests += 1
        elif "rules" not in one:
            one.get("image", {}).pop("digest", None)
            said = refusal(one)
            assert said is None, f"{block}: {said}"
            taken += 1
    assert manifests == 1 and taken >= 6, f"{manifests} manifests, {taken} values"


def test_the_s3_server_of_the_evaluation_starts_as_its_pod_says_without_root(tmp):
    server = os.environ.get("LAKEFALL_TEST_S3_SERVER")
    if not server:
        return "no S3 server (LAKEFALL_TEST_S3_SERVER)"
    spec = next(spec for where, labels, spec in pods("evaluation") if labels["app.kubernetes.io/component"] == "s3")
    container = spec["containers"][0]
    version = container["image"].rpartition(":v")[2]
    assert version in server, f"{server} is not of version {version}"
    with tempfile.TemporaryDirectory(dir="/tmp") as data:
        import socket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        arguments = [{":7070": f"127.0.0.1:{port}", "/data": data}.get(word, word) for word in container["args"]]
        variables = {one["name"]: "a" * 20 for one in container["env"]}
        more = {}
        if os.geteuid() == 0:
            os.chown(data, 65532, 65532)
            more = {"user": 65532, "group": 65532, "extra_groups": []}
        with subprocess.Popen([server, *arguments], env=variables, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **more) as process:
            try:
                deadline = time.monotonic() + 30
                while True:
                    try:
                        path = container["readinessProbe"]["httpGet"]["path"]
                        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                            assert answer.status == 200
                        break
                    except OSError as error:
                        assert process.poll() is None, process.stderr.read()
                        assert time.monotonic() < deadline, error
                        time.sleep(0.05)
            finally:
                process.terminate()
    return None
