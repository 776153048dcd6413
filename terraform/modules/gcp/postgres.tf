# PostgreSQL. REGIONAL writes every block to disks in two zones before a commit is acknowledged, so the loss of a zone loses
# nothing that was acknowledged. The replication is below PostgreSQL: Lakefall's warning of no synchronous standby is expected.

resource "google_sql_database_instance" "this" {
  count = var.database == "cloudsql" ? 1 : 0

  project             = var.project
  name                = var.name
  region              = var.region
  database_version    = "POSTGRES_${var.postgres_version}"
  deletion_protection = !var.force_destroy

  settings {
    tier                        = var.database_tier
    edition                     = "ENTERPRISE"
    availability_type           = "REGIONAL"
    disk_type                   = "PD_SSD"
    disk_autoresize             = true
    deletion_protection_enabled = !var.force_destroy
    user_labels                 = local.labels

    ip_configuration {
      ipv4_enabled    = false
      private_network = var.network
      ssl_mode        = "ENCRYPTED_ONLY"
    }

    backup_configuration {
      enabled                        = true
      point_in_time_recovery_enabled = true
      transaction_log_retention_days = var.backup_retention_days

      backup_retention_settings {
        retained_backups = 14
      }
    }
  }

  lifecycle {
    precondition {
      condition     = var.network != null
      error_message = "The database needs network; or set database to none."
    }
  }
}

resource "google_sql_database" "this" {
  count = var.database == "cloudsql" ? 1 : 0

  project  = var.project
  instance = google_sql_database_instance.this[0].name
  name     = "lakefall"
}
