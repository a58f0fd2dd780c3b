//! An optimizer rule that makes predicates on time buckets prune.
//!
//! `date_trunc('hour', ts) = '2026-01-05 05:00'` says what `ts >= '2026-01-05 05:00' AND ts <
//! '2026-01-05 06:00'` says, but only the latter can be held against the bounds of files and row
//! groups. [`TimeBuckets`] writes the latter for the former, also for `date_bin`, for dates of times,
//! and for casts between types of time, nested in any way.
//!
//! # Model
//! Such an expression is a chain of functions over a time `x`, each of which never falls as `x`
//! grows. So `f(x) >= c` is `x >= cut(c)` for the least `x` whose `f(x)` reaches `c`, the other
//! comparisons follow (`f(x) = c` is `cut(c) <= x < cut(c + 1)`), and a chain is cut function by
//! function, from the outside in. A literal between two buckets needs no case of its own: the cuts
//! of `=` meet, and no row is left.
//!
//! In time zones with a summer time the functions are not of that kind, nor known without their
//! tables. There a cut is a pair, below which `f(x) < c` and from which `f(x) >= c` for sure; the
//! predicate is kept, and the wider range put beside it.
//!
//! # Invariants
//! - Where a predicate is replaced, the range is true for the very same rows. Rows for which the
//!   engine would fail, because a time leaves what its type can hold on the way, may be answered.
//! - What is put beside a predicate once is not put there again.
//! - A bound that the type of `x` cannot hold leaves the predicate as it is.
//!
//! # Place in the optimizer
//! After the rule that pushes filters down: in a view `SELECT date_trunc('hour', ts) AS hour …`, a
//! filter on `hour` becomes one on a bucket then. But before the one that takes common expressions
//! out of filters, which would hide the buckets of `hour >= … AND hour < …`. What a table's scan was
//! given as a hint by then is rewritten there, too.
//!
//! Only filters are looked at: joins keep those conditions only that cannot be pushed down.
//! `date_part('year', ts)` and BETWEEN are rewritten by the engine itself.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, IntervalDayTime, IntervalMonthDayNano, TimeUnit};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as EngineResult;
use datafusion::functions::datetime::date_bin::DateBinFunc;
use datafusion::functions::datetime::date_trunc::DateTruncFunc;
use datafusion::functions::datetime::to_date::ToDateFunc;
use datafusion::logical_expr::expr::{InList, ScalarFunction};
use datafusion::logical_expr::utils::{conjunction, disjunction, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Cast, Expr, ExprSchemable, Filter, LogicalPlan, Operator,
    TableProviderFilterPushDown, TableSource, lit,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// Most ranges that an IN list is written as; of a longer one, the range of all is put beside it.
const RANGES_MAX: usize = 16;

type Rule = Arc<dyn OptimizerRule + Send + Sync>;

/// Returns `rules`, those of an optimizer, with [`TimeBuckets`] in its place among them.
pub(crate) fn with_time_buckets(mut rules: Vec<Rule>) -> Vec<Rule> {
    if rules.iter().all(|rule| rule.name() != TimeBuckets.name()) {
        let after = rules.iter().rposition(|rule| rule.name() == "push_down_filter");
        let place = after.map_or(rules.len(), |after| after + 1);
        rules.insert(place, Arc::new(TimeBuckets));
    }
    rules
}

/// Writes predicates on time buckets as ranges of time.
#[derive(Debug)]
pub(crate) struct TimeBuckets;

impl OptimizerRule for TimeBuckets {
    fn name(&self) -> &str {
        "time_buckets"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _: &dyn OptimizerConfig,
    ) -> EngineResult<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Filter(mut filter) => {
                let conjuncts = split_conjunction(&filter.predicate);
                let ranges = ranges_of(&conjuncts, filter.input.schema());
                let Some(predicate) = ranges.and_then(conjunction) else {
                    return Ok(Transformed::no(LogicalPlan::Filter(filter)));
                };
                filter = Filter::try_new(predicate, filter.input)?;
                Ok(Transformed::yes(LogicalPlan::Filter(filter)))
            }
            LogicalPlan::TableScan(mut scan) => {
                let filters: Vec<&Expr> = scan.filters.iter().collect();
                match ranges_of(&filters, &scan.projected_schema) {
                    Some(ranges)
                        if are_hints(&*scan.source, &filters)?
                            && are_hints(&*scan.source, &ranges.iter().collect::<Vec<_>>())? =>
                    {
                        scan.filters = ranges;
                        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
                    }
                    _ => Ok(Transformed::no(LogicalPlan::TableScan(scan))),
                }
            }
            plan => Ok(Transformed::no(plan)),
        }
    }
}

