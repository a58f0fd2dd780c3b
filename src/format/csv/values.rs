//! Values of a text as arrays: column by column, over an [`Index`] of the records.
//!
//! Most values are plain, and each type has a short way for those. Whatever that does not take, as
//! quotes, blanks, signs, exponents and the texts of nulls, goes the long way: it is classified as it
//! is when types are detected ([`kinds`]), so a column never takes what would have given it another
//! type. What the column cannot hold is [`Misplaced`], which the caller judges.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::*;
use datafusion::arrow::compute::kernels::cast_utils::{Parser, parse_decimal};
use datafusion::arrow::datatypes::*;
use memchr::memchr;

use super::kinds::{Classifier, Kinds, accepted, trim};
use super::options::{CsvColumn, Dialect};
use super::records::Index;
use super::times::{self, Days, Timestamp};
use crate::error::{Error, Result};

/// A value that its column cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Misplaced {
    pub row: usize,
    /// Place of the column in the text.
    pub column: usize,
    /// What the value is.
    pub kinds: Kinds,
}

/// One column of some records.
pub(super) struct Values<'a> {
    pub text: &'a str,
    pub index: &'a Index,
    pub dialect: &'a Dialect,
    pub classifier: &'a Classifier,
    /// Place of the column in the text.
    pub place: usize,
    pub column: &'a CsvColumn,
}

