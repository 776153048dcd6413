{{/* The alerts. `critical` wakes a person: something promised does not hold, or will not soon. `warning` waits for the morning. Each has
its page in docs/runbook.md. */}}
{{- define "lakefall.alerts" -}}
{{- $s := include "lakefall.promSelector" . -}}
{{- $buffer := include "lakefall.setting" (list . "gateway" "ingest" "buffer_bytes" 67108864) | int64 -}}
{{- $shards := include "lakefall.setting" (list . "metadata" "metadata" "shards" 16) | int64 -}}
{{- $grace := include "lakefall.setting" (list . "compactor" "collector" "orphan_grace_seconds" 3600) | int64 -}}
{{- $sweep := include "lakefall.setting" (list . "compactor" "collector" "orphan_interval_seconds" 21600) | int64 -}}
- alert: LakefallGatewaysDown
  expr: absent(up{ {{- $s }},role="gateway"} == 1)
  for: 1m
  severity: critical
  summary: No gateway answers, so nothing can be produced or read.
- alert: LakefallMetadataDown
  expr: absent(up{ {{- $s }},role="metadata"} == 1)
  for: 1m
  severity: critical
  summary: No metadata replica answers, so nothing can be produced.
{{- if not .Values.compactor.keda.enabled }}
- alert: LakefallCompactorsDown
  expr: absent(up{ {{- $s }},role="compactor"} == 1)
  for: 15m
  severity: warning
  summary: No compactor answers, so nothing becomes Parquet and retention frees no room.
{{- end }}
- alert: LakefallShardsUnserved
  expr: sum(lakefall_metadata_shards_held{ {{- $s }}}) < {{ $shards }}
  for: 1m
  severity: critical
  summary: Of {{ $shards }} shards only {{ "{{" }} $value {{ "}}" }} are served, so their namespaces cannot be produced to.
- alert: LakefallLeasesLost
  expr: sum(increase(lakefall_metadata_leases_lost_total{ {{- $s }}}[15m])) > 0
  for: 0m
  severity: warning
  summary: A metadata replica lost the lease of a shard while it was running.
- alert: LakefallStepDowns
  expr: sum(increase(lakefall_metadata_step_downs_total{ {{- $s }}}[15m])) > 3
  for: 0m
  severity: warning
  summary: Owners of shards let go of them again and again, as they were unsure of the journal.
- alert: LakefallDatabaseSilent
  expr: max(lakefall_metadata_roll_age_seconds{ {{- $s }}}) > 10
  for: 1m
  severity: critical
  summary: Postgres has told a metadata replica nothing for {{ "{{" }} $value | humanizeDuration {{ "}}" }}.
- alert: LakefallJournalSlow
  expr: histogram_quantile(0.99, sum by (le) (rate(lakefall_metadata_append_seconds_bucket{ {{- $s }}}[5m]))) > 0.5
  for: 10m
  severity: warning
  summary: One in a hundred appends to the journal takes more than half a second.
- alert: LakefallCheckpointsFailing
  expr: sum(increase(lakefall_metadata_checkpoints_failed_total{ {{- $s }}}[30m])) > 2
  for: 0m
  severity: warning
  summary: Checkpoints fail, so the journal grows and a start takes longer.
- alert: LakefallClockSkew
  expr: max(abs(lakefall_metadata_clock_skew_seconds{ {{- $s }}})) > 60
  for: 10m
  severity: warning
  summary: A machine's clock differs from Postgres's by more than a minute; from 15 minutes on, S3 refuses its requests.
- alert: LakefallErrors
  expr: sum(rate(lakefall_http_requests_total{ {{- $s }},status=~"5..",status!="503"}[5m])) / sum(rate(lakefall_http_requests_total{ {{- $s }}}[5m])) > 0.01
  for: 5m
  severity: critical
  summary: More than 1 % of requests fail or end unknown.
- alert: LakefallUnavailable
  expr: sum(rate(lakefall_http_requests_total{ {{- $s }},status="503"}[5m])) / sum(rate(lakefall_http_requests_total{ {{- $s }}}[5m])) > 0.05
  for: 5m
  severity: critical
  summary: More than 5 % of requests are sent away with 503. Nothing of them is applied.
- alert: LakefallProduceSlow
  expr: histogram_quantile(0.99, sum by (le) (rate(lakefall_produce_seconds_bucket{ {{- $s }}}[5m]))) > 2.5
  for: 10m
  severity: warning
  summary: One in a hundred batches takes more than 2.5 s to become durable.
- alert: LakefallBufferFull
  expr: max(lakefall_buffer_bytes{ {{- $s }}}) > {{ div (mul $buffer .Values.monitoring.rules.bufferPercent) 100 }}
  for: 5m
  severity: warning
  summary: The buffer of a gateway is {{ .Values.monitoring.rules.bufferPercent }} % full or more; when it is full, producers get 503.
- alert: LakefallCommitsFailing
  expr: sum(increase(lakefall_metadata_rpc_asks_total{ {{- $s }},side="client",outcome="unknown"}[5m])) > 0
  for: 5m
  severity: critical
  summary: Gateways get no answer from the metadata service before their deadline, so outcomes are unknown.
- alert: LakefallSegmentsRefused
  expr: sum(increase(lakefall_segments_refused_total{ {{- $s }}}[15m])) > 0
  for: 0m
  severity: warning
  summary: Segments came too late to be committed. Their producers were told that nothing is applied.
