//! Roles as processes of their own: named, and refused until they exist.

use crate::failure::Failure;

/// Says that a role has no process of its own yet.
pub(crate) fn not_yet(role: &str) -> Failure {
    Failure::Usage(format!("the {role} does not run as a process of its own yet: `lakefall dev` runs all roles in one process"))
}
