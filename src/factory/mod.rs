//! Factories make dynamic nodes. Only a node's recipe is stored: the factory's name and a validated
//! configuration; its content is made when the node is opened.
//!
//! Adding a factory is one file here and its line in [`FACTORIES`]; an application adds its own at
//! run time through [`FactoryRegistry::register`]. The option list of a factory is the one source
//! of validation, did-you-mean, `DESCRIBE FACTORY` and completion, whatever form the options came
//! in: SQL options, YAML or JSON.

pub mod csv;
pub mod derived;
pub mod hostmount;
pub mod sql_derived;
pub mod temporal_reduce;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::cache::Cache;
use crate::entry::{EntryType, NodeId};
use crate::error::{Error, ErrorKind, Place, Result, did_you_mean};
use crate::node::{Directory, Node};
use crate::path::PondPath;
use crate::policy::Policy;
use crate::snapshot::Snapshot;

/// The factories every pond has.
pub static FACTORIES: &[&dyn Factory] = &[
    &hostmount::Hostmount,
    &sql_derived::SERIES,
    &sql_derived::TABLE,
    &temporal_reduce::TemporalReduce,
    &csv::DIRECTORY,
    &csv::FILE,
];

/// Makes dynamic nodes of one kind.
#[async_trait]
pub trait Factory: Debug + Send + Sync {
    /// The name after FACTORY. It is stored in the oplog, so it never changes.
    fn name(&self) -> &'static str;

    /// One line on what its nodes are.
    fn description(&self) -> &'static str;

    /// The options it takes, for validation, DESCRIBE FACTORY, completion and did-you-mean.
    fn options(&self) -> &'static [OptionSpec];

    /// Returns what kind of node a configuration makes.
    fn entry_type(&self, config: &Config) -> EntryType;

    /// Whether its nodes show what is outside of the pond and may change there without a commit.
    /// Such a node has no past: it does not open as of an earlier time.
    fn is_live(&self) -> bool {
        true
    }

    /// Whether its nodes are planned before they are stored, so that a query that does not work never
    /// is. What is live may show something else by the time it is read.
    fn is_planned(&self) -> bool {
        !self.is_live()
    }

    /// Returns the paths and globs of the pond that a configuration reads: what SHOW LINEAGE shows,
    /// cycles are looked for in, and DROP NODE minds.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    fn sources(&self, config: &Config) -> Result<Vec<SourcePath>> {
        let _ = config;
        Ok(Vec::new())
    }

    /// Whether the same contents of its sources give the same rows, as far as the configuration tells.
    fn is_settled(&self, config: &Config) -> bool {
        let _ = config;
        false
    }

    /// Completes and checks a configuration before it is stored: relative host paths become
    /// absolute, what is not there is refused.
    async fn prepare(&self, config: Config, cx: &CreateContext) -> Result<Config> {
        let _ = cx;
        Ok(config)
    }

    /// Opens the node. CREATE NODE calls this before it commits, so a recipe that does not open is
    /// never stored.
    async fn open(&self, config: &Config, cx: &OpenContext) -> Result<Node>;
}

/// What a factory may see when it opens a node.
#[derive(Debug, Clone)]
pub struct OpenContext {
    /// Path of the node.
    pub path: PondPath,
    /// The pond's root at the snapshot being read.
    pub root: Arc<dyn Directory>,
    /// That snapshot.
    pub snapshot: Arc<Snapshot>,
    /// The stored node and the version of its recipe; `None` while it is being made. What a dynamic
    /// directory holds has those of the directory.
    pub made: Option<(NodeId, i64)>,
    /// Whether it is looked at from later, so that what is live does not open.
    pub is_past: bool,
    /// Where derived files are kept.
    pub cache: Arc<Cache>,
}

/// What a factory may see when a node is made or altered.
#[derive(Debug, Clone, Default)]
pub struct CreateContext {
    /// What relative host paths are relative to: a shell's working directory. Without it they are
    /// refused.
    pub base_dir: Option<PathBuf>,
    /// The pond's own directory, which must not be mounted into itself.
    pub pond_dir: Option<PathBuf>,
    /// Which files of the host a new node may name.
    pub policy: Policy,
}

