//! The configuration of a running process: read again when the process is told to (SIGHUP), and when a file changed that it comes
//! from. All settings that changed are taken or none is; what was built at the start and cannot change is told and left as it was.
//! Must never end the process: a bad file leaves what was, and does not keep certificates from being renewed.

mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError, Sources};
use crate::metrics as names;
use files::Files;

/// The settings that may change while the process runs. The others hold from its next start on.
pub const CHANGING: [&str; 13] = [
    "segment.puts_per_second",
    "segment.put_burst",
    "compactor.max_bytes_per_second",
    "limits.value_bytes",
    "limits.key_bytes",
    "limits.header_bytes",
    "limits.batch_bytes",
    "limits.batch_records",
    "limits.read_records",
    "limits.read_bytes",
    "limits.wait_seconds",
    "limits.partitions",
    "log.level",
];

/// Between two looks at the files: an idle process is woken no more often by anything else.
const LOOK: Duration = Duration::from_secs(10);

/// Puts settings that were looked at into use. Cannot fail.
pub type Take = Box<dyn FnOnce() + Send>;
/// Looks at new settings; the error says what is wrong with them.
type Taker = Box<dyn Fn(&Config) -> Result<Take, String> + Send + Sync>;

/// The settings of this process. Clones share them.
#[derive(Clone)]
pub struct LiveConfig {
    shared: Arc<Shared>,
}

struct Shared {
    base: Config,
    sources: Sources,
    /// As they were when the process read them at its start.
    files: Files,
    current: RwLock<Arc<Config>>,
    takers: Mutex<Vec<Taker>>,
}

/// What became of new settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// Those that changed are in use, or wait for a start.
    Taken {
        /// Keys that are in use.
        changed: Vec<String>,
        /// Keys that wait.
        waiting: Vec<String>,
    },
    /// None is: the process goes on with those before. The files that those name were read anew all the same, and are in use unless
    /// the text tells of them. An operator mends what it says.
    Refused(String),
}

impl LiveConfig {
    /// Reads the layers over `base`. The environment and the flags are those of the start for good; the file is read again.
    pub fn load(base: Config, sources: Sources) -> Result<Self, ConfigError> {
        let files = Files::of_settings(&sources);
        let current = Config::load(base.clone(), &sources)?;
        let files = files.and_certificates(&current);
        Ok(Self::of(base, sources, files, current))
    }

    /// Settings that never change.
    pub fn fixed(config: Config) -> Self {
        let sources = Sources::default();
        let files = Files::of_settings(&sources);
        Self::of(config.clone(), sources, files, config)
    }

    fn of(base: Config, sources: Sources, files: Files, current: Config) -> Self {
        let current = RwLock::new(Arc::new(current));
        Self { shared: Arc::new(Shared { base, sources, files, current, takers: Mutex::default() }) }
    }

