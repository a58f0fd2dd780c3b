//! Values of arrow as values of Postgres, in its text and its binary format.
//!
//! [`PgType::of`] says what a client is told of a column, and [`Rows`] writes its values as that. Types
//! that Postgres lacks become the next wider one it has (unsigned integers), or JSON (structs, maps,
//! lists of lists). Times have microseconds there: finer ones are cut.

use bytes::{BufMut, Bytes, BytesMut};
use datafusion::arrow::array::{Array, ArrayAccessor, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, Field,
    Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, IntervalMonthDayNanoType,
    IntervalUnit, Schema, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use datafusion::arrow::util::display::FormatOptions;

use super::copy::Form;
use super::type_names;
use super::wire::{Column, set_length};
use crate::error::{Error, Result};
use crate::output::JsonColumn;

/// How many bytes of rows are put before they are sent.
pub(super) const SEND_BYTES: usize = 64 << 10;

/// Days from 1970 to 2000, from which Postgres counts.
const EPOCH_DAYS: i64 = 10_957;
const DAY_MICROS: i64 = 86_400_000_000;

/// The mark that the catalog tables put on numbers that are of objects.
const OID_MARK: &str = "pg.oid_alias";

/// A type that is no array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    Bool,
    Bytea,
    Int8,
    Int2,
    Int4,
    Text,
    Oid,
    Json,
    Float4,
    Float8,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Numeric,
}

impl Scalar {
    const ALL: [(Self, u32, u32, i16); 16] = [
        // The type, its number, that of its arrays, its size in bytes.
        (Self::Bool, 16, 1000, 1),
        (Self::Bytea, 17, 1001, -1),
        (Self::Int8, 20, 1016, 8),
        (Self::Int2, 21, 1005, 2),
        (Self::Int4, 23, 1007, 4),
        (Self::Text, 25, 1009, -1),
        (Self::Oid, 26, 1028, 4),
        (Self::Json, 114, 199, -1),
        (Self::Float4, 700, 1021, 4),
        (Self::Float8, 701, 1022, 8),
        (Self::Date, 1082, 1182, 4),
        (Self::Time, 1083, 1183, 8),
        (Self::Timestamp, 1114, 1115, 8),
        (Self::Timestamptz, 1184, 1185, 8),
        (Self::Interval, 1186, 1187, 16),
        (Self::Numeric, 1700, 1231, -1),
    ];

    fn row(self) -> (Self, u32, u32, i16) {
        *Self::ALL.iter().find(|(scalar, ..)| *scalar == self).expect("all are listed")
    }

    /// Returns the type of the number `oid`, or what is written like it.
    pub(super) fn of_oid(oid: u32) -> Option<Self> {
        match oid {
            // unknown, "char", name, bpchar, varchar, uuid, regclass and the like.
            0 | 18 | 19 | 705 | 1042 | 1043 | 2950 | 2205 | 2206 => Some(Self::Text),
            3802 => Some(Self::Json),
            _ => Self::ALL.iter().find(|(_, number, ..)| *number == oid).map(|row| row.0),
        }
    }
}

/// What a client is told that values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PgType {
    Scalar(Scalar),
    Array(Scalar),
}

impl PgType {
    /// Returns the type that the values of a column have for a client.
    pub(super) fn of(field: &Field) -> Self {
        if *field.data_type() == DataType::Int32 && field.metadata().contains_key(OID_MARK) {
            return Self::Scalar(Scalar::Oid);
        }
        Self::of_data(field.data_type())
    }

