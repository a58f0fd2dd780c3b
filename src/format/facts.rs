//! What a stored table's row says of its file, in both directions: computed from batches while they
//! are written or read, and made ready to plan with.
//!
//! In the row it is text: the Arrow schema as JSON, and statistics in the shape of Delta's,
//! `{"numRecords":2,"minValues":{"a":1},"maxValues":{"a":5},"nullCount":{"a":0}}`. Numbers are numbers;
//! times, dates and decimals are text with all their digits.
//!
//! Invariant: a bound is exact or absent, since the engine returns it as the answer to `min` and
//! `max`. A bound is written only if reading it gives the very value back. Absent are bounds of
//! nested and binary columns, of columns with a NaN, and texts longer than [`TEXT_BYTES_MAX`].

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Field, FieldRef, Fields, Int64Type, Schema, SchemaRef,
};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::datasource::physical_plan::parquet::transform_schema_to_view;
use datafusion::functions_aggregate::min_max::{MaxAccumulator, MinAccumulator};
use datafusion::logical_expr::Accumulator;
use datafusion::parquet::arrow::arrow_reader::RowSelection;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::entry::TableFacts;
use crate::error::{Error, Result};
use crate::memo::Memo;

/// The longest text that is kept as a bound.
const TEXT_BYTES_MAX: usize = 64;

/// What the pond knows of a Parquet file that it keeps, so that planning opens no file.
///
/// Only for files that never change: they are not watched.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownTable {
    /// The columns, with text as `Utf8View` and bytes as `BinaryView`.
    pub schema: SchemaRef,
    /// Row count and column bounds of the rows that `rows` selects, in the order of `schema`. What
    /// is not exact is absent.
    pub statistics: Arc<Statistics>,
    /// The column in whose order the rows are, none of which is null there.
    pub sorted_by: Option<String>,
    /// Which rows of the file are the table's; `None` for all.
    pub rows: Option<Arc<RowSelection>>,
}

/// Facts read from rows before: a query over a thousand files parses nothing twice.
static TABLES: LazyLock<Memo<FactsKey, Arc<KnownTable>>> = LazyLock::new(|| {
    // What is made of a text takes about twice its size.
    let weigh = |key: &FactsKey| 3 * (key.0.len() + key.1.len());
    Memo::new(MEMO_BYTES, weigh)
});
static SCHEMAS: LazyLock<Memo<String, SchemaRef>> =
    LazyLock::new(|| Memo::new(MEMO_BYTES, |schema| 3 * schema.len()));

/// Schema, statistics, and the column in whose order the rows are.
type FactsKey = (String, String, Option<String>);

/// About the most that is kept of each kind.
const MEMO_BYTES: usize = 16 * 1024 * 1024;

impl KnownTable {
    /// Whether a float holds every value of a column of whole numbers.
    pub(super) fn is_exact_as_float(&self, place: usize) -> bool {
        const EXACT_MAX: u64 = 1 << 53;
        let column = &self.statistics.column_statistics[place];
        [&column.min_value, &column.max_value].iter().all(|bound| {
            matches!(bound, Precision::Exact(ScalarValue::Int64(bound))
                if bound.is_none_or(|bound| bound.unsigned_abs() <= EXACT_MAX))
        })
    }

    /// Reads the facts of a row.
    ///
    /// # Errors
    /// `Corrupt` if they are not what is written there.
    pub fn from_facts(facts: &TableFacts) -> Result<Arc<Self>> {
        let sorted_by = facts.temporal_column.clone().filter(|_| facts.sorted);
        let key = (facts.arrow_schema.clone(), facts.statistics.clone(), sorted_by.clone());
        TABLES.get_or_try_insert(key, || {
            let schema = SCHEMAS.get_or_try_insert(facts.arrow_schema.clone(), || {
                let schema: Schema = serde_json::from_str(&facts.arrow_schema)
                    .map_err(|error| Error::corrupt("Arrow schema as JSON").with_source(error))?;
                Ok(Arc::new(transform_schema_to_view(&schema)))
            })?;
            let statistics: FileStatistics = serde_json::from_str(&facts.statistics)
                .map_err(|error| Error::corrupt("statistics as JSON").with_source(error))?;
            let statistics = Arc::new(statistics.to_engine(&schema)?);
            Ok(Arc::new(Self { schema, statistics, sorted_by, rows: None }))
        })
    }
}

