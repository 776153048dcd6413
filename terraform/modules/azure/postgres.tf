# PostgreSQL. Zone redundant: the standby in another zone has each commit on disk before it is acknowledged, so the loss of a zone
# loses nothing that was acknowledged. Read replicas follow later: promoting one loses what had not come through.

resource "azurerm_postgresql_flexible_server" "this" {
  count = var.database == "flexible" ? 1 : 0

  name                = var.name
  resource_group_name = var.resource_group_name
  location            = var.location
  version             = tostring(var.postgres_version)
  sku_name            = var.database_sku
  storage_mb          = 65536
  auto_grow_enabled   = true
  zone                = "1"

  administrator_login               = "postgres"
  administrator_password_wo         = var.database_password
  administrator_password_wo_version = 1

  delegated_subnet_id           = var.database_subnet_id
  private_dns_zone_id           = var.private_dns_zone_id
  public_network_access_enabled = false
  backup_retention_days         = var.backup_retention_days

  high_availability {
    mode                      = "ZoneRedundant"
    standby_availability_zone = "2"
  }

  tags = local.tags

  lifecycle {
    # After a failover the two zones have changed places.
    ignore_changes = [zone, high_availability[0].standby_availability_zone]

    precondition {
      condition     = var.database_subnet_id != null && var.private_dns_zone_id != null
      error_message = "The database needs database_subnet_id and private_dns_zone_id; or set database to none."
    }
  }
}

resource "azurerm_postgresql_flexible_server_configuration" "this" {
  for_each = var.database == "flexible" ? { require_secure_transport = "on", synchronous_commit = "on" } : {}

  server_id = azurerm_postgresql_flexible_server.this[0].id
  name      = each.key
  value     = each.value
}

resource "azurerm_postgresql_flexible_server_database" "this" {
  count = var.database == "flexible" ? 1 : 0

  server_id = azurerm_postgresql_flexible_server.this[0].id
  name      = "lakefall"
}
