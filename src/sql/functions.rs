//! Functions of time under the names that most people know them by: `date(x)`, `year(x)`, `hour(x)`
//! and their kin; and `bar(x, min, max)`, which draws a number.
//!
//! Each of the former is another way to write what the engine has, and the optimizer puts that in its place:
//! `CAST(x AS DATE)`, `date_part('hour', x)`. So they mean the same, and all that the engine knows
//! of those, and [`super::time_buckets`] of the former, holds for them.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, TimeUnit};
use datafusion::common::types::{NativeType, logical_date, logical_string};
use datafusion::common::utils::take_function_args;
use datafusion::common::{ScalarValue, exec_err, internal_err};
use datafusion::error::Result as EngineResult;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::functions::datetime::date_part;
use datafusion::logical_expr::scalar_doc_sections::DOC_SECTION_STRING;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    Coercion, ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, TypeSignature, TypeSignatureClass, Volatility, cast, lit,
};

/// The names of the parts of a time, and what `date_part` calls them.
const PARTS: &[(&str, &str)] = &[
    ("year", "year"),
    ("quarter", "quarter"),
    ("month", "month"),
    ("week", "week"),
    ("day", "day"),
    ("dayofweek", "dow"),
    ("dow", "dow"),
    ("dayofyear", "doy"),
    ("doy", "doy"),
    ("hour", "hour"),
    ("minute", "minute"),
    ("second", "second"),
];

/// Adds the functions to a session, but those whose names it uses.
pub(crate) fn add_to(state: &mut SessionState) {
    let date = ScalarUDF::from(Date::new());
    let parts = PARTS.iter().map(|&(name, part)| ScalarUDF::from(Part::new(name, part)));
    let bar = ScalarUDF::from(Bar::new());
    for function in [date, bar].into_iter().chain(parts) {
        if !state.scalar_functions().contains_key(function.name()) {
            let added = state.register_udf(Arc::new(function));
            added.expect("registering a function under a free name cannot fail");
        }
    }
}

fn text() -> TypeSignatureClass {
    TypeSignatureClass::Native(logical_string())
}

fn one_of(argument: impl IntoIterator<Item = Coercion>) -> Signature {
    let each = argument.into_iter().map(|argument| TypeSignature::Coercible(vec![argument]));
    Signature::one_of(each.collect(), Volatility::Immutable)
}

/// `date(x)`: the day of a time, a date or a text that is one.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Date {
    signature: Signature,
}

impl Date {
    fn new() -> Self {
        let date = TypeSignatureClass::Native(logical_date());
        let arguments = [TypeSignatureClass::Timestamp, date, text()];
        Self { signature: one_of(arguments.map(Coercion::new_exact)) }
    }
}

