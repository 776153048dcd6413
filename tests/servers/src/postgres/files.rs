//! The data folder of a server: made, configured, and given certificates. Must never be called while the server runs.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::{DATABASE, PASSWORD, Postgres, SUPERUSER, SUPERUSER_PASSWORD, USER, run};
use crate::account::Account;

/// How long a copy of some 40 MB may take, on a disk that a build is using.
const COPY: Duration = Duration::from_secs(60);

/// Makes the data folder and starts the server. What `initdb` and the first statements left is kept in the target folder
/// and copied for the next server: a start then takes a fifth of the time, which each process of tests pays.
pub(super) async fn start_first(postgres: &Postgres) {
    if postgres.options.tls {
        certify(postgres).await;
    }
    let kept = kept();
    if !postgres.options.own_identity && kept.is_dir() && copy(&kept, &postgres.data()).await {
        configure(postgres);
        postgres.start_again().await;
        return;
    }
    initialize(postgres).await;
    configure(postgres);
    postgres.start_again().await;
    let role = format!("create role {USER} login createdb password '{PASSWORD}'");
    postgres.sql("postgres", &role).await;
    postgres.create_database(DATABASE).await;
    if !postgres.options.own_identity && !kept.is_dir() {
        postgres.stop_fast().await;
        let made = kept.with_extension(std::process::id().to_string());
        // Another process may have been first, and a target folder that cannot be written to costs time only.
        if !copy(&postgres.data(), &made).await || std::fs::rename(&made, &kept).is_err() {
            let _ = std::fs::remove_dir_all(&made);
        }
        postgres.start_again().await;
    }
}

/// In which folder a server has its own: a file system in memory that has room, or the one for temporary files.
pub(super) fn place(on_disk: bool) -> PathBuf {
    /// What a server and its log of a few minutes may take, times some servers.
    const ROOM: u64 = 2 << 30;
    let memory = PathBuf::from("/dev/shm");
    let has_room = || {
        let told = rustix::fs::statvfs(&memory).ok()?;
        (told.f_bavail * told.f_frsize >= ROOM && rustix::fs::access(&memory, rustix::fs::Access::WRITE_OK).is_ok()).then_some(())
    };
    if !on_disk && has_room().is_some() { memory } else { std::env::temp_dir() }
}

/// Where the copy is kept; another `initdb` gets another.
fn kept() -> PathBuf {
    let made = std::fs::metadata(super::program("initdb")).unwrap();
    let user = rustix::process::geteuid().as_raw();
    crate::target::servers().join(format!("postgres-data-1-{user}-{}-{}", made.len(), made.mtime()))
}

/// Copies a folder with its owners; whether it could.
async fn copy(from: &Path, to: &Path) -> bool {
    let _ = std::fs::create_dir_all(to.parent().unwrap());
    let mut copying = Command::new("cp");
    copying.args(["-a", "--reflink=auto", "--"]).args([from, to]).kill_on_drop(true);
    let copied = tokio::time::timeout(COPY, copying.output()).await.is_ok_and(|output| output.unwrap().status.success());
    if !copied {
        let _ = std::fs::remove_dir_all(to);
    }
    copied
}

async fn initialize(postgres: &Postgres) {
    let password = postgres.home.path().join("superuser-password");
    std::fs::write(&password, SUPERUSER_PASSWORD).unwrap();
    Account::give(postgres.account, &password);
    let mut initdb = postgres.command("initdb");
    // Nothing is worth a sync before the first test's first transaction.
    initdb.args(["--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--username", SUPERUSER]);
    initdb.arg("--pwfile").arg(&password).arg("--pgdata").arg(postgres.data());
    run(&mut initdb).await;
}

/// Writes `postgresql.conf` and `pg_hba.conf` for this server's port and options.
pub(super) fn configure(postgres: &Postgres) {
    let tls = postgres.options.tls;
    let mut settings = vec![
        ("listen_addresses", "127.0.0.1".to_owned()),
        ("port", postgres.port().to_string()),
        ("unix_socket_directories", String::new()),
        ("shared_buffers", "32MB".to_owned()),
        // In the data folder, with which it goes: `kill -9` would leave that of the default in /dev/shm.
        ("dynamic_shared_memory_type", "mmap".to_owned()),
        ("timezone", "UTC".to_owned()),
        // A standby looks again after this time; 5 s by default.
        ("wal_retrieve_retry_interval", "100ms".to_owned()),
        ("ssl", if tls { "on" } else { "off" }.to_owned()),
    ];
    if tls {
        let file = |name: &str| postgres.home.path().join(name).display().to_string();
        settings.extend([("ssl_cert_file", file("server.pem")), ("ssl_key_file", file("server.key"))]);
    }
    settings.extend(postgres.options.settings.iter().map(|(name, value)| (name.as_str(), value.clone())));
    let mut text = String::from("# Written by the tests; a later line of the same name wins.\n");
    for (name, value) in settings {
        writeln!(text, "{name} = '{}'", value.replace('\'', "''")).unwrap();
    }
    let host = if tls { "hostssl" } else { "host" };
    let access = format!("{host} all all 127.0.0.1/32 scram-sha-256\n{host} replication all 127.0.0.1/32 scram-sha-256\n");
    for (name, text) in [("postgresql.conf", text), ("pg_hba.conf", access)] {
        let path = postgres.data().join(name);
        std::fs::write(&path, text).unwrap();
        Account::give(postgres.account, &path);
    }
}

/// A certificate authority of a day, and a certificate of the server signed by it.
async fn certify(postgres: &Postgres) {
    let request = |arguments: &'static str| {
        let mut words = Account::prefix(postgres.account);
        words.extend(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"].map(Into::into));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(["-days", "2"]).args(arguments.split(' ')).current_dir(postgres.home.path());
        command
    };
    run(&mut request("-subj /CN=tests -keyout ca.key -out ca.pem")).await;
    let server = "-CA ca.pem -CAkey ca.key -subj /CN=localhost -keyout server.key -out server.pem \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE";
    run(&mut request(server)).await;
}