    /// What is in use.
    pub fn current(&self) -> Arc<Config> {
        Arc::clone(&self.shared.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on `taker` is shown all new settings, and takes them when all others can too. It also reads the files anew that
    /// settings name: so it is shown those in use once more when the new ones are refused.
    pub fn on_change(&self, taker: impl Fn(&Config) -> Result<Take, String> + Send + Sync + 'static) {
        self.shared.takers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(taker));
    }

    /// Reads everything again, and says in the log and in metrics what became of it.
    pub fn reload(&self) -> Reloaded {
        let reloaded = self.attempt().unwrap_or_else(Reloaded::Refused);
        let outcome = match &reloaded {
            Reloaded::Refused(reason) => {
                tracing::error!(reason, "the new settings are refused: the process goes on with those before");
                "refused"
            }
            Reloaded::Taken { changed, waiting } => {
                ::metrics::gauge!(names::WAITING).set(waiting.len() as f64);
                if !waiting.is_empty() {
                    tracing::warn!(settings = waiting.join(", "), "these settings have changed and hold from the next start on");
                }
                tracing::info!(settings = changed.join(", "), "the settings were read again");
                if changed.is_empty() { "unchanged" } else { "taken" }
            }
        };
        ::metrics::gauge!(names::REFUSED).set(if outcome == "refused" { 1.0 } else { 0.0 });
        ::metrics::counter!(names::RELOADS, "outcome" => outcome).increment(1);
        reloaded
    }

    fn attempt(&self) -> Result<Reloaded, String> {
        // One at a time: held until what was looked at is in use.
        let takers = self.shared.takers.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.current();
        let taken = self.read(&before).and_then(|(next, read)| take(&takers, &next).map(|()| (next, read)));
        let (next, read) = match taken {
            Ok(taken) => taken,
            // A certificate must not end because of a setting that another version knows.
            Err(reason) => match take(&takers, &before) {
                Err(also) if also != reason => return Err(format!("{reason}; {also}")),
                _ => return Err(reason),
            },
        };
        let (changed, waiting) = (differences(&before, &next), differences(&next, &read));
        *self.shared.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(Reloaded::Taken { changed, waiting })
    }

    /// What would be in use, and all that the layers say.
    fn read(&self, before: &Config) -> Result<(Config, Config), String> {
        let read = Config::load(self.shared.base.clone(), &self.shared.sources).map_err(|error| error.to_string())?;
        let next = taken_over(before, &read);
        // Those that change must suit those that do not.
        next.check().map_err(|error| error.to_string())?;
        Ok((next, read))
    }

    /// Reloads whenever there is a reason to, until `stop`.
    pub async fn follow(self, mut hangups: Hangups, stop: CancellationToken) {
        // Not as they are now: they may have changed while the process started.
        let mut files = self.shared.files.clone();
        loop {
            tokio::select! {
                () = hangups.next() => {
                    tracing::info!(signal = "SIGHUP", "the settings are read again");
                    files.look();
                }
                () = tokio::time::sleep(LOOK), if !files.is_empty() => {
                    if !files.have_changed() {
                        continue;
                    }
                    tracing::info!("a file of the settings has changed: they are read again");
                }
                () = stop.cancelled() => return,
            }
            self.reload();
        }
    }
}

/// Words to read the settings again.
pub struct Hangups(Option<Signal>);

impl Hangups {
    /// Listens for SIGHUP from now on. At a terminal it ends the process as it always did: there it says that nobody looks any more.
    /// Fails when the handler cannot be installed.
    pub fn listen() -> std::io::Result<Self> {
        if std::io::stdin().is_terminal() {
            return Ok(Self(None));
        }
        Ok(Self(Some(signal(SignalKind::hangup())?)))
    }

