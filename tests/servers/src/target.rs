//! Where what was built or made for the tests is kept between runs. Must never point outside of the target folder.

use std::path::PathBuf;

/// `servers` in the target folder: of the running test, or, if it was moved, of the workspace.
pub(crate) fn servers() -> PathBuf {
    // <target>/<profile>/deps/<test>, or <target>/<profile>/<executable>
    let test = std::env::current_exe().unwrap();
    let deps = test.parent().filter(|folder| folder.ends_with("deps")).and_then(|deps| deps.ancestors().nth(2));
    let beside = || test.ancestors().nth(2).filter(|target| target.join("CACHEDIR.TAG").is_file());
    let target = deps.or_else(beside);
    target.map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target")), PathBuf::from).join("servers")
}
