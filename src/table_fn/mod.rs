//! Table functions: `ls('/host', recursive => true)`.
//!
//! Each function is a plain table built from its arguments, so that both ways of calling it lead to
//! the same place: by position through the engine's [`TableFunctionImpl`], and by name through the
//! relation planner of the SQL layer.
//!
//! A function learns the pond's root when its table is scanned, from a [`RootSource`] that its
//! statement gives it. So all functions and tables of one statement see one snapshot, and looking up
//! a function costs nothing.
//!
//! [`TableFunctionImpl`]: datafusion::catalog::TableFunctionImpl

pub mod ls;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::Result;
use crate::node::Directory;

/// Gives the root directory of the snapshot that a statement reads.
#[async_trait]
pub trait RootSource: Debug + Send + Sync {
    /// Returns the root; the same for every call within one statement.
    async fn root(&self) -> Result<Arc<dyn Directory>>;
}

/// A root that is known already.
#[derive(Debug, Clone)]
pub struct FixedRoot(pub Arc<dyn Directory>);

#[async_trait]
impl RootSource for FixedRoot {
    async fn root(&self) -> Result<Arc<dyn Directory>> {
        Ok(self.0.clone())
    }
}
