//! The manual of the configuration, docs/configuration.md, made of what the settings' types say of themselves. A test, which
//! fails when the page is not what they say.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Config, bounds};
use crate::live;

const BEGIN: &str = include_str!("manual.md");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
const SOURCES: [&str; 6] = [
    include_str!("mod.rs"),
    include_str!("sections.rs"),
    include_str!("metadata.rs"),
    include_str!("telemetry.rs"),
    include_str!("catalog.rs"),
    include_str!("../../../queue/src/limits.rs"),
];

/// A struct of settings as it stands in the source.
struct Section {
    says: String,
    /// Name, type, what it says.
    fields: Vec<(String, String, String)>,
}

/// All structs of a source by name. The sources are formatted: a field stands on one line, an end at a line's begin.
fn sections(source: &str) -> BTreeMap<String, Section> {
    let mut found = BTreeMap::new();
    let (mut says, mut open): (Vec<&str>, Option<(String, Section)>) = (Vec::new(), None);
    for line in source.lines() {
        let text = line.trim_start();
        if let Some(sentence) = text.strip_prefix("///") {
            says.push(sentence.trim());
        } else if let Some(name) = text.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(" {")) {
            open = Some((name.to_owned(), Section { says: says.join(" "), fields: Vec::new() }));
            says.clear();
        } else if line == "}" {
            found.extend(open.take());
        } else if let (Some((_, section)), Some((name, of_type))) =
            (&mut open, text.strip_prefix("pub ").and_then(|rest| rest.strip_suffix(',')?.split_once(": ")))
        {
            section.fields.push((name.to_owned(), of_type.to_owned(), says.join(" ")));
            says.clear();
        } else if !text.starts_with("#[") {
            says.clear();
        }
    }
    found
}

/// The words of each enum of a source, in kebab case as they are written in a configuration, ready for a cell.
fn words(source: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open: Option<(String, Vec<String>)> = None;
    for line in source.lines() {
        let text = line.trim();
        if let Some(name) = text.strip_prefix("pub enum ").and_then(|rest| rest.strip_suffix(" {")) {
            open = Some((name.to_owned(), Vec::new()));
        } else if line == "}" {
            found.extend(open.take().map(|(name, words)| (name, words.join(", "))));
        } else if let (Some((_, words)), Some(variant)) = (&mut open, text.strip_suffix(','))
            && variant.chars().all(char::is_alphabetic)
        {
            let mut word = String::new();
            for letter in variant.chars() {
                if letter.is_uppercase() && !word.is_empty() {
                    word.push('-');
                }
                word.extend(letter.to_lowercase());
            }
            words.push(format!("`{word}`"));
        }
    }
    found
}

fn default_of(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "none".into(),
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) if items.is_empty() => "none".into(),
        other => other.to_string(),
    }
}