/// The statistics of one file, as they are written.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileStatistics {
    #[serde(rename = "numRecords")]
    num_rows: u64,
    min_values: Map<String, Value>,
    max_values: Map<String, Value>,
    null_count: BTreeMap<String, u64>,
}

impl FileStatistics {
    fn to_engine(&self, schema: &Schema) -> Result<Statistics> {
        let rows = usize::try_from(self.num_rows)
            .map_err(|error| Error::corrupt("statistics: numRecords").with_source(error))?;
        let bound = |bounds: &Map<String, Value>, field: &Field| match bounds.get(field.name()) {
            None => Ok(Precision::Absent),
            Some(bound) => {
                bound_from_json(bound, field.data_type()).map(Precision::Exact).ok_or_else(|| {
                    Error::corrupt(format!("statistics: {bound} as bound of '{}'", field.name()))
                })
            }
        };
        let columns = schema.fields().iter().map(|field| {
            let nulls = self.null_count.get(field.name());
            Ok(ColumnStatistics {
                null_count: nulls.map_or(Precision::Absent, |nulls| {
                    usize::try_from(*nulls).map_or(Precision::Absent, Precision::Exact)
                }),
                min_value: bound(&self.min_values, field)?,
                max_value: bound(&self.max_values, field)?,
                byte_size: byte_size(field.data_type(), rows),
                ..ColumnStatistics::new_unknown()
            })
        });
        Ok(Statistics {
            num_rows: Precision::Exact(rows),
            total_byte_size: Precision::Absent,
            column_statistics: columns.collect::<Result<_>>()?,
        })
    }
}

/// Returns the size in memory of a column, which the engine estimates joins by.
pub(super) fn byte_size(data_type: &DataType, rows: usize) -> Precision<usize> {
    data_type.primitive_width().map_or(Precision::Absent, |width| Precision::Exact(width * rows))
}

/// Computes the facts of a table from its rows, batch by batch.
#[derive(Debug)]
pub(super) struct FactsBuilder {
    schema: SchemaRef,
    rows: u64,
    columns: Vec<ColumnFacts>,
    order: Option<Order>,
}

#[derive(Debug, Default)]
struct ColumnFacts {
    nulls: u64,
    /// The least and the greatest value so far, in the type of the batches; `None` before the first
    /// and for a type without bounds.
    bounds: Option<(MinAccumulator, MaxAccumulator)>,
}

/// Whether the rows are in the order of the temporal column.
#[derive(Debug)]
struct Order {
    column: usize,
    sorted: bool,
    first: Option<i64>,
    last: i64,
}

impl FactsBuilder {
    /// Starts with no row of a table with these columns.
    ///
    /// # Errors
    /// `Invalid` if there is no column called `temporal_column`.
    pub(super) fn new(schema: &Schema, temporal_column: Option<&str>) -> Result<Self> {
        let schema = Arc::new(stored_schema(schema));
        let order = temporal_column
            .map(|name| {
                let (column, _) = schema
                    .column_with_name(name)
                    .ok_or_else(|| Error::invalid(format!("there is no column '{name}'")))?;
                Ok::<_, Error>(Order { column, sorted: true, first: None, last: i64::MIN })
            })
            .transpose()?;
        let columns = schema.fields().iter().map(|_| ColumnFacts::default()).collect();
        Ok(Self { schema, rows: 0, columns, order })
    }

