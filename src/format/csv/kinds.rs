//! The kinds of values that texts hold, and the types that hold them.
//!
//! A column's type is told from the union of the kinds of its values ([`Kinds`], kept as
//! [`CsvColumn::seen`](super::CsvColumn::seen)): [`decide`]. A later value of another kind adds its
//! kind, and the type is decided again; it can only become more general. A reader of values of a
//! detected type takes exactly the kinds that [`accepted`] names, so that no reading depends on
//! which values were in a sample.
//!
//! Blanks and tabs around a value are skipped, other than in text. By what is left it is:
//!
//! | kind | what it is |
//! |---|---|
//! | null | nothing; or, without quotes, one of the dialect's null texts, with or without the blanks |
//! | boolean | `true` or `false`, in any case |
//! | integer | an optional sign (`+` too) and digits, without a leading zero, of at most 2^53 |
//! | big | the same beyond 2^53, within `i64` |
//! | unfit | a number that none of our types holds as it is written: with a leading zero (`007`, `01.5`), an integer beyond `i64`, a decimal out of the range below |
//! | decimal | an optional sign, digits with one `.` or an exponent (`e` or `E`, optional sign, digits) or both; `.5` and `5.` are decimals. The first digit that is not 0 stands for 1e-307 to 1e307 |
//! | like | a text, but one like a value: a sign, a digit, and then digits, blanks and `.,:/` only, as in `1,5`, `10:00`, `31.12.2024`. It tells data from headers |
//! | special | `nan`, `inf`, `infinity`, in any case, with an optional sign |
//! | date | `YYYY-MM-DD`, a day that there is, years 0000 to 9999 |
//! | timestamp | a date, `T` or one blank, `HH:MM`, then perhaps `:SS`, then perhaps `.` or `,` and 1 to 6 digits; hours to 23, minutes and seconds to 59 |
//! | nanos | the same with 7 to 9 digits |
//! | zoned, zoned nanos | the same and a zone, perhaps after one blank: `Z`, `z`, `±HH:MM`, `±HHMM`, `±HH`, to ±23:59 |
//! | far | (with the kinds above) of a year before 1678 or after 2261, which nanoseconds do not reach; a value with nanoseconds is a text then |
//! | formatted | (with the kinds above) by the dialect's format: what it holds of date, time and zone says which. A format goes before ISO 8601, but a number is one by a format in a column of times only ([`Classifier::classify_time`]) |
//! | text | anything else |
//!
//! Quotes do not make a number a text. What is nothing but quotes or blanks is null, other than in
//! a column of text.

use std::ops::{BitOr, BitOrAssign};

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use jiff::Timestamp;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::{Offset, TimeZone};

use super::{Dialect, TimestampFormat};
use crate::error::{Error, Result};

/// A set of kinds of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Kinds(u16);

impl Kinds {
    pub(super) const NONE: Self = Self(0);
    pub(super) const NULL: Self = Self(1);
    pub(super) const BOOLEAN: Self = Self(1 << 1);
    pub(super) const INTEGER: Self = Self(1 << 2);
    pub(super) const BIG: Self = Self(1 << 3);
    pub(super) const UNFIT: Self = Self(1 << 4);
    pub(super) const DECIMAL: Self = Self(1 << 5);
    pub(super) const SPECIAL: Self = Self(1 << 6);
    pub(super) const DATE: Self = Self(1 << 7);
    pub(super) const TIMESTAMP: Self = Self(1 << 8);
    pub(super) const NANOS: Self = Self(1 << 9);
    pub(super) const ZONED: Self = Self(1 << 10);
    pub(super) const ZONED_NANOS: Self = Self(1 << 11);
    pub(super) const FAR: Self = Self(1 << 12);
    pub(super) const FORMATTED: Self = Self(1 << 13);
    pub(super) const TEXT: Self = Self(1 << 14);
    pub(super) const LIKE: Self = Self(1 << 15);

