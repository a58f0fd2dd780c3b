//! What a pond may be used for: nothing but reading, which files of the host, how much memory, how long.
//!
//! A [`Policy`] is a plain value that a handle carries ([`crate::pond::Pond::restricted`]); whatever is
//! made over the handle, trees, edits, sessions, obeys it. It holds for what a statement or verb names,
//! not for the pond's own files: its directory, its cache, which reading may fill, and what the engine
//! spills to the system's directory for temporary files.
//!
//! # Invariants
//! - One way: policies meet in [`Policy::tighten`], whose result allows what both allow. There is no
//!   operation that allows more.
//! - Paths of the host are compared as the host resolves them: links are followed, `..` is walked, and
//!   what is not there yet counts as where it would be. A path that cannot be resolved is refused.
//! - A refusal is the same whether or not something is at the path.
//!
//! Who may change links on the host while a statement runs is not kept out by this; mounts keep them
//! out by themselves ([`crate::factory::hostmount`]).

mod deadline;

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
#[cfg(feature = "serve")]
pub(crate) use deadline::Interruptible;
pub use deadline::within;
pub(crate) use deadline::{Deadline, publish};

/// What a handle may be used for. The default allows everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Whether the pond may only be read. Nothing is committed, maintained or cleaned up then; the cache
    /// may still be filled.
    pub read_only: bool,
    /// Which files of the host may be named. Mounts that exist stay readable.
    pub host: Host,
    /// How many bytes the engine may hold of the rows of a session's statements.
    pub memory_limit: Option<u64>,
    /// How long a statement may take.
    pub timeout: Option<Duration>,
}

/// Which files of the host may be named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Host {
    /// All of them.
    #[default]
    Any,
    /// Those in and below these directories. They are canonical, as [`Host::only`] makes them; any
    /// other path allows nothing.
    Only(Vec<PathBuf>),
    /// None.
    None,
}

/// What is to be done with a file of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It is read, listed or mounted.
    Read,
    /// It is made or replaced.
    Write,
}

impl Host {
    /// Allows what is in and below `dirs`, which must be there.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `Io`; `Invalid` for what is no directory.
    pub fn only(dirs: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Self> {
        let canonical = |dir: &Path| {
            let real = dir
                .canonicalize()
                .map_err(|error| Error::io(format!("'{}'", dir.display()), error))?;
            match real.is_dir() {
                true => Ok(real),
                false => Err(Error::invalid(format!("'{}' is not a directory", dir.display()))),
            }
        };
        dirs.into_iter().map(|dir| canonical(dir.as_ref())).collect::<Result<_>>().map(Self::Only)
    }

    /// Returns what both allow.
    fn tighten(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, _) | (_, Self::None) => Self::None,
            (Self::Any, other) => other,
            (this, Self::Any) => this,
            (Self::Only(these), Self::Only(those)) => {
                let within = |dir: &PathBuf, dirs: &[PathBuf]| {
                    dirs.iter().any(|other| dir.starts_with(other))
                };
                let mut both: Vec<PathBuf> =
                    these.iter().filter(|dir| within(dir, &those)).cloned().collect();
                for dir in those {
                    if within(&dir, &these) && !both.contains(&dir) {
                        both.push(dir);
                    }
                }
                Self::Only(both)
            }
        }
    }
}

impl Policy {
    /// Returns what both allow: the stricter of each.
    #[must_use]
    pub fn tighten(self, other: Self) -> Self {
        fn least<T: Ord>(this: Option<T>, other: Option<T>) -> Option<T> {
            this.into_iter().chain(other).min()
        }
        Self {
            read_only: self.read_only || other.read_only,
            host: self.host.tighten(other.host),
            memory_limit: least(self.memory_limit, other.memory_limit),
            timeout: least(self.timeout, other.timeout),
        }
    }

    /// Refuses to change `what`: a path of the pond, or whatever else of it.
    ///
    /// # Errors
    /// `Refused` if the pond may only be read.
    pub fn check_write(&self, what: impl fmt::Display) -> Result<()> {
        if !self.read_only {
            return Ok(());
        }
        Err(Error::refused(format!("{what} cannot be changed: the policy is read-only")).with_hint(
            "it was chosen where the pond was opened (--read-only), and holds until the end",
        ))
    }

    /// Whether every file of the host may be named.
    pub fn allows_host(&self) -> bool {
        self.host == Host::Any
    }

    /// Refuses to open `path` of the host. A relative one counts from the working directory.
    ///
    /// # Errors
    /// `Refused`.
    pub fn check_host(&self, path: &Path, access: Access) -> Result<()> {
        let dirs = match &self.host {
            Host::Any => return Ok(()),
            Host::None => &[][..],
            Host::Only(dirs) => dirs,
        };
        // Without a directory to compare with, nothing of the host is looked at.
        let is_within = |real: PathBuf| dirs.iter().any(|dir| real.starts_with(dir));
        if !dirs.is_empty() && real_path(path, LINKS_MAX).is_some_and(is_within) {
            return Ok(());
        }
        Err(self.refuse_host(path.display(), access))
    }

