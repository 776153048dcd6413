# The module with a mocked AWS. What the policies say is judged by tests/terraform/test_modules.py, on the state of these runs.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }

  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/made", key_id = "made" }
  }

  mock_resource "aws_rds_cluster" {
    defaults = { endpoint = "lakefall.cluster-abc.eu-central-1.rds.amazonaws.com" }
  }

  mock_resource "aws_db_instance" {
    defaults = { address = "lakefall.abc.eu-central-1.rds.amazonaws.com" }
  }
}

variables {
  vpc_id     = "vpc-1"
  subnet_ids = ["subnet-1", "subnet-2"]
}

run "aurora_with_service_accounts" {
  variables {
    oidc_provider_arn         = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/ABC"
    client_security_group_ids = ["sg-1"]
  }

  assert {
    condition     = output.store_url == "s3://lakefall-123456789012-eu-central-1"
    error_message = "The store is not where the bucket is: ${output.store_url}"
  }

  assert {
    condition     = output.metadata_url == "postgres://lakefall@lakefall.cluster-abc.eu-central-1.rds.amazonaws.com:5432/lakefall?sslmode=verify-full"
    error_message = "metadata_url: ${output.metadata_url}"
  }

  assert {
    condition     = length(aws_rds_cluster_instance.this) == 2 && length(aws_db_instance.this) == 0
    error_message = "Aurora must have a writer and a reader, and RDS must not be there."
  }

  assert {
    condition     = aws_rds_cluster.this[0].deletion_protection && !aws_rds_cluster.this[0].skip_final_snapshot
    error_message = "The database must not be easy to delete."
  }
}

run "rds_with_pod_identity_below_a_prefix" {
  variables {
    database             = "rds"
    pod_identity_cluster = "production"
    prefix               = "teams/a"
    bucket_name          = "acme-lakefall"
    kms_key_arn          = "arn:aws:kms:eu-central-1:123456789012:key/given"
    administrator_arns   = ["arn:aws:iam::123456789012:role/admin"]
  }

  assert {
    condition     = output.store_url == "s3://acme-lakefall/teams/a"
    error_message = "store_url: ${output.store_url}"
  }

  assert {
    condition     = aws_db_instance.this[0].multi_az && length(aws_rds_cluster.this) == 0
    error_message = "RDS must have a standby."
  }

  assert {
    condition     = length(aws_kms_key.this) == 0 && length(aws_eks_pod_identity_association.this) == 2
    error_message = "A given key must be used, and both roles be associated."
  }
}

run "no_database_and_tasks_instead_of_pods" {
  variables {
    database         = "none"
    trusted_services = ["ecs-tasks.amazonaws.com", "ec2.amazonaws.com"]
    vpc_id           = null
    subnet_ids       = []
    force_destroy    = true
  }

  assert {
    condition     = output.metadata_url == null && output.master_secret_arn == null
    error_message = "There is no database, but something names one."
  }
}

run "roles_that_nobody_may_assume_are_refused" {
  command = plan

  variables {
    database = "none"
  }

  expect_failures = [aws_iam_role.this]
}

run "a_database_needs_subnets" {
  command = plan

  variables {
    oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/ABC"
    subnet_ids        = []
  }

  expect_failures = [aws_db_subnet_group.this]
}

run "what_makes_no_sense_is_refused" {
  command = plan

  variables {
    name               = "Lakefall"
    prefix             = "/a/"
    noncurrent_days    = 0
    aurora_capacity    = { min = 0, max = 1 }
    service_accounts   = { gateway = "same", compactor = "same" }
    trusted_services   = ["lambda.amazonaws.com"]
    subnet_ids         = ["subnet-1", "subnet-1"]
    administrator_arns = ["*"]
  }

  expect_failures = [
    var.name, var.prefix, var.noncurrent_days, var.aurora_capacity, var.service_accounts, var.trusted_services, var.subnet_ids,
    var.administrator_arns,
  ]
}
