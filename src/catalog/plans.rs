//! Plans of derived nodes, kept from one statement of a session to the next: as long as nothing is
//! committed, a chain of nodes costs what its source alone would.
//!
//! Kept are plans that depend on the snapshot only. They hold expressions, and not what the clock said
//! when they were planned; what reads the host, an answer that ages, or the rows of a statement
//! is planned each time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use datafusion::catalog::TableProvider;

use crate::path::PondPath;

/// Most plans kept.
const PLANS_MAX: usize = 1024;

/// The plans of one session.
#[derive(Debug, Default)]
pub(crate) struct Plans(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// The transaction that they are as of.
    txn: i64,
    tables: HashMap<PondPath, Arc<dyn TableProvider>>,
}

impl Plans {
    /// Returns the plan of the node at `path` as of `txn`.
    pub(super) fn get(&self, txn: i64, path: &PondPath) -> Option<Arc<dyn TableProvider>> {
        let kept = self.0.lock().expect("never poisoned");
        if kept.txn == txn { kept.tables.get(path).cloned() } else { None }
    }

    pub(super) fn put(&self, txn: i64, path: PondPath, table: Arc<dyn TableProvider>) {
        let mut kept = self.0.lock().expect("never poisoned");
        // A statement that began before the last commit is late.
        if kept.txn > txn {
            return;
        }
        if kept.txn < txn || kept.tables.len() >= PLANS_MAX {
            *kept = Kept { txn, tables: HashMap::new() };
        }
        kept.tables.insert(path, table);
    }

    /// Forgets all: the settings of the session are other ones.
    pub(crate) fn clear(&self) {
        *self.0.lock().expect("never poisoned") = Kept::default();
    }
}
