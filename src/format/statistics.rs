//! Exact statistics: carried over to the columns of a wider table, and merged over files.
//!
//! The engine's own merging takes the bounds of a file without any value for unknown, and with them
//! those of the whole table; here such a file has no say.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};

use super::facts::byte_size;
use crate::error::Result;

/// Carries the statistics of a file over to the columns of a table, which hold the file's: by name
/// and widened, null where they are missing.
pub(super) fn convert(
    own: &Arc<Statistics>,
    own_schema: &SchemaRef,
    table_schema: &SchemaRef,
) -> Result<Arc<Statistics>> {
    if Arc::ptr_eq(own_schema, table_schema) || own_schema == table_schema {
        return Ok(own.clone());
    }
    let rows = own.num_rows;
    let columns = table_schema.fields().iter().map(|field| {
        let size =
            rows.get_value().map_or(Precision::Absent, |rows| byte_size(field.data_type(), *rows));
        match own_schema.column_with_name(field.name()) {
            Some((index, own_field)) => {
                let column = own.column_statistics[index].clone();
                let column = convert_column(column, own_field.data_type(), field.data_type());
                ColumnStatistics { byte_size: size, ..column }
            }
            None => ColumnStatistics {
                null_count: rows,
                byte_size: size,
                ..ColumnStatistics::new_unknown()
            },
        }
    });
    Ok(Arc::new(Statistics {
        num_rows: rows,
        total_byte_size: own.total_byte_size,
        column_statistics: columns.collect(),
    }))
}

/// Carries a column's statistics over to the type that it has in the table.
pub(super) fn convert_column(
    column: ColumnStatistics,
    from: &DataType,
    to: &DataType,
) -> ColumnStatistics {
    let keeps_order = from.is_numeric() && to.is_numeric()
        || from.is_temporal() && to.is_temporal()
        || !from.is_numeric() && !from.is_temporal() && !from.is_nested();
    let bound = |bound: Precision<ScalarValue>| match from == to {
        true => bound,
        false if keeps_order => match bound.cast_to(to) {
            Ok(bound) if bound.get_value().is_some_and(|bound| !bound.is_null()) => bound,
            _ => Precision::Absent,
        },
        false => Precision::Absent,
    };
    ColumnStatistics {
        null_count: column.null_count,
        min_value: bound(column.min_value),
        max_value: bound(column.max_value),
        distinct_count: column.distinct_count,
        byte_size: column.byte_size,
        sum_value: Precision::Absent,
    }
}

/// Merges the statistics of files, all in the columns of `schema`. What is not exact is absent.
pub(super) fn merge<'a>(
    files: impl Iterator<Item = &'a Statistics> + Clone,
    schema: &Schema,
) -> Statistics {
    let rows = sum(files.clone().map(|file| &file.num_rows));
    let columns = schema.fields().iter().enumerate().map(|(index, field)| {
        let columns = files.clone().map(|file| &file.column_statistics[index]);
        // A column of nulls, or of no rows, has no bounds, and needs none.
        let with_values = files
            .clone()
            .filter(|file| {
                let nulls = &file.column_statistics[index].null_count;
                !(matches!(nulls, Precision::Exact(_)) && *nulls == file.num_rows)
            })
            .map(|file| &file.column_statistics[index]);
        let size =
            rows.get_value().map_or(Precision::Absent, |rows| byte_size(field.data_type(), *rows));
        ColumnStatistics {
            null_count: sum(columns.map(|column| &column.null_count)),
            min_value: extreme(with_values.clone().map(|column| &column.min_value), Ordering::Less),
            max_value: extreme(with_values.map(|column| &column.max_value), Ordering::Greater),
            byte_size: size,
            ..ColumnStatistics::new_unknown()
        }
    });
    let column_statistics = columns.collect();
    Statistics { num_rows: rows, total_byte_size: Precision::Absent, column_statistics }
}

fn sum<'a>(counts: impl Iterator<Item = &'a Precision<usize>>) -> Precision<usize> {
    let mut total = 0;
    for count in counts {
        let Precision::Exact(count) = count else { return Precision::Absent };
        total += count;
    }
    Precision::Exact(total)
}

/// Returns the bound that compares to all others as `wanted`; absent if one is absent.
fn extreme<'a>(
    bounds: impl Iterator<Item = &'a Precision<ScalarValue>>,
    wanted: Ordering,
) -> Precision<ScalarValue> {
    let mut extreme: Option<&ScalarValue> = None;
    for bound in bounds {
        let Precision::Exact(bound) = bound else { return Precision::Absent };
        match extreme.map(|extreme| bound.partial_cmp(extreme)) {
            None => extreme = Some(bound),
            Some(Some(order)) if order == wanted => extreme = Some(bound),
            Some(Some(_)) => {}
            Some(None) => return Precision::Absent,
        }
    }
    extreme.map_or(Precision::Absent, |bound| Precision::Exact(bound.clone()))
}
