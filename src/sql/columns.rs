//! Columns and their types as a text gives them: a list as in CREATE TABLE, or JSON.
//!
//! ```text
//! timestamp TIMESTAMP, station TEXT, "an amount" DECIMAL(10, 2)
//! {"timestamp": "TIMESTAMP", "station": "TEXT"}
//! [{"name": "timestamp", "type": "TIMESTAMP"}]
//! ```
//!
//! The types are those that a CSV can hold, by their SQL names. A time has as many digits as it
//! says: `TIMESTAMP(3)` milliseconds, and microseconds if it does not say. One with a zone is kept in
//! UTC. Constraints and defaults are refused: there is nothing to keep them. The columns of a JSON map
//! are in the order of their names.

use datafusion::arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, TimeUnit,
};
use datafusion::sql::sqlparser::ast::{DataType as SqlType, ExactNumberInfo, TimezoneInfo};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use serde_json::Value;

use super::script::DIALECT;
use crate::error::{Error, Result};

/// The types there are, as they are told to users.
const TYPES: &str = "BOOLEAN, TINYINT, SMALLINT, INT, BIGINT (each also UNSIGNED), REAL, DOUBLE, \
                     DECIMAL(p, s), DATE, TIME, TIMESTAMP, TIMESTAMPTZ, TEXT";

/// Reads a list of columns with their types.
///
/// # Errors
/// `Invalid` for what is no such list, for a name that is given twice, and for a type that a CSV
/// cannot hold; it names the column.
pub fn declared_columns(text: &str) -> Result<Vec<(String, DataType)>> {
    let columns = match text.trim_start().as_bytes().first() {
        Some(b'{' | b'[') => of_json(text)?,
        _ => of_sql(text)?,
    };
    for (at, (name, _)) in columns.iter().enumerate() {
        if columns[..at].iter().any(|(other, _)| other == name) {
            return Err(Error::invalid(format!("column '{name}' is given twice")));
        }
    }
    Ok(columns)
}

fn of_sql(text: &str) -> Result<Vec<(String, DataType)>> {
    let syntax = |error: ParserError| {
        Error::invalid(format!("'{}' is no list of columns", text.trim()))
            .with_source(error)
            .with_hint("as in 'id BIGINT, \"a name\" TEXT'")
    };
    let mut parser = Parser::new(&DIALECT).try_with_sql(text).map_err(syntax)?;
    let is_nested = parser.consume_token(&Token::LParen);
    let columns = parser.parse_comma_separated(Parser::parse_column_def).map_err(syntax)?;
    if is_nested {
        parser.expect_token(&Token::RParen).map_err(syntax)?;
    }
    parser.expect_token(&Token::EOF).map_err(syntax)?;
    columns
        .into_iter()
        .map(|column| {
            let name = column.name.value;
            if let Some(option) = column.options.first() {
                return Err(Error::invalid(format!("column '{name}': {option} is not kept"))
                    .with_hint("a column is a name and a type"));
            }
            let data_type = arrow_type(&name, &column.data_type)?;
            Ok((name, data_type))
        })
        .collect()
}

