# Who may do what in the bucket. Cloud Storage counts overwriting as deleting: who may only create can overwrite nothing.
# Without storage.objects.list a missing object is answered with 403 instead of 404, hence that right for all; listing cannot be
# bound to a prefix by a condition, so a bucket of Lakefall's own is best.

locals {
  identities = {
    gateway   = { account = var.service_accounts.gateway, title = "Lakefall gateway" }
    compactor = { account = var.service_accounts.compactor, title = "Lakefall compactor" }
  }

  permissions = {
    list   = ["storage.objects.list", "storage.buckets.get"]
    record = ["storage.objects.create", "storage.objects.get"]
    delete = ["storage.objects.delete"]
  }

  segments = "resource.name.startsWith(\"${local.objects}seg/\")"
  tables   = "resource.name.startsWith(\"${local.objects}tables/\")"
  mark     = "resource.name == \"${local.objects}meta/mark.json\""

  # role of a process, custom role, where.
  grants = {
    "gateway-list"      = { identity = "gateway", role = "list", where = null }
    "gateway-segments"  = { identity = "gateway", role = "record", where = local.segments }
    "gateway-tables"    = { identity = "gateway", role = "read", where = local.tables }
    "compactor-list"    = { identity = "compactor", role = "list", where = null }
    "compactor-records" = { identity = "compactor", role = "record", where = "${local.segments} || ${local.tables} || ${local.mark}" }
    "collector-delete"  = { identity = "compactor", role = "delete", where = "${local.segments} || ${local.tables} || ${local.mark}" }
  }

  roles = merge(local.permissions, { read = ["storage.objects.get"] })
}

resource "google_service_account" "this" {
  for_each = local.identities

  project      = var.project
  account_id   = "${var.name}-${each.key}"
  display_name = each.value.title
}

resource "google_service_account_iam_member" "workload_identity" {
  for_each = local.identities

  service_account_id = google_service_account.this[each.key].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${local.pool}[${var.namespace}/${each.value.account}]"
}

resource "google_project_iam_custom_role" "this" {
  for_each = local.roles

  project     = var.project
  role_id     = replace("${var.name}_${each.key}", "-", "_")
  title       = "Lakefall: ${each.key}"
  permissions = each.value
}

resource "google_storage_bucket_iam_member" "this" {
  for_each = local.grants

  bucket = google_storage_bucket.this.name
  role   = google_project_iam_custom_role.this[each.value.role].id
  member = "serviceAccount:${google_service_account.this[each.value.identity].email}"

  dynamic "condition" {
    for_each = each.value.where == null ? [] : [each.value.where]
    content {
      title      = each.key
      expression = condition.value
    }
  }
}