    /// Returns the type that values of `data_type` have for a client.
    pub(super) fn of_data(data_type: &DataType) -> Self {
        Self::Scalar(match data_type {
            DataType::Boolean => Scalar::Bool,
            DataType::Int8 | DataType::UInt8 | DataType::Int16 => Scalar::Int2,
            DataType::UInt16 | DataType::Int32 => Scalar::Int4,
            DataType::UInt32 | DataType::Int64 => Scalar::Int8,
            DataType::UInt64
            | DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..) => Scalar::Numeric,
            DataType::Float16 | DataType::Float32 => Scalar::Float4,
            DataType::Float64 => Scalar::Float8,
            DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Scalar::Text
            }
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Scalar::Bytea,
            DataType::Date32 | DataType::Date64 => Scalar::Date,
            DataType::Time32(_) | DataType::Time64(_) => Scalar::Time,
            DataType::Timestamp(_, None) => Scalar::Timestamp,
            DataType::Timestamp(_, Some(_)) => Scalar::Timestamptz,
            DataType::Duration(_) | DataType::Interval(_) => Scalar::Interval,
            DataType::Dictionary(_, values) => return Self::of_data(values),
            DataType::RunEndEncoded(_, values) => return Self::of_data(values.data_type()),
            DataType::List(values)
            | DataType::LargeList(values)
            | DataType::FixedSizeList(values, _) => match Self::of_data(values.data_type()) {
                Self::Scalar(scalar) if scalar != Scalar::Json => return Self::Array(scalar),
                _ => Scalar::Json,
            },
            DataType::ListView(_)
            | DataType::LargeListView(_)
            | DataType::Struct(_)
            | DataType::Map(_, _)
            | DataType::Union(_, _) => Scalar::Json,
        })
    }

    /// Returns the type of the number `oid`, or what is written like it.
    pub(super) fn of_oid(oid: u32) -> Option<Self> {
        let of = |scalar: Option<Scalar>| scalar.map(Self::Array);
        match Scalar::ALL.iter().find(|row| row.2 == oid) {
            Some(row) => of(Some(row.0)),
            None => match type_names::element_of(oid) {
                Some(element) => of(Scalar::of_oid(element)),
                None => Scalar::of_oid(oid).map(Self::Scalar),
            },
        }
    }

    /// Returns the number of the arrays of a type.
    pub(super) fn array_of(oid: u32) -> Option<u32> {
        Scalar::ALL.iter().find(|row| row.1 == oid).map(|row| row.2)
    }

    /// Returns the number of the type.
    pub(super) fn oid(self) -> u32 {
        match self {
            Self::Scalar(scalar) => scalar.row().1,
            Self::Array(scalar) => scalar.row().2,
        }
    }

    /// Returns the size of its values in bytes; negative if it varies.
    pub(super) fn size(self) -> i16 {
        match self {
            Self::Scalar(scalar) => scalar.row().3,
            Self::Array(_) => -1,
        }
    }
}

/// Which columns go in the binary format.
#[derive(Debug, Clone, Default)]
pub(super) struct Formats(Vec<i16>);

impl Formats {
    /// Takes the codes of a client: none, one for all, or one for each.
    ///
    /// # Errors
    /// `Invalid` for other codes than 0 and 1.
    pub(super) fn new(codes: Vec<i16>) -> Result<Self> {
        match codes.iter().find(|code| !matches!(code, 0 | 1)) {
            Some(code) => Err(Error::invalid(format!("format {code} is neither text nor binary"))),
            None => Ok(Self(codes)),
        }
    }

    /// Returns binary for all.
    pub(super) fn binary() -> Self {
        Self(vec![1])
    }

    /// Whether none was asked for.
    pub(super) fn is_default(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a code for each of `count` columns.
    pub(super) fn fit(&self, count: usize) -> bool {
        self.0.len() <= 1 || self.0.len() == count
    }

    /// Whether the column at `at` is binary.
    pub(super) fn is_binary(&self, at: usize) -> bool {
        let code = if self.0.len() == 1 { self.0.first() } else { self.0.get(at) };
        code == Some(&1)
    }
}

/// What rows look like to a client.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    types: Vec<(PgType, bool)>,
    columns: Vec<Column>,
}

