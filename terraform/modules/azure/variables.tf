variable "resource_group_name" {
  description = "The resource group of everything made here."
  type        = string

  validation {
    condition     = length(var.resource_group_name) > 0
    error_message = "resource_group_name must not be empty."
  }
}

variable "location" {
  description = "The region of container and database: that of the gateways, as every acknowledgement waits for a PUT."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]+$", var.location))
    error_message = "location must be a region's short name, like germanywestcentral."
  }
}

variable "name" {
  description = "Begins the name of everything made here."
  type        = string
  default     = "lakefall"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,28}[a-z0-9]$", var.name))
    error_message = "name must have 3 to 30 lower-case letters, digits and hyphens, begin with a letter and not end with a hyphen."
  }
}

variable "tags" {
  description = "Tags of what can have some."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(var.tags) <= 40
    error_message = "tags may have at most 40 entries."
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

variable "replication" {
  description = "`ZRS`: three zones. `LRS`: one zone, cheaper, and lost with it."
  type        = string
  default     = "ZRS"

  validation {
    condition     = contains(["ZRS", "LRS"], var.replication)
    error_message = "replication must be ZRS or LRS. Copies in another region come late: nothing there may be read as the truth."
  }
}

variable "allowed_subnet_ids" {
  description = "Subnets that may reach the storage account, with the service endpoint Microsoft.Storage. Everything else is refused."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.allowed_subnet_ids : can(regex("/subnets/", id))])
    error_message = "allowed_subnet_ids must be ids of subnets."
  }
}

variable "noncurrent_days" {
  description = "How many days a deleted or overwritten blob can still be got back, and is still paid for. At least as long as backups of the database are kept."
  type        = number
  default     = 7

  validation {
    condition     = var.noncurrent_days >= 1 && var.noncurrent_days <= 365
    error_message = "noncurrent_days must be 1 to 365."
  }
}

variable "oidc_issuer_url" {
  description = "The AKS cluster's OIDC issuer, for workload identity."
  type        = string

  validation {
    condition     = can(regex("^https://", var.oidc_issuer_url))
    error_message = "oidc_issuer_url must be an https URL."
  }
}

variable "namespace" {
  description = "The Kubernetes namespace of the release."
  type        = string
  default     = "lakefall"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.namespace))
    error_message = "namespace must be a Kubernetes name: lower-case letters, digits and hyphens."
  }
}

variable "service_accounts" {
  description = "Names of the Kubernetes service accounts of the roles that use the container. Metadata replicas use none."
  type = object({
    gateway   = optional(string, "lakefall-gateway")
    compactor = optional(string, "lakefall-compactor")
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.service_accounts.gateway != var.service_accounts.compactor
    error_message = "service_accounts must differ: with a shared one, gateways could delete."
  }
}

variable "database" {
  description = "`flexible`: Azure Database for PostgreSQL, zone redundant. `none`: bring your own."
  type        = string
  default     = "flexible"

  validation {
    condition     = contains(["flexible", "none"], var.database)
    error_message = "database must be flexible or none."
  }
}

variable "database_subnet_id" {
  description = "A subnet delegated to Microsoft.DBforPostgreSQL/flexibleServers. Needed unless database is none."
  type        = string
  default     = null

  validation {
    condition     = var.database_subnet_id == null || can(regex("/subnets/", var.database_subnet_id))
    error_message = "database_subnet_id must be the id of a subnet."
  }
}

variable "private_dns_zone_id" {
  description = "The private DNS zone of the database (it ends with .postgres.database.azure.com). Needed unless database is none."
  type        = string
  default     = null

  validation {
    condition     = var.private_dns_zone_id == null || can(regex("/privateDnsZones/", var.private_dns_zone_id))
    error_message = "private_dns_zone_id must be the id of a private DNS zone."
  }
}

variable "postgres_version" {
  description = "The major version of PostgreSQL."
  type        = number
  default     = 15

  validation {
    condition     = contains([13, 14, 15, 16, 17], var.postgres_version)
    error_message = "postgres_version must be 13 to 17."
  }
}

variable "database_sku" {
  description = "The machine of the database. Burstable ones know no standby."
  type        = string
  default     = "GP_Standard_D2ds_v5"

  validation {
    condition     = can(regex("^(GP|MO)_", var.database_sku))
    error_message = "database_sku must be general purpose (GP_) or memory optimised (MO_)."
  }
}

variable "database_password" {
  description = "The first password of the database's administrator `postgres`. It is sent, and kept in no state and no plan; change it afterwards."
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true

  validation {
    condition     = var.database_password == null ? true : length(var.database_password) >= 16
    error_message = "database_password must have at least 16 characters."
  }
}

variable "backup_retention_days" {
  description = "Days that a point-in-time restore of the database can go back."
  type        = number
  default     = 7

  validation {
    condition     = var.backup_retention_days >= 7 && var.backup_retention_days <= 35
    error_message = "backup_retention_days must be 7 to 35."
  }
}
