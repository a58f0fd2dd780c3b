//! Uniting the columns of many files: by name, to the narrowest type that holds all values.
//!
//! Types that a writer declared widen among numbers, among times and among texts, and otherwise
//! conflict. Types that were read off a text are guesses: where one conflicts with anything else,
//! the column is text, which the file is then read as in the first place.

use std::sync::Arc;

use datafusion::arrow::datatypes::{
    DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit,
};

use crate::error::{Error, Result};
use crate::path::PondPath;

/// The columns of one file, to be united with others.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileColumns<'a> {
    /// The file, for errors.
    pub(super) path: &'a PondPath,
    pub(super) schema: &'a SchemaRef,
    /// Whether the types are a reading of text, and not what the writer said.
    pub(super) guessed: bool,
}

/// A column of the united table.
struct Column<'a> {
    name: &'a str,
    data_type: DataType,
    nullable: bool,
    guessed: bool,
    /// The file that first had it, for errors.
    from: &'a PondPath,
    /// How many files have it, of those with columns of their own.
    files: usize,
}

/// Returns the columns of all files, in the order in which they first appear.
///
/// # Errors
/// `Invalid` if two types of a column do not widen to one.
pub(super) fn unite<'a>(files: impl Iterator<Item = FileColumns<'a>>) -> Result<SchemaRef> {
    // A thousand versions mostly have the very same columns.
    let mut distinct: Vec<FileColumns> = Vec::new();
    for file in files {
        let same = |other: &FileColumns| {
            Arc::ptr_eq(other.schema, file.schema) && other.guessed == file.guessed
        };
        if !distinct.last().is_some_and(same) && !distinct.iter().any(same) {
            distinct.push(file);
        }
    }
    if let [only] = distinct.as_slice()
        && !only.guessed
    {
        return Ok(only.schema.clone());
    }
    let mut columns: Vec<Column> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for file in &distinct {
        for field in file.schema.fields() {
            let place = *places.entry(field.name().as_str()).or_insert(columns.len());
            match columns.get_mut(place) {
                None => columns.push(Column {
                    name: field.name(),
                    data_type: field.data_type().clone(),
                    nullable: field.is_nullable(),
                    guessed: file.guessed,
                    from: file.path,
                    files: 1,
                }),
                Some(column) => column.add(field, file)?,
            }
        }
    }
    // A file without any column holds no rows either: an empty text.
    let with_rows = distinct.iter().filter(|file| !file.schema.fields().is_empty()).count();
    let fields: Fields = columns
        .into_iter()
        .map(|column| {
            let data_type =
                if column.guessed { settle(&column.data_type) } else { column.data_type };
            Field::new(column.name, data_type, column.nullable || column.files < with_rows)
        })
        .collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// The columns of a file that may be read as what was made of it, or as text.
pub(super) struct Made<'a> {
    pub(super) schema: &'a SchemaRef,
    /// Whether a float holds all whole numbers of a column.
    pub(super) is_exact: &'a dyn Fn(usize) -> bool,
}

/// What was seen of a column by [`agree`].
struct Agreed<'a> {
    data_type: &'a DataType,
    is_exact: bool,
}

/// Whether columns of one name have types that go together, so that what is made of each file by
/// itself is what is made of them together: the same, or whole numbers and floats that hold them.
pub(super) fn agree<'a>(files: impl Iterator<Item = Made<'a>>) -> bool {
    let mut columns = std::collections::HashMap::<&str, Agreed>::new();
    for file in files {
        for (place, field) in file.schema.fields().iter().enumerate() {
            let data_type = field.data_type();
            // No value has told its type.
            if data_type == &DataType::Null {
                continue;
            }
            let is_exact = data_type != &DataType::Int64 || (file.is_exact)(place);
            let agreed = columns.entry(field.name()).or_insert(Agreed { data_type, is_exact });
            agreed.is_exact &= is_exact;
            match (agreed.data_type, data_type) {
                (ours, theirs) if ours == theirs => {}
                (DataType::Int64, DataType::Float64) => agreed.data_type = data_type,
                (DataType::Float64, DataType::Int64) => {}
                _ => return false,
            }
            if agreed.data_type == &DataType::Float64 && !agreed.is_exact {
                return false;
            }
        }
    }
    true
}

impl<'a> Column<'a> {
    fn add(&mut self, field: &Field, file: &FileColumns) -> Result<()> {
        let (ours, theirs) = (&self.data_type, field.data_type());
        let guessed = self.guessed || file.guessed;
        let widened = match widen(ours, theirs, guessed) {
            Some(widened) => widened,
            None if guessed && is_scalar(ours) && is_scalar(theirs) => DataType::Utf8View,
            None => {
                return Err(Error::invalid(format!(
                    "'{}': column '{}' is {theirs}, but {ours} in '{}'",
                    file.path, self.name, self.from,
                ))
                .with_hint("name fewer files, or cast each of them in a query with UNION ALL"));
            }
        };
        self.data_type = widened;
        self.nullable |= field.is_nullable();
        self.guessed &= file.guessed;
        self.files += 1;
        Ok(())
    }
}

/// Replaces what no sampled value has told by text.
fn settle(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Null => DataType::Utf8View,
        DataType::List(item) => DataType::List(with_type(item, settle(item.data_type()))),
        DataType::Struct(fields) => DataType::Struct(
            fields.iter().map(|field| with_type(field, settle(field.data_type()))).collect(),
        ),
        other => other.clone(),
    }
}

fn with_type(field: &FieldRef, data_type: DataType) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

fn is_scalar(data_type: &DataType) -> bool {
    !data_type.is_nested() && !is_bytes(data_type)
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_bytes(data_type: &DataType) -> bool {
    use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary};
    matches!(data_type, Binary | LargeBinary | BinaryView | FixedSizeBinary(_))
}

