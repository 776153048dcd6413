variable "resource_group_name" {
  description = "The resource group of the cluster, and of everything made here."
  type        = string

  validation {
    condition     = length(var.resource_group_name) > 0
    error_message = "resource_group_name must not be empty."
  }
}

variable "aks_cluster" {
  description = "The AKS cluster, with OIDC issuer and workload identity on."
  type        = string

  validation {
    condition     = length(var.aks_cluster) > 0
    error_message = "aks_cluster must not be empty."
  }
}

variable "storage_account_name" {
  description = "The storage account's name, unique in the world."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]{3,24}$", var.storage_account_name))
    error_message = "storage_account_name must have 3 to 24 lower-case letters and digits."
  }
}

variable "node_subnet_ids" {
  description = "Subnets of the cluster's nodes, with the service endpoint Microsoft.Storage."
  type        = list(string)

  validation {
    condition     = length(var.node_subnet_ids) > 0
    error_message = "node_subnet_ids must name at least one subnet."
  }
}

variable "database_subnet_id" {
  description = "A subnet delegated to Microsoft.DBforPostgreSQL/flexibleServers."
  type        = string

  validation {
    condition     = can(regex("/subnets/", var.database_subnet_id))
    error_message = "database_subnet_id must be the id of a subnet."
  }
}

variable "private_dns_zone_id" {
  description = "The private DNS zone of the database."
  type        = string

  validation {
    condition     = can(regex("/privateDnsZones/", var.private_dns_zone_id))
    error_message = "private_dns_zone_id must be the id of a private DNS zone."
  }
}

variable "database_password" {
  description = "The first password of the database's administrator: `openssl rand -hex 24`, given as TF_VAR_database_password."
  type        = string
  sensitive   = true
  ephemeral   = true

  validation {
    condition     = length(var.database_password) >= 16
    error_message = "database_password must have at least 16 characters."
  }
}

variable "image" {
  description = "The container image in your registry."
  type = object({
    repository = string
    tag        = optional(string, "")
    digest     = optional(string, "")
  })

  validation {
    condition     = length(var.image.repository) > 0
    error_message = "image.repository must not be empty."
  }
}

variable "release" {
  description = "Whether the chart is installed: false for the first apply, true once the secrets are there."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = contains([true, false], var.release)
    error_message = "release must be true or false."
  }
}
