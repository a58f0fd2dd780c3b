//! The one integration binary: each further one would link the engine again.

mod crash;
mod model;
mod mounts;
mod oplog;
