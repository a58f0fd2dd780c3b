//! The one integration binary: each further one would link the engine again.

mod embed;
mod formats;
mod oplog;
mod samples;
mod slt;
