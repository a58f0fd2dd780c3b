//! The one integration binary: each further one would link the engine again.

#[cfg(feature = "ballista")]
mod ballista;
mod buckets;
mod cli;
#[cfg(feature = "ballista")]
mod cluster;
mod complete;
mod concurrency;
mod contract;
mod conversions;
mod crash;
mod csv_cache;
mod csv_directory;
mod cycles;
mod damage;
mod derived;
mod embed;
mod examples;
mod faults;
mod files;
mod formats;
mod full;
mod hostile_csv;
mod keep;
mod lineage;
mod long;
mod model;
mod mounts;
mod objects;
mod oplog;
mod params;
mod policy;
mod power;
mod probe;
mod replica;
mod samples;
mod scan;
mod scripts;
mod series;
#[cfg(feature = "serve")]
mod serve;
mod slt;
mod statements;
mod tables;
mod terminal;
mod tidy;
mod traced;
mod undo;
mod verbs;
mod world;
