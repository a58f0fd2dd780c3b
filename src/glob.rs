//! Globs over pond paths: `*`, `?`, `[a-z]`, `{a,b}` within a name, `**` for any number of names.
//!
//! A glob is a list of parts, one for each name, so that a walk decides name by name: a [`GlobState`]
//! says which parts a directory's path has used up, and [`GlobState::enter`] which of its
//! directories are worth opening. The common shapes of a name (`*.csv`, `data*`, `x`) are compared
//! without a regular expression: a walk asks for every entry.
//!
//! Braces that hold a `/` are expanded first. `**` is only special as a whole name; `[[]` is a
//! literal bracket.

use globset::{GlobBuilder, GlobMatcher};

use crate::error::{Error, Result};
use crate::path::{PondPath, is_glob};

/// The longest pattern.
const PATTERN_BYTES_MAX: usize = 8 * 1024;

/// Most patterns that the braces of one glob may stand for.
const ALTERNATIVES_MAX: usize = 1024;

/// A compiled glob over absolute pond paths.
#[derive(Debug, Clone)]
pub struct Glob {
    text: String,
    /// A path matches if it matches any of these.
    alternatives: Vec<Vec<Part>>,
}

#[derive(Debug, Clone)]
enum Part {
    /// `**`: any number of names, also none.
    AnyNames,
    Name {
        pattern: NamePattern,
        /// Whether it starts with a dot itself, and so means hidden names.
        dot: bool,
    },
}

#[derive(Debug, Clone)]
enum NamePattern {
    Any,
    Literal(String),
    Prefix(String),
    Suffix(String),
    Other(GlobMatcher),
}

/// How far into a glob the path of a directory leads: (alternative, next part), without those that
/// nothing can follow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GlobState(Vec<(u16, u16)>);

impl Glob {
    /// Compiles an absolute pattern.
    ///
    /// # Errors
    /// `Invalid` for a relative or malformed pattern.
    pub fn parse(pattern: &str) -> Result<Self> {
        if !pattern.starts_with('/') {
            return Err(Error::invalid(format!("the glob '{pattern}' is not absolute")));
        }
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a glob of {} bytes is too long: at most {PATTERN_BYTES_MAX} are possible",
                pattern.len()
            )));
        }
        let mut expanded = Vec::new();
        expand(pattern, &mut expanded)
            .map_err(|reason| Error::invalid(format!("the glob '{pattern}' {reason}")))?;
        let alternatives = expanded
            .iter()
            .map(|pattern| {
                let names = pattern.split('/').filter(|name| !name.is_empty());
                let parts: Vec<Part> = names.map(Part::parse).collect::<Result<_>>()?;
                if parts.len() > usize::from(u16::MAX) {
                    return Err(Error::invalid(format!("the glob '{pattern}' is too long")));
                }
                Ok(parts)
            })
            .collect::<Result<_>>()
            .map_err(|error| error.context(format!("the glob '{pattern}'")))?;
        Ok(Self { text: pattern.to_owned(), alternatives })
    }

    /// Returns the glob that also matches everything below what this one matches.
    #[must_use]
    pub fn or_below(mut self) -> Self {
        let below: Vec<Vec<Part>> = self
            .alternatives
            .iter()
            .filter(|parts| !matches!(parts.last(), Some(Part::AnyNames)))
            .map(|parts| parts.iter().cloned().chain([Part::AnyNames]).collect())
            .collect();
        self.alternatives.extend(below);
        self
    }

    /// Whether a whole path matches; names that start with a dot are like any other.
    pub fn is_match(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let Some((directory, name)) = path.rsplit_once('/') else { return false };
        self.state(directory).is_match(self, name, true)
    }

    /// Whether a path below the directory `path` can match.
    pub fn may_match_below(&self, path: &str) -> bool {
        !self.state(path).is_dead()
    }

    /// Returns the state of the directory `path`.
    pub fn state(&self, path: &str) -> GlobState {
        let mut state = GlobState::default();
        for alternative in 0..self.alternatives.len() {
            state.add(self, alternative, 0);
        }
        path.split('/')
            .filter(|name| !name.is_empty())
            .fold(state, |state, name| state.enter(self, name, true))
    }

    /// Returns the deepest directory that holds every match: the names before the first wildcard.
    pub fn base(&self) -> PondPath {
        let literals = |parts: &[Part]| -> Vec<String> {
            parts[..parts.len().saturating_sub(1)]
                .iter()
                .map_while(|part| match part {
                    Part::Name { pattern: NamePattern::Literal(name), .. } => Some(name.clone()),
                    _ => None,
                })
                .collect()
        };
        let mut all = self.alternatives.iter().map(|parts| literals(parts));
        let first = all.next().unwrap_or_default();
        let common = all.fold(first, |common, other| {
            let same = common.iter().zip(&other).take_while(|(a, b)| a == b).count();
            common[..same].to_vec()
        });
        common.iter().fold(PondPath::root(), |path, name| path.child(name))
    }

    /// Whether matches can lie more than one directory below [`Glob::base`].
    pub fn is_recursive(&self) -> bool {
        let depth = self.base().names().count();
        self.alternatives.iter().any(|parts| {
            parts.len() > depth + 1 || parts.iter().any(|part| matches!(part, Part::AnyNames))
        })
    }

    /// Returns the pattern.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn part(&self, (alternative, next): (u16, u16)) -> (&Part, bool) {
        let parts = &self.alternatives[usize::from(alternative)];
        let next = usize::from(next);
        (&parts[next], next + 1 == parts.len())
    }
}

