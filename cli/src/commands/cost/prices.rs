//! What a cloud asks for what Lakefall uses. Read from a TOML file; one with the list prices of AWS is built in.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

const BUILT_IN: &str = include_str!("prices.toml");

/// A table of prices.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::commands) struct Prices {
    /// Whose prices, and for what.
    pub(in crate::commands) name: String,
    /// In which currency all of them are.
    pub(in crate::commands) currency: String,
    /// When they were looked up.
    pub(in crate::commands) as_of: String,
    pub(in crate::commands) store: StorePrices,
    pub(super) postgres: PostgresPrices,
    pub(super) compute: ComputePrices,
    pub(super) transfer: TransferPrices,
}

/// Of the object store.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::commands) struct StorePrices {
    /// 1,000 requests that write or list.
    pub(in crate::commands) put_per_1000: f64,
    /// 1,000 requests that read.
    pub(in crate::commands) get_per_1000: f64,
    /// A GiB for a month.
    pub(in crate::commands) gib_month: f64,
}

/// Of the database.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PostgresPrices {
    /// A unit of capacity (an ACU, or a machine with its standby) for an hour.
    pub(super) unit_hour: f64,
    /// A GiB for a month.
    pub(super) gib_month: f64,
    /// A million reads and writes of the storage; 0 where they are free.
    pub(super) io_per_million: f64,
}

/// Of the machines.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ComputePrices {
    /// A virtual core for an hour.
    pub(super) vcpu_hour: f64,
    /// A GiB of memory for an hour.
    pub(super) gib_hour: f64,
}

/// Of the network.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TransferPrices {
    /// A GiB from one zone to another, both sides together.
    pub(super) cross_zone_gib: f64,
}

impl Prices {
    /// The prices of a file, or those built in.
    pub(in crate::commands) fn load(file: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = file else { return Self::parse(BUILT_IN, "the built-in prices") };
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| Failure::Usage(format!("the prices {} cannot be read: {error}", path.display())))?;
        Self::parse(&text, &format!("the prices {}", path.display()))
    }

    fn parse(text: &str, source: &str) -> Result<Self, Failure> {
        let prices: Self = toml::from_str(text).map_err(|error| Failure::Usage(format!("{source} are not understood: {error}")))?;
        for (key, price) in prices.all() {
            if !price.is_finite() || price < 0.0 {
                return Err(Failure::Usage(format!("{source} have {key} = {price}: use a number that is 0 or more")));
            }
        }
        Ok(prices)
    }

    fn all(&self) -> [(&'static str, f64); 9] {
        let Self { store, postgres, compute, transfer, .. } = self;
        [
            ("store.put_per_1000", store.put_per_1000),
            ("store.get_per_1000", store.get_per_1000),
            ("store.gib_month", store.gib_month),
            ("postgres.unit_hour", postgres.unit_hour),
            ("postgres.gib_month", postgres.gib_month),
            ("postgres.io_per_million", postgres.io_per_million),
            ("compute.vcpu_hour", compute.vcpu_hour),
            ("compute.gib_hour", compute.gib_hour),
            ("transfer.cross_zone_gib", transfer.cross_zone_gib),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prices_that_are_built_in_can_be_read() {
        let prices = Prices::load(None).unwrap();
        assert_eq!((prices.store.put_per_1000, prices.store.get_per_1000, prices.store.gib_month), (0.005, 0.0004, 0.023));
        assert!(prices.all().iter().all(|(_, price)| *price > 0.0));
    }

    #[test]
    fn a_price_that_is_missing_misspelt_or_negative_is_named() {
        let refused = |text: String| Prices::parse(&text, "these").unwrap_err().to_string();
        assert!(refused(BUILT_IN.replace("gib_hour = ", "gib_hours = ")).contains("gib_hours"));
        assert!(refused(BUILT_IN.replace("io_per_million = 0.20", "")).contains("io_per_million"));
        assert!(refused(BUILT_IN.replace("unit_hour = 0.12", "unit_hour = -1")).contains("postgres.unit_hour = -1"));
        assert!(refused(BUILT_IN.replace("unit_hour = 0.12", "unit_hour = nan")).contains("postgres.unit_hour"));
        assert!(refused("name = ".to_owned()).contains("these are not understood"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let refused = Prices::load(Some(Path::new("/no/such/prices.toml"))).unwrap_err();
        assert!(matches!(&refused, Failure::Usage(text) if text.contains("/no/such/prices.toml")), "{refused}");
    }
}
