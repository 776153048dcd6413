//! `lakefall doctor` for the store: from "does anybody answer" to "is it set up well". What cannot be tried after a
//! failure is told as skipped, so that the first failure stands out.

use lakefall_queue::clock::Ambient;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use url::Url;

use super::admin::{Admin, Refused};
use super::{Check, Report, Verdict, probes, settings};
use crate::store::{Answer, Chain, Store, StoreError, StoreOptions, Told, listen, open_s3, own_chain, system};

/// Clocks apart by more than the first are told; by more than the second, signatures are refused.
const SKEW_MS: (u64, u64) = (60_000, 15 * 60_000);

/// Tries a store out. It writes small objects under `probe/` and `meta/probe-…` and deletes them again.
///
/// The checks, in order: `settings`, `credentials`, `endpoint`, `clock`, `bucket`, `region`, then what the store does with
/// objects (`put` to `delete_visible`), `multipart`, `public_access_block`, `lifecycle`, `encryption`. Names are stable.
pub async fn doctor(url: &Url, options: &StoreOptions) -> Report {
    let ambient = system();
    let mut report = Report::default();
    if url.scheme() == "s3" {
        s3(url, options, &ambient, &mut report).await;
    } else {
        other(url, options, &ambient, &mut report).await;
    }
    report
}

/// A directory, memory, GCS or Azure: what objects alone tell.
async fn other(url: &Url, options: &StoreOptions, ambient: &Ambient, report: &mut Report) {
    let store = match Store::open_with(url, options, ambient.clone()) {
        Ok(store) => store,
        Err(error) => {
            report.add(Check::fail("settings", error.to_string(), "correct the store's settings"));
            return report.skip_all(&probes::NAMES, "the store could not be opened");
        }
    };
    report.add(Check::ok("settings", format!("{url} can be opened")));
    report.skip_all(&["credentials"], "not checked apart for this kind of store");
    if matches!(url.scheme(), "file" | "memory") {
        report.skip_all(&["endpoint", "clock"], "the store is in this machine");
    } else if !reach(&store, ambient, report).await {
        return report.skip_all(&probes::NAMES, "the store does not answer");
    }
    report.skip_all(&["bucket", "region"], "only known of S3");
    let grant = |action: &str| match url.scheme() {
        "gs" => format!("grant the role roles/storage.objectUser on the bucket (S3 calls it {action})"),
        "az" | "abfs" | "abfss" => format!("grant the role Storage Blob Data Contributor on the container (S3 calls it {action})"),
        _ => "let the user of this process read and write the directory".to_owned(),
    };
    probes::run(&store, ambient, &grant, report).await;
    report.skip_all(&["multipart", "public_access_block", "lifecycle", "encryption"], "only known of S3");
}

async fn s3(url: &Url, options: &StoreOptions, ambient: &Ambient, report: &mut Report) {
    const SETTINGS: [&str; 4] = ["multipart", "public_access_block", "lifecycle", "encryption"];
    let chain = own_chain(options, ambient);
    let opened = match open_s3(url, options, ambient.clone(), chain.clone()) {
        Ok(store) => Admin::open(url, options, chain.clone()).await.map(|admin| (store, admin)),
        Err(error) => Err(error),
    };
    let rest = |report: &mut Report, first: &[&'static str], why: &str| {
        report.skip_all(first, why);
        report.skip_all(&probes::NAMES, why);
        report.skip_all(&SETTINGS, why);
    };
    let (store, admin) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            report.add(Check::fail("settings", error.to_string(), "correct the store's settings"));
            return rest(report, &["credentials", "endpoint", "clock", "bucket", "region"], "the settings are wrong");
        }
    };
    report.add(Check::ok("settings", format!("bucket {}, prefix {:?}, region {}", admin.bucket, admin.prefix, admin.region)));
    if report.add(credentials(options, chain.as_ref()).await) == Verdict::Fail {
        return rest(report, &["endpoint", "clock", "bucket", "region"], "there are no credentials");
    }
    if !reach(&store, ambient, report).await {
        return rest(report, &["bucket", "region"], "the store does not answer");
    }
    let found = report.add(bucket(&admin).await);
    if found == Verdict::Fail {
        return rest(report, &["region"], "the bucket cannot be used");
    }
    report.add(bucket_region(&admin).await);
    let grant = |action: &str| match action {
        "s3:ListBucket" => format!("allow {action} on {}", settings::arn(&admin)),
        "s3:PutObject" if options.s3.sse != crate::store::Encryption::None => {
            format!("allow {action} on {}/{}*, and kms:GenerateDataKey on the key", settings::arn(&admin), admin.prefix)
        }
        _ => format!("allow {action} on {}/{}*", settings::arn(&admin), admin.prefix),
    };
    probes::run(&store, ambient, &grant, report).await;
    report.add(multipart(&admin, ambient).await);
    report.add(settings::public_access_block(&admin).await);
    report.add(settings::lifecycle(&admin).await);
    report.add(settings::encryption(&admin).await);
}

async fn credentials(options: &StoreOptions, chain: Option<&Chain>) -> Check {
    const NAME: &str = "credentials";
    if let Some(key) = &options.s3.access_key {
        return Check::ok(NAME, format!("the access key {} of the settings", key.id));
    }
    let Some(chain) = chain else { return Check::ok(NAME, "requests are not signed, as the settings say") };
    match chain.load().await {
        Ok(found) => Check::ok(NAME, format!("the access key {} from {}", found.access_key_id(), provider(&format!("{found:?}")))),
        Err(error) => Check::fail(
            NAME,
            Told(&error).to_string(),
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or give the machine or the service account a role",
        ),
    }
}

