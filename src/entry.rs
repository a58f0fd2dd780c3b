//! The words of the oplog: entry types, node ids and the row that every change is written as.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};

/// The value of `factory` in the rows of static nodes; null means the same.
pub const STATIC_FACTORY: &str = "tlogfs";

/// The largest content kept in its row; larger bytes are blobs.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;

/// What kind of node a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EntryType {
    /// Holds named children.
    Directory,
    /// Bytes.
    FileData,
    /// A table: its newest version counts.
    FileTable,
    /// A table: all its versions together, in time order.
    FileSeries,
    /// Names another path of the pond.
    Symlink,
    /// A host FIFO, socket or device: listed, never opened.
    Special,
}

impl EntryType {
    /// Every entry type that the oplog stores.
    pub const STORED: [EntryType; 5] =
        [Self::Directory, Self::FileData, Self::FileTable, Self::FileSeries, Self::Symlink];

    /// Returns the name used in the oplog and in listings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::FileData => "file:data",
            Self::FileTable => "file:table",
            Self::FileSeries => "file:series",
            Self::Symlink => "symlink",
            Self::Special => "special",
        }
    }

    /// Parses what [`EntryType::as_str`] returns.
    pub fn parse(text: &str) -> Result<Self> {
        Self::STORED
            .into_iter()
            .find(|entry_type| entry_type.as_str() == text)
            .ok_or_else(|| Error::corrupt(format!("unknown entry type '{text}'")))
    }

    /// Parses what a listing shows: any of [`EntryType::as_str`].
    pub fn parse_listed(text: &str) -> Option<Self> {
        Self::STORED.into_iter().chain([Self::Special]).find(|kind| kind.as_str() == text)
    }

    /// Returns what a file's name says it is: a table, or a series.
    pub fn of_name(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1 {
            "table" => Some(Self::FileTable),
            "series" => Some(Self::FileSeries),
            _ => None,
        }
    }

    /// Whether a node of this type can be read as bytes.
    pub fn is_file(self) -> bool {
        matches!(self, Self::FileData | Self::FileTable | Self::FileSeries)
    }
}

impl fmt::Display for EntryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Returns the present time, microseconds since 1970 UTC.
pub fn now_micros() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// A node's identity: a UUIDv7 for stored nodes, so that ids sort by creation; a UUIDv5 of parent
/// and name for transient ones, so that caches survive a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(Uuid);

impl NodeId {
    /// The root directory, which has no row.
    pub const ROOT: NodeId = NodeId(Uuid::nil());

    /// Makes the id of a new stored node.
    pub fn create() -> Self {
        Self(Uuid::now_v7())
    }

    /// Returns the id of the transient child `name` of `self`.
    #[must_use]
    pub fn transient_child(&self, name: &str) -> Self {
        Self(Uuid::new_v5(&self.0, name.as_bytes()))
    }

    /// Parses the hyphenated form.
    pub fn parse(text: &str) -> Result<Self> {
        Uuid::try_parse(text)
            .map(Self)
            .map_err(|error| Error::corrupt(format!("node id '{text}'")).with_source(error))
    }

    /// Returns the id with these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Returns the sixteen bytes, which sort as the id does.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// One row of the oplog: the state of one node after one transaction.
///
/// A node's rows share `node_id`. The newest row gives its name and parent, so a rename is one row;
/// each `version` of its content is described by the newest row with that version. A row with
/// `deleted` takes the node, and with it everything below, out of the tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OplogEntry {
    /// Number of the transaction, from 1.
    pub txn: i64,
    /// Time of the commit, microseconds since 1970 UTC.
    pub timestamp: i64,
    /// The statement, or the user's own words.
    pub message: Option<String>,
    /// The node.
    pub node_id: NodeId,
    /// The directory that holds it.
    pub parent_id: NodeId,
    /// Its name there.
    pub name: String,
    /// What it is.
    pub entry_type: EntryType,
    /// Whether this row removes it.
    pub deleted: bool,
    /// Version of its content, from 1.
    pub version: i64,
    /// The factory of a dynamic node; `None` or [`STATIC_FACTORY`] for a static one.
    pub factory: Option<String>,
    /// Inline bytes, a dynamic node's configuration as JSON, or a symlink's target.
    #[serde(with = "optional_bytes")]
    pub content: Option<Bytes>,
    /// SHA-256 of the content, in hex, where it is a blob or inline bytes.
    pub sha256: Option<String>,
    /// Size of the content in bytes.
    pub size: Option<i64>,
    /// The table's Arrow schema as JSON.
    pub arrow_schema: Option<String>,
    /// Row count and each column's minimum, maximum and null count, as Delta's stats JSON.
    pub statistics: Option<String>,
    /// The column that orders a series.
    pub temporal_column: Option<String>,
    /// Smallest time in this version, microseconds since 1970 UTC.
    pub min_time: Option<i64>,
    /// Largest time in this version, microseconds since 1970 UTC.
    pub max_time: Option<i64>,
    /// Anything else about the node, as a JSON object; a comment is `{"comment": …}`.
    pub attributes: Option<String>,
}

