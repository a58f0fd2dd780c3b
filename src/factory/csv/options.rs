//! The options of `csv_directory` and `csv_to_parquet`, and what they mean for the reader.
//!
//! An option that is not given, or is `auto`, is detected or has its default.

use std::time::Duration;

use serde_json::Value;

use super::super::{Config, OptionKind, OptionSpec, parse_duration};
use super::{Convert, Reading};
use crate::entry::EntryType;
use crate::error::{Error, Result};
use crate::format::{Compression, CsvOptions, Encoding, OnError, TimestampFormat};
use crate::glob::Glob;
use crate::path::{PondPath, is_glob};
use crate::sql::declared_columns;

/// The pattern of a directory.
pub(super) const PATTERN: &str = "source_pattern";
/// The one file of a `csv_to_parquet`.
pub(super) const SOURCE: &str = "source";

/// What stands for an option that is not given.
const AUTO: &str = "auto";
/// How old a conversion of a table may be.
const TABLE_TTL: Duration = Duration::from_secs(24 * 3600);
/// How old a conversion of a series may be.
const SERIES_TTL: Duration = Duration::from_secs(6 * 3600);

/// The options of a `csv_directory`.
pub(super) const DIRECTORY_OPTIONS: &[OptionSpec] = &with_source(OptionSpec {
    required: true,
    ..option(
        PATTERN,
        OptionKind::PondPath,
        "the CSV files: a path or a glob, also of files in host mounts and other directories",
    )
});

/// The options of a `csv_to_parquet`.
pub(super) const FILE_OPTIONS: &[OptionSpec] = &with_source(OptionSpec {
    required: true,
    ..option(SOURCE, OptionKind::PondPath, "the CSV file")
});

const fn with_source(source: OptionSpec) -> [OptionSpec; 16] {
    [
        source,
        OptionSpec {
            default: Some("table"),
            ..option(
                "target_type",
                OptionKind::Choice(&["table", "series", AUTO]),
                "whether a file is a table, or a series: in the order of time",
            )
        },
        OptionSpec {
            default: Some("timestamp"),
            ..auto("temporal_column", &OptionKind::Text, "the column that orders a series")
        },
        auto(
            "target_schema",
            &OptionKind::Columns,
            "types of columns, as in 'id BIGINT, name TEXT' or JSON; the others are detected",
        ),
        OptionSpec {
            default: Some("24h, of a series 6h"),
            ..auto("cache_ttl", &OptionKind::Duration, "convert anew what is older than this")
        },
        OptionSpec {
            default: Some(AUTO),
            ..option(
                "convert",
                OptionKind::Choice(&[AUTO, "first", "later"]),
                "whether the first statement waits for the conversion, or reads the text and is \
                 followed by it; small tables come later",
            )
        },
        auto("delimiter", &OptionKind::Text, "the character between values, or tab"),
        auto("has_header", &OptionKind::Boolean, "whether the first record names the columns"),
        auto("quote", &OptionKind::Text, "the character around values, or none"),
        auto("escape", &OptionKind::Text, "the character before a quote within quotes, or none"),
        auto("comment", &OptionKind::Text, "the character that begins a comment line, or none"),
        auto("null_values", &OptionKind::Texts, "texts that are null, besides nothing at all"),
        auto(
            "timestamp_format",
            &OptionKind::Text,
            "how times are written: strftime directives, or unix, unix_ms, unix_us, unix_ns",
        ),
        OptionSpec {
            default: Some(AUTO),
            ..option(
                "compression",
                OptionKind::Choice(&[AUTO, "none", "gzip", "zstd", "bzip2", "xz"]),
                "how the files are compressed",
            )
        },
        OptionSpec {
            default: Some(AUTO),
            ..option(
                "encoding",
                OptionKind::Choice(&[AUTO, "utf-8", "latin1", "utf-16le", "utf-16be"]),
                "how the files are encoded",
            )
        },
        OptionSpec {
            default: Some("fail"),
            ..option(
                "on_error",
                OptionKind::Choice(&["fail", "skip", "null", AUTO]),
                "what becomes of a record or a value that does not fit",
            )
        },
    ]
}

const fn option(name: &'static str, kind: OptionKind, doc: &'static str) -> OptionSpec {
    OptionSpec { name, kind, required: false, default: None, doc }
}

/// An option that is detected unless it is given.
const fn auto(name: &'static str, kind: &'static OptionKind, doc: &'static str) -> OptionSpec {
    OptionSpec { default: Some(AUTO), ..option(name, OptionKind::Auto(kind), doc) }
}

/// Returns the path or pattern of the option `name`.
///
/// # Errors
/// `Invalid` for what is neither.
pub(super) fn source(config: &Config, name: &str) -> Result<PondPath> {
    let in_option = |error: Error| error.context(format!("option '{name}'"));
    let path = PondPath::parse(config.text(name).unwrap_or_default()).map_err(in_option)?;
    if name == PATTERN && is_glob(path.as_str()) {
        Glob::parse(path.as_str()).map_err(in_option)?;
    }
    Ok(path)
}

