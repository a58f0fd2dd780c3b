//! Where the marks of an axis are, and what they say.

use datafusion::arrow::datatypes::DataType;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Unit, Zoned};

use super::super::cell::is_number;

/// What the numbers of an axis are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Number,
    /// Seconds since 1970.
    Time,
    /// Seconds since midnight.
    TimeOfDay,
}

/// Steps of time below a month, in seconds.
const STEPS: [f64; 23] = [
    1.0,
    2.0,
    5.0,
    10.0,
    15.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    900.0,
    1800.0,
    3600.0,
    7200.0,
    10_800.0,
    21_600.0,
    43_200.0,
    DAY,
    2.0 * DAY,
    3.0 * DAY,
    5.0 * DAY,
    7.0 * DAY,
    14.0 * DAY,
];

const DAY: f64 = 86_400.0;

impl Kind {
    /// Returns the kind of a column that can be an axis.
    pub(super) fn of(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64 => Some(Self::Time),
            DataType::Time32(_) | DataType::Time64(_) => Some(Self::TimeOfDay),
            data_type => is_number(data_type).then_some(Self::Number),
        }
    }

    /// Returns at most `count_max` round values between `low` and `high`, and their labels.
    pub(super) fn marks(self, low: f64, high: f64, count_max: usize) -> Vec<(f64, String)> {
        let count_max = count_max.max(2);
        let wanted = (high - low) / count_max as f64;
        if self == Self::Number || wanted < 0.5 {
            let step = round_step(wanted);
            let digits = usize::try_from(-step.log10().floor() as i64).unwrap_or(0);
            return multiples(low, high, step)
                .map(|value| (value, self.label(value, step, digits)))
                .collect();
        }
        if let Some(&step) = STEPS.iter().find(|step| (high - low) / **step < count_max as f64) {
            return multiples(low, high, step)
                .map(|value| (value, self.label(value, step, 0)))
                .collect();
        }
        // Beyond, months differ in length.
        self.months(low, high, count_max)
    }

    fn months(self, low: f64, high: f64, count_max: usize) -> Vec<(f64, String)> {
        let months = (high - low) / (30.0 * DAY);
        let steps = [1, 3, 6].into_iter().chain(
            (0..5).flat_map(|power| [12, 24, 60].map(|months: i32| months * 10_i32.pow(power))),
        );
        let step = steps.into_iter().find(|step| months / f64::from(*step) < count_max as f64);
        let (Some(begin), Some(step)) = (day_of(low), step) else {
            // Years that the calendar does not know.
            return Vec::new();
        };
        let first = i32::from(begin.year()) * 12 + i32::from(begin.month()) - 1;
        let first = first - first.rem_euclid(step);
        (0..=count_max as i32 + 2)
            .filter_map(|number| {
                let month = first + number * step;
                let year = i16::try_from(month.div_euclid(12)).ok()?;
                let day = Date::new(year, (month.rem_euclid(12) + 1) as i8, 1).ok()?;
                let seconds = (day - date(1970, 1, 1)).get_days();
                let label = match step {
                    step if step < 12 => day.strftime("%Y-%m").to_string(),
                    _ => day.strftime("%Y").to_string(),
                };
                Some((f64::from(seconds) * DAY, label))
            })
            .filter(|(value, _)| (low..=high).contains(value))
            .collect()
    }

    /// Returns the text of a value among others that are `step` apart.
    fn label(self, value: f64, step: f64, digits: usize) -> String {
        if self == Self::Number {
            let is_plain = digits <= 6 && (value == 0.0 || (1e-4..1e15).contains(&value.abs()));
            return match is_plain {
                // No `-0`.
                true => format!("{:.digits$}", value + 0.0),
                false => exponent(value),
            };
        }
        let Some(time) = time_of(value) else { return exponent(value) };
        let text = match step {
            step if step < 1.0 => time.strftime("%H:%M:%S%.6f").to_string(),
            step if step < 60.0 => time.strftime("%H:%M:%S").to_string(),
            step if step < DAY => time.strftime("%H:%M").to_string(),
            _ => time.strftime("%Y-%m-%d").to_string(),
        };
        let is_midnight = self == Self::Time && (1.0..DAY).contains(&step) && value % DAY == 0.0;
        match is_midnight {
            // A new day says so.
            true => time.strftime("%m-%d").to_string(),
            false if step < 1.0 => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text,
        }
    }

    /// Returns the text of a value on its own.
    pub(super) fn value(self, value: f64) -> String {
        let second = |text: String| text.trim_end_matches('0').trim_end_matches('.').to_owned();
        match (self, time_of(value)) {
            (Self::Time, Some(time)) if value % DAY == 0.0 => time.strftime("%Y-%m-%d").to_string(),
            (Self::Time, Some(time)) => second(time.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string()),
            (Self::TimeOfDay, Some(time)) => second(time.strftime("%H:%M:%S%.6f").to_string()),
            _ if value.abs() < 1e15 => format!("{}", (value * 1e6).round() / 1e6),
            _ => exponent(value),
        }
    }
}

