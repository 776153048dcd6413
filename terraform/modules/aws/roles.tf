# The roles of processes, and who may assume them.

locals {
  oidc_issuer = var.oidc_provider_arn == null ? "" : regex("oidc-provider/(.+)$", var.oidc_provider_arn)[0]

  role_names = {
    gateway   = "${var.name}-gateway"
    compactor = local.compactor_role_name
  }

  role_policies = {
    gateway   = { gateway = "gateway" }
    compactor = { compactor = "compactor", collector = "collector" }
  }

  trust = {
    for role, account in { gateway = var.service_accounts.gateway, compactor = var.service_accounts.compactor } : role => {
      Version                      = "2012-10-17"
      Statement = concat(
        var.oidc_provider_arn == null ? [] : [{
          Sid       = "ServiceAccount"
          Effect    = "Allow"
          Action    = ["sts:AssumeRoleWithWebIdentity"]
          Principal = { Federated = var.oidc_provider_arn }
          Condition = {
            StringEquals = {
              "${local.oidc_issuer}:aud" = "sts.amazonaws.com"
              "${local.oidc_issuer}:sub" = "system:serviceaccount:${var.namespace}:${account}"
            }
          }
        }],
        var.pod_identity_cluster == null ? [] : [{
          Sid       = "PodIdentity"
          Effect    = "Allow"
          Action    = ["sts:AssumeRole", "sts:TagSession"]
          Principal = { Service = "pods.eks.amazonaws.com" }
          Condition = {
            StringEquals = {
              "aws:SourceAccount"                         = local.account
              "aws:RequestTag/eks-cluster-name"           = var.pod_identity_cluster
              "aws:RequestTag/kubernetes-namespace"       = var.namespace
              "aws:RequestTag/kubernetes-service-account" = account
            }
          }
        }],
        [for service in var.trusted_services : merge(
          {
            Sid       = service == "ec2.amazonaws.com" ? "Machines" : "Tasks"
            Effect    = "Allow"
            Action    = ["sts:AssumeRole"]
            Principal = { Service = service }
          },
          # Machines come without their account; only who may pass the role in this account can give it to one.
          service == "ec2.amazonaws.com" ? {} : { Condition = { StringEquals = { "aws:SourceAccount" = local.account } } },
        )],
      )
    }
  }
}

resource "aws_iam_role" "this" {
  for_each = local.role_names

  name                 = each.value
  description          = "Lakefall ${each.key}"
  assume_role_policy   = jsonencode(local.trust[each.key])
  max_session_duration = 3600
  tags                 = local.tags

  lifecycle {
    precondition {
      condition     = length(local.trust[each.key].Statement) > 0
      error_message = "Nobody could assume the role: set oidc_provider_arn, pod_identity_cluster or trusted_services."
    }
  }
}

resource "aws_iam_role_policy" "this" {
  for_each = merge([
    for role, policies in local.role_policies : { for name, policy in policies : "${role}-${name}" => { role = role, policy = policy } }
  ]...)

  name   = each.value.policy
  role   = aws_iam_role.this[each.value.role].name
  policy = jsonencode(local.policies[each.value.policy])
}

resource "aws_eks_pod_identity_association" "this" {
  for_each = var.pod_identity_cluster == null ? {} : { gateway = var.service_accounts.gateway, compactor = var.service_accounts.compactor }

  cluster_name    = var.pod_identity_cluster
  namespace       = var.namespace
  service_account = each.value
  role_arn        = aws_iam_role.this[each.key].arn
  tags            = local.tags
}
