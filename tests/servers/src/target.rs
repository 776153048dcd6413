//! Where what was built or made for the tests is kept between runs. Must never point outside of the target folder.

use std::path::PathBuf;

/// `servers` in the target folder: of the running test, or, if it was moved, of the workspace.
pub(crate) fn servers() -> PathBuf {
    // <target>/<profile>/deps/<test>
    let test = std::env::current_exe().unwrap();
    let target = test.parent().filter(|folder| folder.ends_with("deps")).and_then(|deps| deps.ancestors().nth(2));
    target.map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target")), PathBuf::from).join("servers")
}
