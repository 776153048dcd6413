//! Random histories of a ledger: what may happen to one ([`ops`]), a tiny model of what must come of it ([`model`]), a
//! store for its checkpoints ([`store`]) and the lab ([`lab`], [`commands`]) that runs all three side by side. Never asks
//! the ledger what is right.

pub(crate) mod commands;
pub(crate) mod lab;
pub(crate) mod model;
pub(crate) mod ops;
pub(crate) mod store;
pub(crate) mod swaps;
