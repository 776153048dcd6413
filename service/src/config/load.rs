//! The layers of the configuration, later ones winning: defaults, OpenTelemetry's own variables, file, environment, flags. An
//! unknown key in any of them refuses to start, named with its source.

use std::path::PathBuf;

use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::{Config, telemetry};

/// Prefix of the environment's settings; `__` stands between a section and its key.
const PREFIX: &str = "LAKEFALL_";
/// Variables of the same prefix that are no settings: client defaults, where the file is, what a test arms.
const NOT_SETTINGS: [&str; 4] = ["LAKEFALL_URL", "LAKEFALL_NAMESPACE", "LAKEFALL_CONFIG", crate::failpoint::VARIABLE];

/// Numbers without a default, which therefore does not tell that they are numbers.
const OPTIONAL_NUMBERS: [&str; 2] = ["segment.puts_per_second", "compactor.max_bytes_per_second"];

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A TOML file; it must exist.
    pub file: Option<PathBuf>,
    /// Environment variables; others than `LAKEFALL_*`, and `OTEL_*` that stand for settings, are ignored.
    pub environment: Vec<(String, String)>,
    /// Flags: the setting's key (`segment.target_bytes`), the flag's name (`--listen`), its text.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

impl Sources {
    /// This process's environment, and nothing else.
    pub fn from_process() -> Self {
        Self { environment: std::env::vars().collect(), ..Self::default() }
    }
}

/// Why there is no configuration. In every case the operator changes the named setting and starts again.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key that no setting has.
    #[error("unknown setting {key} in {source_name}{}", hint.as_ref().map(|hint| format!("; did you mean {hint}?")).unwrap_or_default())]
    Unknown {
        /// The key, with its section.
        key: String,
        /// The file, variable or flag it stands in.
        source_name: String,
        /// The setting that is nearest, if one is near.
        hint: Option<String>,
    },
    /// A value of the wrong type, or text that cannot be read.
    #[error("{0}")]
    Invalid(String),
    /// Values out of bounds, each as a sentence.
    #[error("the configuration is out of bounds:\n  {}", .0.join("\n  "))]
    OutOfBounds(Vec<String>),
}

/// One setting given as text.
struct Setting {
    source: String,
    key: String,
    value: Value,
}

impl Provider for Setting {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let nested = figment::util::nest(&self.key, self.value.clone());
        Ok(Map::from([(Profile::Default, nested.into_dict().unwrap_or_default())]))
    }
}

/// Merges the layers over `base` and checks the result.
pub(super) fn load(base: Config, sources: &Sources) -> Result<Config, ConfigError> {
    let known = Value::serialize(&base).map_err(invalid)?;
    let mut layers = Figment::new();
    if let Some(path) = &sources.file {
        layers = layers.merge(file_layer(path, &known)?);
    }
    let environment = sources.environment.iter().filter(|(name, _)| name.starts_with(PREFIX) && !NOT_SETTINGS.contains(&name.as_str()));
    for (name, text) in environment {
        let key = name[PREFIX.len()..].to_ascii_lowercase().replace("__", ".");
        layers = layers.merge(setting(&known, key, format!("the environment variable {name}"), text)?);
    }
    for (key, flag, text) in &sources.flags {
        layers = layers.merge(setting(&known, (*key).to_owned(), format!("the flag {flag}"), text)?);
    }
    // Below what is said to Lakefall itself, which tells whether they are followed at all.
    let said = telemetry::Said { endpoint: layers.contains("telemetry.endpoint"), headers_file: layers.contains("telemetry.headers_file") };
    for (key, variable, text) in telemetry::standard(&sources.environment, said).map_err(ConfigError::Invalid)? {
        layers = layers.join(setting(&known, format!("telemetry.{key}"), format!("the environment variable {variable}"), &text)?);
    }
    layers = layers.join(Serialized::defaults(base));
    let config: Config = layers.extract().map_err(invalid)?;
    config.check()?;
    Ok(config)
}

fn file_layer(path: &PathBuf, known: &Value) -> Result<figment::providers::Data<Toml>, ConfigError> {
    // Read here first: figment takes a missing file for an empty one.
    std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?;
    let layer = Toml::file_exact(path);
    for dict in layer.data().map_err(invalid)?.into_values() {
        refuse_unknown(known, "", &Value::from(dict), &format!("the file {}", path.display()))?;
    }
    Ok(layer)
}

/// Text becomes what the setting is: a number or a flag where the default is one, else it stays as it was written, so
/// that a key of digits is not read as a number.
fn setting(known: &Value, key: String, source: String, text: &str) -> Result<Setting, ConfigError> {
    let value = match known.find_ref(&key) {
        Some(Value::Num(..) | Value::Bool(..)) => text.parse().unwrap_or_else(|never| match never {}),
        // A list, written with commas.
        Some(Value::Array(..)) => Value::from(text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect::<Vec<_>>()),
        Some(Value::Empty(..)) if OPTIONAL_NUMBERS.contains(&key.as_str()) => text.parse().unwrap_or_else(|never| match never {}),
        _ => Value::from(text),
    };
    refuse_unknown(known, "", &figment::util::nest(&key, value.clone()), &source)?;
    Ok(Setting { source, key, value })
}

