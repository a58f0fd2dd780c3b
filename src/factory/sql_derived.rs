//! `sql_derived_series` and `sql_derived_table`: nodes whose content is a query over other nodes, which
//! may be derived themselves.
//!
//! ```yaml
//! source_series_path: /data/hourly_sensors.series   # or a map: {s: /a.series, t: /b.table}
//! sql_query: SELECT DATE(timestamp) AS date, avg(temperature) AS avg FROM source_series GROUP BY 1
//! refresh_interval: 1h                              # serve an answer for so long
//! ```
//!
//! One source without a name of its own is called `source`, `source_series` or `source_table` in the
//! query. The query may name paths and globs itself, too. A series' query should show a time; nothing
//! else tells the two factories apart.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::derived::{Derived, Query, Recipe};
use super::{
    Config, CreateContext, Factory, OpenContext, OptionKind, OptionSpec, SourcePath, parse_duration,
};
use crate::entry::EntryType;
use crate::error::{Error, Result};
use crate::node::Node;
use crate::path::PondPath;
use crate::sql::StoredQuery;

/// What the one source of a query is called in it.
pub const SOURCE_ALIASES: &[&str] = &["source", "source_series", "source_table"];

/// The factory of derived series.
pub static SERIES: SqlDerived = SqlDerived {
    name: "sql_derived_series",
    description: "a series that is a query over other nodes",
    entry_type: EntryType::FileSeries,
};

/// The factory of derived tables.
pub static TABLE: SqlDerived = SqlDerived {
    name: "sql_derived_table",
    description: "a table that is a query over other nodes",
    entry_type: EntryType::FileTable,
};

/// One of the two factories.
#[derive(Debug)]
pub struct SqlDerived {
    name: &'static str,
    description: &'static str,
    entry_type: EntryType,
}

/// The configuration.
#[derive(Debug, Deserialize)]
struct Options {
    source_series_path: Option<Sources>,
    sql_query: String,
    refresh_interval: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Sources {
    One(String),
    Named(BTreeMap<String, String>),
}

impl SqlDerived {
    fn recipe(&self, config: &Config) -> Result<Recipe> {
        let Options { source_series_path, sql_query, refresh_interval } = config.parse()?;
        let aliases = match source_series_path {
            None => Vec::new(),
            Some(Sources::One(path)) => {
                let path = absolute(&path)?;
                SOURCE_ALIASES.iter().map(|alias| ((*alias).to_owned(), path.clone())).collect()
            }
            Some(Sources::Named(sources)) => sources
                .into_iter()
                .map(|(alias, path)| Ok((alias, absolute(&path)?)))
                .collect::<Result<Vec<_>>>()?,
        };
        Ok(Recipe {
            factory: self.name,
            entry_type: self.entry_type,
            aliases,
            query: Query::Stored(StoredQuery::parse_known(&sql_query)?, sql_query),
            refresh: refresh_interval.as_deref().and_then(parse_duration),
        })
    }
}

/// Returns the sources of a query, each with the name that it has there, as an option: one path, or a
/// map of paths by name.
///
/// # Errors
/// `Invalid` for two of one name.
pub fn sources_option(sources: &[(String, Option<String>)]) -> Result<Option<Value>> {
    match sources {
        [] => Ok(None),
        [(path, None)] => Ok(Some(Value::String(path.clone()))),
        many => {
            let mut paths = Map::new();
            for (path, alias) in many {
                let alias = alias.clone().unwrap_or_else(|| SOURCE_ALIASES[0].to_owned());
                if paths.insert(alias.clone(), Value::String(path.clone())).is_some() {
                    return Err(Error::invalid(format!("two sources are called '{alias}'"))
                        .with_hint("give each a name: FROM '/a.series' AS a, '/b.table' AS b"));
                }
            }
            Ok(Some(Value::Object(paths)))
        }
    }
}

fn absolute(path: &str) -> Result<PondPath> {
    PondPath::parse(path).map_err(|error| error.context("option 'source_series_path'"))
}

#[async_trait]
impl Factory for SqlDerived {
    fn name(&self) -> &'static str {
        self.name
    }

    fn description(&self) -> &'static str {
        self.description
    }

    fn options(&self) -> &'static [OptionSpec] {
        &[
            OptionSpec {
                name: "source_series_path",
                kind: OptionKind::PondPaths,
                required: false,
                default: None,
                doc: "what the query calls source, source_series or source_table; or several, by name",
            },
            OptionSpec {
                name: "sql_query",
                kind: OptionKind::Query,
                required: true,
                default: None,
                doc: "the query; it may name paths and globs itself",
            },
            OptionSpec {
                name: "refresh_interval",
                kind: OptionKind::Duration,
                required: false,
                default: None,
                doc: "serve an answer for so long before it is made anew; without it the node is live",
            },
        ]
    }

    fn entry_type(&self, _config: &Config) -> EntryType {
        self.entry_type
    }

    fn is_live(&self) -> bool {
        false
    }

    fn sources(&self, config: &Config) -> Result<Vec<SourcePath>> {
        self.recipe(config)?.sources()
    }

    fn is_settled(&self, config: &Config) -> bool {
        self.recipe(config).is_ok_and(|recipe| recipe.query.is_settled())
    }

    async fn prepare(&self, config: Config, _cx: &CreateContext) -> Result<Config> {
        let recipe = self.recipe(&config)?;
        if let Some((alias, _)) = recipe.aliases.iter().find(|(alias, _)| alias.is_empty()) {
            return Err(Error::invalid(format!("'{alias}' is no name for a source")));
        }
        recipe.sources()?;
        Ok(config)
    }

    async fn open(&self, config: &Config, cx: &OpenContext) -> Result<Node> {
        let recipe = Arc::new(self.recipe(config)?);
        Ok(Node::File(Arc::new(Derived { cx: cx.clone(), recipe })))
    }
}