impl ScalarUDFImpl for Date {
    fn name(&self) -> &str {
        "date"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(DataType::Date32)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> EngineResult<FieldRef> {
        let [argument] = take_function_args(self.name(), args.arg_fields)?;
        Ok(Arc::new(Field::new(self.name(), DataType::Date32, argument.is_nullable())))
    }

    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> EngineResult<ExprSimplifyResult> {
        let [argument] = take_function_args(self.name(), args)?;
        Ok(ExprSimplifyResult::Simplified(cast(argument, DataType::Date32)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let [argument] = take_function_args(self.name(), args.args)?;
        argument.cast_to(&DataType::Date32, None)
    }
}

/// `hour(x)` and its kin: a part of a time, date, time of day, duration, or text that is a time.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Part {
    name: &'static str,
    part: &'static str,
    signature: Signature,
}

impl Part {
    fn new(name: &'static str, part: &'static str) -> Self {
        // The same as `date_part` takes.
        let time = Coercion::new_implicit(
            TypeSignatureClass::Timestamp,
            vec![text()],
            NativeType::Timestamp(TimeUnit::Nanosecond, None),
        );
        let others = [
            TypeSignatureClass::Native(logical_date()),
            TypeSignatureClass::Time,
            TypeSignatureClass::Interval,
            TypeSignatureClass::Duration,
        ];
        let others = others.map(Coercion::new_exact);
        Self { name, part, signature: one_of(std::iter::once(time).chain(others)) }
    }
}

impl ScalarUDFImpl for Part {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(DataType::Int32)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> EngineResult<FieldRef> {
        let [argument] = take_function_args(self.name, args.arg_fields)?;
        Ok(Arc::new(Field::new(self.name, DataType::Int32, argument.is_nullable())))
    }

    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> EngineResult<ExprSimplifyResult> {
        let [argument] = take_function_args(self.name, args)?;
        Ok(ExprSimplifyResult::Simplified(date_part().call(vec![lit(self.part), argument])))
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let (1, 1) = (args.args.len(), args.arg_fields.len()) else {
            return internal_err!("{} takes one argument", self.name);
        };
        // `date_part` fails for a null that is of no type yet.
        if args.args[0].data_type().is_null() {
            return Ok(ColumnarValue::Scalar(ScalarValue::Int32(None)));
        }
        args.args.insert(0, ColumnarValue::Scalar(ScalarValue::from(self.part)));
        args.arg_fields.insert(0, Arc::new(Field::new("part", DataType::Utf8, false)));
        date_part().invoke_with_args(args)
    }
}

/// `bar(x, min, max, width)`: a bar of blocks as long as `x` is between `min` and `max`, in a text of
/// `width` characters. It is DuckDB's function.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bar {
    signature: Signature,
}

/// The widths of a bar: without one told, and at most.
const BAR_WIDTH: f64 = 80.0;
const BAR_WIDTH_MAX: f64 = 1000.0;

impl Bar {
    fn new() -> Self {
        let takes = |count| TypeSignature::Exact(vec![DataType::Float64; count]);
        Self { signature: Signature::one_of(vec![takes(3), takes(4)], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Bar {
    fn name(&self) -> &str {
        "bar"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let is_scalar =
            args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let mut columns = Vec::with_capacity(4);
        for argument in &args.args {
            columns.push(argument.cast_to(&DataType::Float64, None)?.to_array(rows)?);
        }
        let columns: Vec<&Float64Array> =
            columns.iter().map(|column| column.as_primitive::<Float64Type>()).collect();
        let number =
            |at: usize, row: usize| columns[at].is_valid(row).then(|| columns[at].value(row));
        let mut bars = StringBuilder::new();
        let mut text = String::new();
        for row in 0..rows {
            let width = if columns.len() == 4 { number(3, row) } else { Some(BAR_WIDTH) };
            let (Some(x), Some(min), Some(max), Some(width)) =
                (number(0, row), number(1, row), number(2, row), width)
            else {
                bars.append_null();
                continue;
            };
            if !(1.0..=BAR_WIDTH_MAX).contains(&width) {
                return exec_err!("bar: the width is {width}, not from 1 to {BAR_WIDTH_MAX}");
            }
            text.clear();
            push_bar(x, min, max, width as usize, &mut text);
            bars.append_value(&text);
        }
        let bars: ArrayRef = Arc::new(bars.finish());
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&bars, 0)?),
            false => ColumnarValue::Array(bars),
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Documentation::builder(
                DOC_SECTION_STRING,
                "Draws a bar as long as a number is between two others: empty at the least and \
                 below, full at the most and above.",
                "bar(x, min, max[, width])",
            )
            .with_sql_example(
                "SELECT station, bar(avg(temperature), -10, 40, 20) FROM '/t' GROUP BY station",
            )
            .with_argument("x", "The number")
            .with_argument("min", "Where the bar is empty")
            .with_argument("max", "Where the bar is full")
            .with_argument("width", "How many characters a full bar has, from 1 to 1000; else 80")
            .build()
        });
        Some(&DOCUMENTATION)
    }
}

/// Appends a bar, to an eighth of a character, and blanks up to `width`.
fn push_bar(x: f64, min: f64, max: f64, width: usize, text: &mut String) {
    const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = match x {
        x if x >= max => width * 8,
        x if x <= min => 0,
        // What is no number has no bar.
        x => ((x - min) / (max - min) * (width * 8) as f64) as usize,
    };
    text.extend(std::iter::repeat_n('█', eighths / 8));
    if eighths / 8 < width {
        text.push(PARTS[eighths % 8]);
        text.extend(std::iter::repeat_n(' ', width - eighths / 8 - 1));
    }
}
