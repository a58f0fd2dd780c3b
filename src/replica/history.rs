//! How the histories of two ponds relate: one is a beginning of the other, or they have diverged.
//!
//! A transaction is only ever made on top of all before it, and node ids are random. So two ponds of one
//! identity that have the same rows in some transaction have the same history up to it, and it is
//! enough to compare the rows of the older tip.

use futures::TryStreamExt;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::Side;
use crate::error::{Error, ErrorKind, Result};
use crate::oplog::{Expired, Scan, TableState};

/// Rows of a transaction that tell it from others: one id is enough, and a transaction may be large.
const PRINT_ROWS: usize = 100;

/// How a copy relates to its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum History {
    /// They are the same.
    Same,
    /// The copy's is a beginning of the source's.
    Behind,
    /// The source's is a beginning of the copy's.
    Ahead,
}

/// Finds out how `copy` relates to `source`.
///
/// # Errors
/// `Conflict` if it does not, or if that cannot be told because history was given up.
pub(super) async fn relate(
    source: &Side,
    original: &TableState,
    copy: &Side,
    table: &TableState,
) -> Result<History> {
    if original.id()? != table.id()? {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("'{}' and '{}' are different ponds", copy.name, source.name),
        )
        .with_hint(
            "a copy has the identity of its pond: `pond clone` and `pond backup` make one",
        ));
    }
    let history = match original.txn - table.txn {
        0 => History::Same,
        1.. => History::Behind,
        _ => History::Ahead,
    };
    let txn = original.txn.min(table.txn);
    if txn == 0 {
        return Ok(history);
    }
    for (longer, state, shorter) in [(source, original, copy), (copy, table, source)] {
        if let Some(Expired { before, .. }) = state.expired()
            && txn < before
        {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "'{}' is at transaction {txn}, and the history of '{}' before {before} has expired",
                    shorter.name, longer.name
                ),
            )
            .with_hint("what was deleted in between can no longer be told: make a new copy"));
        }
    }
    let (theirs, ours) = (print(source, original, txn).await?, print(copy, table, txn).await?);
    if theirs == ours {
        return Ok(history);
    }
    Err(diverged(source, original, copy, table, txn).await?)
}

/// Describes two histories whose transactions `txn` are different ones.
async fn diverged(
    source: &Side,
    original: &TableState,
    copy: &Side,
    table: &TableState,
    txn: i64,
) -> Result<Error> {
    let tip = async |side: &Side, state: &TableState| {
        let time = print(side, state, state.txn).await?.timestamp;
        let time = Timestamp::from_microsecond(time).map(|time| time.to_string());
        Ok::<_, Error>(format!(
            "'{}' is at transaction {} of {}",
            side.name,
            state.txn,
            time.unwrap_or_default()
        ))
    };
    let tips = (tip(source, original).await?, tip(copy, table).await?);
    let first = |state: &TableState| state.expired().map_or(1, |expired| expired.before);
    // What is the same is the same from the beginning, so halving finds the end of it.
    let (mut same, mut other) = (first(original).max(first(table)) - 1, txn);
    while other - same > 1 {
        let middle = same + (other - same) / 2;
        if print(source, original, middle).await? == print(copy, table, middle).await? {
            same = middle;
        } else {
            other = middle;
        }
    }
    Ok(Error::new(
        ErrorKind::Conflict,
        format!("the histories have diverged after transaction {same}: {}, {}", tips.0, tips.1),
    )
    .with_hint(
        "nothing was changed; clone the one whose changes count to a new directory, \
         and make those of the other there again",
    ))
}

/// What tells a transaction from another of the same number.
#[derive(Debug, PartialEq, Eq)]
struct Print {
    timestamp: i64,
    digest: [u8; 32],
}

/// Computes it from the first rows, but for their contents, of which they have the hash.
async fn print(side: &Side, table: &TableState, txn: i64) -> Result<Print> {
    let scan = Scan::txns(txn..=txn).without_content().without_facts();
    let mut rows = side.oplog.rows(&table.files, scan);
    let (mut timestamp, mut hasher, mut left) = (0, Sha256::new(), PRINT_ROWS);
    while left > 0
        && let Some(batch) = rows.try_next().await.map_err(|error| side.named(error))?
    {
        for row in batch.into_iter().take(left) {
            left -= 1;
            timestamp = row.timestamp;
            let bytes = postcard::to_allocvec(&row)
                .map_err(|error| Error::invalid("encoding oplog rows").with_source(error))?;
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
    }
    Ok(Print { timestamp, digest: hasher.finalize().into() })
}