/// Which part of the chain found them: only the credentials' own description tells. It holds no secret.
fn provider(described: &str) -> &str {
    let named = described.split_once("provider_name: \"").and_then(|(_, rest)| rest.split_once('"'));
    named.map_or("the default chain", |(name, _)| name)
}

/// Whether anybody answers at all, and how late it is there.
async fn reach(store: &Store, ambient: &Ambient, report: &mut Report) -> bool {
    let absent = Path::from("probe/nobody-writes-this");
    let (outcome, answer) = listen(store.service().head(&absent)).await;
    let Some(answer) = answer else {
        let seen = outcome.err().map_or_else(|| "no answer".to_owned(), |error| StoreError::from(error).to_string());
        let advice = "look at the endpoint, DNS, the network, proxies and certificates";
        report.add(Check::fail("endpoint", seen, advice));
        report.skip_all(&["clock"], "the store does not answer");
        return false;
    };
    report.add(Check::ok("endpoint", format!("the service answers ({})", answer.status)));
    report.add(clock(&answer, ambient));
    true
}

fn clock(answer: &Answer, ambient: &Ambient) -> Check {
    use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
    const NAME: &str = "clock";
    let told = answer.date.as_deref().and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
    let Some(there) = told.and_then(|date| date.to_millis().ok()) else {
        return Check::skipped(NAME, "the service does not tell its time");
    };
    let apart = ambient.now().as_millis().abs_diff(there);
    let seen = format!("this machine's clock and the service's are {} s apart", apart / 1_000);
    let advice = "synchronise this machine's clock (NTP)";
    match apart {
        apart if apart > SKEW_MS.1 => Check::fail(NAME, seen, format!("{advice}: requests are refused")),
        apart if apart > SKEW_MS.0 => Check::warn(NAME, seen, format!("{advice}: from 15 min on requests are refused")),
        _ => Check::ok(NAME, seen),
    }
}

/// Asked by a listing: unlike a HEAD, its refusal says why.
async fn bucket(admin: &Admin) -> Check {
    const NAME: &str = "bucket";
    let answer = admin.client.list_objects_v2().bucket(&admin.bucket).prefix(&admin.prefix).max_keys(1).send().await;
    let refused = match answer.map_err(Refused::from) {
        Ok(_) => return Check::ok(NAME, format!("the bucket {} is there", admin.bucket)),
        Err(refused) => refused,
    };
    match refused.code.as_str() {
        "NoSuchBucket" => Check::fail(NAME, refused.text, "`lakefall bucket init` makes it; or correct its name in store.url"),
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" => {
            Check::fail(NAME, refused.text, "the access key or its secret is wrong: correct it")
        }
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
            Check::fail(NAME, refused.text, "the credentials have expired: renew them")
        }
        "RequestTimeTooSkewed" => Check::fail(NAME, refused.text, "synchronise this machine's clock (NTP)"),
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            Check::fail(NAME, refused.text, "the bucket is in another region: set store.region")
        }
        _ if refused.is_denied() => Check::warn(
            NAME,
            refused.text,
            format!("allow s3:ListBucket on {}: until then nobody sees whether it is there", settings::arn(admin)),
        ),
        _ => Check::fail(NAME, refused.text, "look at the bucket's name, the endpoint, and store.path_style"),
    }
}

async fn bucket_region(admin: &Admin) -> Check {
    const NAME: &str = "region";
    match admin.client.head_bucket().bucket(&admin.bucket).send().await.map_err(Refused::from) {
        Ok(found) => match found.bucket_region() {
            Some(region) if region == admin.region => Check::ok(NAME, format!("the bucket is in {region}")),
            Some(region) => {
                let seen = format!("the bucket is in {region}, the settings say {}", admin.region);
                Check::warn(NAME, seen, format!("set store.region to {region}"))
            }
            None => Check::skipped(NAME, "the service tells no region"),
        },
        Err(refused) => Check::skipped(NAME, format!("it cannot be read ({})", refused.text)),
    }
}

async fn multipart(admin: &Admin, ambient: &Ambient) -> Check {
    const NAME: &str = "multipart";
    let key = format!("{}probe/{:032x}-multipart", admin.prefix, ambient.entropy.draw());
    let begun = admin.client.create_multipart_upload().bucket(&admin.bucket).key(&key).send().await.map_err(Refused::from);
    let upload = match begun {
        Ok(begun) => begun.upload_id().unwrap_or_default().to_owned(),
        Err(refused) if refused.is_unknown_request() => {
            return Check::skipped(NAME, format!("the service does not know it ({})", refused.text));
        }
        Err(refused) => {
            return Check::fail(NAME, refused.text, format!("allow s3:PutObject on {}/{}*", settings::arn(admin), admin.prefix));
        }
    };
    match admin.client.abort_multipart_upload().bucket(&admin.bucket).key(&key).upload_id(upload).send().await.map_err(Refused::from) {
        Ok(_) => Check::ok(NAME, "an upload in parts was begun and given up"),
        Err(refused) => {
            let advice =
                format!("allow s3:AbortMultipartUpload on {}/{}*; left behind: an upload of {key}", settings::arn(admin), admin.prefix);
            Check::warn(NAME, refused.text, advice)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_tell_where_they_come_from() {
        let found = aws_credential_types::Credentials::new("id", "hidden", None, None, "Somewhere");
        assert_eq!(provider(&format!("{found:?}")), "Somewhere");
        assert_eq!(provider("reworded"), "the default chain");
    }
}
