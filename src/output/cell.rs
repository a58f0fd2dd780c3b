//! The values of a column as text and as JSON.
//!
//! The text of a value is that of arrow's [`ArrayFormatter`]. The types that most columns are of are
//! written here all the same, several times as fast; a test holds the two against each other.
//!
//! In JSON a number is a number (but what is not finite is `null`), a list an array, a struct or a
//! map an object, a union the value that it holds, and all else its text.

use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use datafusion::arrow::array::{
    Array, ArrayAccessor, ArrayRef, ArrowPrimitiveType, AsArray, RecordBatch, RunArray,
    downcast_run_array,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, RunEndIndexType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    UnionMode,
};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::error::Result;

/// What stands for NULL within a list or a struct that is written as text.
const NESTED_NULL: &str = "NULL";

type Push<'a> = Box<dyn Fn(usize, &mut Vec<u8>) -> Result<()> + 'a>;

/// A column whose values can be written.
pub(crate) struct Column<'a> {
    nulls: Option<NullBuffer>,
    text: Push<'a>,
    json: Push<'a>,
}

impl<'a> Column<'a> {
    /// Returns the columns of `batch`.
    pub(super) fn all(batch: &'a RecordBatch) -> Result<Vec<Self>> {
        batch.columns().iter().map(Self::new).collect()
    }

    pub(crate) fn new(array: &'a ArrayRef) -> Result<Self> {
        let nulls = array.logical_nulls().filter(|nulls| nulls.null_count() > 0);
        let (text, json) = writers(array)?;
        Ok(Self { nulls, text, json })
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Appends the text of a value that is not NULL.
    pub(super) fn text(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        (self.text)(row, out)
    }

    /// Appends a value as JSON.
    pub(crate) fn json(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        if self.is_null(row) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        (self.json)(row, out)
    }
}

/// Whether the texts of the type's values are made of letters, digits and `+-.: ` alone.
pub(super) fn is_plain(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => false,
        DataType::Dictionary(_, values) => is_plain(values),
        DataType::RunEndEncoded(_, values) => is_plain(values.data_type()),
        data_type => !data_type.is_nested(),
    }
}

/// Whether values of the type are written on the right, so that their digits are below each other.
pub(super) fn is_number(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_number(values),
        DataType::RunEndEncoded(_, values) => is_number(values.data_type()),
        data_type => data_type.is_numeric(),
    }
}

/// Returns what SQL calls a type, in short.
pub(super) fn type_name(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::Null => "null",
        DataType::Boolean => "boolean",
        DataType::Int8 => "tinyint",
        DataType::Int16 => "smallint",
        DataType::Int32 => "int",
        DataType::Int64 => "bigint",
        DataType::UInt8 => "tinyint unsigned",
        DataType::UInt16 => "smallint unsigned",
        DataType::UInt32 => "int unsigned",
        DataType::UInt64 => "bigint unsigned",
        DataType::Float16 => "half",
        DataType::Float32 => "real",
        DataType::Float64 => "double",
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => return format!("decimal({precision},{scale})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "varchar",
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => "bytea",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time",
        DataType::Timestamp(_, None) => "timestamp",
        DataType::Timestamp(_, Some(_)) => "timestamptz",
        DataType::Duration(_) => "duration",
        DataType::Interval(_) => "interval",
        DataType::List(values)
        | DataType::LargeList(values)
        | DataType::ListView(values)
        | DataType::LargeListView(values)
        | DataType::FixedSizeList(values, _) => return type_name(values.data_type()) + "[]",
        DataType::Struct(_) => "struct",
        DataType::Map(_, _) => "map",
        DataType::Union(_, _) => "union",
        DataType::Dictionary(_, values) => return type_name(values),
        DataType::RunEndEncoded(_, values) => return type_name(values.data_type()),
    };
    name.to_owned()
}

