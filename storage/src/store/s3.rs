//! S3 as an object store. The region may have to be asked for, so the client is made when the first request needs it:
//! opening a store sends nothing.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::TryStreamExt;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use tokio::sync::OnceCell;

use super::answer::Listening;
use super::credentials::Chain;
use super::options::{AccessKey, Encryption, S3Options};

/// What AWS's own tools take where nothing names a region.
const NO_REGION: &str = "us-east-1";

/// A bucket, and its client once it was needed. Cloning shares it.
#[derive(Clone)]
pub(super) struct Bucket(Arc<Inner>);

struct Inner {
    options: S3Options,
    builder: AmazonS3Builder,
    client: OnceCell<AmazonS3>,
}

impl Bucket {
    /// `builder` knows the bucket's name and how to send.
    pub(super) fn new(builder: AmazonS3Builder, options: &S3Options, chain: Option<&Chain>) -> Result<Self> {
        let builder = configure(builder, options, chain);
        // What is wrong with the settings is said now; the region does not matter to it.
        let client = builder.clone().with_region(options.region.as_deref().unwrap_or(NO_REGION)).build()?;
        let client = match options.region {
            Some(_) => OnceCell::new_with(Some(client)),
            None => OnceCell::new(),
        };
        Ok(Self(Arc::new(Inner { options: options.clone(), builder, client })))
    }

    async fn client(&self) -> Result<&AmazonS3> {
        let open = || async { self.0.builder.clone().with_region(region(&self.0.options).await).build() };
        self.0.client.get_or_try_init(open).await
    }

    fn each<T, S>(&self, answer: impl FnOnce(AmazonS3) -> S + Send + 'static) -> BoxStream<'static, Result<T>>
    where
        T: Send + 'static,
        S: futures::Stream<Item = Result<T>> + Send + 'static,
    {
        let this = self.clone();
        let opened = async move { this.client().await.cloned().map(answer) };
        stream::once(opened).try_flatten().boxed()
    }
}

fn configure(mut builder: AmazonS3Builder, options: &S3Options, chain: Option<&Chain>) -> AmazonS3Builder {
    builder = builder
        .with_http_connector(Listening)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        // One object at a time is deleted: a plain DELETE answers with a status, and every service knows it.
        .with_disable_bulk_delete(true)
        .with_skip_signature(options.unsigned)
        .with_virtual_hosted_style_request(!path_style(options));
    if let Some(endpoint) = endpoint(options) {
        builder = builder.with_endpoint(endpoint);
    }
    if options.checksum {
        builder = builder.with_checksum_algorithm(Checksum::SHA256);
    }
    builder = match &options.sse {
        Encryption::None => builder,
        Encryption::Aes256 => match "aws_server_side_encryption".parse() {
            Ok(key) => builder.with_config(key, "AES256"),
            Err(_) => builder,
        },
        Encryption::Kms(key) => builder.with_sse_kms_encryption(key),
    };
    match (&options.access_key, chain) {
        (Some(AccessKey { id, secret }), _) => builder.with_access_key_id(id).with_secret_access_key(secret),
        (None, Some(chain)) => builder.with_credentials(Arc::new(chain.clone())),
        (None, None) => builder,
    }
}

/// The service's URL, if it is not AWS's.
pub(crate) fn endpoint(options: &S3Options) -> Option<String> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    options.endpoint.clone().or_else(|| set("AWS_ENDPOINT_URL_S3")).or_else(|| set("AWS_ENDPOINT_URL"))
}

pub(crate) fn path_style(options: &S3Options) -> bool {
    options.path_style.unwrap_or_else(|| endpoint(options).is_some())
}

/// The region by which requests are signed.
pub(crate) async fn region(options: &S3Options) -> String {
    if let Some(region) = &options.region {
        return region.clone();
    }
    let found = match endpoint(options) {
        None => aws_config::default_provider::region::DefaultRegionChain::builder().build().region().await,
        // Elsewhere than at AWS there is no instance to ask, and asking would take seconds.
        Some(_) => {
            use aws_config::environment::region::EnvironmentVariableRegionProvider;
            use aws_config::meta::region::ProvideRegion;
            use aws_config::profile::region::ProfileFileRegionProvider;
            match EnvironmentVariableRegionProvider::new().region().await {
                None => ProfileFileRegionProvider::new().region().await,
                found => found,
            }
        }
    };
    found.map_or_else(|| NO_REGION.to_owned(), |region| region.as_ref().to_owned())
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3")
    }
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.client().await?.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.client().await?.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.client().await?.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.each(|client| client.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.cloned();
        self.each(move |client| client.list(prefix.as_ref()))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let (prefix, offset) = (prefix.cloned(), offset.clone());
        self.each(move |client| client.list_with_offset(prefix.as_ref(), &offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.client().await?.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.client().await?.copy_opts(from, to, options).await
    }
}
