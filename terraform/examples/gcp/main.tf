# Lakefall on GKE: bucket, Cloud SQL, workload identity, and the release of the chart. What it costs is in README.md.

terraform {
  required_version = ">= 1.7"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.10, < 8.0"
    }
    helm = {
      source  = "hashicorp/helm"
      version = ">= 3.0, < 4.0"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region
}

data "google_client_config" "this" {}

data "google_container_cluster" "this" {
  project  = var.project
  name     = var.gke_cluster
  location = var.region
}

provider "helm" {
  kubernetes = {
    host                   = "https://${data.google_container_cluster.this.endpoint}"
    token                  = data.google_client_config.this.access_token
    cluster_ca_certificate = base64decode(data.google_container_cluster.this.master_auth[0].cluster_ca_certificate)
  }
}

module "lakefall" {
  source = "../../modules/gcp"

  project = var.project
  region  = var.region
  network = var.network
}

module "release" {
  source = "../../modules/helm"
  count  = var.release ? 1 : 0

  chart                       = "${path.module}/../../../helm/lakefall"
  image                       = var.image
  store_url                   = module.lakefall.store_url
  metadata_url                = module.lakefall.metadata_url
  service_account_annotations = module.lakefall.service_account_annotations
  cloud_identity              = "gke"
}
