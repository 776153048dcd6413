"""What the modules of terraform/ make, judged: who may do what, what is encrypted, what is public, what is kept from the state.

`.ci/terraform` runs the modules with mocked clouds and then this.
"""

import json
import re
import unittest

import jsonschema

import modules
from policy import decide

ROOT_ARN = "arn:aws:iam::123456789012:root"
ROLE = "arn:aws:iam::123456789012:role/lakefall-"
ADMIN = "arn:aws:iam::123456789012:role/admin"
RUNS = {
    "aurora_with_service_accounts": ("lakefall-123456789012-eu-central-1", ""),
    "rds_with_pod_identity_below_a_prefix": ("acme-lakefall", "teams/a/"),
    "no_database_and_tasks_instead_of_pods": ("lakefall-123456789012-eu-central-1", ""),
}
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Sid": "All", "Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
SEGMENT, TABLE = "seg/0a/0190.seg", "tables/default/orders/date=2026-01-31/0-9-0190.parquet"
HINT, DOCUMENT, MARK = (
    "tables/default/orders/_iceberg/metadata/version-hint.text",
    "tables/default/orders/_iceberg/metadata/v3.metadata.json",
    "meta/mark.json",
)


class Aws:
    """A deployment to try requests on."""

    def __init__(self, run: str):
        self.bucket, self.root = RUNS[run]
        told = modules.outputs("aws", run)
        self.policies = {name: json.loads(text) for name, text in told["policies"].items()}
        self.of_bucket = json.loads(told["bucket_policy"])
        of_role: dict[str, list[dict]] = {}
        for made in modules.resources("aws", run, "aws_iam_role_policy"):
            of_role.setdefault(made["role"].removeprefix("lakefall-"), []).append(json.loads(made["policy"]))
        self.of_role = of_role

    def may(self, role: str, action: str, key: str | None, **context: str) -> bool:
        known = {"aws:SecureTransport": "true", "s3:TlsVersion": "1.3", "s3:ObjectCreationOperation": "true"}
        known |= {"aws:PrincipalArn": ROLE + role}
        known |= {name.replace("__", ":").replace("_", "-"): value for name, value in context.items()}
        arn = f"arn:aws:s3:::{self.bucket}" + ("" if key is None else f"/{key}")
        return decide(self.of_role[role], self.of_bucket, action, arn, known)

    def puts(self, role: str, key: str, new: bool) -> bool:
        return self.may(role, "s3:PutObject", self.root + key, **({"s3__if_none_match": "*"} if new else {}))

    def reads(self, role: str, key: str) -> bool:
        return self.may(role, "s3:GetObject", self.root + key)

    def deletes(self, role: str, key: str) -> bool:
        return self.may(role, "s3:DeleteObject", self.root + key)

    def lists(self, role: str, prefix: str | None) -> bool:
        return self.may(role, "s3:ListBucket", None, **({} if prefix is None else {"s3__prefix": prefix}))