impl Rows {
    /// Prepares to write rows of `schema`.
    pub(super) fn new(schema: &Schema, formats: &Formats) -> Self {
        let types = schema.fields().iter().map(|field| PgType::of(field)).collect();
        Self::of_types(schema, types, formats)
    }

    fn of_types(schema: &Schema, types: Vec<PgType>, formats: &Formats) -> Self {
        let types: Vec<_> =
            types.into_iter().enumerate().map(|(at, of)| (of, formats.is_binary(at))).collect();
        let columns = schema
            .fields()
            .iter()
            .zip(&types)
            .map(|(field, (of, is_binary))| Column {
                name: field.name().clone(),
                type_oid: of.oid(),
                type_size: of.size(),
                is_binary: *is_binary,
            })
            .collect();
        Self { types, columns }
    }

    /// Returns the columns, as they are told to a client.
    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Puts rows of `batch` from the row `from` on, at most `rows_max` of them, until there are
    /// [`SEND_BYTES`]. Returns the row to go on with.
    ///
    /// # Errors
    /// `Invalid` for a value that its type does not hold.
    pub(super) fn put(
        &self,
        batch: &RecordBatch,
        from: usize,
        rows_max: usize,
        out: &mut BytesMut,
    ) -> Result<usize> {
        let count = u16::try_from(self.types.len()).map_err(|_| {
            Error::unsupported(format!("{} columns are too many", self.types.len()))
        })?;
        self.put_each(batch, from, rows_max, out, |writers, row, out| {
            out.put_u8(b'D');
            let begin = out.len();
            out.put_i32(0);
            out.put_u16(count);
            for writer in writers {
                writer.put(row, out)?;
            }
            set_length(out, begin, out.len() - begin);
            Ok(())
        })
    }

    /// Puts rows as lines of a copy; else as [`Rows::put`].
    ///
    /// # Errors
    /// `Invalid` for a value that its type does not hold.
    pub(super) fn put_lines(
        &self,
        batch: &RecordBatch,
        from: usize,
        form: &Form,
        out: &mut BytesMut,
    ) -> Result<usize> {
        let mut value = BytesMut::new();
        self.put_each(batch, from, usize::MAX, out, |writers, row, out| {
            out.put_u8(b'd');
            let begin = out.len();
            out.put_i32(0);
            for (at, writer) in writers.iter().enumerate() {
                value.clear();
                let is_null = writer.is_null(row);
                if !is_null {
                    (writer.put)(row, &mut value)?;
                }
                let value = (!is_null).then_some(&value[..]);
                form.put_field(at, value, writers.len() == 1, out);
            }
            out.put_u8(b'\n');
            set_length(out, begin, out.len() - begin);
            Ok(())
        })
    }

    /// Returns the values of a row, as they are put.
    ///
    /// # Errors
    /// `Invalid` for a value that its type does not hold.
    pub(super) fn texts(&self, batch: &RecordBatch, row: usize) -> Result<Vec<Option<Bytes>>> {
        let mut values = Vec::new();
        self.put_each(batch, row, 1, &mut BytesMut::new(), |writers, row, _| {
            for writer in writers {
                let mut value = BytesMut::new();
                let is_null = writer.is_null(row);
                if !is_null {
                    (writer.put)(row, &mut value)?;
                }
                values.push((!is_null).then(|| value.freeze()));
            }
            Ok(())
        })?;
        Ok(values)
    }

