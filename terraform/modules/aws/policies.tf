# What each role may do, derived from what its code does:
#
# | role of a process | creates | overwrites | reads | lists | deletes |
# |---|---|---|---|---|---|
# | gateway | seg/ | nothing | seg/, tables/ | (see below) | nothing |
# | compactor, its compaction | seg/, tables/ | the hints of tables | seg/, tables/ | tables/ | tables/*/_iceberg/ |
# | compactor, its collector | | meta/mark.json | meta/mark.json | seg/, tables/ | seg/, tables/ |
# | metadata | nothing: it never touches the bucket, so it has no role here | | | | |
#
# The collector runs inside of every `lakefall compactor` (with `compactor.enabled = false` it is all that runs there), so the
# compactor's role has both policies; they are apart so that they can be read, tested and one day granted apart.
#
# ListBucket for gateways: S3 answers 403 instead of 404 for a missing key to who may not list. Gateways list nothing, but after
# a PUT whose answer was lost they look whether the object is there, and 404 is the clearer word; they take 403 for "unknown" and
# ask again. The right is bound to their prefixes, so nothing outside can be listed.

locals {
  kms_via_s3 = {
    StringEquals = { "kms:ViaService" = "s3.${local.region}.amazonaws.com" }
    # With bucket keys the context is the bucket, without them the object.
    StringLike = { "kms:EncryptionContext:aws:s3:arn" = [local.bucket_arn, "${local.objects_arn}*"] }
  }

  kms_statement = {
    Sid       = "UseTheKeyThroughTheBucket"
    Effect    = "Allow"
    Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
    Resource  = [local.kms_key_arn]
    Condition = local.kms_via_s3
  }

  create_segments = {
    Sid       = "CreateSegments"
    Effect    = "Allow"
    Action    = ["s3:PutObject"]
    Resource  = ["${local.objects_arn}seg/*"]
    Condition = { Null = { "s3:if-none-match" = "false" } }
  }

  read_records = {
    Sid      = "ReadRecords"
    Effect   = "Allow"
    Action   = ["s3:GetObject"]
    Resource = ["${local.objects_arn}seg/*", "${local.objects_arn}tables/*"]
  }

  list_records = {
    Sid       = "ListRecords"
    Effect    = "Allow"
    Action    = ["s3:ListBucket"]
    Resource  = [local.bucket_arn]
    Condition = { StringLike = { "s3:prefix" = ["${local.root}seg/*", "${local.root}tables/*"] } }
  }

  policies = {
    gateway = {
      Version   = "2012-10-17"
      Statement = [local.create_segments, local.read_records, local.list_records, local.kms_statement]
    }

    compactor = {
      Version = "2012-10-17"
      Statement = [
        local.create_segments,
        local.read_records,
        {
          Sid       = "CreateTables"
          Effect    = "Allow"
          Action    = ["s3:PutObject"]
          Resource  = ["${local.objects_arn}tables/*"]
          Condition = { Null = { "s3:if-none-match" = "false" } }
        },
        {
          # The hint which of a table's documents is the newest.
          Sid      = "MoveTableHints"
          Effect   = "Allow"
          Action   = ["s3:PutObject"]
          Resource = ["${local.objects_arn}tables/*/_iceberg/metadata/version-hint.text"]
        },
        {
          Sid      = "TidyTableDocuments"
          Effect   = "Allow"
          Action   = ["s3:DeleteObject"]
          Resource = ["${local.objects_arn}tables/*/_iceberg/*"]
        },
        local.list_records,
        local.kms_statement,
      ]
    }

    collector = {
      Version = "2012-10-17"
      Statement = [
        {
          Sid      = "DeleteWhatNobodyNeeds"
          Effect   = "Allow"
          Action   = ["s3:DeleteObject"]
          Resource = ["${local.objects_arn}seg/*", "${local.objects_arn}tables/*"]
        },
        {
          Sid      = "KeepTheMark"
          Effect   = "Allow"
          Action   = ["s3:GetObject", "s3:PutObject"]
          Resource = ["${local.objects_arn}meta/mark.json"]
        },
        local.list_records,
        local.kms_statement,
      ]
    }
  }
}
