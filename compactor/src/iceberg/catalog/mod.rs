//! Tables in an Iceberg REST catalog (<https://iceberg.apache.org/rest-catalog-spec/>). The catalog keeps metadata of its own: a table
//! that it does not know is registered as the bucket shows it, and from then on what the bucket has beyond it is committed.
//!
//! Tables wait here, by name only. What is brought is the newest document of the bucket, whenever that comes: a catalog that was away is
//! told everything it missed at once, and nothing is ever in the way of a publication. Whoever brings a table may be killed, repeated and
//! raced: a commit is made for the snapshot and schema that the catalog was seen with, and never for a place in the ledger that it has
//! already.

mod client;
mod difference;
mod waiting;

use std::path::PathBuf;
use std::time::Duration;

use lakefall_service::Secret;
use lakefall_storage::store::Store;
use url::Url;

use self::client::{Client, Taken};
use self::difference::commit;
use self::waiting::Waiting;
use super::publish::{current, document_key};
use super::snapshot::path;
use super::{IcebergError, metadata_folder};

/// Times it is begun anew when the catalog's table has changed meanwhile.
const ATTEMPTS: u32 = 5;

/// How a catalog is reached.
#[derive(Clone, Debug)]
pub struct CatalogSettings {
    /// What stands before `/v1`.
    pub uri: Url,
    /// The warehouse to ask for, where there are several.
    pub warehouse: Option<String>,
    /// The levels of the namespace that those of topics are in.
    pub parent: Vec<String>,
    /// What it is shown.
    pub access: Access,
    /// The authority of its certificate, PEM. Without one, the system's.
    pub ca: Option<Vec<u8>>,
    /// Longest single request.
    pub timeout: Duration,
}

/// What a catalog is shown by those who ask.
#[derive(Clone, Debug)]
pub enum Access {
    /// Nothing.
    Open,
    /// A bearer token.
    Token(Secret<String>),
    /// The token in this file, which is read again when the catalog does not take it any more.
    TokenFile(PathBuf),
    /// A token that is asked for by OAuth 2 (RFC 6749, section 4.4), and again when it is over.
    Client {
        /// Who asks.
        id: String,
        /// The client's secret.
        secret: Secret<String>,
        /// Where; without it, at the catalog's own `v1/oauth/tokens`.
        uri: Option<Url>,
        /// What for.
        scope: String,
    },
}

/// A topic's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogTable {
    /// The topic's namespace.
    pub namespace: String,
    /// The topic.
    pub name: String,
    /// The folder of its files: `tables/<namespace>/<topic>/`.
    pub folder: String,
    /// What stands before a key for readers.
    pub root: String,
}

/// What became of a table that was brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brought {
    /// The catalog shows what the bucket does.
    Committed,
    /// It did before, or the bucket has no table.
    Known,
}

/// Why the catalog does not show what the bucket does.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The bucket's metadata cannot be read.
    #[error(transparent)]
    Bucket(#[from] IcebergError),
    /// It did not answer, or not to us. What was sent last may have been taken; whoever brings the table again finds out.
    #[error("the catalog is away: {0}")]
    Away(String),
    /// It does not take the table. An operator must look.
    #[error("the catalog refuses the table: {0}")]
    Refused(String),
    /// It has another table of this name, or others committed to it. An operator must look; dropping the table there, without its
    /// files, has it registered anew.
    #[error("the catalog's table is not the bucket's: {0}")]
    Other(String),
    /// Others keep changing its table. Try again later.
    #[error("others keep changing the catalog's table")]
    Contended,
}

impl CatalogError {
    /// Whether it may go by itself: then the table is brought again without another publication.
    fn passes(&self) -> bool {
        match self {
            Self::Away(_) | Self::Contended | Self::Bucket(IcebergError::Store(_) | IcebergError::Contended) => true,
            Self::Refused(_) | Self::Other(_) | Self::Bucket(IcebergError::Unreadable { .. }) => false,
        }
    }

    /// Its name in metrics.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Bucket(_) => "bucket",
            Self::Away(_) => "away",
            Self::Refused(_) | Self::Other(_) => "refused",
            Self::Contended => "contended",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Catalog {
    client: Client,
    waiting: Waiting,
}

impl Catalog {
    /// Asks nobody yet. The error says what is wrong with the settings.
    pub fn new(settings: CatalogSettings) -> Result<Self, String> {
        Ok(Self { client: Client::new(settings)?, waiting: Waiting::default() })
    }

    /// Has a table brought soon. Waits for nothing.
    pub fn wants(&self, table: CatalogTable) {
        self.waiting.add(table);
    }

    /// Brings the catalog's table to where the bucket's is.
    pub async fn bring(&self, store: &Store, table: &CatalogTable) -> Result<Brought, CatalogError> {
        let folder = metadata_folder(&table.folder);
        let Some(ours) = current(store, &folder).await? else { return Ok(Brought::Known) };
        for _ in 0..ATTEMPTS {
            let taken = match self.client.load(table).await? {
                Some(theirs) => match commit(&ours.table, &theirs)? {
                    Some(commit) => self.client.commit(table, commit).await?,
                    None => return Ok(Brought::Known),
                },
                None => self.client.register(table, &path(&table.root, &document_key(&folder, ours.version))).await?,
            };
            if taken == Taken::Yes {
                return Ok(Brought::Committed);
            }
        }
        Err(CatalogError::Contended)
    }
}