/// What a dynamic node reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourcePath {
    /// The path or glob.
    pub path: PondPath,
    /// Whether it is read as a table, and not listed.
    pub is_table: bool,
    /// How often it is read.
    pub times: usize,
}

/// One option of a factory.
#[derive(Debug, Clone, Copy)]
pub struct OptionSpec {
    /// Name in WITH (…) and in YAML or JSON.
    pub name: &'static str,
    /// What values it takes.
    pub kind: OptionKind,
    /// Whether it must be given.
    pub required: bool,
    /// Its value when it is not given, as it would be written.
    pub default: Option<&'static str>,
    /// One line on what it does.
    pub doc: &'static str,
}

/// What values an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionKind {
    /// Any text.
    Text,
    /// A list of texts: `('a', 'b')`, or one text.
    Texts,
    /// A directory of the host.
    HostDirectory,
    /// An absolute path or glob in the pond.
    PondPath,
    /// Such a path, or a map of them by the names that a query has for them. FROM gives it.
    PondPaths,
    /// A query, in which tables are paths of the pond. AS gives it.
    Query,
    /// A length of time: `1h`, `90 minutes`, `PT1H`. REFRESH EVERY gives it.
    Duration,
    /// true or false.
    Boolean,
    /// A whole number.
    Integer,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of columns with their types, as in CREATE TABLE or as JSON, or a map of types by column.
    Columns,
    /// Such a value, or `auto`: what is not given.
    Auto(&'static OptionKind),
}

impl OptionKind {
    /// Returns the name that DESCRIBE FACTORY shows.
    pub fn describe(self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Texts => "list of texts".to_owned(),
            Self::HostDirectory => "host directory".to_owned(),
            Self::PondPath => "pond path".to_owned(),
            Self::PondPaths => "pond path, or map of pond paths by name".to_owned(),
            Self::Query => "query".to_owned(),
            Self::Duration => "duration".to_owned(),
            Self::Boolean => "boolean".to_owned(),
            Self::Integer => "integer".to_owned(),
            Self::Choice(words) => words.join(" | "),
            Self::Columns => "list of columns, or map of types by column".to_owned(),
            Self::Auto(kind) => format!("auto | {}", kind.describe()),
        }
    }

    /// Returns how a value is written, where that is not plain.
    fn example(self) -> Option<&'static str> {
        match self {
            Self::Duration => Some("as in '1h', '90 minutes' or 'PT1H'"),
            Self::Texts => Some("as in ('a', 'b')"),
            Self::PondPaths => Some("as in '/a.series', or a map of names to paths"),
            Self::Columns => Some("as in 'id BIGINT, name TEXT'"),
            Self::Auto(kind) => kind.example(),
            _ => None,
        }
    }

    /// Returns `value` in the kind's own JSON type, or `None` if it does not fit.
    fn coerce(self, value: &Value) -> Option<Value> {
        match (self, value) {
            (
                Self::Text
                | Self::HostDirectory
                | Self::PondPath
                | Self::PondPaths
                | Self::Query
                | Self::Columns,
                Value::String(_),
            ) => Some(value.clone()),
            (Self::Auto(_), Value::String(text)) if text.eq_ignore_ascii_case("auto") => {
                Some(Value::String("auto".to_owned()))
            }
            (Self::Auto(kind), value) => kind.coerce(value),
            // As it would be written in SQL.
            (Self::Columns, Value::Object(types)) => {
                types.values().all(Value::is_string).then(|| Value::String(value.to_string()))
            }
            (Self::Columns, Value::Array(columns)) => {
                columns.iter().all(Value::is_object).then(|| Value::String(value.to_string()))
            }
            (Self::Texts, Value::String(_)) => Some(Value::Array(vec![value.clone()])),
            (Self::Texts, Value::Array(texts)) => {
                texts.iter().all(Value::is_string).then(|| value.clone())
            }
            (Self::PondPaths, Value::Object(paths)) => {
                paths.values().all(Value::is_string).then(|| value.clone())
            }
            (Self::Duration, Value::String(text)) => {
                parse_duration(text).is_some().then(|| value.clone())
            }
            (Self::Text, Value::Number(_) | Value::Bool(_)) => {
                Some(Value::String(value.to_string()))
            }
            (Self::Boolean, Value::Bool(_)) => Some(value.clone()),
            (Self::Boolean, Value::String(text)) => {
                text.to_ascii_lowercase().parse::<bool>().ok().map(Value::Bool)
            }
            (Self::Integer, Value::Number(number)) => number.is_i64().then(|| value.clone()),
            (Self::Integer, Value::String(text)) => {
                text.trim().parse::<i64>().ok().map(Value::from)
            }
            (Self::Choice(words), Value::String(text)) => words
                .iter()
                .find(|word| word.eq_ignore_ascii_case(text))
                .map(|word| Value::String((*word).to_owned())),
            _ => None,
        }
    }
}

