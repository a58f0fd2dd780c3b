//! pond: a transactional, versioned file system that you query with SQL.
//!
//! A *pond* is a directory with an *oplog*: a Delta table in which every change ever made to a tree of
//! files is a row. Some nodes of the tree hold data; others are *dynamic*: a *factory* makes their
//! content on access, and only their recipe is stored. The tree is at the same time a catalog of the
//! DataFusion query engine, so a path can stand wherever SQL takes a table.
//!
//! # Bird's-eye view
//!
//! Modules only use modules of earlier lines, or of their own; a test checks it.
//!
//! | layer | modules | what they know |
//! |---|---|---|
//! | words | [`error`], [`path`], [`glob`], [`entry`], [`policy`], [`progress`] | nothing else |
//! | storage | [`store`], [`location`], [`blob`], [`index`], [`oplog`] | bytes that last; rows in a Delta table |
//! | file system | [`snapshot`], [`transaction`], [`pond`], [`keep`], [`replica`] | the tree at one transaction; how it changes; housekeeping; copies |
//! | nodes | [`mod@format`], [`node`], [`cache`] | what a directory, a file, a table is |
//! | language | [`sql`] | texts to statements |
//! | dynamic nodes | [`factory`], [`tree`] | how nodes are opened, whatever makes them |
//! | SQL | [`catalog`], [`table_fn`], `cluster`, [`context`], [`embed`] | names to tables, statements to verbs |
//! | user interface | [`output`], `serve`, and the shell (`cli`, `repl`) | terminals, clients |
//!
//! # The life of a statement
//!
//! `SELECT station, avg(temperature) FROM '/host/2026.parquet' GROUP BY station` flows as follows:
//!
//! 1. [`sql::Script`] cuts the text into statements by tokens; the parser of [`sql`] recognises our own
//!    (`CREATE NODE …`) and leaves the others, unchanged, to DataFusion.
//! 2. [`context::PondContext`] asks [`pond::Pond::snapshot`] for the newest [`snapshot::Snapshot`] and
//!    binds the statement to it: everything the statement reads is of that one transaction.
//! 3. DataFusion asks the [`catalog`] for each name. [`node::resolve`] walks from the root
//!    [`node::Directory`] down, one [`node::Directory::get`] a name: `/` is a stored directory, `/host` is
//!    opened by its factory, and what is below is the factory's business.
//! 4. The [`node::File`] at the end says where its bytes are ([`node::File::table_sources`]), and
//!    [`format::open_table`] makes them a table that lowers to DataFusion's own scan operator, so every
//!    pushdown of the engine works; CSV is a source of ours below that operator.
//! 5. The plan runs; its batches stream to the caller, who may be `output`.
//!
//! # The life of a write
//!
//! `INSERT INTO '/sensors.series' SELECT * FROM '/host/2026.parquet'`:
//!
//! 1. The query is planned like any other. Its batches stream into [`tree::Edit::write_table`]:
//!    [`format::EncodedTable`] encodes them as Parquet, in the layout that scans like, and computes what
//!    is to be known of them ([`entry::TableFacts`]: columns, row count, bounds, order); a
//!    [`blob::BlobWriter`] hashes and writes the bytes as they come. Nothing is collected.
//! 2. The blob gets its name, its SHA-256, once it is whole and synced. From before that until after
//!    the commit the edit holds a [`blob::Pin`], which keeps clean-up away from it; dropped, the edit
//!    takes it away again. Contents of up to 64 KiB that are no table go into their row instead.
//! 3. A [`transaction::Transaction`] over the newest snapshot notes the change and performs it on its own
//!    view. Between `BEGIN` and `COMMIT` all statements share one edit; else each has its own.
//! 4. [`pond::Pond::commit`] has [`oplog::Oplog::write`] put the rows' Parquet file, then the Delta log
//!    file of the next version, if that name is free. [`store::DurableStore`] syncs each file and its
//!    directory before it returns.
//! 5. If another writer has that version, its rows are applied, the transaction is checked against them
//!    (`Conflict` if they touched the same path; two appends to one series go together) and performed
//!    again, and step 4 is repeated.
//! 6. The commit is appended to the folded namespace in the cache; every
//!    [`CHECKPOINT_COMMITS`](oplog::CHECKPOINT_COMMITS) commits the writer compacts the oplog, writes a
//!    checkpoint and removes what became unneeded. When a series has grown many small files, whoever
//!    appended merges them ([`tree::Tree::merge_series`]).
//!
//! # The life of a derived node
//!
//! `SELECT * FROM '/daily.series' WHERE day = '2026-01-05'`, where `/daily.series` is the query `SELECT
//! date_trunc('day', timestamp) AS day, avg(temperature) AS t FROM '/sensors.series' GROUP BY 1`:
//!
//! 1. Opening the node yields a [`factory::derived::Derived`]: the query, and the tree in which its sources
//!    are found. Nothing is planned, which is all that `ls` needs.
//! 2. For its table it asks the [`factory::derived::Planner`] among the session's extensions: the
//!    statement's binding in [`catalog`]. [`tree::Lineage::order`] says what must be planned before it,
//!    finds cycles, and counts levels; each node is planned once for a statement, in the order of its
//!    sources, so nothing recurs.
//! 3. The plan is put in line. The engine takes the filter below the aggregate, and `sql`'s rule for time
//!    buckets makes it a range of time, by which the files of `/sensors.series` are pruned. A node
//!    that would be in line too often, as at the foot of a diamond, is computed once and shared. The
//!    session keeps plans until something is committed.
//! 4. With a `refresh_interval`, rows come from the [`cache`] while they are young enough there. Whoever
//!    finds them too old makes them anew, under a lock that holds across processes: from the new
//!    versions of the source, or the buckets they reach into, where the query allows it.
//!
//! # The life of a CSV file
//!
//! `SELECT station, count(*) FROM '/sensors/*.series' GROUP BY station`, where `/sensors` is a
//! `csv_directory` of `/host/logs/*.csv`:
//!
//! 1. Listing the directory finds the files that match ([`node::find_files`]) and opens none. Each child
//!    knows its text as a [`format::TableSource`], and how it is to be read: [`format::CsvOptions`].
//! 2. For its rows, a child looks into the [`cache`]: a conversion serves if it is of the very text (a
//!    stored file is known by its content, one of the host by device, inode, size and times), of the very
//!    options, and young enough. Its Parquet file is then scanned like any other table of the pond.
//! 3. Otherwise the beginning of the text tells the [`format::Layout`]: how values are told apart, and
//!    which types they have. The text is cut into chunks of whole records, each of which is parsed and
//!    encoded as a row group by itself. A value that does not fit widens its column, and the conversion
//!    begins again; or it follows `on_error`. Under a lock that holds across processes, the file gets
//!    its name when it is whole, and the record that names it comes last.
//! 4. Where reading the text answers sooner, as with a thousand small files, or where nothing can be
//!    kept, the same reader is a scan of its own, and what can be kept is converted when the statement is
//!    done. A plain `'/host/x.csv'` is always read so.
//!
//! # The past
//!
//! Every row carries its transaction, so the tree as of any of them is the same fold over fewer rows
//! ([`pond::Pond::as_of`]). What a series showed then is decided by the versions it had; where their
//! rows are found, by the files of today: a merged file says which of its rows are whose
//! ([`entry::Segment`]), so that the past opens what the present does, and the small files may go.
//!
//! # Invariants
//!
//! - Acknowledged is durable: file and directory are synced before success is reported.
//! - History is in the rows: compaction, checkpoints and clean-up of the log change no row, and merging
//!   the files of a series changes nothing that any version of it shows.
//! - What is stored is named by its content, and written nowhere else: a blob never changes.
//! - What the oplog says is checked against a CRC whenever it is read; what a blob holds, by
//!   [`keep::check`]. Nothing that a commit names is deleted, however it is timed ([`keep`]).
//! - Statistics in a row are exact or absent: answers are taken from them.
//! - A snapshot is a pure fold of the rows. What the cache holds is checked against the log file it
//!   claims to be of, and may be deleted at any moment.
//! - A copy of a pond shows one of its transactions, whole, however the run that made it ended ([`replica`]).
//! - A statement sees one snapshot.
//! - Each record of a CSV becomes a row, or is counted as rejected, or is an error; a conversion shows
//!   what reading the text would.
//! - A derived node shows what its query would, in line; what is kept of its rows changes how fast that
//!   is and, with an interval, how old.
//! - A broken node is listed with its error and breaks nothing beside it.
//! - Nothing under a host mount is ever opened for writing, and no path leads out of it.
//! - What a handle may be used for only ever gets less ([`pond::Pond::restricted`]).
//! - The library never prints, and neither opening nor committing costs more as history grows.
#![warn(missing_docs)]
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::dbg_macro)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

// words
pub mod entry;
pub mod error;
pub mod glob;
mod memo;
pub mod path;
pub mod policy;
pub mod progress;
// storage
pub mod blob;
pub mod index;
pub mod location;
pub mod oplog;
pub mod store;
// file system
pub mod keep;
mod namespace;
pub mod pond;
pub mod replica;
pub mod snapshot;
pub mod transaction;
// nodes
pub mod cache;
pub mod format;
pub mod node;
// language
pub mod sql;
// dynamic nodes
pub mod factory;
pub mod tree;
// SQL
pub mod catalog;
#[cfg(feature = "ballista")]
pub mod cluster;
pub mod context;
pub mod embed;
pub mod table_fn;
// user interface
pub mod output;
#[cfg(feature = "serve")]
pub mod serve;

pub use context::PondContext;
pub use embed::register;
pub use error::{Error, ErrorKind, Result};