/// Whether a table takes filters to prune by, and leaves it to a filter above to apply them.
fn are_hints(table: &dyn TableSource, filters: &[&Expr]) -> EngineResult<bool> {
    let supported = table.supports_filters_pushdown(filters)?;
    Ok(supported.iter().all(|support| *support == TableProviderFilterPushDown::Inexact))
}

/// Returns conjuncts that select the same rows by ranges, if there is anything to change.
fn ranges_of(conjuncts: &[&Expr], schema: &DFSchema) -> Option<Vec<Expr>> {
    let ranges: Vec<_> = conjuncts.iter().map(|conjunct| range_of(conjunct, schema)).collect();
    let mut kept: Vec<Expr> = Vec::with_capacity(conjuncts.len());
    let mut changed = false;
    for (conjunct, range) in conjuncts.iter().zip(&ranges) {
        match range {
            Some(Range { expr, exact: true }) => {
                kept.extend(split_conjunction(expr).into_iter().cloned());
                changed = true;
            }
            _ => kept.push((*conjunct).clone()),
        }
    }
    for range in ranges.into_iter().flatten().filter(|range| !range.exact) {
        for bound in split_conjunction(&range.expr) {
            if !kept.iter().any(|kept| implies(kept, bound)) {
                kept.push(bound.clone());
                changed = true;
            }
        }
    }
    changed.then_some(kept)
}

/// Whether rows that meet `known` meet `bound`, as far as that is told by looking: they are the same,
/// or `known` is a bound of the same expression to the same side and at least as tight.
fn implies(known: &Expr, bound: &Expr) -> bool {
    if known == bound {
        return true;
    }
    match (comparison(known), comparison(bound)) {
        (Some((known, known_op, inner)), Some((expr, op, outer))) if known == expr => {
            match (op, known_op) {
                (Operator::GtEq, Operator::GtEq | Operator::Gt | Operator::Eq) => inner >= outer,
                (Operator::Lt, Operator::Lt) => inner <= outer,
                (Operator::Lt, Operator::LtEq | Operator::Eq) => inner < outer,
                _ => false,
            }
        }
        _ => false,
    }
}

/// Returns the sides of a comparison with a literal on the right.
fn comparison(expr: &Expr) -> Option<(&Expr, Operator, &ScalarValue)> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match &**right {
            Expr::Literal(value, _) => Some((left, *op, value)),
            _ => None,
        },
        _ => None,
    }
}

/// A predicate as ranges of time.
struct Range {
    expr: Expr,
    /// Whether it selects the very same rows, rather than some more.
    exact: bool,
}

/// Returns the ranges of a predicate on time buckets; `None` for any other.
fn range_of(predicate: &Expr, schema: &DFSchema) -> Option<Range> {
    match predicate {
        Expr::BinaryExpr(BinaryExpr { op: op @ (Operator::And | Operator::Or), .. }) => {
            let operands = operands(predicate, *op);
            let ranges: Vec<_> = operands.iter().map(|each| range_of(each, schema)).collect();
            if ranges.iter().all(Option::is_none) {
                return None;
            }
            let exact = ranges.iter().flatten().all(|range| range.exact);
            let each = operands.into_iter().zip(ranges);
            let each = each.map(|(as_is, range)| range.map_or(as_is.clone(), |range| range.expr));
            let expr = match op {
                Operator::And => conjunction(each),
                _ => disjunction(each),
            };
            Some(Range { expr: expr?, exact })
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (bucket, op, value) = match (&**left, &**right) {
                (bucket, Expr::Literal(value, _)) => (bucket, *op, value),
                (Expr::Literal(value, _), bucket) => (bucket, op.swap()?, value),
                _ => return None,
            };
            let chain = Chain::of(bucket, schema)?;
            let span = chain.span(op, chain.place(value)?)?;
            Some(Range { expr: chain.within(&span), exact: span.exact })
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            let chain = Chain::of(expr, schema)?;
            let mut spans = Vec::with_capacity(list.len());
            for value in list {
                match value {
                    // What equals null is no row's.
                    Expr::Literal(value, _) if value.is_null() => {}
                    Expr::Literal(value, _) => {
                        spans.push(chain.span(Operator::Eq, chain.place(value)?)?);
                    }
                    _ => return None,
                }
            }
            let mut spans = unite(spans);
            if spans.len() > RANGES_MAX {
                let (from, to) = (spans.first()?.from, spans.last()?.to);
                spans = vec![Span { from, to, exact: false }];
            }
            let exact = spans.iter().all(|span| span.exact);
            let expr = disjunction(spans.iter().map(|span| chain.within(span)));
            Some(Range { expr: expr.unwrap_or_else(|| lit(false)), exact })
        }
        _ => None,
    }
}

