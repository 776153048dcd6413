//! Text that may hold anything: PostgreSQL's cannot hold the character of code zero. It is written `\0`, and a backslash
//! `\\`; all else stays as it is, and readable.

/// As it is stored.
pub(super) fn stored(text: &str) -> String {
    if text.bytes().any(|byte| byte == b'\\' || byte == 0) { text.replace('\\', r"\\").replace('\0', r"\0") } else { text.to_owned() }
}

/// As it was.
pub(super) fn original(stored: String) -> String {
    if !stored.contains('\\') {
        return stored;
    }
    let mut text = String::with_capacity(stored.len());
    let mut rest = stored.chars();
    while let Some(next) = rest.next() {
        match next {
            '\\' => text.push(if rest.next() == Some('0') { '\0' } else { '\\' }),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_stored_without_the_zero_character_and_comes_back() {
        for text in ["", "plain ü 🔑", "\0", "\\", "\\0", "\\\\0\0", "a\\b\0c\\", "\0\0\\\\"] {
            assert!(!stored(text).contains('\0'), "{text:?}");
            assert_eq!(original(stored(text)), text);
        }
        assert_eq!(stored("a\0b\\c"), r"a\0b\\c");
    }
}