/// Reads a length of time: `1h`, `90 minutes`, `2 days 12 hours`, `PT1H`. A day is 24 hours, a week 7
/// days. `None` for anything else, and for none at all.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let span: jiff::Span = text.trim().parse().ok()?;
    let days = jiff::SpanRelativeTo::days_are_24_hours();
    let duration = Duration::try_from(span.to_duration(days).ok()?).ok()?;
    (!duration.is_zero()).then_some(duration)
}

/// A factory's options after validation: names are known, values fit their kind.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config(Map<String, Value>);

impl Config {
    /// Checks `given` against the options of `factory`. Names are compared without regard to case.
    ///
    /// # Errors
    /// `Invalid` for an option that is unknown (with the nearest name), given twice, missing, or of
    /// the wrong kind.
    pub fn validate(
        factory: &dyn Factory,
        given: impl IntoIterator<Item = (String, Value)>,
    ) -> Result<Self> {
        let specs = factory.options();
        let mut config = Map::new();
        for (key, value) in given {
            let Some(spec) = specs.iter().find(|spec| spec.name.eq_ignore_ascii_case(&key)) else {
                let names: Vec<&str> = specs.iter().map(|spec| spec.name).collect();
                let hint = did_you_mean(&key, names.iter().copied()).unwrap_or_else(|| {
                    if names.is_empty() {
                        "it takes none".to_owned()
                    } else {
                        format!("it takes {}", names.join(", "))
                    }
                });
                return Err(Error::invalid(format!(
                    "factory '{}' has no option '{key}'",
                    factory.name()
                ))
                .about(key)
                .with_hint(hint));
            };
            if value.is_null() {
                continue;
            }
            let Some(value) = spec.kind.coerce(&value) else {
                return Err(Error::invalid(format!(
                    "option '{}' of factory '{}' takes {}, not {value}",
                    spec.name,
                    factory.name(),
                    spec.kind.describe()
                ))
                .with_hint_opt(spec.kind.example().map(str::to_owned)));
            };
            if config.insert(spec.name.to_owned(), value).is_some() {
                return Err(Error::invalid(format!("option '{}' is given twice", spec.name)));
            }
        }
        if let Some(missing) =
            specs.iter().find(|spec| spec.required && !config.contains_key(spec.name))
        {
            return Err(Error::invalid(format!(
                "factory '{}' needs the option '{}'",
                factory.name(),
                missing.name
            ))
            .with_hint(format!("{}: {}", missing.name, missing.doc)));
        }
        Ok(Self(config))
    }

    /// Reads a configuration file: YAML, of which JSON is a part.
    ///
    /// # Errors
    /// `Invalid` if it is not a map.
    pub fn parse_yaml(text: &str) -> Result<Vec<(String, Value)>> {
        let value: Value = serde_yaml::from_str(text).map_err(|error| yaml_error(text, &error))?;
        match value {
            Value::Object(map) => Ok(map.into_iter().collect()),
            Value::Null => Ok(Vec::new()),
            _ => Err(Error::invalid("configuration: expected a map of options")
                .with_hint("write one 'name: value' a line")),
        }
    }

