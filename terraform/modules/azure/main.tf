# What Lakefall needs of an Azure subscription: a container, a PostgreSQL, and identities that may do what they must and nothing else.

locals {
  tags = merge({ app = "lakefall" }, var.tags)

  identities = {
    gateway   = var.service_accounts.gateway
    compactor = var.service_accounts.compactor
  }

  blobs = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"

  # `add` creates a blob that is not there; only `write` overwrites. Roles hold for the whole container: Azure has no prefixes
  # for blobs without a hierarchical namespace, which Lakefall does not need.
  data_actions = {
    gateway   = ["${local.blobs}/read", "${local.blobs}/add/action"]
    compactor = ["${local.blobs}/read", "${local.blobs}/add/action", "${local.blobs}/write", "${local.blobs}/delete"]
  }
}

resource "azurerm_storage_account" "this" {
  name                = var.storage_account_name
  resource_group_name = var.resource_group_name
  location            = var.location

  account_kind             = "StorageV2"
  account_tier             = "Standard"
  account_replication_type = var.replication
  access_tier              = "Hot"

  min_tls_version                   = "TLS1_2"
  https_traffic_only_enabled        = true
  allow_nested_items_to_be_public   = false
  shared_access_key_enabled         = false
  default_to_oauth_authentication   = true
  infrastructure_encryption_enabled = true

  network_rules {
    default_action             = "Deny"
    bypass                     = ["AzureServices"]
    virtual_network_subnet_ids = var.allowed_subnet_ids
  }

  blob_properties {
    versioning_enabled = true

    delete_retention_policy {
      days = var.noncurrent_days
    }

    container_delete_retention_policy {
      days = 30
    }
  }

  tags = local.tags
}

resource "azurerm_storage_container" "this" {
  name                  = var.name
  storage_account_id    = azurerm_storage_account.this.id
  container_access_type = "private"
}

# No rule may touch a current blob: which are still needed only the ledger knows. Blocks that were never put together go by
# themselves after a week.
resource "azurerm_storage_management_policy" "this" {
  storage_account_id = azurerm_storage_account.this.id

  rule {
    name    = "old-versions"
    enabled = true

    filters {
      blob_types   = ["blockBlob"]
      prefix_match = ["${azurerm_storage_container.this.name}/"]
    }

    actions {
      version {
        delete_after_days_since_creation = var.noncurrent_days
      }
    }
  }
}

resource "azurerm_user_assigned_identity" "this" {
  for_each = local.identities

  name                = "${var.name}-${each.key}"
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = local.tags
}

resource "azurerm_federated_identity_credential" "this" {
  for_each = local.identities

  name                = "${var.name}-${each.key}"
  resource_group_name = var.resource_group_name
  parent_id           = azurerm_user_assigned_identity.this[each.key].id
  issuer              = var.oidc_issuer_url
  subject             = "system:serviceaccount:${var.namespace}:${each.value}"
  audience            = ["api://AzureADTokenExchange"]
}

resource "azurerm_role_definition" "this" {
  for_each = local.data_actions

  name              = "${var.storage_account_name}-${var.name}-${each.key}"
  scope             = azurerm_storage_account.this.id
  description       = "Lakefall ${each.key}"
  assignable_scopes = [azurerm_storage_account.this.id]

  permissions {
    data_actions = each.value
  }
}

resource "azurerm_role_assignment" "this" {
  for_each = local.data_actions

  scope              = azurerm_storage_container.this.id
  role_definition_id = azurerm_role_definition.this[each.key].role_definition_resource_id
  principal_id       = azurerm_user_assigned_identity.this[each.key].principal_id
  principal_type     = "ServicePrincipal"
}