/// Returns what `op` is between. Such chains may be long, and are deep on one side.
fn operands(expr: &Expr, op: Operator) -> Vec<&Expr> {
    let (mut operands, mut waiting) = (Vec::new(), vec![expr]);
    while let Some(expr) = waiting.pop() {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: of, right }) if *of == op => {
                waiting.extend([&**right, &**left]);
            }
            _ => operands.push(expr),
        }
    }
    operands
}

/// The times from one, and before another, in the unit of their type.
#[derive(Clone, Copy)]
struct Span {
    from: Option<i128>,
    to: Option<i128>,
    exact: bool,
}

/// Puts spans that have both ends in order, and those that touch together.
fn unite(mut spans: Vec<Span>) -> Vec<Span> {
    spans.retain(|span| span.from < span.to);
    spans.sort_by_key(|span| span.from);
    let mut united: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match united.last_mut() {
            Some(last) if last.to >= span.from => {
                last.to = last.to.max(span.to);
                last.exact &= span.exact;
            }
            _ => united.push(span),
        }
    }
    united
}

/// What a value of the chain's result is cut at.
#[derive(Clone, Copy)]
struct Cut {
    /// Below this, the result is less than the value.
    below: i128,
    /// From this on, the result is not less than the value.
    from: i128,
}

/// A function of a time, as a number in the unit of its type, that never falls.
#[derive(Debug, Clone, Copy)]
enum Step {
    Multiply(i128),
    /// Towards zero.
    Divide(i128),
    /// Towards the past.
    FloorDivide(i128),
    /// The last of `origin`, `origin ± stride`, … that is not later.
    Floor {
        stride: i128,
        origin: i128,
    },
    /// The begin of the month whose number since 1970 is the last multiple of `months`.
    Month {
        months: i128,
        day: i128,
    },
    /// Adds anything between the two.
    Shift {
        least: i128,
        most: i128,
    },
    /// Nothing is changed, but what is not between the two is made null.
    Limit {
        least: i128,
        most: i128,
    },
}

impl Step {
    /// Returns the least number that is made `value` or more, or what is known of it.
    fn cut(self, value: i128) -> Cut {
        let at = |cut| Cut { below: cut, from: cut };
        match self {
            Self::Multiply(factor) => at(ceil(value, factor)),
            Self::Divide(by) if value > 0 => at(value * by),
            Self::Divide(by) => at((value - 1) * by + 1),
            Self::FloorDivide(by) => at(value * by),
            Self::Floor { stride, origin } => at(origin + ceil(value - origin, stride) * stride),
            Self::Month { months, day } => {
                let number = month_of_day(value.div_euclid(day)).div_euclid(months) * months;
                let [this, next] = [number, number + months].map(|month| first_day(month) * day);
                at(if this == value { this } else { next })
            }
            Self::Shift { least, most } => Cut { below: value - most, from: value - least },
            Self::Limit { .. } => at(value),
        }
    }
}

fn ceil(value: i128, divisor: i128) -> i128 {
    value.div_euclid(divisor) + i128::from(value.rem_euclid(divisor) != 0)
}

/// The days from 0000-03-01 to 1970-01-01. In years that begin in March, the leap day is the last.
const DAYS_BEFORE_1970: i128 = 719_468;
/// The days of 400 years.
const ERA_DAYS: i128 = 146_097;

/// Returns the number of months since January 1970 of a day since 1970-01-01. After
/// <https://howardhinnant.github.io/date_algorithms.html>.
fn month_of_day(day: i128) -> i128 {
    let day = day + DAYS_BEFORE_1970;
    let (era, day) = (day.div_euclid(ERA_DAYS), day.rem_euclid(ERA_DAYS));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // March is 0; January and February are of the next year.
    let month = (5 * day + 2) / 153;
    (era * 400 + year - 1970) * 12 + month + 2
}

