//! Certificates of the metadata RPC that are renewed while the process runs: their files are read again with the settings. Must never
//! leave one side of a process with new ones and the other with old ones.

use std::sync::Arc;

use lakefall_metadata::rpc::{Client, RpcPeers, Serving};
use lakefall_service::LiveConfig;
use lakefall_service::live::Take;

use super::parts;

/// A replica shows one to callers, and one to its peers.
pub(super) fn of_a_replica(live: &LiveConfig, serving: Serving, peers: Arc<RpcPeers>) {
    live.on_change(move |config| {
        let shown = match parts::server_security(config).map_err(|failure| failure.to_string())?.tls {
            Some(tls) => serving.renewal(&tls).map_err(|error| error.to_string())?,
            None => nothing(),
        };
        let trusted = match parts::client_security(config).map_err(|failure| failure.to_string())?.tls {
            Some(tls) => peers.renewal(&tls).map_err(|error| error.to_string())?,
            None => nothing(),
        };
        Ok(Box::new(move || {
            shown();
            trusted();
        }))
    });
}

/// Who asks replicas shows one to them.
pub(super) fn of_a_client(live: &LiveConfig, client: Arc<Client>) {
    live.on_change(move |config| match parts::client_security(config).map_err(|failure| failure.to_string())?.tls {
        Some(tls) => client.renewal(&tls).map_err(|error| error.to_string()),
        None => Ok(nothing()),
    });
}

fn nothing() -> Take {
    Box::new(|| {})
}
