//! What a process has used, from proc(5): CPU seconds and peak memory, of the server when its id is given and of the bench
//! itself.

use std::fs;

use crate::failure::Failure;

/// Whose usage is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who {
    /// This process.
    Bench,
    /// The process with this id.
    Server(u32),
}

impl Who {
    fn folder(self) -> String {
        match self {
            Self::Bench => "/proc/self".to_owned(),
            Self::Server(pid) => format!("/proc/{pid}"),
        }
    }

    /// CPU seconds used since the process began, in user and system mode.
    pub(super) fn cpu_seconds(self) -> Result<f64, Failure> {
        let path = format!("{}/stat", self.folder());
        let text = read(&path)?;
        // After the name in parentheses, which may hold spaces, utime and stime are the 12th and 13th fields.
        let fields: Vec<&str> = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
        match (ticks(11), ticks(12)) {
            (Some(user), Some(system)) => Ok((user + system) / rustix::param::clock_ticks_per_second() as f64),
            _ => Err(Failure::Usage(format!("{path} is not what proc(5) says"))),
        }
    }

    /// Highest resident memory since the process began, in bytes.
    pub(super) fn peak_rss_bytes(self) -> Result<u64, Failure> {
        let path = format!("{}/status", self.folder());
        let text = read(&path)?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")).and_then(|number| number.trim().parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| Failure::Usage(format!("{path} has no VmHWM")))
    }
}

fn read(path: &str) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::Usage(format!("{path}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_what_it_used() {
        assert!(Who::Bench.cpu_seconds().unwrap() >= 0.0);
        assert!(Who::Server(std::process::id()).peak_rss_bytes().unwrap() > 1 << 20);
    }
}
