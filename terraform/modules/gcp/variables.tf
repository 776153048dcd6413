variable "project" {
  description = "The project's id."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project must be the id of a project, not its name or number."
  }
}

variable "region" {
  description = "The region of bucket, key and database: that of the gateways, as every acknowledgement waits for a PUT."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region must be a region, like europe-west3."
  }
}

variable "name" {
  description = "Begins the name of everything made here."
  type        = string
  default     = "lakefall"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name must have 3 to 20 lower-case letters, digits and hyphens, begin with a letter and not end with a hyphen."
  }
}

variable "labels" {
  description = "Labels of what can have some."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(var.labels) <= 60
    error_message = "labels may have at most 60 entries."
  }
}

variable "bucket_name" {
  description = "The bucket's name, unique in the world. Null: project and name joined by a hyphen."
  type        = string
  default     = null

  validation {
    condition     = var.bucket_name == null || can(regex("^[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]$", var.bucket_name))
    error_message = "bucket_name must have 3 to 63 lower-case letters, digits, underscores and hyphens."
  }
}

variable "prefix" {
  description = "Where in the bucket Lakefall keeps its objects, without slashes at its ends. Empty: the bucket is Lakefall's alone."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*)?$", var.prefix))
    error_message = "prefix must be empty or path segments of letters, digits, _ . and - with single slashes between them."
  }
}

variable "noncurrent_days" {
  description = "How many days a deleted or overwritten object can still be got back, and is still paid for. At least as long as backups of the database are kept."
  type        = number
  default     = 7

  validation {
    condition     = var.noncurrent_days >= 1 && var.noncurrent_days <= 365
    error_message = "noncurrent_days must be 1 to 365."
  }
}

variable "force_destroy" {
  description = "Whether `terraform destroy` deletes the bucket with all that is in it, and the database. For trials only."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = contains([true, false], var.force_destroy)
    error_message = "force_destroy must be true or false."
  }
}

variable "workload_identity_pool" {
  description = "The GKE cluster's workload identity pool. Null: that of the project, PROJECT.svc.id.goog."
  type        = string
  default     = null

  validation {
    condition     = var.workload_identity_pool == null || can(regex("\\.svc\\.id\\.goog$", var.workload_identity_pool))
    error_message = "workload_identity_pool must end with .svc.id.goog."
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
  description = "Names of the Kubernetes service accounts of the roles that use the bucket. Metadata replicas use none."
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
  description = "`cloudsql`: Cloud SQL for PostgreSQL, highly available. `none`: bring your own."
  type        = string
  default     = "cloudsql"

  validation {
    condition     = contains(["cloudsql", "none"], var.database)
    error_message = "database must be cloudsql or none."
  }
}

variable "network" {
  description = "Self link of the VPC network of the database, which must have private services access. Needed unless database is none."
  type        = string
  default     = null

  validation {
    condition     = var.network == null || can(regex("projects/[^/]+/global/networks/[^/]+$", var.network))
    error_message = "network must be the self link of a network: projects/PROJECT/global/networks/NAME."
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

variable "database_tier" {
  description = "The machine of the database: 2 cores and 8 GiB by default."
  type        = string
  default     = "db-custom-2-8192"

  validation {
    condition     = can(regex("^db-", var.database_tier)) && !contains(["db-f1-micro", "db-g1-small"], var.database_tier)
    error_message = "database_tier must be a tier of Cloud SQL with cores of its own, like db-custom-2-8192."
  }
}

variable "backup_retention_days" {
  description = "Days that a point-in-time restore of the database can go back."
  type        = number
  default     = 7

  validation {
    condition     = var.backup_retention_days >= 1 && var.backup_retention_days <= 7
    error_message = "backup_retention_days must be 1 to 7, which is what the edition ENTERPRISE keeps of its logs."
  }
}
