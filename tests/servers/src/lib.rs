//! Real servers for tests (PostgreSQL, an S3 server, an OTLP receiver, an Iceberg catalog) on free ports with temporary data, and proxies
//! that do harm on demand. Must never depend on a crate of Lakefall, and never leave a process behind: see `process.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests use it: a test fails where it stands, and tells what it saw"
)]

mod account;
mod dice;
pub mod http_faults;
pub mod iceberg;
pub mod otlp;
pub mod port;
pub mod postgres;
mod process;
pub mod proxy;
pub mod s3;
mod target;

pub use http_faults::HttpFaults;
pub use iceberg::IcebergCatalog;
pub use otlp::Otlp;
pub use postgres::Postgres;
pub use process::runs;
pub use proxy::Proxy;
pub use s3::S3;