/// Returns how the values of `array` are written as text and as JSON.
fn writers(array: &ArrayRef) -> Result<(Push<'_>, Push<'_>)> {
    Ok(match array.data_type() {
        DataType::Boolean => {
            let array = array.as_boolean();
            same(move |row, out| {
                out.extend_from_slice(if array.value(row) { b"true" } else { b"false" });
            })
        }
        DataType::Int8 => signed::<Int8Type>(array),
        DataType::Int16 => signed::<Int16Type>(array),
        DataType::Int32 => signed::<Int32Type>(array),
        DataType::Int64 => signed::<Int64Type>(array),
        DataType::UInt8 => unsigned::<UInt8Type>(array),
        DataType::UInt16 => unsigned::<UInt16Type>(array),
        DataType::UInt32 => unsigned::<UInt32Type>(array),
        DataType::UInt64 => unsigned::<UInt64Type>(array),
        DataType::Float16 => {
            let values = array.as_primitive::<Float16Type>();
            let (text, _) = others(array, false)?;
            let format = ArrayFormatter::try_new(array.as_ref(), &options())?;
            let json = move |row, out: &mut Vec<u8>| match values.value(row).is_finite() {
                true => push_formatted(&format, row, out),
                false => push_json_null(out),
            };
            (text, Box::new(json))
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>().values();
            floats(move |row| {
                let value = values[row];
                (value.into(), move |out: &mut Vec<u8>| serde_json::to_writer(out, &value))
            })
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>().values();
            floats(move |row| {
                let value = values[row];
                (value, move |out: &mut Vec<u8>| serde_json::to_writer(out, &value))
            })
        }
        DataType::Utf8 => texts(array.as_string::<i32>()),
        DataType::LargeUtf8 => texts(array.as_string::<i64>()),
        DataType::Utf8View => texts(array.as_string_view()),
        DataType::Date32 => dates(array)?,
        DataType::Timestamp(unit, zone) if is_utc(zone.as_deref()) => {
            let has_zone = zone.is_some();
            match unit {
                TimeUnit::Second => times::<TimestampSecondType>(array, 1, has_zone)?,
                TimeUnit::Millisecond => times::<TimestampMillisecondType>(array, 1_000, has_zone)?,
                TimeUnit::Microsecond => {
                    times::<TimestampMicrosecondType>(array, 1_000_000, has_zone)?
                }
                TimeUnit::Nanosecond => {
                    times::<TimestampNanosecondType>(array, 1_000_000_000, has_zone)?
                }
            }
        }
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => others(array, false)?,
        DataType::Dictionary(_, _) => {
            let array = array.as_any_dictionary();
            // Where there are no values, all is NULL.
            let keys = match array.values().is_empty() {
                true => Vec::new(),
                false => array.normalized_keys(),
            };
            keyed(keys, Column::new(array.values())?)
        }
        DataType::RunEndEncoded(_, _) => downcast_run_array! {
            array => runs(array)?,
            _ => unreachable!("it is run-end encoded")
        },
        DataType::List(_) => {
            let offsets = array.as_list::<i32>().value_offsets();
            let range = move |row: usize| offsets[row] as usize..offsets[row + 1] as usize;
            lists(array, array.as_list::<i32>().values(), range)?
        }
        DataType::LargeList(_) => {
            let offsets = array.as_list::<i64>().value_offsets();
            let range = move |row: usize| offsets[row] as usize..offsets[row + 1] as usize;
            lists(array, array.as_list::<i64>().values(), range)?
        }
        DataType::ListView(_) => {
            let list = array.as_list_view::<i32>();
            let range = move |row: usize| {
                let begin = list.value_offsets()[row] as usize;
                begin..begin + list.value_sizes()[row] as usize
            };
            lists(array, list.values(), range)?
        }
        DataType::LargeListView(_) => {
            let list = array.as_list_view::<i64>();
            let range = move |row: usize| {
                let begin = list.value_offsets()[row] as usize;
                begin..begin + list.value_sizes()[row] as usize
            };
            lists(array, list.values(), range)?
        }
        DataType::FixedSizeList(_, _) => {
            let list = array.as_fixed_size_list();
            let range = move |row: usize| {
                let begin = list.value_offset(row) as usize;
                begin..begin + list.value_length() as usize
            };
            lists(array, list.values(), range)?
        }
        DataType::Struct(_) => structs(array)?,
        DataType::Map(_, _) => maps(array)?,
        DataType::Union(_, _) => unions(array)?,
        _ => others(array, true)?,
    })
}

