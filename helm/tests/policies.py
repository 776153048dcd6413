"""What every object of the chart must keep to, whatever the values: the rules that a cluster's own policies ask for."""

import re

import chart
from chart import CASES, component, named, objects, of_kind, pods, role_pods, settings, text

# Names of settings and variables whose value is a secret. What names a file of one is none.
SECRET = re.compile(r"(?i)(password|secret|token|access_key|private|credential|receipts.*key)")


def containers(spec):
    return spec.get("initContainers", []) + spec["containers"]


def test_no_process_is_root_or_may_become_more_than_it_is():
    seen = 0
    for case in CASES:
        for where, _, spec in pods(case):
            seen += 1
            security = spec["securityContext"]
            assert security["runAsNonRoot"] is True, where
            assert case == "bare" or (security["runAsUser"] > 0 and security["fsGroup"] > 0), where
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}, where
            assert not any(spec.get(word) for word in ("hostNetwork", "hostPID", "hostIPC")), where
            for one in containers(spec):
                assert one["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }, where
            for volume in spec.get("volumes", []):
                assert set(volume) - {"name"} <= {"configMap", "secret", "projected", "emptyDir"}, f"{where}: {volume}"
    assert seen > 40, f"only {seen} pods were looked at"


def test_no_pod_has_the_token_of_its_account_as_none_asks_the_cluster():
    for case in CASES:
        for where, _, spec in pods(case):
            assert spec["automountServiceAccountToken"] is False, where
        for one in of_kind(case, "ServiceAccount"):
            assert one["automountServiceAccountToken"] is False, one["metadata"]["name"]
        assert not of_kind(case, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"), case


def test_no_pod_gets_the_variables_of_services_which_lakefall_would_take_for_settings():
    for case in CASES:
        for where, _, spec in pods(case):
            assert spec["enableServiceLinks"] is False, where


def test_every_container_says_what_it_needs_and_at_most_gets():
    for case in CASES:
        for where, _, spec in pods(case):
            for one in containers(spec):
                for kind in ("requests", "limits"):
                    assert {"cpu", "memory", "ephemeral-storage"} <= set(one["resources"][kind]), f"{where}: {kind}"
            for volume in spec.get("volumes", []):
                assert "emptyDir" not in volume or volume["emptyDir"].get("sizeLimit"), f"{where}: {volume}"


def test_every_server_is_probed_and_the_roles_on_their_admin_port():
    for case in CASES:
        for where, labels, spec in pods(case):
            if component(labels) in ("migration", "bucket", "test"):
                continue
            for one in spec["containers"]:
                for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                    assert probe in one, f"{where}: {probe}"
        for role, (where, _, spec) in role_pods(case).items():
            paths = {probe: spec["containers"][0][probe]["httpGet"] for probe in ("livenessProbe", "readinessProbe")}
            assert paths == {
                "livenessProbe": {"path": "/healthz", "port": "admin"},
                "readinessProbe": {"path": "/readyz", "port": "admin"},
            }, f"{where} ({role})"


def test_no_secret_stands_in_a_configmap_an_argument_or_a_variable():
    for case in CASES:
        for one in of_kind(case, "ConfigMap"):
            if "lakefall.toml" not in one["data"]:
                continue
            for line in one["data"]["lakefall.toml"].splitlines():
                key = line.split("=")[0].strip()
                assert key.endswith("_file") or line.startswith("[") or not SECRET.search(key), f"{case}: {line}"
                assert not re.search(r"://[^/@\s]*:[^/@\s]*@", line), f"{case}: a password in {line}"
        for where, _, spec in pods(case):
            for one in containers(spec):
                for word in one.get("args", []) + one.get("command", []):
                    assert not SECRET.search(word) and "@" not in word, f"{where}: {word}"
                for variable in one.get("env", []):
                    named_secret = SECRET.search(variable["name"]) and not re.search("(_FILE|_CREDENTIALS)$", variable["name"])
                    assert not named_secret or "secretKeyRef" in variable.get("valueFrom", {}), f"{where}: {variable['name']}"


def test_the_chart_makes_no_secret_but_the_drawn_one_of_the_evaluation():
    for case in CASES:
        secrets = of_kind(case, "Secret")
        assert len(secrets) == (case == "evaluation"), case
    first = chart.run("template", "queue", chart.CHART, "--kube-version", "1.37", "--values", CASES["evaluation"])[1]
    second = chart.run("template", "queue", chart.CHART, "--kube-version", "1.37", "--values", CASES["evaluation"])[1]
    drawn = [re.findall(r'(?m)^  (?:token|password|access-key-id): "(.+)"$', one) for one in (first, second)]
    assert len(drawn[0]) == 3 and not set(drawn[0]) & set(drawn[1]), "what is drawn is not drawn anew"


def test_a_role_is_given_the_secrets_that_it_needs_and_no_other():
    for case in CASES:
        for role, (where, _, spec) in role_pods(case).items():
            variables = {one["name"] for one in spec["containers"][0]["env"]}
            files = {
                item["path"]
                for volume in spec["volumes"]
                for source in volume.get("projected", {}).get("sources", [])
                for item in source.get("secret", source.get("configMap", {}))["items"]
            }
            if role == "metadata":
                assert not any(name.startswith(("LAKEFALL_STORE", "AWS", "AZURE", "GOOGLE")) for name in variables), where
                assert "receipts-key" not in files, where
            else:
                assert "database-password" not in files and "database-ca.crt" not in files, where
                assert not any(key.startswith("metadata.postgres") or key == "metadata.url" for key in settings(case, role)), where
            if role == "compactor":
                assert "receipts-key" not in files and "LAKEFALL_RECEIPTS__PREVIOUS" not in variables, where
            if role != "gateway":
                assert not any(key.startswith("receipts") for key in settings(case, role)), where


def test_every_file_that_the_settings_name_is_mounted_read_only():
    seen = 0
    for case in CASES:
        for role, (where, _, spec) in role_pods(case).items():
            mounts = {one["mountPath"]: one for one in spec["containers"][0]["volumeMounts"]}
            volumes = {one["name"]: one for one in spec["volumes"]}
            for key, value in settings(case, role).items():
                if not isinstance(value, str) or not value.startswith("/"):
                    continue
                if key == "cache.disk_path":
                    assert "emptyDir" in volumes[mounts[value]["name"]] and not mounts[value].get("readOnly"), where
                    continue
                seen += 1
                folder, _, name = value.rpartition("/")
                mount = mounts[folder]
                assert mount["readOnly"] is True, f"{where}: {folder}"
                volume = volumes[mount["name"]]
                if "secret" in volume:
                    assert name in ("ca.crt", "tls.crt", "tls.key"), f"{where}: {value}"
                else:
                    items = [item["path"] for source in volume["projected"]["sources"] for item in source.get("secret", source.get("configMap"))["items"]]
                    assert name in items, f"{where}: {key} names {value}, which is not mounted"
    assert seen > 40, f"only {seen} files were looked at"


def policies_of(case, labels):
    """The policies that choose a pod."""
    return [one for one in of_kind(case, "NetworkPolicy") if one["spec"]["podSelector"].get("matchLabels", {}).items() <= labels.items()]


def test_every_pod_is_under_a_policy_that_denies_and_one_that_allows_what_its_role_needs():
    for case in CASES:
        if case == "bare":
            assert not of_kind(case, "NetworkPolicy")
            continue
        for where, labels, _ in pods(case):
            found = policies_of(case, labels)
            assert len(found) == 2, f"{where} is under {[one['metadata']['name'] for one in found]}"
            for one in found:
                assert one["spec"]["policyTypes"] == ["Ingress", "Egress"], where
            assert sum(not one["spec"].get("ingress") and not one["spec"].get("egress") for one in found) >= 1, where


def chooses(peer, labels):
    """Whether a peer of a policy is a pod of this namespace with these labels."""
    selector = peer.get("podSelector")
    return selector is not None and "namespaceSelector" not in peer and selector.get("matchLabels", {}).items() <= labels.items()


def test_what_one_pod_may_send_to_another_of_the_chart_that_one_may_take():
    pairs = 0
    for case in CASES:
        if case == "bare":
            continue
        everyone = [(labels, policies_of(case, labels)) for _, labels, _ in pods(case)]
        for labels, policies in everyone:
            for rule in [rule for one in policies for rule in one["spec"].get("egress", [])]:
                for peer in rule["to"]:
                    match = peer.get("podSelector", {}).get("matchLabels")
                    if not match or "namespaceSelector" in peer:
                        continue
                    for target, theirs in everyone:
                        if not match.items() <= target.items():
                            continue
                        for port in rule["ports"]:
                            taken = [
                                one
                                for policy in theirs
                                for one in policy["spec"].get("ingress", [])
                                if port in one["ports"] and any(chooses(source, labels) for source in one["from"])
                            ]
                            assert taken, f"{case}: {component(labels)} may send to {component(target)} at {port}, which does not take it"
                            pairs += 1
    assert pairs > 30, f"only {pairs} ways were looked at"


def test_the_database_is_reached_by_replicas_and_the_migration_alone():
    for case, port in (("aws", 5433), ("minimal", 5432), ("evaluation", 5432)):
        reach = {
            component(labels)
            for _, labels, _ in pods(case)
            for one in policies_of(case, labels)
            for rule in one["spec"].get("egress", [])
            if {"protocol": "TCP", "port": port} in rule["ports"]
        }
        assert reach == ({"metadata"} if case == "evaluation" else {"metadata", "migration"}), f"{case}: {reach}"


def test_no_service_of_clients_leads_to_the_admin_port_or_the_replicas_port():
    for case in CASES:
        for one in of_kind(case, "Service"):
            ports = {port["targetPort"] for port in one["spec"]["ports"]}
            kind = one["metadata"]["labels"]["app.kubernetes.io/component"]
            if ports & {"admin", "rpc", 8081, 8082}:
                assert one["spec"].get("clusterIP") == "None" and kind in ("admin", "metadata"), f"{case}: {one['metadata']['name']}"
                assert "type" not in one["spec"], case
        for one in of_kind(case, "Ingress", "HTTPRoute"):
            assert "gateway" in str(one["spec"]) and "admin" not in str(one["spec"]), case


def test_a_pod_is_given_longer_than_its_drain_takes():
    margin = 5
    for case in CASES:
        for role, (where, _, spec) in role_pods(case).items():
            sleep = spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            drain = settings(case, role).get("http.drain_ms", 25000) / 1000
            assert spec["terminationGracePeriodSeconds"] >= sleep + drain + margin + 1, where
            if role != "compactor" and case != "bare":
                assert sleep > 0, f"{where} is told to stop while others still send to it"


def test_what_is_scaled_by_something_else_has_no_number_of_its_own():
    for case in CASES:
        scaled = {one["spec"]["scaleTargetRef"]["name"] for one in of_kind(case, "HorizontalPodAutoscaler", "ScaledObject")}
        for one in of_kind(case, "Deployment"):
            assert ("replicas" in one["spec"]) != (one["metadata"]["name"] in scaled), f"{case}: {one['metadata']['name']}"


def test_the_buffer_that_scales_gateways_is_the_percentage_of_the_buffer_in_the_settings():
    metrics = named("aws", "HorizontalPodAutoscaler", "queue-lakefall-gateway")["spec"]["metrics"]
    target = next(one["pods"] for one in metrics if one["type"] == "Pods")
    assert int(target["target"]["averageValue"]) == settings("aws", "gateway")["ingest.buffer_bytes"] * 40 // 100
    trigger = named("google", "ScaledObject", "queue-lakefall-gateway")["spec"]["triggers"][0]
    assert int(trigger["metadata"]["threshold"]) == 67108864 // 2


def test_compactors_go_to_none_and_are_woken_by_what_is_produced_as_none_tells_the_backlog_then():
    spec = named("google", "ScaledObject", "queue-lakefall-compactor")["spec"]
    assert spec["minReplicaCount"] == 0 and spec["cooldownPeriod"] > 300
    queries = [one["metadata"].get("query", "") for one in spec["triggers"]]
    assert any("lakefall_compactor_backlog_bytes" in one for one in queries)
    assert any("lakefall_produced_bytes_total" in one for one in queries)


def test_other_settings_are_other_pods_of_that_role_alone():
    def sums(*more):
        found = {}
        for one in objects("minimal", "1.37", *more):
            if one["kind"] == "Deployment":
                found[one["metadata"]["labels"]["app.kubernetes.io/component"]] = one["spec"]["template"]["metadata"]["annotations"]["checksum/settings"]
        return found

    before, after = sums(), sums("--set", "config.segment.target_bytes=4194304")
    assert {role for role in before if before[role] != after[role]} == {"gateway"}, (before, after)


def test_an_uninstall_deletes_no_data():
    for case in CASES:
        for one in objects(case):
            hooks = one["metadata"].get("annotations", {}).get("helm.sh/hook", "")
            assert "delete" not in hooks, f"{case}: {one['metadata']['name']} runs at {hooks}"
            assert one["kind"] not in ("PersistentVolumeClaim", "PersistentVolume", "Namespace"), f"{case}: {one['kind']}"
            if one["kind"] == "StatefulSet":
                assert "persistentVolumeClaimRetentionPolicy" not in one["spec"] and one["spec"]["volumeClaimTemplates"], case
            if one["kind"] == "Secret":
                assert one["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep", case


def test_the_migration_runs_before_an_install_and_an_upgrade_with_all_that_it_needs():
    for case in ("minimal", "aws", "azure"):
        hooks = [one for one in objects(case) if one["metadata"].get("annotations", {}).get("helm.sh/hook") == "pre-install,pre-upgrade"]
        assert {one["kind"] for one in hooks} == {"ConfigMap", "ServiceAccount", "NetworkPolicy", "Job"}, case
        weights = {one["kind"]: int(one["metadata"]["annotations"]["helm.sh/hook-weight"]) for one in hooks}
        assert all(weight < weights["Job"] for kind, weight in weights.items() if kind != "Job"), weights
        job = next(one for one in hooks if one["kind"] == "Job")
        assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["metadata", "migrate"]
    owner = settings("aws", "migration")
    assert owner["metadata.url"].startswith("postgres://owner@") and owner["metadata.shards"] == 32, owner


def test_replicas_advertise_the_address_of_their_pod_and_certificates_bear_the_name_that_callers_expect():
    for case in CASES:
        variables = {one["name"]: one for one in role_pods(case)["metadata"][2]["containers"][0]["env"]}
        scheme = "https" if case in ("aws", "certificates") else "http"
        host = "[$(POD_IP)]" if case == "ipv6" else "$(POD_IP)"
        assert variables["LAKEFALL_METADATA__ADVERTISE"]["value"] == f"{scheme}://{host}:8082", case
        assert list(variables).index("POD_IP") < list(variables).index("LAKEFALL_METADATA__ADVERTISE"), case
    for role in ("gateway", "metadata", "compactor"):
        expected = settings("aws", role)["metadata.tls.server_name"]
        assert expected in named("aws", "Certificate", "queue-lakefall-metadata-rpc")["spec"]["dnsNames"], role
    assert "server auth" in named("aws", "Certificate", "queue-lakefall-metadata-rpc")["spec"]["usages"]
    assert "server auth" not in named("aws", "Certificate", "queue-lakefall-gateway-rpc")["spec"]["usages"]


def test_gateways_and_compactors_ask_for_replicas_by_the_name_of_the_headless_service():
    for case in CASES:
        service = next(one for one in of_kind(case, "Service") if one["metadata"]["labels"]["app.kubernetes.io/component"] == "metadata")
        assert service["spec"]["clusterIP"] == "None" and service["spec"]["ports"][0]["port"] == 8082
        for role in ("gateway", "compactor"):
            (endpoint,) = settings(case, role)["metadata.endpoints"]
            assert endpoint.split("://")[1] == f"{service['metadata']['name']}:8082", case


def test_replicas_of_a_role_keep_apart_and_are_not_evicted_together():
    for case in CASES:
        for role in ("gateway", "metadata"):
            _, labels, spec = role_pods(case)[role]
            assert spec["affinity"]["podAntiAffinity"], f"{case}: {role}"
            assert spec["topologySpreadConstraints"], f"{case}: {role}"
            budgets = [one for one in of_kind(case, "PodDisruptionBudget") if one["spec"]["selector"]["matchLabels"].items() <= labels.items()]
            assert len(budgets) == (0 if case == "bare" else 1), f"{case}: {role}"


def test_selectors_never_change_with_versions():
    for case in CASES:
        for one in of_kind(case, "Deployment", "StatefulSet"):
            keys = set(one["spec"]["selector"]["matchLabels"])
            assert keys == {f"app.kubernetes.io/{word}" for word in ("name", "instance", "component")}, keys
            assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(one["spec"]["template"]["metadata"]["labels"]), case


def test_no_object_is_left_in_another_namespace_or_without_the_labels_of_its_release():
    for case in CASES:
        assert "\n\n---\n\n---" not in text(case)
        names = set()
        for one in objects(case):
            assert one["metadata"]["namespace"] == "shop", f"{case}: {one['kind']} {one['metadata']['name']}"
            assert one["metadata"]["labels"]["app.kubernetes.io/instance"] == "queue", case
            key = (one["kind"], one["metadata"]["name"])
            assert key not in names, f"{case}: {key} twice"
            names.add(key)
            assert len(one["metadata"]["name"]) <= 63, key
