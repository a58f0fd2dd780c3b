//! The values that a client binds to `$1`, `$2`, … of a statement.
//!
//! They come in text or in binary, of types that the client declares or that follow from the
//! statement, and take the place of their parameter in its text, each as one literal in parentheses
//! or quotes. A text is quoted whatever it holds, so no value is ever read as SQL. An array becomes a list
//! of such literals.
//!
//! The engine does not tell what `$1` is in `n = ANY ($1)`. There it is asked what `$1` is in `n = ($1)`,
//! and the parameter is an array of that.

use std::ops::Range;

use bytes::{Buf, Bytes};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::arrays::{self, ELEMENTS_MAX, Element};
use super::errors::PgError;
use super::type_names;
use super::values::{PgType, Scalar};
use crate::sql::Cut;

type Result<T> = std::result::Result<T, PgError>;

/// Microseconds from 1970 to 2000, from which Postgres counts.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The most parameters that a statement has: they are counted by 16 bits.
const PARAMETERS_MAX: usize = u16::MAX as usize;

/// A parameter in a statement: its number from 1, and its bytes.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub number: usize,
    pub span: Range<usize>,
    /// The bytes of `ANY ($1)`, if it is so.
    pub quantified: Option<Range<usize>>,
    /// The type of `$1::type[]`, if it is so.
    pub array: Option<u32>,
}

impl Place {
    fn new(number: usize, at: usize, cut: &Cut<'_>) -> Self {
        let token = |at: usize| cut.tokens.get(at).map(|(token, _)| token);
        let is_quantifier = at >= 3
            && token(at - 1) == Some(&Token::LParen)
            && token(at + 1) == Some(&Token::RParen)
            && matches!(token(at - 2), Some(Token::Word(word)) if word.quote_style.is_none()
                && ["ANY", "SOME", "ALL"].iter().any(|name| word.value.eq_ignore_ascii_case(name)))
            && matches!(
                token(at - 3),
                Some(Token::Eq | Token::Neq | Token::Lt | Token::LtEq | Token::Gt | Token::GtEq)
            );
        let quantified =
            is_quantifier.then(|| cut.tokens[at - 2].1.start..cut.tokens[at + 1].1.end);
        let array = match token(at + 1) {
            Some(Token::DoubleColon) => {
                let behind: Vec<&Token> =
                    cut.tokens[at + 2..].iter().take(12).map(|(token, _)| token).collect();
                let named = type_names::read(&behind).map(|(oid, _)| oid);
                named.filter(|oid| matches!(PgType::of_oid(*oid), Some(PgType::Array(_))))
            }
            _ => None,
        };
        Self { number, span: cut.tokens[at].1.clone(), quantified, array }
    }
}

/// Finds the parameters of a statement.
pub(super) fn places(cut: &Cut<'_>) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for (at, (token, _)) in cut.tokens.iter().enumerate() {
        let Token::Placeholder(text) = token else { continue };
        let name = text.trim_start_matches('$');
        match name.parse::<usize>() {
            Ok(number) if (1..=PARAMETERS_MAX).contains(&number) => {
                places.push(Place::new(number, at, cut));
            }
            _ => {
                return Err(PgError::new("42P02", format!("there is no parameter ${name}"))
                    .with_hint("parameters are numbered: $1, $2, …"));
            }
        }
    }
    Ok(places)
}

/// Puts a literal at each place; a parameter that has none stays.
///
/// # Errors
/// `54000` if that would be longer than `bytes_max`: a parameter may have many places.
pub(super) fn put(
    text: &str,
    places: &[Place],
    literals: &[Option<String>],
    bytes_max: usize,
) -> Result<String> {
    let literal_of = |number: usize| literals.get(number - 1).and_then(Option::as_deref);
    let bytes = places.iter().filter_map(|place| literal_of(place.number)).map(str::len);
    let bytes = bytes.fold(text.len(), usize::saturating_add);
    if bytes > bytes_max {
        let message = format!("the statement would have {bytes} bytes with its values");
        return Err(PgError::new("54000", message)
            .with_hint(format!("it may have {bytes_max}; each place of a parameter counts")));
    }
    let mut bound = String::with_capacity(bytes);
    let mut at = 0;
    for Place { number, span, .. } in places {
        bound.push_str(&text[at..span.start]);
        bound.push_str(literal_of(*number).unwrap_or(&text[span.clone()]));
        at = span.end;
    }
    bound.push_str(&text[at..]);
    Ok(bound)
}