/// Returns the time that is so many seconds after 1970, if there is one.
fn time_of(seconds: f64) -> Option<Zoned> {
    let duration = SignedDuration::try_from_secs_f64(seconds).ok()?;
    let time = Timestamp::from_duration(duration).ok()?;
    // Seconds as a floating-point number are good for microseconds at most.
    time.round(Unit::Microsecond).ok().map(|time| time.to_zoned(TimeZone::UTC))
}

/// Returns a number as `1.5e20`, to seven digits.
fn exponent(value: f64) -> String {
    let text = format!("{value:.6e}");
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    match digits.trim_end_matches('0').trim_end_matches('.') {
        "0" | "-0" => "0".to_owned(),
        digits => format!("{digits}e{power}"),
    }
}

/// Returns a range with room in it, of round numbers: not narrower than what it is of.
pub(super) fn rounded(low: f64, high: f64, count_max: usize) -> (f64, f64) {
    let (low, high) = widened(low, high);
    let step = round_step((high - low) / count_max as f64);
    ((low / step).floor() * step, (high / step).ceil() * step)
}

/// Returns a range that is wider than nothing.
pub(super) fn widened(low: f64, high: f64) -> (f64, f64) {
    if high > low {
        return (low, high);
    }
    let reach = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
    (low - reach, high + reach)
}

/// Returns 1, 2 or 5 times a power of ten that is not below `wanted`.
fn round_step(wanted: f64) -> f64 {
    let power = 10_f64.powf(wanted.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().find(|step| step * power >= wanted * 0.999_999);
    step.unwrap_or(10.0) * power
}

fn multiples(low: f64, high: f64, step: f64) -> impl Iterator<Item = f64> {
    let slack = step * 1e-6;
    let first = ((low - slack) / step).ceil();
    let last = ((high + slack) / step).floor();
    let count = (last - first).clamp(-1.0, 1000.0) as i64;
    (0..=count).map(move |number| (first + number as f64) * step)
}

fn day_of(seconds: f64) -> Option<Date> {
    date(1970, 1, 1).checked_add(((seconds / DAY).floor() as i64).days()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(kind: Kind, low: f64, high: f64, count_max: usize) -> String {
        let marks = kind.marks(low, high, count_max);
        assert!(marks.iter().all(|(at, _)| (low - 1e-6..=high + 1e-6).contains(at)));
        marks.into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn marks_are_round() {
        let number = |low, high| labels(Kind::Number, low, high, 6);
        assert_eq!(number(0.0, 10.0), "0 2 4 6 8 10");
        assert_eq!(number(-0.31, 0.32), "-0.2 0.0 0.2");
        assert_eq!(
            number(1e9, 1e9 + 5.0),
            "1000000000 1000000001 1000000002 1000000003 1000000004 1000000005"
        );
        assert_eq!(number(0.0, 3e20), "0 5e19 1e20 1.5e20 2e20 2.5e20 3e20");
        assert_eq!(number(0.0, 4e-7), "0 1e-7 2e-7 3e-7 4e-7");
        let time = |from: &str, to: &str| {
            let seconds = |text: &str| text.parse::<Timestamp>().unwrap().as_second() as f64;
            labels(Kind::Time, seconds(from), seconds(to), 6)
        };
        assert_eq!(
            time("2025-01-01T00:00:00Z", "2025-01-01T00:00:04Z"),
            "01-01 00:00:01 00:00:02 00:00:03 00:00:04"
        );
        assert_eq!(time("2025-01-01T22:10:00Z", "2025-01-02T02:00:00Z"), "23:00 01-02 01:00 02:00");
        assert_eq!(
            time("2025-01-01T22:10:00Z", "2025-01-05T02:00:00Z"),
            "2025-01-02 2025-01-03 2025-01-04 2025-01-05"
        );
        assert_eq!(
            time("2025-01-20T00:00:00Z", "2025-05-05T00:00:00Z"),
            "2025-02 2025-03 2025-04 2025-05"
        );
        assert_eq!(
            time("1999-06-01T00:00:00Z", "2025-05-05T00:00:00Z"),
            "2000 2005 2010 2015 2020 2025"
        );
        assert_eq!(labels(Kind::TimeOfDay, 0.0, 86_399.0, 6), "00:00 06:00 12:00 18:00");
        assert_eq!(labels(Kind::TimeOfDay, 0.0, 1.0, 4), "00:00:00 00:00:00.5 00:00:01");
    }

    #[test]
    fn values_are_whole() {
        assert_eq!(Kind::Time.value(1_735_689_600.0), "2025-01-01");
        assert_eq!(Kind::Time.value(1_735_689_661.25), "2025-01-01 00:01:01.25");
        assert_eq!(Kind::TimeOfDay.value(3661.0), "01:01:01");
        assert_eq!(Kind::Number.value(0.1 + 0.2), "0.3");
        assert_eq!(Kind::Number.value(1e300), "1e300");
    }
}