impl GlobState {
    /// Whether nothing below the directory can match.
    pub fn is_dead(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the directory's child `name` matches. Wildcards match names that start with a dot
    /// only if `hidden`.
    pub fn is_match(&self, glob: &Glob, name: &str, hidden: bool) -> bool {
        self.0.iter().any(|at| {
            let (part, last) = glob.part(*at);
            last && part.is_match(name, hidden)
        })
    }

    /// Returns the state of the child directory `name`.
    #[must_use]
    pub fn enter(&self, glob: &Glob, name: &str, hidden: bool) -> GlobState {
        let mut state = GlobState::default();
        for at in &self.0 {
            let (part, _) = glob.part(*at);
            if part.is_match(name, hidden) {
                let stays = usize::from(matches!(part, Part::AnyNames));
                state.add(glob, usize::from(at.0), usize::from(at.1) + 1 - stays);
            }
        }
        state
    }

    /// Adds a position and what a `**` there also allows.
    fn add(&mut self, glob: &Glob, alternative: usize, next: usize) {
        let parts = &glob.alternatives[alternative];
        let narrow = |number: usize| u16::try_from(number).expect("parse bounds both");
        for (next, part) in parts.iter().enumerate().skip(next) {
            let at = (narrow(alternative), narrow(next));
            if !self.0.contains(&at) {
                self.0.push(at);
            }
            if !matches!(part, Part::AnyNames) {
                break;
            }
        }
    }
}

impl Part {
    fn parse(name: &str) -> Result<Self> {
        if name == "**" {
            return Ok(Self::AnyNames);
        }
        let pattern = match name.strip_prefix('*') {
            Some("") => NamePattern::Any,
            Some(suffix) if !is_glob(suffix) => NamePattern::Suffix(suffix.to_owned()),
            _ => match name.strip_suffix('*') {
                Some(prefix) if !is_glob(prefix) => NamePattern::Prefix(prefix.to_owned()),
                _ if !is_glob(name) => NamePattern::Literal(name.to_owned()),
                _ => NamePattern::Other(compile(name)?),
            },
        };
        Ok(Self::Name { pattern, dot: name.starts_with('.') })
    }

