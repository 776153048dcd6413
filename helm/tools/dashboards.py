"""Makes the chart's Grafana dashboards: rate, errors and duration of what is asked; use, saturation and errors of what it is made of.

    python3 helm/tools/dashboards.py           writes helm/lakefall/dashboards/*.json
    python3 helm/tools/dashboards.py --check   says whether they are as they would be written; exit code 1 if not

Panels ask by the labels that the chart's monitors set: `namespace`, `lakefall` (which cluster) and `role`.
"""

import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "lakefall/dashboards"
SELECTOR = 'namespace="$namespace",lakefall="$lakefall"'


def by(labels, metric, more=""):
    """The rate of a counter, by labels."""
    return f"sum by ({labels}) (rate({metric}{{{SELECTOR}{more}}}[$__rate_interval]))"


def rate(metric, more=""):
    return f"sum(rate({metric}{{{SELECTOR}{more}}}[$__rate_interval]))"


def gauge(how, metric, more=""):
    return f"{how}({metric}{{{SELECTOR}{more}}})"


def top(labels, metric):
    """The ten with the highest rate."""
    return f"topk(10, {by(labels, metric)})"


def quantiles(metric, more=""):
    """Three quantiles of a histogram."""
    buckets = f"sum by (le) (rate({metric}_bucket{{{SELECTOR}{more}}}[$__rate_interval]))"
    return [(f"histogram_quantile({q}, {buckets})", f"p{int(q * 100)}") for q in (0.5, 0.95, 0.99)]


def share(part, whole):
    return f"{part} / {whole}"


def panel(title, unit, *series, text="", least=0):
    """A panel: its title, its unit, and pairs of a query and a legend. `least` is where its axis begins."""
    return {"title": title, "unit": unit, "series": series, "text": text, "least": least}


HTTP = "lakefall_http_requests_total"
CLASS_A, CLASS_B = ',class="a"', ',class="b"'
OVERVIEW = {
    "Requests": [
        panel("Requests by route", "reqps", (by("route, method", HTTP), "{{method}} {{route}}")),
        panel(
            "Errors",
            "percentunit",
            (share(rate(HTTP, ',status="503"'), rate(HTTP)), "503, not applied"),
            (share(rate(HTTP, ',status=~"5..",status!="503"'), rate(HTTP)), "other 5xx"),
            (share(rate(HTTP, ',status=~"4.."'), rate(HTTP)), "4xx"),
            text="503 says that nothing was applied, and is to be repeated after Retry-After; 504 that the outcome is unknown.",
        ),
        panel("Time to an answer's head", "s", *quantiles("lakefall_http_request_seconds")),
    ],
    "The log": [
        panel("Produced", "Bps", (rate("lakefall_produced_bytes_total"), "produced"), (rate("lakefall_read_bytes_total"), "read")),
        panel("Records", "cps", (rate("lakefall_produced_records_total"), "produced"), (rate("lakefall_read_records_total"), "read")),
        panel("Time until durable", "s", *quantiles("lakefall_produce_seconds"), text="From the open segment to the commit, upload included."),
        panel("Buffer of gateways", "bytes", (gauge("max by (pod)", "lakefall_buffer_bytes"), "{{pod}}")),
        panel("Sent away for want of room", "reqps", (by("pod", "lakefall_buffer_refusals_total"), "{{pod}}")),
        panel("Records that do not match their schema", "cps", (by("outcome", "lakefall_records_invalid_total"), "{{outcome}}")),
    ],
    "Queues": [
        panel(
            "Messages",
            "cps",
            (rate("lakefall_received_messages_total"), "leased"),
            (by("verdict, outcome", "lakefall_settled_messages_total"), "{{verdict}} {{outcome}}"),
        ),
        panel("From sending to the first lease", "s", *quantiles("lakefall_receive_seconds")),
        panel(
            "Open streams",
            "short",
            (gauge("sum", "lakefall_http_message_streams"), "of leases"),
            (gauge("sum", "lakefall_http_tails"), "live tails"),
        ),
    ],
    "SQL": [
        panel(
            "Statements",
            "cps",
            (by("outcome", "lakefall_sql_statements_total"), "{{outcome}}"),
            (rate("lakefall_sql_turned_away_total"), "turned away"),
        ),
        panel("Time to the last row", "s", *quantiles("lakefall_sql_seconds")),
        panel("Bytes of objects read", "Bps", (rate("lakefall_sql_bytes_read_total"), "read")),
    ],
}

