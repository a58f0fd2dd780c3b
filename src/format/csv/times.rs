//! Dates and times as text writes them, read without a detour through calendars of a library: a value
//! takes a few nanoseconds.
//!
//! A date is `YYYY-MM-DD`. A timestamp is a date, `T` or a blank, `HH:MM`, and perhaps `:SS`, `.` or `,`
//! with one to nine digits, and a zone: `Z`, `±HH`, `±HHMM` or `±HH:MM`, perhaps behind a blank. Times
//! are of the proleptic Gregorian calendar, years 0000 to 9999; there is no hour 24 and no leap second.

/// A point in time, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timestamp {
    /// Seconds since 1970, of the zone it is written in, or UTC if that is told.
    pub seconds: i64,
    pub nanos: u32,
    /// Whether a zone is told.
    pub is_zoned: bool,
}

impl Timestamp {
    /// Returns the number of units, of which a second has so many, since 1970; `None` if it does not
    /// come out even, or is out of range.
    pub fn in_units(self, per_second: i64) -> Option<i64> {
        let unit = 1_000_000_000 / u32::try_from(per_second).ok()?;
        if !self.nanos.is_multiple_of(unit) {
            return None;
        }
        self.seconds.checked_mul(per_second)?.checked_add(i64::from(self.nanos / unit))
    }
}

/// Reads a date, in days since 1970.
pub(super) fn date(text: &[u8]) -> Option<i32> {
    match text {
        [a, b, c, d, b'-', e, f, b'-', g, h] => {
            let year = number(&[*a, *b, *c, *d])?;
            days(year, number(&[*e, *f])?, number(&[*g, *h])?)
        }
        _ => None,
    }
}

/// Reads a date, or a date and a time.
pub(super) fn timestamp(text: &[u8]) -> Option<Timestamp> {
    let days = i64::from(date(text.get(..10)?)?);
    let plain = Timestamp { seconds: days * 86_400, nanos: 0, is_zoned: false };
    let rest = match &text[10..] {
        [] => return Some(plain),
        [b'T' | b't' | b' ', rest @ ..] => rest,
        _ => return None,
    };
    let [a, b, b':', c, d, rest @ ..] = rest else { return None };
    let (hour, minute) = (number(&[*a, *b])?, number(&[*c, *d])?);
    let (second, rest) = match rest {
        [b':', a, b, rest @ ..] => (number(&[*a, *b])?, rest),
        rest => (0, rest),
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanos, rest) = match rest {
        [b'.' | b',', rest @ ..] => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=9).contains(&digits) {
                return None;
            }
            let value = number(&rest[..digits])?;
            let nanos = value * 10u32.pow(9 - u32::try_from(digits).ok()?);
            (nanos, &rest[digits..])
        }
        rest => (0, rest),
    };
    let zone = match rest {
        [] => None,
        [b' ', zone @ ..] | zone => Some(offset(zone)?),
    };
    let time = i64::from(hour * 3600 + minute * 60 + second);
    let seconds = plain.seconds + time - zone.unwrap_or(0);
    Some(Timestamp { seconds, nanos, is_zoned: zone.is_some() })
}

/// Reads a zone, in seconds east of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    let (sign, hour, minute) = match zone {
        [b'Z' | b'z'] => return Some(0),
        [sign, a, b] => (sign, [*a, *b], [b'0', b'0']),
        [sign, a, b, c, d] | [sign, a, b, b':', c, d] => (sign, [*a, *b], [*c, *d]),
        _ => return None,
    };
    let (hour, minute) = (number(&hour)?, number(&minute)?);
    if hour > 23 || minute > 59 {
        return None;
    }
    let seconds = i64::from(hour * 3600 + minute * 60);
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

/// Reads up to nine digits.
fn number(digits: &[u8]) -> Option<u32> {
    let mut value = 0;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u32::from(digit);
    }
    Some(value)
}