fn of_json(text: &str) -> Result<Vec<(String, DataType)>> {
    let shape = || {
        Error::invalid("this JSON is no list of columns")
            .with_hint(r#"as in '{"id": "BIGINT"}' or '[{"name": "id", "type": "BIGINT"}]'"#)
    };
    let value: Value = serde_json::from_str(text).map_err(|error| shape().with_source(error))?;
    let pairs: Vec<(&str, &Value)> = match &value {
        Value::Object(types) => types.iter().map(|(name, of)| (name.as_str(), of)).collect(),
        Value::Array(columns) => columns
            .iter()
            .map(|column| match column.as_object() {
                Some(column) if column.len() == 2 => {
                    Some((column.get("name")?.as_str()?, column.get("type")?))
                }
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or_else(shape)?,
        _ => return Err(shape()),
    };
    pairs
        .into_iter()
        .map(|(name, of)| {
            let of = of.as_str().ok_or_else(shape)?;
            let parse = || {
                let mut parser = Parser::new(&DIALECT).try_with_sql(of)?;
                let sql_type = parser.parse_data_type()?;
                parser.expect_token(&Token::EOF).map(|_| sql_type)
            };
            let sql_type = parse().map_err(|error| no_type(name, of).with_source(error))?;
            Ok((name.to_owned(), arrow_type(name, &sql_type)?))
        })
        .collect()
}

fn no_type(name: &str, of: &str) -> Error {
    Error::invalid(format!("column '{name}': '{of}' is no type of a CSV"))
        .with_hint(format!("there are {TYPES}"))
}

/// Returns the engine's type of the column `name`.
fn arrow_type(name: &str, sql_type: &SqlType) -> Result<DataType> {
    let refused = || no_type(name, &sql_type.to_string());
    Ok(match sql_type {
        SqlType::Boolean | SqlType::Bool => DataType::Boolean,
        SqlType::TinyInt(_) => DataType::Int8,
        SqlType::SmallInt(_) | SqlType::Int2(_) => DataType::Int16,
        SqlType::Int(_) | SqlType::Integer(_) | SqlType::Int4(_) => DataType::Int32,
        SqlType::BigInt(_) | SqlType::Int8(_) => DataType::Int64,
        SqlType::TinyIntUnsigned(_) => DataType::UInt8,
        SqlType::SmallIntUnsigned(_) | SqlType::Int2Unsigned(_) => DataType::UInt16,
        SqlType::IntUnsigned(_) | SqlType::IntegerUnsigned(_) | SqlType::Int4Unsigned(_) => {
            DataType::UInt32
        }
        SqlType::BigIntUnsigned(_) | SqlType::Int8Unsigned(_) => DataType::UInt64,
        SqlType::Float(_) | SqlType::Real | SqlType::Float4 => DataType::Float32,
        SqlType::Double(_) | SqlType::DoublePrecision | SqlType::Float8 => DataType::Float64,
        SqlType::Numeric(digits) | SqlType::Decimal(digits) | SqlType::Dec(digits) => {
            decimal(*digits).ok_or_else(refused)?
        }
        SqlType::Date => DataType::Date32,
        SqlType::Time(digits, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            match unit(*digits).ok_or_else(refused)? {
                unit @ (TimeUnit::Second | TimeUnit::Millisecond) => DataType::Time32(unit),
                unit => DataType::Time64(unit),
            }
        }
        SqlType::Timestamp(digits, zone) => {
            let zone = match zone {
                TimezoneInfo::None | TimezoneInfo::WithoutTimeZone => None,
                TimezoneInfo::Tz | TimezoneInfo::WithTimeZone => Some("UTC".into()),
            };
            DataType::Timestamp(unit(*digits).ok_or_else(refused)?, zone)
        }
        SqlType::Datetime(digits) => DataType::Timestamp(unit(*digits).ok_or_else(refused)?, None),
        SqlType::Text
        | SqlType::String(_)
        | SqlType::Varchar(None)
        | SqlType::CharVarying(None)
        | SqlType::CharacterVarying(None) => DataType::Utf8View,
        _ => return Err(refused()),
    })
}

/// Writes the type of a column as [`declared_columns`] reads it; `None` for one that it does not
/// know.
pub fn sql_type(data_type: &DataType) -> Option<String> {
    let digits = |unit: &TimeUnit| match unit {
        TimeUnit::Second => "(0)",
        TimeUnit::Millisecond => "(3)",
        TimeUnit::Microsecond => "",
        TimeUnit::Nanosecond => "(9)",
    };
    let name = match data_type {
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 => "TINYINT",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INT",
        DataType::Int64 => "BIGINT",
        DataType::UInt8 => "TINYINT UNSIGNED",
        DataType::UInt16 => "SMALLINT UNSIGNED",
        DataType::UInt32 => "INT UNSIGNED",
        DataType::UInt64 => "BIGINT UNSIGNED",
        DataType::Float32 => "REAL",
        DataType::Float64 => "DOUBLE",
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            return Some(format!("DECIMAL({precision}, {scale})"));
        }
        DataType::Date32 => "DATE",
        DataType::Time32(unit) | DataType::Time64(unit) => {
            return Some(format!("TIME{}", digits(unit)));
        }
        DataType::Timestamp(unit, None) => return Some(format!("TIMESTAMP{}", digits(unit))),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "TIMESTAMPTZ",
        DataType::Timestamp(unit, Some(_)) => {
            return Some(format!("TIMESTAMP{} WITH TIME ZONE", digits(unit)));
        }
        DataType::Utf8View | DataType::Utf8 => "TEXT",
        _ => return None,
    };
    Some(name.to_owned())
}

/// Returns the unit of a time with so many digits of a second.
fn unit(digits: Option<u64>) -> Option<TimeUnit> {
    match digits {
        Some(0) => Some(TimeUnit::Second),
        Some(3) => Some(TimeUnit::Millisecond),
        None | Some(6) => Some(TimeUnit::Microsecond),
        Some(9) => Some(TimeUnit::Nanosecond),
        Some(_) => None,
    }
}

/// Returns a decimal type; without digits, the engine's usual one.
fn decimal(digits: ExactNumberInfo) -> Option<DataType> {
    let (precision, scale) = match digits {
        ExactNumberInfo::None => (38, 10),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    let precision = u8::try_from(precision).ok().filter(|precision| *precision > 0)?;
    let scale = i8::try_from(scale)
        .ok()
        .filter(|scale| (0..=i16::from(precision)).contains(&i16::from(*scale)))?;
    if precision <= DECIMAL128_MAX_PRECISION {
        Some(DataType::Decimal128(precision, scale))
    } else {
        (precision <= DECIMAL256_MAX_PRECISION).then_some(DataType::Decimal256(precision, scale))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(text: &str) -> String {
        match declared_columns(text) {
            Ok(columns) => columns
                .iter()
                .map(|(name, data_type)| format!("{name} {data_type}"))
                .collect::<Vec<_>>()
                .join("; "),
            Err(error) => format!("error: {}", error.message()),
        }
    }

    #[test]
    fn lists_are_columns() {
        for (text, expected) in [
            (
                "timestamp TIMESTAMP, station TEXT, amount DECIMAL(10,2), day DATE, n INT",
                "timestamp Timestamp(µs); station Utf8View; amount Decimal128(10, 2); day Date32; \
                 n Int32",
            ),
            ("(\"a b\" VARCHAR, \"c\" BIGINT)", "a b Utf8View; c Int64"),
            (
                "a TIMESTAMPTZ, b TIMESTAMP(9) WITH TIME ZONE, c TIMESTAMP(3), d DATETIME, e TIME",
                "a Timestamp(µs, \"UTC\"); b Timestamp(ns, \"UTC\"); c Timestamp(ms); \
                 d Timestamp(µs); e Time64(µs)",
            ),
            (
                "a TINYINT UNSIGNED, b SMALLINT, c REAL, d DOUBLE PRECISION, e DECIMAL(50, 3), \
                 f BOOLEAN, g DECIMAL, h INT UNSIGNED",
                "a UInt8; b Int16; c Float32; d Float64; e Decimal256(50, 3); f Boolean; \
                 g Decimal128(38, 10); h UInt32",
            ),
            ("{\"a\": \"bigint\", \"B\": \"decimal(4,1)\"}", "B Decimal128(4, 1); a Int64"),
            ("[{\"name\": \"a\", \"type\": \"TEXT\"}]", "a Utf8View"),
            ("{}", ""),
            ("a", "error: 'a' is no list of columns"),
            ("a BLOB", "error: column 'a': 'BLOB' is no type of a CSV"),
            ("a VARCHAR(3)", "error: column 'a': 'VARCHAR(3)' is no type of a CSV"),
            ("a INT, b INT[]", "error: column 'b': 'INT[]' is no type of a CSV"),
            ("a TIMESTAMP(4)", "error: column 'a': 'TIMESTAMP(4)' is no type of a CSV"),
            ("a DECIMAL(3,4)", "error: column 'a': 'DECIMAL(3,4)' is no type of a CSV"),
            ("a DECIMAL(77)", "error: column 'a': 'DECIMAL(77)' is no type of a CSV"),
            ("a INT NOT NULL", "error: column 'a': NOT NULL is not kept"),
            ("a INT, a TEXT", "error: column 'a' is given twice"),
            ("", "error: '' is no list of columns"),
            ("a INT b", "error: 'a INT b' is no list of columns"),
            ("[1]", "error: this JSON is no list of columns"),
            ("{\"a\": 1}", "error: this JSON is no list of columns"),
            ("{\"a\": \"INT, b INT\"}", "error: column 'a': 'INT, b INT' is no type of a CSV"),
            ("{\"a\"", "error: this JSON is no list of columns"),
        ] {
            assert_eq!(sketch(text), expected, "{text}");
        }
    }

    #[test]
    fn types_are_read_as_they_are_written() {
        let text = "a BOOLEAN, b TINYINT, c SMALLINT, d INT, e BIGINT, f TINYINT UNSIGNED, \
                    g SMALLINT UNSIGNED, h INT UNSIGNED, i BIGINT UNSIGNED, j REAL, k DOUBLE, \
                    l DECIMAL(10, 2), m DECIMAL(70, 0), n DATE, o TIME(0), p TIME(3), q TIME, \
                    r TIME(9), s TIMESTAMP(0), t TIMESTAMP, u TIMESTAMPTZ, \
                    v TIMESTAMP(9) WITH TIME ZONE, w TEXT";
        let columns = declared_columns(text).unwrap();
        let written: Vec<_> = columns
            .iter()
            .map(|(name, data_type)| format!("{name} {}", sql_type(data_type).unwrap()))
            .collect();
        assert_eq!(written.join(", "), text);
    }
}