    fn put_each(
        &self,
        batch: &RecordBatch,
        from: usize,
        rows_max: usize,
        out: &mut BytesMut,
        mut put: impl FnMut(&[Writer<'_>], usize, &mut BytesMut) -> Result<()>,
    ) -> Result<usize> {
        let slice = batch.slice(from, rows_max.min(batch.num_rows() - from));
        let arrays: Vec<ArrayRef> = slice
            .columns()
            .iter()
            .zip(&self.types)
            .map(|(array, (of, _))| normal(array, *of))
            .collect::<Result<_>>()?;
        let writers: Vec<Writer<'_>> = arrays
            .iter()
            .zip(&self.types)
            .map(|(array, (of, is_binary))| Writer::new(array, *of, *is_binary))
            .collect::<Result<_>>()?;
        let mut row = 0;
        while row < slice.num_rows() && out.len() < SEND_BYTES {
            put(&writers, row, out)?;
            row += 1;
        }
        Ok(from + row)
    }
}

/// Casts an array to the one that its type is written from.
fn normal(array: &ArrayRef, of: PgType) -> Result<ArrayRef> {
    let to = match of {
        PgType::Array(_) => return Ok(array.clone()),
        PgType::Scalar(scalar) => match (scalar, array.data_type()) {
            (Scalar::Json, _) => return Ok(array.clone()),
            (Scalar::Text, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => {
                return Ok(array.clone());
            }
            (Scalar::Bytea, DataType::Binary | DataType::LargeBinary | DataType::BinaryView) => {
                return Ok(array.clone());
            }
            (Scalar::Numeric, DataType::Decimal128(..) | DataType::Decimal256(..)) => {
                return Ok(array.clone());
            }
            (Scalar::Numeric, DataType::Decimal32(p, s) | DataType::Decimal64(p, s)) => {
                DataType::Decimal128(*p, *s)
            }
            (Scalar::Interval, DataType::Duration(_)) => DataType::Duration(TimeUnit::Microsecond),
            (Scalar::Bool, _) => DataType::Boolean,
            (Scalar::Int2, _) => DataType::Int16,
            (Scalar::Int4 | Scalar::Oid, _) => DataType::Int32,
            (Scalar::Int8, _) => DataType::Int64,
            (Scalar::Float4, _) => DataType::Float32,
            (Scalar::Float8, _) => DataType::Float64,
            (Scalar::Text, _) => DataType::Utf8,
            (Scalar::Bytea, _) => DataType::Binary,
            (Scalar::Date, _) => DataType::Date32,
            (Scalar::Time, _) => DataType::Time64(TimeUnit::Microsecond),
            (Scalar::Timestamp, _) => DataType::Timestamp(TimeUnit::Microsecond, None),
            (Scalar::Timestamptz, _) => {
                DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))
            }
            (Scalar::Interval, _) => DataType::Interval(IntervalUnit::MonthDayNano),
            (Scalar::Numeric, _) => DataType::Decimal128(20, 0),
        },
    };
    if *array.data_type() == to {
        return Ok(array.clone());
    }
    let options = CastOptions { safe: false, format_options: FormatOptions::new() };
    Ok(cast_with_options(array, &to, &options)?)
}

type Put<'a> = Box<dyn Fn(usize, &mut BytesMut) -> Result<()> + 'a>;

/// Writes the values of one column.
struct Writer<'a> {
    nulls: Option<NullBuffer>,
    put: Put<'a>,
}

