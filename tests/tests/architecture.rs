//! The shape of the workspace: who may see whom, and what the code of the server never contains. It judges texts and
//! manifests only and must never depend on a crate that it judges.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which crates of the workspace a crate may see, in any kind of dependency. Rooms (`gateway/protocols/*`) are not
/// listed: they see the core and nothing else. The system tests see what users see: the executable.
const ARROWS: &[(&str, &[&str])] = &[
    ("lakefall-queue", &[]),
    ("lakefall-schema", &["lakefall-queue"]),
    ("lakefall-storage", &["lakefall-queue"]),
    ("lakefall-service", &["lakefall-queue"]),
    ("lakefall-metadata", &["lakefall-queue", "lakefall-service"]),
    ("lakefall-sql", &["lakefall-queue", "lakefall-storage"]),
    (
        "lakefall-gateway",
        &["lakefall-queue", "lakefall-service", "lakefall-schema", "lakefall-storage", "lakefall-metadata", "lakefall-sql", ROOMS],
    ),
    ("lakefall-compactor", &["lakefall-queue", "lakefall-service", "lakefall-schema", "lakefall-storage", "lakefall-metadata"]),
    (
        "lakefall",
        &["lakefall-queue", "lakefall-service", "lakefall-storage", "lakefall-metadata", "lakefall-gateway", "lakefall-compactor", ROOMS],
    ),
    // For its feature `failpoints` alone, which a build of the workspace then has: nothing in it is used, see below.
    ("lakefall-tests", &["lakefall-service", CHECK]),
    // The protocol is the ledger's: who serves it and who asks it are modelled.
    ("lakefall-model", &["lakefall-queue"]),
    // It holds the readers of all of them against hostile bytes.
    (
        "lakefall-fuzz",
        &["lakefall-queue", "lakefall-schema", "lakefall-storage", "lakefall-metadata", "lakefall-sql", "lakefall-gateway", CHECK, ROOMS],
    ),
    (CHECK, &[]),
    (
        SIMULATION,
        &[
            "lakefall-queue",
            "lakefall-service",
            "lakefall-storage",
            "lakefall-metadata",
            "lakefall-gateway",
            "lakefall-compactor",
            CHECK,
            ROOMS,
        ],
    ),
    (SERVERS, &[]),
];
/// Real servers for tests: any crate may see it for development, and it sees none.
const SERVERS: &str = "lakefall-servers";
/// The judge of histories: sees no other, so that it believes nobody.
const CHECK: &str = "lakefall-check";
/// The roles on simulated hosts. It stands in for stores and for parts of libc, and so uses a store's library and unsafe code.
const SIMULATION: &str = "lakefall-simulation";
const ROOMS: &str = "the rooms";

/// What the core would do I/O, keep time or draw lots with.
const NOT_IN_THE_CORE: &[&str] = &["tokio", "sqlx", "object_store", "axum", "hyper", "reqwest", "rand", "tonic", "foyer", "tracing"];

/// Libraries that only one crate may use: behind it, they can be exchanged. One with two executables stands twice.
const HOMES: &[(&str, &str)] = &[
    ("sqlx", "lakefall-metadata"),
    ("tonic", "lakefall-metadata"),
    // Of OTLP.
    ("tonic", "lakefall-service"),
    ("opentelemetry_sdk", "lakefall-service"),
    ("opentelemetry-proto", "lakefall-service"),
    ("object_store", "lakefall-storage"),
    ("aws-config", "lakefall-storage"),
    ("aws-sdk-s3", "lakefall-storage"),
    ("foyer", "lakefall-storage"),
    ("parquet", "lakefall-storage"),
    ("datafusion", "lakefall-sql"),
    ("cel", "lakefall-gateway"),
    ("jsonschema", "lakefall-schema"),
    ("prost-reflect", "lakefall-schema"),
    ("hmac", "lakefall-gateway"),
    ("clap", "lakefall"),
    ("clap", CHECK),
    ("rustyline", "lakefall"),
    ("stateright", "lakefall-model"),
];

/// What production code does not contain, as it ends the process, hides a warning, or is not finished.
const FORBIDDEN: &[&str] =
    &[".unwrap()", ".expect(", "panic!(", "unreachable!(", "todo!(", "unimplemented!(", "dbg!(", "#[allow(", "#![allow("];

