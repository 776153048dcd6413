# The chart helm/lakefall with what a cloud's module made. It holds no secret: passwords and tokens are in Kubernetes secrets
# that exist before, so they are in no state and no plan.

locals {
  annotations = { for role in ["gateway", "metadata", "compactor"] : role => lookup(var.service_account_annotations, role, {}) }

  set = {
    image = { for key, value in var.image : key => value if value != "" }

    config = {
      store    = { for key, value in { url = var.store_url, region = var.store_region } : key => value if value != null }
      metadata = { url = var.metadata_url }
    }

    secrets = merge(
      {
        token            = { existingSecret = var.token_secret }
        databasePassword = { existingSecret = var.database_secret }
      },
      var.database_ca_config_map == null ? {} : { databaseCA = { existingConfigMap = var.database_ca_config_map } },
    )

    storeEnv = [for name, value in var.store_environment : { name = name, value = value }]

    gateway   = { serviceAccount = { annotations = local.annotations.gateway }, podLabels = var.pod_labels }
    metadata  = { serviceAccount = { annotations = local.annotations.metadata } }
    compactor = { serviceAccount = { annotations = local.annotations.compactor }, podLabels = var.pod_labels }

    migration = merge(
      var.migration_url == null ? {} : { url = var.migration_url },
      var.migration_secret == null ? {} : { password = { existingSecret = var.migration_secret } },
    )

    networkPolicy = { cloudIdentity = var.cloud_identity }
  }
}

resource "helm_release" "this" {
  name      = var.release
  namespace = var.namespace
  chart     = var.chart
  version   = var.chart_version

  # JSON is YAML, too.
  values = concat([jsonencode(local.set)], var.values)

  # A release that does not become ready is put back to what ran before.
  atomic          = true
  cleanup_on_fail = true
  timeout         = 900
  max_history     = 10
}
