//! Gateways that reach the metadata service over the network, as in a cluster.

use std::sync::Arc;
use std::time::Duration;

use lakefall_gateway::Engine;
use lakefall_gateway::engine::{EngineConfig, ReceiptKeys, SqlConfig};
use lakefall_metadata::memory::MemoryStore;
use lakefall_metadata::rpc::{Client, ClientConfig, Host, ServerSecurity, serve};
use lakefall_metadata::{Membership, NoPeers, Node, NodeConfig, Replica, ReplicaId};
use lakefall_queue::error::{Error, Result};
use lakefall_queue::limits::Limits;
use lakefall_queue::topic::TopicConfig;
use lakefall_queue::verbs::{Fetched, Precondition, Read, Start, Verbs};
use lakefall_queue::{Offset, PartitionIndex};
use lakefall_service::{Tasks, system_ambient};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::support::faults::FaultStore;
use crate::support::metadata::Watched;
use crate::support::{Setup, append, caller, engine, read, record, start_at, topic, values};

struct Cluster {
    objects: Arc<FaultStore>,
    tasks: Tasks,
    url: String,
}

impl Cluster {
    async fn new() -> Self {
        let tasks = Tasks::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let membership = Membership { me: Replica { id: ReplicaId(1), address: url.clone() }, peers: Arc::new(NoPeers) };
        let store = Arc::new(MemoryStore::new());
        let node = Node::join(store, NodeConfig::default(), system_ambient(), &tasks, tasks.token(), membership).await.unwrap();
        node.ready().await;
        serve(listener, node as Arc<dyn Host>, &ServerSecurity::default(), &tasks, tasks.token()).unwrap();
        Self { objects: FaultStore::new(), tasks, url }
    }

    async fn gateway(&self, deaf: bool) -> (Arc<Engine>, Arc<Watched>) {
        let config = ClientConfig { endpoints: vec![self.url.clone()], ..ClientConfig::default() };
        let client = Client::connect(config, system_ambient(), &self.tasks, self.tasks.token()).unwrap();
        client.ready().await.unwrap();
        let metadata = Watched::new(client, deaf);
        let Setup { ingest, read_buffer_bytes, .. } = Setup::default();
        let config = EngineConfig {
            ingest,
            limits: Limits::default(),
            read_buffer_bytes,
            receipt_keys: ReceiptKeys::default(),
            sql: SqlConfig::default(),
            usage_interval: EngineConfig::USAGE_INTERVAL,
        };
        (engine(&self.objects, &metadata, &system_ambient(), &self.tasks, config).await, metadata)
    }
}

async fn put(engine: &Engine) {
    engine.put_topic(&caller(), &topic("t"), TopicConfig::default(), Precondition::Always, None).await.unwrap();
}

async fn from(engine: &Engine, start: Start) -> Result<Fetched> {
    engine.read(&caller(), read("t", &[(0, start)])).await
}

#[tokio::test]
async fn notices_that_come_over_the_network_wake_readers_without_a_question() {
    let cluster = Cluster::new().await;
    let ((writer, _), (other, metadata)) = (cluster.gateway(false).await, cluster.gateway(false).await);
    put(&writer).await;
    writer.append(&caller(), append("t", vec![record("0")])).await.unwrap();
    from(&other, Start::Latest).await.unwrap();
    let asked = metadata.queries();
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let (other, wait) = (Arc::clone(&other), Read { wait: Duration::from_secs(30), ..read("t", &[(0, start_at(1))]) });
            tokio::spawn(async move { values(&other.read(&caller(), wait).await.unwrap().records) })
        })
        .collect();
    let end = Instant::now() + Duration::from_secs(10);
    // All of them ran in one thread: the first asked, and the others share the next question.
    while metadata.queries() < asked + 2 {
        assert!(Instant::now() < end, "they do not ask");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    writer.append(&caller(), append("t", vec![record("1")])).await.unwrap();
    for one in waiting {
        assert_eq!(one.await.unwrap(), ["1"]);
    }
    assert_eq!(metadata.queries() - asked, 2, "who is woken asks nobody");
    assert_eq!(cluster.objects.gets(), 1);
}

#[tokio::test]
async fn a_gateway_that_hears_no_notices_learns_over_the_network_that_its_topic_is_gone() {
    let cluster = Cluster::new().await;
    let ((writer, _), (deaf, _)) = (cluster.gateway(false).await, cluster.gateway(true).await);
    for records in [0, 1] {
        put(&writer).await;
        for _ in 0..records {
            writer.append(&caller(), append("t", vec![record("old")])).await.unwrap();
        }
        from(&deaf, start_at(records)).await.unwrap();
        writer.delete_topic(&caller(), &topic("t"), Precondition::Always).await.unwrap();
        assert_eq!(from(&deaf, start_at(records)).await.unwrap_err(), Error::TopicNotFound(topic("t")));
        put(&writer).await;
        from(&deaf, Start::Earliest).await.unwrap();
        writer.delete_topic(&caller(), &topic("t"), Precondition::Always).await.unwrap();
        put(&writer).await;
        writer.append(&caller(), append("t", vec![record("new")])).await.unwrap();
        assert_eq!(values(&from(&deaf, start_at(0)).await.unwrap().records), ["new"]);
        writer.trim(&caller(), &topic("t"), None, Offset(1)).await.unwrap();
        let gone = Error::BelowLogStart { partition: PartitionIndex(0), offset: Offset(0), log_start: Offset(1) };
        from(&deaf, Start::Latest).await.unwrap();
        assert_eq!(from(&deaf, start_at(0)).await.unwrap_err(), gone);
        writer.delete_topic(&caller(), &topic("t"), Precondition::Always).await.unwrap();
    }
}
