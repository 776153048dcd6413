//! The limit of open files. Connections and cached files share it; it only ever goes up.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one and returns what holds now; `None` is no limit.
///
/// Many systems start a process with 1,024, which ten thousand tails use up at once. A refusal is not an error: the
/// connection cap still protects the process.
pub fn raise_open_files() -> Option<u64> {
    let before = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: before.maximum, maximum: before.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, soft = before.current, hard = before.maximum, "the limit of open files could not be raised");
    }
    getrlimit(Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_of_open_files_becomes_the_hard_one() {
        let now = raise_open_files();
        assert_eq!(now, getrlimit(Resource::Nofile).maximum);
    }
}
