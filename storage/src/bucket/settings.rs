//! A bucket's settings as they should be: no public access, no rule that deletes live objects, one that clears away
//! abandoned uploads, encryption. Looked at by the doctor, set by `bucket init`.

use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, ExpirationStatus, LifecycleRule, LifecycleRuleFilter, PublicAccessBlockConfiguration,
};

use super::Check;
use super::admin::{Admin, Refused};

/// What to run to have a setting made.
const INIT: &str = "`lakefall bucket init` sets it";

pub(super) async fn public_access_block(admin: &Admin) -> Check {
    const NAME: &str = "public_access_block";
    let answer = admin.client.get_public_access_block().bucket(&admin.bucket).send().await.map_err(Refused::from);
    match answer {
        Ok(found) => match found.public_access_block_configuration() {
            Some(block) if is_complete(block) => Check::ok(NAME, "public access is blocked"),
            _ => Check::warn(NAME, "public access is not blocked entirely", INIT),
        },
        Err(refused) => unset(
            admin,
            NAME,
            &refused,
            "NoSuchPublicAccessBlockConfiguration",
            "public access is not blocked",
            "s3:GetBucketPublicAccessBlock",
        ),
    }
}

fn is_complete(block: &PublicAccessBlockConfiguration) -> bool {
    [block.block_public_acls(), block.ignore_public_acls(), block.block_public_policy(), block.restrict_public_buckets()]
        .iter()
        .all(|set| *set == Some(true))
}

pub(super) async fn lifecycle(admin: &Admin) -> Check {
    const NAME: &str = "lifecycle";
    match rules(admin).await {
        Ok(rules) => {
            if let Some(rule) = rules.iter().find(|rule| deletes_objects(rule) && covers(rule, &admin.prefix)) {
                let id = rule.id().unwrap_or("without a name");
                let advice =
                    "take the rule away: records that are still readable would be lost; Lakefall deletes what nobody needs by itself";
                return Check::fail(NAME, format!("the rule {id} deletes or archives objects by their age"), advice);
            }
            if rules.iter().any(|rule| clears_uploads(rule) && covers(rule, &admin.prefix)) {
                Check::ok(NAME, "abandoned uploads are cleared away")
            } else {
                Check::warn(NAME, "abandoned uploads stay and are billed", INIT)
            }
        }
        Err(refused) => unset(
            admin,
            NAME,
            &refused,
            "NoSuchLifecycleConfiguration",
            "abandoned uploads stay and are billed",
            "s3:GetLifecycleConfiguration",
        ),
    }
}

/// The bucket's rules; none if it has no configuration.
pub(super) async fn rules(admin: &Admin) -> Result<Vec<LifecycleRule>, Refused> {
    let answer = admin.client.get_bucket_lifecycle_configuration().bucket(&admin.bucket).send().await.map_err(Refused::from);
    match answer {
        Ok(found) => Ok(found.rules().to_vec()),
        Err(refused) if refused.code == "NoSuchLifecycleConfiguration" => Ok(Vec::new()),
        Err(refused) => Err(refused),
    }
}

/// A configuration with one more rule, which clears away uploads abandoned under `prefix`.
pub(super) fn with_cleared_uploads(
    mut rules: Vec<LifecycleRule>,
    prefix: &str,
    days: i32,
) -> Result<BucketLifecycleConfiguration, aws_sdk_s3::error::BuildError> {
    let abandoned = aws_sdk_s3::types::AbortIncompleteMultipartUpload::builder().days_after_initiation(days).build();
    let rule = LifecycleRule::builder()
        .id("lakefall-abandoned-uploads")
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
        .abort_incomplete_multipart_upload(abandoned)
        .build()?;
    rules.push(rule);
    BucketLifecycleConfiguration::builder().set_rules(Some(rules)).build()
}

pub(super) fn clears_uploads(rule: &LifecycleRule) -> bool {
    is_on(rule) && rule.abort_incomplete_multipart_upload().is_some()
}

fn deletes_objects(rule: &LifecycleRule) -> bool {
    // An expired delete marker is no object.
    let expires = rule.expiration().is_some_and(|expiration| expiration.days().is_some() || expiration.date().is_some());
    is_on(rule) && (expires || !rule.transitions().is_empty())
}

fn is_on(rule: &LifecycleRule) -> bool {
    *rule.status() == ExpirationStatus::Enabled
}

/// Whether a rule concerns objects under `prefix`. One that asks for tags or sizes may, too.
pub(super) fn covers(rule: &LifecycleRule, prefix: &str) -> bool {
    let and = rule.filter().and_then(LifecycleRuleFilter::and);
    #[expect(deprecated, reason = "older rules have their prefix there")]
    let its = rule.filter().and_then(LifecycleRuleFilter::prefix).or_else(|| and.and_then(|and| and.prefix())).or_else(|| rule.prefix());
    its.is_none_or(|its| prefix.starts_with(its) || its.starts_with(prefix))
}

pub(super) async fn encryption(admin: &Admin) -> Check {
    const NAME: &str = "encryption";
    let answer = admin.client.get_bucket_encryption().bucket(&admin.bucket).send().await.map_err(Refused::from);
    match answer {
        Ok(found) => {
            let rules = found.server_side_encryption_configuration().map(|all| all.rules()).unwrap_or_default();
            let by_default = rules.iter().find_map(|rule| rule.apply_server_side_encryption_by_default());
            match by_default {
                Some(found) => Check::ok(NAME, format!("objects are encrypted by {}", found.sse_algorithm().as_str())),
                None => Check::warn(NAME, "no encryption is set", INIT),
            }
        }
        Err(refused) => {
            let absent = "ServerSideEncryptionConfigurationNotFoundError";
            unset(admin, NAME, &refused, absent, "no encryption is set", "s3:GetEncryptionConfiguration")
        }
    }
}

/// What to make of a setting that could not be read: absent, unknown to the service, or forbidden.
fn unset(admin: &Admin, name: &'static str, refused: &Refused, absent: &str, seen: &str, action: &str) -> Check {
    if refused.code == absent {
        Check::warn(name, seen, INIT)
    } else if refused.is_unknown_request() {
        Check::skipped(name, format!("the service does not know it ({})", refused.text))
    } else if refused.is_denied() {
        Check::skipped(name, format!("it cannot be read ({}); allow {action} on {} to have it checked", refused.text, arn(admin)))
    } else {
        Check::warn(name, refused.text.clone(), "try again")
    }
}

pub(super) fn arn(admin: &Admin) -> String {
    format!("arn:aws:s3:::{}", admin.bucket)
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::LifecycleExpiration;

    use super::*;

    fn expiring(prefix: &str) -> LifecycleRule {
        LifecycleRule::builder()
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
            .expiration(LifecycleExpiration::builder().days(30).build())
            .build()
            .unwrap()
    }

    #[test]
    fn a_rule_that_would_delete_records_is_told_from_one_that_clears_uploads() {
        let rules = with_cleared_uploads(vec![expiring("logs/")], "lake/", 7).unwrap();
        let [logs, uploads] = rules.rules() else { panic!("{rules:?}") };
        assert!(deletes_objects(logs) && !clears_uploads(logs) && !covers(logs, "lake/"));
        assert!(clears_uploads(uploads) && !deletes_objects(uploads) && covers(uploads, "lake/"));
        for prefix in ["", "lake/", "lake/seg/"] {
            assert!(covers(&expiring(prefix), "lake/"), "{prefix}");
        }
    }
}
