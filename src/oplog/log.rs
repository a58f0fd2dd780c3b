//! The files of the Delta log: how they are written, sealed, and replayed.
//!
//! **Seals.** A log file and a checkpoint carry a CRC-32 of themselves, computed with its own digits as
//! zeros: `"seal":{"crc32":"…"}`, in the `commitInfo` of the one, in the key-value metadata of the
//! other. A file with any part of that has to have all of it, and has to match; one without is of
//! another writer, or of a pond older than seals, and is taken as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::json::{LineDelimitedWriter, ReaderBuilder};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::file::metadata::KeyValue;
use deltalake::kernel::{Action, Add};
use deltalake::logstore::{commit_uri_from_version, get_actions};
use object_store::path::Path;
use serde::Serialize;
use serde_json::{Value, json};

use super::rows::{properties, unwritable};
use super::{TableState, Tombstone, add_action, now_millis};
use crate::error::{Error, Result};

/// The seal before the CRC is known.
const SEAL: &str = r#""seal":{"crc32":"00000000"}"#;
/// Its first part.
const SEAL_KEY: &str = r#""seal":{"#;
/// Its second part, before the digits.
const SEAL_CRC: &str = r#"{"crc32":""#;
/// Number of digits.
const SEAL_DIGITS: usize = 8;
/// Key of a checkpoint's seal in its metadata.
const CHECKPOINT_SEAL: &str = "pond.seal";

/// Whether a file's seal matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seal {
    Intact,
    Broken,
    /// It has none.
    Missing,
}

/// Fills in the seal.
fn seal(mut bytes: Vec<u8>) -> Bytes {
    let key = find_last(&bytes, SEAL.as_bytes()).expect("the writer put a seal there");
    let at = key + SEAL.len() - SEAL_DIGITS - "\"}".len();
    let crc = format!("{:08x}", crc32fast::hash(&bytes));
    bytes[at..at + SEAL_DIGITS].copy_from_slice(crc.as_bytes());
    bytes.into()
}

/// Checks the seal of a file.
pub(super) fn check_seal(bytes: &[u8]) -> Seal {
    let key = find_last(bytes, SEAL_KEY.as_bytes());
    let crc = find_last(bytes, SEAL_CRC.as_bytes()).map(|at| at + SEAL_CRC.len());
    let (Some(_), Some(at)) = (key, crc) else {
        return if key.or(crc).is_some() { Seal::Broken } else { Seal::Missing };
    };
    let Some(digits) = bytes.get(at..at + SEAL_DIGITS) else { return Seal::Broken };
    let stated = std::str::from_utf8(digits).ok().filter(|text| !text.contains('+'));
    let stated = stated.and_then(|text| u32::from_str_radix(text, 16).ok());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..at]);
    hasher.update(&[b'0'; SEAL_DIGITS]);
    hasher.update(&bytes[at + SEAL_DIGITS..]);
    // Digits have one spelling, so that no change of a single bit is none.
    let lower = !digits.iter().any(u8::is_ascii_uppercase);
    if stated == Some(hasher.finalize()) && lower { Seal::Intact } else { Seal::Broken }
}

fn find_last(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).rposition(|window| window == wanted)
}

/// The log file of one commit: one JSON action a line.
pub(super) struct LogWriter {
    bytes: Vec<u8>,
}

impl LogWriter {
    pub(super) fn new(operation: &str, txn: Option<i64>, message: Option<&str>) -> Result<Self> {
        let mut log = Self { bytes: Vec::with_capacity(1024) };
        let mut info = json!({
            "timestamp": now_millis(),
            "operation": operation,
            "operationParameters": {},
            "isBlindAppend": operation == "WRITE",
            "engineInfo": concat!("pond/", env!("CARGO_PKG_VERSION")),
        });
        if let Some(txn) = txn {
            info["txn"] = txn.into();
        }
        if let Some(message) = message {
            info["message"] = message.into();
        }
        let mut info = info.to_string();
        info.truncate(info.len() - "}".len());
        log.bytes.extend_from_slice(format!("{{\"commitInfo\":{info},{SEAL}}}}}\n").as_bytes());
        Ok(log)
    }

