//! Disks that fill up, and disks that forget. Must never be mounted over anything.

use std::path::Path;
use std::process::Command;

/// A small file system of its own; unmounted when dropped.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, and says why, where mounting is not permitted.
    pub fn mount(mib: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let tried = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(folder.path()).output();
        match tried {
            Ok(output) if output.status.success() => Some(Self(folder)),
            Ok(output) => {
                println!("SKIPPED: a tmpfs cannot be mounted here: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("SKIPPED: there is no mount command: {error}");
                None
            }
        }
    }

    /// Its root.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that is just being killed may still hold files.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Flips a bit in each few KiB of every file below a folder. Returns how many.
pub fn flip_bits(folder: &Path) -> usize {
    use std::os::unix::fs::FileExt;
    let mut flipped = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            flipped += flip_bits(&path);
            continue;
        }
        let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let length = file.metadata().unwrap().len();
        for at in (2_000..length).step_by(4_099) {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            if byte[0] == 0 {
                continue;
            }
            file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
            flipped += 1;
        }
    }
    flipped
}
