//! Strict reading of what stands around a body: path names, query parameters, headers, conditions, page tokens.
//!
//! Must never guess: what is unknown, doubled or malformed is refused, and named.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Uri, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lakefall_queue::time::parse_duration;
use lakefall_queue::verbs::{Caller, PageRequest, Precondition};
use lakefall_queue::{BindingName, CursorName, NamespaceName, Offset, PartitionIndex, QueueName, SubjectName, Timestamp, TopicName};
use percent_encoding::percent_decode_str;

use crate::problem::{self, Problem, Result};

/// Most items of one page of a list.
const PAGE_MAX: usize = 1_000;

/// Items of a page where the caller names no number.
const PAGE_DEFAULT: usize = 100;

/// The names in a request's path.
pub(crate) struct PathNames(Vec<(Box<str>, Box<str>)>);

impl<S: Send + Sync> FromRequestParts<S> for PathNames {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::invalid("path", "the path is not UTF-8 once its percent-escapes are decoded"))?;
        Ok(Self(params.iter().map(|(name, value)| (name.into(), value.into())).collect()))
    }
}

impl PathNames {
    /// A parameter's text.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| **n == *name).map_or("", |(_, value)| value)
    }

    /// `{topic}`.
    pub(crate) fn topic(&self) -> Result<TopicName> {
        Ok(TopicName::new(self.get("topic"))?)
    }

    /// `{cursor}`.
    pub(crate) fn cursor(&self) -> Result<CursorName> {
        Ok(CursorName::new(self.get("cursor"))?)
    }

    /// `{queue}`.
    pub(crate) fn queue(&self) -> Result<QueueName> {
        Ok(QueueName::new(self.get("queue"))?)
    }

    /// `{binding}`.
    pub(crate) fn binding(&self) -> Result<BindingName> {
        Ok(BindingName::new(self.get("binding"))?)
    }

    /// `{subject}`.
    pub(crate) fn subject(&self) -> Result<SubjectName> {
        Ok(SubjectName::new(self.get("subject"))?)
    }

    /// `{namespace}`.
    pub(crate) fn namespace(&self) -> Result<NamespaceName> {
        Ok(NamespaceName::new(self.get("namespace"))?)
    }

    /// `{partition}`.
    pub(crate) fn partition(&self) -> Result<PartitionIndex> {
        parse_partition("partition", self.get("partition"))
    }
}

/// Who calls, as the edge found it.
pub(crate) struct From(pub(crate) Caller);

impl<S: Send + Sync> FromRequestParts<S> for From {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        parts.extensions.get::<Caller>().cloned().map(From).ok_or_else(|| Problem::new(problem::INTERNAL, "the request has no caller"))
    }
}

/// A query string, checked against the parameters that the route knows.
pub(crate) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Refuses a parameter that is not in `known`, or given twice.
    pub(crate) fn parse(uri: &'a Uri, known: &[&str]) -> Result<Self> {
        let mut pairs: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        for pair in uri.query().unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = form_decode(name)?;
            if !known.contains(&&*name) {
                let shown: String = name.chars().take(64).collect();
                let reason = format!("there is no query parameter {shown:?} here; there are: {}", known.join(", "));
                return Err(Problem::new(problem::UNKNOWN_PARAMETER, reason.clone()).at(shown, reason));
            }
            if pairs.iter().any(|(n, _)| *n == name) {
                return Err(Problem::invalid(&*name, format!("{name} is given twice")));
            }
            let value = form_decode(value)?;
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// A parameter's text.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, value)| &**value)
    }

    /// A whole number between the bounds, both included.
    pub(crate) fn number<T: FromStr + PartialOrd + std::fmt::Display>(&self, name: &str, low: T, high: T) -> Result<Option<T>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse::<T>() {
            Ok(number) if !text.starts_with('+') && number >= low && number <= high => Ok(Some(number)),
            _ => Err(Problem::invalid(name, format!("{name} must be a whole number from {low} to {high}"))),
        }
    }

    /// An offset: 0 to 2^53.
    pub(crate) fn offset(&self, name: &str) -> Result<Option<Offset>> {
        Ok(self.number(name, 0, Offset::MAX.0)?.map(Offset))
    }

    /// A partition's number.
    pub(crate) fn partition(&self, name: &str) -> Result<Option<PartitionIndex>> {
        self.get(name).map(|text| parse_partition(name, text)).transpose()
    }

    /// `true` or `false`; a bare name is true.
    pub(crate) fn flag(&self, name: &str) -> Result<bool> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true" | "") => Ok(true),
            Some(_) => Err(Problem::invalid(name, format!("{name} must be true or false"))),
        }
    }

    /// A time.
    pub(crate) fn timestamp(&self, name: &str) -> Result<Option<Timestamp>> {
        self.get(name).map(|text| parse_timestamp(name, text)).transpose()
    }

    /// A duration of at most `most`.
    pub(crate) fn duration(&self, name: &str, most: Duration) -> Result<Option<Duration>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match parse_duration(text) {
            Ok(duration) if duration <= most => Ok(Some(duration)),
            _ => Err(Problem::invalid(name, format!("{name} must be a duration like \"20s\" of at most {}s", most.as_secs()))),
        }
    }

    /// `limit` and `page_token` of a list.
    pub(crate) fn page(&self) -> Result<PageRequest> {
        let after = match self.get("page_token") {
            None => None,
            Some(token) => {
                Some(open_token(token).ok_or_else(|| Problem::invalid("page_token", "this page_token was not given by this server"))?)
            }
        };
        Ok(PageRequest { after, limit: self.number("limit", 1, PAGE_MAX)?.unwrap_or(PAGE_DEFAULT) })
    }
}

