//! Roles of two releases talk to each other while a cluster is upgraded, and a journal outlives its program: of every message
//! that ever was, no field changes its number, its type or its name, and none goes.
//!
//! `UPDATE_FROZEN=1 cargo test -p lakefall-metadata --test rpc compat` adds what is new. What was frozen by a release is never
//! changed by hand.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bytes::Bytes;
use lakefall_metadata::rpc::proto::{
    Answered, Answers, Ask, Asks, DescribeReply, Durable, Elsewhere, Holding, News, NewsFrame, Replica, Served, ShardAt, WatchRequest,
    answered, ask, news,
};
use lakefall_queue::ledger::{Command, Extent, Notice, Query, Reply, wire};
use lakefall_queue::{Offset, PartitionIndex, SegmentId, Timestamp, TopicId};
use prost::Message;
use prost_types::field_descriptor_proto::Label;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn updating() -> bool {
    std::env::var_os("UPDATE_FROZEN").is_some()
}

/// One line for each field, value and method.
fn lines(files: &FileDescriptorSet) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in &files.file {
        let package = file.package();
        for message in &file.message_type {
            message_lines(package, message, &mut lines);
        }
        for values in &file.enum_type {
            enum_lines(package, values, &mut lines);
        }
        for service in &file.service {
            for method in &service.method {
                let stream = |streams: bool| if streams { "stream " } else { "" };
                lines.insert(format!(
                    "{package}.{} {}({}{}) returns ({}{})",
                    service.name(),
                    method.name(),
                    stream(method.client_streaming()),
                    method.input_type(),
                    stream(method.server_streaming()),
                    method.output_type(),
                ));
            }
        }
    }
    lines
}

fn message_lines(scope: &str, message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    let name = format!("{scope}.{}", message.name());
    lines.insert(format!("{name} message"));
    for field in &message.field {
        let label = if field.label() == Label::Repeated { "repeated " } else { "" };
        let optional = if field.proto3_optional() { "optional " } else { "" };
        // A field may not move into a oneof, or out of it.
        let oneof = field.oneof_index.filter(|_| !field.proto3_optional()).map(|index| message.oneof_decl[index as usize].name());
        let kind = format!("{:?} {}", field.r#type(), field.type_name());
        let within = oneof.map(|oneof| format!(" of {oneof}")).unwrap_or_default();
        lines.insert(format!("{name} {} = {} {label}{optional}{}{within}", field.name(), field.number(), kind.trim()));
    }
    for nested in &message.nested_type {
        message_lines(&name, nested, lines);
    }
    for values in &message.enum_type {
        enum_lines(&name, values, lines);
    }
}

fn enum_lines(scope: &str, values: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    for value in &values.value {
        lines.insert(format!("{scope}.{} {} = {}", values.name(), value.name(), value.number()));
    }
}

#[test]
fn no_field_of_any_message_changed_or_went() {
    let current = lines(&protox::compile([path("proto/metadata.proto")], [path("proto"), path("../queue/proto")]).unwrap());
    let file = path("tests/frozen/messages.txt");
    let frozen: BTreeSet<String> = std::fs::read_to_string(&file).unwrap_or_default().lines().map(str::to_owned).collect();
    let gone: Vec<_> = frozen.difference(&current).collect();
    assert!(gone.is_empty(), "these were changed or taken away, which breaks running clusters and stored journals: {gone:#?}");
    if updating() {
        std::fs::write(&file, current.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        return;
    }
    let new: Vec<_> = current.difference(&frozen).collect();
    assert!(new.is_empty(), "these are new; freeze them with UPDATE_FROZEN=1: {new:#?}");
}

#[test]
fn a_field_that_changes_is_noticed() {
    let compile = |field: &str| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("a.proto"),
            format!("syntax = \"proto3\"; package p; message M {{ oneof o {{ uint32 z = 9; }} {field} }}"),
        )
        .unwrap();
        lines(&protox::compile(["a.proto"], [folder.path()]).unwrap())
    };
    let before = compile("uint64 a = 1;");
    assert!(before.is_subset(&compile("uint64 a = 1; string b = 2;")), "what is added is no change");
    for changed in ["uint64 a = 2;", "uint64 b = 1;", "uint32 a = 1;", "repeated uint64 a = 1;", "optional uint64 a = 1;", ""] {
        assert!(!before.is_subset(&compile(changed)), "{changed:?}");
    }
}

const AT: Timestamp = Timestamp::from_millis(1_735_689_600_123);

fn segment(n: u128) -> SegmentId {
    SegmentId::mint(AT, n << 64)
}