/// A number as people read it: 600,000.
fn spaced(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `8 MiB`, `1,000 ms`, `64 KiB` as a number.
fn number(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_once(' ').unwrap_or((text, ""));
    let shift = match unit {
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => 0,
    };
    Some(digits.replace(',', "").parse::<u64>().ok()? << shift)
}

/// The bounds that a description ends with: `0.01 to 10,000`, `1 KiB to 64 MiB`.
fn told_bounds(says: &str) -> Option<&str> {
    let says = says.strip_suffix('.')?;
    // A point within a number is no end of a sentence.
    let last = says.rsplit_once(". ").map_or(says, |(_, sentence)| sentence);
    let told = last.rsplit_once("; ").map_or(last, |(_, told)| told);
    let (low, high) = told.split_once(" to ")?;
    let is_number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains(", ");
    (is_number(low) && is_number(high)).then_some(told)
}

/// What a description says beyond default and bounds, which have columns of their own.
fn meaning(says: &str) -> &str {
    let Some((before, tail)) = says.rsplit_once("Default ").filter(|(before, _)| !before.is_empty()) else { return says };
    let says_more = match tail.split_once("; ") {
        Some((_, more)) => told_bounds(says).is_none_or(|bounds| more.trim_end_matches('.') != bounds),
        None => false,
    };
    if says_more || [": ", ". ", ", "].iter().any(|more| tail.contains(more)) { says } else { before.trim_end() }
}

/// What a setting may be. Other tools read this column: numbers are written out, and words stand in backticks.
fn allowed(key: &str, of_type: &str, says: &str, known: &Known) -> String {
    if let Some((low, high)) = known.ranges.get(key) {
        return format!("{} to {}", spaced(*low), spaced(*high));
    }
    let bare = of_type.strip_prefix("Option<").and_then(|inner| inner.strip_suffix('>')).unwrap_or(of_type);
    let named = match bare {
        "bool" => "true, false",
        "SocketAddr" => "address:port",
        "PathBuf" => "a path",
        "Vec<String>" => "a list",
        "Secret<String>" => "text, never shown",
        "Vec<Secret<String>>" => "a list, never shown",
        "String" => "text",
        _ => "",
    };
    if !named.is_empty() {
        return named.to_owned();
    }
    if let Some(words) = known.words.get(bare) {
        return words.clone();
    }
    let told = told_bounds(says).and_then(|told| told.split_once(" to "));
    let (low, high) = told.unwrap_or_else(|| panic!("{key} is a {of_type} and does not end with its bounds: {says}"));
    match (number(low), number(high)) {
        (Some(low), Some(high)) => format!("{} to {}", spaced(low), spaced(high)),
        // 0.01 to 10,000.
        _ => format!("{low} to {high}"),
    }
}

/// What is known of settings beside what they say.
struct Known {
    ranges: BTreeMap<&'static str, (u64, u64)>,
    words: BTreeMap<String, String>,
}

struct Writer {
    sections: BTreeMap<String, Section>,
    known: Known,
    page: String,
}

impl Writer {
    /// The settings of a struct as a table, then those of the structs in it.
    fn section(&mut self, of_type: &str, prefix: &str, heading: &str, value: &serde_json::Value) {
        let section = self.sections.remove(of_type).unwrap();
        let (nested, plain): (Vec<_>, Vec<_>) =
            section.fields.into_iter().partition(|(_, of_type, _)| self.sections.contains_key(of_type.as_str()));
        let key = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
        let says = if prefix.is_empty() { String::new() } else { format!("{}\n\n", section.says) };
        write!(self.page, "\n{heading}\n\n{says}| key | default | allowed | meaning |\n|---|---|---|---|\n").unwrap();
        for (name, of_type, says) in plain {
            let key = key(&name);
            let cell = |text: &str| text.replace('|', "\\|");
            let (default, allowed) = (default_of(&value[&name]), allowed(&key, &of_type, &says, &self.known));
            assert!(!says.is_empty(), "{key} says nothing of itself");
            let changes = if live::CHANGING.contains(&key.as_str()) { " *Changes while the process runs.*" } else { "" };
            writeln!(self.page, "| `{key}` | `{default}` | {allowed} | {}{changes} |", cell(meaning(&says))).unwrap();
        }
        for (name, of_type, _) in nested {
            let inner = key(&name);
            let heading = if prefix.is_empty() { format!("## {inner}") } else { format!("### {inner}") };
            self.section(&of_type, &inner, &heading, &value[&name]);
        }
    }
}

fn page() -> String {
    let ranges = bounds::ranges(&Config::default()).into_iter().map(|(key, _, low, high)| (key, (low, high))).collect();
    let sections = SOURCES.into_iter().flat_map(sections).collect();
    let known = Known { ranges, words: SOURCES.into_iter().flat_map(words).collect() };
    let mut writer = Writer { sections, known, page: BEGIN.to_owned() };
    writer.section("Config", "", "## General", &serde_json::to_value(Config::default()).unwrap());
    writer.page
}

#[test]
fn the_manual_says_what_the_settings_say() {
    let made = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, made).unwrap();
        return;
    }
    let there = std::fs::read_to_string(PAGE).unwrap();
    assert!(
        there == made,
        "docs/configuration.md is not what the settings say: write it with UPDATE_DOCS=1 cargo test -p lakefall-service"
    );
}

