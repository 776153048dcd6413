//! Random histories of a ledger: what may happen to one ([`ops`]), a tiny model of what must come of it ([`model`]), a
//! store for its checkpoints ([`store`]) and the lab that runs all three side by side ([`lab`]). Never asks the ledger
//! what is right.

pub(crate) mod lab;
pub(crate) mod model;
pub(crate) mod ops;
pub(crate) mod store;