/// Returns the first day of a month.
fn first_day(month: i128) -> i128 {
    let month = month - 2 + 1970 * 12;
    let (year, month) = (month.div_euclid(12), month.rem_euclid(12));
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day = (153 * month + 2) / 5 + 365 * year + year / 4 - year / 100;
    era * ERA_DAYS + day - DAYS_BEFORE_1970
}

/// A time, and what is done to it.
struct Chain<'a> {
    time: &'a Expr,
    time_type: DataType,
    /// The last comes first.
    steps: Vec<Step>,
    result_type: DataType,
}

impl<'a> Chain<'a> {
    /// Takes a bucket apart; `None` if `bucket` is none.
    fn of(bucket: &'a Expr, schema: &DFSchema) -> Option<Self> {
        let (mut time, mut steps) = (bucket, Vec::new());
        while let Some((inner, more)) = peel(time, schema) {
            steps.extend(more);
            time = inner;
        }
        if std::ptr::eq(time, bucket) || time.is_volatile() || time.contains_scalar_subquery() {
            return None;
        }
        let time_type = time.get_type(schema).ok()?;
        Some(Self { time, time_type, steps, result_type: bucket.get_type(schema).ok()? })
    }

    /// Returns a value that the result is compared with as a number.
    fn place(&self, value: &ScalarValue) -> Option<i128> {
        let comparable = match (&self.result_type, value.data_type()) {
            (DataType::Timestamp(unit, zone), DataType::Timestamp(other_unit, other_zone)) => {
                *unit == other_unit && zone.is_some() == other_zone.is_some()
            }
            (result, value) => *result == value,
        };
        match value {
            ScalarValue::Date32(Some(value)) if comparable => Some((*value).into()),
            ScalarValue::TimestampSecond(Some(value), _)
            | ScalarValue::TimestampMillisecond(Some(value), _)
            | ScalarValue::TimestampMicrosecond(Some(value), _)
            | ScalarValue::TimestampNanosecond(Some(value), _)
                if comparable =>
            {
                Some((*value).into())
            }
            _ => None,
        }
    }

    /// Returns the times whose result compares to `value` as `op` says. `None` if the time's type
    /// cannot hold a bound.
    fn span(&self, op: Operator, value: i128) -> Option<Span> {
        let (from, to) = match op {
            Operator::Eq => (Some(value), Some(value + 1)),
            Operator::GtEq => (Some(value), None),
            Operator::Gt => (Some(value + 1), None),
            Operator::Lt => (None, Some(value)),
            Operator::LtEq => (None, Some(value + 1)),
            _ => return None,
        };
        let (from, to) =
            (from.map(|from| cut(&self.steps, from)), to.map(|to| cut(&self.steps, to)));
        let cuts = [from, to];
        let mut exact = cuts.iter().flatten().all(|cut| cut.below == cut.from);
        let (mut from, mut to) = (from.map(|cut| cut.below), to.map(|cut| cut.from));
        let (least, most) = self.bounds()?;
        let held = |bound: i128| (least..=most).contains(&bound);
        if !from.into_iter().chain(to).all(held) {
            return None;
        }
        for (place, step) in self.steps.iter().enumerate() {
            if let Step::Limit { least: least_made, most: most_made } = *step {
                let before = &self.steps[place + 1..];
                let (first, end) = (cut(before, least_made), cut(before, most_made + 1));
                exact &= first.below == first.from && end.below == end.from;
                if first.below > least {
                    from = from.max(Some(first.below));
                }
                if end.from <= most {
                    to = Some(to.map_or(end.from, |to| to.min(end.from)));
                }
            }
        }
        Some(Span { from, to, exact })
    }

    /// Returns the least and the greatest value of the time's type.
    fn bounds(&self) -> Option<(i128, i128)> {
        match self.time_type {
            DataType::Timestamp(..) => Some((i64::MIN.into(), i64::MAX.into())),
            DataType::Date32 => Some((i32::MIN.into(), i32::MAX.into())),
            _ => None,
        }
    }

