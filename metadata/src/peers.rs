//! How a replica wakes others. Nothing depends on it: whoever is not woken looks by itself before long.

use std::sync::Arc;

use async_trait::async_trait;

use crate::store::Replica;

/// Reaches the other replicas of the metadata service.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// Tells a replica that shards were given back, so that it looks at once. Errors are the implementation's to log: the
    /// caller would do nothing about them. Given up on after a second.
    async fn nudge(&self, replica: &Replica);
}

/// Nobody to wake.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

#[async_trait]
impl Peers for NoPeers {
    async fn nudge(&self, _replica: &Replica) {}
}

/// A replica's place among others.
#[derive(Clone)]
pub struct Membership {
    /// This replica: the one that the store acts for.
    pub me: Replica,
    /// The way to the others.
    pub peers: Arc<dyn Peers>,
}
