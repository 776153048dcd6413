{{/* What pods of all roles have in common. */}}

{{- define "lakefall.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.podSecurity.runAsUser }}
runAsUser: {{ int64 . }}
runAsGroup: {{ int64 . }}
{{- end }}
{{- with .Values.podSecurity.fsGroup }}
fsGroup: {{ int64 . }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "lakefall.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Seconds that a pod may take to go: until it is told, its drain (`http.drain_ms`), 5 s for the last flush and commit, and 5 more. */}}
{{- define "lakefall.grace" -}}
{{- $root := index . 0 -}}
{{- $drain := include "lakefall.setting" (list $root (index . 1) "http" "drain_ms" 25000) | int64 -}}
{{- add (index $root.Values (index . 1)).preStopSeconds (div (add $drain 999) 1000) 10 -}}
{{- end -}}

{{/* The secrets of a role as sources of one projected volume. */}}
{{- define "lakefall.secretSources" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
{{- $files := list -}}
{{- if ne $role "migration" -}}
{{- with include "lakefall.secret" (list $root "token") }}{{ $files = append $files (list . "token") }}{{ end -}}
{{- with include "lakefall.secret" (list $root "telemetryHeaders") }}{{ $files = append $files (list . "telemetry-headers") }}{{ end -}}
{{- end -}}
{{- if eq $role "compactor" -}}
{{- with include "lakefall.secret" (list $root "catalogToken") }}{{ $files = append $files (list . "catalog-token") }}{{ end -}}
{{- with include "lakefall.secret" (list $root "catalogClientSecret") }}{{ $files = append $files (list . "catalog-client-secret") }}{{ end -}}
{{- end -}}
{{- if eq $role "gateway" -}}
{{- with include "lakefall.secret" (list $root "receiptsKey") }}{{ $files = append $files (list . "receipts-key") }}{{ end -}}
{{- end -}}
{{- if has $role (list "metadata" "migration") -}}
{{- with include "lakefall.databasePassword" . }}{{ $files = append $files (list . "database-password") }}{{ end -}}
{{- else -}}
{{- with include "lakefall.secret" (list $root "googleCredentials") }}{{ $files = append $files (list . "google-credentials.json") }}{{ end -}}
{{- end -}}
{{- range $files }}
{{- $secret := index . 0 | fromJson }}
- secret:
    name: {{ $secret.name }}
    items:
      - key: {{ $secret.key }}
        path: {{ index . 1 }}
{{- end }}
{{- $authorities := list -}}
{{- if has $role (list "metadata" "migration") }}{{ $authorities = append $authorities (list $root.Values.secrets.databaseCA "database-ca.crt") }}{{ end -}}
{{- if ne $role "migration" }}{{ $authorities = append $authorities (list $root.Values.secrets.telemetryCA "telemetry-ca.crt") }}{{ end -}}
{{- if eq $role "compactor" }}{{ $authorities = append $authorities (list $root.Values.secrets.catalogCA "catalog-ca.crt") }}{{ end -}}
{{- range $authorities }}
{{- $path := index . 1 }}
{{- with index . 0 }}
{{- if or .existingSecret .existingConfigMap }}
- {{ ternary "secret" "configMap" (not (empty .existingSecret)) }}:
    name: {{ default .existingConfigMap .existingSecret }}
    items:
      - key: {{ .key }}
        path: {{ $path }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "lakefall.tlsSecret" -}}
{{- $root := index . 0 -}}
{{- default (printf "%s-rpc" (include "lakefall.name" .)) (index $root.Values.rpcTLS.existingSecrets (index . 1)) -}}
{{- end -}}

{{- define "lakefall.volumes" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
- name: settings
  configMap:
    name: {{ include "lakefall.name" . }}
{{- with include "lakefall.secretSources" . }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- trim . | nindent 6 }}
{{- end }}
{{- if and $root.Values.rpcTLS.enabled (ne $role "migration") }}
- name: tls
  secret:
    secretName: {{ include "lakefall.tlsSecret" . }}
    defaultMode: 0440
{{- end }}
{{- if and (eq $role "gateway") $root.Values.gateway.cacheDisk.enabled }}
- name: cache
  emptyDir:
    sizeLimit: {{ $root.Values.gateway.cacheDisk.size }}
    {{- with $root.Values.gateway.cacheDisk.medium }}
    medium: {{ . }}
    {{- end }}
{{- end }}
{{- end -}}

{{- define "lakefall.mounts" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
- name: settings
  mountPath: /etc/lakefall
  readOnly: true
{{- if include "lakefall.secretSources" . }}
- name: secrets
  mountPath: /run/secrets/lakefall
  readOnly: true
{{- end }}
{{- if and $root.Values.rpcTLS.enabled (ne $role "migration") }}
- name: tls
  mountPath: /run/secrets/lakefall-tls
  readOnly: true
{{- end }}
{{- if and (eq $role "gateway") $root.Values.gateway.cacheDisk.enabled }}
- name: cache
  mountPath: /var/cache/lakefall
{{- end }}
{{- end -}}

{{- define "lakefall.env" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
- name: LAKEFALL_CONFIG
  value: /etc/lakefall/lakefall.toml
{{- if eq $role "metadata" }}
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
- name: LAKEFALL_METADATA__ADVERTISE
  value: {{ include "lakefall.scheme" $root }}://{{ ternary "[$(POD_IP)]" "$(POD_IP)" $root.Values.ipv6 }}:8082
{{- end }}
{{- if eq $role "compactor" }}
# Large buffers go back to the system soon, which costs some speed: a compactor keeps a third less.
- name: MIMALLOC_PURGE_DELAY
  value: "20"
{{- end }}
{{- if has $role (list "gateway" "compactor") }}
{{- with include "lakefall.secret" (list $root "storeCredentials") }}
{{- $secret := fromJson . }}
- name: LAKEFALL_STORE__ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ $secret.name }}
      key: {{ $secret.accessKeyIdKey }}
- name: LAKEFALL_STORE__SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ $secret.name }}
      key: {{ $secret.secretAccessKeyKey }}
{{- end }}
{{- if include "lakefall.secret" (list $root "googleCredentials") }}
- name: GOOGLE_APPLICATION_CREDENTIALS
  value: /run/secrets/lakefall/google-credentials.json
{{- end }}
{{- with $root.Values.storeEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- if eq $role "gateway" }}
{{- with include "lakefall.secret" (list $root "previousReceiptsKeys") }}
{{- $secret := fromJson . }}
- name: LAKEFALL_RECEIPTS__PREVIOUS
  valueFrom:
    secretKeyRef:
      name: {{ $secret.name }}
      key: {{ $secret.key }}
{{- end }}
{{- end }}
{{- if ne $role "migration" }}
{{- with (index $root.Values $role).extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Where pods of a role go: the values' own say, else apart by node and spread over zones, as far as there is room. */}}
{{- define "lakefall.placement" -}}
{{- $values := index (index . 0).Values (index . 1) -}}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
affinity:
  {{- if $values.affinity }}
  {{- toYaml $values.affinity | nindent 2 }}
  {{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "lakefall.selector" . | nindent 14 }}
  {{- end }}
topologySpreadConstraints:
  {{- if $values.topologySpreadConstraints }}
  {{- toYaml $values.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "lakefall.selector" . | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end -}}

{{/* The pod template of a role. */}}
{{- define "lakefall.pod" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
{{- $values := index $root.Values $role -}}
metadata:
  labels:
    {{- include "lakefall.podLabels" . | nindent 4 }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # Most settings hold from a start on: other ones are other pods.
    checksum/settings: {{ include "lakefall.file" . | sha256sum }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "lakefall.serviceAccount" . }}
  automountServiceAccountToken: false
  # Else each Service's variables (LAKEFALL_…_PORT) would be taken for settings, and refused.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "lakefall.grace" . }}
  securityContext:
    {{- include "lakefall.podSecurity" $root | nindent 4 }}
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ $role }}
      image: {{ include "lakefall.image" $root }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: [{{ $role }}]
      env:
        {{- include "lakefall.env" . | trim | nindent 8 }}
      ports:
        {{- if eq $role "gateway" }}
        - name: http
          containerPort: 8080
        {{- else if eq $role "metadata" }}
        - name: rpc
          containerPort: 8082
        {{- end }}
        - name: admin
          containerPort: 8081
      # The admin port answers while the role waits for the metadata service, which it does for a minute before it gives up.
      startupProbe:
        httpGet:
          path: /healthz
          port: admin
        periodSeconds: 1
        failureThreshold: 30
      livenessProbe:
        httpGet:
          path: /healthz
          port: admin
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet:
          path: /readyz
          port: admin
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      {{- if $values.preStopSeconds }}
      # Between the end in the Service and the word to stop: load balancers and other nodes hear of the one while this sleeps.
      lifecycle:
        preStop:
          sleep:
            seconds: {{ $values.preStopSeconds }}
      {{- end }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        {{- include "lakefall.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        {{- include "lakefall.mounts" . | trim | nindent 8 }}
  volumes:
    {{- include "lakefall.volumes" . | trim | nindent 4 }}
  {{- include "lakefall.placement" . | trim | nindent 2 }}
{{- end -}}
