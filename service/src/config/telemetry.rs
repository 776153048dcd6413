//! The section `telemetry`: what is sent to an OpenTelemetry collector, and how much of it. Data only, with the reading of
//! what stands in it as text; numbers have their bounds in `bounds`.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::Secret;
use crate::secret::serialize_url;

/// What an OpenTelemetry collector is sent by OTLP: traces, metrics and logs. Without an endpoint nothing is, and nothing of it
/// costs anything. Where a setting is not given, the variable of OpenTelemetry's own that stands with it is taken, if it is set and
/// there is an endpoint; `OTEL_SDK_DISABLED=true` switches these variables off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Where a collector takes OTLP, like `http://127.0.0.1:4317`; `https` is encrypted. With `http` as the protocol, `/v1/traces`,
    /// `/v1/metrics` and `/v1/logs` are added to its path. Default none: `OTEL_EXPORTER_OTLP_ENDPOINT`, and without either nothing is sent.
    #[serde(serialize_with = "serialize_url")]
    pub endpoint: Option<String>,
    /// How it is sent: `grpc`, most often at port 4317, or `http`, protobuf over HTTP at port 4318. Default grpc, or
    /// `OTEL_EXPORTER_OTLP_PROTOCOL`.
    pub protocol: TelemetryProtocol,
    /// Headers of each request, as `name=value` with commas between them and values percent-encoded: where a collector wants a key.
    /// Default none, or `OTEL_EXPORTER_OTLP_HEADERS`.
    pub headers: Option<Secret<String>>,
    /// A file with these headers, for secrets that are mounted. `OTEL_EXPORTER_OTLP_HEADERS` says nothing beside it. Default none.
    pub headers_file: Option<PathBuf>,
    /// The authority of the collector's certificate, a PEM file. Default none, or `OTEL_EXPORTER_OTLP_CERTIFICATE`: the system's.
    pub ca_file: Option<PathBuf>,
    /// Sends spans. Default true, or what `OTEL_TRACES_EXPORTER` says (`otlp`, `none`).
    pub traces: bool,
    /// Sends metrics: the same that `/metrics` shows. Default true, or what `OTEL_METRICS_EXPORTER` says.
    pub metrics: bool,
    /// Sends log records: those that `log.level` lets through. Default true, or what `OTEL_LOGS_EXPORTER` says.
    pub logs: bool,
    /// The part of requests that begin a trace which is recorded. More shows more and costs more: a traced request has some spans, one
    /// that is not has none. Default 0.01, or what `OTEL_TRACES_SAMPLER` says, for `traceidratio` with `OTEL_TRACES_SAMPLER_ARG`;
    /// 0.0 to 1.0.
    pub sample_ratio: f64,
    /// A request with a `traceparent` is traced if that says so, whatever the ratio is, and else is not. Off, callers decide nothing:
    /// for gateways that strangers reach. Default true, or what `OTEL_TRACES_SAMPLER` says.
    pub parent_based: bool,
    /// `service.name`. Default none: `OTEL_SERVICE_NAME`, else `lakefall-` and the role.
    pub service_name: Option<String>,
    /// What else is said of this process, each as `key=value`: `deployment.environment.name=production`. Default none, or
    /// `OTEL_RESOURCE_ATTRIBUTES`.
    pub resource_attributes: Vec<String>,
    /// How often metrics are sent. Default 60,000 ms, or `OTEL_METRIC_EXPORT_INTERVAL`; 1,000 to 3,600,000.
    pub metrics_interval_ms: u64,
    /// How long spans and log records wait for others to be sent along with. Default 1,000 ms; 10 to 60,000.
    pub linger_ms: u64,
    /// Longest single request to the collector. Default 10,000 ms, or `OTEL_EXPORTER_OTLP_TIMEOUT`; 100 to 60,000.
    pub timeout_ms: u64,
    /// Spans that wait to be sent at most, and as many log records; what comes beyond is dropped and counted. A span takes
    /// 1 to 3 KiB, a segment's with 128 links some 15, a log record 1 KiB and its text. Default 8,192; 16 to 1,000,000.
    pub queue_items: usize,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            protocol: TelemetryProtocol::Grpc,
            headers: None,
            headers_file: None,
            ca_file: None,
            traces: true,
            metrics: true,
            logs: true,
            sample_ratio: 0.01,
            parent_based: true,
            service_name: None,
            resource_attributes: Vec::new(),
            metrics_interval_ms: 60_000,
            linger_ms: 1_000,
            timeout_ms: 10_000,
            queue_items: 8_192,
        }
    }
}

/// How OTLP travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TelemetryProtocol {
    /// By gRPC.
    Grpc,
    /// As protobuf by HTTP.
    Http,
}

