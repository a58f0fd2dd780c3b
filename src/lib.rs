//! pond: a transactional, versioned file system that you query with SQL.
#![warn(missing_docs)]
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::dbg_macro)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

// words
pub mod entry;
pub mod error;
pub mod glob;
pub mod path;
// storage
pub mod index;
pub mod oplog;
pub mod store;
// file system
mod namespace;
pub mod pond;
pub mod snapshot;
pub mod transaction;
// nodes
pub mod cache;
pub mod format;
pub mod node;
// dynamic nodes
pub mod factory;
pub mod tree;
// SQL
pub mod table_fn;

pub use error::{Error, ErrorKind, Result};