/// Every key of `given` must exist in `known`.
fn refuse_unknown(known: &Value, prefix: &str, given: &Value, source: &str) -> Result<(), ConfigError> {
    let (Some(known), Some(given)) = (known.as_dict(), given.as_dict()) else { return Ok(()) };
    for (name, value) in given {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match known.get(name) {
            Some(inner) => refuse_unknown(inner, &key, value, source)?,
            None => {
                let hint = nearest(name, known.keys()).map(|near| match prefix {
                    "" => near.to_owned(),
                    _ => format!("{prefix}.{near}"),
                });
                return Err(ConfigError::Unknown { key, source_name: source.to_owned(), hint });
            }
        }
    }
    Ok(())
}

/// The known name that shares most of its letters with a mistyped one.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Option<&'a str> {
    let shared = |other: &str| {
        let head = name.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
        let tail = name.chars().rev().zip(other.chars().rev()).take_while(|(a, b)| a == b).count();
        head + tail
    };
    let best = known.max_by_key(|other| shared(other))?;
    (shared(best) * 2 >= name.len()).then_some(best.as_str())
}

/// Figment's error with its key and its source, and without the name of its profile.
fn invalid(error: figment::Error) -> ConfigError {
    let key = error.path.iter().filter(|part| *part != "default").cloned().collect::<Vec<_>>().join(".");
    let source = error.metadata.as_ref().map(|metadata| match &metadata.source {
        Some(place) => format!(" in {place}"),
        None => format!(" in {}", metadata.name),
    });
    let place = if key.is_empty() { String::new() } else { format!("{key}: ") };
    ConfigError::Invalid(format!("{place}{}{}", error.kind, source.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;
    use std::io::Write;

    fn environment(pairs: &[(&str, &str)]) -> Sources {
        let environment = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Sources { environment, ..Sources::default() }
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn a_flag_wins_over_the_environment_which_wins_over_the_file() {
        let file = file("listen = '127.0.0.1:1'\nadmin_listen = '127.0.0.1:2'\n[segment]\ntarget_bytes = 4096\nbatch_bytes = 2048\n");
        let mut sources = environment(&[("LAKEFALL_SEGMENT__TARGET_BYTES", "8192"), ("LAKEFALL_LISTEN", "127.0.0.1:3"), ("PATH", "/bin")]);
        sources.file = Some(file.path().to_owned());
        sources.flags = vec![("listen", "--listen", "127.0.0.1:4".into())];
        let config = Config::load(Config::dev(), &sources).unwrap();
        assert_eq!(config.listen.port(), 4);
        assert_eq!(config.admin_listen.port(), 2);
        assert_eq!((config.segment.target_bytes, config.segment.batch_bytes), (8192, 2048));
        assert_eq!(config.metadata.shards, 1, "the base remains below the layers");
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_source() {
        let error = Config::load(Config::default(), &environment(&[("LAKEFALL_SEGMENT__TARGET_BYTE", "1")])).unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown setting segment.target_byte in the environment variable LAKEFALL_SEGMENT__TARGET_BYTE; did you mean segment.target_bytes?"
        );
        let file = file("[zeppelin]\nx = 1\n");
        let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
        let error = Config::load(Config::default(), &sources).unwrap_err().to_string();
        assert_eq!(error, format!("unknown setting zeppelin in the file {}", file.path().display()));
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_with_its_key_and_source() {
        let error = Config::load(Config::default(), &environment(&[("LAKEFALL_UPLOADS__MAX", "many")])).unwrap_err().to_string();
        assert!(error.contains("uploads.max") && error.contains("LAKEFALL_UPLOADS__MAX") && error.contains("many"), "{error}");
        let error = Config::load(Config::default(), &environment(&[("LAKEFALL_SEGMENT", "5")])).unwrap_err().to_string();
        assert!(error.contains("LAKEFALL_SEGMENT"), "{error}");
    }

    #[test]
    fn text_settings_of_digits_stay_text() {
        let sources = environment(&[
            ("LAKEFALL_STORE__SECRET_ACCESS_KEY", "007"),
            ("LAKEFALL_STORE__ACCESS_KEY_ID", "12"),
            ("LAKEFALL_SEGMENT__PUTS_PER_SECOND", "2.5"),
            ("LAKEFALL_STORE__ALLOW_HTTP", "true"),
            ("LAKEFALL_LOG__FORMAT", "json"),
            ("LAKEFALL_URL", "http://elsewhere"),
        ]);
        let config = Config::load(Config::default(), &sources).unwrap();
        assert_eq!(config.store.secret_access_key.unwrap().expose(), "007");
        assert_eq!(config.store.access_key_id.as_deref(), Some("12"));
        assert_eq!(config.segment.puts_per_second, Some(2.5));
        assert!(config.store.allow_http);
        assert_eq!(config.log.format, LogFormat::Json);
    }

    #[test]
    fn a_list_is_written_with_commas() {
        let sources = environment(&[("LAKEFALL_METADATA__ENDPOINTS", "http://a:8082, http://b:8082")]);
        assert_eq!(Config::load(Config::default(), &sources).unwrap().metadata.endpoints, ["http://a:8082", "http://b:8082"]);
    }

    #[test]
    fn numbers_without_a_default_are_numbers_too() {
        let set = [("LAKEFALL_SEGMENT__PUTS_PER_SECOND", "5"), ("LAKEFALL_COMPACTOR__MAX_BYTES_PER_SECOND", "1000000")];
        let config = Config::load(Config::default(), &environment(&set)).unwrap();
        assert_eq!((config.segment.puts_per_second, config.compactor.max_bytes_per_second), (Some(5.0), Some(1_000_000)));
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error() {
        let sources = Sources { file: Some("/does/not/exist.toml".into()), ..Sources::default() };
        assert!(matches!(Config::load(Config::default(), &sources), Err(ConfigError::Unreadable { .. })));
    }
}