METADATA = {
    "Journal": [
        panel("Groups", "cps", (by("pod", "lakefall_metadata_groups_total"), "{{pod}}")),
        panel("Time of an append", "s", *quantiles("lakefall_metadata_append_seconds")),
        panel("Commands in a group", "short", *quantiles("lakefall_metadata_group_commands")),
        panel("Journal", "Bps", (rate("lakefall_metadata_journal_bytes_total"), "written")),
        panel("Written again, being in doubt", "cps", (rate("lakefall_metadata_appends_repeated_total"), "appends")),
        panel(
            "Checkpoints",
            "cps",
            (rate("lakefall_metadata_checkpoints_total"), "written"),
            (rate("lakefall_metadata_checkpoints_failed_total"), "failed"),
        ),
        panel("Time of a checkpoint", "s", *quantiles("lakefall_metadata_checkpoint_seconds")),
    ],
    "Ownership": [
        panel(
            "Shards served",
            "short",
            (gauge("max by (pod)", "lakefall_metadata_shards_held"), "{{pod}}"),
            (gauge("sum", "lakefall_metadata_shards_held"), "all"),
        ),
        panel(
            "Lost and given up",
            "cps",
            (rate("lakefall_metadata_leases_lost_total"), "leases lost"),
            (rate("lakefall_metadata_step_downs_total"), "let go of in doubt"),
        ),
        panel("Until a shard is taken", "s", *quantiles("lakefall_metadata_takeover_seconds")),
        panel("Until a shard is handed over", "s", *quantiles("lakefall_metadata_handover_seconds")),
        panel("Since Postgres last answered", "s", (gauge("max by (pod)", "lakefall_metadata_roll_age_seconds"), "{{pod}}")),
        panel("Ahead of Postgres's clock", "s", (gauge("max by (pod)", "lakefall_metadata_clock_skew_seconds"), "{{pod}}"), least=None),
    ],
    "Asked by gateways and compactors": [
        panel("Asks", "reqps", (by("kind, outcome", "lakefall_metadata_rpc_asks_total", ',side="client"'), "{{kind}} {{outcome}}")),
        panel("Time of a commit, repetitions included", "s", *quantiles("lakefall_commit_seconds")),
        panel("Asks in a frame", "short", *quantiles("lakefall_metadata_rpc_frame_asks", ',side="server"')),
        panel(
            "Not at first",
            "cps",
            (by("kind", "lakefall_metadata_rpc_retries_total"), "asked again: {{kind}}"),
            (rate("lakefall_metadata_rpc_redirects_total"), "sent elsewhere"),
            (by("stream", "lakefall_metadata_rpc_reconnects_total"), "stream broke: {{stream}}"),
        ),
        panel("Answered by another's answer", "cps", (rate("lakefall_metadata_rpc_shared_queries_total"), "questions")),
        panel("Times that news were missed", "cps", (rate("lakefall_news_missed_total"), "gateways")),
    ],
}