class EachRoleOfAwsMayDoWhatItMustAndNothingElse(unittest.TestCase):
    def each(self):
        return [Aws(run) for run in RUNS]

    def test_a_gateway_creates_segments_and_overwrites_none(self):
        for aws in self.each():
            self.assertTrue(aws.puts("gateway", SEGMENT, new=True))
            self.assertFalse(aws.puts("gateway", SEGMENT, new=False), "a PUT without If-None-Match was let through")

    def test_the_roles_own_policies_keep_records_from_being_overwritten_whatever_the_buckets_says(self):
        for aws in self.each():
            aws.of_bucket = {"Statement": []}
            for role in ("gateway", "compactor"):
                self.assertTrue(aws.puts(role, SEGMENT, new=True))
                self.assertFalse(aws.puts(role, SEGMENT, new=False), role)
            self.assertFalse(aws.puts("compactor", TABLE, new=False))

    def test_a_gateway_reads_records_of_every_level_and_deletes_none(self):
        for aws in self.each():
            self.assertTrue(aws.reads("gateway", SEGMENT) and aws.reads("gateway", TABLE))
            for key in (SEGMENT, TABLE, HINT, MARK):
                self.assertFalse(aws.deletes("gateway", key), key)
                self.assertFalse(aws.may("gateway", "s3:DeleteObjectVersion", aws.root + key), key)

    def test_a_gateway_writes_nothing_but_segments(self):
        for aws in self.each():
            for key in (TABLE, HINT, MARK, "other/file"):
                self.assertFalse(aws.puts("gateway", key, new=True), key)

    def test_a_gateway_lists_its_prefixes_and_nothing_outside(self):
        for aws in self.each():
            self.assertTrue(aws.lists("gateway", aws.root + "seg/0a/"))
            for prefix in (None, "", aws.root + "meta/", "other/"):
                self.assertFalse(aws.lists("gateway", prefix), prefix)

    def test_a_compactor_makes_segments_and_tables_and_moves_hints(self):
        for aws in self.each():
            self.assertTrue(aws.puts("compactor", SEGMENT, new=True) and aws.puts("compactor", TABLE, new=True))
            self.assertTrue(aws.puts("compactor", DOCUMENT, new=True) and aws.puts("compactor", HINT, new=False))
            self.assertFalse(aws.puts("compactor", TABLE, new=False), "records were overwritten")
            self.assertFalse(aws.puts("compactor", SEGMENT, new=False), "records were overwritten")

    def test_the_collector_within_the_compactor_deletes_records_and_keeps_the_mark(self):
        for aws in self.each():
            for key in (SEGMENT, TABLE, DOCUMENT):
                self.assertTrue(aws.deletes("compactor", key), key)
            self.assertTrue(aws.reads("compactor", MARK) and aws.puts("compactor", MARK, new=False))
            self.assertFalse(aws.deletes("compactor", MARK))
            self.assertFalse(aws.may("compactor", "s3:DeleteObjectVersion", aws.root + SEGMENT), "old versions are the way back")

    def test_nobody_reaches_what_is_outside_of_the_prefix(self):
        aws = Aws("rds_with_pod_identity_below_a_prefix")
        for role in ("gateway", "compactor"):
            for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
                self.assertFalse(aws.may(role, action, SEGMENT, s3__if_none_match="*"), f"{role} {action}")

    def test_compaction_alone_could_delete_no_record(self):
        for aws in self.each():
            aws.of_role["compactor"] = [aws.policies["compactor"]]
            self.assertFalse(aws.deletes("compactor", SEGMENT) or aws.deletes("compactor", TABLE))
            self.assertTrue(aws.deletes("compactor", DOCUMENT))

    def test_no_policy_names_everything(self):
        for aws in self.each():
            for name, policy in aws.policies.items():
                for statement in policy["Statement"]:
                    for action in statement["Action"]:
                        self.assertNotIn("*", action, name)
                    for resource in statement["Resource"]:
                        self.assertNotEqual(resource, "*", name)
                        self.assertTrue(resource.startswith(f"arn:aws:s3:::{aws.bucket}") or ":kms:" in resource, resource)

    def test_the_key_is_used_through_the_bucket_only(self):
        for aws in self.each():
            for policy in aws.policies.values():
                (statement,) = [s for s in policy["Statement"] if any(a.startswith("kms:") for a in s["Action"])]
                self.assertEqual(sorted(statement["Action"]), ["kms:Decrypt", "kms:GenerateDataKey"])
                self.assertEqual(statement["Condition"]["StringEquals"]["kms:ViaService"], "s3.eu-central-1.amazonaws.com")
                self.assertIn(f"arn:aws:s3:::{aws.bucket}", statement["Condition"]["StringLike"]["kms:EncryptionContext:aws:s3:arn"])


class TheBucketOfAwsRefusesWhoeverAsks(unittest.TestCase):
    def ask(self, run: str, action: str, key: str, principal: str = ROOT_ARN, **changed: str | None) -> bool:
        aws = Aws(run)
        context = {"aws:SecureTransport": "true", "s3:TlsVersion": "1.2", "aws:PrincipalArn": principal}
        context |= {"s3:ObjectCreationOperation": "true", "s3:if-none-match": "*"}
        context |= {"aws:SecureTransport": changed["tls"]} if "tls" in changed else {}
        context |= {"s3:TlsVersion": changed["version"]} if "version" in changed else {}
        context |= {"s3:if-none-match": changed["match"]} if "match" in changed else {}
        return decide([EVERYTHING], aws.of_bucket, action, f"arn:aws:s3:::{aws.bucket}/{aws.root}{key}", context)

    def test_plain_text_and_old_tls(self):
        for run in RUNS:
            self.assertTrue(self.ask(run, "s3:GetObject", SEGMENT))
            self.assertFalse(self.ask(run, "s3:GetObject", SEGMENT, tls="false"))
            self.assertFalse(self.ask(run, "s3:GetObject", SEGMENT, version="1.1"))

    def test_deletions_but_of_the_compactor_and_named_administrators(self):
        run = "rds_with_pod_identity_below_a_prefix"
        self.assertFalse(self.ask(run, "s3:DeleteObject", SEGMENT))
        self.assertFalse(self.ask(run, "s3:DeleteObjectVersion", SEGMENT, ROLE + "gateway"))
        self.assertTrue(self.ask(run, "s3:DeleteObject", SEGMENT, ROLE + "compactor"))
        self.assertTrue(self.ask(run, "s3:DeleteObjectVersion", SEGMENT, ADMIN))
        self.assertFalse(self.ask("aurora_with_service_accounts", "s3:DeleteObject", SEGMENT, ADMIN), "nobody named this one")

    def test_a_second_write_of_a_record(self):
        for run in RUNS:
            self.assertTrue(self.ask(run, "s3:PutObject", SEGMENT))
            self.assertFalse(self.ask(run, "s3:PutObject", SEGMENT, match=None))
            self.assertFalse(self.ask(run, "s3:PutObject", TABLE, match=None))


