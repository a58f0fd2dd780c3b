//! Plans of derived nodes, kept from one statement of a session to the next: as long as nothing is
//! committed, a chain of nodes costs what its source alone would.
//!
//! Kept are plans that depend on the snapshot only. They hold expressions, and not what the clock said
//! when they were planned; what reads the host, an answer that ages, or the rows of a statement
//! is planned each time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use datafusion::catalog::TableProvider;

use crate::path::PondPath;
use crate::snapshot::Snapshot;

/// Most plans kept.
const PLANS_MAX: usize = 1024;

/// The plans of one session.
#[derive(Debug, Default)]
pub(crate) struct Plans(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// What they are as of. The number of its transaction would not do: a pond may be restored to
    /// another history.
    snapshot: Weak<Snapshot>,
    txn: i64,
    tables: HashMap<PondPath, Arc<dyn TableProvider>>,
}

impl Plans {
    /// Returns the plan of the node at `path` in `snapshot`.
    pub(super) fn get(
        &self,
        snapshot: &Arc<Snapshot>,
        path: &PondPath,
    ) -> Option<Arc<dyn TableProvider>> {
        let kept = self.0.lock().expect("never poisoned");
        if is_of(&kept.snapshot, snapshot) { kept.tables.get(path).cloned() } else { None }
    }

    pub(super) fn put(
        &self,
        snapshot: &Arc<Snapshot>,
        path: PondPath,
        table: Arc<dyn TableProvider>,
    ) {
        let mut kept = self.0.lock().expect("never poisoned");
        let is_same = is_of(&kept.snapshot, snapshot);
        // A statement that began before the last commit is late.
        if !is_same && kept.txn > snapshot.txn() && kept.snapshot.strong_count() > 0 {
            return;
        }
        if !is_same || kept.tables.len() >= PLANS_MAX {
            let (snapshot, txn) = (Arc::downgrade(snapshot), snapshot.txn());
            *kept = Kept { snapshot, txn, tables: HashMap::new() };
        }
        kept.tables.insert(path, table);
    }

    /// Forgets all: the settings of the session are other ones.
    pub(crate) fn clear(&self) {
        *self.0.lock().expect("never poisoned") = Kept::default();
    }
}

/// Whether what was kept of a snapshot is of this one.
pub(crate) fn is_of(kept: &Weak<Snapshot>, snapshot: &Arc<Snapshot>) -> bool {
    std::ptr::eq(kept.as_ptr(), Arc::as_ptr(snapshot))
}