    /// Reads what [`Config::to_json`] wrote to the oplog, without checking it again.
    pub fn from_json(text: &[u8]) -> Result<Self> {
        serde_json::from_slice(text)
            .map(Self)
            .map_err(|error| Error::corrupt("stored configuration").with_source(error))
    }

    /// Returns the form that is stored.
    pub fn to_json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }

    /// Returns the options that were given, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Returns the configuration with one option set.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Returns an option's value, where it was given.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Returns an option's text, where it was given and is one.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// Returns the factory's own struct of its options.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(Value::Object(self.0.clone()))
            .map_err(|error| Error::invalid("configuration").with_source(error))
    }
}

/// The factories of one pond: [`FACTORIES`] and those an application registered.
#[derive(Debug, Clone, Default)]
pub struct FactoryRegistry {
    registered: Arc<RwLock<BTreeMap<&'static str, Arc<dyn Factory>>>>,
}

/// A factory of either origin.
#[derive(Debug, Clone)]
pub enum FactoryRef {
    /// One of [`FACTORIES`].
    Builtin(&'static dyn Factory),
    /// Registered by the application.
    Registered(Arc<dyn Factory>),
}

impl std::ops::Deref for FactoryRef {
    type Target = dyn Factory;

    fn deref(&self) -> &(dyn Factory + 'static) {
        match self {
            Self::Builtin(factory) => *factory,
            Self::Registered(factory) => factory.as_ref(),
        }
    }
}

impl FactoryRegistry {
    /// Adds an application's factory.
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken.
    pub fn register(&self, factory: Arc<dyn Factory>) -> Result<()> {
        let name = factory.name();
        if self.get(name).is_some() || name == crate::entry::STATIC_FACTORY {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("factory '{name}' already exists"),
            ));
        }
        self.registered.write().expect("never poisoned").insert(name, factory);
        Ok(())
    }

    /// Returns the factory called `name`, without regard to case.
    pub fn get(&self, name: &str) -> Option<FactoryRef> {
        self.all().into_iter().find(|factory| factory.name().eq_ignore_ascii_case(name))
    }

    /// As [`FactoryRegistry::get`], but demands it.
    ///
    /// # Errors
    /// `NotFound` with the nearest name, or all of them, as a hint.
    pub fn require(&self, name: &str) -> Result<FactoryRef> {
        self.get(name).ok_or_else(|| {
            let all = self.all();
            let names: Vec<&str> = all.iter().map(|factory| factory.name()).collect();
            let hint = did_you_mean(name, names.iter().copied())
                .unwrap_or_else(|| format!("there are: {}", names.join(", ")));
            Error::not_found(format!("factory '{name}' does not exist")).with_hint(hint)
        })
    }

    /// Returns all factories, the built-in ones first.
    pub fn all(&self) -> Vec<FactoryRef> {
        let registered = self.registered.read().expect("never poisoned");
        FACTORIES
            .iter()
            .map(|factory| FactoryRef::Builtin(*factory))
            .chain(registered.values().cloned().map(FactoryRef::Registered))
            .collect()
    }
}
/// Says what is wrong in a YAML text, and where.
fn yaml_error(text: &str, error: &serde_yaml::Error) -> Error {
    let said = error.without_snippet().to_string();
    let ours = |message: &str| Error::invalid(format!("configuration: {message}"));
    let Some(location) = error.location() else { return ours(&said) };
    // The place is shown apart.
    let message = said.split(" at line ").next().unwrap_or_default();
    let (line, column) = (location.line(), location.column());
    let before: usize = text.split_inclusive('\n').take(line as usize - 1).map(str::len).sum();
    let rest = text[before..].lines().next().unwrap_or_default();
    let within = rest.char_indices().nth(column as usize - 1).map_or(rest.len(), |(at, _)| at);
    let at = before + within;
    let end = at + text[at..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
    ours(message).with_place(Place::of(text, at..end, 1))
}
