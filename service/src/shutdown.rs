//! Signals to stop. The first SIGTERM or SIGINT asks everyone to finish; a second one ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Tasks;

/// Exit code of a process that was told twice to stop: 128 + SIGINT, as shells count.
const FORCED_EXIT: i32 = 130;

/// Listens for SIGTERM and SIGINT until the process ends. Fails when the handlers cannot be installed.
pub fn listen(tasks: &Tasks) -> std::io::Result<()> {
    let mut signals = Signals { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? };
    let token = tasks.token();
    // Not tracked: it must outlive every other task to hear the second signal, and it holds nothing that needs closing.
    tokio::spawn(async move {
        let name = signals.next().await;
        tracing::info!(signal = name, "stopping: finishing what was accepted");
        token.cancel();
        let name = signals.next().await;
        tracing::warn!(signal = name, "stopping at once: told twice");
        std::process::exit(FORCED_EXIT);
    });
    Ok(())
}

struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}
