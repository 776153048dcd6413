//! Where inputs lie: seeds in `fuzz/corpus/<target>`, inputs that once broke something in `fuzz/regressions/<target>`; and words of
//! the formats in `fuzz/dictionaries`, as libFuzzer reads them.

use std::path::{Path, PathBuf};

/// `fuzz/` at the root of the repository.
fn folder(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(kind).join(target)
}

/// Seeds of a target.
pub fn corpus(target: &str) -> PathBuf {
    folder("corpus", target)
}

/// Inputs that broke a promise once.
pub fn regressions(target: &str) -> PathBuf {
    folder("regressions", target)
}

/// The files of a folder in the order of their names; none if it is not there.
pub fn read_all(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Writes a file, and the folders above it.
pub fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, bytes)
}

/// The words of a target's format; none where it has no dictionary. Lines are words in quotes, in which `\\`, `\"` and `\xAB` are
/// escapes, and comments after `#` (<https://llvm.org/docs/LibFuzzer.html#dictionaries>).
pub fn dictionary(target: &str) -> Vec<Vec<u8>> {
    let path = folder("dictionaries", &format!("{target}.dict"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| unquoted(line).unwrap_or_else(|| panic!("{target}.dict: {line} is no word in quotes"))).collect()
}

fn unquoted(line: &str) -> Option<Vec<u8>> {
    let mut rest = line.strip_prefix('"')?.strip_suffix('"')?.bytes();
    let mut word = Vec::new();
    while let Some(byte) = rest.next() {
        word.push(match byte {
            b'\\' => match rest.next()? {
                b'x' => u8::from_str_radix(std::str::from_utf8(&[rest.next()?, rest.next()?]).ok()?, 16).ok()?,
                escaped => escaped,
            },
            byte => byte,
        });
    }
    Some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_with_their_escapes() {
        assert_eq!(unquoted(r#""a\\b\"\x0a\xff""#), Some(b"a\\b\"\n\xff".to_vec()));
        assert_eq!(unquoted("a"), None);
        assert_eq!(unquoted(r#""\x0"#), None);
    }
}
