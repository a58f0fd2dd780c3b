//! Charts: a result as lines over time or over a number, or as a bar for each name.
//!
//! The first column tells which: a time or a number is the axis on which the other columns, those
//! of numbers, are lines; a text is the name of a bar, whose length is the first number. A result
//! that is one column of numbers is drawn over the numbers of its rows.
//!
//! A result of any length is drawn in bounded memory: [`reduce`] keeps what can be seen of it. NULL
//! and what is not finite is not drawn. Times are those of UTC.

mod axis;
mod characters;
mod image;
mod reduce;

use std::io::Write;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef, TimeUnit};

use super::cell::{is_number, type_name};
use super::escape::escape_controls;
use super::{Format, Rows, Style, write_error};
use crate::error::{Error, Result};
use axis::Kind;
use reduce::Reduced;

/// The most lines in a chart.
const LINES_MAX: usize = 8;

/// The most bars in a chart.
const BARS_MAX: usize = 200;

/// What is drawn. Names are fit for a terminal.
enum Drawing {
    Lines {
        x_name: String,
        kind: Kind,
        /// The names of the lines, and their points from left to right.
        lines: Vec<(String, Vec<(f64, f64)>)>,
    },
    Bars {
        x_name: String,
        y_name: String,
        bars: Vec<(String, f64)>,
    },
}

/// What a chart shows, and what it does not.
struct Chart {
    drawing: Drawing,
    /// What is left out, as `2 more columns`.
    left_out: Vec<String>,
}

/// Draws the rows in the style's format.
///
/// # Errors
/// `Invalid` if there is nothing to draw, which names the columns; those of the rows and of `out`.
pub(super) async fn write_chart(
    rows: &mut Rows,
    schema: &SchemaRef,
    style: &Style,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let chart = read(rows, schema).await?;
    let bytes = match style.format {
        Format::Png => image::png(&chart)?,
        Format::Svg => image::svg(&chart)?.into_bytes(),
        _ => characters::draw(&chart, style.terminal).into_bytes(),
    };
    out.write_all(&bytes).and_then(|()| out.flush()).map_err(write_error)
}

async fn read(rows: &mut Rows, schema: &SchemaRef) -> Result<Chart> {
    let fields = schema.fields();
    let refused = |what: &str| {
        let columns: Vec<String> = fields
            .iter()
            .map(|field| {
                let name = escape_controls(field.name());
                format!("{name} {}", type_name(field.data_type()))
            })
            .collect();
        Error::invalid(format!("the result {what} to draw: its columns are {}", columns.join(", ")))
            .with_hint(
                "select a time, a number or a name first, and then numbers: SELECT time, x …",
            )
    };
    let numbers = |from: usize| {
        (from..fields.len()).filter(|&at| is_number(fields[at].data_type())).collect::<Vec<_>>()
    };
    let name = |at: usize| escape_controls(fields[at].name());
    let Some(first) = fields.first() else { return Err(refused("has no column")) };
    let is_alone = fields.len() == 1 && is_number(first.data_type());
    let columns = if is_alone { vec![0] } else { numbers(1) };
    if columns.is_empty() {
        return Err(refused("has no column of numbers"));
    }
    if is_text(first.data_type()) {
        return read_bars(rows, columns[0], name(0), name(columns[0]), columns.len() - 1).await;
    }
    let Some(kind) = Kind::of(first.data_type()) else {
        return Err(refused("begins with no time, number or name"));
    };
    let (shown, left_out) = columns.split_at(columns.len().min(LINES_MAX));
    let mut lines: Vec<Reduced> = shown.iter().map(|_| Reduced::default()).collect();
    while let Some(batch) = rows.next().await? {
        let before = rows.written.rows - batch.num_rows() as u64;
        let places = match is_alone {
            true => {
                (0..batch.num_rows()).map(|row| Some((before + row as u64 + 1) as f64)).collect()
            }
            false => to_numbers(batch.column(0))?,
        };
        for (line, &at) in lines.iter_mut().zip(shown) {
            for (x, y) in places.iter().zip(to_numbers(batch.column(at))?) {
                if let (Some(x), Some(y)) = (*x, y) {
                    line.push(x, y);
                }
            }
        }
    }
    let lines: Vec<(String, Vec<(f64, f64)>)> =
        lines.into_iter().zip(shown).map(|(line, &at)| (name(at), line.points())).collect();
    if lines.iter().all(|(_, points)| points.is_empty()) {
        return Err(match rows.written.rows {
            0 => refused("has no rows"),
            _ => refused("has no values"),
        });
    }
    let x_name = if is_alone { "row".to_owned() } else { name(0) };
    let kind = if is_alone { Kind::Number } else { kind };
    let left_out = more(left_out.len(), "column").into_iter().collect();
    Ok(Chart { drawing: Drawing::Lines { x_name, kind, lines }, left_out })
}

