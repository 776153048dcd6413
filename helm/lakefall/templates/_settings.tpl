{{/* The settings of a role as TOML, and where its secrets come from. */}}

{{/* Settings of a role as written in the values: the common ones, over them the role's own. As JSON. */}}
{{- define "lakefall.written" -}}
{{- $root := index . 0 -}}
{{- $own := dict -}}
{{- with index $root.Values (index . 1) }}{{ $own = default (dict) .config }}{{ end -}}
{{- mergeOverwrite (deepCopy $root.Values.config) (deepCopy $own) | toJson -}}
{{- end -}}

{{/* One setting of a role, or its default: root, role, section, key, default. */}}
{{- define "lakefall.setting" -}}
{{- $written := include "lakefall.written" (list (index . 0) (index . 1)) | fromJson -}}
{{- $section := default (dict) (get $written (index . 2)) -}}
{{- ternary (get $section (index . 3)) (index . 4) (hasKey $section (index . 3)) | int64 -}}
{{- end -}}

{{/* The Secret and key of a secret by name: root, name. Empty where there is none. As JSON with `name` and `key`. */}}
{{- define "lakefall.secret" -}}
{{- $root := index . 0 -}}
{{- $secret := index $root.Values.secrets (index . 1) -}}
{{- $name := $secret.existingSecret -}}
{{- $own := list "token" "receiptsKey" "databasePassword" "storeCredentials" -}}
{{- if and (not $name) $root.Values.evaluation.enabled (has (index . 1) $own) -}}
{{- $name = include "lakefall.name" (list $root "evaluation") -}}
{{- end -}}
{{- if $name -}}{{ merge (dict "name" $name) (omit $secret "existingSecret") | toJson }}{{- end -}}
{{- end -}}

{{- define "lakefall.databaseUrl" -}}
{{- $url := dig "metadata" "url" "" .Values.config -}}
{{- if and (not $url) .Values.evaluation.enabled -}}
{{- $url = printf "postgres://lakefall@%s:5432/lakefall" (include "lakefall.name" (list . "postgres")) -}}
{{- end -}}
{{- required "config.metadata.url: name the database, as postgres://user@host/database; its password goes into secrets.databasePassword" $url -}}
{{- end -}}

{{- define "lakefall.storeUrl" -}}
{{- $url := dig "store" "url" "" .Values.config -}}
{{- if and (not $url) .Values.evaluation.enabled }}{{ $url = "s3://lakefall/evaluation" }}{{ end -}}
{{- required "config.store.url: name the bucket, as s3://bucket/prefix, gs://bucket/prefix or az://container/prefix" $url -}}
{{- end -}}

{{/* The name that certificates of replicas bear. */}}
{{- define "lakefall.rpcName" -}}
{{ include "lakefall.name" (list . "metadata") }}.{{ .Release.Namespace }}.svc
{{- end -}}

