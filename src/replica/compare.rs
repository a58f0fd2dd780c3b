//! Comparing a pond with a copy of it: each row, and each blob that either needs.
//!
//! Rows are compared up to the older of the two tips: what only one side has after that has not been
//! copied yet. Of history that was given up on one side, what that side still shows is compared.
//!
//! In memory there are the rows of one transaction of each side, and one entry for each blob.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::{Needed, Side, label, name_of, needed, size_bytes};
use crate::entry::{NodeId, OplogEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::keep::Merged;
use crate::oplog::{DataFile, Scan, TableState};

/// What was compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compared {
    /// The transaction up to which it was.
    pub txn: i64,
    /// Transactions that the pond has after that.
    pub ahead: i64,
    /// Transactions that the copy has after that.
    pub behind: i64,
    /// Rows that are the same.
    pub rows: u64,
    /// Blobs of the copy, each of which was hashed.
    pub blobs: u64,
    /// Their size.
    pub blob_bytes: u64,
}

/// Compares `pond` with `copy`, whose files are all read and checked; `found` is told of each difference,
/// and of all that is damaged in the copy. The pond's own blobs are left to [`crate::keep::check`].
///
/// Returns `None` if the copy's log is so damaged that it has no rows to compare.
///
/// # Errors
/// `Conflict` if they are different ponds; `NotFound`, `Io`.
pub async fn compare(
    pond: &Side,
    copy: &Side,
    mut found: impl FnMut(Error),
) -> Result<Option<Compared>> {
    let original = pond.state().await?;
    let mut damage = |error: Error| found(copy.named(error));
    let Some((table, whole)) = copy.oplog.check(&mut damage).await? else {
        return Ok(None);
    };
    if original.id()? != table.id()? {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("'{}' and '{}' are different ponds", copy.name, pond.name),
        ));
    }
    let txn = original.txn.min(table.txn);
    let mut compared =
        Compared { txn, ahead: original.txn - txn, behind: table.txn - txn, ..Compared::default() };
    let scan = Scan::up_to(txn);
    let ours = Rows::new(pond, &original.files, scan.clone());
    let theirs = Rows::new(copy, &whole, scan.clone());
    let first = |table: &TableState| table.expired().map_or(0, |expired| expired.before);
    let first = (first(&original), first(&table));
    if let Err(error) = compare_rows(ours, theirs, first, &mut compared, &mut found).await {
        found(error);
    }
    let mut all = Needed::new();
    for (side, files) in [(pond, &original.files), (copy, &whole)] {
        let named = async {
            let merged = Merged::read(&side.oplog, files).await?;
            needed(&side.oplog, files, scan.clone(), Some(&merged)).await
        };
        match named.await {
            Ok(needed) => all.extend(needed),
            Err(error) => found(side.named(error)),
        }
    }
    check_blobs(copy, all, &mut compared, &mut found).await?;
    Ok(Some(compared))
}

/// Hashes blobs of the copy.
async fn check_blobs(
    copy: &Side,
    blobs: Needed,
    compared: &mut Compared,
    found: &mut impl FnMut(Error),
) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut verified =
        futures::stream::iter(blobs)
            .map(|(hash, size)| async move {
                (copy.blobs.verify_aside(&name_of(&hash), size).await, size)
            })
            .buffer_unordered(threads);
    while let Some((verified, size)) = verified.next().await {
        match verified {
            Ok(()) => {
                compared.blobs += 1;
                compared.blob_bytes += size_bytes(size);
            }
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                found(copy.named(error));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The rows of one side, a transaction at a time.
struct Rows<'a> {
    side: &'a Side,
    batches: BoxStream<'static, Result<Vec<OplogEntry>>>,
    waiting: VecDeque<OplogEntry>,
}

impl<'a> Rows<'a> {
    fn new(side: &'a Side, files: &[DataFile], scan: Scan) -> Self {
        let batches = side.oplog.rows(files, scan);
        Self { side, batches, waiting: VecDeque::new() }
    }

    async fn fill(&mut self) -> Result<bool> {
        match self.batches.try_next().await.map_err(|error| self.side.named(error))? {
            Some(batch) => {
                self.waiting.extend(batch);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Returns all rows of the next transaction.
    async fn next(&mut self) -> Result<Option<Vec<OplogEntry>>> {
        while self.waiting.is_empty() {
            if !self.fill().await? {
                return Ok(None);
            }
        }
        let txn = self.waiting[0].txn;
        while self.waiting.back().is_some_and(|row| row.txn == txn) && self.fill().await? {}
        let count = self.waiting.partition_point(|row| row.txn == txn);
        Ok(Some(self.waiting.drain(..count).collect()))
    }
}

/// Compares all rows. `first` is the first transaction of each side that is not expired: before it, a
/// side has only some rows.
async fn compare_rows(
    mut ours: Rows<'_>,
    mut theirs: Rows<'_>,
    first: (i64, i64),
    compared: &mut Compared,
    found: &mut impl FnMut(Error),
) -> Result<()> {
    let (pond, copy) = (ours.side, theirs.side);
    let (mut our, mut their) = (ours.next().await?, theirs.next().await?);
    loop {
        let txn = |rows: &Option<Vec<OplogEntry>>| rows.as_ref().map_or(i64::MAX, |it| it[0].txn);
        let (ours_now, theirs_now) = match txn(&our).cmp(&txn(&their)) {
            Ordering::Equal if our.is_none() => return Ok(()),
            Ordering::Equal => (our.take(), their.take()),
            Ordering::Less => (our.take(), None),
            Ordering::Greater => (None, their.take()),
        };
        let ours_rows = ours_now.unwrap_or_default();
        let theirs_rows = theirs_now.unwrap_or_default();
        compare_transaction(&ours_rows, &theirs_rows, first, (pond, copy), compared, found);
        if our.is_none() {
            our = ours.next().await?;
        }
        if their.is_none() {
            their = theirs.next().await?;
        }
    }
}

/// Compares the rows of one transaction, of which one side may have none.
fn compare_transaction(
    ours: &[OplogEntry],
    theirs: &[OplogEntry],
    first: (i64, i64),
    (pond, copy): (&Side, &Side),
    compared: &mut Compared,
    found: &mut impl FnMut(Error),
) {
    if ours == theirs {
        compared.rows += ours.len() as u64;
        return;
    }
    let mut others: HashMap<NodeId, Vec<&OplogEntry>> = HashMap::new();
    theirs.iter().for_each(|row| others.entry(row.node_id).or_default().push(row));
    for row in ours {
        let of_node = others.entry(row.node_id).or_default();
        if let Some(at) = of_node.iter().position(|other| *other == row) {
            of_node.swap_remove(at);
            compared.rows += 1;
        } else if let Some(at) = of_node.iter().position(|other| {
            (other.version, other.is_segment()) == (row.version, row.is_segment())
        }) {
            of_node.swap_remove(at);
            let problem =
                format!("the row of {} is another one than in '{}'", label(row), pond.name);
            found(copy.named(Error::corrupt(problem)));
        } else if row.txn >= first.1 || first.0 >= first.1 {
            let problem = format!("the row of {} is missing", label(row));
            found(copy.named(Error::corrupt(problem)));
        }
    }
    // In the order of the rows.
    for row in theirs {
        let is_left = others
            .get(&row.node_id)
            .is_some_and(|left| left.iter().any(|other| std::ptr::eq(*other, row)));
        if is_left && (row.txn >= first.0 || first.1 >= first.0) {
            let problem = format!("the row of {} is not in '{}'", label(row), pond.name);
            found(copy.named(Error::corrupt(problem)));
        }
    }
}
