# The module with a mocked Google Cloud; see tests/terraform/test_modules.py.

mock_provider "google" {
  mock_data "google_storage_project_service_account" {
    defaults = { email_address = "service-1@gs-project-accounts.iam.gserviceaccount.com" }
  }

  mock_resource "google_sql_database_instance" {
    defaults = { private_ip_address = "10.1.2.3" }
  }

  mock_resource "google_project_iam_custom_role" {
    defaults = { id = "projects/acme-prod/roles/mocked" }
  }
}

variables {
  project = "acme-prod"
  region  = "europe-west3"
}

run "cloud_sql" {
  variables {
    network = "projects/acme-prod/global/networks/main"
  }

  assert {
    condition     = output.store_url == "gs://acme-prod-lakefall" && output.database_host == "10.1.2.3"
    error_message = "store_url: ${output.store_url}, database_host: ${output.database_host}"
  }

  assert {
    condition     = google_sql_database_instance.this[0].settings[0].availability_type == "REGIONAL"
    error_message = "The database must have a standby in another zone."
  }

  assert {
    condition     = google_service_account_iam_member.workload_identity["gateway"].member == "serviceAccount:acme-prod.svc.id.goog[lakefall/lakefall-gateway]"
    error_message = "Workload identity names another service account."
  }
}

run "below_a_prefix_without_a_database" {
  variables {
    database = "none"
    prefix   = "teams/a"
  }

  assert {
    condition     = output.store_url == "gs://acme-prod-lakefall/teams/a" && output.metadata_url == null
    error_message = "store_url: ${output.store_url}"
  }
}

run "a_database_needs_a_network" {
  command         = plan
  expect_failures = [google_sql_database_instance.this]
}

run "what_makes_no_sense_is_refused" {
  command = plan

  variables {
    project          = "My Project"
    database_tier    = "db-f1-micro"
    service_accounts = { gateway = "same", compactor = "same" }
    network          = "main"
  }

  expect_failures = [var.project, var.database_tier, var.service_accounts, var.network]
}