    pub(super) fn push(&mut self, action: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.bytes, action)
            .map_err(|error| Error::invalid("oplog action").with_source(error))?;
        self.bytes.push(b'\n');
        Ok(())
    }

    pub(super) fn finish(self) -> Bytes {
        seal(self.bytes)
    }
}

/// Returns the actions of the log file of `version`.
///
/// # Errors
/// `Corrupt` if the file is not what was written.
pub(super) fn parse_log(version: u64, bytes: &Bytes) -> Result<Vec<Action>> {
    let path = commit_uri_from_version(Some(version));
    if check_seal(bytes) == Seal::Broken {
        return Err(damaged(&path));
    }
    let actions = get_actions(version, bytes).map_err(|error| damaged(&path).with_source(error))?;
    if actions.is_empty() {
        return Err(Error::corrupt(format!("oplog file {path} is empty"))
            .with_hint("restore the file from a backup"));
    }
    Ok(actions)
}

pub(super) fn damaged(path: &Path) -> Error {
    Error::corrupt(format!("oplog file {path} is damaged"))
        .with_hint("restore the file from a backup")
}

pub(super) fn checkpoint_path(version: u64) -> Path {
    Path::from(format!("_delta_log/{version:020}.checkpoint.parquet"))
}

/// What the log says of the table, action by action.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub(super) adds: BTreeMap<String, Add>,
    pub(super) tombstones: BTreeMap<String, Tombstone>,
    pub(super) metadata: Option<String>,
    pub(super) protocol: Option<String>,
}

impl Replay {
    pub(super) fn apply(&mut self, action: Action) -> Result<()> {
        match action {
            Action::Add(add) => {
                self.tombstones.remove(&add.path);
                self.adds.insert(add.path.clone(), add);
            }
            Action::Remove(remove) => {
                self.adds.remove(&remove.path);
                let tombstone = Tombstone::new(&remove);
                self.tombstones.insert(remove.path, tombstone);
            }
            Action::Metadata(metadata) => self.metadata = Some(to_json(&metadata)?),
            Action::Protocol(protocol) => self.protocol = Some(parse_protocol(&protocol)?),
            _ => {}
        }
        Ok(())
    }
}

/// Returns the protocol as JSON, if it is one that we read and write.
///
/// # Errors
/// `Unsupported`.
pub(super) fn parse_protocol(protocol: &impl Serialize) -> Result<String> {
    let text = to_json(protocol)?;
    let value: Value = parse_json(&text)?;
    let version = |name| value.get(name).and_then(Value::as_i64).unwrap_or(i64::MAX);
    if version("minReaderVersion") > 1 || version("minWriterVersion") > 2 {
        return Err(Error::unsupported(format!("the oplog needs the Delta protocol {text}"))
            .with_hint("another program has upgraded the table beyond what pond reads"));
    }
    Ok(text)
}

pub(super) fn to_json(action: &impl Serialize) -> Result<String> {
    serde_json::to_string(action).map_err(|error| Error::corrupt("oplog action").with_source(error))
}

pub(super) fn parse_json(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| Error::corrupt("oplog action").with_source(error))
}