/// Returns the narrowest type that holds the values of both, or `None` if there is none.
///
/// `guessed`: one of them is read off a text, which then must not lose digits to a decimal's scale.
fn widen(a: &DataType, b: &DataType, guessed: bool) -> Option<DataType> {
    use DataType::*;
    Some(match (a, b) {
        (a, b) if a == b => a.clone(),
        (Null, other) | (other, Null) => other.clone(),
        (Dictionary(_, value), other) | (other, Dictionary(_, value)) => {
            widen(value, other, guessed)?
        }
        (a, b) if is_text(a) && is_text(b) => Utf8View,
        (a, b) if is_bytes(a) && is_bytes(b) => BinaryView,
        (a, b) if a.is_integer() && b.is_integer() => widen_integers(a, b),
        (a, b) if a.is_floating() && b.is_numeric() || a.is_numeric() && b.is_floating() => Float64,
        (a, b) if guessed && a.is_numeric() && b.is_numeric() => Float64,
        (a, b) if a.is_numeric() && b.is_numeric() => widen_decimals(a, b)?,
        (Date32, Date64) | (Date64, Date32) => Date32,
        (Date32 | Date64, Timestamp(unit, None)) | (Timestamp(unit, None), Date32 | Date64) => {
            Timestamp(*unit, None)
        }
        (Timestamp(a, zone), Timestamp(b, other)) if zone == other => {
            Timestamp(finer(*a, *b), zone.clone())
        }
        (List(a), List(b)) => List(widen_field(a, b, guessed)?),
        (Struct(a), Struct(b)) => {
            let mut fields: Vec<FieldRef> = Vec::with_capacity(a.len());
            for field in a {
                fields.push(match b.iter().find(|other| other.name() == field.name()) {
                    Some(other) => widen_field(field, other, guessed)?,
                    None => Arc::new(field.as_ref().clone().with_nullable(true)),
                });
            }
            let added = b.iter().filter(|field| a.iter().all(|old| old.name() != field.name()));
            fields.extend(added.map(|field| Arc::new(field.as_ref().clone().with_nullable(true))));
            Struct(fields.into())
        }
        _ => return None,
    })
}

fn widen_field(a: &FieldRef, b: &FieldRef, guessed: bool) -> Option<FieldRef> {
    let data_type = widen(a.data_type(), b.data_type(), guessed)?;
    let nullable = a.is_nullable() || b.is_nullable();
    Some(Arc::new(a.as_ref().clone().with_data_type(data_type).with_nullable(nullable)))
}

fn widen_integers(a: &DataType, b: &DataType) -> DataType {
    let bits = |integer: &DataType| 8 * integer.primitive_width().expect("integers have a width");
    let widest = bits(a).max(bits(b));
    match (a.is_signed_integer(), b.is_signed_integer()) {
        (true, true) | (false, false) => {
            if bits(a) >= bits(b) {
                a.clone()
            } else {
                b.clone()
            }
        }
        _ if widest < 64 => DataType::Int64,
        _ if a == &DataType::UInt64 || b == &DataType::UInt64 => DataType::Decimal128(20, 0),
        _ => DataType::Int64,
    }
}

/// The decimal that holds both; an integer is one of 20 digits.
fn widen_decimals(a: &DataType, b: &DataType) -> Option<DataType> {
    let shape = |data_type: &DataType| match data_type {
        DataType::Decimal32(digits, scale)
        | DataType::Decimal64(digits, scale)
        | DataType::Decimal128(digits, scale) => Some((i16::from(*digits), i16::from(*scale))),
        integer if integer.is_integer() => Some((20, 0)),
        _ => None,
    };
    let ((a_digits, a_scale), (b_digits, b_scale)) = (shape(a)?, shape(b)?);
    let scale = a_scale.max(b_scale);
    let digits = (a_digits - a_scale).max(b_digits - b_scale) + scale;
    let (digits, scale) = (u8::try_from(digits).ok()?, i8::try_from(scale).ok()?);
    (digits <= 38).then_some(DataType::Decimal128(digits, scale))
}

fn finer(a: TimeUnit, b: TimeUnit) -> TimeUnit {
    a.max(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_widen_or_conflict() {
        use DataType::*;
        let micros = Timestamp(TimeUnit::Microsecond, None);
        for (a, b, expected) in [
            (Int32, Int64, Some(Int64)),
            (Int64, Float64, Some(Float64)),
            (UInt32, Int32, Some(Int64)),
            (UInt64, Int64, Some(Decimal128(20, 0))),
            (UInt8, UInt16, Some(UInt16)),
            (Date32, micros.clone(), Some(micros.clone())),
            (Timestamp(TimeUnit::Second, None), micros.clone(), Some(micros.clone())),
            (Timestamp(TimeUnit::Second, Some("UTC".into())), micros, None),
            (Utf8, Utf8View, Some(Utf8View)),
            (Null, Boolean, Some(Boolean)),
            (Dictionary(Box::new(Int32), Box::new(Utf8)), Utf8View, Some(Utf8View)),
            (Decimal128(10, 2), Decimal128(8, 4), Some(Decimal128(12, 4))),
            (Decimal128(10, 2), Int32, Some(Decimal128(22, 2))),
            (Decimal128(38, 2), Decimal128(38, 4), None),
            (Int64, Utf8View, None),
            (Boolean, Int64, None),
        ] {
            assert_eq!(widen(&a, &b, false), expected, "{a} with {b}");
            assert_eq!(widen(&b, &a, false), expected, "{b} with {a}");
        }
        assert_eq!(widen(&Decimal128(10, 2), &Int64, true), Some(Float64));
    }
}
