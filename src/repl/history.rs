//! What was typed in earlier sessions: `history` in `pond` below `$XDG_STATE_HOME` (`~/.local/state`).
//!
//! Statements come back whole, however many lines they have. The file is its user's alone, and holds the
//! newest [`ENTRIES_MAX`]; sessions at the same time add to it under a lock. What is damaged in it is
//! left out: a history is a convenience.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pond::policy::{Access, Policy};
use rustyline::Editor;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;

use super::helper::Helper;
use super::user_dir;
use crate::cli::report::note;

/// Most texts that are kept.
pub const ENTRIES_MAX: usize = 10_000;

/// Longest text that is kept, in bytes: who pastes a file does not want it back.
const ENTRY_BYTES_MAX: usize = 64 * 1024;

/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Where it is kept.
pub struct History(PathBuf);

impl History {
    /// Reads what there is; `None`, of which the user is told, if it cannot be kept. Where `policy` closes
    /// the file it is left alone.
    pub fn open(editor: &mut Editor<Helper, DefaultHistory>, policy: &Policy) -> Option<Self> {
        let dir = user_dir("XDG_STATE_HOME", ".local/state")?;
        let file = dir.join("history");
        policy.check_host(&file, Access::Write).ok()?;
        let opened = fs::create_dir_all(&dir).and_then(|()| mend(&file)).map_err(ReadlineError::Io);
        let loaded =
            opened.and_then(|is_there| if is_there { editor.load_history(&file) } else { Ok(()) });
        match loaded {
            Ok(()) => Some(Self(file)),
            Err(error) => {
                note(&format!("the history is not kept: '{}': {error}", file.display()));
                None
            }
        }
    }

    /// Adds what was typed.
    pub fn add(
        &self,
        editor: &mut Editor<Helper, DefaultHistory>,
        text: &str,
    ) -> Result<(), ReadlineError> {
        if text.len() > ENTRY_BYTES_MAX || !editor.add_history_entry(text)? {
            return Ok(());
        }
        editor.append_history(&self.0)
    }
}

/// Makes sure that the file can be read if it is there, and returns whether it is.
fn mend(file: &Path) -> io::Result<bool> {
    let metadata = match file.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(io::Error::other("it is too long"));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(file, Permissions::from_mode(0o600))?;
    }
    let bytes = fs::read(file)?;
    if let Err(error) = std::str::from_utf8(&bytes) {
        note(&format!("the history is damaged, and mended: '{}': {error}", file.display()));
        // The file stays the same one, for those who have it open.
        File::options().write(true).truncate(true).open(file)?.write_all(&mended(&bytes))?;
    }
    Ok(true)
}

/// Returns the lines that are text.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| std::str::from_utf8(line).is_ok()).flatten().copied().collect()
}
