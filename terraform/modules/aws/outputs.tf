output "store_url" {
  description = "What `store.url` is to be."
  value       = "s3://${aws_s3_bucket.this.bucket}${var.prefix == "" ? "" : "/${var.prefix}"}"
}

output "region" {
  description = "What `store.region` is to be."
  value       = local.region
}

output "bucket" {
  description = "Name and ARN of the bucket."
  value       = { name = aws_s3_bucket.this.bucket, arn = aws_s3_bucket.this.arn }
}

output "kms_key_arn" {
  description = "The key of bucket and database."
  value       = local.kms_key_arn
}

output "role_arns" {
  description = "The role of each kind of process that uses the bucket."
  value       = { for role, made in aws_iam_role.this : role => made.arn }
}

output "service_account_annotations" {
  description = "What IRSA needs on the service account of each role; empty without it."
  value = {
    for role, made in aws_iam_role.this : role => var.oidc_provider_arn == null ? {} : { "eks.amazonaws.com/role-arn" = made.arn }
  }
}

output "database_host" {
  description = "The writer's host name; null without a database of this module."
  value       = local.database_host
}

output "metadata_url" {
  description = "What `metadata.url` is to be, without a password; null without a database of this module."
  value       = local.database_host == null ? null : "postgres://lakefall@${local.database_host}:${local.port}/lakefall?sslmode=verify-full"
}

output "master_secret_arn" {
  description = "Where Secrets Manager keeps the password of the user `postgres`, for making the database's roles; null without a database of this module."
  value = (
    var.database == "aurora" ? one(aws_rds_cluster.this[0].master_user_secret[*].secret_arn) :
    var.database == "rds" ? one(aws_db_instance.this[0].master_user_secret[*].secret_arn) : null
  )
}

output "policies" {
  description = "What each role may do, as policy documents: for review, and for roles that are made elsewhere."
  value       = { for name, policy in local.policies : name => jsonencode(policy) }
}

output "bucket_policy" {
  description = "What the bucket refuses, whoever asks."
  value       = jsonencode(local.bucket_policy)
}
