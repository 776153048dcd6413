//! The calls: who may make them, and what each hands on.

use std::sync::Arc;

use async_trait::async_trait;
use futures::Stream;
use futures::stream::BoxStream;
use lakefall_service::{Secret, Tasks};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;
use tonic::{Request, Response, Status, Streaming};

use super::super::codec::{millis, positions_from_proto, replica_to_proto};
use super::super::proto::metadata_server::Metadata;
use super::super::proto::{
    Answers, Asks, DescribeReply, DescribeRequest, Holding, IdentifyReply, IdentifyRequest, NewsFrame, NudgeReply, NudgeRequest,
    WatchRequest,
};
use super::super::protocol::{self, CLUSTER_HEADER, NEWEST_PROTOCOL, OLDEST_PROTOCOL, PROTOCOL_HEADER};
use super::super::security;
use super::{Host, session, watch};
use crate::store::Identity;

/// Refuses who does not belong here, before anything is read.
#[derive(Clone)]
pub(super) struct Guard {
    token: Option<Secret<String>>,
}

impl Guard {
    pub(super) fn new(token: Option<Secret<String>>) -> Self {
        Self { token }
    }
}

impl Interceptor for Guard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        security::check(self.token.as_ref(), request.metadata())?;
        let versions = request.metadata().get(PROTOCOL_HEADER).and_then(|value| value.to_str().ok());
        protocol::check(versions).map_err(Status::failed_precondition)?;
        Ok(request)
    }
}

/// Answers calls for a host.
pub(super) struct Service {
    host: Arc<dyn Host>,
    tasks: Tasks,
    stop: CancellationToken,
    /// Asked of the store once.
    cluster: OnceCell<String>,
}

impl Service {
    pub(super) fn new(host: Arc<dyn Host>, tasks: Tasks, stop: CancellationToken) -> Self {
        Self { host, tasks, stop, cluster: OnceCell::new() }
    }

    async fn identity(&self) -> Result<Identity, Status> {
        self.host.identity().await.map_err(|error| Status::unavailable(error.to_string()))
    }

    async fn cluster(&self) -> Result<&str, Status> {
        self.cluster.get_or_try_init(|| async { Ok(self.identity().await?.cluster) }).await.map(String::as_str)
    }

    /// An address may have come to belong to another cluster since the caller learned it.
    async fn same_cluster(&self, headers: &MetadataMap) -> Result<(), Status> {
        let Some(named) = headers.get(CLUSTER_HEADER) else { return Ok(()) };
        let cluster = self.cluster().await?;
        if named.as_bytes() == cluster.as_bytes() {
            return Ok(());
        }
        Err(Status::failed_precondition(format!("this replica belongs to cluster {cluster}, the caller to another")))
    }
}

#[async_trait]
impl Metadata for Service {
    type SessionStream = BoxStream<'static, Result<Answers, Status>>;
    type WatchStream = BoxStream<'static, Result<NewsFrame, Status>>;

    async fn describe(&self, request: Request<DescribeRequest>) -> Result<Response<DescribeReply>, Status> {
        self.same_cluster(request.metadata()).await?;
        let cluster = self.cluster().await?.to_owned();
        let roster = self.host.roster();
        let holding = |holding: &crate::store::Holding| Holding {
            shard: holding.shard.0,
            owner: holding.owner.as_ref().map(replica_to_proto),
            remaining_ms: Some(millis(holding.remaining)),
        };
        Ok(Response::new(DescribeReply {
            oldest_protocol: OLDEST_PROTOCOL,
            newest_protocol: NEWEST_PROTOCOL,
            cluster,
            shards: self.host.shards(),
            replicas: roster.replicas.iter().map(replica_to_proto).collect(),
            holdings: roster.holdings.iter().map(holding).collect(),
            now_ms: self.host.now().as_millis(),
            me: Some(replica_to_proto(&self.host.me())),
        }))
    }

    async fn identify(&self, request: Request<IdentifyRequest>) -> Result<Response<IdentifyReply>, Status> {
        self.same_cluster(request.metadata()).await?;
        let Identity { cluster, incarnation } = self.identity().await?;
        Ok(Response::new(IdentifyReply { cluster, incarnation }))
    }

    async fn session(&self, request: Request<Streaming<Asks>>) -> Result<Response<Self::SessionStream>, Status> {
        self.same_cluster(request.metadata()).await?;
        let (task, answers) = session::open(Arc::clone(&self.host), request.into_inner(), self.stop.clone());
        self.tasks.spawn("metadata-session", task);
        Ok(Response::new(boxed(answers)))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.same_cluster(request.metadata()).await?;
        let seen = positions_from_proto(&request.get_ref().seen);
        Ok(Response::new(boxed(watch::news(Arc::clone(&self.host), seen, self.stop.clone()))))
    }

    async fn nudge(&self, request: Request<NudgeRequest>) -> Result<Response<NudgeReply>, Status> {
        self.same_cluster(request.metadata()).await?;
        self.host.nudge();
        Ok(Response::new(NudgeReply {}))
    }
}

fn boxed<T>(stream: impl Stream<Item = T> + Send + 'static) -> BoxStream<'static, T> {
    Box::pin(stream)
}
