//! Pond paths: absolute, normalized, UTF-8, parsed once and then trusted.
//!
//! `PondPath::parse` collapses `//` and resolves `.` and `..` by the text alone, so no path ever
//! leaves the root. A name is any UTF-8 text but `.`, `..`, the empty text, `/` and NUL, at most
//! [`NAME_BYTES_MAX`] bytes.
//!
//! Host names are bytes. [`escape_name`] turns each byte that is not part of valid UTF-8 into
//! `\xHH`, and a backslash that would read as such an escape into `\x5c`; [`unescape_name`] is its
//! inverse and accepts only what it prints, so one file has exactly one name.

use std::fmt;

use crate::error::{Error, Result};

/// The longest name: 255 bytes on the host, each perhaps escaped to four.
pub const NAME_BYTES_MAX: usize = 4 * 255;

/// The most names in a path of a stored node.
pub const DEPTH_MAX: usize = 1000;

/// An absolute, normalized path in a pond; the root is `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PondPath(String);

impl PondPath {
    /// Returns `/`.
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// Parses an absolute path.
    ///
    /// # Errors
    /// `Invalid` for a relative path and for a name that no node can have.
    pub fn parse(text: &str) -> Result<Self> {
        if !text.starts_with('/') {
            return Err(Error::invalid(format!("'{text}' is not an absolute path"))
                .with_hint(format!("pond paths start with '/': '/{text}'")));
        }
        Self::root().join(text)
    }

    /// Parses `text` against `self`: an absolute text replaces it, a relative one extends it.
    pub fn join(&self, text: &str) -> Result<Self> {
        let mut parts: Vec<&str> =
            if text.starts_with('/') { Vec::new() } else { self.names().collect() };
        for name in text.split('/') {
            match name {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                name => {
                    check_name(name)?;
                    parts.push(name);
                }
            }
        }
        Ok(Self(format!("/{}", parts.join("/"))))
    }

    /// Returns the path of the child `name`, which must be a checked name.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        debug_assert!(check_name(name).is_ok());
        if self.is_root() { Self(format!("/{name}")) } else { Self(format!("{}/{name}", self.0)) }
    }

    /// Returns `below` as a path below `self`: `/a/b` for `/a` and `/b`.
    #[must_use]
    pub fn append(&self, below: &PondPath) -> Self {
        match (self.is_root(), below.is_root()) {
            (true, _) => below.clone(),
            (_, true) => self.clone(),
            _ => Self(format!("{}{}", self.0, below.0)),
        }
    }

    /// Returns the parent directory and the last name, or `None` for the root.
    pub fn split(&self) -> Option<(PondPath, &str)> {
        let (parent, name) = self.0.rsplit_once('/')?;
        if name.is_empty() {
            return None;
        }
        let parent = if parent.is_empty() { Self::root() } else { Self(parent.to_owned()) };
        Some((parent, name))
    }

    /// Returns the last name, or `/` for the root.
    pub fn name(&self) -> &str {
        match self.0.rsplit_once('/') {
            Some((_, name)) if !name.is_empty() => name,
            _ => "/",
        }
    }

    /// Iterates over the names from the root down.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|name| !name.is_empty())
    }

    /// Whether this is `/`.
    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }

    /// Whether `self` is `other` or lies below it.
    pub fn starts_with(&self, other: &PondPath) -> bool {
        other.is_root()
            || self.0 == other.0
            || (self.0.starts_with(&other.0) && self.0.as_bytes()[other.0.len()] == b'/')
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PondPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for PondPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Checks that a node can be called `name`.
pub fn check_name(name: &str) -> Result<()> {
    let reason = if name.is_empty() {
        "is empty"
    } else if name == "." || name == ".." {
        "is reserved"
    } else if name.contains('/') {
        "contains '/'"
    } else if name.contains('\0') {
        "contains a NUL byte"
    } else if name.len() > NAME_BYTES_MAX {
        "is too long"
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("the name {name:?} {reason}")))
}

/// Whether `text` holds a glob character: `*`, `?`, `[` or `{`.
pub fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// Returns the pond name of a host name: the same text, with bytes that are not UTF-8 as `\xHH`.
pub fn escape_name(bytes: &[u8]) -> String {
    let mut name = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(at) = rest.find("\\x") {
            let is_escape =
                rest.as_bytes()[at + 2..].iter().take(2).filter(|b| b.is_ascii_hexdigit()).count()
                    == 2;
            name.push_str(&rest[..at]);
            name.push_str(if is_escape { "\\x5c" } else { "\\" });
            rest = &rest[at + 1..];
        }
        name.push_str(rest);
        for byte in chunk.invalid() {
            name.push_str(&format!("\\x{byte:02x}"));
        }
    }
    name
}

/// Returns the host name of a pond name, or `None` if [`escape_name`] never prints it.
pub fn unescape_name(name: &str) -> Option<Vec<u8>> {
    if !name.contains("\\x") {
        return Some(name.as_bytes().to_vec());
    }
    let text = name.as_bytes();
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        if let [b'\\', b'x', high, low, ..] = text[at..]
            && let (Some(high), Some(low)) = (hex_digit(high), hex_digit(low))
        {
            bytes.push(high << 4 | low);
            at += 4;
        } else {
            bytes.push(text[at]);
            at += 1;
        }
    }
    (escape_name(&bytes) == name).then_some(bytes)
}

/// Returns what a name, or the target of a link, is on a host: what came from one gets its bytes back.
pub fn host_bytes(text: &str) -> Vec<u8> {
    unescape_name(text).unwrap_or_else(|| text.as_bytes().to_vec())
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_normalized_by_text_and_never_leave_the_root() {
        for (text, expected) in
            [("/", "/"), ("//a///b/", "/a/b"), ("/a/./b/../c", "/a/c"), ("/../../etc", "/etc")]
        {
            assert_eq!(PondPath::parse(text).unwrap().as_str(), expected);
        }
        assert!(PondPath::parse("a").is_err());
        assert!(PondPath::parse("/a\0b").is_err());
        assert!(PondPath::parse("/ab").unwrap().starts_with(&PondPath::parse("/ab").unwrap()));
        assert!(!PondPath::parse("/ab").unwrap().starts_with(&PondPath::parse("/a").unwrap()));
    }

    proptest! {
        #[test]
        fn host_names_survive_escaping(bytes in proptest::collection::vec(any::<u8>(), 1..24)) {
            prop_assert_eq!(unescape_name(&escape_name(&bytes)), Some(bytes));
        }

        #[test]
        fn one_file_has_one_name(name in r"(\\|x|[0-9a-fA-F]|é){1,10}") {
            if let Some(bytes) = unescape_name(&name) {
                prop_assert_eq!(escape_name(&bytes), name);
            }
        }
    }
}