/// Returns a text that has the parameters of unknown types only, and those where their types show: NULL
/// of its type stands for any other.
///
/// # Errors
/// Those of [`put`].
pub(super) fn put_types(
    text: &str,
    places: &[Place],
    types: &[Option<PgType>],
    bytes_max: usize,
) -> Result<String> {
    let shown: Vec<Place> = places
        .iter()
        .map(|place| match (types.get(place.number - 1), &place.quantified) {
            (Some(None), Some(span)) => Place { span: span.clone(), ..place.clone() },
            _ => place.clone(),
        })
        .collect();
    let mut literals: Vec<Option<String>> =
        types.iter().map(|of| of.map(|of| format!("CAST(NULL AS {})", sql_name(of)))).collect();
    for place in places.iter().filter(|place| place.quantified.is_some()) {
        let literal = &mut literals[place.number - 1];
        literal.get_or_insert_with(|| format!("(${})", place.number));
    }
    put(text, &shown, &literals, bytes_max)
}

fn sql_name(of: PgType) -> String {
    match of {
        PgType::Scalar(scalar) => scalar_name(scalar).to_owned(),
        PgType::Array(scalar) => format!("{}[]", scalar_name(scalar)),
    }
}

fn scalar_name(scalar: Scalar) -> &'static str {
    match scalar {
        Scalar::Bool => "BOOLEAN",
        Scalar::Bytea => "BYTEA",
        Scalar::Int2 => "SMALLINT",
        Scalar::Int4 | Scalar::Oid => "INT",
        Scalar::Int8 => "BIGINT",
        Scalar::Text | Scalar::Json => "VARCHAR",
        Scalar::Float4 => "REAL",
        Scalar::Float8 => "DOUBLE",
        Scalar::Date => "DATE",
        Scalar::Time => "TIME",
        Scalar::Timestamp => "TIMESTAMP",
        Scalar::Timestamptz => "TIMESTAMP WITH TIME ZONE",
        Scalar::Interval => "INTERVAL",
        Scalar::Numeric => "DECIMAL(38, 10)",
    }
}

/// Returns a value as a literal of SQL.
///
/// # Errors
/// `22P02` and `22P03` for bytes that are no value of the type, `0A000` for types that have no
/// parameters here.
pub(super) fn literal(
    number: usize,
    oid: u32,
    value: Option<Bytes>,
    is_binary: bool,
) -> Result<String> {
    let Some(of) = PgType::of_oid(oid) else {
        return Err(PgError::new("0A000", format!("parameter ${number}: type {oid} is not taken"))
            .with_hint("records are given as texts"));
    };
    let Some(value) = value else { return Ok("NULL".to_owned()) };
    let no_binary =
        || PgError::new("22P03", format!("parameter ${number} is no binary {}", sql_name(of)));
    let no_value = |text: &str| {
        let shown: String = text.chars().take(100).collect();
        PgError::new("22P02", format!("parameter ${number}: '{shown}' is no {}", sql_name(of)))
    };
    let text_of = |value: &Bytes| match std::str::from_utf8(value) {
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(PgError::new("22021", format!("parameter ${number} is no text"))),
    };
    match of {
        PgType::Scalar(scalar) => {
            let text = match is_binary {
                true => from_binary(scalar, oid, value).ok_or_else(no_binary)?,
                false => text_of(&value)?,
            };
            of_text(scalar, &text).ok_or_else(|| no_value(&text))
        }
        PgType::Array(scalar) => {
            let (elements, shown) = match is_binary {
                true => (array_from_binary(scalar, value).ok_or_else(no_binary)?, String::new()),
                false => {
                    let text = text_of(&value)?;
                    (arrays::parse(&text).ok_or_else(|| no_value(&text))?, text)
                }
            };
            let mut literal = String::new();
            let has_values =
                put_list(&elements, scalar, &mut literal).ok_or_else(|| no_value(&shown))?;
            Ok(match has_values {
                true => literal,
                // Nothing else tells its type.
                false => format!("CAST({literal} AS {})", sql_name(of)),
            })
        }
    }
}

/// Puts a list of literals; returns whether there is one that is not null.
fn put_list(elements: &[Element], scalar: Scalar, out: &mut String) -> Option<bool> {
    let mut has_values = false;
    out.push('[');
    for (at, element) in elements.iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        match element {
            Element::Null => out.push_str("NULL"),
            Element::Text(text) => {
                out.push_str(&of_text(scalar, text)?);
                has_values = true;
            }
            Element::List(list) => has_values |= put_list(list, scalar, out)?,
        }
    }
    out.push(']');
    Some(has_values)
}