    /// Returns the columns as they are stored.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Adds the rows of a batch, whose columns are in the places of the schema's.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        for (column, values) in batch.columns().iter().enumerate() {
            self.add_column(column, values)?;
        }
        Ok(())
    }

    /// Counts rows whose columns are told one by one.
    pub(super) fn add_rows(&mut self, rows: u64) {
        self.rows += rows;
    }

    /// Adds values of one column.
    pub(super) fn add_column(&mut self, column: usize, values: &ArrayRef) -> Result<()> {
        let facts = &mut self.columns[column];
        facts.nulls += values.logical_null_count() as u64;
        let data_type = self.schema.field(column).data_type();
        let plain = match values.data_type() {
            DataType::Dictionary(..) | DataType::RunEndEncoded(..) => cast(values, data_type)?,
            _ => values.clone(),
        };
        if has_bounds(data_type) {
            facts.add_bounds(&plain, &plain)?;
        }
        if let Some(order) = self.order.as_mut().filter(|order| order.column == column) {
            order.add(&plain)?;
        }
        Ok(())
    }

    /// Adds the rows that come next, whose facts `next` tells.
    pub(super) fn absorb(&mut self, next: Self) -> Result<()> {
        self.rows += next.rows;
        for (facts, next) in self.columns.iter_mut().zip(next.columns) {
            facts.nulls += next.nulls;
            let Some((mut min, mut max)) = next.bounds else { continue };
            facts.add_bounds(&min.evaluate()?.to_array()?, &max.evaluate()?.to_array()?)?;
        }
        if let (Some(order), Some(next)) = (&mut self.order, next.order) {
            order.sorted &= next.sorted && next.first.is_none_or(|first| order.last <= first);
            order.last = if next.first.is_some() { next.last } else { order.last };
            order.first = order.first.or(next.first);
        }
        Ok(())
    }

    /// Sets what is known of a column otherwise.
    pub(super) fn set_column(&mut self, column: usize, known: &ColumnStatistics) -> Result<()> {
        let facts = &mut self.columns[column];
        facts.nulls += known.null_count.get_value().map_or(0, |nulls| *nulls as u64);
        if let (Some(least), Some(greatest)) =
            (known.min_value.get_value(), known.max_value.get_value())
        {
            facts.add_bounds(&least.to_array()?, &greatest.to_array()?)?;
        }
        Ok(())
    }

    /// Returns the facts of all rows added.
    pub(super) fn finish(mut self) -> Result<TableFacts> {
        let mut statistics = FileStatistics { num_rows: self.rows, ..Default::default() };
        let (mut min_time, mut max_time) = (None, None);
        for (index, (field, facts)) in
            self.schema.fields().iter().zip(&mut self.columns).enumerate()
        {
            statistics.null_count.insert(field.name().clone(), facts.nulls);
            let Some((min, max)) = &mut facts.bounds else { continue };
            let min = min.evaluate()?.cast_to(field.data_type())?;
            let max = max.evaluate()?.cast_to(field.data_type())?;
            if self.order.as_ref().is_some_and(|order| order.column == index) {
                min_time = micros(&min, false);
                max_time = micros(&max, true);
            }
            if is_nan(&min) || is_nan(&max) {
                continue;
            }
            let name = field.name();
            if let Some(bound) = bound_to_json(&min) {
                statistics.min_values.insert(name.clone(), bound);
            }
            if let Some(bound) = bound_to_json(&max) {
                statistics.max_values.insert(name.clone(), bound);
            }
        }
        let json = |error| Error::invalid("facts of a table as JSON").with_source(error);
        Ok(TableFacts {
            arrow_schema: serde_json::to_string(&*self.schema).map_err(json)?,
            statistics: serde_json::to_string(&statistics).map_err(json)?,
            temporal_column: self
                .order
                .as_ref()
                .map(|order| self.schema.field(order.column).name().clone()),
            min_time,
            max_time,
            sorted: self.order.is_some_and(|order| order.sorted),
        })
    }
}