    /// Numbers of every kind.
    pub(super) const NUMBERS: Self =
        Self(Self::INTEGER.0 | Self::BIG.0 | Self::UNFIT.0 | Self::DECIMAL.0 | Self::SPECIAL.0);
    /// Dates and times of every kind.
    pub(super) const TIMES: Self = Self(
        Self::DATE.0
            | Self::TIMESTAMP.0
            | Self::NANOS.0
            | Self::ZONED.0
            | Self::ZONED_NANOS.0
            | Self::FAR.0
            | Self::FORMATTED.0,
    );

    /// Returns the set as [`CsvColumn::seen`](super::CsvColumn::seen) keeps it.
    pub(super) const fn bits(self) -> u16 {
        self.0
    }

    /// Returns the set that [`Kinds::bits`] gave.
    pub(super) const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Whether a kind is in both sets.
    pub(super) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether all of these kinds are among `others`.
    pub(super) const fn is_within(self, others: Self) -> bool {
        self.0 & !others.0 == 0
    }

    const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for Kinds {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl BitOrAssign for Kinds {
    fn bitor_assign(&mut self, other: Self) {
        *self = self.with(other);
    }
}

/// Returns the type that holds values of all these kinds as they are.
///
/// Special floats alone make no column of numbers: they are words, too.
pub(super) fn decide(kinds: Kinds) -> DataType {
    use Kinds as K;
    const FLOATS: Kinds = K::INTEGER.with(K::DECIMAL).with(K::SPECIAL);
    const DATES: Kinds = K::DATE.with(K::FAR).with(K::FORMATTED);
    const UNZONED: Kinds = DATES.with(K::TIMESTAMP).with(K::NANOS);
    const ZONED: Kinds = K::ZONED.with(K::ZONED_NANOS).with(K::FAR).with(K::FORMATTED);
    let kinds = kinds.without(K::NULL);
    let unit = |nanos: Kinds| match (kinds.meets(nanos), kinds.meets(K::FAR)) {
        (false, _) => Some(TimeUnit::Microsecond),
        (true, false) => Some(TimeUnit::Nanosecond),
        (true, true) => None,
    };
    if kinds == K::NONE || kinds == K::SPECIAL {
        DataType::Utf8View
    } else if kinds == K::BOOLEAN {
        DataType::Boolean
    } else if kinds.is_within(K::INTEGER.with(K::BIG)) {
        DataType::Int64
    } else if kinds.is_within(FLOATS) {
        DataType::Float64
    } else if kinds.is_within(DATES) {
        DataType::Date32
    } else if kinds.is_within(UNZONED) {
        unit(K::NANOS).map_or(DataType::Utf8View, |unit| DataType::Timestamp(unit, None))
    } else if kinds.is_within(ZONED) {
        unit(K::ZONED_NANOS)
            .map_or(DataType::Utf8View, |unit| DataType::Timestamp(unit, Some("UTC".into())))
    } else {
        DataType::Utf8View
    }
}

/// Returns the kinds of which every value can be read as a detected type; of any other value the
/// column is to widen.
pub(super) fn accepted(data_type: &DataType) -> Kinds {
    use Kinds as K;
    K::NULL
        | match data_type {
            DataType::Boolean => K::BOOLEAN,
            DataType::Int64 => K::INTEGER | K::BIG,
            DataType::Float64 => K::INTEGER | K::DECIMAL | K::SPECIAL,
            DataType::Date32 => K::DATE | K::FAR | K::FORMATTED,
            DataType::Timestamp(TimeUnit::Microsecond, None) => {
                K::DATE | K::TIMESTAMP | K::FAR | K::FORMATTED
            }
            DataType::Timestamp(_, None) => K::DATE | K::TIMESTAMP | K::NANOS | K::FORMATTED,
            DataType::Timestamp(TimeUnit::Microsecond, _) => K::ZONED | K::FAR | K::FORMATTED,
            DataType::Timestamp(..) => K::ZONED | K::ZONED_NANOS | K::FORMATTED,
            _ => K(u16::MAX),
        }
}

/// Tells kinds of values in one dialect.
#[derive(Debug, Clone)]
pub(super) struct Classifier {
    nulls: Vec<Vec<u8>>,
    format: Option<TimeFormat>,
}

impl Classifier {
    /// Makes a classifier of the values of `dialect`.
    ///
    /// # Errors
    /// `Invalid` for a format of times that is none.
    pub(super) fn new(dialect: &Dialect) -> Result<Self> {
        Ok(Self {
            nulls: dialect.nulls.iter().map(|null| null.as_bytes().to_vec()).collect(),
            format: dialect.timestamp_format.as_ref().map(TimeFormat::new).transpose()?,
        })
    }

    /// Returns the kind of a value, which is what was between its quotes if it is `quoted`.
    #[inline]
    pub(super) fn classify(&self, value: &[u8], quoted: bool) -> Kinds {
        let trimmed = trim(value);
        if !quoted && self.is_null(value, trimmed) {
            return Kinds::NULL;
        }
        match &self.format {
            None => classify_iso(trimmed),
            Some(format) => match classify_iso(trimmed) {
                kinds if kinds.meets(Kinds::NUMBERS.with(Kinds::NULL)) => kinds,
                kinds => format.classify(trimmed).unwrap_or(kinds),
            },
        }
    }

    /// Returns the kind of a value of a column that is known to hold times: a number is one if the
    /// dialect's format says so.
    pub(super) fn classify_time(&self, value: &[u8], quoted: bool) -> Kinds {
        let trimmed = trim(value);
        if !quoted && self.is_null(value, trimmed) {
            return Kinds::NULL;
        }
        let formatted = self.format.as_ref().and_then(|format| format.classify(trimmed));
        formatted.unwrap_or_else(|| classify_iso(trimmed))
    }

    /// Returns how times are written, other than by ISO 8601.
    pub(super) fn format(&self) -> Option<&TimeFormat> {
        self.format.as_ref()
    }

    /// Whether a value without quotes is one of the null texts, with or without the blanks around it.
    #[inline]
    pub(super) fn is_null(&self, value: &[u8], trimmed: &[u8]) -> bool {
        // Most dialects have no null texts.
        !self.nulls.is_empty() && self.nulls.iter().any(|null| null == value || null == trimmed)
    }
}

/// Leaves out the blanks and tabs around a value.
#[inline]
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Returns the kind of a value without blanks around it.
#[inline]
fn classify_iso(value: &[u8]) -> Kinds {
    let Some(first) = value.first() else { return Kinds::NULL };
    match first {
        b'0'..=b'9' => match value.get(4) {
            Some(b'-') => classify_time(value).unwrap_or_else(|| classify_number(value, false)),
            _ => classify_number(value, false),
        },
        b'-' => classify_number(&value[1..], true),
        b'+' => classify_number(&value[1..], false),
        b'.' => classify_number(value, false),
        b't' | b'T' | b'f' | b'F' => {
            match value.eq_ignore_ascii_case(b"true") || value.eq_ignore_ascii_case(b"false") {
                true => Kinds::BOOLEAN,
                false => Kinds::TEXT,
            }
        }
        b'n' | b'N' | b'i' | b'I' => classify_special(value),
        _ => Kinds::TEXT,
    }
}

fn classify_special(value: &[u8]) -> Kinds {
    let words: [&[u8]; 3] = [b"nan", b"inf", b"infinity"];
    match words.iter().any(|word| value.eq_ignore_ascii_case(word)) {
        true => Kinds::SPECIAL,
        false => Kinds::TEXT,
    }
}

/// Returns the kind of what comes after a sign, or after none.
#[inline]
fn classify_number(value: &[u8], negative: bool) -> Kinds {
    let whole = count_digits(value);
    let kind = match whole == value.len() {
        true => classify_integer(value, negative),
        false => classify_decimal(value, whole),
    };
    match value {
        [b'0'..=b'9', ..] if kind == Kinds::TEXT && is_like(value) => Kinds::LIKE,
        [b'0', b'0'..=b'9', ..] if kind != Kinds::TEXT => Kinds::UNFIT,
        _ => kind,
    }
}

/// Whether a value is written as numbers and times are, if not as ours.
fn is_like(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b',' | b':' | b'/' | b' '))
}

