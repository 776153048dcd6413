# Lakefall on AKS: container, PostgreSQL flexible server, workload identity, and the release of the chart. What it costs is in
# README.md.

terraform {
  required_version = ">= 1.11"

  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = ">= 4.30, < 5.0"
    }
    helm = {
      source  = "hashicorp/helm"
      version = ">= 3.0, < 4.0"
    }
  }
}

provider "azurerm" {
  # The storage account refuses its keys: Terraform, too, comes with an identity.
  storage_use_azuread = true
  features {}
}

data "azurerm_kubernetes_cluster" "this" {
  name                = var.aks_cluster
  resource_group_name = var.resource_group_name
}

provider "helm" {
  kubernetes = {
    host                   = data.azurerm_kubernetes_cluster.this.kube_config[0].host
    client_certificate     = base64decode(data.azurerm_kubernetes_cluster.this.kube_config[0].client_certificate)
    client_key             = base64decode(data.azurerm_kubernetes_cluster.this.kube_config[0].client_key)
    cluster_ca_certificate = base64decode(data.azurerm_kubernetes_cluster.this.kube_config[0].cluster_ca_certificate)
  }
}

module "lakefall" {
  source = "../../modules/azure"

  resource_group_name  = var.resource_group_name
  location             = data.azurerm_kubernetes_cluster.this.location
  storage_account_name = var.storage_account_name
  oidc_issuer_url      = data.azurerm_kubernetes_cluster.this.oidc_issuer_url
  allowed_subnet_ids   = var.node_subnet_ids
  database_subnet_id   = var.database_subnet_id
  private_dns_zone_id  = var.private_dns_zone_id
  database_password    = var.database_password
}

module "release" {
  source = "../../modules/helm"
  count  = var.release ? 1 : 0

  chart                       = "${path.module}/../../../helm/lakefall"
  image                       = var.image
  store_url                   = module.lakefall.store_url
  store_environment           = module.lakefall.environment.gateway
  metadata_url                = module.lakefall.metadata_url
  service_account_annotations = module.lakefall.service_account_annotations
  pod_labels                  = { "azure.workload.identity/use" = "true" }
}
