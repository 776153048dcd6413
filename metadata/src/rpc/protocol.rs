//! Which versions of the protocol this program speaks, and whether another shares one. Release N speaks N and N-1, so that
//! a cluster can be upgraded one process at a time.

/// The oldest version that is understood.
pub const OLDEST_PROTOCOL: u32 = 1;
/// The newest one.
pub const NEWEST_PROTOCOL: u32 = 1;

/// The header in which a caller names its versions.
pub(super) const PROTOCOL_HEADER: &str = "lakefall-protocol";
/// The header in which a caller names its cluster.
pub(super) const CLUSTER_HEADER: &str = "lakefall-cluster";

/// What a caller sends.
pub(super) fn header() -> String {
    format!("{OLDEST_PROTOCOL}-{NEWEST_PROTOCOL}")
}

/// Refuses a caller that shares no version; the reason says who is to be upgraded.
pub(super) fn check(header: Option<&str>) -> Result<(), String> {
    let Some(text) = header else {
        return Err(format!("the header {PROTOCOL_HEADER} is missing: only Lakefall's own roles may call this service"));
    };
    let range = text.split_once('-').and_then(|(oldest, newest)| Some((oldest.parse::<u32>().ok()?, newest.parse::<u32>().ok()?)));
    let Some((oldest, newest)) = range.filter(|(oldest, newest)| oldest <= newest) else {
        let shown: String = text.chars().take(32).collect();
        return Err(format!("the header {PROTOCOL_HEADER} is {shown:?} instead of OLDEST-NEWEST"));
    };
    if newest < OLDEST_PROTOCOL {
        return Err(format!(
            "the caller speaks metadata protocol {oldest} to {newest}, this replica {OLDEST_PROTOCOL} to {NEWEST_PROTOCOL}: upgrade the caller"
        ));
    }
    if oldest > NEWEST_PROTOCOL {
        return Err(format!(
            "the caller speaks metadata protocol {oldest} to {newest}, this replica {OLDEST_PROTOCOL} to {NEWEST_PROTOCOL}: upgrade the metadata replicas first"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_that_share_a_version_are_let_in_and_others_are_told_who_is_to_be_upgraded() {
        assert_eq!(check(Some(&header())), Ok(()));
        assert_eq!(check(Some(&format!("{NEWEST_PROTOCOL}-{}", NEWEST_PROTOCOL + 3))), Ok(()));
        let newer = check(Some(&format!("{0}-{0}", NEWEST_PROTOCOL + 1))).unwrap_err();
        assert!(newer.ends_with("upgrade the metadata replicas first"), "{newer}");
        let older = check(Some("0-0")).unwrap_err();
        assert!(older.ends_with("upgrade the caller"), "{older}");
    }

    #[test]
    fn a_caller_that_names_no_version_is_refused() {
        for bad in [None, Some(""), Some("1"), Some("2-1"), Some("-"), Some("1-x"), Some("99999999999-1")] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
