//! Table functions: `ls()`, `nodes()`, `factories()`, `pond_log()`.
//!
//! Their arguments are literals, positional or named (`recursive => true`), and their names are of
//! any case. What they read is the snapshot of the statement they are called in.

mod arguments;
pub(crate) mod factories;
pub(crate) mod nodes;
mod planner;
pub(crate) mod pond_log;
mod rows;

use std::sync::Arc;

use datafusion::catalog::TableFunctionImpl;

use self::arguments::Signature;
pub(crate) use self::planner::FromPlanner;
use crate::catalog::Binding;

/// Every function of ours.
static SIGNATURES: &[&Signature] =
    &[&nodes::SIGNATURE, &factories::SIGNATURE, &pond_log::SIGNATURE];

/// Returns the functions of `binding`, by name.
pub(crate) fn functions(binding: &Arc<Binding>) -> Vec<(&'static str, Arc<dyn TableFunctionImpl>)> {
    vec![
        (nodes::SIGNATURE.name, Arc::new(nodes::Nodes(binding.clone()))),
        (factories::SIGNATURE.name, Arc::new(factories::Factories(binding.clone()))),
        (pond_log::SIGNATURE.name, Arc::new(pond_log::PondLog(binding.clone()))),
    ]
}

/// Returns the names of the functions.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    SIGNATURES.iter().map(|signature| signature.name)
}