{{/* The settings of a role with what the chart sets itself: only the sections that the role reads. As JSON: root, role. */}}
{{- define "lakefall.settings" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
{{- $secrets := "/run/secrets/lakefall" -}}
{{- $sections := dict
      "gateway" (list "log" "http" "store" "segment" "uploads" "ingest" "read" "sql" "cache" "limits" "usage" "metadata" "telemetry")
      "compactor" (list "log" "http" "store" "compactor" "collector" "catalog" "usage" "metadata" "telemetry")
      "metadata" (list "log" "http" "metadata" "telemetry")
      "migration" (list "log" "metadata") -}}
{{- $written := include "lakefall.written" . | fromJson -}}
{{- $set := dict -}}
{{- range $section := get $sections $role -}}
{{- with get $written $section }}{{ $_ := set $set $section . }}{{ end -}}
{{- end -}}
{{- $metadata := default (dict) (get $set "metadata") -}}
{{- if ne $role "migration" -}}
{{- $_ := set $set "admin_listen" (include "lakefall.listen" (list $root 8081)) -}}
{{- if include "lakefall.secret" (list $root "token") }}{{ $_ := set $metadata "token_file" (printf "%s/token" $secrets) }}{{ end -}}
{{- $telemetry := default (dict) (get $set "telemetry") -}}
{{- if include "lakefall.secret" (list $root "telemetryHeaders") }}{{ $_ := set $telemetry "headers_file" (printf "%s/telemetry-headers" $secrets) }}{{ end -}}
{{- with $root.Values.secrets.telemetryCA -}}
{{- if or .existingSecret .existingConfigMap }}{{ $_ := set $telemetry "ca_file" (printf "%s/telemetry-ca.crt" $secrets) }}{{ end -}}
{{- end -}}
{{- if $telemetry }}{{ $_ := set $set "telemetry" $telemetry }}{{ end -}}
{{- if $root.Values.rpcTLS.enabled -}}
{{- $tls := printf "%s-tls" $secrets -}}
{{- $_ := set $metadata "tls" (dict "ca" (printf "%s/ca.crt" $tls) "cert" (printf "%s/tls.crt" $tls) "key" (printf "%s/tls.key" $tls)
      "server_name" (include "lakefall.rpcName" $root)) -}}
{{- end -}}
{{- end -}}
{{- if eq $role "compactor" -}}
{{- $catalog := default (dict) (get $set "catalog") -}}
{{- if include "lakefall.secret" (list $root "catalogToken") }}{{ $_ := set $catalog "token_file" (printf "%s/catalog-token" $secrets) }}{{ end -}}
{{- if include "lakefall.secret" (list $root "catalogClientSecret") }}{{ $_ := set $catalog "client_secret_file" (printf "%s/catalog-client-secret" $secrets) }}{{ end -}}
{{- with $root.Values.secrets.catalogCA -}}
{{- if or .existingSecret .existingConfigMap }}{{ $_ := set $catalog "ca_file" (printf "%s/catalog-ca.crt" $secrets) }}{{ end -}}
{{- end -}}
{{- if $catalog }}{{ $_ := set $set "catalog" $catalog }}{{ end -}}
{{- end -}}
{{- if has $role (list "metadata" "migration") -}}
{{- $own := and (eq $role "migration") $root.Values.migration.url -}}
{{- $postgres := default (dict) (get $metadata "postgres") -}}
{{- $_ := set $metadata "url" (default (include "lakefall.databaseUrl" $root) $own) -}}
{{- if include "lakefall.databasePassword" . }}{{ $_ := set $postgres "password_file" (printf "%s/database-password" $secrets) }}{{ end -}}
{{- with $root.Values.secrets.databaseCA -}}
{{- if or .existingSecret .existingConfigMap }}{{ $_ := set $postgres "ca_file" (printf "%s/database-ca.crt" $secrets) }}{{ end -}}
{{- end -}}
{{- if $postgres }}{{ $_ := set $metadata "postgres" $postgres }}{{ end -}}
{{- if eq $role "metadata" }}{{ $_ := set $metadata "listen" (include "lakefall.listen" (list $root 8082)) }}{{ end -}}
{{- else -}}
{{- $metadata = omit $metadata "url" "postgres" "shards" "lease_ms" "checkpoint_entries" "checkpoint_bytes" "recent_extents" -}}
{{- $replicas := printf "%s://%s:8082" (include "lakefall.scheme" $root) (include "lakefall.name" (list $root "metadata")) -}}
{{- $_ := set $metadata "endpoints" (list $replicas) -}}
{{- $store := default (dict) (get $set "store") -}}
{{- $_ := set $store "url" (include "lakefall.storeUrl" $root) -}}
{{- if and $root.Values.evaluation.enabled (not (get $store "endpoint")) -}}
{{- $endpoint := printf "http://%s:7070" (include "lakefall.name" (list $root "s3")) -}}
{{- $_ := mergeOverwrite $store (dict "endpoint" $endpoint "allow_http" true "path_style" true) -}}
{{- end -}}
{{- $_ := set $set "store" $store -}}
{{- end -}}
{{- $_ := set $set "metadata" $metadata -}}
{{- if eq $role "gateway" -}}
{{- $_ := set $set "listen" (include "lakefall.listen" (list $root 8080)) -}}
{{- if include "lakefall.secret" (list $root "receiptsKey") -}}
{{- $_ := set $set "receipts" (dict "key_file" (printf "%s/receipts-key" $secrets)) -}}
{{- end -}}
{{- with $root.Values.gateway.cacheDisk -}}
{{- if .enabled -}}
{{- $bytes := div (mul (trimSuffix "Gi" .size | int64) 1073741824 9) 10 -}}
{{- $_ := set $set "cache" (mergeOverwrite (default (dict) (get $set "cache")) (dict "disk_path" "/var/cache/lakefall" "disk_bytes" $bytes)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $set | toJson -}}
{{- end -}}

{{/* The Secret of the database's password for a role: root, role. As JSON, as above. */}}
{{- define "lakefall.databasePassword" -}}
{{- $migration := (index . 0).Values.migration.password -}}
{{- if and (eq (index . 1) "migration") $migration.existingSecret -}}
{{- dict "name" $migration.existingSecret "key" $migration.key | toJson -}}
{{- else -}}
{{- include "lakefall.secret" (list (index . 0) "databasePassword") -}}
{{- end -}}
{{- end -}}

{{/* A tree of settings as TOML: what has no section first, then each section. Takes a list of the tree and the path to it. */}}
{{- define "lakefall.toml" -}}
{{- $tree := index . 0 -}}
{{- $path := index . 1 -}}
{{- range $key, $value := $tree -}}
{{- if not (kindIs "map" $value) }}
{{ $key }} = {{ include "lakefall.tomlValue" $value }}
{{- end -}}
{{- end -}}
{{- range $key, $value := $tree -}}
{{- if kindIs "map" $value -}}
{{- $section := ternary $key (printf "%s.%s" $path $key) (empty $path) }}

[{{ $section }}]
{{- include "lakefall.toml" (list $value $section) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Numbers come out of YAML and JSON as floats; TOML tells 1.0 from 1, and so does the executable. */}}
{{- define "lakefall.tomlValue" -}}
{{- if kindIs "float64" . -}}
{{- if eq (floor .) . }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end -}}

{{/* The ConfigMap's text of a role. */}}
{{- define "lakefall.file" -}}
{{- include "lakefall.toml" (list (include "lakefall.settings" . | fromJson) "") | trim -}}
{{- end -}}
