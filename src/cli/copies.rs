//! What the verbs of copies share: the two sides, how far it has come, and what is said at the end.

use std::path::Path;
use std::sync::Arc;

use pond::location::Location;
use pond::policy::Access;
use pond::progress::Progress;
use pond::replica::{Forwarded, Side, fast_forward};
use pond::{Error, ErrorKind, Result};
use serde_json::json;

use super::report::tell;
use super::{Shell, location_of, note, progress};

/// Returns the pond that this command is about, to be read or changed.
///
/// # Errors
/// `NotFound` if there is none; `Refused`.
pub fn this(shell: &Shell, access: Access) -> Result<Side> {
    let location = shell.require_location()?;
    if access == Access::Write {
        shell.policy().check_write(format_args!("'{location}'"))?;
    }
    Side::open(location, shell.pond_options())
}

/// Returns the place of another pond, to be read or changed; whether one is there is not looked at yet.
///
/// # Errors
/// `Refused`; those of [`Location::parse`].
pub fn place(shell: &Shell, given: &Path, access: Access) -> Result<Location> {
    let location = location_of(given)?;
    if access == Access::Write {
        shell.policy().check_write(format_args!("'{location}'"))?;
    }
    location.check(shell.policy(), access)?;
    Ok(location)
}

/// Brings `copy` up to `source` and says so, `done` being the words for it.
///
/// # Errors
/// Those of [`fast_forward`].
pub async fn forward(source: &Side, copy: &Side, done: &str) -> Result<Forwarded> {
    let told = Arc::new(Progress::default());
    let shown = progress::show(&told);
    let forwarded = fast_forward(source, copy, &told).await;
    drop(shown);
    let forwarded = forwarded?;
    match &forwarded {
        Forwarded::UpToDate { txn } => note(&format!("up to date (txn {txn})")),
        Forwarded::Copied(copied) => {
            let text = format!(
                "{done}: {}, {}, {}, {} bytes (txn {})",
                counted(copied.txns, "transaction"),
                counted(copied.rows, "row"),
                counted(copied.blobs, "blob"),
                copied.bytes,
                copied.txn
            );
            let object = json!({
                "level": "copied", "message": done, "txn": copied.txn, "transactions": copied.txns,
                "rows": copied.rows, "blobs": copied.blobs, "bytes": copied.bytes,
            });
            tell(&text, object);
        }
        Forwarded::Ahead { .. } => {}
    }
    Ok(forwarded)
}

/// As [`forward`], of a copy that must not be ahead.
///
/// # Errors
/// `Conflict` if it is; those of [`fast_forward`].
pub async fn forward_copy(source: &Side, copy: &Side, done: &str) -> Result<()> {
    match forward(source, copy, done).await? {
        Forwarded::Ahead { source_txn, txn } => {
            let (name, source) = (copy.name(), source.name());
            let message = format!(
                "'{name}' is ahead: it is at transaction {txn}, '{source}' at {source_txn}"
            );
            Err(Error::new(ErrorKind::Conflict, message)
                .with_hint(format!("pond --pond {source} pull {name} brings that here")))
        }
        Forwarded::UpToDate { .. } | Forwarded::Copied(_) => Ok(()),
    }
}

/// As [`forward`], of this pond, which may be ahead.
///
/// # Errors
/// Those of [`fast_forward`].
pub async fn forward_here(source: &Side, pond: &Side, done: &str) -> Result<()> {
    if let Forwarded::Ahead { source_txn, txn } = forward(source, pond, done).await? {
        let name = source.name();
        note(&format!(
            "'{name}' has nothing new: it is at transaction {source_txn}, this pond at {txn}"
        ));
    }
    Ok(())
}

/// Returns a number with its noun.
pub fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
