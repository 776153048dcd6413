//! Callers that send what no client sends: they are refused, and nobody else notices.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use lakefall_metadata::Metadata;
use lakefall_metadata::rpc::proto::metadata_client::MetadataClient;
use lakefall_metadata::rpc::proto::{Ask, Asks, answered, ask};
use lakefall_queue::ShardId;
use lakefall_queue::error::Error;
use lakefall_queue::ledger::{Answer, Query, wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use super::world::{World, channel, commit, namespace, topic};

async fn session(url: &str) -> (mpsc::Sender<Asks>, Streaming<lakefall_metadata::rpc::proto::Answers>, MetadataClient<Channel>) {
    let mut raw = MetadataClient::new(channel(url).await).max_encoding_message_size(usize::MAX);
    let (sender, asks) = mpsc::channel(1_000);
    let mut request = Request::new(ReceiverStream::new(asks));
    request.metadata_mut().insert("lakefall-protocol", "1-1".parse().unwrap());
    let answers = raw.session(request).await.unwrap().into_inner();
    (sender, answers, raw)
}

fn asks(what: Option<ask::What>) -> Asks {
    Asks { asks: vec![Ask { id: 7, shard: 0, within_ms: 1_000, what, traceparent: String::new() }] }
}

#[tokio::test]
async fn an_ask_that_cannot_be_read_is_answered_as_not_applied_and_the_session_goes_on() {
    let world = World::alone();
    let replica = world.replica().await;
    let (sender, mut answers, _raw) = session(&replica.url).await;
    let garbage = || Bytes::from_static(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
    for what in [Some(ask::What::Command(garbage())), Some(ask::What::Query(garbage())), Some(ask::What::Command(Bytes::new())), None] {
        sender.send(asks(what)).await.unwrap();
        let frame = answers.message().await.unwrap().unwrap();
        assert_eq!(frame.answers[0].id, 7);
        let Some(answered::What::Outcome(bytes)) = frame.answers[0].what.clone() else { panic!("{frame:?}") };
        let told = wire::decode_reply(bytes).unwrap();
        assert!(matches!(told, Err(Error::Unavailable { .. })), "{told:?}");
    }
    sender.send(asks(Some(ask::What::Query(wire::encode_query(&Query::Position))))).await.unwrap();
    let frame = answers.message().await.unwrap().unwrap();
    let Some(answered::What::Outcome(bytes)) = frame.answers[0].what.clone() else { panic!("{frame:?}") };
    assert!(matches!(wire::decode_answer(bytes), Ok(Ok(Answer::Position(_)))));
}

#[tokio::test]
async fn a_frame_that_is_too_large_ends_the_session_and_not_the_replica() {
    let world = World::alone();
    let replica = world.replica().await;
    let (sender, mut answers, _raw) = session(&replica.url).await;
    sender.send(asks(Some(ask::What::Command(Bytes::from(vec![0; 65 << 20]))))).await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(20), answers.next()).await.unwrap();
    assert!(!matches!(told, Some(Ok(_))), "{told:?}");
    let client = world.client(&[&replica]).await;
    assert!(client.query(ShardId(0), Query::Position).await.is_ok());
}

#[tokio::test]
async fn one_who_speaks_no_http2_is_cut_off() {
    let world = World::alone();
    let replica = world.replica().await;
    for noise in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 4_096], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
        let mut raw = tokio::net::TcpStream::connect(replica.url.trim_start_matches("http://")).await.unwrap();
        // It may be cut off before all is written.
        let _ = raw.write_all(noise).await;
        let _ = raw.shutdown().await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(10), raw.read_to_end(&mut answer)).await.expect("it was left open");
    }
    let client = world.client(&[&replica]).await;
    assert!(client.query(ShardId(0), Query::Position).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_never_reads_its_answers_is_held_back_and_nobody_else_is() {
    let world = World::alone();
    let replica = world.replica().await;
    let client = world.client(&[&replica]).await;
    let orders = topic(&*client, &namespace("acme"), "orders").await;
    let (sender, _answers, _raw) = session(&replica.url).await;
    let before = replica.held.queries();
    let frame = || Asks {
        asks: (0..1_000)
            .map(|id| Ask {
                id,
                shard: 0,
                within_ms: 60_000,
                what: Some(ask::What::Query(wire::encode_query(&Query::Objects(vec![lakefall_queue::SegmentId(uuid::Uuid::nil()); 64])))),
                traceparent: String::new(),
            })
            .collect(),
    };
    // More than a session may have under way; it stops taking them.
    let flood = async {
        for _ in 0..10_000 {
            sender.send(frame()).await.unwrap();
        }
    };
    let flooded = tokio::time::timeout(Duration::from_secs(3), flood).await;
    assert!(flooded.is_err(), "everything was taken");
    let taken = replica.held.queries() - before;
    assert!(taken <= 16_384 + 20 * 1_000 + 200_000, "{taken} asks were taken of one who reads nothing");
    for _ in 0..10 {
        assert!(client.execute(ShardId(0), commit(orders.id, 1)).await.is_ok());
    }
}
