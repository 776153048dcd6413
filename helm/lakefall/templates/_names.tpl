{{/* Names, labels and accounts. Roles: gateway, metadata, compactor; beside them migration, test, postgres, s3. */}}

{{- define "lakefall.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of a role's resources: list of the root and the role. */}}
{{- define "lakefall.name" -}}
{{- printf "%s-%s" (include "lakefall.fullname" (index . 0)) (index . 1) -}}
{{- end -}}

{{- define "lakefall.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "lakefall.labels" -}}
{{- $root := index . 0 -}}
{{ include "lakefall.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: lakefall
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of pods: none that changes with the version of the chart, which would replace them all. */}}
{{- define "lakefall.podLabels" -}}
{{ include "lakefall.selector" . }}
app.kubernetes.io/part-of: lakefall
{{- with (index . 0).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels by which Prometheus tells this cluster from another one. Rules, dashboards and KEDA ask by them. */}}
{{- define "lakefall.promSelector" -}}
namespace="{{ .Release.Namespace }}",lakefall="{{ include "lakefall.fullname" . }}"
{{- end -}}

{{- define "lakefall.serviceAccount" -}}
{{- $values := (index (index . 0).Values (index . 1)).serviceAccount -}}
{{- if $values.create -}}
{{- default (include "lakefall.name" .) $values.name -}}
{{- else -}}
{{- required (printf "%s.serviceAccount.name: name the service account that exists, or set %s.serviceAccount.create" (index . 1) (index . 1)) $values.name -}}
{{- end -}}
{{- end -}}

{{- define "lakefall.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* An address on every interface, at a port. */}}
{{- define "lakefall.listen" -}}
{{- ternary "[::]" "0.0.0.0" (index . 0).Values.ipv6 -}}:{{ index . 1 }}
{{- end -}}

{{- define "lakefall.scheme" -}}
{{- ternary "https" "http" .Values.rpcTLS.enabled -}}
{{- end -}}
