//! Predicates on time buckets: rewritten as ranges, they select the same rows, whatever the bucket,
//! the type of the time, its zone and the value compared with. What they read is counted in
//! [`crate::series`], what plans they make is in `tests/slt/buckets.slt`.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, Date32Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray,
};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ScalarUDF, Volatility, create_udf};
use datafusion::prelude::{SessionConfig, SessionContext};
use pond::pond::Pond;
use pond::tree::Tree;
use pond::{PondContext, register};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

const UNITS: [TimeUnit; 4] =
    [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];

/// No zone, fixed ones, and ones whose offset changes: by an hour, by half of one, at midnight, by a
/// whole day.
const ZONES: [Option<&str>; 9] = [
    None,
    Some("UTC"),
    Some("+05:30"),
    Some("-0800"),
    Some("Europe/Berlin"),
    Some("Australia/Lord_Howe"),
    Some("America/Sao_Paulo"),
    Some("Pacific/Apia"),
    Some("Asia/Manila"),
];

/// When something happens, in seconds: ends of hours, days, weeks, months, quarters and years,
/// before 1970 and after, and changes of the zones' offsets.
const EVENTS: [i64; 24] = [
    0,
    -1,
    -86_400,
    -259_200,
    345_600,
    -2_208_988_800, // 1900-01-01
    -5_364_662_400, // 1800-01-01
    -3_944_620_800, // 1845-01-01 in Manila, after a day that it never had
    951_782_400,    // 2000-02-29
    951_868_800,    // 2000-03-01
    1_767_225_600,  // 2026-01-01
    1_767_589_200,  // 2026-01-05 05:00
    1_775_001_600,  // 2026-04-01
    1_774_746_000,  // Berlin, spring of 2026
    1_792_890_000,  // Berlin, autumn of 2026
    1_775_314_800,  // Lord Howe
    1_759_591_800,  // Lord Howe
    1_540_695_600,  // Sao Paulo: midnight does not exist
    1_541_300_400,  // Sao Paulo: midnight does not exist
    1_550_368_800,  // Sao Paulo: an hour twice
    1_325_239_200,  // Apia: the day that was left out
    1_325_152_800,
    7_258_118_400, // 2200-01-01
    -6_847_804_800,
];

fn zone_array(times: Vec<Option<i64>>, unit: TimeUnit, zone: Option<&str>) -> ArrayRef {
    let zone = zone.map(str::to_owned);
    match unit {
        TimeUnit::Second => Arc::new(TimestampSecondArray::from(times).with_timezone_opt(zone)),
        TimeUnit::Millisecond => {
            Arc::new(TimestampMillisecondArray::from(times).with_timezone_opt(zone))
        }
        TimeUnit::Microsecond => {
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone_opt(zone))
        }
        TimeUnit::Nanosecond => {
            Arc::new(TimestampNanosecondArray::from(times).with_timezone_opt(zone))
        }
    }
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Times at the events and around them, and a null.
fn edge_times(unit: TimeUnit) -> Vec<Option<i64>> {
    let around = [0, 1, 59, 1800, 3599, 3600, 5400, 7200, 40_000, 86_400, 100_000, 950_400];
    let mut times = vec![None];
    for event in EVENTS {
        for around in around.iter().flat_map(|secs| [-secs, *secs]) {
            let time = (event + around) * per_second(unit);
            times.extend([time - 1, time, time + per_second(unit) / 3 + 1].map(Some));
        }
    }
    times
}

/// Times at which the clocks of all zones behave: noons and evenings, and a null.
fn calm_times(unit: TimeUnit) -> Vec<Option<i64>> {
    let mut times = vec![None];
    for day in (-20_000..60_000).step_by(733) {
        for second in [43_200, 43_201, 46_799, 64_800, 64_815] {
            let time = (day * 86_400 + second) * per_second(unit);
            times.extend([time, time + per_second(unit) / 7].map(Some));
        }
    }
    times
}

/// Times at the ends of what can be counted, and a null.
fn far_times(unit: TimeUnit) -> Vec<Option<i64>> {
    let nanos = 1_000_000_000 / per_second(unit);
    let ends = [i64::MIN, i64::MAX, i64::MIN / nanos, i64::MAX / nanos, 0];
    let hour = 3600 * per_second(unit);
    let near = ends.iter().flat_map(|end| {
        let near = [0, 1, hour / 3, hour, 3 * hour, 200 * hour];
        near.iter().flat_map(|by| [end.checked_sub(*by), end.checked_add(*by)]).collect::<Vec<_>>()
    });
    std::iter::once(None).chain(near.flatten().map(Some)).collect()
}