impl<'a> Writer<'a> {
    fn new(array: &'a ArrayRef, of: PgType, is_binary: bool) -> Result<Self> {
        let put = match of {
            PgType::Array(scalar) => put_array(array, scalar, is_binary)?,
            PgType::Scalar(scalar) => put_scalar(array, scalar, is_binary)?,
        };
        Ok(Self { nulls: array.logical_nulls(), put })
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Puts a value behind its length.
    fn put(&self, row: usize, out: &mut BytesMut) -> Result<()> {
        if self.is_null(row) {
            out.put_i32(-1);
            return Ok(());
        }
        let begin = out.len();
        out.put_i32(0);
        (self.put)(row, out)?;
        set_length(out, begin, out.len() - begin - 4);
        Ok(())
    }
}

fn text(out: &mut BytesMut, value: impl std::fmt::Display) {
    use std::fmt::Write;
    write!(out, "{value}").expect("a buffer takes all that is written to it");
}

/// Writes each value of an array of a type by one of two functions.
macro_rules! either {
    ($array:expr, $is_binary:expr, $kind:ty, $binary:expr, $text:expr) => {{
        let values = $array.as_primitive::<$kind>().values();
        let (binary, text): (fn(_, &mut BytesMut), fn(_, &mut BytesMut)) = ($binary, $text);
        let put = if $is_binary { binary } else { text };
        Box::new(move |row: usize, out: &mut BytesMut| {
            put(values[row], out);
            Ok(())
        })
    }};
}

fn put_scalar(array: &ArrayRef, scalar: Scalar, is_binary: bool) -> Result<Put<'_>> {
    Ok(match scalar {
        Scalar::Bool => {
            let values = array.as_boolean();
            Box::new(move |row, out| {
                out.put_u8(match (values.value(row), is_binary) {
                    (true, true) => 1,
                    (false, true) => 0,
                    (true, false) => b't',
                    (false, false) => b'f',
                });
                Ok(())
            })
        }
        Scalar::Int2 => {
            either!(array, is_binary, Int16Type, |value, out| out.put_i16(value), |value, out| {
                text(out, value)
            })
        }
        Scalar::Int4 => {
            either!(array, is_binary, Int32Type, |value, out| out.put_i32(value), |value, out| {
                text(out, value)
            })
        }
        Scalar::Oid => {
            either!(
                array,
                is_binary,
                Int32Type,
                |value, out| out.put_i32(value),
                |value: i32, out| text(out, value.cast_unsigned())
            )
        }
        Scalar::Int8 => {
            either!(array, is_binary, Int64Type, |value, out| out.put_i64(value), |value, out| {
                text(out, value)
            })
        }
        Scalar::Float4 => {
            either!(
                array,
                is_binary,
                Float32Type,
                |value, out| out.put_f32(value),
                |value: f32, out| {
                    put_float(&value.to_string(), &format!("{value:e}"), value.into(), out)
                }
            )
        }
        Scalar::Float8 => {
            either!(
                array,
                is_binary,
                Float64Type,
                |value, out| out.put_f64(value),
                |value: f64, out| {
                    put_float(&value.to_string(), &format!("{value:e}"), value, out)
                }
            )
        }
        Scalar::Date => either!(
            array,
            is_binary,
            Date32Type,
            |days: i32, out| out.put_i32(days.saturating_sub(EPOCH_DAYS as i32)),
            |days: i32, out| {
                let is_past = put_date(days.into(), out);
                put_era(is_past, out);
            }
        ),
        Scalar::Time => {
            either!(
                array,
                is_binary,
                Time64MicrosecondType,
                |value, out| out.put_i64(value),
                put_time
            )
        }
        Scalar::Timestamp => either!(
            array,
            is_binary,
            TimestampMicrosecondType,
            |micros: i64, out| out.put_i64(micros.saturating_sub(EPOCH_DAYS * DAY_MICROS)),
            |micros, out| put_timestamp(micros, "", out)
        ),
        Scalar::Timestamptz => either!(
            array,
            is_binary,
            TimestampMicrosecondType,
            |micros: i64, out| out.put_i64(micros.saturating_sub(EPOCH_DAYS * DAY_MICROS)),
            |micros, out| put_timestamp(micros, "+00", out)
        ),
        Scalar::Interval => put_intervals(array, is_binary),
        Scalar::Numeric => {
            let of: Box<dyn Fn(usize) -> String + '_> = match array.data_type() {
                DataType::Decimal256(..) => {
                    let values = array.as_primitive::<Decimal256Type>();
                    Box::new(|row| values.value_as_string(row))
                }
                _ => {
                    let values = array.as_primitive::<Decimal128Type>();
                    Box::new(|row| values.value_as_string(row))
                }
            };
            Box::new(move |row, out| {
                match is_binary {
                    true => put_numeric(&of(row), out),
                    false => out.put_slice(of(row).as_bytes()),
                }
                Ok(())
            })
        }
        // A text is the same in both formats.
        Scalar::Text => match array.data_type() {
            DataType::Utf8 => {
                bytes(array.as_string::<i32>(), |text, out| put_bytes(text.as_bytes(), out))
            }
            DataType::LargeUtf8 => {
                bytes(array.as_string::<i64>(), |text, out| put_bytes(text.as_bytes(), out))
            }
            _ => bytes(array.as_string_view(), |text, out| put_bytes(text.as_bytes(), out)),
        },
        Scalar::Bytea => {
            let put: fn(&[u8], &mut BytesMut) = if is_binary { put_bytes } else { put_hex };
            match array.data_type() {
                DataType::Binary => bytes(array.as_binary::<i32>(), put),
                DataType::LargeBinary => bytes(array.as_binary::<i64>(), put),
                _ => bytes(array.as_binary_view(), put),
            }
        }
        Scalar::Json => {
            let values = JsonColumn::new(array)?;
            Box::new(move |row, out| {
                let mut json = Vec::new();
                values.json(row, &mut json)?;
                out.put_slice(&json);
                Ok(())
            })
        }
    })
}