#[inline]
fn count_digits(value: &[u8]) -> usize {
    value.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(value.len())
}

#[inline]
fn classify_integer(digits: &[u8], negative: bool) -> Kinds {
    match digits.len() {
        0 => Kinds::TEXT,
        1..=15 => Kinds::INTEGER,
        16..=19 => {
            let value = digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
            match value {
                0..=EXACT_MAX => Kinds::INTEGER,
                _ if value <= i64::MAX as u64 + u64::from(negative) => Kinds::BIG,
                _ => Kinds::UNFIT,
            }
        }
        _ => Kinds::UNFIT,
    }
}

/// Up to here every integer is a float, too.
const EXACT_MAX: u64 = 1 << 53;

/// Returns the kind of a value that begins with `whole` digits, and is not all digits.
#[inline]
fn classify_decimal(value: &[u8], whole: usize) -> Kinds {
    let rest = &value[whole..];
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => rest.split_at(count_digits(rest)),
        _ => (&[][..], rest),
    };
    if whole + fraction.len() == 0 {
        return classify_special(value);
    }
    match rest {
        // No number this short is out of range.
        [] if value.len() < 300 => Kinds::DECIMAL,
        [] => in_range(&value[..whole], fraction, 0),
        [b'e' | b'E', b'+', digits @ ..] => with_exponent(&value[..whole], fraction, digits, 1),
        [b'e' | b'E', b'-', digits @ ..] => with_exponent(&value[..whole], fraction, digits, -1),
        [b'e' | b'E', digits @ ..] => with_exponent(&value[..whole], fraction, digits, 1),
        _ => Kinds::TEXT,
    }
}