    /// Makes the error of something that is outside of the pond and may not be opened: a path, a URL, a
    /// program.
    pub fn refuse_host(&self, what: impl fmt::Display, access: Access) -> Error {
        let verb = match access {
            Access::Read => "opened",
            Access::Write => "written",
        };
        match &self.host {
            Host::Only(dirs) if !dirs.is_empty() => {
                let dirs: Vec<String> =
                    dirs.iter().map(|dir| format!("'{}'", dir.display())).collect();
                Error::refused(format!(
                    "'{what}' cannot be {verb}: the policy allows files of the host below {} only",
                    dirs.join(" and ")
                ))
                .with_hint("--allow-host DIR, where the pond is opened, allows a directory")
            }
            _ => Error::refused(format!("'{what}' cannot be {verb}: the policy closes the host"))
                .with_hint(
                    "it was chosen where the pond was opened (--safe): what is mounted stays \
                     readable, and standard input and output are open",
                ),
        }
    }
}

/// Most links on the way to what is not there.
const LINKS_MAX: u32 = 40;

/// Returns where `path` leads, links followed, or would lead if what is missing were there; `None` if
/// that cannot be told.
fn real_path(path: &Path, links: u32) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    match path.canonicalize() {
        Ok(real) => return Some(real),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(_) => return None,
    }
    let parent = path.parent()?;
    if let Ok(target) = path.read_link() {
        return real_path(&parent.join(target), links.checked_sub(1)?);
    }
    // A `..` has no name: behind what is missing it leads nowhere.
    let name: &OsStr = path.file_name()?;
    Some(real_path(parent, links)?.join(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_meets_is_what_both_allow() {
        let only = |dirs: &[&str]| Host::Only(dirs.iter().map(PathBuf::from).collect());
        let cases = [
            (Host::Any, Host::Any, Host::Any),
            (Host::Any, Host::None, Host::None),
            (only(&["/a"]), Host::Any, only(&["/a"])),
            (only(&["/a"]), Host::None, Host::None),
            (only(&["/a", "/b/c"]), only(&["/a/x", "/b"]), only(&["/b/c", "/a/x"])),
            (only(&["/a"]), only(&["/a_evil", "/b"]), only(&[])),
            (only(&["/a"]), only(&["/a"]), only(&["/a"])),
        ];
        for (left, right, both) in cases {
            assert_eq!(left.clone().tighten(right.clone()), both, "{left:?} {right:?}");
        }
        let first = Policy { timeout: Some(Duration::from_secs(5)), ..Policy::default() };
        let second = Policy {
            read_only: true,
            timeout: Some(Duration::from_secs(9)),
            memory_limit: Some(7),
            ..Policy::default()
        };
        let both = first.clone().tighten(second.clone());
        assert_eq!(both, second.clone().tighten(first.clone()));
        assert_eq!(
            (both.read_only, both.timeout, both.memory_limit),
            (true, first.timeout, Some(7))
        );
    }

    #[test]
    fn a_path_counts_as_what_the_host_makes_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        for name in ["data/below", "data_evil", "other"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        std::fs::write(dir.join("other/file"), "").unwrap();
        symlink(dir.join("data"), dir.join("link")).unwrap();
        symlink(dir.join("other"), dir.join("data/out")).unwrap();
        symlink("../other/not_yet", dir.join("data/dangling")).unwrap();
        symlink("below/not_yet", dir.join("data/dangling_within")).unwrap();
        symlink("loop", dir.join("data/loop")).unwrap();
        let host = Host::only([dir.join("link")]).unwrap();
        assert_eq!(host, Host::Only(vec![dir.join("data")]));
        let policy = Policy { host, ..Policy::default() };
        let allowed = |path: &str| {
            let checked = policy.check_host(&dir.join(path), Access::Write);
            if let Err(error) = &checked {
                assert_eq!(error.kind(), ErrorKind::Refused);
            }
            checked.is_ok()
        };
        for path in [
            "data",
            "data/",
            "data/new",
            "data/new/newer",
            "data/below/../new",
            "link/new",
            "other/../data/new",
            "data/dangling_within",
            "data/..data",
        ] {
            assert!(allowed(path), "{path}");
        }
        for path in [
            "",
            "other",
            "other/file",
            "data_evil",
            "data_evil/new",
            "data/../other",
            "data/../data_evil/new",
            "data/out",
            "data/out/file",
            "data/out/new",
            "data/out/../data_evil",
            "data/dangling",
            "data/new/../../other",
            "data/loop",
            "data/loop/x",
        ] {
            assert!(!allowed(path), "{path}");
        }
        assert!(Host::only([dir.join("other/file")]).is_err());
        assert!(Host::only([dir.join("none")]).is_err());
    }
}
