output "store_url" {
  description = "What `store.url` is to be."
  value       = "gs://${google_storage_bucket.this.name}${var.prefix == "" ? "" : "/${var.prefix}"}"
}

output "service_account_annotations" {
  description = "What workload identity needs on the Kubernetes service account of each role."
  value       = { for role, made in google_service_account.this : role => { "iam.gke.io/gcp-service-account" = made.email } }
}

output "service_account_emails" {
  description = "The identity of each kind of process that uses the bucket."
  value       = { for role, made in google_service_account.this : role => made.email }
}

output "kms_key" {
  description = "The key that encrypts the bucket."
  value       = google_kms_crypto_key.this.id
}

output "database_host" {
  description = "The database's private address; null without a database of this module."
  value       = one(google_sql_database_instance.this[*].private_ip_address)
}

output "metadata_url" {
  description = "What `metadata.url` is to be, without a password; null without a database of this module. `require`, as the server's certificate does not name its private address: give `metadata.postgres.ca_file` and `verify-full` where it is reached by its DNS name."
  value       = one([for made in google_sql_database_instance.this : "postgres://lakefall@${made.private_ip_address}:5432/lakefall?sslmode=require"])
}

output "grants" {
  description = "What each identity may do where, for review."
  value       = { for name, grant in local.grants : name => { identity = grant.identity, permissions = local.roles[grant.role], where = grant.where } }
}
