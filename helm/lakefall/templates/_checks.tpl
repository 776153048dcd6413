{{/* What must hold between values: each violation is one sentence that says what to change. Included once, by config.yaml. */}}
{{- define "lakefall.checks" -}}
{{- $v := .Values -}}
{{- $urls := dict
      "config.metadata.url" (dig "metadata" "url" "" $v.config)
      "metadata.config.metadata.url" (dig "metadata" "url" "" $v.metadata.config)
      "migration.url" $v.migration.url
      "config.store.url" (dig "store" "url" "" $v.config)
      "config.store.endpoint" (dig "store" "endpoint" "" $v.config)
      "config.telemetry.endpoint" (dig "telemetry" "endpoint" "" $v.config)
      "config.catalog.uri" (dig "catalog" "uri" "" $v.config)
      "config.catalog.oauth_uri" (dig "catalog" "oauth_uri" "" $v.config) -}}
{{- range $role := list "gateway" "metadata" "compactor" -}}
{{- $own := default (dict) (index $v $role).config -}}
{{- $_ := set $urls (printf "%s.config.store.url" $role) (dig "store" "url" "" $own) -}}
{{- $_ := set $urls (printf "%s.config.store.endpoint" $role) (dig "store" "endpoint" "" $own) -}}
{{- $_ := set $urls (printf "%s.config.telemetry.endpoint" $role) (dig "telemetry" "endpoint" "" $own) -}}
{{- $_ := set $urls (printf "%s.config.catalog.uri" $role) (dig "catalog" "uri" "" $own) -}}
{{- $_ := set $urls (printf "%s.config.catalog.oauth_uri" $role) (dig "catalog" "oauth_uri" "" $own) -}}
{{- end -}}
{{- range $name, $url := $urls -}}
{{- if regexMatch "://[^/@]*:[^/]*@" (default "" $url) -}}
{{- fail (printf "%s: a password does not belong into it, as it stands in a ConfigMap; name a Secret with it (secrets.databasePassword, migration.password, secrets.storeCredentials, secrets.telemetryHeaders, secrets.catalogToken)" $name) -}}
{{- end -}}
{{- end -}}
{{- if not (include "lakefall.secret" (list . "token")) -}}
{{- if not (and $v.rpcTLS.enabled $v.secrets.receiptsKey.existingSecret) -}}
{{- fail "secrets.token.existingSecret: name a Secret with the token that the roles show each other (kubectl create secret generic lakefall --from-literal=token=$(openssl rand -hex 32)), or turn rpcTLS on and set secrets.receiptsKey.existingSecret" -}}
{{- end -}}
{{- end -}}
{{- if and $v.secrets.catalogToken.existingSecret $v.secrets.catalogClientSecret.existingSecret -}}
{{- fail "secrets.catalogToken.existingSecret and secrets.catalogClientSecret.existingSecret: the catalog is shown a token or a client's secret; name one" -}}
{{- end -}}
{{- with $v.rpcTLS -}}
{{- if .enabled -}}
{{- range $role := list "gateway" "metadata" "compactor" -}}
{{- if not (or $v.rpcTLS.certManager.issuerName (index $v.rpcTLS.existingSecrets $role)) -}}
{{- fail (printf "rpcTLS.existingSecrets.%s: name a Secret with tls.crt, tls.key and ca.crt, or set rpcTLS.certManager.issuerName" $role) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with $v.gateway -}}
{{- if and .autoscaling.enabled .keda.enabled -}}
{{- fail "gateway.autoscaling.enabled and gateway.keda.enabled: two would pull at the same Deployment; turn one off" -}}
{{- end -}}
{{- if and .autoscaling.enabled (not .autoscaling.cpuPercent) (not .autoscaling.bufferPercent) -}}
{{- fail "gateway.autoscaling: cpuPercent and bufferPercent are both 0, so nothing would scale; set one" -}}
{{- end -}}
{{- range $kind := list "autoscaling" "keda" -}}
{{- with index $v.gateway $kind -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- fail (printf "gateway.%s.minReplicas is %d: it must not be above maxReplicas, which is %d" $kind (int .minReplicas) (int .maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .ingress.enabled (not .ingress.hosts) -}}
{{- fail "gateway.ingress.hosts: name at least one host" -}}
{{- end -}}
{{- if and .ingress.enabled .ingress.certManager.issuerName (not .ingress.tlsSecret) -}}
{{- fail "gateway.ingress.tlsSecret: name the Secret that cert-manager is to fill" -}}
{{- end -}}
{{- if and .httpRoute.enabled (not .httpRoute.parentRefs) -}}
{{- fail "gateway.httpRoute.parentRefs: name at least one Gateway" -}}
{{- end -}}
{{- if and $v.networkPolicy.enabled (or .ingress.enabled .httpRoute.enabled) (not $v.networkPolicy.ingressControllers) -}}
{{- fail "networkPolicy.ingressControllers: say where the Ingress controller or Gateway is, as [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress-nginx}}}]; else nothing would come through" -}}
{{- end -}}
{{- if and .cacheDisk.enabled (index .resources.limits "ephemeral-storage") (ne .cacheDisk.medium "Memory") -}}
{{- if lt (include "lakefall.mib" (index .resources.limits "ephemeral-storage") | int) (include "lakefall.mib" .cacheDisk.size | int) -}}
{{- fail (printf "gateway.resources.limits.ephemeral-storage is %s: with gateway.cacheDisk it must hold %s and a little, or the pod is evicted" (index .resources.limits "ephemeral-storage") .cacheDisk.size) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with $v.compactor.keda -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- fail (printf "compactor.keda.minReplicas is %d: it must not be above maxReplicas, which is %d" (int .minReplicas) (int .maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- range $role := list "gateway" "compactor" -}}
{{- $limit := include "lakefall.mib" (index $v $role).resources.limits.memory | int -}}
{{- $needed := include (printf "lakefall.%sMib" $role) $ | int -}}
{{- if lt $limit $needed -}}
{{- fail (printf "%s.resources.limits.memory is %s: what its settings allow at once is %d MiB; raise the limit or lower the settings" $role (toString (index $v $role).resources.limits.memory) $needed) -}}
{{- end -}}
{{- end -}}
{{- if and $v.evaluation.enabled $v.migration.enabled (not (dig "metadata" "url" "" $v.config)) -}}
{{- fail "migration.enabled: the database of the evaluation comes with the chart, so nothing can be migrated before it; set it to false, as values-evaluation.yaml does" -}}
{{- end -}}
{{- end -}}

{{/* A quantity of memory in MiB. */}}
{{- define "lakefall.mib" -}}
{{- $text := toString . -}}
{{- if hasSuffix "Gi" $text }}{{ mulf (trimSuffix "Gi" $text | float64) 1024 | int64 }}
{{- else if hasSuffix "Mi" $text }}{{ trimSuffix "Mi" $text | float64 | int64 }}
{{- else if hasSuffix "G" $text }}{{ divf (mulf (trimSuffix "G" $text | float64) 1e9) 1048576 | int64 }}
{{- else if hasSuffix "M" $text }}{{ divf (mulf (trimSuffix "M" $text | float64) 1e6) 1048576 | int64 }}
{{- else }}{{ divf (float64 $text) 1048576 | int64 }}
{{- end -}}
{{- end -}}

{{/* What the settings let a gateway hold at once, in MiB. Defaults are those of docs/configuration.md. */}}
{{- define "lakefall.gatewayMib" -}}
{{- $buffers := include "lakefall.setting" (list . "gateway" "ingest" "buffer_bytes" 67108864) | int64 -}}
{{- $buffers = add $buffers (include "lakefall.setting" (list . "gateway" "read" "buffer_bytes" 134217728) | int64) -}}
{{- $buffers = add $buffers (include "lakefall.setting" (list . "gateway" "cache" "memory_bytes" 67108864) | int64) -}}
{{- $buffers = add $buffers (include "lakefall.setting" (list . "gateway" "cache" "cold_bytes" 16777216) | int64) -}}
{{- $statements := include "lakefall.setting" (list . "gateway" "sql" "max_concurrent" 4) | int64 -}}
{{- $buffers = add $buffers (mul $statements (include "lakefall.setting" (list . "gateway" "sql" "memory_bytes" 268435456) | int64)) -}}
{{- $disk := 0 -}}
{{- if and .Values.gateway.cacheDisk.enabled (eq .Values.gateway.cacheDisk.medium "Memory") -}}
{{- $disk = include "lakefall.mib" .Values.gateway.cacheDisk.size | int -}}
{{- end -}}
{{- add (div $buffers 1048576) 128 $disk -}}
{{- end -}}

{{- define "lakefall.compactorMib" -}}
{{- $threads := include "lakefall.setting" (list . "compactor" "compactor" "threads" 1) | int64 -}}
{{- add (mul $threads 200) 256 -}}
{{- end -}}