fn bytes<'a, T>(
    values: impl ArrayAccessor<Item = T> + Copy + 'a,
    put: impl Fn(T, &mut BytesMut) + 'a,
) -> Put<'a> {
    Box::new(move |row, out| {
        put(values.value(row), out);
        Ok(())
    })
}

fn put_bytes(value: &[u8], out: &mut BytesMut) {
    out.put_slice(value);
}

fn put_hex(value: &[u8], out: &mut BytesMut) {
    out.put_slice(b"\\x");
    value.iter().for_each(|byte| text(out, format_args!("{byte:02x}")));
}

/// Writes the values of lists, whose elements are of `scalar`.
fn put_array(array: &ArrayRef, scalar: Scalar, is_binary: bool) -> Result<Put<'_>> {
    let list: Box<dyn Fn(usize) -> ArrayRef + '_> = match array.data_type() {
        DataType::List(_) => Box::new(|row| array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => Box::new(|row| array.as_list::<i64>().value(row)),
        _ => Box::new(|row| array.as_fixed_size_list().value(row)),
    };
    Ok(Box::new(move |row, out| {
        let values = normal(&list(row), PgType::Scalar(scalar))?;
        let writer = Writer::new(&values, PgType::Scalar(scalar), is_binary)?;
        match is_binary {
            true => put_array_binary(&writer, values.len(), scalar, out),
            false => put_array_text(&writer, values.len(), out),
        }
    }))
}

fn put_array_binary(
    writer: &Writer<'_>,
    length: usize,
    scalar: Scalar,
    out: &mut BytesMut,
) -> Result<()> {
    out.put_i32((length > 0).into());
    out.put_i32((0..length).any(|at| writer.is_null(at)).into());
    out.put_u32(PgType::Scalar(scalar).oid());
    if length > 0 {
        let length = i32::try_from(length).map_err(|_| Error::invalid("a list is too long"))?;
        out.put_i32(length);
        out.put_i32(1);
    }
    (0..length).try_for_each(|at| writer.put(at, out))
}

fn put_array_text(writer: &Writer<'_>, length: usize, out: &mut BytesMut) -> Result<()> {
    let mut element = BytesMut::new();
    out.put_u8(b'{');
    for at in 0..length {
        if at > 0 {
            out.put_u8(b',');
        }
        if writer.is_null(at) {
            out.put_slice(b"NULL");
            continue;
        }
        element.clear();
        (writer.put)(at, &mut element)?;
        let is_plain = !element.is_empty()
            && !element.eq_ignore_ascii_case(b"null")
            && !element.iter().any(|byte| byte.is_ascii_whitespace() || b"{},\"\\".contains(byte));
        if is_plain {
            out.put_slice(&element);
            continue;
        }
        out.put_u8(b'"');
        for &byte in &element {
            if matches!(byte, b'"' | b'\\') {
                out.put_u8(b'\\');
            }
            out.put_u8(byte);
        }
        out.put_u8(b'"');
    }
    out.put_u8(b'}');
    Ok(())
}