/// The type of a time: a timestamp, or a date.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Type {
    Time(TimeUnit, Option<&'static str>),
    Date,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(unit, None) => write!(f, "Timestamp({unit:?}, None)"),
            Self::Time(unit, Some(zone)) => write!(f, "Timestamp({unit:?}, Some(\"{zone}\"))"),
            Self::Date => f.write_str("Date32"),
        }
    }
}

impl Type {
    fn literal(self, value: i64) -> String {
        match self {
            Self::Date => format!("arrow_cast(arrow_cast({value}, 'Int32'), 'Date32')"),
            time => format!("arrow_cast({value}, '{time}')"),
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Trunc(&'static str),
    Bin(&'static str, Option<&'static str>),
    Date,
    ToDate,
    Cast(TimeUnit, Option<&'static str>),
}

impl Step {
    /// Returns the SQL of this done to `time`, and its type; `None` if it cannot be.
    fn apply(&self, time: &str, of: Type) -> Option<(String, Type)> {
        Some(match (self, of) {
            (Self::Trunc(unit), Type::Time(..)) => (format!("date_trunc('{unit}', {time})"), of),
            (Self::Bin(stride, None), Type::Time(..)) => {
                (format!("date_bin(interval '{stride}', {time})"), of)
            }
            (Self::Bin(stride, Some(origin)), Type::Time(_, zone)) => {
                let origin = match zone {
                    None => format!("timestamp '{origin}'"),
                    Some(zone) => {
                        format!(
                            "arrow_cast(timestamp '{origin}', 'Timestamp(Nanosecond, Some(\"{zone}\"))')"
                        )
                    }
                };
                (format!("date_bin(interval '{stride}', {time}, {origin})"), of)
            }
            (Self::Date, _) => (format!("CAST({time} AS DATE)"), Type::Date),
            (Self::ToDate, _) => (format!("to_date({time})"), Type::Date),
            (Self::Cast(unit, zone), _) => {
                let to = Type::Time(*unit, *zone);
                (format!("arrow_cast({time}, '{to}')"), to)
            }
            _ => return None,
        })
    }
}

/// One question.
#[derive(Debug, Clone)]
struct Case {
    column: Type,
    steps: Vec<Step>,
    operator: &'static str,
    flipped: bool,
    /// Rows, whose bucket is the value compared with, and how far from it.
    values: Vec<(usize, i64)>,
    within: &'static str,
}

fn bin() -> impl Strategy<Value = Step> {
    let stride = prop::sample::select(vec![
        "15 minutes",
        "1 hour",
        "7 hours",
        "1 day",
        "3 days",
        "1 week",
        "777 milliseconds",
        "1 nanosecond",
        "1500 nanoseconds",
        "1 month",
        "-1 hour",
    ]);
    let origin = prop::sample::select(vec![
        None,
        Some("2026-01-01 00:07:00"),
        Some("1969-12-31 23:59:59.123456789"),
        Some("2200-02-03 04:05:06"),
    ]);
    (stride, origin).prop_map(|(stride, origin)| Step::Bin(stride, origin))
}

fn step() -> impl Strategy<Value = Step> {
    let trunc = prop::sample::select(vec![
        "microsecond",
        "millisecond",
        "second",
        "minute",
        "hour",
        "Hour",
        "day",
        "week",
        "month",
        "quarter",
        "year",
    ]);
    prop_oneof![
        5 => trunc.prop_map(Step::Trunc),
        3 => bin(),
        1 => Just(Step::Date),
        1 => Just(Step::ToDate),
        1 => (prop::sample::select(&UNITS[..]), prop::sample::select(&ZONES[..]))
            .prop_map(|(unit, zone)| Step::Cast(unit, zone)),
    ]
}

fn case(step: impl Strategy<Value = Step>) -> impl Strategy<Value = Case> {
    let column = prop_oneof![
        9 => (prop::sample::select(&UNITS[..]), prop::sample::select(&ZONES[..]))
            .prop_map(|(unit, zone)| Type::Time(unit, zone)),
        1 => Just(Type::Date),
    ];
    let operators = vec!["=", "<", "<=", ">", ">=", "BETWEEN", "IN"];
    let by = prop_oneof![4 => Just(0), 1 => Just(1), 1 => Just(-1), 1 => -4_000_000i64..4_000_000];
    let within = vec![
        "{}",
        "{} AND id % 3 > 0",
        "({} AND id % 3 > 0) OR id = 4",
        "NOT ({})",
        "coalesce({}, false)",
        "({}) OR time IS NULL",
    ];
    (
        column,
        prop::collection::vec(step, 1..4),
        prop::sample::select(operators),
        any::<bool>(),
        prop::collection::vec((any::<prop::sample::Index>(), by), 20),
        1..20usize,
        prop::sample::select(within),
    )
        .prop_map(|(column, steps, operator, flipped, values, many, within)| {
            let many = match operator {
                "BETWEEN" => 2,
                "IN" => many,
                _ => 1,
            };
            let values = values.into_iter().take(many);
            let values = values.map(|(row, by)| (row.index(100_000), by)).collect();
            Case { column, steps, operator, flipped, values, within }
        })
}

/// The name of the table with a column of a type.
fn table(kind: &str, column: Type) -> String {
    match column {
        Type::Date => format!("{kind}_date"),
        Type::Time(unit, zone) => {
            let unit = UNITS.iter().position(|known| *known == unit).unwrap();
            format!("{kind}_{unit}_{}", ZONES.iter().position(|known| *known == zone).unwrap())
        }
    }
}

/// A session that has the rule, and one that has not.
struct Sessions {
    ours: SessionContext,
    plain: SessionContext,
}

impl Sessions {
    async fn new() -> Self {
        let session =
            || SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        let sessions = Self { ours: session(), plain: session() };
        register(&sessions.ours, transient().await).await.unwrap();
        for unit in UNITS {
            for zone in ZONES {
                let column = Type::Time(unit, zone);
                for (kind, times) in [
                    ("edge", edge_times(unit)),
                    ("calm", calm_times(unit)),
                    ("far", far_times(unit)),
                ] {
                    sessions.add(&table(kind, column), zone_array(times, unit, zone));
                }
            }
        }
        let days = (-60_000..60_000).step_by(97).map(Some).chain([None]);
        let days: ArrayRef = Arc::new(days.collect::<Date32Array>());
        for kind in ["edge", "calm", "far"] {
            sessions.add(&table(kind, Type::Date), days.clone());
        }
        sessions
    }

    fn add(&self, name: &str, times: ArrayRef) {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..times.len() as i64));
        let batch =
            RecordBatch::try_from_iter_with_nullable([("id", ids, false), ("time", times, true)]);
        let batch = batch.unwrap();
        for session in [&self.ours, &self.plain] {
            let table = MemTable::try_new(batch.schema(), vec![vec![batch.clone()]]).unwrap();
            session.register_table(name, Arc::new(table)).unwrap();
        }
    }

    /// Asks both; whether the rule did something, or `None` if the engine fails.
    async fn check(&self, case: &Case, kind: &str) -> Option<bool> {
        let (mut bucket, mut result) = ("time".to_owned(), case.column);
        for step in &case.steps {
            if let Some(next) = step.apply(&bucket, result) {
                (bucket, result) = next;
            }
        }
        let table = table(kind, case.column);
        let buckets = format!("SELECT arrow_cast({bucket}, 'Int64') FROM {table} ORDER BY id");
        let buckets = numbers(&self.plain, &buckets).await.ok()?;
        let mut values = Vec::new();
        for (row, by) in &case.values {
            let value = buckets[row % buckets.len()].unwrap_or_default().saturating_add(*by);
            values.push(result.literal(match result {
                Type::Date => value.clamp(i32::MIN.into(), i32::MAX.into()),
                _ => value,
            }));
        }
        let predicate = match case.operator {
            "BETWEEN" => format!("{bucket} BETWEEN {} AND {}", values[0], values[1]),
            "IN" => format!("{bucket} IN ({})", values.join(", ")),
            operator if case.flipped => format!("{} {operator} {bucket}", values[0]),
            operator => format!("{bucket} {operator} {}", values[0]),
        };
        let predicate = case.within.replace("{}", &predicate);
        let query = format!("SELECT id FROM {table} WHERE {predicate} ORDER BY id");
        let plain = numbers(&self.plain, &query).await.ok()?;
        let ours = numbers(&self.ours, &query).await;
        let ours = ours.unwrap_or_else(|error| panic!("{query}: {error}"));
        assert_eq!(ours, plain, "{query}\n{}", plan(&self.ours, &query).await);
        Some(plan(&self.ours, &query).await != plan(&self.plain, &query).await)
    }
}

async fn numbers(
    session: &SessionContext,
    query: &str,
) -> Result<Vec<Option<i64>>, DataFusionError> {
    let mut numbers = Vec::new();
    for batch in session.sql(query).await?.collect().await? {
        let column = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
        numbers.extend(column.iter());
    }
    Ok(numbers)
}

async fn plan(session: &SessionContext, query: &str) -> String {
    let plan = session.sql(query).await.unwrap().into_optimized_plan().unwrap();
    plan.display_indent().to_string()
}

/// Asks the same with the rule and without it.
fn check(cases: u32, case: impl Strategy<Value = Case>, kinds: &[&str]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sessions = runtime.block_on(Sessions::new());
    let counts = Cell::new((0, 0));
    let config = ProptestConfig { cases, failure_persistence: None, ..Default::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let checked = TestRunner::new_with_rng(config, rng).run(&case, |case| {
        for kind in kinds {
            if let Some(did) = runtime.block_on(sessions.check(&case, kind)) {
                let (asked, rewritten) = counts.get();
                counts.set((asked + 1, rewritten + u32::from(did)));
            }
        }
        Ok(())
    });
    checked.unwrap();
    let (asked, rewritten) = counts.get();
    assert!(asked > cases / 2 && rewritten > asked / 2, "{rewritten} of {asked} were rewritten");
}

#[test]
fn a_range_selects_what_its_bucket_does() {
    check(400, case(step()), &["edge", "calm"]);
}

/// Only `date_bin` has an answer at the ends of time, which is null.
#[test]
fn a_range_selects_what_its_bucket_does_at_the_ends_of_time() {
    check(400, case(bin()), &["edge", "far"]);
}

async fn transient() -> Tree {
    Tree::new(Pond::transient().await.unwrap())
}

fn rule_names(session: &SessionContext) -> Vec<String> {
    session.state().optimizers().iter().map(|rule| rule.name().to_owned()).collect()
}

/// An application's function of one argument, which returns it.
fn own(name: &str, argument: DataType) -> ScalarUDF {
    let returned = argument.clone();
    create_udf(
        name,
        vec![argument],
        returned,
        Volatility::Immutable,
        Arc::new(|args| Ok(args[0].clone())),
    )
}

#[tokio::test]
async fn a_session_keeps_what_it_has() {
    let session = SessionContext::new();
    session.register_udf(own("hour", DataType::Int64));
    session.remove_optimizer_rule("eliminate_cross_join");
    let before = rule_names(&session);
    register(&session, transient().await).await.unwrap();
    register(&session, transient().await).await.unwrap();
    let after = rule_names(&session);
    let place = after.iter().position(|name| name == "time_buckets").unwrap();
    assert_eq!(after[place - 1], "push_down_filter");
    let others: Vec<_> = after.iter().filter(|name| *name != "time_buckets").cloned().collect();
    assert_eq!(others, before);
    let query = "SELECT hour(77) + CAST(minute('2026-01-05T03:04:05') AS BIGINT)";
    assert_eq!(numbers(&session, query).await.unwrap(), [Some(81)]);
}

#[tokio::test]
async fn a_function_of_the_same_name_is_no_bucket() {
    let session = SessionContext::new();
    register(&session, transient().await).await.unwrap();
    let time = DataType::Timestamp(TimeUnit::Second, None);
    let times = zone_array(edge_times(TimeUnit::Second), TimeUnit::Second, None);
    session.register_batch("t", RecordBatch::try_from_iter([("time", times)]).unwrap()).unwrap();
    let query = "SELECT time FROM t WHERE to_date(time) = date '2026-01-05'";
    assert!(!plan(&session, query).await.contains("Date32"));
    session.register_udf(own("to_date", time));
    let query = "SELECT time FROM t WHERE to_date(time) = timestamp '2026-01-05'";
    assert!(plan(&session, query).await.contains("to_date"));
}

#[tokio::test]
async fn the_functions_are_known_by_name() {
    let names = PondContext::new(transient().await).function_names();
    for name in ["date", "year", "dow", "dayofweek", "second"] {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
}