STORAGE = {
    "Object store": [
        panel("Requests, as billed", "reqps", (by("operation, outcome", "lakefall_store_requests_total"), "{{operation}} {{outcome}}")),
        panel("Bytes", "Bps", (by("direction", "lakefall_store_bytes_total"), "{{direction}}")),
        panel(
            "Time of a request",
            "s",
            *quantiles("lakefall_store_request_seconds", ',operation="put"'),
            text="Uploads. Repeats and hedges are beside.",
        ),
        panel(
            "Asked again",
            "reqps",
            (by("operation, outcome", "lakefall_store_repeats_total"), "{{operation}} {{outcome}}"),
            (by("outcome", "lakefall_store_hedges_total"), "late read {{outcome}}"),
            (rate("lakefall_store_cut_reads_total"), "cut reads"),
        ),
        panel("Credentials", "cps", (by("outcome", "lakefall_store_credentials_total"), "{{outcome}}"), (rate("lakefall_uploads_denied_total"), "uploads denied")),
        panel("Size of segments", "bytes", *quantiles("lakefall_segment_bytes")),
        panel("Time of an upload, repetitions included", "s", *quantiles("lakefall_upload_seconds")),
        panel("Segments refused: too late", "cps", (rate("lakefall_segments_refused_total"), "refused")),
    ],
    "Cache": [
        panel("Blocks", "cps", (by("tier", "lakefall_cache_hits_total"), "found in {{tier}}"), (rate("lakefall_cache_misses_total"), "fetched")),
        panel("Where records are", "cps", (by("from", "lakefall_locates_total"), "{{from}}"), (rate("lakefall_locations_stale_total"), "no longer there")),
        panel(
            "Cache disk",
            "short",
            (gauge("min by (pod)", "lakefall_cache_disk_state"), "{{pod}}"),
            text="1 used, 0.5 passed by for a while, 0 off. Nothing where there is no disk.",
        ),
        panel("Trouble", "cps", (rate("lakefall_cache_corrupt_total"), "damaged blocks"), (rate("lakefall_cache_disk_timeouts_total"), "too slow")),
    ],
    "Compaction": [
        panel("Backlog", "bytes", (gauge("max", "lakefall_compactor_backlog_bytes"), "not in Parquet files yet")),
        panel(
            "Age and end of the backlog",
            "s",
            (gauge("max", "lakefall_compactor_backlog_seconds"), "age of the oldest"),
            (gauge("max", "lakefall_compactor_eta_seconds"), "done in"),
        ),
        panel("Extents in segments of gateways", "short", (gauge("max", "lakefall_compactor_backlog_extents"), "extents")),
        panel("Jobs", "cps", (by("kind, outcome", "lakefall_compactor_jobs_total"), "{{kind}} {{outcome}}")),
        panel(
            "Bytes",
            "Bps",
            (by("level", "lakefall_compactor_bytes_in_total"), "into {{level}}"),
            (by("level", "lakefall_compactor_bytes_out_total"), "out: {{level}}"),
        ),
        panel("Iceberg tables published", "cps", (by("outcome", "lakefall_tables_published_total"), "{{outcome}}")),
        panel(
            "Iceberg catalog",
            "short",
            (gauge("sum", "lakefall_tables_uncommitted"), "tables that wait"),
            (by("outcome", "lakefall_tables_committed_total"), "{{outcome}} per second"),
        ),
        panel("Partitions put aside: damaged", "short", (gauge("sum", "lakefall_compactor_partitions_aside"), "partitions")),
    ],
    "Collection": [
        panel("Halted", "short", (gauge("max by (reason)", "lakefall_collector_halted"), "{{reason}}")),
        panel("Deleted", "cps", (rate("lakefall_collector_deleted_objects_total"), "released"), (rate("lakefall_collector_swept_objects_total"), "orphans")),
        panel("Orphans left", "bytes", (gauge("max", "lakefall_collector_orphan_bytes"), "bytes")),
        panel("Age of the oldest orphan", "s", (gauge("max", "lakefall_collector_orphan_oldest_seconds"), "oldest")),
        panel("Since the last sweep", "s", (f"time() - {gauge('max', 'lakefall_collector_last_sweep_timestamp_seconds')}", "ago")),
        panel("Partitions trimmed by retention", "cps", (rate("lakefall_collector_trims_total"), "trims")),
    ],
}

RESOURCES = {
    "Use": [
        panel("CPU", "short", (by("pod", "process_cpu_seconds_total"), "{{pod}}")),
        panel("Memory", "bytes", (gauge("max by (pod)", "process_resident_memory_bytes"), "{{pod}}")),
        panel("Open files", "short", (gauge("max by (pod)", "process_open_fds"), "{{pod}}")),
        panel("Connections", "short", (gauge("max by (pod)", "lakefall_connections"), "{{pod}}")),
        panel(
            "Uploads under way",
            "short",
            (gauge("max by (pod)", "lakefall_uploads_in_flight"), "{{pod}}"),
            (gauge("max by (pod)", "lakefall_uploads_allowed"), "{{pod}} allowed"),
        ),
        panel("Statements of SQL", "short", (gauge("max by (pod)", "lakefall_sql_running"), "{{pod}}")),
    ],
    "Saturation": [
        panel("Buffer", "bytes", (gauge("max by (pod)", "lakefall_buffer_bytes"), "{{pod}}"), text="Of ingest.buffer_bytes."),
        panel("Room for answers", "bytes", (gauge("max by (pod)", "lakefall_read_room_bytes"), "{{pod}}"), text="Of read.buffer_bytes."),
        panel("Reads that waited for room", "cps", (by("pod", "lakefall_reads_waited_total"), "{{pod}}")),
        panel("Answers cut short", "cps", (by("pod", "lakefall_reads_cut_short_total"), "{{pod}}")),
        panel("Segments not settled", "short", (gauge("max by (pod)", "lakefall_segments_unsettled"), "{{pod}}")),
    ],
    "Errors": [
        panel("Connections refused", "cps", (by("pod", "lakefall_connections_refused_total"), "{{pod}}")),
        panel("Requests sent away", "cps", (by("pod", "lakefall_buffer_refusals_total"), "{{pod}}")),
        panel("Repeated", "cps", (rate("lakefall_uploads_repeated_total"), "uploads"), (rate("lakefall_commits_repeated_total"), "commits")),
    ],
}

