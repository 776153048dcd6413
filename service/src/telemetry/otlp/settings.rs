//! What the section `telemetry` means: files read, headers taken apart, the resource put together. Whatever is wrong with them is
//! told before anything runs.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use url::Url;

use super::super::TelemetryError;
use crate::clock::system_ambient;
use crate::config::{TelemetryConfig, TelemetryProtocol, endpoint_of, pairs_of};

/// How a collector is reached, and what it is sent.
pub(super) struct Settings {
    pub(super) endpoint: Url,
    pub(super) protocol: TelemetryProtocol,
    /// Names and values; secrets.
    pub(super) headers: Vec<(String, String)>,
    /// PEM.
    pub(super) ca: Option<Vec<u8>>,
    pub(super) traces: bool,
    pub(super) metrics: bool,
    pub(super) logs: bool,
    pub(super) resource: Resource,
    pub(super) metrics_interval: Duration,
    pub(super) linger: Duration,
    pub(super) timeout: Duration,
    pub(super) queue_items: usize,
}

impl Settings {
    /// `None`: nothing is to be sent.
    pub(super) fn read(config: &TelemetryConfig, role: &str) -> Result<Option<Self>, TelemetryError> {
        let Some(endpoint) = config.endpoint.as_deref().filter(|_| config.traces || config.metrics || config.logs) else { return Ok(None) };
        let unreadable = |key: &str, path: &std::path::Path, why: String| {
            TelemetryError::Collector(format!("{key}: {} cannot be read: {why}", path.display()))
        };
        let headers = match (&config.headers, &config.headers_file) {
            (Some(headers), _) => headers.expose().clone(),
            (None, Some(path)) => {
                std::fs::read_to_string(path).map_err(|error| unreadable("telemetry.headers_file", path, error.to_string()))?
            }
            (None, None) => String::new(),
        };
        let headers = pairs_of(headers.trim())
            .ok_or_else(|| TelemetryError::Collector("telemetry.headers_file does not hold name=value,name=value".to_owned()))?;
        let ca = match &config.ca_file {
            Some(path) => Some(std::fs::read(path).map_err(|error| unreadable("telemetry.ca_file", path, error.to_string()))?),
            None => None,
        };
        Ok(Some(Self {
            endpoint: endpoint_of(endpoint).map_err(TelemetryError::Collector)?,
            protocol: config.protocol,
            headers,
            ca,
            traces: config.traces,
            metrics: config.metrics,
            logs: config.logs,
            resource: resource(config, role),
            metrics_interval: Duration::from_millis(config.metrics_interval_ms),
            linger: Duration::from_millis(config.linger_ms),
            timeout: Duration::from_millis(config.timeout_ms),
            queue_items: config.queue_items,
        }))
    }
}

/// Who tells all this, by the semantic conventions for resources. What the settings say wins.
fn resource(config: &TelemetryConfig, role: &str) -> Resource {
    let name = config.service_name.clone().unwrap_or_else(|| format!("lakefall-{role}"));
    let mut attributes = vec![
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", format!("{:032x}", system_ambient().entropy.draw())),
        KeyValue::new("process.pid", i64::from(std::process::id())),
        KeyValue::new("telemetry.sdk.language", "rust"),
        KeyValue::new("telemetry.sdk.name", "opentelemetry"),
    ];
    if let Ok(host) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        attributes.push(KeyValue::new("host.name", host.trim().to_owned()));
    }
    let own = config.attributes().into_iter().map(|(key, value)| KeyValue::new(key, value));
    let mut builder = Resource::builder_empty().with_attributes(attributes);
    // One that stands in the attributes as OTEL_RESOURCE_ATTRIBUTES may have it yields to the setting of its own.
    builder = builder.with_service_name(name);
    let named = config.service_name.is_some();
    builder.with_attributes(own.filter(|pair| !named || pair.key.as_str() != "service.name")).build()
}

#[cfg(test)]
mod tests {
    use opentelemetry::Key;

    use super::*;

    fn config() -> TelemetryConfig {
        TelemetryConfig { endpoint: Some("http://localhost:4317".into()), ..TelemetryConfig::default() }
    }

    #[test]
    fn nothing_is_prepared_without_an_endpoint_or_without_anything_to_send() {
        assert!(Settings::read(&TelemetryConfig::default(), "dev").unwrap().is_none());
        let silent = TelemetryConfig { traces: false, metrics: false, logs: false, ..config() };
        assert!(Settings::read(&silent, "dev").unwrap().is_none());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_with_its_setting() {
        for (key, config) in [
            ("telemetry.ca_file", TelemetryConfig { ca_file: Some("/does/not/exist".into()), ..config() }),
            ("telemetry.headers_file", TelemetryConfig { headers_file: Some("/does/not/exist".into()), ..config() }),
        ] {
            let Err(TelemetryError::Collector(text)) = Settings::read(&config, "dev") else { panic!("{key} was read") };
            assert!(text.starts_with(key), "{text}");
        }
    }

    #[test]
    fn the_service_is_named_by_its_setting_then_its_attributes_then_its_role() {
        let name = |config: &TelemetryConfig| resource(config, "gateway").get(&Key::new("service.name")).unwrap().to_string();
        assert_eq!(name(&config()), "lakefall-gateway");
        let attributes = TelemetryConfig { resource_attributes: vec!["service.name=queue".into(), "a=b".into()], ..config() };
        assert_eq!(name(&attributes), "queue");
        assert_eq!(name(&TelemetryConfig { service_name: Some("own".into()), ..attributes }), "own");
    }
}