/// Writes a float as Postgres does: the shortest digits, with an exponent if it is far from one.
fn put_float(plain: &str, exponential: &str, value: f64, out: &mut BytesMut) {
    let size = value.abs();
    if value.is_nan() {
        out.put_slice(b"NaN");
    } else if value.is_infinite() {
        out.put_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
    } else if size == 0.0 || (1e-4..1e15).contains(&size) {
        out.put_slice(plain.as_bytes());
    } else {
        let (digits, exponent) = exponential.split_once('e').unwrap_or((exponential, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        text(out, format_args!("{digits}e{sign}{exponent:0>2}"));
    }
}

/// Puts a date without its era, and returns whether it is before the first year.
fn put_date(days: i64, out: &mut BytesMut) -> bool {
    let (year, month, day) = civil(days);
    let shown = if year > 0 { year } else { 1 - year };
    text(out, format_args!("{shown:04}-{month:02}-{day:02}"));
    year <= 0
}

fn put_era(is_past: bool, out: &mut BytesMut) {
    if is_past {
        out.put_slice(b" BC");
    }
}

fn put_timestamp(micros: i64, zone: &str, out: &mut BytesMut) {
    let is_past = put_date(micros.div_euclid(DAY_MICROS), out);
    out.put_u8(b' ');
    put_time(micros.rem_euclid(DAY_MICROS), out);
    out.put_slice(zone.as_bytes());
    put_era(is_past, out);
}

fn put_time(micros: i64, out: &mut BytesMut) {
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    text(out, format_args!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60));
    if micros > 0 {
        let digits = format!("{micros:06}");
        text(out, format_args!(".{}", digits.trim_end_matches('0')));
    }
}

/// Returns year, month and day of the day that is so many days after 1970-01-01, after Howard
/// Hinnant's `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn put_intervals(array: &ArrayRef, is_binary: bool) -> Put<'_> {
    let get: Box<dyn Fn(usize) -> (i32, i32, i64) + '_> = match array.data_type() {
        DataType::Duration(_) => {
            let values = array.as_primitive::<DurationMicrosecondType>().values();
            Box::new(|row| (0, 0, values[row]))
        }
        _ => {
            let values = array.as_primitive::<IntervalMonthDayNanoType>().values();
            Box::new(|row| {
                let value = values[row];
                (value.months, value.days, value.nanoseconds / 1000)
            })
        }
    };
    Box::new(move |row, out| {
        let (months, days, micros) = get(row);
        if is_binary {
            out.put_i64(micros);
            out.put_i32(days);
            out.put_i32(months);
        } else {
            put_interval(months, days, micros, out);
        }
        Ok(())
    })
}

fn put_interval(months: i32, days: i32, micros: i64, out: &mut BytesMut) {
    let begin = out.len();
    let mut is_after_minus = false;
    let parts = [(months / 12, "year"), (months % 12, "mon"), (days, "day")];
    for (count, unit) in parts.into_iter().filter(|(count, _)| *count != 0) {
        if out.len() > begin {
            out.put_u8(b' ');
        }
        let plus = if is_after_minus && count > 0 { "+" } else { "" };
        let plural = if count == 1 { "" } else { "s" };
        text(out, format_args!("{plus}{count} {unit}{plural}"));
        is_after_minus = count < 0;
    }
    if micros == 0 && out.len() > begin {
        return;
    }
    if out.len() > begin {
        out.put_u8(b' ');
    }
    if micros < 0 {
        out.put_u8(b'-');
    } else if is_after_minus {
        out.put_u8(b'+');
    }
    put_time(i64::try_from(micros.unsigned_abs()).unwrap_or(i64::MAX), out);
}

