output "store_url" {
  description = "Where objects are kept."
  value       = module.lakefall.store_url
}

output "metadata_url" {
  description = "Where order is kept, without a password."
  value       = module.lakefall.metadata_url
}

output "api" {
  description = "Where the API is within the cluster; null before the release."
  value       = one(module.release[*].api)
}
