//! What records of a topic look like.
