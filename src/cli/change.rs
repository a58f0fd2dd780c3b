//! Tells what a changing verb or statement did, and how to undo it in the language it was made in, or
//! what it would do: a line each, or rows in the format asked for.

use pond::Result;
use pond::context::Output;
use pond::output::{self, Style, Written, escape_controls};
use pond::path::PondPath;
use pond::tree::{Change, DiffEntry, Edit, Skipped, Undo};
use serde_json::json;

use super::args::quoted;
use super::report::{note, tell};
use super::{Shell, sql};

/// Most lines shown; the others are counted.
const LINES_MAX: usize = 20;

/// Commits an edit, and tells what it did and how to undo it.
pub async fn commit(shell: &Shell, edit: Edit) -> Result<()> {
    let (changes, undo) = edit.commit_undoable().await?;
    print(shell, &changes, &undo).await
}

/// Tells of `changes`, and of the verbs that undo them; with a format asked for, the changes are rows
/// on stdout.
pub async fn print(shell: &Shell, changes: &[Change], undo: &[Undo]) -> Result<()> {
    match shell.format()? {
        Some(_) => {
            shell.results()?.write_rows(Output::changes(changes)?.stream).await?;
        }
        None => tell_changes(changes),
    }
    if !undo.is_empty() {
        let pond =
            shell.named_by_option().map(|dir| format!("--pond {} ", quoted(dir.as_os_str())));
        let pond = pond.unwrap_or_default();
        let verbs: Vec<String> = plain(changes, undo)
            .iter()
            .map(|verb| format!("pond {pond}{}", verb_of(verb)))
            .collect();
        tell_undo(&verbs.join(" && "));
    }
    Ok(())
}

/// Tells of what a statement has changed, and of the statements that undo it.
pub fn tell_output(result: &Output) -> Written {
    tell_changes(&result.changes);
    let undo: Vec<String> = plain(&result.changes, &result.undo).iter().map(statement_of).collect();
    if !undo.is_empty() {
        tell_undo(&undo.join(" "));
    }
    Written { rows: result.changes.len() as u64, ..Written::default() }
}

fn tell_changes(changes: &[Change]) {
    for Change { status, txn, path } in changes.iter().take(LINES_MAX) {
        let mut text = (*status).to_owned();
        // A transaction is of no one path.
        if !matches!(*status, "committed" | "rolled back") {
            text.push_str(&format!(" {}", escape_controls(path.as_str())));
        }
        if let Some(txn) = txn {
            text.push_str(&format!(" (txn {txn})"));
        }
        let path = path.as_str();
        tell(&text, json!({"level": "change", "status": status, "path": path, "txn": txn}));
    }
    if changes.len() > LINES_MAX {
        note(&format!("… and {} more", changes.len() - LINES_MAX));
    }
}

fn tell_undo(text: &str) {
    tell(&format!("undo: {text}"), json!({"level": "undo", "message": text}));
}

/// Returns verbs that can be shown: where a path would move the cursor, the tree is restored.
fn plain(changes: &[Change], undo: &[Undo]) -> Vec<Undo> {
    let is_plain = |path: &PondPath| escape_controls(path.as_str()) == path.as_str();
    let all_plain = undo.iter().all(|undo| match undo {
        Undo::Rename { from, to } => is_plain(from) && is_plain(to),
        Undo::Drop { paths, .. } => paths.iter().all(is_plain),
        Undo::Restore { path, .. } => is_plain(path),
    });
    match changes.iter().find_map(|change| change.txn) {
        Some(txn) if !all_plain => vec![Undo::Restore { path: PondPath::root(), to: txn - 1 }],
        _ => undo.to_vec(),
    }
}

fn verb_of(undo: &Undo) -> String {
    let shown = |path: &PondPath| quoted(path.as_str().as_ref());
    match undo {
        Undo::Rename { from, to } => format!("mv {} {}", shown(from), shown(to)),
        Undo::Drop { paths, recursive } => {
            let paths: Vec<String> = paths.iter().map(shown).collect();
            format!("rm {}{}", if *recursive { "-r " } else { "" }, paths.join(" "))
        }
        Undo::Restore { path, to } => format!("restore {} --to {to}", shown(path)),
    }
}

fn statement_of(undo: &Undo) -> String {
    match undo {
        Undo::Rename { from, to } => {
            format!("ALTER NODE {} RENAME TO {};", sql::quoted(from), sql::quoted(to))
        }
        Undo::Drop { paths, recursive } => {
            let paths: Vec<String> = paths.iter().map(sql::quoted).collect();
            format!("DROP NODE {}{};", paths.join(", "), if *recursive { " RECURSIVE" } else { "" })
        }
        Undo::Restore { path, to } => {
            format!("RESTORE NODE {} TO VERSION {to};", sql::quoted(path))
        }
    }
}

/// Prints what would change, and that it has not.
pub async fn print_plan(shell: &Shell, changes: &[Change]) -> Result<()> {
    let mut out = shell.stdout()?;
    if let Some(format) = shell.format()? {
        output::write(Output::changes(changes)?.stream, &Style::from(format), &mut out).await?;
    } else {
        use std::io::Write;
        for change in changes {
            let path = escape_controls(change.path.as_str());
            writeln!(out, "would be {} {path}", change.status).map_err(output::write_error)?;
        }
        out.flush().map_err(output::write_error)?;
    }
    note("a dry run: nothing was changed");
    Ok(())
}

/// As [`print_plan`], of an edit that is not committed.
pub async fn print_diff(shell: &Shell, diff: &[DiffEntry]) -> Result<()> {
    let changes: Vec<Change> = diff
        .iter()
        .map(|entry| Change { status: entry.change, txn: None, path: entry.path.clone() })
        .collect();
    print_plan(shell, &changes).await
}

/// Tells what a copy passed over.
pub fn note_skipped(skipped: &[Skipped]) {
    for Skipped { path, reason } in skipped {
        let (path, reason) = (escape_controls(path.as_str()), escape_controls(reason));
        note(&format!("'{path}' was passed over: {reason}"));
    }
}
