//! `temporal_reduce`: a directory that shows one series at several resolutions.
//!
//! ```yaml
//! source_series_path: /sensors/basel.series
//! resolutions: [1h, 1d]            # res=1h.series, res=1d.series
//! aggregates: [avg, min, max]      # of each numeric column, as temperature_avg …
//! columns: [temperature]           # or of these alone
//! group_by: [station]              # rows of their own for each value
//! refresh_interval: 15m            # keep the answers
//! ```
//!
//! Each child is a derived series: time in steps that begin at 1970-01-01 UTC, a row for each in which the
//! source has any, with how many those are in `count`. A filter on its time reads only that time of the
//! source.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Schema};
use futures::stream::{self, BoxStream, StreamExt};
use serde::Deserialize;

use super::derived::{Derived, Query, Recipe};
use super::{
    Config, CreateContext, Factory, OpenContext, OptionKind, OptionSpec, SourcePath, parse_duration,
};
use crate::entry::EntryType;
use crate::error::{Error, Result, did_you_mean};
use crate::format::{detect_any_temporal, detect_temporal};
use crate::node::{DirEntry, Directory, ListFields, Node};
use crate::path::PondPath;
use crate::sql::StoredQuery;

/// The factory.
#[derive(Debug)]
pub struct TemporalReduce;

/// What is computed of a column, and the function for it.
const AGGREGATES: &[&str] = &["avg", "min", "max", "sum", "count", "stddev", "median"];
/// What is computed if nothing is said.
const DEFAULT_AGGREGATES: &[&str] = &["avg", "min", "max"];
/// What the source is called in the queries.
const SOURCE: &str = "source";

const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        required: true,
        ..option("source_series_path", OptionKind::PondPaths, "the series")
    },
    OptionSpec {
        required: true,
        ..option(
            "resolutions",
            OptionKind::Texts,
            "steps of time, as 15m, 1h, 1d: a child for each; they begin at 1970-01-01 UTC",
        )
    },
    OptionSpec {
        default: Some("avg, min, max"),
        ..option("aggregates", OptionKind::Texts, "avg, min, max, sum, count, stddev, median")
    },
    option("columns", OptionKind::Texts, "the columns to reduce; all numeric ones otherwise"),
    option("group_by", OptionKind::Texts, "columns whose values have rows of their own"),
    option("time_column", OptionKind::Text, "the time; `timestamp`, or the first there is"),
    option(
        "refresh_interval",
        OptionKind::Duration,
        "serve an answer for so long before it is made anew",
    ),
];

const fn option(name: &'static str, kind: OptionKind, doc: &'static str) -> OptionSpec {
    OptionSpec { name, kind, required: false, default: None, doc }
}

/// The configuration.
#[derive(Debug, Clone, Deserialize)]
struct Options {
    source_series_path: String,
    resolutions: Vec<String>,
    #[serde(default)]
    aggregates: Vec<String>,
    #[serde(default)]
    columns: Vec<String>,
    #[serde(default)]
    group_by: Vec<String>,
    time_column: Option<String>,
    refresh_interval: Option<String>,
}

/// One resolution of a series: a query that is written when the columns of the source are known.
#[derive(Debug, Clone)]
pub struct Reduction {
    options: Options,
    source: PondPath,
    step: Duration,
}

impl Reduction {
    /// Returns the series that is reduced.
    pub fn source(&self) -> &PondPath {
        &self.source
    }

    /// Returns all that the rows depend on, but for the source.
    pub fn text(&self) -> String {
        let Options { aggregates, columns, group_by, time_column, .. } = &self.options;
        let step = self.step.as_nanos().to_string();
        serde_json::json!([step, aggregates, columns, group_by, time_column]).to_string()
    }