class WhatAwsKeepsIsEncryptedAndPrivate(unittest.TestCase):
    def one(self, run: str, of_type: str) -> dict:
        (made,) = modules.resources("aws", run, of_type)
        return made

    def test_the_bucket_blocks_public_access_in_every_way(self):
        for run in RUNS:
            block = self.one(run, "aws_s3_bucket_public_access_block")
            for way in ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"):
                self.assertIs(block[way], True, way)
            owner = self.one(run, "aws_s3_bucket_ownership_controls")["rule"][0]["object_ownership"]
            self.assertEqual(owner, "BucketOwnerEnforced")

    def test_the_bucket_encrypts_by_a_key_of_its_own(self):
        for run in RUNS:
            (rule,) = self.one(run, "aws_s3_bucket_server_side_encryption_configuration")["rule"]
            (how,) = rule["apply_server_side_encryption_by_default"]
            self.assertEqual(how["sse_algorithm"], "aws:kms")
            self.assertEqual(how["kms_master_key_id"], modules.outputs("aws", run)["kms_key_arn"])
            self.assertIs(rule["bucket_key_enabled"], True)

    def test_old_versions_end_and_current_objects_never(self):
        for run in RUNS:
            self.assertEqual(self.one(run, "aws_s3_bucket_versioning")["versioning_configuration"][0]["status"], "Enabled")
            rules = self.one(run, "aws_s3_bucket_lifecycle_configuration")["rule"]
            self.assertTrue(any(rule["abort_incomplete_multipart_upload"] for rule in rules))
            self.assertTrue(any(rule["noncurrent_version_expiration"] for rule in rules))
            for rule in rules:
                self.assertFalse(rule["transition"], "a rule moves current objects")
                for expiration in rule["expiration"]:
                    self.assertFalse(expiration["days"] or expiration["date"], "a rule deletes current objects")

    def test_the_database_is_encrypted_private_and_reached_by_tls(self):
        aurora = self.one("aurora_with_service_accounts", "aws_rds_cluster")
        rds = self.one("rds_with_pod_identity_below_a_prefix", "aws_db_instance")
        for database in (aurora, rds):
            self.assertIs(database["storage_encrypted"], True)
            self.assertIs(database["deletion_protection"], True)
            self.assertIs(database["manage_master_user_password"], True)
            self.assertGreaterEqual(database["backup_retention_period"], 7)
        self.assertIs(rds["publicly_accessible"], False)
        for instance in modules.resources("aws", "aurora_with_service_accounts", "aws_rds_cluster_instance"):
            self.assertIs(instance["publicly_accessible"], False)
        for run, group in (
            ("aurora_with_service_accounts", "aws_rds_cluster_parameter_group"),
            ("rds_with_pod_identity_below_a_prefix", "aws_db_parameter_group"),
        ):
            set_to = {p["name"]: p["value"] for p in self.one(run, group)["parameter"]}
            self.assertEqual((set_to["rds.force_ssl"], set_to["synchronous_commit"]), ("1", "on"))

    def test_only_named_security_groups_reach_the_database(self):
        rule = self.one("aurora_with_service_accounts", "aws_vpc_security_group_ingress_rule")
        self.assertEqual((rule["referenced_security_group_id"], rule["from_port"], rule["to_port"]), ("sg-1", 5432, 5432))
        self.assertIsNone(rule["cidr_ipv4"])
        self.assertFalse(modules.resources("aws", "rds_with_pod_identity_below_a_prefix", "aws_vpc_security_group_ingress_rule"))