/// Returns the days from 1970 to a day, if there is one, by Howard Hinnant's `days_from_civil`.
pub(super) fn days(year: u32, month: u32, day: u32) -> Option<i32> {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(is_leap),
        _ => return None,
    };
    if day == 0 || day > last {
        return None;
    }
    let year = i32::try_from(year).ok()? - i32::from(month <= 2);
    let (month, day) = (i32::try_from(month).ok()?, i32::try_from(day).ok()?);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// The day that was read last: in most texts the next time is of the same day.
#[derive(Debug, Default)]
pub(super) struct Days {
    text: [u8; 10],
    seconds: i64,
}

impl Days {
    /// Reads `YYYY-MM-DD`, `T` or a blank, and `HH:MM:SS`, perhaps with a fraction of up to six digits,
    /// in seconds and microseconds; `None` for whatever is written otherwise.
    #[inline]
    pub fn micros(&mut self, text: &[u8]) -> Option<(i64, i64)> {
        let (day, rest) = text.split_first_chunk::<10>()?;
        let [b'T' | b' ', a, b, b':', c, d, b':', e, f, fraction @ ..] = rest else { return None };
        if *day != self.text {
            self.seconds = i64::from(date(day)?) * 86_400;
            self.text = *day;
        }
        let digit = |byte: &u8| i64::from(byte.wrapping_sub(b'0'));
        let (a, b, c, d, e, f) = (digit(a), digit(b), digit(c), digit(d), digit(e), digit(f));
        let (hour, minute, second) = (a * 10 + b, c * 10 + d, e * 10 + f);
        let are_digits = b <= 9 && d <= 9 && f <= 9 && a <= 9 && c <= 9 && e <= 9;
        if !are_digits || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let micros = match fraction {
            [] => 0,
            [b'.', digits @ ..] if (1..=6).contains(&digits.len()) => {
                let scale = 10i64.pow(6 - u32::try_from(digits.len()).ok()?);
                i64::from(number(digits)?) * scale
            }
            _ => return None,
        };
        Some((self.seconds + hour * 3600 + minute * 60 + second, micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (text, seconds, nanos) in [
            ("1970-01-01", 0, 0),
            ("2000-02-29T12:00", 951_825_600, 0),
            ("2025-01-01 00:00:01.5", 1_735_689_601, 500_000_000),
            ("0000-01-01", -62_167_219_200, 0),
            ("9999-12-31 23:59:59,999999999", 253_402_300_799, 999_999_999),
            ("2025-01-01T02:00:00+02:00", 1_735_689_600, 0),
            ("2025-01-01T00:00:00 Z", 1_735_689_600, 0),
            ("2024-12-31T19:30:00-0430", 1_735_689_600, 0),
        ] {
            let read = timestamp(text.as_bytes()).map(|time| (time.seconds, time.nanos));
            assert_eq!(read, Some((seconds, nanos)), "{text}");
        }
        for text in [
            "",
            "2025",
            "2025-13-01",
            "2025-02-29",
            "2025-01-00",
            "2025-01-01T24:00",
            "2025-01-01T00:60",
            "2025-01-01T00:00:60",
            "2025-01-01T00:00:00.",
            "2025-01-01x",
            "2025-01-01T00:00:00.1234567890",
            "2025-01-01T00:00:00+24",
            "2025-01-01T00:00:00 ",
            "25-01-01",
            "2025-1-1",
            "2025-01-01T0:00",
        ] {
            assert_eq!(timestamp(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_short_way_agrees_with_the_long_one() {
        let mut days = Days::default();
        for text in [
            "2025-01-01T00:00:00",
            "2025-01-01 23:59:59",
            "2024-02-29T01:02:03.000001",
            "2024-02-29T01:02:03.5",
            "2025-02-29T00:00:00",
            "2025-01-01T24:00:00",
            "2025-01-01T0a:00:00",
            "1969-12-31T23:59:59.999999",
        ] {
            let long = timestamp(text.as_bytes()).and_then(|time| time.in_units(1_000_000));
            let short =
                days.micros(text.as_bytes()).map(|(seconds, micros)| seconds * 1_000_000 + micros);
            assert_eq!(short, long, "{text}");
        }
    }
}