/// Reads an array in binary: its dimensions, the type of its elements, and they.
fn array_from_binary(scalar: Scalar, mut value: Bytes) -> Option<Vec<Element>> {
    let dimensions = usize::try_from(value.try_get_i32().ok()?).ok()?;
    let _has_nulls = value.try_get_i32().ok()?;
    let oid = value.try_get_u32().ok()?;
    if dimensions > arrays::DEPTH_MAX || Scalar::of_oid(oid) != Some(scalar) {
        return None;
    }
    let mut lengths = Vec::new();
    for _ in 0..dimensions {
        lengths.push(usize::try_from(value.try_get_i32().ok()?).ok()?);
        let _begin = value.try_get_i32().ok()?;
    }
    let count = lengths.iter().try_fold(1usize, |count, length| count.checked_mul(*length))?;
    // Each has a length of four bytes.
    if count > ELEMENTS_MAX || (dimensions > 0 && count > value.len() / 4) {
        return None;
    }
    let list = match lengths.as_slice() {
        [] => Vec::new(),
        lengths => list_from_binary(scalar, oid, lengths, &mut value)?,
    };
    value.is_empty().then_some(list)
}

fn list_from_binary(
    scalar: Scalar,
    oid: u32,
    lengths: &[usize],
    value: &mut Bytes,
) -> Option<Vec<Element>> {
    let (length, inner) = lengths.split_first()?;
    let mut list = Vec::new();
    for _ in 0..*length {
        list.push(match inner {
            [] => match value.try_get_i32().ok()? {
                -1 => Element::Null,
                bytes => {
                    let element = value.split_to_checked(usize::try_from(bytes).ok()?)?;
                    Element::Text(from_binary(scalar, oid, element)?)
                }
            },
            // Lists of nothing are many.
            [0, ..] => return None,
            inner => Element::List(list_from_binary(scalar, oid, inner, value)?),
        });
    }
    Some(list)
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Returns the literal of a value that is given as text.
fn of_text(scalar: Scalar, text: &str) -> Option<String> {
    let cast = |text: &str| format!("CAST({} AS {})", quoted(text), scalar_name(scalar));
    let number = |text: &str| match text.starts_with('-') {
        true => format!("({text})"),
        false => text.to_owned(),
    };
    let plain = text.trim();
    Some(match scalar {
        // Drivers that leave the type open send the zone with it, which Postgres passes over.
        Scalar::Date => cast(match without_zone(plain).split_once([' ', 'T']) {
            Some((date, time)) if time.bytes().all(|byte| b"0123456789:.".contains(&byte)) => date,
            _ => without_zone(plain),
        }),
        Scalar::Time => cast(without_zone(plain)),
        // As a literal would be: a zone says which moment it is.
        Scalar::Timestamp | Scalar::Timestamptz => cast(plain),
        Scalar::Text | Scalar::Json => quoted(text),
        Scalar::Bool => {
            let word = plain.to_lowercase();
            let is = |words: &[&str]| words.contains(&word.as_str());
            match (
                is(&["t", "true", "y", "yes", "on", "1"]),
                is(&["f", "false", "n", "no", "off", "0"]),
            ) {
                (true, _) => "TRUE".to_owned(),
                (_, true) => "FALSE".to_owned(),
                _ => return None,
            }
        }
        Scalar::Int2 | Scalar::Int4 | Scalar::Int8 | Scalar::Oid => {
            number(&plain.parse::<i64>().ok()?.to_string())
        }
        Scalar::Float4 => {
            plain.parse::<f32>().ok()?;
            cast(plain)
        }
        Scalar::Float8 => {
            let value: f64 = plain.parse().ok()?;
            match value.is_finite() {
                true => number(&format!("{value:?}")),
                false => cast(if value.is_nan() { "NaN" } else { plain }),
            }
        }
        Scalar::Numeric => {
            let (sign, digits) = match plain.strip_prefix('-') {
                Some(digits) => ("-", digits),
                None => ("", plain.strip_prefix('+').unwrap_or(plain)),
            };
            let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
            let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            if !is_number(whole) || !is_number(fraction) || digits.len() == 1 && digits == "." {
                // 1e5 and NaN are floats here.
                return of_text(Scalar::Float8, plain);
            }
            if digits.is_empty() {
                return None;
            }
            let whole = whole.trim_start_matches('0');
            let precision = (whole.len() + fraction.len()).max(1);
            if precision > 76 {
                return None;
            }
            let (zero, point) = (
                if whole.is_empty() { "0" } else { "" },
                if fraction.is_empty() { "" } else { "." },
            );
            format!(
                "CAST('{sign}{zero}{whole}{point}{fraction}' AS DECIMAL({precision}, {}))",
                fraction.len()
            )
        }
        Scalar::Bytea => {
            let hex = text.strip_prefix("\\x")?;
            if !hex.len().is_multiple_of(2) || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return None;
            }
            format!("X'{hex}'")
        }
        Scalar::Interval => format!("INTERVAL {}", quoted(&with_units(plain))),
    })
}

