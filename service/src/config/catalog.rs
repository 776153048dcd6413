//! The section `catalog`: which Iceberg REST catalog tables are committed to. Data only, with the reading of what stands in it as
//! text; numbers have their bounds in `bounds`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::Secret;
use crate::secret::serialize_url;

/// An Iceberg REST catalog that topics' tables are committed to, by the processes that compact ([Iceberg](iceberg.md#a-rest-catalog)).
/// Without `catalog.uri` there is none. The metadata in the bucket is written in any case, and first. Without a token and without a client,
/// requests show nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CatalogConfig {
    /// Where the catalog is: what stands before `/v1`, like `https://catalog.example.com/api/catalog`. Default none.
    #[serde(serialize_with = "serialize_url")]
    pub uri: Option<String>,
    /// The warehouse to ask for, where the catalog has several. Default none.
    pub warehouse: Option<String>,
    /// The namespace that those of topics are in, with points between its levels: with `lake`, the topic `flights` of `default` is the
    /// table `flights` in `lake.default`. For catalogs that others use too. Default none: it is in `default`.
    pub parent: Option<String>,
    /// A bearer token to show. Default none.
    pub token: Option<Secret<String>>,
    /// A file that holds the token, for tokens that are mounted. It is read again when the catalog does not take the token any more.
    /// Default none.
    pub token_file: Option<PathBuf>,
    /// The id of a client of OAuth 2, whose credentials are exchanged for tokens. Default none.
    pub client_id: Option<String>,
    /// The client's secret. Default none.
    pub client_secret: Option<Secret<String>>,
    /// A file that holds the client's secret. Default none.
    pub client_secret_file: Option<PathBuf>,
    /// Where credentials are exchanged. Default none: `v1/oauth/tokens` of the catalog itself.
    #[serde(serialize_with = "serialize_url")]
    pub oauth_uri: Option<String>,
    /// What the client's tokens are to allow; Polaris wants `PRINCIPAL_ROLE:ALL`. Default catalog.
    pub scope: String,
    /// The authority of the catalog's certificate, a PEM file. Default none: the system's.
    pub ca_file: Option<PathBuf>,
    /// Longest single request. Nothing else waits for it. Default 10,000 ms; 100 to 60,000.
    pub timeout_ms: u64,
}

impl Default for CatalogConfig {
    fn default() -> Self {
        Self {
            uri: None,
            warehouse: None,
            parent: None,
            token: None,
            token_file: None,
            client_id: None,
            client_secret: None,
            client_secret_file: None,
            oauth_uri: None,
            scope: "catalog".to_owned(),
            ca_file: None,
            timeout_ms: 10_000,
        }
    }
}

impl CatalogConfig {
    /// What is wrong with settings that are text, each as a sentence.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (key, text) in [("catalog.uri", &self.uri), ("catalog.oauth_uri", &self.oauth_uri)] {
            problems.extend(text.as_deref().and_then(|text| catalog_url(key, text).err()));
        }
        if self.parent.as_deref().is_some_and(|parent| parent.split('.').any(str::is_empty)) {
            problems.push("catalog.parent has an empty level: write it as lake or lake.queues".to_owned());
        }
        let secret = self.client_secret.is_some() || self.client_secret_file.is_some();
        if self.client_id.is_some() != secret {
            problems.push("catalog.client_id and catalog.client_secret belong together: set both or none".to_owned());
        }
        let token = self.token.is_some() || self.token_file.is_some();
        for (one, other, what) in [
            (self.token.is_some(), self.token_file.is_some(), "catalog.token and catalog.token_file"),
            (self.client_secret.is_some(), self.client_secret_file.is_some(), "catalog.client_secret and catalog.client_secret_file"),
            (token, secret, "a token of the catalog and a client's secret"),
        ] {
            if one && other {
                problems.push(format!("{what} are both set: keep one"));
            }
        }
        problems
    }

    /// The levels of `parent`.
    pub fn parent_levels(&self) -> Vec<String> {
        self.parent.iter().flat_map(|parent| parent.split('.')).map(str::to_owned).collect()
    }
}

/// An address of the catalog, if it is one: `http` or `https`, and a host.
pub fn catalog_url(key: &str, text: &str) -> Result<Url, String> {
    // A URL's own error never repeats it: it may hold a password.
    let url = Url::parse(text).map_err(|error| format!("{key} is no URL: {error}"))?;
    match url.scheme() {
        "http" | "https" if url.host().is_some() => Ok(url),
        other => Err(format!("{key} has the scheme {other:?}: use http or https")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::config::{ConfigError, Sources};

    fn load(variables: &[(&str, &str)]) -> Result<CatalogConfig, ConfigError> {
        let environment = variables.iter().map(|(name, text)| (format!("LAKEFALL_CATALOG__{name}"), (*text).to_owned())).collect();
        Config::load(Config::default(), &Sources { environment, ..Sources::default() }).map(|config| config.catalog)
    }

    #[test]
    fn the_levels_of_the_parent_have_points_between_them() {
        assert!(CatalogConfig::default().parent_levels().is_empty());
        assert_eq!(load(&[("PARENT", "lake.queues")]).unwrap().parent_levels(), ["lake", "queues"]);
    }

    #[test]
    fn what_cannot_be_followed_is_refused_by_name() {
        let cases: [(&[(&str, &str)], &str); 8] = [
            (&[("URI", "catalog:8181")], "catalog.uri"),
            (&[("OAUTH_URI", "ftp://catalog")], "catalog.oauth_uri"),
            (&[("PARENT", "lake.")], "catalog.parent"),
            (&[("CLIENT_ID", "me")], "catalog.client_secret"),
            (&[("CLIENT_SECRET", "hunter2")], "catalog.client_id"),
            (&[("TOKEN", "hunter2"), ("TOKEN_FILE", "/token")], "catalog.token_file"),
            (&[("TOKEN", "hunter2"), ("CLIENT_ID", "me"), ("CLIENT_SECRET", "hunter2")], "a client's secret"),
            (&[("TIMEOUT_MS", "1")], "catalog.timeout_ms"),
        ];
        for (variables, told) in cases {
            let error = load(variables).unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains("hunter2"), "{variables:?}: {error}");
        }
    }
}
