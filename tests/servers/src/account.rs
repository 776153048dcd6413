//! Under which user PostgreSQL runs: its `initdb` and its server refuse root. Must never be used for anything that needs
//! rights of its own.

use std::ffi::OsString;
use std::path::Path;

/// A user and its group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    user: u32,
    group: u32,
}

impl Account {
    /// Nobody else if the tests do not run as root; else the user `postgres`, or `nobody`.
    pub(crate) fn for_postgres() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let users = std::fs::read_to_string("/etc/passwd").unwrap();
        let find = |name: &str| {
            let fields: Vec<&str> = users.lines().map(|line| line.split(':').collect()).find(|fields: &Vec<&str>| fields[0] == name)?;
            Some(Self { user: fields.get(2)?.parse().ok()?, group: fields.get(3)?.parse().ok()? })
        };
        Some(find("postgres").or_else(|| find("nobody")).expect("root runs the tests, and /etc/passwd has no user `postgres` or `nobody`"))
    }

    /// What to put before a command so that it runs as this user.
    pub(crate) fn prefix(of: Option<Self>) -> Vec<OsString> {
        let Some(Self { user, group }) = of else { return Vec::new() };
        ["setpriv", &format!("--reuid={user}"), &format!("--regid={group}"), "--clear-groups", "--"].map(OsString::from).into()
    }

    /// Gives a file or folder to this user.
    pub(crate) fn give(of: Option<Self>, path: &Path) {
        if let Some(Self { user, group }) = of {
            std::os::unix::fs::chown(path, Some(user), Some(group)).unwrap();
        }
    }
}