/// Returns an interval whose time has units, as the engine wants it: `1 day 02:30:00` is `1 day 2 hours 30
/// minutes 0 seconds`.
fn with_units(text: &str) -> String {
    let part = |part: &str| match part.split(':').collect::<Vec<_>>().as_slice() {
        [hours, minutes] | [hours, minutes, _] => {
            let seconds = part.splitn(3, ':').nth(2).unwrap_or("0");
            let sign = if hours.starts_with('-') { "-" } else { "" };
            format!("{hours} hours {sign}{minutes} minutes {sign}{seconds} seconds")
        }
        _ => part.to_owned(),
    };
    text.split_whitespace().map(part).collect::<Vec<_>>().join(" ")
}

/// Returns a time without the zone at its end: `+01`, `-03:30`, `Z`.
fn without_zone(text: &str) -> &str {
    if let Some(time) = text.strip_suffix(['Z', 'z']) {
        return time.trim_end();
    }
    // A date has signs, too.
    let date = text.len().min("2026-01-01".len());
    let begin = match text.find(':') {
        // The time alone.
        Some(at) if at < date => at,
        _ => date,
    };
    let sign = text.get(begin..).and_then(|rest| rest.find(['+', '-'])).map(|at| begin + at);
    match sign.map(|at| text.split_at(at)) {
        Some((time, zone))
            if zone.len() >= 3
                && zone[1..].bytes().all(|byte| byte.is_ascii_digit() || byte == b':') =>
        {
            time.trim_end()
        }
        _ => text,
    }
}

/// Returns the text of a binary value, or `None` if it is none.
fn from_binary(scalar: Scalar, oid: u32, mut value: Bytes) -> Option<String> {
    let text = match scalar {
        Scalar::Bool => (value.try_get_u8().ok()? != 0).to_string(),
        Scalar::Int2 => value.try_get_i16().ok()?.to_string(),
        Scalar::Int4 => value.try_get_i32().ok()?.to_string(),
        Scalar::Oid => value.try_get_u32().ok()?.to_string(),
        Scalar::Int8 => value.try_get_i64().ok()?.to_string(),
        Scalar::Float4 => value.try_get_f32().ok()?.to_string(),
        Scalar::Float8 => value.try_get_f64().ok()?.to_string(),
        Scalar::Numeric => numeric(&mut value)?,
        Scalar::Text if oid == 2950 => {
            let bytes: [u8; 16] = value.split_to_checked(16)?.as_ref().try_into().ok()?;
            uuid::Uuid::from_bytes(bytes).to_string()
        }
        Scalar::Text | Scalar::Json => {
            if oid == 3802 && value.try_get_u8().ok()? != 1 {
                return None;
            }
            let text = std::str::from_utf8(&value.split_off(0)).ok()?.to_owned();
            return (!text.contains('\0')).then_some(text);
        }
        Scalar::Bytea => {
            let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            return Some(format!("\\x{hex}"));
        }
        Scalar::Date => {
            let days = i64::from(value.try_get_i32().ok()?);
            timestamp(days.checked_mul(86_400_000_000)?)?.split('T').next()?.to_owned()
        }
        Scalar::Time => {
            let micros = value.try_get_i64().ok()?;
            if !(0..=86_400_000_000).contains(&micros) {
                return None;
            }
            let seconds = micros / 1_000_000;
            let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            format!("{hour:02}:{minute:02}:{second:02}.{:06}", micros % 1_000_000)
        }
        Scalar::Timestamp => timestamp(value.try_get_i64().ok()?)?.trim_end_matches('Z').to_owned(),
        Scalar::Timestamptz => timestamp(value.try_get_i64().ok()?)?,
        Scalar::Interval => {
            let micros = value.try_get_i64().ok()?;
            let days = value.try_get_i32().ok()?;
            let months = value.try_get_i32().ok()?;
            format!("{months} months {days} days {micros} microseconds")
        }
    };
    value.is_empty().then_some(text)
}

