# PostgreSQL. What an acknowledgement of Lakefall survives is what a commit of this database survives, so:
#
# | | a commit is acknowledged when | after the loss of a zone |
# |---|---|---|
# | `aurora` | 4 of 6 copies in three zones have it on disk (the storage does this; `synchronous_standby_names` stays empty) | nothing acknowledged is lost |
# | `rds` (Multi-AZ instance) | the volume of the standby in the other zone has it, too (the volumes do this; the setting stays empty here as well) | nothing acknowledged is lost |
# | RDS single-AZ, or a read replica that is promoted | the one volume has it; replicas follow later | what had not been replicated is lost: not offered here |
#
# Lakefall warns at its start that it sees no synchronous standby: on both of these the warning is expected, as the replication
# is below PostgreSQL. `synchronous_commit` must stay `on` (it is set below): with `off`, a crash loses commits on any of them,
# and metadata replicas refuse to start.

locals {
  has_database = var.database != "none"
  major        = split(".", var.postgres_version)[0]
  port         = 5432

  # Slow statements are not logged: their parameters would be, too, which hold tenants' names.
  parameters = {
    "rds.force_ssl"      = { value = "1", apply = "immediate" }
    "synchronous_commit" = { value = "on", apply = "immediate" }
  }

  database_host = (
    var.database == "aurora" ? aws_rds_cluster.this[0].endpoint :
    var.database == "rds" ? aws_db_instance.this[0].address : null
  )
}

resource "aws_db_subnet_group" "this" {
  count = local.has_database ? 1 : 0

  name       = var.name
  subnet_ids = var.subnet_ids
  tags       = local.tags

  lifecycle {
    precondition {
      condition     = length(var.subnet_ids) >= 2 && var.vpc_id != null
      error_message = "The database needs vpc_id and at least two subnet_ids; or set database to none."
    }
  }
}

resource "aws_security_group" "database" {
  count = local.has_database ? 1 : 0

  name_prefix = "${var.name}-database-"
  description = "PostgreSQL of Lakefall: metadata replicas only"
  vpc_id      = var.vpc_id
  tags        = local.tags

  lifecycle {
    create_before_destroy = true
  }
}

# No rule for what goes out: the database begins no connection.
resource "aws_vpc_security_group_ingress_rule" "database" {
  for_each = local.has_database ? toset(var.client_security_group_ids) : toset([])

  description                  = "Metadata replicas and migrations"
  security_group_id            = aws_security_group.database[0].id
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
  tags                         = local.tags
}

resource "aws_rds_cluster_parameter_group" "this" {
  count = var.database == "aurora" ? 1 : 0

  name_prefix = "${var.name}-"
  family      = "aurora-postgresql${local.major}"
  description = "Lakefall: durable, encrypted connections"
  tags        = local.tags

  dynamic "parameter" {
    for_each = local.parameters
    content {
      name         = parameter.key
      value        = parameter.value.value
      apply_method = parameter.value.apply
    }
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_rds_cluster" "this" {
  count = var.database == "aurora" ? 1 : 0

  cluster_identifier = var.name
  engine             = "aurora-postgresql"
  engine_mode        = "provisioned"
  engine_version     = var.postgres_version
  database_name      = "lakefall"

  # The password of the first user is RDS's to make and to keep, in Secrets Manager: it is in no state and no plan.
  master_username               = "postgres"
  manage_master_user_password   = true
  master_user_secret_kms_key_id = local.kms_key_arn

  storage_encrypted               = true
  kms_key_id                      = local.kms_key_arn
  db_subnet_group_name            = aws_db_subnet_group.this[0].name
  vpc_security_group_ids          = [aws_security_group.database[0].id]
  db_cluster_parameter_group_name = aws_rds_cluster_parameter_group.this[0].name
  enabled_cloudwatch_logs_exports = ["postgresql"]

  backup_retention_period   = var.backup_retention_days
  copy_tags_to_snapshot     = true
  deletion_protection       = !var.force_destroy
  skip_final_snapshot       = var.force_destroy
  final_snapshot_identifier = var.force_destroy ? null : "${var.name}-final"

  serverlessv2_scaling_configuration {
    min_capacity = var.aurora_capacity.min
    max_capacity = var.aurora_capacity.max
  }

  tags = local.tags
}

resource "aws_rds_cluster_instance" "this" {
  count = var.database == "aurora" ? 1 + var.aurora_readers : 0

  identifier                 = "${var.name}-${count.index}"
  cluster_identifier         = aws_rds_cluster.this[0].id
  instance_class             = "db.serverless"
  engine                     = aws_rds_cluster.this[0].engine
  engine_version             = aws_rds_cluster.this[0].engine_version
  publicly_accessible        = false
  auto_minor_version_upgrade = true
  # Only readers of the first two tiers keep the writer's size, so that they can take over at once.
  promotion_tier = count.index < 2 ? count.index : 2
  tags           = local.tags
}

resource "aws_db_parameter_group" "this" {
  count = var.database == "rds" ? 1 : 0

  name_prefix = "${var.name}-"
  family      = "postgres${local.major}"
  description = "Lakefall: durable, encrypted connections"
  tags        = local.tags

  dynamic "parameter" {
    for_each = local.parameters
    content {
      name         = parameter.key
      value        = parameter.value.value
      apply_method = parameter.value.apply
    }
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_db_instance" "this" {
  count = var.database == "rds" ? 1 : 0

  identifier     = var.name
  engine         = "postgres"
  engine_version = var.postgres_version
  instance_class = var.rds_instance_class
  db_name        = "lakefall"

  username                      = "postgres"
  manage_master_user_password   = true
  master_user_secret_kms_key_id = local.kms_key_arn

  # A standby whose volume has every commit before it is acknowledged.
  multi_az = true

  allocated_storage               = var.rds_storage_gib.initial
  max_allocated_storage           = var.rds_storage_gib.max
  storage_type                    = "gp3"
  storage_encrypted               = true
  kms_key_id                      = local.kms_key_arn
  db_subnet_group_name            = aws_db_subnet_group.this[0].name
  vpc_security_group_ids          = [aws_security_group.database[0].id]
  parameter_group_name            = aws_db_parameter_group.this[0].name
  publicly_accessible             = false
  auto_minor_version_upgrade      = true
  enabled_cloudwatch_logs_exports = ["postgresql"]

  backup_retention_period   = var.backup_retention_days
  copy_tags_to_snapshot     = true
  deletion_protection       = !var.force_destroy
  skip_final_snapshot       = var.force_destroy
  final_snapshot_identifier = var.force_destroy ? null : "${var.name}-final"

  tags = local.tags
}