async fn read_bars(
    rows: &mut Rows,
    at: usize,
    x_name: String,
    y_name: String,
    columns_left_out: usize,
) -> Result<Chart> {
    let mut bars = Vec::new();
    let mut bars_left_out = 0;
    while let Some(batch) = rows.next().await? {
        let taken = batch.num_rows().min(BARS_MAX - bars.len());
        bars_left_out += batch.num_rows() - taken;
        let batch = batch.slice(0, taken);
        let names = cast(batch.column(0), &DataType::Utf8)?;
        let values = to_numbers(batch.column(at))?;
        for (name, value) in names.as_string::<i32>().iter().zip(values) {
            // A bar without a length is there all the same, so that it is seen to be missing.
            bars.push((escape_controls(name.unwrap_or("NULL")), value.unwrap_or(f64::NAN)));
        }
    }
    if bars.is_empty() {
        let text = format!("the result has no rows to draw: its columns are {x_name} and {y_name}");
        return Err(Error::invalid(text));
    }
    let left_out = [more(bars_left_out, "row"), more(columns_left_out, "column")];
    Ok(Chart {
        drawing: Drawing::Bars { x_name, y_name, bars },
        left_out: left_out.into_iter().flatten().collect(),
    })
}

/// Says that there are things that are not drawn.
fn more(count: usize, of: &str) -> Option<String> {
    let plural = if count == 1 { "" } else { "s" };
    (count > 0).then(|| format!("{count} more {of}{plural}"))
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_text(values),
        data_type => {
            matches!(
                data_type,
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean
            )
        }
    }
}

/// Returns the values of a column as numbers: of a time the seconds, since 1970 or since midnight.
fn to_numbers(array: &ArrayRef) -> Result<Vec<Option<f64>>> {
    let unit = |unit: &TimeUnit| match unit {
        TimeUnit::Second => 1.0,
        TimeUnit::Millisecond => 1e3,
        TimeUnit::Microsecond => 1e6,
        TimeUnit::Nanosecond => 1e9,
    };
    let (array, per_unit) = match array.data_type() {
        DataType::Timestamp(of, _) => (cast(array, &DataType::Int64)?, unit(of)),
        DataType::Time64(of) => (cast(array, &DataType::Int64)?, unit(of)),
        DataType::Time32(of) => {
            (cast(&cast(array, &DataType::Int32)?, &DataType::Int64)?, unit(of))
        }
        DataType::Date32 => {
            (cast(&cast(array, &DataType::Int32)?, &DataType::Int64)?, 1.0 / 86_400.0)
        }
        DataType::Date64 => (cast(array, &DataType::Int64)?, 1e3),
        _ => {
            let array = cast(array, &DataType::Float64)?;
            let values = array.as_primitive::<Float64Type>().iter();
            return Ok(values.map(|value| value.filter(|value| value.is_finite())).collect());
        }
    };
    let values = array.as_primitive::<Int64Type>().iter();
    Ok(values.map(|value| value.map(|value| value as f64 / per_unit)).collect())
}