fn with_exponent(whole: &[u8], fraction: &[u8], digits: &[u8], sign: i64) -> Kinds {
    if digits.is_empty() || count_digits(digits) != digits.len() {
        return Kinds::TEXT;
    }
    let exponent = digits.iter().fold(0_i64, |value, digit| {
        value.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    in_range(whole, fraction, exponent.saturating_mul(sign))
}

/// Tells whether a float holds a decimal by what its first digit other than 0 stands for.
fn in_range(whole: &[u8], fraction: &[u8], exponent: i64) -> Kinds {
    let length = i64::try_from(whole.len()).unwrap_or(i64::MAX);
    let leading = whole.iter().chain(fraction).position(|digit| *digit != b'0');
    let Some(leading) = leading else { return Kinds::DECIMAL };
    let leading = i64::try_from(leading).unwrap_or(i64::MAX);
    match (length - 1 - leading).saturating_add(exponent) {
        -307..=307 => Kinds::DECIMAL,
        _ => Kinds::UNFIT,
    }
}

/// Returns the kind of a date or a time by ISO 8601, or `None` if a value is neither.
#[inline]
fn classify_time(value: &[u8]) -> Option<Kinds> {
    let (date, rest) = value.split_at_checked(10)?;
    let far = match is_near(date_year(date)?) {
        true => Kinds::NONE,
        false => Kinds::FAR,
    };
    let [b'T' | b' ', time @ ..] = rest else {
        return rest.is_empty().then_some(Kinds::DATE | far);
    };
    let [h1, h2, b':', m1, m2, rest @ ..] = time else { return None };
    pair(*h1, *h2, 23)?;
    pair(*m1, *m2, 59)?;
    let (digits, zone) = match rest {
        [b':', s1, s2, rest @ ..] => {
            pair(*s1, *s2, 59)?;
            match rest {
                [b'.' | b',', rest @ ..] => match count_digits(rest) {
                    digits @ 1..=9 => (digits, &rest[digits..]),
                    _ => return None,
                },
                _ => (0, rest),
            }
        }
        _ => (0, rest),
    };
    let kind = match (zone.is_empty(), digits > 6) {
        (true, false) => Kinds::TIMESTAMP,
        (true, true) => Kinds::NANOS,
        (false, false) => Kinds::ZONED,
        (false, true) => Kinds::ZONED_NANOS,
    };
    if !zone.is_empty() && !is_zone(zone) || digits > 6 && far != Kinds::NONE {
        return None;
    }
    Some(kind | far)
}

#[inline]
fn is_zone(zone: &[u8]) -> bool {
    let zone = zone.strip_prefix(b" ").unwrap_or(zone);
    match zone {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', h1, h2] => pair(*h1, *h2, 23).is_some(),
        [b'+' | b'-', h1, h2, b':', m1, m2] | [b'+' | b'-', h1, h2, m1, m2] => {
            pair(*h1, *h2, 23).is_some() && pair(*m1, *m2, 59).is_some()
        }
        _ => false,
    }
}

/// Returns the number of two digits, if it is at most `max`.
#[inline]
fn pair(tens: u8, ones: u8, max: u8) -> Option<u8> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10 && tens * 10 + ones <= max).then_some(tens * 10 + ones)
}