/// Key and default of every setting that can be printed.
fn settings(prefix: &str, value: &serde_json::Value, found: &mut Vec<String>) {
    let Some(fields) = value.as_object() else {
        found.push(format!("| `{prefix}` | `{}` |", default_of(value)));
        return;
    };
    for (name, value) in fields {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        settings(&key, value, found);
    }
}

#[test]
fn every_setting_stands_in_the_manual_once_with_its_default() {
    let made = page();
    let mut expected = Vec::new();
    settings("", &serde_json::to_value(Config::default()).unwrap(), &mut expected);
    let missing: Vec<_> = expected.iter().filter(|row| made.matches(row.as_str()).count() != 1).collect();
    assert!(missing.is_empty(), "not there, or more than once:\n{missing:#?}");
    assert_eq!(made.lines().filter(|line| line.starts_with("| `")).count(), expected.len());
}

#[test]
fn every_setting_that_changes_while_the_process_runs_is_marked() {
    let marked: Vec<String> = page()
        .lines()
        .filter(|line| line.ends_with("*Changes while the process runs.* |"))
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .collect();
    let mut expected: Vec<String> = live::CHANGING.map(str::to_owned).to_vec();
    let mut found = marked.clone();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn every_setting_that_is_not_shown_is_told_of_when_it_changes() {
    let default = Config::default();
    let told = live::secrets(&default, &default).map(|(key, _)| key);
    let page = page();
    let never_shown: Vec<&str> = page
        .lines()
        .filter(|line| line.contains("| text, never shown |") || line.contains("| a list, never shown |"))
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0))
        .collect();
    assert!(never_shown.iter().all(|key| told.contains(key)), "{never_shown:?}");
    // URLs are shown without their passwords.
    let urls: usize = SOURCES.iter().map(|source| source.matches("serialize_with = \"serialize_url\"").count()).sum();
    assert_eq!(never_shown.len() + urls, told.len());
}

#[test]
fn bounds_that_a_setting_tells_of_are_those_that_are_enforced() {
    let ranges: BTreeMap<_, _> = bounds::ranges(&Config::default()).into_iter().map(|(key, _, low, high)| (key, (low, high))).collect();
    let sections: BTreeMap<String, Section> = SOURCES.into_iter().flat_map(sections).collect();
    let mut judged = 0;
    for (name, of_type, _) in &sections["Config"].fields {
        let Some(section) = sections.get(of_type) else { continue };
        for (field, _, says) in &section.fields {
            let key = format!("{name}.{field}");
            let (Some((low, high)), Some(told)) = (ranges.get(key.as_str()), told_bounds(says)) else { continue };
            let (least, most) = told.split_once(" to ").unwrap();
            let (Some(least), Some(most)) = (number(least), number(most)) else { continue };
            assert_eq!((least, most), (*low, *high), "{key} says {told}");
            judged += 1;
        }
    }
    assert!(judged >= 25, "only {judged} bounds were found: has the way they are told changed?");
}

#[test]
fn what_a_description_ends_with_is_taken_for_bounds_only_if_it_is() {
    assert_eq!(told_bounds("Most. Default 2; 1 to 100."), Some("1 to 100"));
    assert_eq!(told_bounds("Rate. Default none: 10 on `s3`. 0.01 to 10,000."), Some("0.01 to 10,000"));
    assert_eq!(told_bounds("Largest. 1 KiB to 64 MiB."), Some("1 KiB to 64 MiB"));
    assert_eq!(told_bounds("Where to go to."), None);
    assert_eq!(told_bounds("At once. Default 2; 1 to `uploads.max`."), None);
    assert_eq!(meaning("Most. Default 2; 1 to 100."), "Most.");
    assert_eq!(meaning("Room. Default 2; 1 to 100, at least `x`."), "Room. Default 2; 1 to 100, at least `x`.");
    assert_eq!(meaning("Ledgers. Default 16, in dev 1; 1 to 1,024."), "Ledgers. Default 16, in dev 1; 1 to 1,024.");
    assert_eq!(meaning("The region. Default none: the store's own."), "The region. Default none: the store's own.");
}
