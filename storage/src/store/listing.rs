//! Listings: page by page, from where a page broke off. They tell what was there at some moment, never that something
//! may be deleted.

use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use super::effort::{Asked, Request, Sent};
use super::{ObjectInfo, Store, StoreError};

struct Listing {
    store: Store,
    prefix: Option<Path>,
    /// The last key that arrived.
    after: Option<Path>,
    /// None: to be asked for, from the last key on.
    pages: Option<Pages>,
    ended: bool,
}

type Pages = BoxStream<'static, object_store::Result<ObjectMeta>>;

pub(super) fn list(store: Store, prefix: Option<Path>) -> BoxStream<'static, Result<ObjectInfo, StoreError>> {
    let listing = Listing { store, prefix, after: None, pages: None, ended: false };
    stream::unfold(listing, |mut listing| async move { listing.next().await.map(|item| (item, listing)) }).boxed()
}

impl Listing {
    async fn next(&mut self) -> Option<Result<ObjectInfo, StoreError>> {
        if self.ended {
            return None;
        }
        let found = self.key().await;
        if let Ok(Some(meta)) = &found {
            self.after = Some(meta.location.clone());
        }
        let found = self.end_of(found);
        self.ended = !matches!(found, Some(Ok(_)));
        found
    }

    async fn key(&mut self) -> Result<Option<ObjectMeta>, StoreError> {
        let Some(pages) = &mut self.pages else { return self.begin().await };
        let (found, answer) = super::listen(pages.next()).await;
        match found.transpose().map_err(|error| super::error::judge(error, answer.as_ref())) {
            // A remote store's keys come in order, so what broke off goes on behind the last one.
            Err(StoreError::Throttled { .. } | StoreError::Unavailable { .. } | StoreError::Denied { .. })
                if self.store.effort.is_some() =>
            {
                self.begin().await
            }
            found => found,
        }
    }

    fn asked(&self) -> Asked {
        self.store.asked(Request::List, self.prefix.as_ref().map_or("", |prefix| prefix.as_ref()))
    }

    /// Asks for the keys behind the last one.
    async fn begin(&mut self) -> Result<Option<ObjectMeta>, StoreError> {
        let ask = || async {
            let mut pages = match &self.after {
                Some(after) => self.store.inner.list_with_offset(self.prefix.as_ref(), after),
                None => self.store.inner.list(self.prefix.as_ref()),
            };
            let found = pages.next().await.transpose()?;
            Ok((found, pages))
        };
        let asked = match &self.store.effort {
            Some(effort) => effort.attempt(self.asked(), ask).await,
            None => ask().await.map_err(StoreError::from),
        };
        let (found, pages) = asked?;
        self.pages = Some(pages);
        Ok(found)
    }

    /// Counts a listing that ends; requests to a remote store are counted where they are sent.
    fn end_of(&self, found: Result<Option<ObjectMeta>, StoreError>) -> Option<Result<ObjectInfo, StoreError>> {
        match found {
            Ok(Some(meta)) => Some(Ok(ObjectInfo::from(meta))),
            Ok(None) => {
                if self.store.effort.is_none() {
                    Sent::now(self.asked()).answered(&Ok(()));
                }
                None
            }
            Err(error) => Some(Err(error)),
        }
    }
}