    fn is_match(&self, name: &str, hidden: bool) -> bool {
        let visible = hidden || !name.starts_with('.');
        match self {
            Self::AnyNames => visible,
            Self::Name { pattern, dot } => {
                let matches = match pattern {
                    NamePattern::Any => true,
                    NamePattern::Literal(text) => name == text,
                    NamePattern::Prefix(text) => name.starts_with(text.as_str()),
                    NamePattern::Suffix(text) => name.ends_with(text.as_str()),
                    NamePattern::Other(matcher) => matcher.is_match(name),
                };
                matches && (visible || *dot)
            }
        }
    }
}

fn compile(name: &str) -> Result<GlobMatcher> {
    GlobBuilder::new(name)
        .literal_separator(true)
        .backslash_escape(false)
        .empty_alternates(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| Error::invalid(error.kind().to_string()))
}

/// Replaces the first braces that hold a `/` by each of their alternatives, and so on, so that the
/// results can be split at each `/`.
fn expand(pattern: &str, into: &mut Vec<String>) -> Result<(), &'static str> {
    let bytes = pattern.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'[' => at = class_end(bytes, at).unwrap_or(at),
            b'{' => {
                let (end, commas) = brace_end(bytes, at).ok_or("has a '{' without its '}'")?;
                if pattern[at..end].contains('/') {
                    let mut start = at + 1;
                    for stop in commas.into_iter().chain([end]) {
                        let (head, tail) = (&pattern[..at], &pattern[end + 1..]);
                        expand(&format!("{head}{}{tail}", &pattern[start..stop]), into)?;
                        start = stop + 1;
                    }
                    return Ok(());
                }
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    if into.len() == ALTERNATIVES_MAX {
        return Err("stands for too many patterns");
    }
    into.push(pattern.to_owned());
    Ok(())
}

/// Returns where the character class that starts at `open` ends.
fn class_end(bytes: &[u8], open: usize) -> Option<usize> {
    let negated = usize::from(matches!(bytes.get(open + 1), Some(b'!' | b'^')));
    // A bracket that comes first is a member.
    let first = open + 1 + negated;
    (first + 1..bytes.len()).find(|at| bytes[*at] == b']')
}

/// Returns where the braces that start at `open` end, and their own commas.
fn brace_end(bytes: &[u8], open: usize) -> Option<(usize, Vec<usize>)> {
    let (mut depth, mut commas, mut at) = (0usize, Vec::new(), open);
    while at < bytes.len() {
        match bytes[at] {
            b'[' => at = class_end(bytes, at).unwrap_or(at),
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some((at, commas)),
            b'}' => depth -= 1,
            b',' if depth == 1 => commas.push(at),
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_paths() {
        for (pattern, path, expected) in [
            ("/a/*.csv", "/a/x.csv", true),
            ("/a/*.csv", "/a/b/x.csv", false),
            ("/a/**/*.csv", "/a/x.csv", true),
            ("/a/**/*.csv", "/a/b/c/x.csv", true),
            ("/a/**/*.csv", "/b/x.csv", false),
            ("/a/**", "/a", false),
            ("/a/**", "/a/b/c", true),
            ("/**", "/a", true),
            ("/**/c/**/*.x", "/a/c/b/c/d.x", true),
            ("/**/c/**/*.x", "/a/b/d.x", false),
            ("/a/{b,c}/?.t", "/a/c/1.t", true),
            ("/a/{b,c}/?.t", "/a/d/1.t", false),
            ("/a/{b/c,d}/x", "/a/b/c/x", true),
            ("/a/{b/c,d}/x", "/a/d/x", true),
            ("/a/{b/c,d}/x", "/a/b/x", false),
            ("/a/[a-c]1", "/a/b1", true),
            ("/a/[!a-c]1", "/a/b1", false),
            ("/a/x[[]1].csv", "/a/x[1].csv", true),
            ("/a/data*", "/a/data-1", true),
            ("/a/.*", "/a/.hidden", true),
        ] {
            let glob = Glob::parse(pattern).unwrap();
            assert_eq!(glob.is_match(path), expected, "{pattern} on {path}");
        }
        for pattern in ["a/*", "/a/[b", "/a/{b", "/a/{b/c,d"] {
            assert!(Glob::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn walks_know_where_matches_can_lie() {
        for (pattern, base, recursive) in [
            ("/a/b/*.csv", "/a/b", false),
            ("/a/*/c", "/a", true),
            ("/a/**/c", "/a", true),
            ("/*", "/", false),
            ("/a/{b/x,b/y}/*", "/a/b", true),
        ] {
            let glob = Glob::parse(pattern).unwrap();
            assert_eq!(glob.base().as_str(), base, "{pattern}");
            assert_eq!(glob.is_recursive(), recursive, "{pattern}");
        }
        let glob = Glob::parse("/a/*/c*/x").unwrap();
        for (path, expected) in
            [("/", true), ("/a", true), ("/b", false), ("/a/z/c1", true), ("/a/z/d", false)]
        {
            assert_eq!(glob.may_match_below(path), expected, "{path}");
        }
        assert!(!glob.may_match_below("/a/z/c1/x"), "its matches lie no deeper");
    }

    #[test]
    fn wildcards_pass_over_hidden_names_unless_asked() {
        let glob = Glob::parse("/a/**/*").unwrap();
        let state = glob.state("/a");
        assert!(!state.is_match(&glob, ".x", false));
        assert!(state.is_match(&glob, ".x", true));
        assert!(state.enter(&glob, ".git", false).is_dead());
        let dotted = Glob::parse("/a/.*").unwrap();
        assert!(dotted.state("/a").is_match(&dotted, ".x", false));
    }
}
