//! Transactions: how what a statement changes gets into the pond.
//!
//! A changing statement does its work through a [`Work`]. Outside of a transaction that is an edit of
//! its own, committed when the statement ends. Between `BEGIN` and `COMMIT` it is a step of the open
//! edit: taken back as a whole if the statement fails or is given up, whatever it had done by then.
//! While a step is under way no other statement of the session sees the transaction.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use tokio::sync::OwnedMutexGuard;

use super::{Output, PondContext};
use crate::error::{Error, Result};
use crate::path::PondPath;
use crate::snapshot::Snapshot;
use crate::tree::{Change, Edit, Savepoint};

/// The changes of one statement.
pub(super) struct Work {
    /// Taken when the work ends.
    edit: Option<Edit>,
    /// The place of the open transaction, empty for the time being, and what it was before.
    step: Option<(OwnedMutexGuard<Option<Edit>>, Savepoint)>,
}

impl Work {
    /// Returns the edit to do the work with.
    pub(super) fn edit(&mut self) -> &mut Edit {
        self.edit.as_mut().expect("taken only when the work ends")
    }

    /// Whether it is a step of an open transaction.
    pub(super) fn is_step(&self) -> bool {
        self.step.is_some()
    }

    /// Keeps the work: commits it, or leaves that to the open transaction. Returns the changes with
    /// their transaction, which is not known yet within an open one.
    pub(super) async fn finish(mut self, mut changes: Vec<Change>) -> Result<Output> {
        let edit = self.edit.take().expect("taken only when the work ends");
        if let Some((mut open, _)) = self.step.take() {
            *open = Some(edit);
            return Output::changes(&changes);
        }
        let (committed, undo) = edit.commit_undoable().await?;
        let txn = committed.iter().find_map(|change| change.txn);
        for change in changes.iter_mut().filter(|change| change.is_written()) {
            change.txn = txn;
        }
        Ok(Output { undo, ..Output::changes(&changes)? })
    }
}

impl Drop for Work {
    /// Takes back a step that was not finished.
    fn drop(&mut self) {
        if let (Some(mut edit), Some((mut open, before))) = (self.edit.take(), self.step.take()) {
            edit.roll_back_to(before);
            *open = Some(edit);
        }
    }
}

impl PondContext {
    /// Whether a transaction is open: `BEGIN` was run, but neither `COMMIT` nor `ROLLBACK`.
    pub fn in_transaction(&self) -> bool {
        // Somebody at work in it holds the lock; so does BEGIN, for a moment.
        self.inner.open.try_lock().map_or(true, |open| open.is_some())
    }

    /// Gives up the open transaction, and returns whether there was one.
    pub async fn roll_back(&self) -> bool {
        self.inner.open.lock().await.take().is_some()
    }

    /// Returns what statements see: the open transaction's view, or else the newest snapshot.
    ///
    /// # Errors
    /// Those of [`crate::tree::Tree::snapshot`].
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>> {
        if let Some(edit) = self.inner.open.lock().await.as_ref() {
            return Ok(edit.snapshot());
        }
        self.tree().snapshot().await
    }

    /// Begins the work of a statement, whose text is kept with its changes.
    pub(super) async fn work(&self, text: String) -> Result<Work> {
        let text = message(text);
        let mut open = self.inner.open.clone().lock_owned().await;
        let Some(mut edit) = open.take() else {
            return Ok(Work { edit: Some(self.tree().begin(Some(text)).await?), step: None });
        };
        edit.set_message(Some(text));
        let before = edit.savepoint();
        Ok(Work { edit: Some(edit), step: Some((open, before)) })
    }

    /// Carries out `BEGIN`, `COMMIT` and `ROLLBACK`; `None` for any other statement.
    pub(super) async fn transact(&self, statement: &SqlStatement) -> Result<Option<Output>> {
        match statement {
            SqlStatement::StartTransaction {
                modes,
                modifier,
                statements,
                exception: None,
                has_end_keyword: false,
                ..
            } if statements.is_empty() => {
                let clause = modes.first().map(ToString::to_string);
                match clause.or(modifier.map(|modifier| modifier.to_string())) {
                    Some(clause) => Err(Error::unsupported(format!("BEGIN takes no {clause}"))
                        .with_hint(
                            "a transaction reads one snapshot; its changes are committed together",
                        )),
                    None => self.begin().await.map(Some),
                }
            }
            SqlStatement::Commit { chain: false, modifier: None, .. } => {
                self.commit().await.map(Some)
            }
            SqlStatement::Rollback { chain: false, savepoint: None } => {
                if !self.roll_back().await {
                    return Err(none_open("ROLLBACK"));
                }
                Ok(Some(outcome("rolled back", None)?))
            }
            SqlStatement::StartTransaction { .. }
            | SqlStatement::Commit { .. }
            | SqlStatement::Rollback { .. }
            | SqlStatement::Savepoint { .. }
            | SqlStatement::ReleaseSavepoint { .. } => {
                Err(Error::unsupported(format!("{statement}: there are no transactions within one"))
                    .with_hint("BEGIN, COMMIT and ROLLBACK stand alone; a statement that fails leaves no trace in the transaction"))
            }
            _ => Ok(None),
        }
    }

    async fn begin(&self) -> Result<Output> {
        let mut open = self.inner.open.lock().await;
        if open.is_some() {
            return Err(Error::invalid("BEGIN: a transaction is open already")
                .with_hint("end it first: COMMIT or ROLLBACK"));
        }
        *open = Some(self.tree().begin(None).await?);
        Ok(Output::done())
    }

    async fn commit(&self) -> Result<Output> {
        let edit = self.inner.open.lock().await.take().ok_or_else(|| none_open("COMMIT"))?;
        let (changes, undo) = edit.commit_undoable().await.map_err(|error| {
            error.with_hint("the transaction was rolled back; begin it anew, on what there is now")
        })?;
        let committed = outcome("committed", changes.iter().find_map(|change| change.txn))?;
        Ok(Output { undo, ..committed })
    }
}

/// The longest text that is kept of a statement: the oplog is for what happened, not for the rows of
/// a long VALUES.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;

fn message(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
        text.push('…');
    }
    text
}

fn none_open(statement: &str) -> Error {
    Error::invalid(format!("{statement}: no transaction is open"))
        .with_hint("BEGIN opens one; outside of it each statement is committed by itself")
}

/// Returns the row that tells how a transaction ended.
fn outcome(status: &'static str, txn: Option<i64>) -> Result<Output> {
    Output::changes(&[Change { status, txn, path: PondPath::root() }])
}