- alert: LakefallUploadsDenied
  expr: sum(increase(lakefall_uploads_denied_total{ {{- $s }}}[5m])) > 0
  for: 0m
  severity: critical
  summary: The object store denies uploads, so producing gets 503.
- alert: LakefallCredentialsFailing
  expr: sum(increase(lakefall_store_credentials_total{ {{- $s }},outcome="failed"}[10m])) > 0
  for: 5m
  severity: warning
  summary: Credentials for the object store cannot be had. When those at hand end, nothing can be stored.
- alert: LakefallStoreFailing
  expr: sum(rate(lakefall_store_requests_total{ {{- $s }},outcome=~"unavailable|throttled|full|other"}[5m])) / sum(rate(lakefall_store_requests_total{ {{- $s }}}[5m])) > 0.05
  for: 10m
  severity: warning
  summary: More than 5 % of requests to the object store fail.
- alert: LakefallStoreCollision
  expr: sum(increase(lakefall_store_requests_total{ {{- $s }},outcome="collision"}[15m])) > 0
  for: 0m
  severity: critical
  summary: The object store held another object under a fresh key.
- alert: LakefallUsageNotReported
  expr: sum by (pod) (increase(lakefall_usage_reports_total{ {{- $s }},outcome="failed"}[30m])) > 0 unless sum by (pod) (increase(lakefall_usage_reports_total{ {{- $s }},outcome="ok"}[30m])) > 0
  for: 30m
  severity: warning
  summary: A process could report no usage for half an hour. What it has counted since is lost if it is killed.
- alert: LakefallConnectionsRefused
  expr: sum(increase(lakefall_connections_refused_total{ {{- $s }}}[5m])) > 0
  for: 5m
  severity: warning
  summary: Gateways refuse connections, as there are http.max_connections.
- alert: LakefallSettingsRefused
  expr: max(lakefall_config_refused{ {{- $s }}}) > 0
  for: 2m
  severity: warning
  summary: A process refuses its changed settings or certificates, and goes on with those before.
- alert: LakefallMemoryNearLimit
  expr: max(process_resident_memory_bytes{ {{- $s }},role="gateway"}) > {{ mul (include "lakefall.mib" .Values.gateway.resources.limits.memory | int64) 943718 }}
  for: 10m
  severity: warning
  summary: A gateway uses 90 % of its limit of memory, {{ .Values.gateway.resources.limits.memory }}.
- alert: LakefallCacheDiskOff
  expr: min(lakefall_cache_disk_state{ {{- $s }}}) < 1
  for: 10m
  severity: warning
  summary: A gateway does without its cache disk, which was too slow or failed.
- alert: LakefallCacheCorrupt
  expr: sum(increase(lakefall_cache_corrupt_total{ {{- $s }}}[1h])) > 0
  for: 0m
  severity: warning
  summary: Blocks in the cache were damaged. They were dropped and fetched again.
- alert: LakefallCompactionBehind
  expr: max(lakefall_compactor_backlog_seconds{ {{- $s }}}) > {{ .Values.monitoring.rules.backlogSeconds }}
  for: 15m
  severity: warning
  summary: The oldest records that are not in Parquet files yet have waited for {{ "{{" }} $value | humanizeDuration {{ "}}" }}.
- alert: LakefallCompactionFailing
  expr: sum(increase(lakefall_compactor_jobs_total{ {{- $s }},outcome=~"store|metadata|defect"}[30m])) > 5
  for: 0m
  severity: warning
  summary: Jobs of compaction fail.
- alert: LakefallObjectDamaged
  expr: sum(lakefall_compactor_partitions_aside{ {{- $s }}}) > 0
  for: 0m
  severity: critical
  summary: An object in the bucket is damaged or gone. Its partition was put aside.
- alert: LakefallTablesFailing
  expr: sum(increase(lakefall_tables_published_total{ {{- $s }},outcome="failed"}[1h])) > 2
  for: 0m
  severity: warning
  summary: Topics cannot be published as Iceberg tables, so other engines see old states.
- alert: LakefallCatalogBehind
  expr: sum(min_over_time(lakefall_tables_uncommitted{ {{- $s }}}[1h])) > 0 or sum(increase(lakefall_tables_committed_total{ {{- $s }},outcome="refused"}[1h])) > 0
  for: 0m
  severity: warning
  summary: The Iceberg catalog does not take topics' tables, so engines that ask it see old states.
- alert: LakefallCollectorHalted
  expr: max(lakefall_collector_halted{ {{- $s }}}) > 0
  for: 0m
  severity: critical
  summary: The metadata store went backwards or is another one. Nothing is deleted until an operator decides.
- alert: LakefallOrphans
  expr: max(lakefall_collector_orphan_oldest_seconds{ {{- $s }}}) > {{ add $grace (mul 2 $sweep) }}
  for: 15m
  severity: warning
  summary: Objects that nobody needs are found and not deleted.
- alert: LakefallSweepLate
  expr: time() - max(lakefall_collector_last_sweep_timestamp_seconds{ {{- $s }}}) > {{ mul 3 $sweep }} and on () sum(increase(lakefall_produced_records_total{ {{- $s }}}[1h])) > 0
  for: 1h
  severity: warning
  summary: No search for orphans has ended for {{ "{{" }} $value | humanizeDuration {{ "}}" }}, although records came.
- alert: LakefallDeadLettersGone
  expr: sum(increase(lakefall_dead_letters_gone_total{ {{- $s }}}[1h])) > 0
  for: 0m
  severity: warning
  summary: Messages became dead after retention had taken their records, so there is no dead letter of them.
{{- end -}}