fn form_decode(text: &str) -> Result<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Ok(Cow::Borrowed(text));
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().map_err(|_| Problem::invalid("query", "the query string is not UTF-8"))?;
    Ok(Cow::Owned(decoded.into_owned()))
}

fn parse_partition(name: &str, text: &str) -> Result<PartitionIndex> {
    match text.parse::<u32>() {
        Ok(number) if !text.starts_with('+') => Ok(PartitionIndex(number)),
        _ => Err(Problem::invalid(name, format!("{name} must be a whole number from 0"))),
    }
}

/// A time in a parameter or header called `name`.
pub(crate) fn parse_timestamp(name: &str, text: &str) -> Result<Timestamp> {
    Timestamp::parse(text).map_err(|error| Problem::invalid(name, error.to_string()))
}

/// What `page_token` carries, made opaque.
pub(crate) fn seal_token(after: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("1{after}"))
}

fn open_token(token: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    String::from_utf8(bytes).ok()?.strip_prefix('1').map(str::to_owned)
}

/// A header's text: `None` when absent, refused when doubled or not visible ASCII.
pub(crate) fn single_header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::invalid(name.as_str(), format!("{name} is given twice")));
    }
    value.to_str().map(Some).map_err(|_| Problem::invalid(name.as_str(), format!("{name} must be visible ASCII")))
}

/// `If-Match` and `If-None-Match` as a condition.
pub(crate) fn precondition(headers: &HeaderMap) -> Result<Precondition> {
    let if_match = single_header(headers, &header::IF_MATCH)?;
    let if_none_match = single_header(headers, &header::IF_NONE_MATCH)?;
    match (if_match, if_none_match) {
        (None, None) => Ok(Precondition::Always),
        (Some("*"), None) => Ok(Precondition::Present),
        (None, Some("*")) => Ok(Precondition::Absent),
        (Some(tag), None) => match parse_etag(tag) {
            Some(version) => Ok(Precondition::Version(version)),
            None => Err(Problem::invalid("if-match", "If-Match must be * or one ETag as this server gave it, like \"7\"")),
        },
        (None, Some(_)) => Err(Problem::invalid("if-none-match", "If-None-Match must be * when writing")),
        (Some(_), Some(_)) => Err(Problem::invalid("if-none-match", "If-Match and If-None-Match exclude each other")),
    }
}

/// For what is changed without a condition: one that is asked for must not be passed over.
pub(crate) fn no_condition(headers: &HeaderMap, what: &str) -> Result<()> {
    if headers.contains_key(header::IF_MATCH) || headers.contains_key(header::IF_NONE_MATCH) {
        return Err(Problem::new(problem::NOT_SUPPORTED, format!("{what} takes no condition")).at("if-match", "not available here"));
    }
    Ok(())
}

/// `Prefer: wait=20` (RFC 7240): a wish, so what is too long is shortened.
pub(crate) fn preferred_wait(headers: &HeaderMap, longest: Duration) -> Option<Duration> {
    let prefer = headers.get("prefer")?.to_str().ok()?;
    let wish = prefer.split([',', ';']).find_map(|item| item.trim().strip_prefix("wait="))?;
    Some(Duration::from_secs(wish.trim_matches('"').parse().ok()?).min(longest))
}

/// The version in an ETag of ours.
pub(crate) fn parse_etag(tag: &str) -> Option<u64> {
    tag.strip_prefix("W/").unwrap_or(tag).strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

/// The media type without parameters, in lower case; refuses a charset that is not UTF-8.
pub(crate) fn media_type(headers: &HeaderMap) -> Result<Option<Cow<'_, str>>> {
    let refused = |reason: &str| Problem::new(problem::UNSUPPORTED_MEDIA_TYPE, reason);
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::invalid("content-type", "Content-Type is given twice"));
    }
    let text = value.to_str().map_err(|_| refused("the Content-Type is not ASCII"))?;
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let essence = match essence.trim() {
        plain if plain.bytes().any(|b| b.is_ascii_uppercase()) => Cow::Owned(plain.to_ascii_lowercase()),
        plain => Cow::Borrowed(plain),
    };
    let charset = parameters.split(';').filter_map(|p| p.trim().split_once('=')).find(|(name, _)| name.eq_ignore_ascii_case("charset"));
    match charset {
        Some((_, charset)) if essence.ends_with("json") && !charset.trim_matches('"').eq_ignore_ascii_case("utf-8") => {
            Err(refused("JSON is UTF-8: no other charset is taken"))
        }
        _ => Ok(Some(essence)),
    }
}