/// Where production code contains it all the same: file, what, how often, why.
const EXPLAINED: &[(&str, &str, usize, &str)] =
    &[("service/src/clock.rs", "#[allow(", 3, "the one place that reads the system's clock and entropy, for which the lint points here")];

/// Lines of production code in a file, at most.
const LONGEST: usize = 400;

/// Files that are longer, how long they may be, and why they are not two.
const LONGER: &[(&str, usize, &str)] = &[
    ("queue/src/verbs.rs", 500, "one trait with what it takes and gives: the whole of what a room must read"),
    ("queue/src/queue.rs", 490, "what a room must know of queues, in the order of a message's life: settings, leases, dead letters"),
    ("queue/src/ledger/rows.rs", 620, "the writing and the reading of each row stand beside each other, so that they change together"),
];

/// A crate of the workspace, as cargo tells it.
struct Package {
    name: String,
    folder: PathBuf,
    is_room: bool,
    /// (name, is only for development)
    dependencies: Vec<(String, bool)>,
    /// Features that it turns on: of what it depends on, and by its own features.
    turns_on: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let told = Command::new(cargo).args(["metadata", "--format-version", "1", "--no-deps"]).current_dir(root()).output().unwrap();
    assert!(told.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&told.stderr));
    let metadata: Value = serde_json::from_slice(&told.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let package = |package: &Value| {
        let folder = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned();
        let dependencies = package["dependencies"].as_array().unwrap();
        Package {
            name: text(&package["name"]),
            is_room: folder.parent().is_some_and(|parent| parent.ends_with("gateway/protocols")),
            dependencies: dependencies.iter().map(|d| (text(&d["name"]), d["kind"] == "dev")).collect(),
            turns_on: {
                let of_others = dependencies.iter().flat_map(|d| d["features"].as_array().unwrap());
                let of_its_own = package["features"].as_object().unwrap().values().flat_map(|turned_on| turned_on.as_array().unwrap());
                of_others.chain(of_its_own).map(text).collect()
            },
            folder,
        }
    };
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

/// The arrows that are not allowed, each as a sentence.
fn wrong_arrows(packages: &[Package]) -> Vec<String> {
    let rooms: BTreeMap<&str, bool> = packages.iter().map(|p| (p.name.as_str(), p.is_room)).collect();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in packages {
        let may_see = match allowed.get(package.name.as_str()) {
            Some(may_see) => *may_see,
            None if package.is_room => &["lakefall-queue"],
            None => {
                wrong.push(format!("{} is new: say in ARROWS what it may see", package.name));
                continue;
            }
        };
        for (seen, is_dev) in &package.dependencies {
            // The system tests are tests as a whole.
            if seen == SERVERS && (*is_dev || package.name == "lakefall-tests") {
                continue;
            }
            // A crate may turn on a feature of itself for its own tests.
            let Some(is_room) = rooms.get(seen.as_str()).filter(|_| *seen != package.name) else { continue };
            let group = if *is_room { ROOMS } else { seen.as_str() };
            if !may_see.contains(&seen.as_str()) && !may_see.contains(&group) {
                wrong.push(format!("{} must not see {seen}", package.name));
            }
        }
    }
    wrong
}

#[test]
fn crates_see_only_what_the_architecture_allows() {
    let packages = packages();
    assert!(packages.iter().any(|p| p.is_room), "no room was found: has gateway/protocols moved?");
    assert_none("arrows between crates that ARCHITECTURE.md does not draw", wrong_arrows(&packages));
}

#[test]
fn an_arrow_that_is_not_drawn_is_found() {
    let package = |name: &str, is_room, seen: &[&str]| Package {
        name: name.to_owned(),
        folder: PathBuf::new(),
        is_room,
        dependencies: seen.iter().map(|name| ((*name).to_owned(), true)).collect(),
        turns_on: Vec::new(),
    };
    let planted = [
        package("lakefall-queue", false, &["lakefall-service"]),
        package("lakefall-service", false, &["lakefall-queue"]),
        package("lakefall-storage", false, &["lakefall-metadata", "lakefall-queue"]),
        package("lakefall-metadata", false, &["lakefall-metadata"]),
        package("lakefall-gateway", false, &["room"]),
        package("room", true, &["lakefall-queue", "lakefall-storage", "serde"]),
        package("newcomer", false, &[]),
        package("lakefall-compactor", false, &["lakefall-servers"]),
        Package { dependencies: vec![("lakefall-servers".to_owned(), false)], ..package("lakefall", false, &[]) },
        package("lakefall-servers", false, &["lakefall-queue"]),
    ];
    let expected = [
        "lakefall-queue must not see lakefall-service",
        "lakefall-storage must not see lakefall-metadata",
        "room must not see lakefall-storage",
        "newcomer is new: say in ARROWS what it may see",
        "lakefall must not see lakefall-servers",
        "lakefall-servers must not see lakefall-queue",
    ];
    assert_eq!(wrong_arrows(&planted), expected);
}

/// What is released is built without the tests' crates: .ci/lints looks whether it is so, .ci/released looks into the executable.
#[test]
fn only_crates_of_tests_turn_on_kill_points_and_planted_bugs() {
    let may = |package: &Package| package.folder.strip_prefix(root()).is_ok_and(|folder| folder.starts_with("tests"));
    let armed = |feature: &&String| ["failpoints", "planted"].contains(&feature.rsplit('/').next().unwrap());
    let packages = packages();
    // A role's `failpoints` is the service's, and turned on by nobody but tests.
    let forwards = |package: &Package, feature: &str| feature == "lakefall-service/failpoints" && !package.is_room;
    let wrong = packages.iter().filter(|package| !may(package)).flat_map(|package| {
        let armed = package.turns_on.iter().filter(armed).filter(|feature| !forwards(package, feature));
        armed.map(|feature| format!("{} turns on {feature}", package.name))
    });
    assert_none("crates that arm what only tests may", wrong.collect());
    assert!(packages.iter().any(|package| may(package) && package.turns_on.iter().any(|feature| feature == "failpoints")));
}

#[test]
fn the_system_tests_name_no_crate_of_lakefall() {
    let of_tests = |path: &str| path.starts_with("tests/src/") || path.starts_with("tests/tests/");
    let crates: Vec<String> = ARROWS.iter().map(|(name, _)| name.replace('-', "_")).filter(|name| name.contains('_')).collect();
    let foreign = crates.iter().filter(|name| !matches!(name.as_str(), "lakefall_tests" | "lakefall_check" | "lakefall_servers"));
    let names: Vec<String> = foreign.flat_map(|name| [format!("use {name}::"), format!(" {name}::")]).collect();
    let wrong = sources(of_tests).into_iter().filter(|(_, text)| names.iter().any(|name| text.contains(name)));
    assert_none("tests that see more than users do", wrong.map(|(path, _)| path).collect());
}

#[test]
fn the_core_knows_no_library_that_does_io() {
    let packages = packages();
    let core = packages.iter().find(|p| p.name == "lakefall-queue").unwrap();
    let impure = core.dependencies.iter().filter(|(name, is_dev)| !is_dev && NOT_IN_THE_CORE.contains(&name.as_str()));
    assert_none("dependencies that lakefall-queue must not have", impure.map(|(name, _)| name.clone()).collect());
}

#[test]
fn each_exchangeable_library_is_used_in_one_crate_only() {
    let mut strays = Vec::new();
    for package in packages() {
        for (library, _) in package.dependencies.iter().filter(|(_, is_dev)| !is_dev) {
            let homes: Vec<&str> = HOMES.iter().filter(|(of, _)| of == library).map(|(_, home)| *home).collect();
            if !homes.is_empty() && !homes.contains(&package.name.as_str()) && package.name != SIMULATION {
                strays.push(format!("{} uses {library}, which is {}'s", package.name, homes.join(" and ")));
            }
        }
    }
    assert_none("libraries outside of their crate", strays);
}

#[test]
fn every_crate_obeys_the_lints_of_the_workspace() {
    let manifest = |package: &Package| std::fs::read_to_string(package.folder.join("Cargo.toml")).unwrap();
    let free: Vec<String> =
        packages().iter().filter(|p| !manifest(p).contains("[lints]\nworkspace = true")).map(|p| p.name.clone()).collect();
    let free: Vec<String> = free.into_iter().filter(|name| name != SIMULATION).collect();
    assert_none("crates without `[lints] workspace = true`", free);
    // It repeats them, but for one that cannot be made an exception of.
    let root = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let simulation = packages().into_iter().find(|p| p.name == SIMULATION).unwrap();
    let lints = |text: &str, of: &str| -> Vec<String> {
        let section = text.split_once(&format!("[{of}]\n")).map(|(_, rest)| rest.split("\n[").next().unwrap_or_default().to_owned());
        section
            .unwrap_or_default()
            .lines()
            .filter(|line| line.contains('=') && !line.starts_with("unsafe_code"))
            .map(str::to_owned)
            .collect()
    };
    for tool in ["rust", "clippy"] {
        let (of_all, own) = (lints(&root, &format!("workspace.lints.{tool}")), lints(&manifest(&simulation), &format!("lints.{tool}")));
        assert_eq!(of_all, own, "the lints of {SIMULATION} are not those of the workspace");
    }
}

#[test]
fn every_file_says_first_what_it_owns() {
    let silent = sources(|_| true).into_iter().filter(|(_, text)| !text.starts_with("//! "));
    assert_none("files that do not open with `//! `", silent.map(|(path, _)| path).collect());
}

#[test]
fn production_code_contains_nothing_forbidden_that_is_not_explained() {
    let mut found: BTreeMap<(String, &str), usize> = BTreeMap::new();
    for (path, text) in production() {
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for what in FORBIDDEN.iter().filter(|what| line.contains(**what)) {
                *found.entry((path.clone(), what)).or_default() += 1;
            }
        }
    }
    let explained: BTreeMap<(String, &str), usize> = EXPLAINED.iter().map(|(path, what, n, _)| (((*path).to_owned(), *what), *n)).collect();
    let places: BTreeSet<_> = found.keys().chain(explained.keys()).collect();
    let wrong = places.into_iter().filter(|place| found.get(place) != explained.get(place)).map(|place| {
        let count = |of: &BTreeMap<_, usize>| of.get(place).copied().unwrap_or_default();
        format!("{}: {} `{}`, explained in EXPLAINED: {}", place.0, count(&found), place.1, count(&explained))
    });
    assert_none("what production code must not contain", wrong.collect());
}

