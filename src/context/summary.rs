//! SUMMARIZE: what the columns of a query hold, one row a column.
//!
//! The plan of the query gets one aggregate without groups, so its rows are read once and none is
//! kept; the one row that comes out is turned into a row for each column. Numbers and times have
//! quartiles (t-digests: near the true ones), numbers a mean and a deviation, and what is nested is
//! just counted. All measures are texts, as they are of many types.

use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::{Column, ScalarValue, UnnestOptions};
use datafusion::error::Result as EngineResult;
use datafusion::functions::core::expr_fn::{named_struct, nullif};
use datafusion::functions_aggregate::expr_fn::{
    approx_distinct, approx_percentile_cont, avg, count, max, min, stddev,
};
use datafusion::functions_nested::expr_fn::make_array;
use datafusion::logical_expr::{Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, cast, lit};

use crate::error::Error;

/// The columns of a summary that are texts of an aggregate of the same name.
const MEASURES: &[&str] = &["min", "max", "avg", "std", "q25", "q50", "q75"];

/// Returns the plan that summarizes what `plan` shows.
///
/// # Errors
/// `Invalid` if it shows no columns; `Unsupported` for a statement that is no query.
pub(super) fn summarize(plan: LogicalPlan) -> EngineResult<LogicalPlan> {
    if matches!(
        plan,
        LogicalPlan::Ddl(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::Statement(_)
    ) {
        return Err(Error::unsupported("SUMMARIZE is for tables and queries").into());
    }
    let columns: Vec<(Column, Field)> = plan
        .schema()
        .iter()
        .map(|(table, field)| (Column::new(table.cloned(), field.name()), field.as_ref().clone()))
        .collect();
    if columns.is_empty() {
        return Err(Error::invalid("there are no columns to summarize").into());
    }
    let mut aggregates = vec![count(lit(1)).alias("rows")];
    for (at, (column, field)) in columns.iter().enumerate() {
        let column = Expr::Column(column.clone());
        aggregates.push(count(column.clone()).alias(name("count", at)));
        aggregates.extend(
            measures(column, field.data_type())?
                .into_iter()
                .map(|(measure, value)| value.alias(name(measure, at))),
        );
    }
    let row = LogicalPlanBuilder::from(plan).aggregate(Vec::<Expr>::new(), aggregates)?;
    let found = |measure: &str, at: usize, data_type: DataType| {
        let column = Column::new_unqualified(name(measure, at));
        if !row.schema().has_column(&column) {
            return lit(ScalarValue::try_new_null(&data_type).expect("a plain type"));
        }
        let value = match time_type(columns[at].1.data_type()) {
            // Quartiles are computed as floats.
            Some(DataType::Date32) if measure.starts_with('q') => {
                cast(cast(Expr::Column(column), DataType::Int32), DataType::Date32)
            }
            Some(time) if measure.starts_with('q') => {
                cast(cast(Expr::Column(column), DataType::Int64), time)
            }
            _ => Expr::Column(column),
        };
        cast(value, data_type)
    };
    let each = |title: &str, value: &dyn Fn(usize) -> Expr| {
        make_array((0..columns.len()).map(value).collect()).alias(title)
    };
    let rows = || Expr::Column(Column::new_unqualified("rows"));
    let measure = |title: &str| each(title, &|at| found(title, at, DataType::Utf8));
    let nulls = |at| {
        let count = found("count", at, DataType::Float64);
        let rows = cast(rows(), DataType::Float64);
        let share = (rows.clone() - count) * lit(100.0) / nullif(rows, lit(0.0));
        cast(share, DataType::Decimal128(9, 2))
    };
    let mut projected = vec![
        each("column_name", &|at| lit(columns[at].1.name().as_str())),
        each("column_type", &|at| lit(columns[at].1.data_type().to_string())),
        measure("min"),
        measure("max"),
        each("approx_unique", &|at| found("approx_unique", at, DataType::Int64)),
    ];
    projected.extend(MEASURES[2..].iter().map(|title| measure(title)));
    projected.push(each("count", &|_| rows()));
    projected.push(each("null_percentage", &nulls));
    let lists = row.project(projected)?;
    let titles: Vec<Column> =
        lists.schema().fields().iter().map(|field| Column::new_unqualified(field.name())).collect();
    lists.unnest_columns_with_options(titles, UnnestOptions::default())?.build()
}

/// Names the aggregate of a column.
fn name(measure: &str, at: usize) -> String {
    format!("{measure} {at}")
}

/// Returns what is measured of a column, beside its count.
fn measures(column: Expr, data_type: &DataType) -> EngineResult<Vec<(&'static str, Expr)>> {
    use DataType as T;
    let (column, data_type) = match data_type {
        T::Dictionary(_, value) => (cast(column, value.as_ref().clone()), value.as_ref()),
        data_type => (column, data_type),
    };
    let is_text = matches!(data_type, T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Boolean);
    let is_binary =
        matches!(data_type, T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_));
    let time = time_type(data_type);
    if !is_text && !is_binary && !data_type.is_numeric() && time.is_none() {
        return Ok(Vec::new());
    }
    let unique = match data_type {
        // The engine counts no distinct floats; a structure of one is hashed as it is.
        T::Float16 | T::Float32 | T::Float64 => {
            approx_distinct(named_struct(vec![lit("value"), column.clone()]))
                .filter(column.clone().is_not_null())
                .build()?
        }
        _ => approx_distinct(column.clone()),
    };
    let mut measures = vec![("approx_unique", unique)];
    if !is_binary {
        measures.extend([("min", min(column.clone())), ("max", max(column.clone()))]);
    }
    if data_type.is_numeric() {
        let number = cast(column.clone(), T::Float64);
        measures.extend([("avg", avg(number.clone())), ("std", stddev(number))]);
    }
    let number = match time {
        Some(T::Date32) => Some(cast(cast(column, T::Date32), T::Int32)),
        Some(time) => Some(cast(cast(column, time), T::Int64)),
        None if data_type.is_integer() => Some(column),
        None if data_type.is_numeric() => Some(cast(column, T::Float64)),
        None => None,
    };
    if let Some(number) = number {
        for (title, part) in [("q25", 0.25), ("q50", 0.5), ("q75", 0.75)] {
            let sorted = number.clone().sort(true, false);
            measures.push((title, approx_percentile_cont(sorted, lit(part), None)));
        }
    }
    Ok(measures)
}

/// Returns the type in which the quartiles of a time are shown; `None` for what is no time.
fn time_type(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Date32 | DataType::Date64 => Some(DataType::Date32),
        DataType::Timestamp(_, zone) => {
            Some(DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))
        }
        DataType::Time32(_) | DataType::Time64(_) => Some(DataType::Time64(TimeUnit::Microsecond)),
        DataType::Dictionary(_, value) => time_type(value),
        _ => None,
    }
}
