output "api" {
  description = "Where the API is within the cluster."
  value       = "http://${var.release}-gateway.${var.namespace}.svc:8080"
}

output "values" {
  description = "The values that are set here, as JSON, for review."
  value       = jsonencode(local.set)
}

output "status" {
  description = "The release's status."
  value       = helm_release.this.status
}
