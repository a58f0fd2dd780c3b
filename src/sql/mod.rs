//! SQL: texts into statements, and the engine's errors into ours.
//!
//! [`Script`] splits a text into statements by tokens. Each becomes a [`Statement`]: one of ours
//! (`grammar` of `parser`), or else one of the engine's, parsed from the very same tokens.
//! [`crate::context::PondContext::execute`] carries them out. What they read of the past is taken out
//! of the tokens first (`time_travel`): the dialect has no words for it. The values of parameters
//! ([`Params`]) are put among the tokens before that.
//!
//! Words of our statements are special in statement position only, so columns may be called `node`
//! or `factory`. There is one dialect, sqlparser's generic one.

mod columns;
pub(crate) mod complete;
pub(crate) mod diagnose;
pub(crate) mod from_clause;
pub(crate) mod functions;
mod ignored;
mod lexis;
pub(crate) mod like_escape;
mod origin;
mod params;
mod parser;
mod repeated_columns;
mod script;
mod statement;
mod stored_query;
pub(crate) mod time_buckets;
pub(crate) mod time_travel;

pub use columns::{declared_columns, sql_type};
pub(crate) use ignored::ignored_in_from;
pub use lexis::{Piece, PieceKind, is_keyword, pieces};
pub use origin::Origin;
pub use params::Params;
#[cfg(feature = "serve")]
pub(crate) use script::{Cut, cut};
pub use script::{Script, is_complete};
pub use statement::Statement;
pub(crate) use statement::{
    AlterNodeChange, Body, CreateNode, Describe, NodeParts, NodeStatement, Show, create_node_sql,
};
pub use stored_query::{CATALOG, StoredQuery, absolute};
