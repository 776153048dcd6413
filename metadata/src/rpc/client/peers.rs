//! How a replica wakes its peers.

use std::time::Duration;

use async_trait::async_trait;

use lakefall_service::net::Dialing;

use super::super::proto::NudgeRequest;
use super::super::{ClientSecurity, ClientTls, Renewal};
use super::ClientError;
use super::dial::{Dialer, describe};
use crate::peers::Peers;
use crate::store::Replica;

/// Longer than this nobody waits for a nudge.
const WITHIN: Duration = Duration::from_secs(1);

/// Reaches peers by the addresses that they advertise.
pub struct RpcPeers {
    dialer: Dialer,
}

impl RpcPeers {
    /// With what a peer is shown, and how it is reached. The error says what is wrong with it.
    pub fn new(security: &ClientSecurity, dialing: Dialing) -> Result<Self, ClientError> {
        Ok(Self { dialer: Dialer::new(security, WITHIN, dialing)? })
    }
}

impl RpcPeers {
    /// Looks at renewed certificates; what comes back puts them into use.
    pub fn renewal(&self, tls: &ClientTls) -> Result<Renewal, ClientError> {
        self.dialer.renewal(tls)
    }
}

#[async_trait]
impl Peers for RpcPeers {
    async fn nudge(&self, replica: &Replica) {
        let nudged = async {
            let mut client = self.dialer.client(&replica.address)?;
            client.nudge(self.dialer.request(NudgeRequest {}, None)).await.map_err(|status| describe(&status))?;
            Ok::<_, String>(())
        };
        let reason = match tokio::time::timeout(WITHIN, nudged).await {
            Ok(Ok(())) => return,
            Ok(Err(reason)) => reason,
            Err(_) => "it does not answer".to_owned(),
        };
        // It looks by itself before long.
        tracing::debug!(address = replica.address, reason, "a metadata replica could not be woken");
    }
}
