# What Lakefall needs of an AWS account: a bucket, a PostgreSQL, and roles that may do what they must and nothing else.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.region

  bucket_name = coalesce(var.bucket_name, "${var.name}-${local.account}-${local.region}")
  bucket_arn  = "arn:${local.partition}:s3:::${local.bucket_name}"
  # Before the keys of objects: empty, or with a slash at its end.
  root        = var.prefix == "" ? "" : "${var.prefix}/"
  objects_arn = "${local.bucket_arn}/${local.root}"

  # Worked out rather than read from the roles, as the bucket's policy names the compactor and the roles' policies the bucket.
  compactor_role_name = "${var.name}-compactor"
  compactor_role_arn  = "arn:${local.partition}:iam::${local.account}:role/${local.compactor_role_name}"

  tags = merge({ "app.kubernetes.io/name" = "lakefall" }, var.tags)
}

# One key for bucket and database, unless one is given. Its policy lets the account's IAM policies decide.
resource "aws_kms_key" "this" {
  count = var.kms_key_arn == null ? 1 : 0

  description             = "Lakefall ${var.name}: objects and metadata"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  tags                    = local.tags
}

resource "aws_kms_alias" "this" {
  count = var.kms_key_arn == null ? 1 : 0

  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.this[0].key_id
}

locals {
  kms_key_arn = var.kms_key_arn != null ? var.kms_key_arn : aws_kms_key.this[0].arn
}
