{{/* Pieces of network policies. */}}

{{- define "lakefall.toDns" -}}
- to:
    {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports:
    {{- range .Values.networkPolicy.dnsPorts }}
    - {protocol: UDP, port: {{ . }}}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end -}}

{{/* The port in a URL, or its scheme's: URL, default. */}}
{{- define "lakefall.port" -}}
{{- default (index . 1) (regexFind "[0-9]+$" (regexFind ":[0-9]+$" (urlParse (index . 0)).host)) -}}
{{- end -}}

{{- define "lakefall.toDatabase" -}}
{{- $root := index . 0 -}}
{{- $url := include "lakefall.databaseUrl" $root -}}
{{- if eq (index . 1) "migration" }}{{ $url = default $url $root.Values.migration.url }}{{ end -}}
- to:
    {{- if and $root.Values.evaluation.enabled (not (dig "metadata" "url" "" $root.Values.config)) }}
    - podSelector:
        matchLabels:
          {{- include "lakefall.selector" (list $root "postgres") | nindent 10 }}
    {{- else }}
    {{- toYaml $root.Values.networkPolicy.database | nindent 4 }}
    {{- end }}
  ports:
    - {protocol: TCP, port: {{ include "lakefall.port" (list $url 5432) }}}
{{- end -}}

{{- define "lakefall.toReplicas" -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "lakefall.selector" (list . "metadata") | nindent 10 }}
  ports:
    - {protocol: TCP, port: 8082}
{{- end -}}

{{- define "lakefall.toStore" -}}
{{- if and .Values.evaluation.enabled (not (dig "store" "url" "" .Values.config)) -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "lakefall.selector" (list . "s3") | nindent 10 }}
  ports:
    - {protocol: TCP, port: 7070}
{{- else -}}
{{- $ports := list -}}
{{- range .Values.networkPolicy.storePorts }}{{ $ports = append $ports (int .) }}{{ end -}}
{{- with dig "store" "endpoint" "" .Values.config -}}
{{- $ports = append $ports (include "lakefall.port" (list . (ternary 80 443 (hasPrefix "http://" .))) | int) -}}
{{- end -}}
- to:
    {{- toYaml .Values.networkPolicy.store | nindent 4 }}
  ports:
    {{- range uniq $ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- $agents := dict
      "eks-pod-identity" (list "169.254.170.23/32" 80)
      "gke" (list "169.254.169.252/32" 988 987 80 "169.254.169.254/32")
      "instance" (list "169.254.169.254/32" 80) -}}
{{- $agent := get $agents .Values.networkPolicy.cloudIdentity -}}
{{- if $agent }}
- to:
    {{- range $agent }}
    {{- if kindIs "string" . }}
    - ipBlock: {cidr: {{ . }}}
    {{- end }}
    {{- end }}
  ports:
    {{- range $agent }}
    {{- if not (kindIs "string" .) }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
    {{- end }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* The collector that the settings of a role name, if they do: root, role. */}}
{{- define "lakefall.toTelemetry" -}}
{{- $url := dig "telemetry" "endpoint" "" (include "lakefall.written" . | fromJson) -}}
{{- if $url -}}
- to:
    {{- toYaml (index . 0).Values.networkPolicy.telemetry | nindent 4 }}
  ports:
    - {protocol: TCP, port: {{ include "lakefall.port" (list $url (ternary 80 443 (hasPrefix "http://" $url))) }}}
{{- end -}}
{{- end -}}

{{/* The catalog that the compactors' settings name, and what exchanges credentials for it, if they do. */}}
{{- define "lakefall.toCatalog" -}}
{{- $catalog := default (dict) (get (include "lakefall.written" (list . "compactor") | fromJson) "catalog") -}}
{{- if get $catalog "uri" -}}
{{- $ports := list -}}
{{- range $url := list (get $catalog "uri") (get $catalog "oauth_uri") -}}
{{- if $url }}{{ $ports = append $ports (include "lakefall.port" (list $url (ternary 80 443 (hasPrefix "http://" $url))) | int) }}{{ end -}}
{{- end -}}
- to:
    {{- toYaml .Values.networkPolicy.catalog | nindent 4 }}
  ports:
    {{- range uniq $ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end -}}
{{- end -}}

{{/* Who may reach the admin port. */}}
{{- define "lakefall.fromMonitoring" -}}
{{- with .Values.networkPolicy.monitoring -}}
- from:
    {{- toYaml . | nindent 4 }}
  ports:
    - {protocol: TCP, port: 8081}
{{- end -}}
{{- end -}}