#[test]
fn every_expectation_of_a_lint_has_a_reason() {
    let mut bare = Vec::new();
    for (path, text) in production() {
        for (at, _) in text.match_indices("[expect(").chain(text.match_indices("[allow(")) {
            let attribute = text[at..].split(")]").next().unwrap_or_default();
            if !attribute.contains("reason = ") {
                bare.push(format!("{path}:{}", text[..at].lines().count()));
            }
        }
    }
    assert_none("lints that are silenced without a reason", bare);
}

#[test]
fn no_file_of_production_code_is_long() {
    let most = |path: &str| LONGER.iter().find(|(longer, ..)| *longer == path).map_or(LONGEST, |(_, lines, _)| *lines);
    let long = production().into_iter().map(|(path, text)| (text.lines().count(), path)).filter(|(lines, path)| *lines > most(path));
    assert_none("files that should be two", long.map(|(lines, path)| format!("{path}: {lines} lines, at most {}", most(&path))).collect());
}

fn assert_none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

/// Production code: what lies below a `src` that is not the tests' own, up to the file's tests.
fn production() -> Vec<(String, String)> {
    let is_production = |path: &str| {
        let mut folders = path.split('/');
        folders.clone().any(|folder| folder == "src") && !folders.any(|folder| folder == "tests" || folder.ends_with("tests.rs"))
    };
    let files = sources(is_production);
    assert!(files.len() > 50, "only {} files were found: has the layout changed?", files.len());
    files.into_iter().map(|(path, text)| (path, text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned())).collect()
}

/// The Rust files of the repository that `wanted` takes: paths from its root, with `/`, and their texts.
fn sources(wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let root = root();
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                // Build output and hidden folders hold nobody's code.
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                let relative = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
                if wanted(&relative) {
                    files.push((relative, std::fs::read_to_string(&path).unwrap()));
                }
            }
        }
    }
    files.sort();
    files
}