/// Writes a decimal text as groups of four digits.
fn put_numeric(decimal: &str, out: &mut BytesMut) {
    let (is_negative, digits) = match decimal.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, decimal),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let padded = format!(
        "{}{whole}{fraction}{}",
        "0".repeat((4 - whole.len() % 4) % 4),
        "0".repeat((4 - fraction.len() % 4) % 4)
    );
    let mut groups: Vec<i16> = padded
        .as_bytes()
        .chunks(4)
        .map(|group| {
            group.iter().fold(0, |value, digit| value * 10 + i16::from(digit.wrapping_sub(b'0')))
        })
        .collect();
    let mut weight = whole.len().div_ceil(4) as i16 - 1;
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let zeros = groups.iter().take_while(|group| **group == 0).count();
    groups.drain(..zeros);
    weight = if groups.is_empty() { 0 } else { weight - zeros as i16 };
    out.put_i16(groups.len() as i16);
    out.put_i16(weight);
    out.put_u16(if is_negative && !groups.is_empty() { 0x4000 } else { 0 });
    out.put_u16(fraction.len() as u16);
    groups.into_iter().for_each(|group| out.put_i16(group));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn shown(put: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        put(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn times_are_those_of_postgres() {
        for (micros, expected) in [
            (0, "1970-01-01 00:00:00"),
            (-1, "1969-12-31 23:59:59.999999"),
            (951_782_400_000_000, "2000-02-29 00:00:00"),
            (1_767_225_600_500_000, "2026-01-01 00:00:00.5"),
            (-63_549_360_000_000_000, "0045-03-15 00:00:00 BC"),
        ] {
            assert_eq!(shown(|out| put_timestamp(micros, "", out)), expected);
        }
        for (parts, expected) in [
            ((0, 0, 0), "00:00:00"),
            ((14, 3, 3_661_000_001), "1 year 2 mons 3 days 01:01:01.000001"),
            ((-1, 2, -1_000_000), "-1 mons +2 days -00:00:01"),
            ((0, -1, 1_000_000), "-1 days +00:00:01"),
            ((0, 1, 0), "1 day"),
        ] {
            assert_eq!(shown(|out| put_interval(parts.0, parts.1, parts.2, out)), expected);
        }
    }

    #[test]
    fn numbers_are_those_of_postgres() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.5, "-0.5"),
            (1e20, "1e+20"),
            (1.5e-7, "1.5e-07"),
            (123456789.0, "123456789"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            let text = |out: &mut BytesMut| {
                put_float(&value.to_string(), &format!("{value:e}"), value, out);
            };
            assert_eq!(shown(text), expected);
        }
        for (decimal, expected) in [
            ("0.00", &[0i16, 0, 0, 2][..]),
            ("12345.678", &[3, 1, 0, 3, 1, 2345, 6780]),
            ("-10000", &[1, 1, 0x4000, 0, 1]),
            ("0.0001", &[1, -1, 0, 4, 1]),
        ] {
            let mut out = BytesMut::new();
            put_numeric(decimal, &mut out);
            let words: Vec<i16> =
                out.chunks(2).map(|word| i16::from_be_bytes([word[0], word[1]])).collect();
            assert_eq!(words, expected, "{decimal}");
        }
    }

    #[test]
    fn lists_are_quoted_where_they_must() {
        let list = datafusion::arrow::array::ListArray::from_nested_iter::<
            datafusion::arrow::array::StringBuilder,
            _,
            _,
            _,
        >([Some(["a", "", "null", "b c", "\"\\"].map(Some).to_vec()), None]);
        let array: ArrayRef = Arc::new(list);
        let put = put_array(&array, Scalar::Text, false).unwrap();
        let text = shown(|out| put(0, out).unwrap());
        assert_eq!(text, r#"{a,"","null","b c","\"\\"}"#);
    }
}
