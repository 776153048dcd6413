variable "chart" {
  description = "The chart: a folder (helm/lakefall of this repository), or its name in a registry (oci://...)."
  type        = string

  validation {
    condition     = length(var.chart) > 0
    error_message = "chart must not be empty."
  }
}

variable "chart_version" {
  description = "The chart's version, where it comes from a registry. Null: that of the folder."
  type        = string
  default     = null

  validation {
    condition     = var.chart_version == null || can(regex("^[0-9]+\\.[0-9]+\\.[0-9]+", var.chart_version))
    error_message = "chart_version must be a version, like 0.1.0."
  }
}

variable "release" {
  description = "The release's name. With `lakefall` the service accounts are lakefall-gateway, lakefall-metadata and lakefall-compactor."
  type        = string
  default     = "lakefall"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?$", var.release))
    error_message = "release must be a Helm release's name: lower-case letters, digits and hyphens, 53 at most."
  }
}

variable "namespace" {
  description = "The Kubernetes namespace. It and the secrets named here must exist."
  type        = string
  default     = "lakefall"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.namespace))
    error_message = "namespace must be a Kubernetes name: lower-case letters, digits and hyphens."
  }
}

variable "image" {
  description = "The container image. A digest wins over a tag; without either, the chart's own version."
  type = object({
    repository = string
    tag        = optional(string, "")
    digest     = optional(string, "")
  })

  validation {
    condition     = var.image.digest == "" || can(regex("^sha256:[0-9a-f]{64}$", var.image.digest))
    error_message = "image.digest must be like sha256: and 64 hex digits."
  }
}

variable "store_url" {
  description = "`store.url`: output store_url of the cloud's module."
  type        = string

  validation {
    condition     = can(regex("^(s3|gs|az)://", var.store_url))
    error_message = "store_url must begin with s3://, gs:// or az://."
  }
}

variable "store_region" {
  description = "`store.region`, for S3. Null elsewhere."
  type        = string
  default     = null

  validation {
    condition     = var.store_region == null || can(regex("^[a-z0-9-]+$", var.store_region))
    error_message = "store_region must be a region, like eu-central-1."
  }
}

variable "store_environment" {
  description = "Environment variables that say how the store is reached; on Azure AZURE_STORAGE_ACCOUNT_NAME. No secrets."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.store_environment) : !can(regex("KEY|SECRET|TOKEN|PASSWORD", name))])
    error_message = "store_environment must hold no secret: identities come from the service accounts."
  }
}

variable "metadata_url" {
  description = "`metadata.url`: output metadata_url of the cloud's module. Without a password."
  type        = string

  validation {
    condition     = can(regex("^postgres(ql)?://[^:@/]+@[^/]+/[^/]+$", var.metadata_url))
    error_message = "metadata_url must be like postgres://user@host:5432/database?sslmode=verify-full, without a password."
  }
}

variable "migration_url" {
  description = "The database as its owner sees it, who may make tables, for the chart's migration job. Null: metadata_url does for both."
  type        = string
  default     = null

  validation {
    condition     = var.migration_url == null || can(regex("^postgres(ql)?://[^:@/]+@[^/]+/[^/]+$", var.migration_url))
    error_message = "migration_url must be like postgres://owner@host:5432/database, without a password."
  }
}

variable "service_account_annotations" {
  description = "Annotations of the service accounts by role (gateway, compactor): output service_account_annotations of the cloud's module."
  type        = map(map(string))
  default     = {}

  validation {
    condition     = alltrue([for role in keys(var.service_account_annotations) : contains(["gateway", "metadata", "compactor"], role)])
    error_message = "service_account_annotations may have the keys gateway, metadata and compactor."
  }
}

variable "pod_labels" {
  description = "Labels of the pods that use the bucket; on AKS azure.workload.identity/use = true."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(var.pod_labels) <= 20
    error_message = "pod_labels may have at most 20 entries."
  }
}

variable "cloud_identity" {
  description = "How pods get their identity, which the network policies must let through: `eks-pod-identity`, `gke`, or empty where a token in a file is exchanged over HTTPS (IRSA, AKS); `instance` for the machine's own role."
  type        = string
  default     = ""

  validation {
    condition     = contains(["", "eks-pod-identity", "gke", "instance"], var.cloud_identity)
    error_message = "cloud_identity must be empty, eks-pod-identity, gke or instance."
  }
}

variable "token_secret" {
  description = "The Kubernetes secret with the token that the processes show each other, under the key `token`."
  type        = string
  default     = "lakefall-token"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", var.token_secret))
    error_message = "token_secret must be the name of a secret."
  }
}

variable "database_secret" {
  description = "The Kubernetes secret with the password of the database's user, under the key `password`."
  type        = string
  default     = "lakefall-database"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", var.database_secret))
    error_message = "database_secret must be the name of a secret."
  }
}

variable "database_ca_config_map" {
  description = "The ConfigMap with the authority of the database's certificate, under the key `ca.crt`: RDS and Aurora have one of their own. Null: the system's authorities."
  type        = string
  default     = null

  validation {
    condition     = var.database_ca_config_map == null || can(regex("^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", var.database_ca_config_map))
    error_message = "database_ca_config_map must be the name of a ConfigMap."
  }
}

variable "migration_secret" {
  description = "The Kubernetes secret with the password of the database's owner, under the key `password`. Null: that of database_secret."
  type        = string
  default     = null

  validation {
    condition     = var.migration_secret == null || can(regex("^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", var.migration_secret))
    error_message = "migration_secret must be the name of a secret."
  }
}

variable "values" {
  description = "More values of the chart, as YAML texts; later ones win, and win over what is set here."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for text in var.values : can(yamldecode(text))])
    error_message = "values must be YAML."
  }
}
