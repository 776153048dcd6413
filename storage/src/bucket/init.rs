//! `lakefall bucket init`: makes the bucket, if there is none, and sets it up. Every step may be repeated; rules and
//! settings that are there stay.

use aws_sdk_s3::types::{
    BucketLocationConstraint, CreateBucketConfiguration, PublicAccessBlockConfiguration, ServerSideEncryption,
    ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration, ServerSideEncryptionRule,
};
use url::Url;

use super::admin::{Admin, Refused};
use super::settings::{arn, clears_uploads, covers, rules, with_cleared_uploads};
use super::{Check, Report, Verdict};
use crate::store::{Encryption, StoreError, StoreOptions, own_chain, system};

/// How a bucket is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitOptions {
    /// Shut out everybody without credentials. Default true.
    pub block_public_access: bool,
    /// Days after which an abandoned multipart upload is cleared away. Default 1: Lakefall's own take seconds.
    pub abandoned_upload_days: u16,
    /// The bucket's own encryption. Default `AES256`.
    pub encryption: Encryption,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self { block_public_access: true, abandoned_upload_days: 1, encryption: Encryption::Aes256 }
    }
}

/// Makes and sets up the bucket of an `s3://` URL. The report has a check for each step: `create_bucket`,
/// `public_access_block`, `lifecycle`, `encryption`; a step that the service does not know is skipped.
///
/// Errors: [`StoreError::Other`] if the URL is not of S3.
pub async fn init(url: &Url, options: &StoreOptions, init: &InitOptions) -> Result<Report, StoreError> {
    if url.scheme() != "s3" {
        return Err(StoreError::Other {
            reason: format!("only buckets of S3 can be made: {url} is none; make it with the tools of its service"),
        });
    }
    let admin = Admin::open(url, options, own_chain(options, &system())).await?;
    let mut report = Report::default();
    if report.add(create(&admin).await) == Verdict::Fail {
        report.skip_all(&["public_access_block", "lifecycle", "encryption"], "there is no bucket");
        return Ok(report);
    }
    if init.block_public_access {
        report.add(block_public_access(&admin).await);
    }
    report.add(clear_uploads(&admin, init.abandoned_upload_days).await);
    report.add(encrypt(&admin, &init.encryption).await);
    Ok(report)
}

async fn create(admin: &Admin) -> Check {
    const NAME: &str = "create_bucket";
    // AWS refuses its first region as a constraint, and other services know no regions.
    let elsewhere = admin.is_aws && admin.region != "us-east-1";
    let place = elsewhere.then(|| {
        let constraint = BucketLocationConstraint::from(admin.region.as_str());
        CreateBucketConfiguration::builder().location_constraint(constraint).build()
    });
    let answer = admin.client.create_bucket().bucket(&admin.bucket).set_create_bucket_configuration(place).send().await;
    match answer.map_err(Refused::from) {
        Ok(_) => Check::ok(NAME, format!("the bucket {} was made in {}", admin.bucket, admin.region)),
        Err(refused) if refused.code == "BucketAlreadyOwnedByYou" => Check::ok(NAME, format!("the bucket {} is there", admin.bucket)),
        // Some services, and some roles, cannot say whose it is: whether we may use it is the doctor's to find out.
        Err(refused) => match admin.client.head_bucket().bucket(&admin.bucket).send().await.map_err(Refused::from) {
            Ok(_) => Check::ok(NAME, format!("the bucket {} is there", admin.bucket)),
            Err(_) if refused.code == "BucketAlreadyExists" => {
                Check::fail(NAME, refused.text, "it belongs to somebody else: choose another name")
            }
            Err(_) if refused.is_denied() => {
                let advice =
                    format!("look at the credentials, or allow s3:CreateBucket on {}, or have the bucket made by who may", arn(admin));
                Check::fail(NAME, refused.text, advice)
            }
            Err(_) => Check::fail(NAME, refused.text, "look at the endpoint, the region and the bucket's name"),
        },
    }
}

async fn block_public_access(admin: &Admin) -> Check {
    let block = PublicAccessBlockConfiguration::builder()
        .block_public_acls(true)
        .ignore_public_acls(true)
        .block_public_policy(true)
        .restrict_public_buckets(true)
        .build();
    let answer = admin.client.put_public_access_block().bucket(&admin.bucket).public_access_block_configuration(block).send().await;
    step(admin, "public_access_block", "public access is blocked", "s3:PutBucketPublicAccessBlock", answer.map_err(Refused::from))
}

async fn clear_uploads(admin: &Admin, days: u16) -> Check {
    const NAME: &str = "lifecycle";
    const ACTION: &str = "s3:GetLifecycleConfiguration and s3:PutLifecycleConfiguration";
    let rules = match rules(admin).await {
        Ok(rules) if rules.iter().any(|rule| clears_uploads(rule) && covers(rule, &admin.prefix)) => {
            return Check::ok(NAME, "a rule clears away abandoned uploads");
        }
        Ok(rules) => rules,
        Err(refused) => return step::<()>(admin, NAME, "", ACTION, Err(refused)),
    };
    let rules = match with_cleared_uploads(rules, &admin.prefix, i32::from(days.max(1))) {
        Ok(rules) => rules,
        Err(error) => return Check::fail(NAME, error.to_string(), "set the rule by hand"),
    };
    let answer = admin.client.put_bucket_lifecycle_configuration().bucket(&admin.bucket).lifecycle_configuration(rules).send().await;
    step(admin, NAME, "abandoned uploads are cleared away", ACTION, answer.map_err(Refused::from))
}

async fn encrypt(admin: &Admin, encryption: &Encryption) -> Check {
    const NAME: &str = "encryption";
    let by_default = match encryption {
        Encryption::None => return Check::skipped(NAME, "left as it is"),
        Encryption::Aes256 => ServerSideEncryptionByDefault::builder().sse_algorithm(ServerSideEncryption::Aes256).build(),
        Encryption::Kms(key) => {
            ServerSideEncryptionByDefault::builder().sse_algorithm(ServerSideEncryption::AwsKms).kms_master_key_id(key).build()
        }
    };
    let rule = by_default.map(|by_default| {
        let bucket_key = matches!(encryption, Encryption::Kms(_));
        ServerSideEncryptionRule::builder().apply_server_side_encryption_by_default(by_default).bucket_key_enabled(bucket_key).build()
    });
    let configuration = rule.and_then(|rule| ServerSideEncryptionConfiguration::builder().rules(rule).build());
    let configuration = match configuration {
        Ok(configuration) => configuration,
        Err(error) => return Check::fail(NAME, error.to_string(), "set the encryption by hand"),
    };
    let answer =
        admin.client.put_bucket_encryption().bucket(&admin.bucket).server_side_encryption_configuration(configuration).send().await;
    step(admin, NAME, &format!("objects are encrypted ({encryption})"), "s3:PutEncryptionConfiguration", answer.map_err(Refused::from))
}

fn step<T>(admin: &Admin, name: &'static str, done: &str, action: &str, answer: Result<T, Refused>) -> Check {
    match answer {
        Ok(_) => Check::ok(name, done),
        Err(refused) if refused.is_unknown_request() => Check::skipped(name, format!("the service does not know it ({})", refused.text)),
        Err(refused) if refused.is_denied() => Check::fail(name, refused.text, format!("allow {action} on {}", arn(admin))),
        Err(refused) => Check::fail(name, refused.text, "look at the bucket's settings, then try again"),
    }
}