/// One frame of each kind, as release 1 writes them.
fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let replica = || Replica { id: Bytes::from(vec![7; 16]), address: "http://10.0.0.7:8082".to_owned() };
    let command = wire::encode_command(&Command::RefuseSegments { segments: vec![segment(1)] });
    let query = wire::encode_query(&Query::Locate {
        topic: TopicId(5),
        partition: PartitionIndex(2),
        from: Offset(9),
        max_bytes: 1 << 20,
        max_extents: 64,
    });
    let asks = Asks {
        asks: vec![
            Ask { id: 1, shard: 3, within_ms: 10_000, what: Some(ask::What::Command(command)), traceparent: String::new() },
            Ask { id: 2, shard: 0, within_ms: 1, what: Some(ask::What::Query(query)), traceparent: String::new() },
        ],
    };
    let outcome = wire::encode_reply(&Ok(Reply::Refused(vec![segment(1)])));
    let answers = Answers {
        answers: vec![
            Answered { id: 1, what: Some(answered::What::Outcome(outcome)) },
            Answered { id: 2, what: Some(answered::What::Elsewhere(Elsewhere { owner: Some(replica()) })) },
        ],
        now_ms: AT.as_millis(),
        stopping: true,
    };
    let extent = Extent {
        level: Default::default(),
        base_offset: Offset(40),
        records: 2,
        length: 300,
        object: segment(2),
        object_size: 9_000,
        position: 16,
        first_timestamp: AT,
        max_timestamp: AT,
        appended_at: AT,
    };
    let notice = Notice::Appended { topic: TopicId(5), partition: PartitionIndex(2), extent };
    let durable = Durable { shard: 3, seq: 11, notices: vec![wire::notice_to_proto(&notice)] };
    let news = NewsFrame {
        news: vec![News { what: Some(news::What::Durable(durable)) }, News { what: Some(news::What::Missed(true)) }],
        served: Some(Served { shards: vec![ShardAt { shard: 3, seq: 11 }] }),
    };
    let described = DescribeReply {
        oldest_protocol: 1,
        newest_protocol: 1,
        cluster: "c-1".to_owned(),
        shards: 16,
        replicas: vec![replica()],
        holdings: vec![Holding { shard: 3, owner: Some(replica()), remaining_ms: Some(4_000) }],
        now_ms: AT.as_millis(),
        me: Some(replica()),
    };
    vec![
        ("asks", asks.encode_to_vec()),
        ("answers", answers.encode_to_vec()),
        ("news", news.encode_to_vec()),
        ("watch", WatchRequest { seen: vec![ShardAt { shard: 3, seq: 10 }] }.encode_to_vec()),
        ("described", described.encode_to_vec()),
    ]
}

#[test]
fn frames_of_release_1_are_read_and_written_as_they_were() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let file = path("tests/frozen/frames_v1.txt");
    let current: String = frames().iter().map(|(name, bytes)| format!("{name} {}\n", hex(bytes))).collect();
    if updating() {
        std::fs::write(&file, &current).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), current, "a frame is written differently than release 1 reads it");
    // Bytes that compare equal were read, too: what was decoded and encoded again is what stood there.
    for (name, bytes) in frames() {
        let again = match name {
            "asks" => Asks::decode(&bytes[..]).unwrap().encode_to_vec(),
            "answers" => Answers::decode(&bytes[..]).unwrap().encode_to_vec(),
            "news" => NewsFrame::decode(&bytes[..]).unwrap().encode_to_vec(),
            "watch" => WatchRequest::decode(&bytes[..]).unwrap().encode_to_vec(),
            _ => DescribeReply::decode(&bytes[..]).unwrap().encode_to_vec(),
        };
        assert_eq!(hex(&again), hex(&bytes), "{name}");
    }
}

#[test]
fn fields_that_a_newer_release_added_are_passed_over() {
    for (name, mut bytes) in frames() {
        // Field 1000, length-delimited.
        bytes.extend([0xc2, 0x3e, 0x03, 1, 2, 3]);
        match name {
            "asks" => assert_eq!(Asks::decode(&bytes[..]).unwrap().asks.len(), 2),
            "answers" => assert_eq!(Answers::decode(&bytes[..]).unwrap().answers.len(), 2),
            "news" => assert_eq!(NewsFrame::decode(&bytes[..]).unwrap().news.len(), 2),
            "watch" => assert_eq!(WatchRequest::decode(&bytes[..]).unwrap().seen.len(), 1),
            _ => assert_eq!(DescribeReply::decode(&bytes[..]).unwrap().shards, 16),
        }
    }
}
