//! Functions of time under the names that most people know them by: `date(x)`, `year(x)`, `hour(x)`
//! and their kin.
//!
//! Each is another way to write what the engine has, and the optimizer puts that in its place:
//! `CAST(x AS DATE)`, `date_part('hour', x)`. So they mean the same, and all that the engine knows
//! of those, and [`super::time_buckets`] of the former, holds for them.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::types::{NativeType, logical_date, logical_string};
use datafusion::common::utils::take_function_args;
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::Result as EngineResult;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::functions::datetime::date_part;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    Coercion, ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, TypeSignature, TypeSignatureClass, Volatility, cast, lit,
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
    for function in std::iter::once(date).chain(parts) {
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
