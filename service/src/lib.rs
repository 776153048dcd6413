//! What all roles share: configuration, telemetry, clock, tasks, shutdown, health.
//!
//! This crate knows no topic, no segment and no protocol: it must never depend on another part than `queue`.

pub mod admin;
pub mod background;
pub mod blocking;
pub mod clock;
pub mod config;
pub mod failpoint;
pub mod live;
pub mod metrics;
pub mod net;
pub mod rlimit;
pub mod secret;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
pub mod trace;

pub use admin::Readiness;
pub use background::{Background, lower_priority};
pub use clock::{FollowingClock, system_ambient};
pub use config::Config;
pub use live::LiveConfig;
pub use secret::Secret;
pub use tasks::Tasks;