impl TelemetryConfig {
    /// What is wrong with settings that are text, each as a sentence.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.endpoint.as_deref().and_then(|endpoint| endpoint_of(endpoint).err()));
        if let Some(headers) = &self.headers {
            if pairs_of(headers.expose()).is_none() {
                problems.push("telemetry.headers is not name=value,name=value".to_owned());
            }
            if self.headers_file.is_some() {
                problems.push("telemetry.headers and telemetry.headers_file are both set: keep one".to_owned());
            }
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            problems.push(format!("telemetry.sample_ratio is {}: allowed is 0 to 1", self.sample_ratio));
        }
        if self.service_name.as_deref().is_some_and(str::is_empty) {
            problems.push("telemetry.service_name is empty: leave it out or name the service".to_owned());
        }
        let wrong = self.resource_attributes.iter().filter(|text| pairs_of(text).is_none());
        problems.extend(wrong.map(|text| format!("telemetry.resource_attributes: {text:?} is not key=value")));
        problems
    }

    /// The resource's attributes as they are meant.
    pub fn attributes(&self) -> Vec<(String, String)> {
        // Those that cannot be read were refused.
        self.resource_attributes.iter().filter_map(|text| pairs_of(text)).flatten().collect()
    }
}

/// An endpoint, if it is one: `http` or `https`, and a host.
pub fn endpoint_of(text: &str) -> Result<Url, String> {
    // A URL's own error never repeats it: it may hold a password.
    let url = Url::parse(text).map_err(|error| format!("telemetry.endpoint is no URL: {error}"))?;
    match url.scheme() {
        "http" | "https" if url.host().is_some() => Ok(url),
        other => Err(format!("telemetry.endpoint has the scheme {other:?}: use http://host:4317 or https://host:4317")),
    }
}

/// `name=value,name=value`, values percent-encoded, as in OTEL_EXPORTER_OTLP_HEADERS and OTEL_RESOURCE_ATTRIBUTES. Never tells what
/// is wrong with it: headers are secrets.
pub fn pairs_of(text: &str) -> Option<Vec<(String, String)>> {
    let pair = |item: &str| {
        let (name, value) = item.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?.into_owned();
        let name = name.trim();
        (!name.is_empty()).then(|| (name.to_owned(), value))
    };
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(pair).collect()
}

/// Which settings are given otherwise than by OpenTelemetry's own variables.
#[derive(Clone, Copy)]
pub(super) struct Said {
    pub(super) endpoint: bool,
    pub(super) headers_file: bool,
}

