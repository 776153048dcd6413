# What Lakefall needs of a Google Cloud project: a bucket, a PostgreSQL, and identities that may do what they must and nothing else.

data "google_storage_project_service_account" "this" {
  project = var.project
}

locals {
  bucket_name = coalesce(var.bucket_name, "${var.project}-${var.name}")
  root        = var.prefix == "" ? "" : "${var.prefix}/"
  # How conditions of IAM name the objects below the prefix.
  objects = "projects/_/buckets/${local.bucket_name}/objects/${local.root}"
  pool    = coalesce(var.workload_identity_pool, "${var.project}.svc.id.goog")
  labels  = merge({ app = "lakefall" }, var.labels)
}

resource "google_kms_key_ring" "this" {
  project  = var.project
  name     = var.name
  location = var.region
}

resource "google_kms_crypto_key" "this" {
  name            = "objects"
  key_ring        = google_kms_key_ring.this.id
  rotation_period = "7776000s"
  # Without the key every record is lost: a month to notice.
  destroy_scheduled_duration = "2592000s"
  labels                     = local.labels
}

# Cloud Storage uses the key itself, for whoever may read the object: gateways need no right to it.
resource "google_kms_crypto_key_iam_member" "storage" {
  crypto_key_id = google_kms_crypto_key.this.id
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = "serviceAccount:${data.google_storage_project_service_account.this.email_address}"
}

resource "google_storage_bucket" "this" {
  project                     = var.project
  name                        = local.bucket_name
  location                    = var.region
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = var.force_destroy
  labels                      = local.labels

  encryption {
    default_kms_key_name = google_kms_crypto_key.this.id
  }

  versioning {
    enabled = true
  }

  # Versions do the same, by the rule below; both together would be paid for twice.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  # No rule may touch a live object: which are still needed only the ledger knows.
  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 1
    }
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = var.noncurrent_days
      with_state                 = "ARCHIVED"
    }
  }

  depends_on = [google_kms_crypto_key_iam_member.storage]
}