fn options() -> FormatOptions<'static> {
    FormatOptions::new().with_null(NESTED_NULL).with_display_error(false)
}

/// What is the same as text and as JSON.
fn same<'a>(push: impl Fn(usize, &mut Vec<u8>) + Copy + 'a) -> (Push<'a>, Push<'a>) {
    let push = move |row, out: &mut Vec<u8>| {
        push(row, out);
        Ok(())
    };
    (Box::new(push), Box::new(push))
}

/// What is in quotes in JSON, and has nothing to escape.
fn quoted<'a>(
    push: impl Fn(usize, &mut Vec<u8>) -> Result<()> + Clone + 'a,
) -> (Push<'a>, Push<'a>) {
    let text = push.clone();
    let json = move |row, out: &mut Vec<u8>| {
        out.push(b'"');
        push(row, out)?;
        out.push(b'"');
        Ok(())
    };
    (Box::new(text), Box::new(json))
}

fn signed<T: ArrowPrimitiveType<Native: Into<i64>>>(array: &ArrayRef) -> (Push<'_>, Push<'_>) {
    let values = array.as_primitive::<T>().values();
    same(move |row, out| {
        let value: i64 = values[row].into();
        if value < 0 {
            out.push(b'-');
        }
        push_integer(value.unsigned_abs(), out);
    })
}

fn unsigned<T: ArrowPrimitiveType<Native: Into<u64>>>(array: &ArrayRef) -> (Push<'_>, Push<'_>) {
    let values = array.as_primitive::<T>().values();
    same(move |row, out| push_integer(values[row].into(), out))
}

/// `get` returns a value, and how it is written if it is finite.
fn floats<'a, W>(get: impl Fn(usize) -> (f64, W) + Copy + 'a) -> (Push<'a>, Push<'a>)
where
    W: FnOnce(&mut Vec<u8>) -> serde_json::Result<()>,
{
    let push = move |row, out: &mut Vec<u8>, other: fn(f64) -> &'static [u8]| {
        let (value, write) = get(row);
        if !value.is_finite() {
            out.extend_from_slice(other(value));
            return Ok(());
        }
        let begin = out.len();
        write(out).expect("a vector takes all that is written to it");
        // 1e+16 is 1e16 elsewhere.
        if value.abs() >= 1e12
            && let Some(plus) = out[begin..].iter().position(|&byte| byte == b'+')
        {
            out.remove(begin + plus);
        }
        Ok(())
    };
    let text = move |row, out: &mut Vec<u8>| {
        push(row, out, |value| match value {
            f64::INFINITY => b"inf",
            f64::NEG_INFINITY => b"-inf",
            _ => b"NaN",
        })
    };
    (Box::new(text), Box::new(move |row, out| push(row, out, |_| b"null")))
}

fn texts<'a>(array: impl ArrayAccessor<Item = &'a str> + Copy + 'a) -> (Push<'a>, Push<'a>) {
    let text = move |row, out: &mut Vec<u8>| {
        out.extend_from_slice(array.value(row).as_bytes());
        Ok(())
    };
    let json = move |row, out: &mut Vec<u8>| {
        push_json_text(array.value(row), out);
        Ok(())
    };
    (Box::new(text), Box::new(json))
}

fn dates(array: &ArrayRef) -> Result<(Push<'_>, Push<'_>)> {
    let values = array.as_primitive::<Date32Type>().values();
    let other = Rc::new(ArrayFormatter::try_new(array.as_ref(), &options())?);
    Ok(quoted(move |row, out| {
        let mut text = *b"0000-00-00";
        if set_date(&mut text, values[row].into()) {
            out.extend_from_slice(&text);
            return Ok(());
        }
        push_formatted(&other, row, out)
    }))
}

fn is_utc(zone: Option<&str>) -> bool {
    zone.is_none_or(|zone| ["UTC", "+00:00"].contains(&zone))
}