/// A value without its quotes.
enum Value<'a> {
    Null,
    Bare(&'a str),
    Quoted(Cow<'a, str>),
    /// Text goes on behind the closing quote.
    Torn,
}

impl<'a> Values<'a> {
    /// Reads all of the column. A value that does not fit is null, and among `misplaced`.
    ///
    /// # Errors
    /// `Unsupported` for a type that no text has.
    pub fn read(&self, misplaced: &mut Vec<Misplaced>) -> Result<ArrayRef> {
        use DataType as T;
        let data_type = &self.column.data_type;
        Ok(match data_type {
            T::Utf8View => self.texts(),
            T::Boolean => self.booleans(misplaced),
            T::Int64 => self.numbers::<Int64Type>(misplaced, whole, |text| text.parse().ok()),
            T::Float64 => self.numbers::<Float64Type>(misplaced, decimal, |text| text.parse().ok()),
            T::Date32 => self.dates(misplaced),
            T::Timestamp(TimeUnit::Second, zone) => {
                self.times::<TimestampSecondType>(misplaced, 1, zone.is_some())
            }
            T::Timestamp(TimeUnit::Millisecond, zone) => {
                self.times::<TimestampMillisecondType>(misplaced, 1_000, zone.is_some())
            }
            T::Timestamp(TimeUnit::Microsecond, zone) => {
                self.times::<TimestampMicrosecondType>(misplaced, 1_000_000, zone.is_some())
            }
            T::Timestamp(TimeUnit::Nanosecond, zone) => {
                self.times::<TimestampNanosecondType>(misplaced, 1_000_000_000, zone.is_some())
            }
            T::Int8 => self.parsed::<Int8Type>(misplaced, |text| text.parse().ok()),
            T::Int16 => self.parsed::<Int16Type>(misplaced, |text| text.parse().ok()),
            T::Int32 => self.parsed::<Int32Type>(misplaced, |text| text.parse().ok()),
            T::UInt8 => self.parsed::<UInt8Type>(misplaced, |text| text.parse().ok()),
            T::UInt16 => self.parsed::<UInt16Type>(misplaced, |text| text.parse().ok()),
            T::UInt32 => self.parsed::<UInt32Type>(misplaced, |text| text.parse().ok()),
            T::UInt64 => self.parsed::<UInt64Type>(misplaced, |text| text.parse().ok()),
            T::Float32 => self.parsed::<Float32Type>(misplaced, |text| text.parse().ok()),
            T::Time32(TimeUnit::Second) => {
                self.parsed::<Time32SecondType>(misplaced, Time32SecondType::parse)
            }
            T::Time32(TimeUnit::Millisecond) => {
                self.parsed::<Time32MillisecondType>(misplaced, Time32MillisecondType::parse)
            }
            T::Time64(TimeUnit::Microsecond) => {
                self.parsed::<Time64MicrosecondType>(misplaced, Time64MicrosecondType::parse)
            }
            T::Time64(TimeUnit::Nanosecond) => {
                self.parsed::<Time64NanosecondType>(misplaced, Time64NanosecondType::parse)
            }
            T::Decimal128(precision, scale) => {
                let (precision, scale) = (*precision, *scale);
                self.parsed::<Decimal128Type>(misplaced, |text| {
                    digits_fit(text, scale).then_some(())?;
                    parse_decimal::<Decimal128Type>(text, precision, scale).ok()
                })
            }
            T::Decimal256(precision, scale) => {
                let (precision, scale) = (*precision, *scale);
                self.parsed::<Decimal256Type>(misplaced, |text| {
                    digits_fit(text, scale).then_some(())?;
                    parse_decimal::<Decimal256Type>(text, precision, scale).ok()
                })
            }
            other => {
                let name = &self.column.name;
                return Err(Error::unsupported(format!("column '{name}': no text is {other}")));
            }
        })
    }

    fn rows(&self) -> usize {
        self.index.rows()
    }

    /// Returns the bytes of a value, quotes and all; none of one that is missing.
    #[inline]
    fn raw(&self, row: usize) -> &'a str {
        let (start, end) = self.index.value(row, self.place);
        // Values begin and end beside ASCII.
        self.text.get(start..end).unwrap_or_default()
    }

    /// Takes the quotes off a value.
    #[cold]
    fn value(&self, raw: &'a str) -> Value<'a> {
        if raw.is_empty() {
            return Value::Null;
        }
        let Some(quote) = self.dialect.quote.filter(|quote| raw.as_bytes()[0] == *quote) else {
            return match self.classifier.is_null(raw.as_bytes(), trim(raw.as_bytes())) {
                true => Value::Null,
                false => Value::Bare(raw),
            };
        };
        let Some((inner, rest)) = unquote(&raw[1..], quote, self.dialect.escape) else {
            return Value::Torn;
        };
        if rest.trim_start_matches(' ').is_empty() { Value::Quoted(inner) } else { Value::Torn }
    }

    /// Whether a value may be a null that looks like another value.
    fn has_nulls(&self) -> bool {
        !self.dialect.nulls.is_empty()
    }

    fn texts(&self) -> ArrayRef {
        let mut texts = StringViewBuilder::with_capacity(self.rows());
        let quote = self.dialect.quote;
        let has_nulls = self.has_nulls();
        for row in 0..self.rows() {
            let raw = self.raw(row);
            match raw.as_bytes().first() {
                None => texts.append_null(),
                first if first == quote.as_ref() || has_nulls => match self.value(raw) {
                    Value::Bare(text) => texts.append_value(text),
                    Value::Quoted(text) => texts.append_value(text),
                    Value::Null | Value::Torn => texts.append_null(),
                },
                _ => texts.append_value(raw),
            }
        }
        Arc::new(texts.finish())
    }

    fn booleans(&self, misplaced: &mut Vec<Misplaced>) -> ArrayRef {
        let mut values = BooleanBuilder::with_capacity(self.rows());
        for row in 0..self.rows() {
            let raw = self.raw(row);
            let value = match raw {
                "true" if !self.has_nulls() => Some(true),
                "false" if !self.has_nulls() => Some(false),
                raw => self.long_way(row, raw, misplaced, |text| {
                    if text.eq_ignore_ascii_case("true") {
                        return Some(true);
                    }
                    if text.eq_ignore_ascii_case("false") {
                        return Some(false);
                    }
                    match text {
                        "1" | "t" | "T" | "y" | "Y" | "yes" | "Yes" | "YES" => Some(true),
                        "0" | "f" | "F" | "n" | "N" | "no" | "No" | "NO" => Some(false),
                        _ => None,
                    }
                }),
            };
            values.append_option(value);
        }
        Arc::new(values.finish())
    }

    /// Reads numbers: by `short` where it takes a value as it stands, or else by `long`.
    #[inline]
    fn numbers<T: ArrowPrimitiveType>(
        &self,
        misplaced: &mut Vec<Misplaced>,
        mut short: impl FnMut(&[u8]) -> Option<T::Native>,
        mut long: impl FnMut(&str) -> Option<T::Native>,
    ) -> ArrayRef {
        let mut values = Vec::with_capacity(self.rows());
        let mut nulls = NullBufferBuilder::new(self.rows());
        let has_nulls = self.has_nulls();
        for row in 0..self.rows() {
            let raw = self.raw(row);
            if !has_nulls && let Some(value) = short(raw.as_bytes()) {
                values.push(value);
                nulls.append_non_null();
                continue;
            }
            let value = self.long_way(row, raw, misplaced, &mut long);
            values.push(value.unwrap_or_default());
            nulls.append(value.is_some());
        }
        let array = PrimitiveArray::<T>::new(values.into(), nulls.finish());
        Arc::new(array.with_data_type(self.column.data_type.clone()))
    }

    fn parsed<T: ArrowPrimitiveType>(
        &self,
        misplaced: &mut Vec<Misplaced>,
        parse: impl FnMut(&str) -> Option<T::Native>,
    ) -> ArrayRef {
        self.numbers::<T>(misplaced, |_| None, parse)
    }

    fn dates(&self, misplaced: &mut Vec<Misplaced>) -> ArrayRef {
        let format = self.classifier.format();
        let by_format = format.is_some()
            && (self.column.is_declared
                || Kinds::from_bits(self.column.seen).meets(Kinds::FORMATTED));
        let short = |text: &[u8]| if format.is_some() { None } else { times::date(text) };
        let long = |text: &str| match format.and_then(|format| format.parse(text.as_bytes())) {
            Some((seconds, _)) => i32::try_from(seconds.div_euclid(86_400)).ok(),
            None if by_format => None,
            None => times::date(text.as_bytes()),
        };
        self.numbers::<Date32Type>(misplaced, short, long)
    }

    fn times<T: ArrowPrimitiveType<Native = i64>>(
        &self,
        misplaced: &mut Vec<Misplaced>,
        per_second: i64,
        is_zoned: bool,
    ) -> ArrayRef {
        let format = self.classifier.format();
        let (mut days, fraction) = (Days::default(), per_second.min(1_000_000));
        let short = |text: &[u8]| {
            if format.is_some() || is_zoned {
                return None;
            }
            let (seconds, micros) = days.micros(text)?;
            let units = micros * fraction / 1_000_000;
            (units * 1_000_000 == micros * fraction).then_some(())?;
            seconds.checked_mul(per_second)?.checked_add(units * (per_second / fraction))
        };
        // One of the two ways throughout: what is a day in one may be a month in the other.
        let by_format = format.is_some()
            && (self.column.is_declared
                || Kinds::from_bits(self.column.seen).meets(Kinds::FORMATTED));
        let long = |text: &str| {
            if let Some((seconds, nanos)) = format.and_then(|format| format.parse(text.as_bytes()))
            {
                let nanos = u32::try_from(nanos).ok()?;
                return Timestamp { seconds, nanos, is_zoned }.in_units(per_second);
            }
            if by_format {
                return None;
            }
            // A zone is not dropped from a time without one; one that is missing is UTC.
            let time = times::timestamp(text.as_bytes())?;
            (is_zoned || !time.is_zoned).then_some(())?;
            time.in_units(per_second)
        };
        self.numbers::<T>(misplaced, short, long)
    }

    /// Reads a value that is not plain.
    #[cold]
    fn long_way<V>(
        &self,
        row: usize,
        raw: &'a str,
        misplaced: &mut Vec<Misplaced>,
        parse: impl FnOnce(&str) -> Option<V>,
    ) -> Option<V> {
        let value = self.value(raw);
        let (text, is_quoted) = match &value {
            Value::Null => return None,
            // The record is a misfit already.
            Value::Torn => return None,
            Value::Bare(text) => (*text, false),
            Value::Quoted(text) => (text.as_ref(), true),
        };
        let trimmed = text.trim_matches([' ', '\t']);
        if trimmed.is_empty() {
            return None;
        }
        let kinds = match self.column.data_type.is_temporal() {
            true => self.classifier.classify_time(text.as_bytes(), is_quoted),
            false => self.classifier.classify(text.as_bytes(), is_quoted),
        };
        let fits = self.column.is_declared || kinds.is_within(accepted(&self.column.data_type));
        let parsed = if fits { parse(trimmed) } else { None };
        if parsed.is_none() {
            misplaced.push(Misplaced { row, column: self.place, kinds });
        }
        parsed
    }
}

/// Returns what is between a quote that has been passed and the one that closes it, and what is behind
/// that.
pub(super) fn unquote(text: &str, quote: u8, escape: Option<u8>) -> Option<(Cow<'_, str>, &str)> {
    let bytes = text.as_bytes();
    let escape = escape.filter(|escape| *escape != quote);
    let mut clean = String::new();
    let mut from = 0;
    let mut at = 0;
    loop {
        let found = match escape {
            Some(escape) => memchr::memchr2(quote, escape, bytes.get(at..)?)?,
            None => memchr(quote, bytes.get(at..)?)?,
        } + at;
        let is_doubled = bytes[found] == quote && escape.is_none();
        if bytes[found] != quote || (is_doubled && bytes.get(found + 1) == Some(&quote)) {
            // The byte behind it is one of the value's.
            clean.push_str(&text[from..found]);
            from = found + 1;
            at = found + 2;
            continue;
        }
        let rest = &text[found + 1..];
        if from == 0 {
            return Some((Cow::Borrowed(&text[..found]), rest));
        }
        clean.push_str(&text[from..found]);
        return Some((Cow::Owned(clean), rest));
    }
}

/// Reads a whole number without a sign but a minus, or zeros in front.
#[inline]
fn whole(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 18 || (digits[0] == b'0' && text.len() > 1) {
        return None;
    }
    let mut value = 0i64;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(if is_negative { -value } else { value })
}

/// Reads a number of up to fifteen digits, which a float holds exactly, as is the power of ten that it
/// is divided by: so the quotient is the nearest float (Clinger).
#[inline]
fn decimal(text: &[u8]) -> Option<f64> {
    const POWERS: [f64; 16] =
        [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    if digits[0] == b'0' && digits.get(1).is_some_and(|byte| *byte != b'.') {
        return None;
    }
    let mut value = 0u64;
    let mut point = None;
    for (at, byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            value = value * 10 + u64::from(digit);
        } else if *byte == b'.' && point.is_none() && at > 0 {
            point = Some(at);
        } else {
            return None;
        }
    }
    let decimals = match point {
        Some(at) => digits.len() - at - 1,
        None if digits.len() > 15 => return None,
        None => 0,
    };
    #[expect(clippy::cast_precision_loss, reason = "fifteen digits are exact")]
    let value = value as f64 / POWERS[decimals];
    Some(if is_negative { -value } else { value })
}

/// Whether a decimal number loses no digit at a scale.
fn digits_fit(text: &str, scale: i8) -> bool {
    let Some((_, fraction)) = text.split_once('.') else { return true };
    let digits = fraction.split(['e', 'E']).next().unwrap_or_default().trim_end_matches('0');
    i64::try_from(digits.len()).is_ok_and(|digits| digits <= i64::from(scale))
}