    /// Returns the predicate that the time is within a span, whose ends its type can hold.
    fn within(&self, span: &Span) -> Expr {
        match (span.from, span.to) {
            (Some(from), Some(to)) if from >= to => lit(false),
            (Some(from), Some(to)) if from + 1 == to => self.time.clone().eq(self.literal(from)),
            (Some(from), Some(to)) => {
                let from = self.time.clone().gt_eq(self.literal(from));
                from.and(self.time.clone().lt(self.literal(to)))
            }
            (Some(from), None) => self.time.clone().gt_eq(self.literal(from)),
            (None, Some(to)) => self.time.clone().lt(self.literal(to)),
            (None, None) => lit(true),
        }
    }

    fn literal(&self, value: i128) -> Expr {
        const HELD: &str = "bounds that the type cannot hold were refused";
        let long = || Some(i64::try_from(value).expect(HELD));
        lit(match &self.time_type {
            DataType::Timestamp(TimeUnit::Second, zone) => {
                ScalarValue::TimestampSecond(long(), zone.clone())
            }
            DataType::Timestamp(TimeUnit::Millisecond, zone) => {
                ScalarValue::TimestampMillisecond(long(), zone.clone())
            }
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                ScalarValue::TimestampMicrosecond(long(), zone.clone())
            }
            DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
                ScalarValue::TimestampNanosecond(long(), zone.clone())
            }
            _ => ScalarValue::Date32(Some(i32::try_from(value).expect(HELD))),
        })
    }
}

/// Cuts the steps, of which the last comes first, at a value of their result.
fn cut(steps: &[Step], value: i128) -> Cut {
    steps.iter().fold(Cut { below: value, from: value }, |cut, step| Cut {
        below: step.cut(cut.below).below,
        from: step.cut(cut.from).from,
    })
}

/// Takes the outermost function off, and returns its argument and its steps, the last first.
fn peel<'a>(expr: &'a Expr, schema: &DFSchema) -> Option<(&'a Expr, Vec<Step>)> {
    match expr {
        Expr::Alias(alias) => Some((&alias.expr, Vec::new())),
        Expr::Cast(Cast { expr, field }) => {
            let from = expr.get_type(schema).ok()?;
            Some((expr, cast_steps(&from, field.data_type())?))
        }
        // By type: an application may have a function of its own under the same name.
        Expr::ScalarFunction(ScalarFunction { func, args }) => {
            let function = func.inner();
            if function.downcast_ref::<DateTruncFunc>().is_some() {
                let [Expr::Literal(unit, _), time] = &args[..] else { return None };
                let unit = unit.try_as_str().flatten()?;
                Some((time, trunc_steps(unit, &time.get_type(schema).ok()?)?))
            } else if function.downcast_ref::<DateBinFunc>().is_some() {
                let (stride, time, origin) = match &args[..] {
                    [Expr::Literal(stride, _), time] => (stride, time, 0),
                    [
                        Expr::Literal(stride, _),
                        time,
                        Expr::Literal(ScalarValue::TimestampNanosecond(Some(origin), _), _),
                    ] => (stride, time, *origin),
                    _ => return None,
                };
                Some((time, bin_steps(stride, origin, &time.get_type(schema).ok()?)?))
            } else if function.downcast_ref::<ToDateFunc>().is_some() {
                let [time] = &args[..] else { return None };
                let from = time.get_type(schema).ok()?;
                Some((time, cast_steps(&from, &DataType::Date32)?))
            } else {
                None
            }
        }
        _ => None,
    }
}

/// More than any time zone is away from UTC.
const DAY_SECS: i128 = 24 * 60 * 60;