fn times<T: ArrowPrimitiveType<Native = i64>>(
    array: &ArrayRef,
    per_second: i64,
    has_zone: bool,
) -> Result<(Push<'_>, Push<'_>)> {
    let values: &[i64] = array.as_primitive::<T>().values();
    let other = Rc::new(ArrayFormatter::try_new(array.as_ref(), &options())?);
    Ok(quoted(move |row, out| {
        let value = values[row];
        let (second, fraction) = (value.div_euclid(per_second), value.rem_euclid(per_second));
        let (day, time) = (second.div_euclid(86_400), second.rem_euclid(86_400) as usize);
        let mut text = *b"0000-00-00T00:00:00.000000000";
        if !set_date(&mut text, day) {
            return push_formatted(&other, row, out);
        }
        set_pair(&mut text, 11, time / 3600);
        set_pair(&mut text, 14, time / 60 % 60);
        set_pair(&mut text, 17, time % 60);
        // The fraction has as many digits as it needs, by threes.
        let mut length = 19;
        if fraction != 0 {
            let mut nanos = (fraction * (1_000_000_000 / per_second)) as usize;
            length = match nanos {
                nanos if nanos % 1_000_000 == 0 => 23,
                nanos if nanos % 1_000 == 0 => 26,
                _ => 29,
            };
            for digit in text[20..].iter_mut().rev() {
                *digit = b'0' + (nanos % 10) as u8;
                nanos /= 10;
            }
        }
        out.extend_from_slice(&text[..length]);
        if has_zone {
            out.push(b'Z');
        }
        Ok(())
    }))
}

/// Sets the first ten bytes to a day since 1970, or returns false for a year without four digits.
///
/// The days are those of the proleptic Gregorian calendar, reckoned in years that begin in March:
/// Howard Hinnant, "chrono-compatible low-level date algorithms".
fn set_date(text: &mut [u8], day: i64) -> bool {
    // From 0000-01-01 to 9999-12-31.
    if !(-719_528..=2_932_896).contains(&day) {
        return false;
    }
    let day = (day + 719_468 + 146_097) as usize;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + usize::from(month <= 2) - 400;
    set_pair(text, 0, year / 100);
    set_pair(text, 2, year % 100);
    set_pair(text, 5, month);
    set_pair(text, 8, day);
    true
}

/// The numbers from 00 to 99.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut at = 0;
    while at < 100 {
        pairs[at] = [b'0' + (at / 10) as u8, b'0' + (at % 10) as u8];
        at += 1;
    }
    pairs
};

fn set_pair(text: &mut [u8], at: usize, number: usize) {
    text[at..at + 2].copy_from_slice(&PAIRS[number]);
}

/// Appends a number in decimal.
pub(super) fn push_integer(mut value: u64, out: &mut Vec<u8>) {
    let mut text = [0; 20];
    let mut begin = text.len();
    while value >= 100 {
        begin -= 2;
        set_pair(&mut text, begin, (value % 100) as usize);
        value /= 100;
    }
    if value >= 10 {
        begin -= 2;
        set_pair(&mut text, begin, value as usize);
    } else {
        begin -= 1;
        text[begin] = b'0' + value as u8;
    }
    out.extend_from_slice(&text[begin..]);
}

/// What arrow writes; in JSON a text, if `is_text`, or else a number.
fn others(array: &ArrayRef, is_text: bool) -> Result<(Push<'_>, Push<'_>)> {
    let format = Rc::new(ArrayFormatter::try_new(array.as_ref(), &options())?);
    let push = move |row, out: &mut Vec<u8>| push_formatted(&format, row, out);
    Ok(match is_text {
        true => quoted(push),
        false => (Box::new(push.clone()), Box::new(push)),
    })
}

fn push_formatted(format: &ArrayFormatter<'_>, row: usize, out: &mut Vec<u8>) -> Result<()> {
    struct Bytes<'a>(&'a mut Vec<u8>);
    impl fmt::Write for Bytes<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    Ok(format.value(row).write(&mut Bytes(out))?)
}

fn push_json_null(out: &mut Vec<u8>) -> Result<()> {
    out.extend_from_slice(b"null");
    Ok(())
}

/// Appends a text as a JSON string.
pub(super) fn push_json_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a vector takes all that is written to it");
}

// ---------------------------------------------------------------------------------------------
// What holds other values.

