# The module with a mocked Azure; see tests/terraform/test_modules.py.

mock_provider "azurerm" {
  mock_resource "azurerm_postgresql_flexible_server" {
    defaults = { fqdn = "lakefall.postgres.database.azure.com" }
  }
}

variables {
  resource_group_name  = "acme"
  location             = "germanywestcentral"
  storage_account_name = "acmelakefall"
  oidc_issuer_url      = "https://germanywestcentral.oic.prod-aks.azure.com/a/b/"
  database_password    = "not-a-secret-but-long"
}

run "flexible_server" {
  variables {
    database_subnet_id  = "/subscriptions/s/resourceGroups/acme/providers/Microsoft.Network/virtualNetworks/v/subnets/database"
    private_dns_zone_id = "/subscriptions/s/resourceGroups/acme/providers/Microsoft.Network/privateDnsZones/lakefall.postgres.database.azure.com"
  }

  assert {
    condition     = output.store_url == "az://lakefall" && output.metadata_url == "postgres://lakefall@lakefall.postgres.database.azure.com:5432/lakefall?sslmode=verify-full"
    error_message = "store_url: ${output.store_url}, metadata_url: ${output.metadata_url}"
  }

  assert {
    condition     = azurerm_postgresql_flexible_server.this[0].high_availability[0].mode == "ZoneRedundant"
    error_message = "The database must have a standby in another zone."
  }

  assert {
    condition     = azurerm_federated_identity_credential.this["compactor"].subject == "system:serviceaccount:lakefall:lakefall-compactor"
    error_message = "Workload identity names another service account."
  }
}

run "without_a_database" {
  variables {
    database = "none"
  }

  assert {
    condition     = output.metadata_url == null
    error_message = "There is no database, but something names one."
  }
}

run "a_database_needs_a_network" {
  command         = plan
  expect_failures = [azurerm_postgresql_flexible_server.this]
}

run "what_makes_no_sense_is_refused" {
  command = plan

  variables {
    storage_account_name = "Acme-Lakefall"
    replication          = "GRS"
    database_sku         = "B_Standard_B1ms"
    database_password    = "short"
  }

  expect_failures = [var.storage_account_name, var.replication, var.database_sku, var.database_password]
}
