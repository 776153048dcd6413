//! The S3 server of the tests: that it is honest about signatures, ranges, lists, parts and conditions. What it does not
//! pass here cannot be trusted above.

use std::sync::Arc;

use crate::common::{client, get, put, root, status, until};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, PublicAccessBlockConfiguration};
use futures::future::join_all;
use lakefall_servers::{S3, runs};
use tokio::sync::Barrier;

/// Writers at one key.
const WRITERS: usize = 20;

#[tokio::test]
async fn a_wrong_secret_an_unknown_key_and_a_stranger_are_refused() {
    let s3 = S3::shared().await;
    let bucket = s3.fresh_bucket().await;
    let refused = |status: u16, code: &str| (status, code.to_owned());
    let wrong = client(&s3.endpoint(), s3.access_key(), "wrong");
    assert_eq!(put(&wrong, &bucket, "a", vec![1]).await, refused(403, "SignatureDoesNotMatch"));
    let unknown = client(&s3.endpoint(), "NOSUCHKEY", s3.secret());
    assert_eq!(put(&unknown, &bucket, "a", vec![1]).await, refused(403, "InvalidAccessKeyId"));
    s3.create_user("STRANGER", "secret-of-the-stranger").await;
    let stranger = client(&s3.endpoint(), "STRANGER", "secret-of-the-stranger");
    assert_eq!(put(&stranger, &bucket, "a", vec![1]).await, refused(403, "AccessDenied"));
    let made = stranger.create_bucket().bucket("of-the-stranger").send().await;
    assert_eq!(status(&made), refused(403, "AccessDenied"));
    assert_eq!(put(&root(&s3), "not-there", "a", vec![1]).await, refused(404, "NoSuchBucket"));
    assert_eq!(get(&root(&s3), &bucket, "a").await, Err(refused(404, "NoSuchKey")), "something was stored");
}

#[tokio::test]
async fn a_rotated_secret_counts_at_once_and_a_deleted_account_is_refused() {
    let s3 = S3::shared().await;
    s3.create_user("ROTATED", "first-secret").await;
    s3.create_bucket_of("rotated", "ROTATED").await;
    let (first, second) = (client(&s3.endpoint(), "ROTATED", "first-secret"), client(&s3.endpoint(), "ROTATED", "second-secret"));
    assert_eq!(put(&first, "rotated", "a", vec![1]).await.0, 200);
    s3.set_secret("ROTATED", "second-secret").await;
    assert_eq!(put(&first, "rotated", "a", vec![2]).await.0, 403);
    assert_eq!(put(&second, "rotated", "a", vec![3]).await.0, 200);
    s3.delete_user("ROTATED").await;
    assert_eq!(put(&second, "rotated", "a", vec![4]).await.0, 403);
    assert_eq!(get(&root(&s3), "rotated", "a").await, Ok(vec![3]));
}

#[tokio::test]
async fn ranges_are_exact() {
    let s3 = S3::shared().await;
    let (client, bucket) = (root(&s3), s3.fresh_bucket().await);
    put(&client, &bucket, "a/b", b"0123456789".to_vec()).await;
    for (range, expected) in [("bytes=2-4", "234"), ("bytes=-3", "789"), ("bytes=8-20", "89"), ("bytes=0-0", "0")] {
        let part = client.get_object().bucket(&bucket).key("a/b").range(range).send().await.unwrap();
        assert_eq!(part.body.collect().await.unwrap().to_vec(), expected.as_bytes(), "{range}");
    }
    let beyond = client.get_object().bucket(&bucket).key("a/b").range("bytes=10-12").send().await;
    assert_eq!(status(&beyond), (416, "InvalidRange".to_owned()));
}

#[tokio::test]
async fn of_twenty_writers_that_create_or_replace_one_object_exactly_one_wins() {
    let s3 = S3::shared().await;
    let (client, bucket) = (root(&s3), s3.fresh_bucket().await);
    for round in 0..6 {
        let key = format!("race/{round}");
        let mut condition = None;
        if round % 2 == 1 {
            let made = client.put_object().bucket(&bucket).key(&key).body(ByteStream::from_static(b"old")).send().await.unwrap();
            condition = made.e_tag;
        }
        let barrier = Arc::new(Barrier::new(WRITERS));
        let writer = |n: usize| {
            let body = ByteStream::from(format!("{n};").into_bytes().repeat(3000));
            let put = client.put_object().bucket(&bucket).key(&key).body(body);
            let put = match &condition {
                Some(etag) => put.if_match(etag),
                None => put.if_none_match("*"),
            };
            let barrier = barrier.clone();
            tokio::spawn(async move {
                barrier.wait().await;
                status(&put.send().await).0
            })
        };
        let answers: Vec<u16> = join_all((0..WRITERS).map(writer)).await.into_iter().map(Result::unwrap).collect();
        let winners: Vec<usize> = (0..WRITERS).filter(|n| answers[*n] == 200).collect();
        assert_eq!(winners.len(), 1, "round {round}: {answers:?}");
        assert!(answers.iter().all(|status| [200, 409, 412].contains(status)), "round {round}: {answers:?}");
        let stored = get(&client, &bucket, &key).await.unwrap();
        assert_eq!(stored, format!("{};", winners[0]).into_bytes().repeat(3000), "round {round}: not the winner's bytes");
    }
}

