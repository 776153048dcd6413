//! Queues: the history of what their clients saw, and its judge.

pub mod checker;
pub mod history;
