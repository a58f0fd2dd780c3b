//! hostmount: shows a host directory live and strictly read-only.
//!
//! # Model
//! Opening the node opens a handle of the directory. Everything below is reached from that handle by
//! single names (`openat` with `O_NOFOLLOW`), never by joining paths; only a symbolic link is
//! resolved by the kernel, beneath the handle (`openat2` with `RESOLVE_BENEATH`). So no name, link,
//! or swap of one for the other, leads out of the directory:
//! - `dir.rs`: the directories and files, one name at a time;
//! - `walk.rs`: the listing of a whole tree, for `ls()`;
//! - `store.rs`: the bytes of tables, for the engine to scan.
//!
//! # Invariants
//! - Nothing is ever opened for writing, and nothing but directories and regular files is opened.
//! - A link that leaves the mount is listed as a link. Opening it is an error that says where it
//!   leads, and nothing about what is there.
//! - Names are the host's; bytes that are not UTF-8 are escaped without loss
//!   ([`crate::path::escape_name`]).
//! - A file cut short while it is read is an error, never fewer bytes.
//!
//! What a [policy](crate::policy::Policy) says of the host holds when a mount is made or altered, not
//! when it is read: who made it could.
//!
//! What other file systems are mounted inside the directory is part of it, as the host shows it.

mod dir;
mod store;
mod walk;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

use super::{Config, CreateContext, Factory, OpenContext, OptionKind, OptionSpec};
use crate::entry::EntryType;
use crate::error::{Error, ErrorKind, Result, did_you_mean};
use crate::node::Node;
use crate::path::{PondPath, escape_name};
use crate::policy::{Access, Policy};
use dir::HostDirectory;

/// The factory.
#[derive(Debug)]
pub struct Hostmount;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostmountConfig {
    directory: String,
}

#[async_trait]
impl Factory for Hostmount {
    fn name(&self) -> &'static str {
        "hostmount"
    }

    fn description(&self) -> &'static str {
        "a host directory, live and read-only"
    }

    fn options(&self) -> &'static [OptionSpec] {
        &[OptionSpec {
            name: "directory",
            kind: OptionKind::HostDirectory,
            required: true,
            default: None,
            doc: "the host directory to show",
        }]
    }

    fn entry_type(&self, _config: &Config) -> EntryType {
        EntryType::Directory
    }

    async fn prepare(&self, config: Config, cx: &CreateContext) -> Result<Config> {
        let HostmountConfig { directory } = config.parse()?;
        let cx = cx.clone();
        let directory = blocking(move || {
            let directory = absolute(&directory, cx.base_dir.as_deref())?;
            cx.policy.check_host(&directory, Access::Read)?;
            check_directory(&directory)?;
            if let Some(pond) = &cx.pond_dir {
                check_apart(&directory, pond)?;
            }
            Ok(directory)
        })
        .await?;
        let text = directory.into_os_string().into_string().map_err(|directory| {
            Error::invalid(format!("the host directory {directory:?} is not valid UTF-8"))
                .with_hint("mount the directory above it")
        })?;
        Ok(config.with("directory", text))
    }

    async fn open(&self, config: &Config, cx: &OpenContext) -> Result<Node> {
        let HostmountConfig { directory } = config.parse()?;
        let path = cx.path.clone();
        let root = blocking(move || HostDirectory::open_mount(path, directory.into())).await?;
        Ok(Node::Directory(Arc::new(root)))
    }
}

/// Opens a file or a directory of the host as the nodes of a mount are opened, without a mount: to
/// copy from it. A link is followed. Errors name it by its path on the host.
///
/// # Errors
/// `Refused` by `policy`; `NotFound`, `PermissionDenied`, `Io`; `Unsupported` for what is neither.
pub(crate) async fn open_host(path: &Path, policy: &Policy) -> Result<Node> {
    policy.check_host(path, Access::Read)?;
    let path = path.to_owned();
    blocking(move || {
        let failed = |error| Error::io(format!("'{}'", path.display()), error);
        let real = std::fs::canonicalize(&path).map_err(failed)?;
        let metadata = std::fs::metadata(&real).map_err(failed)?;
        if metadata.is_dir() {
            let root = HostDirectory::open_mount(host_name(&path)?, real)?;
            return Ok(Node::Directory(Arc::new(root)));
        }
        if !metadata.is_file() {
            return Err(Error::unsupported(format!(
                "'{}' is neither a file nor a directory",
                path.display()
            )));
        }
        let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
            return Err(Error::invalid(format!("'{}' has no name", path.display())));
        };
        let parent = HostDirectory::open_mount(host_name(parent)?, parent.to_owned())?;
        let name = escape_name(name.as_bytes());
        parent.open(&name)?.ok_or_else(|| {
            Error::not_found(format!("'{}' has gone while it was being opened", path.display()))
        })
    })
    .await
}

