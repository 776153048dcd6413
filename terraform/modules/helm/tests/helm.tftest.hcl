# The release with a mocked Helm.

mock_provider "helm" {}

variables {
  chart        = "../../../helm/lakefall"
  image        = { repository = "registry.example/lakefall", digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
  store_url    = "s3://acme-lakefall"
  metadata_url = "postgres://lakefall@db:5432/lakefall?sslmode=verify-full"
}

run "what_the_cloud_made_comes_to_the_chart" {
  variables {
    store_region                = "eu-central-1"
    service_account_annotations = { gateway = { "eks.amazonaws.com/role-arn" = "arn:aws:iam::1:role/gateway" } }
    values                      = ["gateway: {replicas: 5}"]
  }

  assert {
    condition     = jsondecode(output.values).config.store.url == "s3://acme-lakefall" && jsondecode(output.values).config.store.region == "eu-central-1"
    error_message = output.values
  }

  assert {
    condition     = jsondecode(output.values).gateway.serviceAccount.annotations["eks.amazonaws.com/role-arn"] == "arn:aws:iam::1:role/gateway"
    error_message = output.values
  }

  assert {
    condition     = jsondecode(output.values).secrets.token.existingSecret == "lakefall-token" && helm_release.this.values[1] == "gateway: {replicas: 5}"
    error_message = output.values
  }
}

run "everything_that_can_be_set" {
  variables {
    service_account_annotations = { gateway = { a = "b" }, metadata = { a = "b" }, compactor = { a = "b" } }
    store_environment           = { AZURE_STORAGE_ACCOUNT_NAME = "acme" }
    pod_labels                  = { "azure.workload.identity/use" = "true" }
    cloud_identity              = "gke"
    migration_url               = "postgres://owner@db:5432/lakefall"
    migration_secret            = "owner"
    database_ca_config_map      = "rds-ca"
    image                       = { repository = "registry.example/lakefall", tag = "0.1.0" }
  }
}

run "secrets_in_plain_values_are_refused" {
  command = plan

  variables {
    metadata_url      = "postgres://lakefall:hunter2@db:5432/lakefall"
    store_environment = { AWS_SECRET_ACCESS_KEY = "hunter2" }
  }

  expect_failures = [var.metadata_url, var.store_environment]
}

run "what_makes_no_sense_is_refused" {
  command = plan

  variables {
    store_url = "file:///data"
    image     = { repository = "r", digest = "sha256:abc" }
    values    = ["{"]
  }

  expect_failures = [var.store_url, var.image, var.values]
}
