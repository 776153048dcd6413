variable "name" {
  description = "Begins the name of everything made here; unique within the account and region."
  type        = string
  default     = "lakefall"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,28}[a-z0-9]$", var.name))
    error_message = "name must have 3 to 30 lower-case letters, digits and hyphens, begin with a letter and not end with a hyphen."
  }
}

variable "tags" {
  description = "Tags of everything made here."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(var.tags) <= 40
    error_message = "tags may have at most 40 entries: S3 and RDS take 50 in all, and some are added here."
  }
}

# The bucket.

variable "bucket_name" {
  description = "The bucket's name, unique in the world. Null: name, account and region joined by hyphens."
  type        = string
  default     = null

  validation {
    condition     = var.bucket_name == null || can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket_name))
    error_message = "bucket_name must have 3 to 63 lower-case letters, digits and hyphens (a dot breaks TLS to the bucket)."
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
  description = "How many days a deleted or overwritten object can still be got back, and is still paid for. At least as long as backups of the database are kept, or a restored database misses objects."
  type        = number
  default     = 7

  validation {
    condition     = var.noncurrent_days >= 1 && var.noncurrent_days <= 365 && floor(var.noncurrent_days) == var.noncurrent_days
    error_message = "noncurrent_days must be a whole number from 1 to 365."
  }
}

variable "abandoned_upload_days" {
  description = "Days after which an abandoned multipart upload is cleared away. Lakefall makes none; other programs may."
  type        = number
  default     = 1

  validation {
    condition     = var.abandoned_upload_days >= 1 && var.abandoned_upload_days <= 365
    error_message = "abandoned_upload_days must be 1 to 365."
  }
}

variable "kms_key_arn" {
  description = "The KMS key that encrypts bucket and database. Null: one is made here."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a KMS key."
  }
}

variable "administrator_arns" {
  description = "Principals who may delete objects beside the compactor: for emptying the bucket, or for cleaning up by hand. Everybody else is refused, whatever their own policies say."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.administrator_arns : can(regex("^arn:[a-z-]+:(iam|sts)::[0-9]{12}:", arn))])
    error_message = "administrator_arns must be ARNs of IAM principals (arn:aws:iam::123456789012:role/name)."
  }
}

variable "force_destroy" {
  description = "Whether `terraform destroy` deletes the bucket with all that is in it. Also turns off the database's protection and its last snapshot. For trials only."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = contains([true, false], var.force_destroy)
    error_message = "force_destroy must be true or false."
  }
}

# Who may assume the roles.

variable "oidc_provider_arn" {
  description = "The EKS cluster's OIDC provider, for IAM roles of service accounts (IRSA). Null: none."
  type        = string
  default     = null

  validation {
    condition     = var.oidc_provider_arn == null || can(regex("^arn:[a-z-]+:iam::[0-9]{12}:oidc-provider/.+", var.oidc_provider_arn))
    error_message = "oidc_provider_arn must be like arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/ABC."
  }
}

variable "pod_identity_cluster" {
  description = "The EKS cluster whose Pod Identity agent hands out the roles, instead of or beside IRSA. Null: none."
  type        = string
  default     = null

  validation {
    condition     = var.pod_identity_cluster == null || can(regex("^[0-9A-Za-z][A-Za-z0-9_-]{0,99}$", var.pod_identity_cluster))
    error_message = "pod_identity_cluster must be the name of an EKS cluster."
  }
}

variable "trusted_services" {
  description = "AWS services whose tasks or machines run the roles where there is no EKS: ecs-tasks.amazonaws.com, ec2.amazonaws.com."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for service in var.trusted_services : contains(["ecs-tasks.amazonaws.com", "ec2.amazonaws.com"], service)])
    error_message = "trusted_services may hold ecs-tasks.amazonaws.com and ec2.amazonaws.com."
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

# The database.

variable "database" {
  description = "`aurora`: Aurora Serverless v2. `rds`: RDS for PostgreSQL with a synchronous standby in another zone. `none`: bring your own."
  type        = string
  default     = "aurora"

  validation {
    condition     = contains(["aurora", "rds", "none"], var.database)
    error_message = "database must be aurora, rds or none."
  }
}

variable "vpc_id" {
  description = "The VPC of the database. Needed unless database is none."
  type        = string
  default     = null

  validation {
    condition     = var.vpc_id == null || can(regex("^vpc-", var.vpc_id))
    error_message = "vpc_id must be the id of a VPC (vpc-...)."
  }
}

variable "subnet_ids" {
  description = "Private subnets of the database, in two zones or more. Needed unless database is none."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.subnet_ids) == 0 || length(distinct(var.subnet_ids)) >= 2
    error_message = "subnet_ids must name at least two subnets, in different zones."
  }
}

variable "client_security_group_ids" {
  description = "Security groups that may reach the database: those of the nodes or pods that run metadata replicas and migrations."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.client_security_group_ids : can(regex("^sg-", id))])
    error_message = "client_security_group_ids must be ids of security groups (sg-...)."
  }
}

variable "postgres_version" {
  description = "The version of PostgreSQL, with its minor version."
  type        = string
  default     = "15.10"

  validation {
    condition     = can(regex("^1[3-9](\\.[0-9]+)?$", var.postgres_version))
    error_message = "postgres_version must be 13 or later, like 15.10."
  }
}

variable "aurora_capacity" {
  description = "Least and most Aurora capacity units (ACU, some 2 GiB of memory each). Metadata replicas renew their leases every second, so a cluster never pauses: least is what an idle month costs."
  type = object({
    min = optional(number, 0.5)
    max = optional(number, 8)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.aurora_capacity.min >= 0.5 && var.aurora_capacity.max <= 256 && var.aurora_capacity.max >= var.aurora_capacity.min
    error_message = "aurora_capacity must be within 0.5 and 256 ACU, and max at least min. 0 would pause the database under running replicas."
  }
}

variable "aurora_readers" {
  description = "Readers of the Aurora cluster, which take over when the writer's zone fails. None: a failover takes minutes instead of some 30 seconds, and loses nothing either."
  type        = number
  default     = 1

  validation {
    condition     = var.aurora_readers >= 0 && var.aurora_readers <= 15
    error_message = "aurora_readers must be 0 to 15."
  }
}

variable "rds_instance_class" {
  description = "The machine of RDS for PostgreSQL."
  type        = string
  default     = "db.m7g.large"

  validation {
    condition     = can(regex("^db\\.", var.rds_instance_class))
    error_message = "rds_instance_class must be an RDS class, like db.m7g.large."
  }
}

variable "rds_storage_gib" {
  description = "Storage of RDS for PostgreSQL, and how far it may grow by itself."
  type = object({
    initial = optional(number, 50)
    max     = optional(number, 500)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.rds_storage_gib.initial >= 20 && var.rds_storage_gib.max > var.rds_storage_gib.initial
    error_message = "rds_storage_gib.initial must be at least 20, and max above it."
  }
}

variable "backup_retention_days" {
  description = "Days that a point-in-time restore of the database can go back."
  type        = number
  default     = 7

  validation {
    condition     = var.backup_retention_days >= 1 && var.backup_retention_days <= 35
    error_message = "backup_retention_days must be 1 to 35."
  }
}