/// Returns how files are read by a configuration.
///
/// # Errors
/// `Invalid` for an option whose value is none, or does not go together with another one's.
pub(super) fn reading(config: &Config) -> Result<Reading> {
    let target_type = match given(config, "target_type") {
        Some("series") => EntryType::FileSeries,
        _ => EntryType::FileTable,
    };
    let temporal_column = given(config, "temporal_column").map(str::to_owned);
    if temporal_column.is_some() && target_type == EntryType::FileTable {
        return Err(Error::invalid("option 'temporal_column': a table is in no order of time")
            .with_hint("a series is: target_type = 'series'"));
    }
    let ttl = match (given(config, "cache_ttl").and_then(parse_duration), target_type) {
        (Some(ttl), _) => ttl,
        (None, EntryType::FileSeries) => SERIES_TTL,
        (None, _) => TABLE_TTL,
    };
    let convert = match given(config, "convert") {
        Some("first") => Convert::First,
        Some("later") => Convert::Later,
        _ => Convert::Auto,
    };
    Ok(Reading { options: csv_options(config)?, target_type, temporal_column, ttl, convert })
}

fn csv_options(config: &Config) -> Result<CsvOptions> {
    let quote = optional_byte(config, "quote")?;
    let escape = match optional_byte(config, "escape")? {
        // It is doubled.
        Some(Some(escape)) if Some(escape) == quote.flatten() => Some(None),
        escape => escape,
    };
    let options = CsvOptions {
        delimiter: given(config, "delimiter").map(delimiter).transpose()?,
        has_header: config.get("has_header").and_then(Value::as_bool),
        quote,
        escape,
        comment: optional_byte(config, "comment")?,
        null_values: config.get("null_values").and_then(Value::as_array).map(|texts| {
            texts.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        }),
        timestamp_format: given(config, "timestamp_format").map(timestamp_format).transpose()?,
        compression: given(config, "compression").map(|word| match word {
            "gzip" => Compression::Gzip,
            "zstd" => Compression::Zstd,
            "bzip2" => Compression::Bzip2,
            "xz" => Compression::Xz,
            _ => Compression::None,
        }),
        encoding: given(config, "encoding").map(|word| match word {
            "latin1" => Encoding::Latin1,
            "utf-16le" => Encoding::Utf16Le,
            "utf-16be" => Encoding::Utf16Be,
            _ => Encoding::Utf8,
        }),
        on_error: given(config, "on_error").map(|word| match word {
            "skip" => OnError::Skip,
            "null" => OnError::Null,
            _ => OnError::Fail,
        }),
        temporal_column: None,
        columns: match given(config, "target_schema") {
            Some(text) => {
                declared_columns(text).map_err(|error| error.context("option 'target_schema'"))?
            }
            None => Vec::new(),
        },
    };
    let roles = [
        ("delimiter", options.delimiter),
        ("quote", options.quote.flatten()),
        ("escape", options.escape.flatten()),
        ("comment", options.comment.flatten()),
    ];
    for (at, (name, byte)) in roles.iter().enumerate() {
        let same = roles[..at].iter().find(|(_, other)| byte.is_some() && other == byte);
        if let Some((other, _)) = same {
            return Err(Error::invalid(format!(
                "options '{other}' and '{name}' are the same character"
            ))
            .with_hint("a character has one meaning; none stands for no such character"));
        }
    }
    Ok(options)
}

/// Returns the text of an option that is given, and is not left to be detected.
fn given<'a>(config: &'a Config, name: &str) -> Option<&'a str> {
    config.text(name).filter(|text| *text != AUTO)
}

fn delimiter(text: &str) -> Result<u8> {
    match text {
        "tab" | "\\t" => Ok(b'\t'),
        _ => byte("delimiter", text, "tab"),
    }
}

/// Returns the character of an option that may also be `none`.
fn optional_byte(config: &Config, name: &str) -> Result<Option<Option<u8>>> {
    Ok(match given(config, name) {
        None => None,
        Some("none") => Some(None),
        Some(text) => Some(Some(byte(name, text, "none")?)),
    })
}

/// Returns the one byte of a text; `word` may stand in its place.
fn byte(name: &str, text: &str, word: &str) -> Result<u8> {
    match text.as_bytes() {
        [b'\n' | b'\r' | 0] => {}
        [byte] if byte.is_ascii() => return Ok(*byte),
        _ => {}
    }
    Err(Error::invalid(format!("option '{name}': {text:?} is not one ASCII character"))
        .with_hint(format!("one character, {word} or {AUTO}; no line end")))
}

fn timestamp_format(text: &str) -> Result<TimestampFormat> {
    let per_second = match text {
        "unix" => 1,
        "unix_ms" => 1_000,
        "unix_us" => 1_000_000,
        "unix_ns" => 1_000_000_000,
        _ => {
            let refused = || {
                Error::invalid(format!("option 'timestamp_format': '{text}' is no such format"))
                    .with_hint(
                        "strftime directives, as '%d.%m.%Y %H:%M', or unix, unix_ms, unix_us, unix_ns",
                    )
            };
            // Any time will do to see whether the directives are known.
            let some_time = jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC);
            if !text.contains('%') {
                return Err(refused());
            }
            jiff::fmt::strtime::format(text, &some_time)
                .map_err(|error| refused().with_source(error))?;
            return Ok(TimestampFormat::Strftime(text.to_owned()));
        }
    };
    Ok(TimestampFormat::Epoch(per_second))
}