/// Splits off a beginning of a known length, if it is there.
trait SplitChecked {
    fn split_to_checked(&mut self, length: usize) -> Option<Bytes>;
}

impl SplitChecked for Bytes {
    fn split_to_checked(&mut self, length: usize) -> Option<Bytes> {
        (self.len() >= length).then(|| self.split_to(length))
    }
}

/// Returns the text of a time, in microseconds from 2000 on.
fn timestamp(micros: i64) -> Option<String> {
    let time = jiff::Timestamp::from_microsecond(micros.checked_add(EPOCH_MICROS)?).ok()?;
    Some(time.to_string())
}

/// Reads the groups of four digits that a binary decimal is of.
fn numeric(value: &mut Bytes) -> Option<String> {
    let groups = usize::try_from(value.try_get_i16().ok()?).ok()?;
    let weight = i32::from(value.try_get_i16().ok()?);
    let sign = value.try_get_u16().ok()?;
    let scale = usize::from(value.try_get_u16().ok()?);
    if sign == 0xc000 {
        return Some("NaN".to_owned());
    }
    if groups > 40 || !(-20..=20).contains(&weight) || scale > 76 {
        return None;
    }
    let mut digits = Vec::with_capacity(groups);
    for _ in 0..groups {
        let group = value.try_get_i16().ok().filter(|group| (0..10_000).contains(group))?;
        digits.push(group);
    }
    let group =
        |at: i32| usize::try_from(at).ok().and_then(|at| digits.get(at)).copied().unwrap_or(0);
    let mut text = if sign == 0x4000 { "-".to_owned() } else { String::new() };
    match weight < 0 {
        true => text.push('0'),
        false => (0..=weight).for_each(|at| text.push_str(&format!("{:04}", group(at)))),
    }
    let mut fraction = String::new();
    let mut at = weight + 1;
    // Groups of zeros before the first that is there.
    for _ in weight.min(-1)..-1 {
        fraction.push_str("0000");
    }
    if weight < 0 {
        at = 0;
    }
    while fraction.len() < scale {
        fraction.push_str(&format!("{:04}", group(at)));
        at += 1;
    }
    fraction.truncate(scale);
    if scale > 0 {
        text.push('.');
        text.push_str(&fraction);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_literal() {
        for (oid, text, expected) in [
            (25, "it's; --", Some("'it''s; --'")),
            (23, "-5", Some("(-5)")),
            (23, "5 OR 1=1", None),
            (701, "1e3", Some("1000.0")),
            (701, "1); DROP", None),
            (701, "nan", Some("CAST('NaN' AS DOUBLE)")),
            (1700, "-0012.50", Some("CAST('-12.50' AS DECIMAL(4, 2))")),
            (1700, "0.5", Some("CAST('0.5' AS DECIMAL(1, 1))")),
            (16, "t", Some("TRUE")),
            (16, "x", None),
            (17, "\\x00ff", Some("X'00ff'")),
            (17, "\\x0'", None),
            (1082, "2026-01-01", Some("CAST('2026-01-01' AS DATE)")),
            (1082, "2026-01-01 +00", Some("CAST('2026-01-01' AS DATE)")),
            (1082, "2026-01-01 rubbish", Some("CAST('2026-01-01 rubbish' AS DATE)")),
            (1083, "01:02:03-03:30", Some("CAST('01:02:03' AS TIME)")),
            (1114, "2026-01-01 01:02:03+01", Some("CAST('2026-01-01 01:02:03+01' AS TIMESTAMP)")),
            (1114, "2026-01-01T01:02:03Z", Some("CAST('2026-01-01T01:02:03Z' AS TIMESTAMP)")),
            (700, "0.1", Some("CAST('0.1' AS REAL)")),
            (700, "x", None),
            (1700, "", None),
            (1700, "-", None),
            (1186, "1 day -02:30:00", Some("INTERVAL '1 day -02 hours -30 minutes -00 seconds'")),
            (
                1184,
                "2026-01-01 01:02:03+01",
                Some("CAST('2026-01-01 01:02:03+01' AS TIMESTAMP WITH TIME ZONE)"),
            ),
        ] {
            let bound = literal(1, oid, Some(Bytes::from_static(text.as_bytes())), false);
            assert_eq!(bound.ok().as_deref(), expected, "{text}");
        }
        assert_eq!(literal(1, 23, None, true).unwrap(), "NULL");
    }

    #[test]
    fn an_array_is_a_list_of_literals() {
        let text = |oid, text: &'static str| {
            literal(1, oid, Some(Bytes::from_static(text.as_bytes())), false)
        };
        for (oid, array, expected) in [
            (1016, "{1,-2,NULL}", Ok("[1, (-2), NULL]")),
            (1009, "{\"it's\",b}", Ok("['it''s', 'b']")),
            (1015, "{a}", Ok("['a']")),
            (1007, "{}", Ok("CAST([] AS INT[])")),
            (1182, "{NULL}", Ok("CAST([NULL] AS DATE[])")),
            (1016, "{{1},{2}}", Ok("[[1], [2]]")),
            (1016, "{1); DROP}", Err("22P02")),
            (1016, "1", Err("22P02")),
        ] {
            let bound = text(oid, array);
            assert_eq!(bound.as_deref().map_err(|error| error.code), expected, "{array}");
        }
        let binary = |parts: &[&[u8]]| {
            literal(1, 1016, Some(Bytes::from(parts.concat())), true).map_err(|error| error.code)
        };
        let head = |dimensions: i32, lengths: &[i32]| {
            let mut head = [dimensions, 0, 20].map(i32::to_be_bytes).concat();
            lengths.iter().for_each(|it| head.extend([*it, 1].map(i32::to_be_bytes).concat()));
            head
        };
        let one = [&8i32.to_be_bytes()[..], &1i64.to_be_bytes()].concat();
        let null = (-1i32).to_be_bytes();
        assert_eq!(binary(&[&head(1, &[2]), &one, &null]).unwrap(), "[1, NULL]");
        assert_eq!(binary(&[&head(2, &[1, 2]), &one, &one]).unwrap(), "[[1, 1]]");
        assert_eq!(binary(&[&head(0, &[])]).unwrap(), "CAST([] AS BIGINT[])");
        for parts in [
            &[&head(1, &[2])[..], &one] as &[&[u8]],
            &[&head(1, &[i32::MAX])],
            &[&head(1, &[-1])],
            &[&head(2, &[50_000, 0])],
            &[&head(7, &[1; 7]), &one],
            &[&head(i32::MAX, &[])],
            &[&[0; 11]],
        ] {
            assert_eq!(binary(parts), Err("22P03"), "{parts:?}");
        }
    }

    #[test]
    fn types_show_where_the_engine_tells_them() {
        let cuts =
            crate::sql::cut("SELECT a = ANY($1), b <> all ( $2 ), c > $3, ANY($4), $5::oid[]");
        let places = places(&cuts[0]).unwrap();
        let arrays: Vec<_> = places.iter().map(|place| place.array).collect();
        assert_eq!(arrays, [None, None, None, None, Some(1028)]);
        let types = [None, Some(PgType::Array(Scalar::Int8)), None, None, None];
        assert_eq!(
            put_types(cuts[0].text, &places, &types, 1000).unwrap(),
            "SELECT a = ($1), b <> all ( CAST(NULL AS BIGINT[]) ), c > $3, ANY($4), $5::oid[]"
        );
    }

    #[test]
    fn binary_values_are_read() {
        let of =
            |oid, bytes: &[u8]| literal(1, oid, Some(Bytes::copy_from_slice(bytes)), true).ok();
        assert_eq!(of(21, &[0xff, 0xfe]).as_deref(), Some("(-2)"));
        assert_eq!(of(21, &[0, 1, 2]), None);
        assert_eq!(
            of(1114, &0i64.to_be_bytes()).as_deref(),
            Some("CAST('2000-01-01T00:00:00' AS TIMESTAMP)")
        );
        assert_eq!(of(1114, &i64::MAX.to_be_bytes()), None);
        assert_eq!(of(1082, &9i32.to_be_bytes()).as_deref(), Some("CAST('2000-01-10' AS DATE)"));
        // 12345.678 and 0.0001
        let number = [0, 3, 0, 1, 0, 0, 0, 3, 0, 1, 0x09, 0x29, 0x1a, 0x7c];
        assert_eq!(of(1700, &number).as_deref(), Some("CAST('12345.678' AS DECIMAL(8, 3))"));
        let small = [0, 1, 0xff, 0xff, 0, 0, 0, 4, 0, 1];
        assert_eq!(of(1700, &small).as_deref(), Some("CAST('0.0001' AS DECIMAL(4, 4))"));
    }
}