/// What OpenTelemetry's own variables say, as settings: (key, variable, text). The error names one that cannot be followed. Without an
/// endpoint they say nothing: they may be meant for other programs, and must not keep this one from its start.
pub(super) fn standard(environment: &[(String, String)], said: Said) -> Result<Vec<(&'static str, &'static str, String)>, String> {
    let of = |variable: &str| environment.iter().find(|(name, text)| name == variable && !text.is_empty()).map(|(_, text)| text.clone());
    if of("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        return Ok(Vec::new());
    }
    if !said.endpoint && of("OTEL_EXPORTER_OTLP_ENDPOINT").is_none() {
        return Ok(Vec::new());
    }
    let mut settings: Vec<(&'static str, &'static str, String)> = Vec::new();
    for (key, variable) in [
        ("endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("headers", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("ca_file", "OTEL_EXPORTER_OTLP_CERTIFICATE"),
        ("timeout_ms", "OTEL_EXPORTER_OTLP_TIMEOUT"),
        ("metrics_interval_ms", "OTEL_METRIC_EXPORT_INTERVAL"),
        ("service_name", "OTEL_SERVICE_NAME"),
        ("resource_attributes", "OTEL_RESOURCE_ATTRIBUTES"),
    ] {
        // Headers stand in one place: a file that was named on purpose is that.
        let is_said = key == "headers" && said.headers_file;
        settings.extend(of(variable).filter(|_| !is_said).map(|text| (key, variable, text)));
    }
    let mut words = |key: &'static str, variable: &'static str, known: &[(&str, &str)]| match of(variable) {
        None => Ok(()),
        Some(text) => match known.iter().find(|(word, _)| *word == text) {
            Some((_, means)) => {
                settings.push((key, variable, (*means).to_owned()));
                Ok(())
            }
            None => {
                let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
                Err(format!("{variable} is {text:?}: only {} can be followed", words.join(", ")))
            }
        },
    };
    words("protocol", "OTEL_EXPORTER_OTLP_PROTOCOL", &[("grpc", "grpc"), ("http/protobuf", "http")])?;
    for (key, variable) in [("traces", "OTEL_TRACES_EXPORTER"), ("metrics", "OTEL_METRICS_EXPORTER"), ("logs", "OTEL_LOGS_EXPORTER")] {
        words(key, variable, &[("otlp", "true"), ("none", "false")])?;
    }
    let Some(sampler) = of("OTEL_TRACES_SAMPLER") else { return Ok(settings) };
    let (parent, ratio) = match sampler.strip_prefix("parentbased_") {
        Some(root) => ("true", root),
        None => ("false", sampler.as_str()),
    };
    let ratio = match ratio {
        "always_on" => "1".to_owned(),
        "always_off" => "0".to_owned(),
        "traceidratio" => of("OTEL_TRACES_SAMPLER_ARG").unwrap_or_else(|| "1".to_owned()),
        _ => {
            return Err(format!(
                "OTEL_TRACES_SAMPLER is {sampler:?}: only always_on, always_off, traceidratio and parentbased_… can be followed"
            ));
        }
    };
    settings.push(("parent_based", "OTEL_TRACES_SAMPLER", parent.to_owned()));
    settings.push(("sample_ratio", "OTEL_TRACES_SAMPLER", ratio));
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::config::{ConfigError, Sources};

    fn load(variables: &[(&str, &str)]) -> Result<TelemetryConfig, ConfigError> {
        let environment = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        Config::load(Config::default(), &Sources { environment, ..Sources::default() }).map(|config| config.telemetry)
    }

    #[test]
    fn what_the_standard_variables_say_holds_where_no_setting_says_otherwise() {
        let telemetry = load(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
            ("OTEL_LOGS_EXPORTER", "none"),
            ("OTEL_SERVICE_NAME", "standard"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=b,c=d"),
            ("LAKEFALL_TELEMETRY__SERVICE_NAME", "own"),
        ])
        .unwrap();
        assert_eq!(telemetry.endpoint.as_deref(), Some("http://collector:4318"));
        assert_eq!((telemetry.protocol, telemetry.timeout_ms, telemetry.logs), (TelemetryProtocol::Http, 2_000, false));
        assert_eq!((telemetry.sample_ratio, telemetry.parent_based), (0.25, false));
        assert_eq!(telemetry.service_name.as_deref(), Some("own"));
        assert_eq!(telemetry.attributes(), [("a".to_owned(), "b".to_owned()), ("c".to_owned(), "d".to_owned())]);
        assert_eq!(pairs_of(telemetry.headers.unwrap().expose()).unwrap(), [("api-key".to_owned(), "a b".to_owned())]);
    }

    #[test]
    fn the_standard_variables_say_nothing_when_they_are_switched_off_or_empty() {
        let off = load(&[("OTEL_SDK_DISABLED", "true"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")]).unwrap();
        assert_eq!(off, TelemetryConfig::default());
        assert_eq!(load(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).unwrap(), TelemetryConfig::default());
    }

    #[test]
    fn a_file_of_headers_wins_over_the_standard_variable_and_not_over_the_other_setting() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
        let (file, standard) = (("LAKEFALL_TELEMETRY__HEADERS_FILE", "/run/headers"), ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a"));
        let telemetry = load(&[endpoint, file, standard]).unwrap();
        assert_eq!((telemetry.headers, telemetry.headers_file), (None, Some("/run/headers".into())));
        let error = load(&[endpoint, file, ("LAKEFALL_TELEMETRY__HEADERS", "api-key=a")]).unwrap_err().to_string();
        assert!(error.contains("telemetry.headers_file"), "{error}");
    }

    #[test]
    fn the_standard_variables_are_read_only_where_there_is_an_endpoint() {
        let wrong = [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "none"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1"),
        ];
        assert_eq!(load(&wrong).unwrap(), TelemetryConfig::default());
        for endpoint in ["LAKEFALL_TELEMETRY__ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"] {
            for one in wrong {
                load(&[(endpoint, "http://collector:4317"), one]).unwrap_err();
            }
        }
    }

    #[test]
    fn what_cannot_be_followed_is_refused_by_name() {
        for (variable, text, told) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "OTEL_EXPORTER_OTLP_PROTOCOL"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote", "OTEL_TRACES_SAMPLER"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "OTEL_EXPORTER_OTLP_TIMEOUT"),
            ("LAKEFALL_TELEMETRY__ENDPOINT", "collector:4317", "telemetry.endpoint"),
            ("LAKEFALL_TELEMETRY__ENDPOINT", "nowhere", "telemetry.endpoint"),
            ("LAKEFALL_TELEMETRY__HEADERS", "hunter2", "telemetry.headers"),
            ("LAKEFALL_TELEMETRY__SAMPLE_RATIO", "1.5", "telemetry.sample_ratio"),
            ("LAKEFALL_TELEMETRY__SAMPLE_RATIO", "NaN", "telemetry.sample_ratio"),
            ("LAKEFALL_TELEMETRY__RESOURCE_ATTRIBUTES", "production", "telemetry.resource_attributes"),
            ("LAKEFALL_TELEMETRY__QUEUE_ITEMS", "1", "telemetry.queue_items"),
        ] {
            let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
            let error = load(&[endpoint, (variable, text)]).unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains("hunter2"), "{variable}={text}: {error}");
        }
    }
}
