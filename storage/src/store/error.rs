//! What a store can answer instead of its result, told apart by what the caller does next.

use std::error::Error as StdError;
use std::io::ErrorKind;

use super::answer::Answer;

/// Why an operation on a store failed. Texts never hold credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no such object. Where the ledger still refers to it: locate it once more, then raise an alarm.
    #[error("there is no object {key}")]
    NotFound {
        /// Its key, or what the store said.
        key: String,
    },
    /// The key holds other content: ids collided or a store is shared by mistake. Nothing was written; never retry.
    #[error("object {key} exists with other content")]
    Collision {
        /// The key.
        key: String,
    },
    /// The store asks for fewer requests (429, 503). This attempt was not applied; slow down and repeat.
    #[error("the object store is throttling: {reason}")]
    Throttled {
        /// What the store said.
        reason: String,
    },
    /// No answer, or a failure on the way. It may or may not have been applied; repeating is safe.
    #[error("the object store is unavailable: {reason}")]
    Unavailable {
        /// What broke.
        reason: String,
    },
    /// Credentials are missing, expired or too weak; nothing was applied. An operator must act: tell the caller at once.
    #[error("{place} denies access: {reason}")]
    Denied {
        /// Which store, in words: `bucket lake`. Callers of the API may be told.
        place: String,
        /// What the store said. For operators.
        reason: String,
    },
    /// The local disk or its quota is full. Nothing was kept; accept no more until there is room.
    #[error("the disk is full: {reason}")]
    Full {
        /// What the system said.
        reason: String,
    },
    /// A wrong URL, option or key. Repeating changes nothing.
    #[error("{reason}")]
    Other {
        /// What is wrong.
        reason: String,
    },
}

impl StoreError {
    /// The kind as a metric label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Collision { .. } => "collision",
            Self::Throttled { .. } => "throttled",
            Self::Unavailable { .. } => "unavailable",
            Self::Denied { .. } => "denied",
            Self::Full { .. } => "full",
            Self::Other { .. } => "other",
        }
    }

    /// By a store whose name is not known here.
    fn denied(reason: String) -> Self {
        Self::Denied { place: "the object store".to_owned(), reason }
    }

    /// The same failure, naming the store where it is for an operator to mend: who has several must know which.
    pub(super) fn at(self, store: &str, answer: Option<&Answer>) -> Self {
        match self {
            Self::Denied { reason, .. } => Self::Denied { place: store.to_owned(), reason },
            Self::Other { reason } if answer.is_some() => Self::Other { reason: format!("{store}: {reason}") },
            other => other,
        }
    }

    /// The same failure, met while finding out what became of a write: the write stays in doubt.
    pub(super) fn into_unknown(self) -> Self {
        match self {
            Self::Unavailable { .. } => self,
            other => Self::Unavailable { reason: format!("the outcome of a write could not be settled: {other}") },
        }
    }

    pub(super) fn from_io(error: &std::io::Error) -> Self {
        let reason = error.to_string();
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full { reason },
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::denied(reason),
            _ => Self::Unavailable { reason },
        }
    }
}

/// A request that failed, with what the service said.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) error: StoreError,
    pub(super) answer: Option<Answer>,
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self { error, answer: None }
    }
}

/// What an error of a store and the service's last answer mean together.
pub(super) fn judge(error: object_store::Error, answer: Option<&Answer>) -> StoreError {
    use object_store::Error as E;
    let Some(answer) = answer.filter(|answer| answer.refuses()) else { return error.into() };
    match error {
        E::NotFound { path, .. } if answer.code.as_deref() != Some("NoSuchBucket") => StoreError::NotFound { key: path },
        E::AlreadyExists { path, .. } | E::Precondition { path, .. } => StoreError::Collision { key: path },
        // Only the word of the service tells more than the library does.
        error if answer.code.is_none() => from_status(answer.status.as_u16(), error.to_string()),
        _ => from_answer(answer),
    }
}

fn from_answer(answer: &Answer) -> StoreError {
    let code = answer.code.as_deref().unwrap_or_default();
    let advice = match code {
        "RequestTimeTooSkewed" => " (this machine's clock is wrong: synchronise it)",
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" => " (the access key or its secret is wrong)",
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => " (the credentials have expired: renew them)",
        "AccessDenied" => " (a permission is missing: `lakefall doctor` names it)",
        "NoSuchBucket" => " (the bucket does not exist: `lakefall bucket init` creates it)",
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            " (the bucket is in another region: set store.region)"
        }
        _ => "",
    };
    let reason = format!("{answer}{advice}");
    match code {
        "SlowDown" | "ServiceUnavailable" | "RequestLimitExceeded" | "ThrottlingException" | "ServerBusy" => {
            StoreError::Throttled { reason }
        }
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => StoreError::denied(reason),
        // S3 sends it as a 400 when it waited too long for the body.
        "RequestTimeout" | "InternalError" => StoreError::Unavailable { reason },
        _ => from_status(answer.status.as_u16(), reason),
    }
}

impl From<object_store::Error> for StoreError {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as E;
        let reason = error.to_string();
        match error {
            E::NotFound { path, .. } => Self::NotFound { key: path },
            E::AlreadyExists { path, .. } | E::Precondition { path, .. } => Self::Collision { key: path },
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => Self::denied(reason),
            E::Generic { source, .. } => from_chain(&*source, reason),
            E::JoinError { .. } => Self::Unavailable { reason },
            // The enum is open: what it may grow is a wrong use of the store until somebody looks.
            _ => Self::Other { reason },
        }
    }
}

/// Looks for what the caller must know in the chain of causes.
fn from_chain(error: &(dyn StdError + 'static), reason: String) -> StoreError {
    let mut cause = Some(error);
    while let Some(at) = cause {
        if let Some(io) = at.downcast_ref::<std::io::Error>() {
            let found = StoreError::from_io(io);
            if !matches!(found, StoreError::Unavailable { .. }) {
                return found;
            }
        }
        if let Some(status) = status_in(&at.to_string()) {
            return from_status(status, reason);
        }
        cause = at.source();
    }
    StoreError::Unavailable { reason }
}

/// For a store that somebody else opened, to which nobody listens: `object_store` keeps the type that holds an HTTP
/// status to itself, so its text is all there is. A test against a real socket fails when an upgrade rewords it.
fn status_in(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("Server returned non-2xx status code: ")?;
    rest.get(..3)?.parse().ok()
}

fn from_status(status: u16, reason: String) -> StoreError {
    match status {
        429 | 503 => StoreError::Throttled { reason },
        401 | 403 => StoreError::denied(reason),
        408 => StoreError::Unavailable { reason },
        // What is elsewhere, or unknown to the service, will be so on the next attempt.
        300..=499 | 501 => StoreError::Other { reason },
        _ => StoreError::Unavailable { reason },
    }
}
