//! Control objects: the few small objects that change, like the marks by which a store that went back in time is
//! recognised. They live under `meta/`, but for the hints by which readers of tables find the newest version; everything else in a
//! store is written once.

use bytes::Bytes;
use object_store::{ObjectStore, PutMode, PutOptions, PutPayload};

use super::effort::Request;
use super::{Store, StoreError, parse};

/// Where control objects live.
const PREFIX: &str = "meta/";
/// How the keys of hints begin and end.
const HINTS: (&str, &str) = ("tables/", "/version-hint.text");

impl Store {
    /// Writes a control object over what was there. One writer at a time: the last one wins, and so does an attempt
    /// whose answer was lost and that arrives late. Each key is for a few KiB.
    ///
    /// Errors: [`StoreError::Other`] if the key is none of a control object; [`StoreError::Unavailable`] leaves open which of
    /// the two is there; it is not repeated by itself.
    pub async fn put_control(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let path = control_path(key)?;
        if let Some(local) = &self.local {
            local.prepare(key).await?;
        }
        let payload = PutPayload::from_bytes(bytes);
        let overwrite = || self.inner.put_opts(&path, payload.clone(), PutOptions::from(PutMode::Overwrite));
        self.send(self.asked(Request::Overwrite, key), overwrite).await.map(|_| ())
    }

    /// Reads a control object; none if it was never written.
    ///
    /// Errors: [`StoreError::Other`] if the key is none of a control object; else as [`Store::get_range`].
    pub async fn get_control(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        match self.read(&control_path(key)?, None).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn control_path(key: &str) -> Result<object_store::path::Path, StoreError> {
    if key.starts_with(PREFIX) || (key.starts_with(HINTS.0) && key.ends_with(HINTS.1)) {
        parse(key)
    } else {
        Err(StoreError::Other { reason: format!("{key} is no control object: those are under {PREFIX}") })
    }
}
