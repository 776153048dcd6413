//! What metrics are called by OpenTelemetry's semantic conventions. `docs/telemetry.md` has the same as a table.

use std::borrow::Cow;

/// A metric as the conventions have it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: Cow<'static, str>,
    /// As UCUM writes it.
    pub(super) unit: &'static str,
    /// Labels that are attributes of another name.
    pub(super) renamed: &'static [(&'static str, &'static str)],
    /// Attributes that all points have.
    pub(super) added: &'static [(&'static str, &'static str)],
}

type Row = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)], &'static [(&'static str, &'static str)]);

const SYSTEM: (&str, &str) = ("messaging.system", "lakefall");

/// Those that the conventions know: our name, theirs, unit, labels, attributes.
const KNOWN: &[Row] = &[
    (
        "lakefall_http_request_seconds",
        "http.server.request.duration",
        "s",
        &[("route", "http.route"), ("method", "http.request.method"), ("status", STATUS)],
        &[("url.scheme", "http")],
    ),
    (
        "lakefall_produce_seconds",
        "messaging.client.operation.duration",
        "s",
        &[],
        &[SYSTEM, ("messaging.operation.name", "send"), ("messaging.operation.type", "send")],
    ),
    (
        "lakefall_produced_records_total",
        "messaging.client.sent.messages",
        "{message}",
        &[],
        &[SYSTEM, ("messaging.operation.name", "send")],
    ),
    (
        "lakefall_received_messages_total",
        "messaging.client.consumed.messages",
        "{message}",
        &[],
        &[SYSTEM, ("messaging.operation.name", "receive")],
    ),
    ("process_resident_memory_bytes", "process.memory.usage", "By", &[], &[]),
    ("process_open_fds", "process.unix.file_descriptor.count", "{file_descriptor}", &[], &[]),
    ("process_cpu_seconds_total", "process.cpu.time", "s", &[], &[]),
];

/// The one attribute of ours that is a number.
pub(super) const STATUS: &str = "http.response.status_code";

/// What a metric is called. Those that no convention knows keep their words, in the conventions' form: `lakefall_upload_seconds` is
/// `lakefall.upload.duration` in `s`.
pub(super) fn named(name: &str) -> Named {
    if let Some((_, known, unit, renamed, added)) = KNOWN.iter().find(|(own, ..)| *own == name) {
        return Named { name: Cow::Borrowed(known), unit, renamed, added };
    }
    let (prefix, words) = match name.strip_prefix("lakefall_") {
        Some(words) => ("lakefall.", words),
        None => ("", name),
    };
    let ends: [(&str, &str, &str); 6] = [
        ("_seconds_total", ".time", "s"),
        ("_bytes_total", ".io", "By"),
        // When something was, in seconds of Unix time: no duration.
        ("_timestamp_seconds", ".timestamp", "s"),
        ("_seconds", ".duration", "s"),
        ("_bytes", ".size", "By"),
        ("_total", "", "1"),
    ];
    let ended = ends.iter().find_map(|(end, ending, unit)| words.strip_suffix(end).map(|words| (words, *ending, *unit)));
    let (words, ending, unit) = ended.unwrap_or((words, "", "1"));
    Named { name: Cow::Owned(format!("{prefix}{words}{ending}")), unit, renamed: &[], added: &[] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_that_no_convention_knows_keeps_its_words_and_gets_its_unit() {
        let of = |name: &str| {
            let named = named(name);
            (named.name.into_owned(), named.unit)
        };
        for (name, told, unit) in [
            ("lakefall_upload_seconds", "lakefall.upload.duration", "s"),
            ("lakefall_collector_last_sweep_timestamp_seconds", "lakefall.collector_last_sweep.timestamp", "s"),
            ("lakefall_segment_bytes", "lakefall.segment.size", "By"),
            ("lakefall_produced_bytes_total", "lakefall.produced.io", "By"),
            ("lakefall_commits_repeated_total", "lakefall.commits_repeated", "1"),
            ("lakefall_connections", "lakefall.connections", "1"),
            ("lakefall_http_request_seconds", "http.server.request.duration", "s"),
            ("process_open_fds", "process.unix.file_descriptor.count", "{file_descriptor}"),
        ] {
            assert_eq!(of(name), (told.to_owned(), unit), "{name}");
        }
    }
}