    /// Writes the query for a source with these columns.
    ///
    /// # Errors
    /// `Invalid` if it has no such column, or none that can be reduced.
    pub fn query(&self, schema: &Schema) -> Result<(StoredQuery, String)> {
        let find = |name: &String| {
            let names = || schema.fields().iter().map(|field| field.name().as_str());
            schema.field_with_name(name).map_err(|_| {
                let hint = did_you_mean(name, names()).unwrap_or_else(|| {
                    format!("there are: {}", names().collect::<Vec<_>>().join(", "))
                });
                Error::invalid(format!("'{}' has no column '{name}'", self.source)).with_hint(hint)
            })
        };
        let time = match self.options.time_column.as_deref() {
            Some(wanted) => detect_temporal(schema, Some(wanted)),
            None => detect_any_temporal(schema),
        };
        let time = time.map_err(|error| error.context(format!("'{}'", self.source)))?;
        if self.options.group_by.contains(&time) {
            return Err(Error::invalid(format!(
                "option 'group_by': '{time}' is the time, by which rows are grouped anyway"
            )));
        }
        let groups = self.options.group_by.iter().map(find).collect::<Result<Vec<_>>>()?;
        let columns = match self.options.columns.as_slice() {
            [] => schema
                .fields()
                .iter()
                .filter(|field| field.data_type().is_numeric() && *field.name() != time)
                .filter(|field| !self.options.group_by.contains(field.name()))
                .map(|field| &**field)
                .collect(),
            named => named.iter().map(find).collect::<Result<Vec<_>>>()?,
        };
        let aggregates: Vec<&str> = match self.options.aggregates.as_slice() {
            [] => DEFAULT_AGGREGATES.to_vec(),
            named => named.iter().map(String::as_str).collect(),
        };
        let of_time = match schema.field_with_name(&time)?.data_type() {
            DataType::Timestamp(..) => quoted(&time),
            _ => format!("CAST({} AS TIMESTAMP)", quoted(&time)),
        };
        let step = format!("INTERVAL '{} nanoseconds'", self.step.as_nanos());
        let mut shown = vec![format!("date_bin({step}, {of_time}) AS {}", quoted(&time))];
        shown.extend(groups.iter().map(|field| quoted(field.name())));
        for column in columns {
            for aggregate in &aggregates {
                let name = quoted(&format!("{}_{aggregate}", column.name()));
                shown.push(format!("{aggregate}({}) AS {name}", quoted(column.name())));
            }
        }
        shown.push("count(*) AS \"count\"".to_owned());
        let keys: Vec<String> = (1..=1 + groups.len()).map(|key| key.to_string()).collect();
        let text =
            format!("SELECT {} FROM {SOURCE} GROUP BY {}", shown.join(", "), keys.join(", "));
        Ok((StoredQuery::parse(&text)?, text))
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Options {
    fn source(&self) -> Result<PondPath> {
        let path = PondPath::parse(&self.source_series_path);
        path.map_err(|error| error.context("option 'source_series_path'"))
    }

    /// Returns the names of the children, with their steps.
    fn children(&self) -> Result<Vec<(String, Duration)>> {
        let mut children: Vec<(String, Duration)> = Vec::with_capacity(self.resolutions.len());
        for text in &self.resolutions {
            let step = parse_duration(text).ok_or_else(|| {
                Error::invalid(format!("option 'resolutions': '{text}' is no duration"))
                    .with_hint("as in 15m, 1h, 1d")
            })?;
            let name = format!("res={}.series", short(step));
            if children.iter().any(|(other, _)| *other == name) {
                return Err(Error::invalid(format!(
                    "option 'resolutions': '{text}' is there twice"
                )));
            }
            children.push((name, step));
        }
        if children.is_empty() {
            return Err(Error::invalid("option 'resolutions': there are none")
                .with_hint("resolutions = ('1h', '1d')"));
        }
        Ok(children)
    }
}

/// Writes a step in its largest whole unit.
fn short(step: Duration) -> String {
    let units = [(86_400_000_000_000, "d"), (3_600_000_000_000, "h"), (60_000_000_000, "m")];
    let units = units.into_iter().chain([(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")]);
    let nanos = step.as_nanos();
    let unit = units.into_iter().find(|(unit, _)| nanos.is_multiple_of(*unit)).unwrap_or((1, "ns"));
    format!("{}{}", nanos / unit.0, unit.1)
}

#[async_trait]
impl Factory for TemporalReduce {
    fn name(&self) -> &'static str {
        "temporal_reduce"
    }

    fn description(&self) -> &'static str {
        "a directory that shows a series at several resolutions"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn entry_type(&self, _config: &Config) -> EntryType {
        EntryType::Directory
    }

    fn is_live(&self) -> bool {
        false
    }

    fn sources(&self, config: &Config) -> Result<Vec<SourcePath>> {
        let path = config.parse::<Options>()?.source()?;
        Ok(vec![SourcePath { path, is_table: true, times: 1 }])
    }

    fn is_settled(&self, _config: &Config) -> bool {
        true
    }

    async fn prepare(&self, config: Config, _cx: &CreateContext) -> Result<Config> {
        if config.iter().any(|(_, value)| value.is_object()) {
            return Err(Error::invalid("temporal_reduce takes one source, without a name")
                .with_hint("FROM '/sensors/a.series', or source_series_path: /sensors/a.series"));
        }
        let options: Options = config.parse()?;
        for (name, words) in [
            ("aggregates", &options.aggregates),
            ("columns", &options.columns),
            ("group_by", &options.group_by),
        ] {
            let mut seen = std::collections::HashSet::new();
            if let Some(twice) = words.iter().find(|word| !seen.insert(*word)) {
                return Err(Error::invalid(format!("option '{name}': '{twice}' is there twice")));
            }
        }
        options.source()?;
        options.children()?;
        for aggregate in &options.aggregates {
            if !AGGREGATES.contains(&aggregate.as_str()) {
                return Err(Error::invalid(format!(
                    "option 'aggregates': there is no '{aggregate}'"
                ))
                .with_hint(
                    did_you_mean(aggregate, AGGREGATES.iter().copied())
                        .unwrap_or_else(|| format!("there are: {}", AGGREGATES.join(", "))),
                ));
            }
        }
        Ok(config)
    }

    async fn open(&self, config: &Config, cx: &OpenContext) -> Result<Node> {
        let options: Options = config.parse()?;
        options.source()?;
        let children = options.children()?;
        Ok(Node::Directory(Arc::new(Resolutions { cx: cx.clone(), options, children })))
    }
}

/// The directory.
#[derive(Debug, Clone)]
struct Resolutions {
    cx: OpenContext,
    options: Options,
    children: Vec<(String, Duration)>,
}

#[async_trait]
impl Directory for Resolutions {
    fn list(&self, _fields: ListFields) -> BoxStream<'static, Result<DirEntry>> {
        let entries: Vec<Result<DirEntry>> = self
            .children
            .iter()
            .map(|(name, _)| {
                Ok(DirEntry {
                    name: name.clone(),
                    entry_type: Some(EntryType::FileSeries),
                    factory: Some(TemporalReduce.name().to_owned()),
                    dynamic: true,
                    ..DirEntry::default()
                })
            })
            .collect();
        stream::iter(entries).boxed()
    }

    async fn get(&self, name: &str) -> Result<Option<Node>> {
        let Some((_, step)) = self.children.iter().find(|(child, _)| child == name) else {
            return Ok(None);
        };
        let source = self.options.source()?;
        let cx = OpenContext { path: self.cx.path.child(name), ..self.cx.clone() };
        let recipe = Recipe {
            factory: TemporalReduce.name(),
            entry_type: EntryType::FileSeries,
            aliases: vec![(SOURCE.to_owned(), source.clone())],
            query: Query::Reduced(Reduction { options: self.options.clone(), source, step: *step }),
            refresh: self.options.refresh_interval.as_deref().and_then(parse_duration),
        };
        Ok(Some(Node::File(Arc::new(Derived { cx, recipe: Arc::new(recipe) }))))
    }

    fn read_only(&self) -> Option<String> {
        Some(format!("temporal_reduce '{}'", self.cx.path))
    }
}
