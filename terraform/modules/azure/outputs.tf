output "store_url" {
  description = "What `store.url` is to be. The processes also need the variable AZURE_STORAGE_ACCOUNT_NAME."
  value       = "az://${azurerm_storage_container.this.name}"
}

output "environment" {
  description = "Environment variables that the processes of each role need."
  value = {
    for role, made in azurerm_user_assigned_identity.this : role => {
      AZURE_STORAGE_ACCOUNT_NAME = azurerm_storage_account.this.name
    }
  }
}

output "service_account_annotations" {
  description = "What workload identity needs on the Kubernetes service account of each role. Pods also need the label azure.workload.identity/use=true."
  value       = { for role, made in azurerm_user_assigned_identity.this : role => { "azure.workload.identity/client-id" = made.client_id } }
}

output "database_host" {
  description = "The database's host name; null without a database of this module."
  value       = one(azurerm_postgresql_flexible_server.this[*].fqdn)
}

output "metadata_url" {
  description = "What `metadata.url` is to be, without a password; null without a database of this module."
  value       = one([for made in azurerm_postgresql_flexible_server.this : "postgres://lakefall@${made.fqdn}:5432/lakefall?sslmode=verify-full"])
}

output "data_actions" {
  description = "What each identity may do with blobs, for review."
  value       = local.data_actions
}