/// Returns the year of a date, if there is such a day.
#[inline]
fn date_year(date: &[u8]) -> Option<i16> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = date else { return None };
    let year = i16::from(pair(*y1, *y2, 99)?) * 100 + i16::from(pair(*y3, *y4, 99)?);
    let month = pair(*m1, *m2, 12)?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        0 => 0,
        2 => 28 + u8::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    (pair(*d1, *d2, days)? > 0).then_some(year)
}

/// Whether nanoseconds reach all of a year, in every zone.
#[inline]
fn is_near(year: i16) -> bool {
    (1678..=2261).contains(&year)
}

/// How times are written, checked.
#[derive(Debug, Clone)]
pub(super) struct TimeFormat(Form);

#[derive(Debug, Clone)]
enum Form {
    /// By directives, which hold a time of day and a zone or not.
    Strftime { directives: String, has_time: bool, has_zone: bool },
    /// A number of so many units a second since 1970.
    Epoch(i64),
}

impl TimeFormat {
    /// Checks a format.
    ///
    /// # Errors
    /// `Invalid` if it is none, or does not hold a date.
    pub(super) fn new(format: &TimestampFormat) -> Result<Self> {
        match format {
            TimestampFormat::Epoch(units) => Ok(Self(Form::Epoch(*units))),
            TimestampFormat::Strftime(directives) => Self::of_directives(directives),
        }
    }

    /// Learns what `directives` hold from what they make of a time.
    fn of_directives(directives: &str) -> Result<Self> {
        let bad = |cause: String| {
            Error::invalid(format!("timestamp_format '{directives}': {cause}"))
                .with_hint("such as '%d.%m.%Y %H:%M:%S', '%Y%m%d', or 'unix_ms'")
        };
        let time = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
        let text = BrokenDownTime::from(&time)
            .to_string(directives)
            .map_err(|error| bad(error.to_string()))?;
        let broken = BrokenDownTime::parse(directives, &text)
            .map_err(|error| bad(format!("times cannot be read by it: {error}")))?;
        let is_instant = broken.timestamp().is_some();
        if !is_instant {
            broken.to_date().map_err(|_| bad("it holds no whole date".to_owned()))?;
        }
        Ok(Self(Form::Strftime {
            directives: directives.to_owned(),
            has_time: is_instant || broken.hour().is_some(),
            has_zone: is_instant || broken.offset().is_some(),
        }))
    }

