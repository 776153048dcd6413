//! A server as a child process that ends with its handle, and also when the test's process is killed: a shell stands
//! between them and reads a pipe that only the test's process holds open. Must never be left without that shell.
//!
//! `PR_SET_PDEATHSIG` would not do: it follows the *thread* that started the child, and a test's thread ends with the test
//! while a shared server serves the next one.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// Between two looks at a process that is starting or ending.
pub(crate) const LOOK: Duration = Duration::from_millis(2);
/// How long the kernel may take to begin or end a process.
const KILLED: Duration = Duration::from_secs(30);

/// Starts the server, tells its process id, ends with it and its exit code. At the end of its input, which is the end of
/// the test's process: kills the server and removes its data.
const WATCH: &str = r#"
log=$1 folder=$2
shift 2
exec 3<&0
"$@" </dev/null >>"$log" 2>&1 3<&- &
server=$!
echo "$server"
{
    exec >/dev/null 2>&1
    read -r _ <&3
    : >"$folder/abandoned"
    kill -CONT "$server"; kill -QUIT "$server"
    for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$server" || break; sleep 0.1; done
    kill -KILL "$server"
} &
guard=$!
exec 3<&- >/dev/null
wait "$server"
code=$?
if [ -e "$folder/abandoned" ]; then
    wait "$guard"
    rm -rf "$folder"
else
    kill -KILL "$guard"
fi
exit "$code"
"#;

/// A running server.
#[derive(Debug)]
pub(crate) struct Process {
    watcher: Child,
    /// Its end is what the watcher waits for.
    _lifeline: ChildStdin,
    pid: Pid,
    log: PathBuf,
}

impl Process {
    /// Starts a command. Its output is appended to `server.log` in the folder, which goes away with the test's process.
    pub(crate) fn spawn(command: Vec<OsString>, env: &[(&str, &str)], folder: &Path) -> Self {
        let log = folder.join("server.log");
        let errors = File::options().create(true).append(true).open(&log).unwrap();
        let mut watcher = Command::new("sh");
        watcher.args(["-c", WATCH, "watch"]).arg(&log).arg(folder).args(command).envs(env.iter().copied());
        // A group of its own: the terminal's Ctrl-C reaches the tests, and the watcher by their end.
        watcher.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut watcher = watcher.spawn().unwrap();
        let lifeline = watcher.stdin.take().unwrap();
        let line = first_line(watcher.stdout.take().unwrap()).expect("the watcher tells a process id in time");
        let pid = line.trim().parse().ok().and_then(Pid::from_raw).expect("the watcher tells a process id");
        Self { watcher, _lifeline: lifeline, pid, log }
    }

    /// The server's process id.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// How the server ended; `None` while it runs. After a signal, the code is 128 and the signal's number.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.watcher.try_wait().unwrap()
    }

    /// Sends a signal to the server itself; nothing happens if it has ended.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            // It may end at this moment.
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Sends a signal to the server and all processes below it.
    pub(crate) fn signal_all(&mut self, signal: Signal) {
        let below = if self.ended().is_none() { descendants(self.pid) } else { Vec::new() };
        self.signal(signal);
        for pid in below {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for the end; fails the test if it does not come in time.
    pub(crate) async fn wait_for_end(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server still runs after {within:?}:\n{}", self.log());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The same where nothing can be awaited, as in a `drop`; whether it ended.
    pub(crate) fn block_until_end(&mut self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while self.ended().is_none() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }

    /// The end of what the server logged.
    pub(crate) fn log(&self) -> String {
        end_of(&self.log)
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "a panic in a drop would end the process, and with it what other tests say")]
    fn drop(&mut self) {
        self.signal_all(Signal::KILL);
        if !self.block_until_end(KILLED) {
            eprintln!("process {:?} still runs {KILLED:?} after kill -9:\n{}", self.pid, self.log());
        }
    }
}

/// What a shell says first. Read by a thread, as a pipe cannot be read for a while only.
fn first_line(stdout: ChildStdout) -> Option<String> {
    let (said, heard) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        // Nobody listens any more if it came too late.
        let _ = said.send(read.map(|_| line));
    });
    heard.recv_timeout(KILLED).ok()?.ok()
}

/// The last 40 lines of a log.
pub(crate) fn end_of(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Whether a process runs (a dead one whose parent has not looked yet does not).
pub fn runs(pid: u32) -> bool {
    // Field 3 of proc_pid_stat(5), after the name, which may hold spaces.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|fields| !fields.is_empty() && !fields.starts_with(['Z', 'X']))
}

/// All processes below one, as /proc tells them now.
pub(crate) fn descendants(of: Pid) -> Vec<Pid> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // Field 4 of proc_pid_stat(5).
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit(") ").next().and_then(|fields| fields.split(' ').nth(1)?.parse::<i32>().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let mut found = vec![of.as_raw_nonzero().get()];
    let mut at = 0;
    while at < found.len() {
        let above = found[at];
        found.extend(parents.iter().filter(|(_, parent)| *parent == above).map(|(pid, _)| *pid));
        at += 1;
    }
    found.into_iter().skip(1).filter_map(Pid::from_raw).collect()
}