/// The values of `values`, by their places in it.
fn keyed<'a>(keys: Vec<usize>, values: Column<'a>) -> (Push<'a>, Push<'a>) {
    let shared = Rc::new((keys, values));
    let text = shared.clone();
    (
        Box::new(move |row, out| text.1.text(text.0[row], out)),
        Box::new(move |row, out| shared.1.json(shared.0[row], out)),
    )
}

fn runs<R: RunEndIndexType>(array: &RunArray<R>) -> Result<(Push<'_>, Push<'_>)> {
    let keys = (0..array.len()).map(|row| array.get_physical_index(row)).collect();
    Ok(keyed(keys, Column::new(array.values())?))
}

fn nested<'a>(array: &'a ArrayRef, json: Push<'a>) -> Result<(Push<'a>, Push<'a>)> {
    Ok((others(array, true)?.0, json))
}

fn lists<'a>(
    array: &'a ArrayRef,
    values: &'a ArrayRef,
    range: impl Fn(usize) -> Range<usize> + 'a,
) -> Result<(Push<'a>, Push<'a>)> {
    let values = Column::new(values)?;
    let json = move |row, out: &mut Vec<u8>| {
        let range = range(row);
        let begin = range.start;
        out.push(b'[');
        for at in range {
            if at > begin {
                out.push(b',');
            }
            values.json(at, out)?;
        }
        out.push(b']');
        Ok(())
    };
    nested(array, Box::new(json))
}

fn structs(array: &ArrayRef) -> Result<(Push<'_>, Push<'_>)> {
    let fields = array.as_struct();
    let columns = fields.columns().iter().map(Column::new).collect::<Result<Vec<_>>>()?;
    let object = Object::new(fields.column_names());
    let json = move |row, out: &mut Vec<u8>| object.push(&columns, row, out);
    nested(array, Box::new(json))
}

fn maps(array: &ArrayRef) -> Result<(Push<'_>, Push<'_>)> {
    let map = array.as_map();
    let (keys, values) = (Column::new(map.keys())?, Column::new(map.values())?);
    let json = move |row: usize, out: &mut Vec<u8>| {
        let offsets = map.value_offsets();
        let (begin, end) = (offsets[row] as usize, offsets[row + 1] as usize);
        let mut key = Vec::new();
        out.push(b'{');
        for at in begin..end {
            if at > begin {
                out.push(b',');
            }
            key.clear();
            keys.text(at, &mut key)?;
            push_json_text(&String::from_utf8_lossy(&key), out);
            out.push(b':');
            values.json(at, out)?;
        }
        out.push(b'}');
        Ok(())
    };
    nested(array, Box::new(json))
}

fn unions(array: &ArrayRef) -> Result<(Push<'_>, Push<'_>)> {
    let union = array.as_union();
    let DataType::Union(fields, mode) = array.data_type() else { unreachable!("it is a union") };
    let is_dense = matches!(mode, UnionMode::Dense);
    let columns = fields
        .iter()
        .map(|(id, _)| Ok((id, Column::new(union.child(id))?)))
        .collect::<Result<Vec<_>>>()?;
    let json = move |row, out: &mut Vec<u8>| {
        let id = union.type_id(row);
        let (_, column) =
            columns.iter().find(|(of, _)| *of == id).expect("a union has a child for each id");
        column.json(if is_dense { union.value_offset(row) } else { row }, out)
    };
    nested(array, Box::new(json))
}

/// Writes JSON objects of the same names.
pub(super) struct Object {
    /// What comes before each value: a comma, but for the first, and the name.
    names: Vec<Vec<u8>>,
}

impl Object {
    pub(super) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let name = |(at, name): (usize, &str)| {
            let mut text = if at == 0 { Vec::new() } else { vec![b','] };
            push_json_text(name, &mut text);
            text.push(b':');
            text
        };
        Self { names: names.into_iter().enumerate().map(name).collect() }
    }

    pub(super) fn push(&self, columns: &[Column], row: usize, out: &mut Vec<u8>) -> Result<()> {
        out.push(b'{');
        for (name, column) in self.names.iter().zip(columns) {
            out.extend_from_slice(name);
            column.json(row, out)?;
        }
        out.push(b'}');
        Ok(())
    }
}
