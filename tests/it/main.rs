//! The one integration binary: each further one would link the engine again.

mod cli;
mod concurrency;
mod contract;
mod crash;
mod damage;
mod embed;
mod examples;
mod faults;
mod files;
mod formats;
mod keep;
mod model;
mod mounts;
mod oplog;
mod power;
mod probe;
mod samples;
mod scan;
mod series;
mod slt;
mod statements;
mod tables;
mod tidy;
mod traced;
mod world;
