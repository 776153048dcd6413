//! What happened, line by line, with the simulated time: the same for each run of a seed, to the byte.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use xxhash_rust::xxh3::Xxh3;

use crate::{lock, net, time};

/// Collects lines.
pub struct Trace {
    lines: Mutex<Lines>,
    path: Option<PathBuf>,
}

struct Lines {
    digest: Xxh3,
    count: u64,
    /// `None`: only the digest is wanted.
    file: Option<std::io::BufWriter<std::fs::File>>,
}

impl Trace {
    /// Into a file, if one is named.
    pub fn new(file: Option<&Path>) -> std::io::Result<Self> {
        let path = file.map(Path::to_path_buf);
        let file = file.map(std::fs::File::create).transpose()?.map(std::io::BufWriter::new);
        Ok(Self { lines: Mutex::new(Lines { digest: Xxh3::new(), count: 0, file }), path })
    }

    /// Whether lines are kept, and it is worth the while to make long ones.
    pub fn is_kept(&self) -> bool {
        self.path.is_some()
    }

    /// Where they are kept.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// One more line: where it happened, and what.
    pub fn line(&self, place: &str, what: std::fmt::Arguments<'_>) {
        let text = format!("{:>12.6} {place} {what}\n", time::elapsed().as_secs_f64());
        let mut lines = lock(&self.lines);
        lines.digest.update(text.as_bytes());
        lines.count += 1;
        if let Some(file) = &mut lines.file {
            // A trace that cannot be written shows in that it is short; the run goes on.
            let _ = file.write_all(text.as_bytes());
        }
    }

    /// How far the traffic is.
    pub fn traffic(&self) {
        let (fingerprint, bytes) = net::traffic();
        self.line("network", format_args!("{bytes} bytes, fingerprint {fingerprint:016x}"));
    }

    /// The number of lines and their digest.
    pub fn finish(&self) -> (u64, u64) {
        let mut lines = lock(&self.lines);
        if let Some(file) = &mut lines.file {
            let _ = file.flush();
        }
        (lines.count, lines.digest.digest())
    }
}

/// What the parts of the system log goes into the trace, too, if it is kept. Called before anything is drawn from the seed, and set up
/// on a thread of its own: what that draws must not be missing from what the run draws, or the trace would be of another run.
pub fn listen(trace: &Arc<Trace>) {
    if trace.is_kept() {
        std::thread::scope(|scope| scope.spawn(|| install(trace)).join()).unwrap_or_default();
    }
}

fn install(trace: &Arc<Trace>) {
    let filter = EnvFilter::new("off,lakefall=debug,turmoil=info");
    let lines = tracing_subscriber::fmt().with_env_filter(filter).without_time().with_ansi(false).with_writer(Logged(Arc::clone(trace)));
    // Only one run in a process has a trace.
    let _ = lines.try_init();
}

/// Makes lines of what is logged.
struct Logged(Arc<Trace>);

impl Write for &Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.line("log", format_args!("{}", String::from_utf8_lossy(bytes).trim_end()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Logged {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}
