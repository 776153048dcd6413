# Lakefall on EKS: bucket, Aurora Serverless v2, roles for service accounts, and the release of the chart.
# What it costs is in README.md.

terraform {
  required_version = ">= 1.7"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0, < 7.0"
    }
    helm = {
      source  = "hashicorp/helm"
      version = ">= 3.0, < 4.0"
    }
  }
}

provider "aws" {
  region = var.region
}

data "aws_eks_cluster" "this" {
  name = var.eks_cluster
}

provider "helm" {
  kubernetes = {
    host                   = data.aws_eks_cluster.this.endpoint
    cluster_ca_certificate = base64decode(data.aws_eks_cluster.this.certificate_authority[0].data)

    exec = {
      api_version = "client.authentication.k8s.io/v1beta1"
      command     = "aws"
      args        = ["eks", "get-token", "--cluster-name", var.eks_cluster, "--region", var.region]
    }
  }
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  issuer = replace(data.aws_eks_cluster.this.identity[0].oidc[0].issuer, "https://", "")
}

module "lakefall" {
  source = "../../modules/aws"

  name                      = var.name
  oidc_provider_arn         = "arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:oidc-provider/${local.issuer}"
  vpc_id                    = data.aws_eks_cluster.this.vpc_config[0].vpc_id
  subnet_ids                = var.database_subnet_ids
  client_security_group_ids = [data.aws_eks_cluster.this.vpc_config[0].cluster_security_group_id]
  database                  = var.database
  administrator_arns        = var.administrator_arns
}

# The release needs the secrets of docs/deploy-aws.md, so it comes with a second `apply`, once they are there.
module "release" {
  source = "../../modules/helm"
  count  = var.release ? 1 : 0

  chart                       = "${path.module}/../../../helm/lakefall"
  image                       = var.image
  store_url                   = module.lakefall.store_url
  store_region                = module.lakefall.region
  metadata_url                = module.lakefall.metadata_url
  migration_url               = replace(module.lakefall.metadata_url, "lakefall@", "lakefall_owner@")
  migration_secret            = "lakefall-database-owner"
  database_ca_config_map      = "rds-ca"
  service_account_annotations = module.lakefall.service_account_annotations
}
