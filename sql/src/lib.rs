//! Topics as tables.
