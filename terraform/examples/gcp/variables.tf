variable "project" {
  description = "The project's id."
  type        = string

  validation {
    condition     = length(var.project) > 0
    error_message = "project must not be empty."
  }
}

variable "region" {
  description = "The region of cluster, bucket and database."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region must be a region, like europe-west3."
  }
}

variable "gke_cluster" {
  description = "The GKE cluster (regional), with workload identity."
  type        = string

  validation {
    condition     = length(var.gke_cluster) > 0
    error_message = "gke_cluster must not be empty."
  }
}

variable "network" {
  description = "Self link of the cluster's network, with private services access."
  type        = string

  validation {
    condition     = can(regex("projects/[^/]+/global/networks/[^/]+$", var.network))
    error_message = "network must be like projects/PROJECT/global/networks/NAME."
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