impl OplogEntry {
    /// Makes the first row of a new node; the transaction fills in `txn` and `timestamp`.
    pub fn new(node_id: NodeId, parent_id: NodeId, name: &str, entry_type: EntryType) -> Self {
        Self {
            txn: 0,
            timestamp: 0,
            message: None,
            node_id,
            parent_id,
            name: name.to_owned(),
            entry_type,
            deleted: false,
            version: 1,
            factory: Some(STATIC_FACTORY.to_owned()),
            content: None,
            sha256: None,
            size: None,
            arrow_schema: None,
            statistics: None,
            temporal_column: None,
            min_time: None,
            max_time: None,
            attributes: None,
        }
    }

    /// Returns the factory of a dynamic node, `None` for a static one.
    pub fn dynamic_factory(&self) -> Option<&str> {
        self.factory.as_deref().filter(|factory| *factory != STATIC_FACTORY)
    }

    /// Returns the comment kept in `attributes`.
    pub fn comment(&self) -> Option<String> {
        self.attribute("comment")?.as_str().map(str::to_owned)
    }

    /// Returns the number of rows of a static table, or of one version of a series.
    pub fn num_rows(&self) -> Option<i64> {
        let statistics: serde_json::Value =
            serde_json::from_str(self.statistics.as_deref()?).ok()?;
        statistics.get("numRecords")?.as_i64()
    }

    /// Returns what is known of the table that a static table or series holds.
    pub fn table_facts(&self) -> Option<TableFacts> {
        Some(TableFacts {
            arrow_schema: self.arrow_schema.clone()?,
            statistics: self.statistics.clone()?,
            temporal_column: self.temporal_column.clone(),
            min_time: self.min_time,
            max_time: self.max_time,
            sorted: self.attribute(SORTED) == Some(serde_json::Value::Bool(true)),
        })
    }

    /// Returns what the row says of a merged file, if it is a segment's.
    ///
    /// # Errors
    /// `Corrupt` if that cannot be read.
    pub fn segment(&self) -> Result<Option<Segment>> {
        if !self.is_segment() {
            return Ok(None);
        }
        // Its note of whose rows are where may be long: it is read as what it is.
        let attributes = self.attributes.as_deref().unwrap_or_default();
        let attributes: SegmentAttributes = serde_json::from_str(attributes).map_err(|error| {
            Error::corrupt(format!("segment of series '{}'", self.name)).with_source(error)
        })?;
        Ok(Some(attributes.segment))
    }

    /// Whether the row describes a merged file of a series, and no version of its own.
    pub fn is_segment(&self) -> bool {
        self.entry_type == EntryType::FileSeries
            && self.attributes.as_deref().is_some_and(|json| json.starts_with("{\"segment\":"))
    }

    fn attribute(&self, name: &str) -> Option<serde_json::Value> {
        let attributes: serde_json::Value =
            serde_json::from_str(self.attributes.as_deref()?).ok()?;
        attributes.get(name).cloned()
    }
}

/// Key in `attributes`: the rows are in time order.
const SORTED: &str = "sorted";
/// Key in `attributes`, the first one: the row is a [`Segment`]'s.
const SEGMENT: &str = "segment";

/// What a row knows of the table in a Parquet file that never changes: enough to plan without
/// opening it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TableFacts {
    /// The Arrow schema as JSON.
    pub arrow_schema: String,
    /// Row count and each column's minimum, maximum and null count, as Delta's stats JSON.
    pub statistics: String,
    /// The column that orders a series.
    pub temporal_column: Option<String>,
    /// Its smallest value, microseconds since 1970 UTC.
    pub min_time: Option<i64>,
    /// Its largest value, microseconds since 1970 UTC.
    pub max_time: Option<i64>,
    /// Whether the rows are in the order of the temporal column, none of which is null.
    pub sorted: bool,
}

impl TableFacts {
    /// Returns the `attributes` of the row, given those that the node has already.
    pub fn attributes(&self, others: Option<&str>) -> Option<String> {
        let mut attributes: serde_json::Map<String, serde_json::Value> =
            others.and_then(|others| serde_json::from_str(others).ok()).unwrap_or_default();
        attributes.remove(SORTED);
        if self.sorted {
            attributes.insert(SORTED.to_owned(), true.into());
        }
        (!attributes.is_empty()).then(|| serde_json::Value::Object(attributes).to_string())
    }
}

/// A merged file of a series: it holds all rows of the versions `from..=to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The first version in it.
    pub from: i64,
    /// The last version in it.
    pub to: i64,
    /// Whether its rows are in the order of the temporal column, none of which is null.
    pub sorted: bool,
    /// Which version's rows follow each other in the file: pairs of a version and a number of rows.
    pub runs: Vec<(i64, i64)>,
}

#[derive(Deserialize)]
struct SegmentAttributes {
    segment: Segment,
}

impl Segment {
    /// Returns the `attributes` of the row.
    pub fn attributes(&self) -> String {
        format!("{{\"{SEGMENT}\":{}}}", serde_json::json!(self))
    }
}

/// `Bytes` has no serde support of its own without a feature that every crate would then carry.
mod optional_bytes {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(
        bytes: &Option<Bytes>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.as_deref().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Bytes>, D::Error> {
        Ok(Option::<Vec<u8>>::deserialize(deserializer)?.map(Bytes::from))
    }
}