impl ColumnFacts {
    fn add_bounds(&mut self, least: &ArrayRef, greatest: &ArrayRef) -> Result<()> {
        if self.bounds.is_none() {
            let min = MinAccumulator::try_new(least.data_type())?;
            self.bounds = Some((min, MaxAccumulator::try_new(greatest.data_type())?));
        }
        if let Some((min, max)) = &mut self.bounds {
            min.update_batch(std::slice::from_ref(least))?;
            max.update_batch(std::slice::from_ref(greatest))?;
        }
        Ok(())
    }
}

impl Order {
    fn add(&mut self, times: &ArrayRef) -> Result<()> {
        if !self.sorted || times.is_empty() {
            return Ok(());
        }
        let times = cast(times, &DataType::Int64)?;
        let times = times.as_primitive::<Int64Type>();
        let values = times.values();
        self.sorted = times.null_count() == 0 && self.last <= values[0] && values.is_sorted();
        self.first = self.first.or(Some(values[0]));
        self.last = values[values.len() - 1];
        Ok(())
    }
}

/// Returns the columns as they are stored: without metadata, and each type in its plainest form, which
/// any reader of Arrow schemas knows.
pub(super) fn stored_schema(schema: &Schema) -> Schema {
    Schema::new(schema.fields().iter().map(stored_field).collect::<Fields>())
}

fn stored_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), stored_type(field.data_type()), field.is_nullable()))
}

fn stored_type(data_type: &DataType) -> DataType {
    use DataType::*;
    match data_type {
        Utf8View | LargeUtf8 => Utf8,
        BinaryView | LargeBinary => Binary,
        Dictionary(_, value) => stored_type(value),
        RunEndEncoded(_, value) => stored_type(value.data_type()),
        List(item) => List(stored_field(item)),
        LargeList(item) => LargeList(stored_field(item)),
        FixedSizeList(item, size) => FixedSizeList(stored_field(item), *size),
        Map(entries, sorted) => Map(stored_field(entries), *sorted),
        Struct(fields) => Struct(fields.iter().map(stored_field).collect()),
        other => other.clone(),
    }
}

/// Whether bounds of this type are kept.
pub(super) fn has_bounds(data_type: &DataType) -> bool {
    use DataType::*;
    data_type.is_numeric()
        || matches!(
            data_type,
            Boolean | Utf8 | Date32 | Date64 | Time32(_) | Time64(_) | Timestamp(..)
        )
}

fn is_nan(value: &ScalarValue) -> bool {
    match value {
        ScalarValue::Float16(Some(value)) => value.is_nan(),
        ScalarValue::Float32(Some(value)) => value.is_nan(),
        ScalarValue::Float64(Some(value)) => value.is_nan(),
        _ => false,
    }
}

/// Returns a bound as JSON, or `None` if that would not be the very value.
fn bound_to_json(bound: &ScalarValue) -> Option<Value> {
    if bound.is_null() {
        return None;
    }
    let as_text = || -> Option<Value> {
        // Without its zone a time is told in UTC.
        let naive = match bound.data_type() {
            DataType::Timestamp(unit, Some(_)) => {
                bound.cast_to(&DataType::Timestamp(unit, None)).ok()?
            }
            _ => bound.clone(),
        };
        let zone = matches!(bound.data_type(), DataType::Timestamp(_, Some(_)));
        let text = naive.cast_to(&DataType::Utf8).ok()?;
        let text = text.try_as_str()??;
        Some(Value::String(if zone { format!("{text}Z") } else { text.to_owned() }))
    };
    let json = match bound {
        ScalarValue::Boolean(Some(value)) => Value::from(*value),
        ScalarValue::Int8(Some(value)) => Value::from(*value),
        ScalarValue::Int16(Some(value)) => Value::from(*value),
        ScalarValue::Int32(Some(value)) => Value::from(*value),
        ScalarValue::Int64(Some(value)) => Value::from(*value),
        ScalarValue::UInt8(Some(value)) => Value::from(*value),
        ScalarValue::UInt16(Some(value)) => Value::from(*value),
        ScalarValue::UInt32(Some(value)) => Value::from(*value),
        ScalarValue::UInt64(Some(value)) => Value::from(*value),
        ScalarValue::Float64(Some(value)) => Value::from(*value),
        ScalarValue::Utf8(Some(text)) if text.len() <= TEXT_BYTES_MAX => Value::from(text.clone()),
        ScalarValue::Utf8(_) => return None,
        _ => as_text()?,
    };
    // The JSON reader takes a short cut with the last digit of some numbers; their text is exact.
    [json, as_text()?].into_iter().find(|json| {
        let written = serde_json::to_string(json).unwrap_or_default();
        let read = serde_json::from_str(&written).ok();
        read.and_then(|read| bound_from_json(&read, &bound.data_type())).as_ref() == Some(bound)
    })
}