    /// Reads a value without blanks around it: seconds since 1970, in UTC if the format holds a
    /// zone, and nanoseconds. `None` if the value does not fit.
    pub(super) fn parse(&self, value: &[u8]) -> Option<(i64, i32)> {
        match &self.0 {
            Form::Epoch(units) => {
                let count: i64 = std::str::from_utf8(value).ok()?.parse().ok()?;
                let nanos = (count.rem_euclid(*units)) * (NANOS_PER_SECOND / units);
                Some((count.div_euclid(*units), i32::try_from(nanos).ok()?))
            }
            Form::Strftime { directives, has_time, has_zone } => {
                let broken = BrokenDownTime::parse(directives, value).ok()?;
                let time = if *has_zone {
                    broken.to_timestamp().ok()?
                } else {
                    let time = match has_time {
                        true => broken.to_datetime().ok()?,
                        false => broken.to_date().ok()?.into(),
                    };
                    Offset::UTC.to_timestamp(time).ok()?
                };
                // A moment before 1970 has negative nanoseconds there.
                let nanos = time.as_nanosecond();
                let per_second = i128::from(NANOS_PER_SECOND);
                let seconds = i64::try_from(nanos.div_euclid(per_second)).ok()?;
                Some((seconds, i32::try_from(nanos.rem_euclid(per_second)).ok()?))
            }
        }
    }

    fn classify(&self, value: &[u8]) -> Option<Kinds> {
        let (seconds, nanos) = self.parse(value)?;
        let (kind, in_nanos) = match &self.0 {
            Form::Epoch(NANOS_PER_SECOND) => return Some(Kinds::FORMATTED | Kinds::ZONED_NANOS),
            Form::Epoch(_) => (Kinds::ZONED, false),
            Form::Strftime { has_zone: true, .. } => (Kinds::ZONED, nanos % 1000 != 0),
            Form::Strftime { has_time: true, .. } => (Kinds::TIMESTAMP, nanos % 1000 != 0),
            Form::Strftime { .. } => (Kinds::DATE, false),
        };
        let kind = match (in_nanos, kind) {
            (true, Kinds::ZONED) => Kinds::ZONED_NANOS,
            (true, _) => Kinds::NANOS,
            (false, kind) => kind,
        };
        let is_near = NEAR_SECONDS.contains(&seconds);
        if in_nanos && !is_near || !MICROS_SECONDS.contains(&seconds) {
            return None;
        }
        Some(Kinds::FORMATTED | kind | if is_near { Kinds::NONE } else { Kinds::FAR })
    }
}

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// The seconds of the years 1678 to 2261.
const NEAR_SECONDS: std::ops::Range<i64> = -9_214_560_000..9_214_646_400;

