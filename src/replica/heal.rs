//! Bringing back what a pond has lost of its blobs, from a copy of it.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;

use super::{Needed, Side, name_of, needed, release, size_bytes};
use crate::error::{Error, ErrorKind, Result};
use crate::keep::Merged;
use crate::oplog::Scan;
use crate::progress::Progress;

/// What [`heal`] found and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Healed {
    /// Blobs that were compared with their names.
    pub checked: u64,
    /// Blobs that were missing or damaged, and are whole again.
    pub healed: u64,
    /// Their size.
    pub healed_bytes: u64,
}

/// Compares all blobs that the rows of `pond` need with their names, and copies those that are missing or
/// damaged from `copy`. `found` is told of each that the copy has not got either.
///
/// # Errors
/// `Corrupt` if the oplog is damaged: what is needed cannot be told then; `Io`.
pub async fn heal(
    pond: &Side,
    copy: &Side,
    progress: &Arc<Progress>,
    mut found: impl FnMut(Error),
) -> Result<Healed> {
    let pins = [Some(pond.blobs.pin().await?), copy.pin_to_read().await?];
    let healed = heal_pinned(pond, copy, progress, &mut found).await;
    for pin in pins {
        release(pin).await;
    }
    healed
}

async fn heal_pinned(
    pond: &Side,
    copy: &Side,
    progress: &Arc<Progress>,
    found: &mut impl FnMut(Error),
) -> Result<Healed> {
    let needed = all_needed(pond).await.map_err(|error| match error.kind() {
        ErrorKind::Corrupt | ErrorKind::NotFound => error.with_hint(
            "an oplog is not repaired in place: pond clone makes the pond anew, of its backup",
        ),
        _ => error,
    })?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut verified = futures::stream::iter(needed)
        .map(|(hash, size)| async move {
            let name = name_of(&hash);
            (pond.blobs.verify_aside(&name, size).await, name, size)
        })
        .buffer_unordered(threads);
    let mut damaged = HashMap::new();
    let mut healed = Healed::default();
    while let Some((verified, name, size)) = verified.next().await {
        healed.checked += 1;
        match verified {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                damaged.insert(name, size);
            }
            Err(error) => return Err(error),
        }
    }
    drop(verified);
    progress.expect_bytes(damaged.values().map(|size| size_bytes(*size)).sum());
    for (name, size) in damaged {
        let told = progress.clone();
        let told = move |bytes| told.add_bytes(bytes);
        match pond.blobs.copy_from(&copy.blobs, &name, size, told).await {
            Ok(()) => {
                healed.healed += 1;
                healed.healed_bytes += size_bytes(size);
            }
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                found(copy.named(error));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(healed)
}

/// Returns all blobs that a pond needs.
async fn all_needed(pond: &Side) -> Result<Needed> {
    let table = pond.state().await?;
    let merged = Merged::read(&pond.oplog, &table.files).await?;
    needed(&pond.oplog, &table.files, Scan::all(), Some(&merged)).await
}
