//! What the section `telemetry` means: files read, headers taken apart, the resource put together. Whatever is wrong with them is
//! told before anything runs.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;

use super::super::TelemetryError;
use super::wire::{Target, Way};
use crate::clock::system_ambient;
use crate::config::{TelemetryConfig, endpoint_of, pairs_of};

/// How a collector is reached, and what it is sent.
pub(super) struct Settings {
    pub(super) way: Way,
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
        let (key, headers) = match (&config.headers, &config.headers_file) {
            (Some(headers), _) => ("telemetry.headers", headers.expose().clone()),
            (None, Some(path)) => {
                let key = "telemetry.headers_file";
                (key, std::fs::read_to_string(path).map_err(|error| unreadable(key, path, error.to_string()))?)
            }
            (None, None) => ("telemetry.headers", String::new()),
        };
        let headers =
            pairs_of(headers.trim()).ok_or_else(|| TelemetryError::Collector(format!("{key} does not hold name=value,name=value")))?;
        let ca = match &config.ca_file {
            Some(path) => Some(std::fs::read(path).map_err(|error| unreadable("telemetry.ca_file", path, error.to_string()))?),
            None => None,
        };
        let timeout = Duration::from_millis(config.timeout_ms);
        let endpoint = endpoint_of(endpoint).map_err(TelemetryError::Collector)?;
        let target = Target { endpoint, protocol: config.protocol, headers: (key, headers), ca, timeout };
        Ok(Some(Self {
            way: Way::new(target).map_err(TelemetryError::Collector)?,
            traces: config.traces,
            metrics: config.metrics,
            logs: config.logs,
            resource: resource(config, role),
            metrics_interval: Duration::from_millis(config.metrics_interval_ms),
            linger: Duration::from_millis(config.linger_ms),
            timeout,
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
    use std::io::Write;

    use opentelemetry::Key;

    use super::*;
    use crate::Secret;
    use crate::config::TelemetryProtocol;

    /// A certificate that signs itself.
    const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBfjCCASWgAwIBAgIUUA9jVUrXMyd2jMEd89XBNsgEj7IwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJY29sbGVjdG9yMCAXDTI2MTEzMDA5NTIyMloYDzIxMjYxMTA2
MDk1MjIyWjAUMRIwEAYDVQQDDAljb2xsZWN0b3IwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARL0hvgtRYI5t576HBy85OApnPZ/GhjlNCMJ/N4z6Fc5UbupQ4pXgeE
VQ6KUJevx92clVi8y6voRVL1BuHzPehGo1MwUTAdBgNVHQ4EFgQU6MNC9nb3OKFR
INJXHcA1xx8kqxcwHwYDVR0jBBgwFoAU6MNC9nb3OKFRINJXHcA1xx8kqxcwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNHADBEAiBViTQHVFmLtXiusNN/wiTG
id3nYjG0HFz0rNppm1E46QIgf64PcgR8vki0zZC0ZhKlQQD7vkKOAkzSKxxEn4Bt
kKo=
-----END CERTIFICATE-----
";

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn refusal(config: &TelemetryConfig) -> String {
        match Settings::read(config, "dev") {
            Err(TelemetryError::Collector(text)) => text,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it is taken: {config:?}"),
        }
    }

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
            let text = refusal(&config);
            assert!(text.starts_with(key), "{text}");
        }
    }

    #[test]
    fn headers_that_are_none_are_refused_by_their_setting_and_not_shown() {
        for text in ["hunter2", "a b=hunter2", "api-key=hunter2%0A", "api-key=hunter2\nother=hunter2"] {
            let file = file(text);
            let of_file = refusal(&TelemetryConfig { headers_file: Some(file.path().to_owned()), ..config() });
            assert!(of_file.starts_with("telemetry.headers_file ") || of_file.starts_with("telemetry.headers_file:"), "{of_file}");
            let own = refusal(&TelemetryConfig { headers: Some(Secret::new(text.to_owned())), ..config() });
            assert!(own.starts_with("telemetry.headers ") || own.starts_with("telemetry.headers:"), "{own}");
            assert!(!of_file.contains("hunter2") && !own.contains("hunter2"), "{of_file}; {own}");
        }
    }

    #[test]
    fn authorities_that_are_none_are_refused_whatever_the_protocol() {
        let damaged = CERTIFICATE.replace("MII", "AAA");
        let more = format!("{CERTIFICATE}{damaged}");
        let unended = CERTIFICATE.replace("-----END CERTIFICATE-----", "");
        for protocol in [TelemetryProtocol::Grpc, TelemetryProtocol::Http] {
            for endpoint in ["http://localhost:4317", "https://localhost:4317"] {
                let with = |file: &tempfile::NamedTempFile| TelemetryConfig {
                    endpoint: Some(endpoint.to_owned()),
                    protocol,
                    ca_file: Some(file.path().to_owned()),
                    ..TelemetryConfig::default()
                };
                Settings::read(&with(&file(CERTIFICATE)), "dev").unwrap();
                for text in ["", "collector", damaged.as_str(), more.as_str(), unended.as_str()] {
                    let said = refusal(&with(&file(text)));
                    assert!(said.starts_with("telemetry.ca_file "), "{protocol:?} {endpoint} {text:?}: {said}");
                }
            }
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