/// Returns a path of the host as errors show it.
pub(crate) fn host_name(path: &Path) -> Result<PondPath> {
    let absolute = std::path::absolute(path)
        .map_err(|error| Error::io(format!("'{}'", path.display()), error))?;
    let names = escape_name(absolute.as_os_str().as_bytes());
    PondPath::parse(&names)
}

/// Runs calls that may wait for a disk where they hold up nobody else.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(Error::new(ErrorKind::Io, "interrupted").with_source(error)),
        },
    }
}

/// Makes a path absolute by its text, and leaves links in it as they are.
fn absolute(directory: &str, base: Option<&Path>) -> Result<PathBuf> {
    if directory.is_empty() || directory.contains('\0') {
        return Err(Error::invalid(format!("the host directory {directory:?} is no path")));
    }
    let given = Path::new(directory);
    let joined = match base {
        _ if given.is_absolute() => given.to_owned(),
        Some(base) => base.join(given),
        None => {
            return Err(Error::invalid(format!(
                "the host directory '{directory}' is not an absolute path"
            ))
            .with_hint("there is no working directory here to start from; give the whole path"));
        }
    };
    // `..` stays: behind a link it does not lead back.
    Ok(joined.components().filter(|part| *part != Component::CurDir).collect())
}

fn check_directory(directory: &Path) -> Result<()> {
    let shown = directory.display();
    match std::fs::metadata(directory) {
        Ok(metadata) if !metadata.is_dir() => {
            Err(Error::invalid(format!("the host path '{shown}' is not a directory")))
        }
        Ok(_) => match std::fs::read_dir(directory) {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::io(format!("the host directory '{shown}'"), error)),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::not_found(format!("the host directory '{shown}' does not exist"))
                .with_hint_opt(nearest(directory)))
        }
        Err(error) => Err(Error::io(format!("the host directory '{shown}'"), error)),
    }
}

/// Returns a hint with the directory that was perhaps meant.
fn nearest(directory: &Path) -> Option<String> {
    // The part that is missing may have parts below it.
    let missing = directory.ancestors().find(|path| path.parent().is_some_and(Path::is_dir))?;
    let parent = missing.parent()?;
    let names: Vec<String> = std::fs::read_dir(parent)
        .ok()?
        .take(10_000)
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let hint = did_you_mean(missing.file_name()?.to_str()?, names.iter().map(String::as_str))?;
    let name = names.into_iter().find(|name| hint.contains(&format!("'{name}'")))?;
    let below = directory.strip_prefix(missing).ok()?;
    Some(format!("did you mean '{}'?", parent.join(name).join(below).display()))
}

/// Refuses a directory that is the pond's or is inside it: files compare by identity, whatever they
/// are called. One that holds the pond is fine, as a project holds its `.pond`.
fn check_apart(directory: &Path, pond: &Path) -> Result<()> {
    let failed = |path: &Path, error| Error::io(format!("'{}'", path.display()), error);
    let canonical = directory.canonicalize().map_err(|error| failed(directory, error))?;
    let above = identities(&canonical)?;
    let pond = std::fs::metadata(pond).map_err(|error| failed(pond, error))?;
    let relation = match above.iter().position(|id| *id == (pond.dev(), pond.ino())) {
        None => return Ok(()),
        Some(0) => "is the pond's own directory",
        Some(_) => "is inside the pond's own directory",
    };
    Err(Error::invalid(format!("the host directory '{}' {relation}", directory.display()))
        .with_hint("a pond cannot show itself; mount another directory"))
}

/// Returns the device and inode of a directory and of everything above it, nearest first.
fn identities(path: &Path) -> Result<Vec<(u64, u64)>> {
    path.ancestors()
        .map(|ancestor| match std::fs::metadata(ancestor) {
            Ok(metadata) => Ok((metadata.dev(), metadata.ino())),
            Err(error) => Err(Error::io(format!("'{}'", ancestor.display()), error)),
        })
        .collect()
}