/// The seconds that microseconds reach.
const MICROS_SECONDS: std::ops::Range<i64> = i64::MIN / 1_000_000..i64::MAX / 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn classifier(format: Option<TimestampFormat>, nulls: &[&str]) -> Classifier {
        Classifier {
            nulls: nulls.iter().map(|null| null.as_bytes().to_vec()).collect(),
            format: format.map(|format| TimeFormat::new(&format).unwrap()),
        }
    }

    fn strftime(directives: &str) -> Option<TimestampFormat> {
        Some(TimestampFormat::Strftime(directives.to_owned()))
    }

    #[test]
    fn values_have_kinds() {
        use Kinds as K;
        let plain = classifier(None, &[]);
        for (kind, values) in [
            (K::NULL, "| |\t "),
            (K::BOOLEAN, "true|FALSE|True| false "),
            (K::INTEGER, "0|-0|7|-7|+7| 7\t|123456789012345|9007199254740992|-9007199254740992"),
            (K::BIG, "9007199254740993|9223372036854775807|-9223372036854775808"),
            (
                K::UNFIT,
                "007|-007|00|00.5|01e5|9223372036854775808|-9223372036854775809|\
                 12345678901234567890123|1e308|1e999|1e-308|1e99999999999999999999|0.01e-306",
            ),
            (
                K::DECIMAL,
                "1.5|-1.5|+1.5|.5|5.|-.5|0.5|1e5|1E+5|1.5e-5|.5e3|1.5e-5|0e999|0.0|12e306|1e307",
            ),
            (
                K::LIKE,
                "1,5|-1,5|1.234,56|1.2.3|1,5,|1,|5 5|10:00|01/02/2024 10:00|2024/01/01|31.12.2024",
            ),
            (K::SPECIAL, "nan|NaN|inf|-Inf|+infinity|-nan"),
            (K::DATE, "2024-02-29|2000-02-29|1999-12-31| 2024-01-01 "),
            (K::DATE | K::FAR, "0000-01-01|9999-12-31|1677-12-31|2262-01-01"),
            (
                K::TIMESTAMP,
                "2024-01-01T00:00|2024-01-01 23:59:59|2024-01-01 00:00:00.1|\
                 2024-01-01 00:00:00,123456",
            ),
            (K::TIMESTAMP | K::FAR, "0001-01-01T00:00"),
            (K::NANOS, "2024-01-01T00:00:00.1234567|2024-01-01T00:00:00.123456789"),
            (
                K::ZONED,
                "2024-01-01T00:00Z|2024-01-01 00:00:00z|2024-01-01T00:00:00.5+01:00|\
                 2024-01-01T00:00 -0130|2024-01-01T00:00:00+05|2024-01-01T00:00 Z",
            ),
            (K::ZONED_NANOS, "2024-01-01T00:00:00.000000001Z"),
            (
                K::TEXT,
                "a|-|+|.|e5|1e|1e+|,5|-,5|--5|+-5|1_000|0x10|tru|falsey|in|infin|NA|null|\
                 2023-02-29|1900-02-29|2024-13-01|2024-00-10|2024-01-00|2024-1-1|2024-01-32|\
                 2024-04-31|2024-01-01T24:00|2024-01-01T00:60|2024-01-01T00:00:60|\
                 2024-01-01  00:00|2024-01-01T|2024-01-01T00|2024-01-01T00:00.5|\
                 2024-01-01T00:00:00.|2024-01-01T00:00:00.1234567890|2024-01-01T00:00+24|\
                 2024-01-01T00:00+01:60|2024-01-01T00:00  Z|2024-01-01T00:00UTC|2024-01-01Z|\
                 1677-01-01T00:00:00.1234567|1234-|é|2024-01-0é",
            ),
        ] {
            for value in values.split('|') {
                assert_eq!(plain.classify(value.as_bytes(), false), kind, "{value:?}");
                assert_eq!(plain.classify(value.as_bytes(), true), kind, "{value:?} in quotes");
            }
        }
    }

    #[test]
    fn texts_are_null_without_quotes() {
        let classifier = classifier(None, &["NA", "-", "-999"]);
        for value in ["NA", " NA ", "-", "-999"] {
            assert_eq!(classifier.classify(value.as_bytes(), false), Kinds::NULL, "{value:?}");
        }
        assert_eq!(classifier.classify(b"NA", true), Kinds::TEXT);
        assert_eq!(classifier.classify(b"-999", true), Kinds::INTEGER);
        assert_eq!(classifier.classify(b"na", false), Kinds::TEXT);
    }

    #[test]
    fn formats_have_kinds() {
        use Kinds as K;
        for (format, value, kind) in [
            ("%d.%m.%Y", "31.12.2024", K::FORMATTED | K::DATE),
            ("%d.%m.%Y", "31.13.2024", K::LIKE),
            ("%d.%m.%Y", "2024-12-31", K::DATE),
            ("%Y-%d-%m", "2024-02-01", K::FORMATTED | K::DATE),
            ("%d.%m.%Y", "31.12.1066", K::FORMATTED | K::DATE | K::FAR),
            ("%d/%m/%Y %H:%M", " 01/02/2024 10:00", K::FORMATTED | K::TIMESTAMP),
            ("%d/%m/%Y %H:%M %z", "01/02/2024 10:00 +0100", K::FORMATTED | K::ZONED),
            ("%d/%m/%Y %H:%M:%S%.f", "01/02/2024 10:00:00.123", K::FORMATTED | K::TIMESTAMP),
            ("%d/%m/%Y %H:%M:%S%.f", "01/02/2024 10:00:00.123456789", K::FORMATTED | K::NANOS),
            ("%d/%m/%Y %I:%M %p", "01/02/2024 10:00 PM", K::FORMATTED | K::TIMESTAMP),
            // A number is one of many, unless its column is of times.
            ("%Y%m%d", "20240131", K::INTEGER),
        ] {
            let classifier = classifier(strftime(format), &[]);
            assert_eq!(classifier.classify(value.as_bytes(), false), kind, "{value} by {format}");
        }
        let days = classifier(strftime("%Y%m%d"), &[]);
        assert_eq!(days.classify_time(b"20240131", false), Kinds::FORMATTED | Kinds::DATE);
        assert_eq!(days.classify_time(b"20241331", false), Kinds::INTEGER);
        let millis = classifier(Some(TimestampFormat::Epoch(1000)), &[]);
        assert_eq!(millis.classify(b"1700000000000", false), Kinds::INTEGER);
        assert_eq!(millis.classify_time(b"-1", false), Kinds::FORMATTED | Kinds::ZONED);
        assert_eq!(millis.format.as_ref().unwrap().parse(b"-1"), Some((-1, 999_000_000)));
        assert_eq!(millis.classify_time(b"9223372036854775807", false), Kinds::BIG);
        for bad in ["%H:%M", "%Y-%m", "%Q!", "noon", ""] {
            let format = TimestampFormat::Strftime(bad.to_owned());
            assert!(TimeFormat::new(&format).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn kinds_make_types() {
        use Kinds as K;
        let micros =
            |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
        let nanos =
            |zone: Option<&str>| DataType::Timestamp(TimeUnit::Nanosecond, zone.map(Into::into));
        for (kinds, data_type) in [
            (K::NONE, DataType::Utf8View),
            (K::NULL, DataType::Utf8View),
            (K::BOOLEAN | K::NULL, DataType::Boolean),
            (K::BOOLEAN | K::INTEGER, DataType::Utf8View),
            (K::INTEGER | K::BIG, DataType::Int64),
            (K::INTEGER | K::DECIMAL, DataType::Float64),
            (K::INTEGER | K::SPECIAL, DataType::Float64),
            (K::SPECIAL | K::NULL, DataType::Utf8View),
            (K::BIG | K::DECIMAL, DataType::Utf8View),
            (K::BIG | K::SPECIAL, DataType::Utf8View),
            (K::UNFIT, DataType::Utf8View),
            (K::INTEGER | K::UNFIT, DataType::Utf8View),
            (K::DATE | K::FAR, DataType::Date32),
            (K::DATE | K::FORMATTED, DataType::Date32),
            (K::DATE | K::TIMESTAMP | K::FAR, micros(None)),
            (K::DATE | K::NANOS, nanos(None)),
            (K::DATE | K::NANOS | K::FAR, DataType::Utf8View),
            (K::ZONED, micros(Some("UTC"))),
            (K::ZONED | K::ZONED_NANOS, nanos(Some("UTC"))),
            (K::ZONED | K::TIMESTAMP, DataType::Utf8View),
            (K::ZONED | K::DATE, DataType::Utf8View),
            (K::DATE | K::INTEGER, DataType::Utf8View),
            (K::TEXT | K::INTEGER, DataType::Utf8View),
        ] {
            assert_eq!(decide(kinds), data_type, "{kinds:?}");
        }
    }

    #[test]
    fn a_type_accepts_the_kinds_that_made_it() {
        for bits in 0..=u16::MAX {
            let kinds = Kinds::from_bits(bits);
            assert!(kinds.is_within(accepted(&decide(kinds))), "{kinds:?}: {}", decide(kinds));
        }
    }
}
