//! The one integration binary: each further one would link the engine again.

mod crash;
mod embed;
mod formats;
mod model;
mod mounts;
mod oplog;
mod samples;
mod slt;
