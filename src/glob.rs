//! Globs over pond paths: `*`, `?`, `[a-z]`, `{a,b}` within a name, `**` for any number of names.

use globset::{GlobBuilder, GlobMatcher};

use crate::error::{Error, Result};
use crate::path::{PondPath, is_glob};

/// A compiled glob over absolute pond paths.
#[derive(Debug, Clone)]
pub struct Glob {
    text: String,
    whole: GlobMatcher,
    /// Matchers of the leading names, up to the first `**`.
    heads: Vec<GlobMatcher>,
    /// Whether names beyond `heads` are unbounded, because a `**` follows.
    deep: bool,
}

impl Glob {
    /// Compiles an absolute pattern.
    ///
    /// # Errors
    /// `Invalid` for a relative or malformed pattern.
    pub fn parse(pattern: &str) -> Result<Self> {
        if !pattern.starts_with('/') {
            return Err(Error::invalid(format!("the glob '{pattern}' is not absolute")));
        }
        let mut heads = Vec::new();
        let mut deep = false;
        for name in split_names(pattern) {
            if name.contains("**") {
                deep = true;
                break;
            }
            heads.push(compile(name)?);
        }
        Ok(Self { text: pattern.to_owned(), whole: compile(pattern)?, heads, deep })
    }

    /// Whether a whole path matches.
    pub fn is_match(&self, path: &str) -> bool {
        self.whole.is_match(path)
    }

    /// Whether a path below the directory `path` can match.
    pub fn may_match_below(&self, path: &str) -> bool {
        let names = path.split('/').filter(|name| !name.is_empty());
        let mut depth = 0;
        for name in names {
            match self.heads.get(depth) {
                Some(head) if !head.is_match(name) => return false,
                Some(_) => depth += 1,
                None => return self.deep,
            }
        }
        depth < self.heads.len() || self.deep
    }

    /// Returns the deepest directory that holds every match: the names before the first wildcard.
    pub fn base(&self) -> PondPath {
        let names = split_names(&self.text);
        let literal =
            names.iter().take(names.len().saturating_sub(1)).take_while(|name| !is_glob(name));
        literal.fold(PondPath::root(), |path, name| path.child(name))
    }

    /// Whether matches can lie more than one directory below [`Glob::base`].
    pub fn is_recursive(&self) -> bool {
        self.deep || self.heads.len() > self.base().names().count() + 1
    }

    /// Returns the pattern.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn compile(pattern: &str) -> Result<GlobMatcher> {
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .backslash_escape(false)
        .empty_alternates(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| Error::invalid(format!("the glob '{pattern}'")).with_source(error))
}

/// Splits at each `/` that is not within braces or brackets.
fn split_names(pattern: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let (mut start, mut braces, mut brackets) = (0, 0usize, 0usize);
    for (at, byte) in pattern.bytes().enumerate() {
        match byte {
            b'{' => braces += 1,
            b'}' => braces = braces.saturating_sub(1),
            b'[' => brackets += 1,
            b']' => brackets = brackets.saturating_sub(1),
            b'/' if braces == 0 && brackets == 0 => {
                names.push(&pattern[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    names.push(&pattern[start..]);
    names.retain(|name| !name.is_empty());
    names
}