    async fn next(&mut self) {
        let heard = match &mut self.0 {
            Some(signal) => signal.recv().await.is_some(),
            None => false,
        };
        if !heard {
            std::future::pending().await
        }
    }
}

/// Puts settings into use if all can take them.
fn take(takers: &[Taker], config: &Config) -> Result<(), String> {
    let takes = takers.iter().map(|taker| taker(config)).collect::<Result<Vec<Take>, String>>()?;
    takes.into_iter().for_each(|take| take());
    Ok(())
}

/// The settings in use once those of `read` that may change are taken over.
fn taken_over(current: &Config, read: &Config) -> Config {
    let mut next = current.clone();
    next.segment.puts_per_second = read.segment.puts_per_second;
    next.segment.put_burst = read.segment.put_burst;
    next.compactor.max_bytes_per_second = read.compactor.max_bytes_per_second;
    next.limits.clone_from(&read.limits);
    next.log.level.clone_from(&read.log.level);
    next
}

/// Keys whose values differ, in order.
fn differences(one: &Config, other: &Config) -> Vec<String> {
    let of = |config: &Config| {
        let mut found = BTreeMap::new();
        flatten("", &serde_json::to_value(config).unwrap_or_default(), &mut found);
        found
    };
    let (shown, others) = (of(one), of(other));
    let differ = shown.into_iter().filter(|(key, value)| others.get(key) != Some(value)).map(|(key, _)| key);
    let secret = secrets(one, other).into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned());
    // A secret that was not set before differs in what is shown as well.
    differ.chain(secret).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Settings that are not shown, or not all of them, and whether they differ.
pub(crate) fn secrets(one: &Config, other: &Config) -> [(&'static str, bool); 13] {
    [
        ("metadata.url", one.metadata.url != other.metadata.url),
        ("metadata.token", one.metadata.token != other.metadata.token),
        ("metadata.postgres.password", one.metadata.postgres.password != other.metadata.postgres.password),
        ("store.url", one.store.url != other.store.url),
        ("store.secret_access_key", one.store.secret_access_key != other.store.secret_access_key),
        ("receipts.key", one.receipts.key != other.receipts.key),
        ("receipts.previous", one.receipts.previous != other.receipts.previous),
        ("catalog.uri", one.catalog.uri != other.catalog.uri),
        ("catalog.token", one.catalog.token != other.catalog.token),
        ("catalog.client_secret", one.catalog.client_secret != other.catalog.client_secret),
        ("catalog.oauth_uri", one.catalog.oauth_uri != other.catalog.oauth_uri),
        ("telemetry.endpoint", one.telemetry.endpoint != other.telemetry.endpoint),
        ("telemetry.headers", one.telemetry.headers != other.telemetry.headers),
    ]
}

fn flatten(prefix: &str, value: &Value, found: &mut BTreeMap<String, Value>) {
    let Some(fields) = value.as_object() else {
        found.insert(prefix.to_owned(), value.clone());
        return;
    };
    for (name, value) in fields {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        flatten(&key, value, found);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::Secret;

    /// Settings that come from a file, which is not there any more when the folder is dropped.
    fn of_a_file(text: &str) -> (tempfile::TempDir, std::path::PathBuf, LiveConfig) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lakefall.toml");
        std::fs::write(&path, text).unwrap();
        let live = LiveConfig::load(Config::default(), Sources { file: Some(path.clone()), ..Sources::default() }).unwrap();
        (folder, path, live)
    }

    /// What it was shown, and how often it took something.
    fn counted(live: &LiveConfig) -> (Arc<AtomicUsize>, Arc<AtomicUsize>) {
        let (shown, taken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (show, take) = (Arc::clone(&shown), Arc::clone(&taken));
        live.on_change(move |_| {
            show.fetch_add(1, Ordering::Relaxed);
            let take = Arc::clone(&take);
            Ok(Box::new(move || {
                take.fetch_add(1, Ordering::Relaxed);
            }))
        });
        (shown, taken)
    }

    #[test]
    fn what_may_change_is_in_use_and_the_rest_waits() {
        let (_folder, path, live) = of_a_file("[log]\nlevel = 'info'\n");
        let (_, taken) = counted(&live);
        std::fs::write(&path, "[log]\nlevel = 'debug'\n[segment]\nputs_per_second = 4\ntarget_bytes = 4096\n").unwrap();
        let changed = ["log.level", "segment.puts_per_second"].map(str::to_owned).to_vec();
        assert_eq!(live.reload(), Reloaded::Taken { changed, waiting: vec!["segment.target_bytes".to_owned()] });
        assert_eq!(taken.load(Ordering::Relaxed), 1);
        let now = live.current();
        assert_eq!((now.log.level.as_str(), now.segment.puts_per_second, now.segment.target_bytes), ("debug", Some(4.0), 8 << 20));
        assert_eq!(live.reload(), Reloaded::Taken { changed: Vec::new(), waiting: vec!["segment.target_bytes".to_owned()] });
    }

    #[test]
    fn a_bad_file_changes_nothing_and_says_why() {
        let (_folder, path, live) = of_a_file("[log]\nlevel = 'warn'\n");
        let (shown, taken) = counted(&live);
        let before = live.current();
        for (bad, told) in [
            ("[log]\nlevle = 'debug'\n", "log.level"),
            ("[log\n", ""),
            ("[limits]\nvalue_bytes = 1\n", "limits.value_bytes"),
            // In bounds by itself, and too much for the buffer, which stays as it is.
            ("[ingest]\nbuffer_bytes = 268435456\n[limits]\nbatch_bytes = 134217728\n", "ingest.buffer_bytes"),
        ] {
            std::fs::write(&path, bad).unwrap();
            let Reloaded::Refused(reason) = live.reload() else { panic!("{bad:?} is taken") };
            assert!(reason.contains(told), "{bad:?}: {reason}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(live.reload(), Reloaded::Refused(_)), "no file is as good as any");
        assert_eq!((shown.load(Ordering::Relaxed), taken.load(Ordering::Relaxed)), (5, 5), "those in use, each time");
        assert_eq!(live.current(), before);
    }

    #[test]
    fn certificates_are_read_anew_though_the_settings_are_refused() {
        let (_folder, path, live) = of_a_file("");
        let levels = Arc::new(Mutex::new(Vec::new()));
        let read = Arc::clone(&levels);
        // As one that reads what the settings name; another refuses the new ones, or nobody does and they are bad in themselves.
        live.on_change(move |config| {
            let (read, level) = (Arc::clone(&read), config.log.level.clone());
            Ok(Box::new(move || read.lock().unwrap().push(level)))
        });
        live.on_change(|config| if config.log.level == "loud" { Err("loud is no level".to_owned()) } else { Ok(Box::new(|| {})) });
        for bad in ["[log]\nlevel = 'loud'\n", "[log]\nlevle = 'debug'\n"] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(live.reload(), Reloaded::Refused(_)), "{bad:?} is taken");
        }
        assert_eq!(*levels.lock().unwrap(), ["info", "info"]);
    }

    #[test]
    fn what_changes_between_the_first_reading_and_the_first_look_is_seen() {
        let (_folder, path, live) = of_a_file("");
        std::fs::write(&path, "[log]\nlevel = 'debug'\n").unwrap();
        let mut files = live.shared.files.clone();
        assert!(!files.have_changed() && files.have_changed());
    }

    #[test]
    fn when_one_refuses_none_takes() {
        let (_folder, path, live) = of_a_file("");
        let (shown, taken) = counted(&live);
        live.on_change(|_| Err("there is no certificate".to_owned()));
        std::fs::write(&path, "[log]\nlevel = 'debug'\n").unwrap();
        assert_eq!(live.reload(), Reloaded::Refused("there is no certificate".to_owned()));
        // The new ones, and those in use.
        assert_eq!((shown.load(Ordering::Relaxed), taken.load(Ordering::Relaxed)), (2, 0));
        assert_eq!(live.current().log.level, "info");
    }

    #[test]
    fn those_that_are_said_to_change_are_those_that_do() {
        let mut read = Config::default();
        read.log.level = "trace".into();
        read.segment.puts_per_second = Some(1.0);
        read.segment.put_burst += 1;
        read.compactor.max_bytes_per_second = Some(1 << 20);
        let limits = &mut read.limits;
        (limits.value_bytes, limits.key_bytes, limits.header_bytes) = (1 << 10, 1, 1);
        (limits.batch_bytes, limits.batch_records, limits.read_records, limits.read_bytes) = (1 << 11, 1, 1, 1 << 10);
        (limits.wait_seconds, limits.partitions) = (1, 1);
        let mut said: Vec<String> = CHANGING.map(str::to_owned).to_vec();
        said.sort();
        assert_eq!(differences(&Config::default(), &taken_over(&Config::default(), &read)), said);
        // Whatever else is read waits.
        read.http.drain_ms += 1;
        read.log.format = crate::config::LogFormat::Json;
        read.receipts.key = Some(Secret::new("k".repeat(32)));
        let waiting = differences(&taken_over(&Config::default(), &read), &read);
        assert!(waiting.contains(&"http.drain_ms".to_owned()) && waiting.contains(&"log.format".to_owned()), "{waiting:?}");
    }

    #[test]
    fn a_secret_that_changed_is_told_of_and_not_shown() {
        let mut one = Config::default();
        one.receipts.key = Some(Secret::new("a".repeat(32)));
        let mut other = one.clone();
        other.receipts.key = Some(Secret::new("b".repeat(32)));
        assert_eq!(differences(&one, &other), ["receipts.key"]);
        // Beside others; and where only a part is not shown.
        other.http.drain_ms += 1;
        one.metadata.url = Some("postgres://me:one@db/x".to_owned());
        other.metadata.url = Some("postgres://me:two@db/x".to_owned());
        assert_eq!(differences(&one, &other), ["http.drain_ms", "metadata.url", "receipts.key"]);
        assert_eq!(differences(&one, &one.clone()), Vec::<String>::new());
        one.receipts.key = None;
        assert_eq!(differences(&one, &other), ["http.drain_ms", "metadata.url", "receipts.key"], "once each");
    }
}
