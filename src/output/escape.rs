//! Keeps what is data from being commands to a terminal.
//!
//! Three kinds of characters are a danger there: control characters (C0, DEL, C1) move the cursor
//! and more; those that change the direction of text make it read as what it is not
//! (CVE-2021-42574, "Trojan Source"); and those that are not seen at all. Each is written as its
//! number, `\u{1b}`. Letters of scripts that run from right to left stay: [`isolate`] keeps them
//! from moving what is beside them.

use std::borrow::Cow;

/// Returns `text` with control characters as `\n`, `\t` or `\u{1b}`, so that no value can move the
/// cursor or break a line; so are those that change the direction of text, or are not seen.
pub fn escape_controls(text: &str) -> String {
    escape(text, |_| false).into_owned()
}

/// As [`escape_controls`], of a text of lines: `keep` tells which characters stay.
pub(super) fn escape(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    escape_with(text, |character, escaped| {
        if !is_unsafe(character) || keep(character) {
            return false;
        }
        escaped.extend(character.escape_default());
        true
    })
}

/// As [`escape`], of JSON with line ends between its values: the text means what it meant.
pub(super) fn escape_json(text: &str) -> Cow<'_, str> {
    escape_with(text, |character, escaped| {
        if !is_unsafe(character) || character == '\n' {
            return false;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            escaped.push_str(&format!("\\u{unit:04x}"));
        }
        true
    })
}

/// `write` appends what stands for a character, or returns false for one that stays.
fn escape_with(text: &str, write: impl Fn(char, &mut String) -> bool) -> Cow<'_, str> {
    // Most texts are of bytes that need no look at their characters.
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if !write(character, &mut escaped) {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// Whether a character is not to reach a terminal.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            // The direction of text.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
            // Not seen, or of a width on which terminals do not agree; but the joiners of scripts
            // and emoji stay.
            | '\u{ad}' | '\u{180e}' | '\u{200b}' | '\u{2028}' | '\u{2029}'
            | '\u{2060}'..='\u{2065}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
        )
}

/// Keeps a text that runs from right to left apart from what is on the same line: a mark of the
/// direction of the line on both sides. It is not seen and takes no room.
pub(super) fn isolate(text: String) -> String {
    const MARK: char = '\u{200e}';
    let is_rtl = |character| {
        matches!(
            character,
            '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefe}'
            | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}'
        )
    };
    match text.contains(is_rtl) {
        true => format!("{MARK}{text}{MARK}"),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_danger_is_told_by_its_number() {
        assert_eq!(
            escape_controls("a\u{1b}[31m\r\n\u{7f}\u{9b}\u{202e}b\u{2066}\u{feff}é👩\u{200d}🚀"),
            "a\\u{1b}[31m\\r\\n\\u{7f}\\u{9b}\\u{202e}b\\u{2066}\\u{feff}é👩\u{200d}🚀"
        );
        assert_eq!(escape("a\tb\nc", |kept| kept == '\n'), "a\\tb\nc");
        assert_eq!(
            escape_json("{\"a\":\"\u{7f}\u{202e}\u{e0041}é\"}\n"),
            "{\"a\":\"\\u007f\\u202e\\udb40\\udc41é\"}\n"
        );
        assert_eq!(isolate("abc".to_owned()), "abc");
        assert_eq!(isolate("שלום".to_owned()), "\u{200e}שלום\u{200e}");
    }
}