USED = "lakefall_usage_"
USAGE = {
    "By namespace": [
        panel("Produced", "Bps", (by("tenant", f"{USED}produced_bytes_total"), "{{tenant}}")),
        panel("Read and received", "Bps", (by("tenant", f"{USED}read_bytes_total"), "{{tenant}} read"), (by("tenant", f"{USED}received_bytes_total"), "{{tenant}} received")),
        panel(
            "Requests to the store",
            "reqps",
            (f"{by('tenant', f'{USED}store_writes_millionths_total')} / 1e6", "{{tenant}} writes"),
            (f"{by('tenant', f'{USED}store_reads_millionths_total')} / 1e6", "{{tenant}} reads"),
            text="Those that serve several topics are shared among them by bytes.",
        ),
    ],
    "By topic": [
        panel("Produced", "Bps", (top("tenant, topic", f"{USED}produced_bytes_total"), "{{tenant}} {{topic}}"), text="The ten with most. Each process names its first hundred topics."),
        panel("Writes to the store", "reqps", (f"{top('tenant, topic', f'{USED}store_writes_millionths_total')} / 1e6", "{{tenant}} {{topic}}")),
        panel("Reads from the store", "reqps", (f"{top('tenant, topic', f'{USED}store_reads_millionths_total')} / 1e6", "{{tenant}} {{topic}}")),
    ],
    "The bill": [
        panel(
            "Requests to the store, for a month",
            "currencyUSD",
            (f"{rate('lakefall_store_requests_total', CLASS_A)} * 2628000 / 1000 * 0.005", "writes and lists"),
            (f"{rate('lakefall_store_requests_total', CLASS_B)} * 2628000 / 1000 * 0.0004", "reads"),
            text="If it went on like this, at the list prices of S3 in us-east-1.",
        ),
        panel("What requests are for", "reqps", (by("purpose, class", "lakefall_store_requests_total"), "{{purpose}} {{class}}")),
        panel(
            "On behalf of no topic, and reports",
            "cps",
            (by("class", "lakefall_store_unattributed_requests_total"), "requests {{class}}"),
            (by("outcome", "lakefall_usage_reports_total"), "reports {{outcome}}"),
        ),
    ],
}

DASHBOARDS = {
    "overview": ("Lakefall: what is asked", OVERVIEW),
    "metadata": ("Lakefall: metadata", METADATA),
    "storage": ("Lakefall: storage", STORAGE),
    "resources": ("Lakefall: resources", RESOURCES),
    "usage": ("Lakefall: usage and cost", USAGE),
}


def variable(name, label, query, **more):
    return {"type": "query", "name": name, "label": label, "datasource": {"type": "prometheus", "uid": "$datasource"}, "query": query, "refresh": 2, **more}


def dashboard(name, title, rows):
    panels, top = [], 0
    for row, members in rows.items():
        panels.append({"type": "row", "title": row, "id": len(panels) + 1, "gridPos": {"h": 1, "w": 24, "x": 0, "y": top}, "panels": []})
        top += 1
        for index, one in enumerate(members):
            targets = [
                {"refId": chr(65 + at), "expr": query, "legendFormat": legend, "datasource": {"type": "prometheus", "uid": "$datasource"}}
                for at, (query, legend) in enumerate(one["series"])
            ]
            panels.append(
                {
                    "type": "timeseries",
                    "title": one["title"],
                    "description": one["text"],
                    "id": len(panels) + 1,
                    "datasource": {"type": "prometheus", "uid": "$datasource"},
                    "gridPos": {"h": 7, "w": 8, "x": 8 * (index % 3), "y": top + 7 * (index // 3)},
                    "fieldConfig": {"defaults": {"unit": one["unit"], "min": one["least"]}, "overrides": []},
                    "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
                    "targets": targets,
                }
            )
        top += 7 * ((len(members) + 2) // 3)
    variables = [
        {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus"},
        variable("namespace", "Namespace", "label_values(lakefall_metadata_shards_held, namespace)"),
        variable("lakefall", "Cluster", 'label_values(lakefall_metadata_shards_held{namespace="$namespace"}, lakefall)'),
    ]
    return {
        "uid": f"lakefall-{name}",
        "title": title,
        "tags": ["lakefall"],
        "editable": True,
        "schemaVersion": 39,
        "version": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["lakefall"], "title": "Lakefall", "asDropdown": True, "keepTime": True, "includeVars": True}],
        "templating": {"list": variables},
        "panels": panels,
    }


def main():
    FOLDER.mkdir(exist_ok=True)
    made = {FOLDER / f"{name}.json": json.dumps(dashboard(name, *what), indent=1) + "\n" for name, what in DASHBOARDS.items()}
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.name} is not what helm/tools/dashboards.py makes: run .ci/chart --update")
        return 1 if stale else 0
    for path in stale:
        path.write_text(made[path])
        print(f"wrote {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