fn per_second(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Returns the steps from UTC to the time of a zone, and those back.
fn zone_steps(zone: Option<&str>, second: i128) -> (Option<Step>, Option<Step>) {
    let (least, most) = match zone.map(offset_secs) {
        None | Some(Some(0)) => return (None, None),
        Some(Some(offset)) => (offset * second, offset * second),
        Some(None) => (-DAY_SECS * second, DAY_SECS * second),
    };
    let back = Step::Shift { least: -most, most: -least };
    (Some(Step::Shift { least, most }), Some(back))
}

/// Returns how many seconds a zone is ahead of UTC, if it always is: `UTC`, `+05:30`, `-0800`, `+01`.
fn offset_secs(zone: &str) -> Option<i128> {
    if zone == "UTC" {
        return Some(0);
    }
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match (digits.len(), digits.split_at_checked(2)?) {
        (2, (hours, "")) => (hours, "00"),
        (4, (hours, minutes)) => (hours, minutes),
        (5, (hours, minutes)) => (hours, minutes.strip_prefix(':')?),
        _ => return None,
    };
    let [hours, minutes] = [hours.parse::<u8>().ok()?, minutes.parse::<u8>().ok()?];
    Some(sign * (i128::from(hours) * 3600 + i128::from(minutes) * 60))
}

fn cast_steps(from: &DataType, to: &DataType) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    match (from, to) {
        (DataType::Timestamp(from, from_zone), DataType::Timestamp(to, to_zone)) => {
            if let (None, Some(zone)) = (from_zone, to_zone) {
                steps.extend(zone_steps(Some(zone), per_second(*to)).1);
            }
            let (from, to) = (per_second(*from), per_second(*to));
            if from < to {
                steps.push(Step::Multiply(to / from));
            } else if from > to {
                steps.push(Step::Divide(from / to));
            }
        }
        (DataType::Timestamp(unit, zone), DataType::Date32) => {
            let second = per_second(*unit);
            steps.push(Step::FloorDivide(DAY_SECS * second));
            steps.extend(zone_steps(zone.as_deref(), second).0);
        }
        (DataType::Date32, DataType::Timestamp(unit, zone)) => {
            let second = per_second(*unit);
            steps.extend(zone_steps(zone.as_deref(), second).1);
            steps.push(Step::Multiply(DAY_SECS * second));
        }
        (DataType::Date32, DataType::Date32) => {}
        _ => return None,
    }
    Some(steps)
}

fn trunc_steps(unit: &str, time: &DataType) -> Option<Vec<Step>> {
    let DataType::Timestamp(time_unit, zone) = time else { return None };
    let second = per_second(*time_unit);
    let day = DAY_SECS * second;
    let floor = |stride| Step::Floor { stride, origin: 0 };
    let floor = match unit.to_lowercase().as_str() {
        // What is finer than the type's unit changes nothing, and zones are whole minutes away.
        "microsecond" => return Some(vec![floor((second / 1_000_000).max(1))]),
        "millisecond" => return Some(vec![floor((second / 1_000).max(1))]),
        "second" => return Some(vec![floor(second)]),
        "minute" => return Some(vec![floor(60 * second)]),
        "hour" => floor(3_600 * second),
        "day" => floor(day),
        // 1970 began on a Thursday, weeks begin on Mondays.
        "week" => Step::Floor { stride: 7 * day, origin: 4 * day },
        "month" => Step::Month { months: 1, day },
        "quarter" => Step::Month { months: 3, day },
        "year" => Step::Month { months: 12, day },
        _ => return None,
    };
    let (to_zone, back) = zone_steps(zone.as_deref(), second);
    Some(back.into_iter().chain([floor]).chain(to_zone).collect())
}

fn bin_steps(stride: &ScalarValue, origin: i64, time: &DataType) -> Option<Vec<Step>> {
    const DAY_NANOS: i128 = DAY_SECS * 1_000_000_000;
    let DataType::Timestamp(unit, _) = time else { return None };
    let stride = match stride {
        ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano {
            months: 0,
            days,
            nanoseconds,
        })) => i128::from(*days) * DAY_NANOS + i128::from(*nanoseconds),
        ScalarValue::IntervalDayTime(Some(IntervalDayTime { days, milliseconds })) => {
            i128::from(*days) * DAY_NANOS + i128::from(*milliseconds) * 1_000_000
        }
        _ => return None,
    };
    if stride <= 0 || stride > i64::MAX.into() {
        return None;
    }
    // The engine counts in nanoseconds, and makes null what it cannot count so.
    let (min, max, origin) = (i128::from(i64::MIN), i128::from(i64::MAX), i128::from(origin));
    let first = |least: i128| origin + ceil(least, stride) * stride;
    let least = min.max(origin + min).max(first(min)).max(first(min - origin));
    let limit = Step::Limit { least, most: max.min(origin + max) };
    let floor = Step::Floor { stride, origin };
    Some(match per_second(TimeUnit::Nanosecond) / per_second(*unit) {
        1 => vec![floor, limit],
        scale => vec![Step::Divide(scale), floor, limit, Step::Multiply(scale)],
    })
}