/// Encodes the checkpoint of `state`: the files, the tombstones, the metadata and the protocol.
/// Returns it with what `_last_checkpoint` says of it.
pub(super) fn encode_checkpoint(state: &TableState) -> Result<(Bytes, String)> {
    let mut rows = vec![
        json!({"protocol": parse_json(&state.protocol)?}),
        json!({"metaData": parse_json(&state.metadata)?}),
    ];
    rows.extend(state.files.iter().map(|file| json!({"add": add_action(file, false)})));
    rows.extend(state.tombstones.iter().map(|tombstone| {
        json!({"remove": {
            "path": tombstone.path,
            "deletionTimestamp": tombstone.removed_millis,
            "dataChange": false,
        }})
    }));
    let mut decoder = ReaderBuilder::new(checkpoint_schema()).build_decoder()?;
    decoder.serialize(&rows)?;
    let batch = decoder.flush()?.ok_or_else(|| Error::corrupt("oplog checkpoint: no rows"))?;
    let properties = properties(Compression::SNAPPY, batch.num_rows() > 8)
        .set_key_value_metadata(Some(vec![KeyValue::new(
            CHECKPOINT_SEAL.to_owned(),
            SEAL.to_owned(),
        )]))
        .build();
    let mut writer =
        ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).map_err(unwritable)?;
    writer.write(&batch).map_err(unwritable)?;
    let bytes = seal(writer.into_inner().map_err(unwritable)?);
    let last = last_checkpoint(state.version, rows.len(), bytes.len(), state.files.len());
    Ok((bytes, last))
}

/// Returns the text of `_last_checkpoint`.
pub(super) fn last_checkpoint(version: u64, rows: usize, bytes: usize, files: usize) -> String {
    json!({"version": version, "size": rows, "sizeInBytes": bytes, "numOfAddFiles": files})
        .to_string()
}

/// Replays the checkpoint of `version`.
///
/// # Errors
/// `Corrupt` if it is not what was written.
pub(super) fn decode_checkpoint(version: u64, bytes: Bytes) -> Result<(Replay, usize)> {
    let path = checkpoint_path(version);
    if check_seal(&bytes) == Seal::Broken {
        return Err(damaged(&path));
    }
    let failed = |error: &dyn std::fmt::Display| damaged(&path).with_source(error.to_string());
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(|error| failed(&error))?;
    let mut replay = Replay::default();
    let mut rows = 0;
    for batch in reader {
        let batch = batch.map_err(|error| failed(&error))?;
        let mut writer = LineDelimitedWriter::new(Vec::new());
        writer.write(&batch).map_err(|error| failed(&error))?;
        writer.finish().map_err(|error| failed(&error))?;
        let lines = writer.into_inner().into();
        for action in get_actions(version, &lines).map_err(|error| failed(&error))? {
            replay.apply(action)?;
        }
        rows += batch.num_rows();
    }
    Ok((replay, rows))
}

/// The columns of a classic checkpoint that we fill.
fn checkpoint_schema() -> SchemaRef {
    static SCHEMA: std::sync::LazyLock<SchemaRef> = std::sync::LazyLock::new(|| {
        let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
        let text = |name: &str| field(name, DataType::Utf8);
        let long = |name: &str| field(name, DataType::Int64);
        let flag = |name: &str| field(name, DataType::Boolean);
        let map = |name: &str| {
            let entries = DataType::Struct(
                vec![Field::new("key", DataType::Utf8, false), text("value")].into(),
            );
            field(name, DataType::Map(Field::new("key_value", entries, false).into(), false))
        };
        let list = |name: &str| field(name, DataType::List(text("element").into()));
        let group = |name: &str, fields: Vec<Field>| field(name, DataType::Struct(fields.into()));
        Arc::new(Schema::new(vec![
            group(
                "protocol",
                vec![
                    field("minReaderVersion", DataType::Int32),
                    field("minWriterVersion", DataType::Int32),
                    list("readerFeatures"),
                    list("writerFeatures"),
                ],
            ),
            group(
                "metaData",
                vec![
                    text("id"),
                    text("name"),
                    text("description"),
                    group("format", vec![text("provider"), map("options")]),
                    text("schemaString"),
                    list("partitionColumns"),
                    map("configuration"),
                    long("createdTime"),
                ],
            ),
            group(
                "add",
                vec![
                    text("path"),
                    map("partitionValues"),
                    long("size"),
                    long("modificationTime"),
                    flag("dataChange"),
                    text("stats"),
                    map("tags"),
                ],
            ),
            group("remove", vec![text("path"), long("deletionTimestamp"), flag("dataChange")]),
        ]))
    });
    SCHEMA.clone()
}
