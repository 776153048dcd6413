variable "region" {
  description = "The region."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be a region, like eu-central-1."
  }
}

variable "name" {
  description = "Begins the name of everything made here."
  type        = string
  default     = "lakefall"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,28}[a-z0-9]$", var.name))
    error_message = "name must have 3 to 30 lower-case letters, digits and hyphens."
  }
}

variable "eks_cluster" {
  description = "The EKS cluster, with an IAM OIDC provider."
  type        = string

  validation {
    condition     = length(var.eks_cluster) > 0
    error_message = "eks_cluster must not be empty."
  }
}

variable "database" {
  description = "aurora or rds."
  type        = string
  default     = "aurora"

  validation {
    condition     = contains(["aurora", "rds"], var.database)
    error_message = "database must be aurora or rds."
  }
}

variable "database_subnet_ids" {
  description = "Private subnets for the database, in two zones or more, within the cluster's VPC."
  type        = list(string)

  validation {
    condition     = length(var.database_subnet_ids) >= 2
    error_message = "database_subnet_ids must name at least two subnets."
  }
}

variable "administrator_arns" {
  description = "Who may delete objects by hand."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.administrator_arns : startswith(arn, "arn:")])
    error_message = "administrator_arns must be ARNs."
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