/// Returns the value of a bound, or `None` if it is not one of this type.
fn bound_from_json(json: &Value, data_type: &DataType) -> Option<ScalarValue> {
    use DataType::*;
    let number = |value: Option<i64>| value.map(|value| ScalarValue::Int64(Some(value)));
    match (json, data_type) {
        (Value::Bool(value), Boolean) => Some(ScalarValue::Boolean(Some(*value))),
        (Value::Number(value), UInt64) => {
            value.as_u64().map(|value| ScalarValue::UInt64(Some(value)))
        }
        (Value::Number(value), Float64) => {
            value.as_f64().map(|value| ScalarValue::Float64(Some(value)))
        }
        (Value::Number(value), integer) if integer.is_integer() => {
            let value = number(value.as_i64())?.cast_to(integer).ok()?;
            (!value.is_null()).then_some(value)
        }
        (Value::String(text), Utf8) => Some(ScalarValue::Utf8(Some(text.clone()))),
        (Value::String(text), Utf8View) => Some(ScalarValue::Utf8View(Some(text.clone()))),
        (Value::String(text), Timestamp(unit, Some(zone))) => {
            let naive = Timestamp(*unit, None);
            let naive = ScalarValue::try_from_string(text.strip_suffix('Z')?.to_owned(), &naive);
            with_zone(naive.ok()?, zone)
        }
        (Value::String(text), other) if !text.is_empty() => {
            let value = ScalarValue::try_from_string(text.clone(), other).ok()?;
            (!value.is_null()).then_some(value)
        }
        _ => None,
    }
}

fn with_zone(naive: ScalarValue, zone: &Arc<str>) -> Option<ScalarValue> {
    let zone = Some(zone.clone());
    Some(match naive {
        ScalarValue::TimestampSecond(Some(time), _) => {
            ScalarValue::TimestampSecond(Some(time), zone)
        }
        ScalarValue::TimestampMillisecond(Some(time), _) => {
            ScalarValue::TimestampMillisecond(Some(time), zone)
        }
        ScalarValue::TimestampMicrosecond(Some(time), _) => {
            ScalarValue::TimestampMicrosecond(Some(time), zone)
        }
        ScalarValue::TimestampNanosecond(Some(time), _) => {
            ScalarValue::TimestampNanosecond(Some(time), zone)
        }
        _ => return None,
    })
}

/// Returns a time in microseconds since 1970, nanoseconds rounded up or down.
fn micros(time: &ScalarValue, up: bool) -> Option<i64> {
    match time {
        ScalarValue::TimestampSecond(time, _) => time.as_ref()?.checked_mul(1_000_000),
        ScalarValue::TimestampMillisecond(time, _) => time.as_ref()?.checked_mul(1000),
        ScalarValue::TimestampMicrosecond(time, _) => *time,
        ScalarValue::TimestampNanosecond(Some(time), _) => {
            Some(time.div_euclid(1000) + i64::from(up && time.rem_euclid(1000) != 0))
        }
        ScalarValue::Date32(days) => i64::from((*days)?).checked_mul(86_400_000_000),
        ScalarValue::Date64(time) => time.as_ref()?.checked_mul(1000),
        _ => None,
    }
}