#[tokio::test]
async fn lists_are_sorted_and_come_in_pages() {
    let s3 = S3::shared().await;
    let (client, bucket) = (root(&s3), s3.fresh_bucket().await);
    for n in 0..25 {
        put(&client, &bucket, &format!("l/{n:03}"), vec![1]).await;
    }
    put(&client, &bucket, "m/0", vec![1]).await;
    let (mut keys, mut pages, mut token) = (Vec::new(), 0, None);
    loop {
        let page = client.list_objects_v2().bucket(&bucket).prefix("l/").max_keys(10).set_continuation_token(token).send().await.unwrap();
        pages += 1;
        keys.extend(page.contents().iter().map(|object| object.key().unwrap().to_owned()));
        token = page.next_continuation_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(keys, (0..25).map(|n| format!("l/{n:03}")).collect::<Vec<_>>());
    assert_eq!(pages, 3);
    let after = client.list_objects_v2().bucket(&bucket).prefix("l/").start_after("l/020").send().await.unwrap();
    assert_eq!(after.contents().len(), 4);
}

#[tokio::test]
async fn parts_become_visible_together_or_not_at_all() {
    let s3 = S3::shared().await;
    let (client, bucket) = (root(&s3), s3.fresh_bucket().await);
    for completed in [false, true] {
        let upload = client.create_multipart_upload().bucket(&bucket).key("parts").send().await.unwrap().upload_id.unwrap();
        let mut parts = Vec::new();
        for number in 1..=2 {
            let body = ByteStream::from(vec![number as u8; 5 << 20]);
            let part = client.upload_part().bucket(&bucket).key("parts").upload_id(&upload).part_number(number).body(body);
            let part = part.send().await.unwrap();
            parts.push(CompletedPart::builder().part_number(number).set_e_tag(part.e_tag).build());
        }
        assert_eq!(get(&client, &bucket, "parts").await.unwrap_err().0, 404);
        if completed {
            let all = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
            let complete = client.complete_multipart_upload().bucket(&bucket).key("parts").upload_id(&upload).multipart_upload(all);
            complete.send().await.unwrap();
            assert_eq!(get(&client, &bucket, "parts").await.unwrap(), [vec![1; 5 << 20], vec![2; 5 << 20]].concat());
        } else {
            client.abort_multipart_upload().bucket(&bucket).key("parts").upload_id(&upload).send().await.unwrap();
            assert!(client.list_multipart_uploads().bucket(&bucket).send().await.unwrap().uploads().is_empty());
            assert_eq!(get(&client, &bucket, "parts").await.unwrap_err().0, 404);
        }
    }
}

#[tokio::test]
async fn a_checksum_that_does_not_match_stores_nothing_and_what_it_cannot_do_it_says() {
    let s3 = S3::shared().await;
    let (client, bucket) = (root(&s3), s3.fresh_bucket().await);
    let put = client.put_object().bucket(&bucket).key("a").body(ByteStream::from_static(b"abc")).checksum_crc32_c("AAAAAA==");
    assert_eq!(status(&put.send().await), (400, "BadDigest".to_owned()));
    assert_eq!(get(&client, &bucket, "a").await.unwrap_err().0, 404);
    let block = PublicAccessBlockConfiguration::builder().block_public_acls(true).build();
    let answer = client.put_public_access_block().bucket(&bucket).public_access_block_configuration(block).send().await;
    assert_eq!(status(&answer), (501, "NotImplemented".to_owned()));
}

#[tokio::test]
async fn objects_outlive_a_kill_and_a_paused_server_answers_when_it_goes_on() {
    let s3 = S3::start().await;
    s3.create_bucket("kept").await;
    let client = root(&s3);
    assert_eq!(put(&client, "kept", "a", vec![7; 1000]).await.0, 200);
    let before = s3.pid().await.unwrap();
    s3.kill_nine().await;
    assert!(!runs(before) && !s3.is_running().await);
    assert_eq!(put(&client, "kept", "b", vec![8]).await.0, 0, "a dead server answered");
    s3.start_again().await;
    assert_eq!(get(&client, "kept", "a").await, Ok(vec![7; 1000]));
    s3.pause().await;
    let pid = s3.pid().await.unwrap();
    until("the server is stopped", async || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ")).await;
    let answer = tokio::spawn(async move { put(&client, "kept", "b", vec![8]).await });
    // Nothing shows that a stopped server has a request, so this gives it a chance to be wrong.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(!answer.is_finished());
    s3.resume().await;
    assert_eq!(answer.await.unwrap().0, 200);
    assert!(s3.object_path("kept", "b").is_file());
    drop(s3);
    assert!(!runs(pid));
}
