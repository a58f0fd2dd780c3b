//! How a CSV is to be read: what a user says of it ([`CsvOptions`]), and what is known of it once it
//! has been looked at ([`Layout`]).

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use serde::{Deserialize, Serialize};

use super::kinds::Kinds;

/// What a user says of CSV files; whatever is `None` is detected.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct CsvOptions {
    /// The byte between values.
    pub delimiter: Option<u8>,
    /// Whether the first record names the columns.
    pub has_header: Option<bool>,
    /// The byte around values that hold delimiters or line breaks; `Some(None)` for none.
    pub quote: Option<Option<u8>>,
    /// The byte before a quote within quotes; `Some(None)` for a doubled quote.
    pub escape: Option<Option<u8>>,
    /// The byte at the start of lines that are left out; `Some(None)` for none.
    pub comment: Option<Option<u8>>,
    /// Texts that are null, besides a value that is empty without quotes.
    pub null_values: Option<Vec<String>>,
    /// How times are written.
    pub timestamp_format: Option<TimestampFormat>,
    /// How the bytes are compressed.
    pub compression: Option<Compression>,
    /// What the bytes stand for.
    pub encoding: Option<Encoding>,
    /// What becomes of a record or a value that does not fit; by default it is an error, unless the
    /// type was detected: then the column widens.
    pub on_error: Option<OnError>,
    /// The column that holds times, if one is named: numbers there are times if the format says so.
    pub temporal_column: Option<String>,
    /// Types that are given, by column name; the others are detected.
    pub columns: Vec<(String, DataType)>,
}

/// How the values of a text are told apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Dialect {
    /// The byte between values.
    pub delimiter: u8,
    /// The byte around values that hold delimiters or line breaks. It opens a value only at its
    /// start.
    pub quote: Option<u8>,
    /// The byte before a quote within quotes; `None` for a doubled quote.
    pub escape: Option<u8>,
    /// The byte at the start of lines that are left out.
    pub comment: Option<u8>,
    /// Whether such lines are left out only where the text begins with them. It is so where the byte
    /// was detected: what is seen at the beginning is no reason to drop data later on.
    pub comments_lead: bool,
    /// Whether the first record names the columns.
    pub has_header: bool,
    /// Texts that are null without quotes, besides the empty one.
    pub nulls: Vec<String>,
    /// How times are written; `None` for ISO 8601.
    pub timestamp_format: Option<TimestampFormat>,
    /// How the bytes are compressed.
    pub compression: Compression,
    /// What the bytes stand for.
    pub encoding: Encoding,
}

/// How times are written, where it is not as ISO 8601 has them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TimestampFormat {
    /// By `strftime` directives.
    Strftime(String),
    /// As a number of this many units a second since 1970 UTC: 1, 1,000, 1,000,000 or
    /// 1,000,000,000.
    Epoch(i64),
}

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they are called by their names")]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Encoding {
    /// Returns the word that options have for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Utf8 => "utf-8",
            Self::Latin1 => "latin1",
            Self::Utf16Le => "utf-16le",
            Self::Utf16Be => "utf-16be",
        }
    }
}

impl Compression {
    /// Returns the word that options have for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        }
    }

    /// Returns the engine's word for it.
    pub(crate) fn file_type(self) -> FileCompressionType {
        match self {
            Self::None => FileCompressionType::UNCOMPRESSED,
            Self::Gzip => FileCompressionType::GZIP,
            Self::Zstd => FileCompressionType::ZSTD,
            Self::Bzip2 => FileCompressionType::BZIP2,
            Self::Xz => FileCompressionType::XZ,
        }
    }
}

/// What bytes stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they are called by their names")]
pub enum Encoding {
    Utf8,
    /// ISO 8859-1, as the web has it: Windows code page 1252.
    Latin1,
    Utf16Le,
    Utf16Be,
}

/// What becomes of a record with too few or too many values, or a value that does not fit its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OnError {
    /// Reading ends in an error.
    Fail,
    /// The record is left out.
    Skip,
    /// The value is null; values beyond the columns are left out.
    Null,
}

/// What is known of one text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Layout {
    /// How its values are told apart.
    pub dialect: Dialect,
    /// Its columns, in the order of the text.
    pub columns: Vec<CsvColumn>,
    /// What becomes of what does not fit.
    pub on_error: OnError,
    /// Whether detected types widen rather than reject.
    pub widens: bool,
    /// Whether all of the text has been looked at.
    pub is_whole: bool,
}

/// A column of a CSV.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CsvColumn {
    /// Its name, which no other column has.
    pub name: String,
    /// The type of its values.
    pub data_type: DataType,
    /// Whether the type was given, and does not widen.
    pub is_declared: bool,
    /// The kinds of values seen, from which the type was told.
    pub seen: u16,
}

impl CsvColumn {
    /// Whether a whole number was seen that no float holds.
    pub(crate) fn has_big_integers(&self) -> bool {
        !self.is_declared && Kinds::from_bits(self.seen).meets(Kinds::BIG)
    }

    /// Whether no value told its type.
    pub fn is_blank(&self) -> bool {
        !self.is_declared && Kinds::from_bits(self.seen).is_within(Kinds::NULL)
    }
}

impl Layout {
    /// Whether there is no value in all of the text, so that nothing is known of the columns but their
    /// names.
    pub fn has_no_values(&self) -> bool {
        self.is_whole && self.columns.iter().all(CsvColumn::is_blank)
    }

    /// Returns the columns with the types that were seen: none of a column without values, which goes
    /// with any.
    pub(crate) fn schema_seen(&self) -> SchemaRef {
        let fields = self.columns.iter().map(|column| {
            let data_type = match column.is_blank() {
                true => DataType::Null,
                false => column.data_type.clone(),
            };
            Field::new(column.name.clone(), data_type, true)
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Returns the columns as those of a table.
    pub fn schema(&self) -> SchemaRef {
        let fields = self
            .columns
            .iter()
            .map(|column| Field::new(column.name.clone(), column.data_type.clone(), true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}

/// A record, or a value of one, that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The line of the text on which the record begins, from 1.
    pub line: u64,
    /// The column whose value does not fit; `None` for a record as a whole.
    pub column: Option<String>,
    /// What is wrong.
    pub reason: String,
    /// The record's text, cut off where it is long.
    pub text: String,
}