class RolesOfAwsAreAssumedByTheirServiceAccountsOnly(unittest.TestCase):
    def trust(self, run: str) -> dict[str, list[dict]]:
        made = modules.resources("aws", run, "aws_iam_role")
        return {role["name"]: json.loads(role["assume_role_policy"])["Statement"] for role in made}

    def test_by_the_token_of_a_service_account(self):
        for name, (statement,) in self.trust("aurora_with_service_accounts").items():
            conditions = statement["Condition"]["StringEquals"]
            issuer = "oidc.eks.eu-central-1.amazonaws.com/id/ABC"
            self.assertEqual(conditions[f"{issuer}:sub"], f"system:serviceaccount:lakefall:{name}")
            self.assertEqual(conditions[f"{issuer}:aud"], "sts.amazonaws.com")

    def test_by_the_agent_of_a_cluster(self):
        for name, (statement,) in self.trust("rds_with_pod_identity_below_a_prefix").items():
            conditions = statement["Condition"]["StringEquals"]
            self.assertEqual(statement["Principal"], {"Service": "pods.eks.amazonaws.com"})
            self.assertEqual(conditions["aws:RequestTag/kubernetes-service-account"], name)
            self.assertEqual(conditions["aws:RequestTag/eks-cluster-name"], "production")

    def test_by_tasks_of_the_same_account_and_by_machines(self):
        for tasks, machines in self.trust("no_database_and_tasks_instead_of_pods").values():
            self.assertEqual(tasks["Principal"], {"Service": "ecs-tasks.amazonaws.com"})
            self.assertEqual(tasks["Condition"], {"StringEquals": {"aws:SourceAccount": "123456789012"}})
            self.assertEqual(machines["Principal"], {"Service": "ec2.amazonaws.com"})
            self.assertNotIn("Condition", machines, "machines come without their account: nobody could assume the role")


class GoogleCloud(unittest.TestCase):
    RUN = "cloud_sql"

    def test_the_bucket_is_private_encrypted_and_has_versions(self):
        (bucket,) = modules.resources("gcp", self.RUN, "google_storage_bucket")
        self.assertEqual(bucket["public_access_prevention"], "enforced")
        self.assertIs(bucket["uniform_bucket_level_access"], True)
        self.assertTrue(bucket["encryption"][0]["default_kms_key_name"])
        self.assertIs(bucket["versioning"][0]["enabled"], True)
        for rule in bucket["lifecycle_rule"]:
            if rule["action"][0]["type"] == "Delete":
                self.assertEqual(rule["condition"][0]["with_state"], "ARCHIVED", "a rule deletes live objects")

    def test_a_gateway_can_delete_and_overwrite_nothing(self):
        for run in (self.RUN, "below_a_prefix_without_a_database"):
            grants = modules.outputs("gcp", run)["grants"].values()
            of_gateway = {p for grant in grants if grant["identity"] == "gateway" for p in grant["permissions"]}
            self.assertEqual(of_gateway, {"storage.objects.create", "storage.objects.get", "storage.objects.list", "storage.buckets.get"})

    def test_what_is_created_or_deleted_lies_below_the_prefix(self):
        for run, root in ((self.RUN, ""), ("below_a_prefix_without_a_database", "teams/a/")):
            for name, grant in modules.outputs("gcp", run)["grants"].items():
                if {"storage.objects.create", "storage.objects.delete"} & set(grant["permissions"]):
                    for part in grant["where"].split(" || "):
                        self.assertIn(f"projects/_/buckets/acme-prod-lakefall/objects/{root}", part, name)

    def test_no_role_that_is_not_ours_is_granted_on_the_bucket(self):
        for member in modules.resources("gcp", self.RUN, "google_storage_bucket_iam_member"):
            self.assertTrue(member["role"].startswith("projects/"), member["role"])
            self.assertTrue(member["member"].startswith("serviceAccount:"), member["member"])

    def test_the_database_is_private_and_reached_by_tls(self):
        (database,) = modules.resources("gcp", self.RUN, "google_sql_database_instance")
        (settings,) = database["settings"]
        (ip,) = settings["ip_configuration"]
        self.assertEqual((ip["ipv4_enabled"], ip["ssl_mode"]), (False, "ENCRYPTED_ONLY"))
        self.assertIs(settings["backup_configuration"][0]["point_in_time_recovery_enabled"], True)
        self.assertIs(database["deletion_protection"], True)


class Azure(unittest.TestCase):
    RUN = "flexible_server"

    def test_the_account_is_private_encrypted_and_has_no_keys(self):
        (account,) = modules.resources("azure", self.RUN, "azurerm_storage_account")
        self.assertEqual((account["min_tls_version"], account["https_traffic_only_enabled"]), ("TLS1_2", True))
        self.assertIs(account["allow_nested_items_to_be_public"], False)
        self.assertIs(account["shared_access_key_enabled"], False)
        self.assertIs(account["infrastructure_encryption_enabled"], True)
        self.assertEqual(account["network_rules"][0]["default_action"], "Deny")
        self.assertIs(account["blob_properties"][0]["versioning_enabled"], True)
        (container,) = modules.resources("azure", self.RUN, "azurerm_storage_container")
        self.assertEqual(container["container_access_type"], "private")

    def test_a_gateway_creates_and_reads_and_neither_overwrites_nor_deletes(self):
        actions = modules.outputs("azure", self.RUN)["data_actions"]
        self.assertEqual({a.split("/blobs/")[1] for a in actions["gateway"]}, {"read", "add/action"})
        self.assertIn("delete", {a.split("/blobs/")[1] for a in actions["compactor"]})
        self.assertFalse([a for of in actions.values() for a in of if "*" in a])

    def test_no_rule_touches_current_blobs(self):
        (policy,) = modules.resources("azure", self.RUN, "azurerm_storage_management_policy")
        for rule in policy["rule"]:
            self.assertFalse(rule["actions"][0]["base_blob"])

    def test_the_database_is_private_and_reached_by_tls(self):
        (database,) = modules.resources("azure", self.RUN, "azurerm_postgresql_flexible_server")
        self.assertIs(database["public_network_access_enabled"], False)
        set_to = {s["name"]: s["value"] for s in modules.resources("azure", self.RUN, "azurerm_postgresql_flexible_server_configuration")}
        self.assertEqual((set_to["require_secure_transport"], set_to["synchronous_commit"]), ("on", "on"))

    def test_the_first_password_is_in_no_state(self):
        self.assertNotIn("not-a-secret-but-long", json.dumps(modules.state("azure", self.RUN)))


class TheRelease(unittest.TestCase):
    def test_the_chart_takes_what_the_module_sets(self):
        schema = json.loads((modules.ROOT.parent / "helm/lakefall/values.schema.json").read_text())
        for run in ("what_the_cloud_made_comes_to_the_chart", "everything_that_can_be_set"):
            jsonschema.validate(json.loads(modules.outputs("helm", run)["values"]), schema)


class TextsOfTheModules(unittest.TestCase):
    def folders(self):
        found = [folder for kind in ("modules", "examples") for folder in sorted((modules.ROOT / kind).iterdir())]
        self.assertGreaterEqual(len(found), 7)
        return found

    def test_every_variable_says_what_it_is_and_what_it_may_be(self):
        for folder in self.folders():
            found = modules.blocks((folder / "variables.tf").read_text(), "variable")
            self.assertTrue(found, folder)
            for name, body in found.items():
                with self.subTest(folder=folder.name, variable=name):
                    self.assertRegex(body, r"(?m)^  description +=")
                    self.assertRegex(body, r"(?m)^  type +=")
                    self.assertRegex(body, r"(?m)^  validation \{")

    def test_every_variable_is_used_and_every_output_described(self):
        for folder in self.folders():
            text = "".join(file.read_text() for file in folder.glob("*.tf") if file.name != "variables.tf")
            for name in modules.blocks((folder / "variables.tf").read_text(), "variable"):
                self.assertRegex(text, rf"\bvar\.{name}\b", f"{folder.name}: {name}")
            for name, body in modules.blocks((folder / "outputs.tf").read_text(), "output").items():
                self.assertRegex(body, r"(?m)^  description +=", f"{folder.name}: {name}")

    def test_no_output_shows_a_secret_in_clear(self):
        secret = re.compile(r"password|secret|token|private_key|access_key")
        for folder in self.folders():
            for name, body in modules.blocks((folder / "outputs.tf").read_text(), "output").items():
                value = re.sub(r'"[^"]*"', "", body.split("value", 1)[1])
                if secret.search(value) and "sensitive" not in body:
                    # Where a secret is kept is no secret.
                    self.assertRegex(value, r"secret_arn", f"{folder.name}: {name}")

    def test_every_example_says_what_it_costs(self):
        for folder in sorted((modules.ROOT / "examples").iterdir()):
            self.assertIn("a month", (folder / "README.md").read_text(), folder.name)

    def test_providers_are_bound_to_a_major_version(self):
        for folder in self.folders():
            for file in folder.glob("*.tf"):
                for constraint in re.findall(r"^ +version += \"(.*)\"$", file.read_text(), re.M):
                    self.assertRegex(constraint, r"^>= \d+\.\d+, < \d+\.0$", file)


if __name__ == "__main__":
    unittest.main()
