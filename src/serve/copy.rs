//! `COPY … TO STDOUT` and `COPY … FROM STDIN`: what is asked for, and rows as lines of text or CSV.
//!
//! A [`Form`] writes values into lines. A [`Decoder`] takes the bytes of a client as they come, cuts
//! them into records, and makes batches of a bounded size of the types that a table has. It holds a
//! batch and a record at most, and a record is bounded. Values are written and read in the text form of
//! their types, as everywhere in the protocol; there is no binary form.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use datafusion::arrow::array::{
    Array, ArrayRef, BinaryArray, ListArray, RecordBatch, StringArray, StringBuilder,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{CastOptions, can_cast_types, cast, cast_with_options};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::util::display::FormatOptions;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::arrays::{self, Element};
use super::errors::PgError;
use crate::error::Error;
use crate::sql::Cut;

type Result<T> = std::result::Result<T, PgError>;

/// The longest record that is read, in bytes.
const RECORD_BYTES_MAX: usize = 16 << 20;

/// How many rows, and bytes of them, become a batch.
const BATCH_ROWS: usize = 8192;
const BATCH_BYTES: usize = 1 << 20;

/// A copy between a client and the pond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Copy {
    /// The rows of a query to the client.
    Out { query: String, form: Form },
    /// Rows of the client to a table. Its name and the list of its columns, which may be empty, are as
    /// they were written.
    In { table: String, columns: String, form: Form },
}

/// How rows are lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form {
    is_csv: bool,
    header: Header,
    delimiter: u8,
    null: String,
    quote: u8,
    escape: u8,
}

/// Whether the first line has the names of the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    None,
    Names,
    /// They must be those of the table.
    Same,
}

// ---------------------------------------------------------------------------------------------
// The statement

impl Copy {
    /// Returns what a statement copies from or to the client; `None` for any other statement.
    ///
    /// # Errors
    /// `42601`; `0A000` for options that copies do not have here.
    pub(super) fn parse(cut: &Cut<'_>) -> Result<Option<Self>> {
        let tokens: Vec<&Token> = cut.tokens.iter().map(|(token, _)| token).collect();
        let Some(at) = end_of_subject(&tokens) else { return Ok(None) };
        let span = |from: usize, to: usize| match from < to {
            true => &cut.text[cut.tokens[from].1.start..cut.tokens[to - 1].1.end],
            false => "",
        };
        let is_out = is_word(tokens[at], "TO");
        let form = Form::parse(&tokens[at + 2..])?;
        let malformed = || {
            PgError::new("42601", "syntax error: COPY copies a query or a table")
                .with_hint("COPY (SELECT …) TO STDOUT; COPY '/t.table' (a, b) FROM STDIN")
        };
        let is_list = |at: usize| matches!(tokens.get(at), Some(Token::LParen));
        if is_list(1) {
            let closes = *tokens[at - 1] == Token::RParen;
            let query = span(2, at - 1).to_owned();
            return match is_out && closes && !query.is_empty() {
                true => Ok(Some(Self::Out { query, form })),
                false => Err(malformed()),
            };
        }
        let open = (1..at).find(|at| is_list(*at)).unwrap_or(at);
        let table = span(1, open).to_owned();
        let columns = match open == at {
            true => "",
            false if *tokens[at - 1] == Token::RParen => span(open + 1, at - 1),
            false => return Err(malformed()),
        };
        if table.is_empty() || (open < at && columns.is_empty()) {
            return Err(malformed());
        }
        Ok(Some(match is_out {
            true => {
                let of = if columns.is_empty() { "*" } else { columns };
                Self::Out { query: format!("SELECT {of} FROM {table}"), form }
            }
            false => Self::In { table, columns: columns.to_owned(), form },
        }))
    }
}

fn is_word(token: &Token, wanted: &str) -> bool {
    matches!(token, Token::Word(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted))
}

/// Returns where `TO STDOUT` or `FROM STDIN` is.
fn end_of_subject(tokens: &[&Token]) -> Option<usize> {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            token if depth == 0 && (is_word(token, "TO") || is_word(token, "FROM")) => {
                let next = tokens.get(at + 1)?;
                let is_client = is_word(next, "STDOUT") || is_word(next, "STDIN");
                return (is_client && at > 1).then_some(at);
            }
            _ => {}
        }
    }
    None
}

/// An option, and its value.
type Given = (String, Option<String>);

impl Form {
    fn text() -> Self {
        Self {
            is_csv: false,
            header: Header::None,
            delimiter: b'\t',
            null: "\\N".to_owned(),
            quote: b'"',
            escape: b'"',
        }
    }

    fn csv() -> Self {
        Self { is_csv: true, delimiter: b',', null: String::new(), ..Self::text() }
    }

    /// Reads what follows STDOUT or STDIN.
    fn parse(tokens: &[&Token]) -> Result<Self> {
        let tokens = match tokens {
            [with, rest @ ..] if is_word(with, "WITH") => rest,
            all => all,
        };
        let given = match tokens {
            [Token::LParen, inner @ .., Token::RParen] => options(inner)?,
            _ => old_options(tokens)?,
        };
        let is_csv = match given.iter().find(|(name, _)| name == "FORMAT") {
            None => false,
            Some((_, format)) => match format.as_deref().map(str::to_lowercase).as_deref() {
                Some("text") => false,
                Some("csv") => true,
                Some("binary") => {
                    return Err(PgError::new("0A000", "COPY in binary is not spoken")
                        .with_hint("FORMAT text and FORMAT csv are"));
                }
                _ => return Err(malformed("FORMAT")),
            },
        };
        let mut form = if is_csv { Self::csv() } else { Self::text() };
        let byte = |name: &str, value: Option<String>| match value.as_deref().map(str::as_bytes) {
            Some([byte]) if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Ok(*byte),
            _ => Err(PgError::new("0A000", format!("COPY: {name} is one character of one byte"))),
        };
        let mut escape = None;
        let mut seen = HashSet::new();
        for (name, value) in given {
            if !seen.insert(name.clone()) {
                let message = format!("syntax error: COPY: {name} is given twice");
                return Err(PgError::new("42601", message));
            }
            match name.as_str() {
                "FORMAT" => {}
                "DELIMITER" => form.delimiter = byte("DELIMITER", value)?,
                "NULL" => form.null = value.ok_or_else(|| malformed("NULL"))?,
                "QUOTE" if is_csv => form.quote = byte("QUOTE", value)?,
                "ESCAPE" if is_csv => escape = Some(byte("ESCAPE", value)?),
                "HEADER" => {
                    form.header = match value.as_deref().map(str::to_lowercase).as_deref() {
                        None | Some("true" | "on" | "1") => Header::Names,
                        Some("false" | "off" | "0") => Header::None,
                        Some("match") => Header::Same,
                        Some(_) => return Err(malformed("HEADER")),
                    }
                }
                "ENCODING"
                    if value.as_deref().is_some_and(|name| {
                        name.eq_ignore_ascii_case("utf8") || name.eq_ignore_ascii_case("utf-8")
                    }) => {}
                other => return Err(not_taken(other)),
            }
        }
        form.escape = escape.unwrap_or(form.quote);
        let is_used = |byte: u8| form.null.as_bytes().contains(&byte);
        if is_used(form.delimiter) || is_used(b'\n') || is_used(b'\r') {
            return Err(PgError::new(
                "22023",
                "COPY: NULL must not hold the delimiter or a line end",
            ));
        }
        let is_taken = match is_csv {
            true => form.delimiter == form.quote,
            // They follow a backslash, or are one.
            false => {
                let byte = form.delimiter;
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'\\' | b'.')
            }
        };
        if is_taken {
            return Err(PgError::new("22023", "COPY: the delimiter means something else already"));
        }
        if is_csv && is_used(form.quote) {
            return Err(PgError::new("22023", "COPY: NULL must not hold the quote"));
        }
        Ok(form)
    }
}

fn malformed(option: &str) -> PgError {
    PgError::new("42601", format!("syntax error: COPY: the value of {option} makes no sense"))
}

/// Returns the text of a token that is a value.
fn value(token: &Token) -> Option<String> {
    match token {
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => Some(text.clone()),
        Token::Word(word) => Some(word.value.clone()),
        Token::Number(number, _) => Some(number.clone()),
        _ => None,
    }
}

/// Reads `(FORMAT csv, HEADER, …)`.
fn options(tokens: &[&Token]) -> Result<Vec<Given>> {
    let parts = tokens.split(|token| **token == Token::Comma);
    parts
        .map(|part| match part {
            [Token::Word(name)] => Ok((name.value.to_uppercase(), None)),
            [Token::Word(name), given] => {
                let name = name.value.to_uppercase();
                let given = value(given).ok_or_else(|| malformed(&name))?;
                Ok((name, Some(given)))
            }
            [Token::Word(name), ..] => Err(malformed(&name.value.to_uppercase())),
            _ => Err(PgError::new("42601", "syntax error: COPY: an option has a name")),
        })
        .collect()
}

/// Reads `CSV HEADER DELIMITER AS ';' …`, as options were before they were in parentheses.
fn old_options(tokens: &[&Token]) -> Result<Vec<Given>> {
    let mut given = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        let Token::Word(word) = token else {
            return Err(PgError::new("42601", format!("syntax error: COPY: {token} is no option")));
        };
        let name = word.value.to_uppercase();
        match name.as_str() {
            "CSV" | "BINARY" => given.push(("FORMAT".to_owned(), Some(name))),
            "HEADER" => given.push((name, None)),
            "DELIMITER" | "NULL" | "QUOTE" | "ESCAPE" | "ENCODING" => {
                at += usize::from(tokens.get(at).is_some_and(|token| is_word(token, "AS")));
                let value = tokens.get(at).and_then(|token| value(token));
                given.push((name.clone(), Some(value.ok_or_else(|| malformed(&name))?)));
                at += 1;
            }
            _ => return Err(not_taken(&name)),
        }
    }
    Ok(given)
}

fn not_taken(option: &str) -> PgError {
    PgError::new("0A000", format!("COPY takes no {option} here"))
        .with_hint("FORMAT, HEADER, DELIMITER, NULL, QUOTE and ESCAPE are taken")
}

// ---------------------------------------------------------------------------------------------
// Rows to lines

impl Form {
    pub(super) fn has_header(&self) -> bool {
        self.header != Header::None
    }

    /// Puts a line of values, of which `None` is null.
    pub(super) fn put_line<'a>(
        &self,
        values: impl ExactSizeIterator<Item = Option<&'a [u8]>>,
        out: &mut BytesMut,
    ) {
        let is_alone = values.len() == 1;
        for (at, value) in values.enumerate() {
            self.put_field(at, value, is_alone, out);
        }
        out.put_u8(b'\n');
    }

    /// Puts the value of the column `at`, behind a delimiter unless it is the first.
    pub(super) fn put_field(
        &self,
        at: usize,
        value: Option<&[u8]>,
        is_alone: bool,
        out: &mut BytesMut,
    ) {
        if at > 0 {
            out.put_u8(self.delimiter);
        }
        match value {
            None => out.put_slice(self.null.as_bytes()),
            Some(value) if self.is_csv => self.put_csv(value, is_alone, out),
            Some(value) => self.put_text(value, out),
        }
    }

    fn put_text(&self, value: &[u8], out: &mut BytesMut) {
        for &byte in value {
            let escaped = match byte {
                b'\\' => b'\\',
                0x08 => b'b',
                0x0c => b'f',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0x0b => b'v',
                other if other == self.delimiter => other,
                other => {
                    out.put_u8(other);
                    continue;
                }
            };
            out.put_slice(&[b'\\', escaped]);
        }
    }

    fn put_csv(&self, value: &[u8], is_alone: bool, out: &mut BytesMut) {
        let is_special = |byte: &u8| [self.delimiter, self.quote, b'\n', b'\r'].contains(byte);
        let is_quoted = value == self.null.as_bytes()
            || value.iter().any(is_special)
            // It would be the end.
            || is_alone && value == b"\\.";
        if !is_quoted {
            return out.put_slice(value);
        }
        out.put_u8(self.quote);
        for &byte in value {
            if byte == self.quote || byte == self.escape {
                out.put_u8(self.escape);
            }
            out.put_u8(byte);
        }
        out.put_u8(self.quote);
    }
}

// ---------------------------------------------------------------------------------------------
// Lines to rows

/// Makes batches of the bytes of a client.
pub(super) struct Decoder {
    form: Form,
    schema: SchemaRef,
    buffer: BytesMut,
    /// How much of the buffer is known to have no end of a record.
    scanned: usize,
    is_quoted: bool,
    is_escaped: bool,
    /// Whether the next line is that of names.
    is_header: bool,
    /// Whether the end was said.
    is_over: bool,
    columns: Vec<StringBuilder>,
    /// Rows of the batches before, and of this one.
    before: u64,
    rows: usize,
    bytes: usize,
}

impl Decoder {
    /// Makes one for rows of `schema`.
    pub(super) fn new(form: Form, schema: SchemaRef) -> Self {
        let columns = schema.fields().iter().map(|_| StringBuilder::new()).collect();
        let is_header = form.has_header();
        Self {
            form,
            schema,
            buffer: BytesMut::new(),
            scanned: 0,
            is_quoted: false,
            is_escaped: false,
            is_header,
            is_over: false,
            columns,
            before: 0,
            rows: 0,
            bytes: 0,
        }
    }

    /// Takes what a client sent. All batches are to be taken before there is more.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        if !self.is_over {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Returns the next batch that is full.
    ///
    /// # Errors
    /// `22P04` for lines that are none, `22P02` for values that are none of their type.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>> {
        while self.rows < BATCH_ROWS && self.bytes < BATCH_BYTES {
            let Some(end) = self.end_of_record() else {
                if self.buffer.len() > RECORD_BYTES_MAX {
                    let message = format!("COPY: row {} has no end", self.row());
                    return Err(PgError::new("54000", message)
                        .with_hint(format!("it may have {RECORD_BYTES_MAX} bytes")));
                }
                return Ok(None);
            };
            let record = self.buffer.split_to(end).freeze();
            self.buffer.advance(1);
            self.scanned = 0;
            self.record(record)?;
        }
        self.batch().map(Some)
    }

    /// Returns the last batch, when all was taken, and how many rows there were.
    ///
    /// # Errors
    /// Those of [`Decoder::next`].
    pub(super) fn finish(&mut self) -> Result<(RecordBatch, u64)> {
        if self.is_quoted {
            let message = format!("COPY: row {}: a quoted value has no end", self.row());
            return Err(PgError::new("22P04", message));
        }
        let rest = std::mem::take(&mut self.buffer).freeze();
        if !rest.is_empty() {
            self.record(rest)?;
        }
        let last = self.batch()?;
        Ok((last, self.before))
    }

    /// Returns the number of the row that comes next, from 1.
    fn row(&self) -> u64 {
        self.before + self.rows as u64 + 1
    }

    /// Returns where the first record of the buffer ends: at a line end that is in no value.
    fn end_of_record(&mut self) -> Option<usize> {
        let Form { is_csv, quote, escape, .. } = self.form;
        for (at, &byte) in self.buffer.iter().enumerate().skip(self.scanned) {
            if is_csv {
                let escapes = escape != quote && byte == escape && self.is_quoted;
                if byte == quote && !self.is_escaped {
                    self.is_quoted = !self.is_quoted;
                }
                self.is_escaped = escapes && !self.is_escaped;
                if byte == b'\n' && !self.is_quoted {
                    return Some(at);
                }
            } else {
                if byte == b'\n' && !self.is_escaped {
                    return Some(at);
                }
                self.is_escaped = byte == b'\\' && !self.is_escaped;
            }
        }
        self.scanned = self.buffer.len();
        None
    }

    /// Reads a record, without its line end.
    fn record(&mut self, record: Bytes) -> Result<()> {
        let record = record.strip_suffix(b"\r").unwrap_or(&record);
        if self.is_over {
            return Ok(());
        }
        if record == b"\\." {
            self.is_over = true;
            return Ok(());
        }
        let row = self.row();
        let fields = match self.form.is_csv {
            true => self.form.fields_of_csv(record, self.columns.len()),
            false => self.form.fields_of_text(record, self.columns.len()),
        };
        if std::mem::take(&mut self.is_header) {
            return self.check_header(&fields);
        }
        let expected = self.columns.len();
        if fields.len() != expected {
            let found = match fields.len() > expected {
                true => "more values than".to_owned(),
                false => format!("{} values for", fields.len()),
            };
            let message = format!("COPY: row {row} has {found} {expected} columns");
            return Err(PgError::new("22P04", message));
        }
        for (column, field) in self.columns.iter_mut().zip(&fields) {
            let Some(field) = field else {
                column.append_null();
                continue;
            };
            match std::str::from_utf8(field) {
                Ok(text) if !text.contains('\0') => column.append_value(text),
                _ => return Err(PgError::new("22021", format!("COPY: row {row} is no text"))),
            }
            self.bytes += field.len();
        }
        self.rows += 1;
        Ok(())
    }

    fn check_header(&self, names: &[Option<Vec<u8>>]) -> Result<()> {
        let is_same = || {
            names.len() == self.schema.fields().len()
                && names
                    .iter()
                    .zip(self.schema.fields())
                    .all(|(name, field)| name.as_deref() == Some(field.name().as_bytes()))
        };
        match self.form.header == Header::Same && !is_same() {
            true => {
                Err(PgError::new("22P04", "COPY: the first line has other names than the table"))
            }
            false => Ok(()),
        }
    }

    /// Makes a batch of the rows that are there.
    fn batch(&mut self) -> Result<RecordBatch> {
        let columns = self
            .columns
            .iter_mut()
            .zip(self.schema.fields())
            .map(|(texts, field)| {
                let texts = texts.finish();
                typed(&texts, field.data_type()).map_err(|wrong| match wrong {
                    Wrong::Value(at) => {
                        let row = self.before + at as u64 + 1;
                        let text: String = texts.value(at).chars().take(100).collect();
                        let message = format!(
                            "COPY: row {row}, column '{}': '{text}' is no {}",
                            field.name(),
                            field.data_type()
                        );
                        PgError::new("22P02", message)
                    }
                    Wrong::Type => {
                        let (name, of) = (field.name(), field.data_type());
                        PgError::new("0A000", format!("COPY: column '{name}': {of} has no text"))
                            .with_hint("name the other columns: COPY '/t.table' (a, b) FROM STDIN")
                    }
                    Wrong::Other(error) => error.into(),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        self.before += self.rows as u64;
        self.rows = 0;
        self.bytes = 0;
        Ok(RecordBatch::try_new(self.schema.clone(), columns).map_err(Error::from)?)
    }
}

impl Form {
    /// Returns the values of a record, no more than one beyond `most`; `None` is null.
    fn fields_of_text(&self, record: &[u8], most: usize) -> Vec<Option<Vec<u8>>> {
        let mut fields = Vec::new();
        let (mut begin, mut value, mut at) = (0, Vec::new(), 0);
        loop {
            match record.get(at) {
                Some(byte) if *byte != self.delimiter => {
                    let escaped = record.get(at + 1).filter(|_| *byte == b'\\');
                    match escaped {
                        Some(_) => at = unescape(record, at + 1, &mut value),
                        None => {
                            value.push(*byte);
                            at += 1;
                        }
                    }
                }
                end => {
                    let is_null = &record[begin..at] == self.null.as_bytes();
                    let field = std::mem::take(&mut value);
                    fields.push((!is_null).then_some(field));
                    if end.is_none() || fields.len() > most {
                        return fields;
                    }
                    at += 1;
                    begin = at;
                }
            }
        }
    }

    fn fields_of_csv(&self, record: &[u8], most: usize) -> Vec<Option<Vec<u8>>> {
        let mut fields = Vec::new();
        let (mut value, mut at) = (Vec::new(), 0);
        let (mut is_quoted, mut was_quoted) = (false, false);
        loop {
            match record.get(at) {
                Some(byte) if is_quoted => {
                    let next = record.get(at + 1);
                    let escaped = next.filter(|next| [self.quote, self.escape].contains(*next));
                    match escaped {
                        Some(escaped) if *byte == self.escape => {
                            value.push(*escaped);
                            at += 1;
                        }
                        _ if *byte == self.quote => is_quoted = false,
                        _ => value.push(*byte),
                    }
                }
                Some(byte) if *byte == self.quote => {
                    is_quoted = true;
                    was_quoted = true;
                }
                Some(byte) if *byte != self.delimiter => value.push(*byte),
                end => {
                    let is_null = !was_quoted && value == self.null.as_bytes();
                    let field = std::mem::take(&mut value);
                    fields.push((!is_null).then_some(field));
                    if end.is_none() || fields.len() > most {
                        return fields;
                    }
                    was_quoted = false;
                }
            }
            at += 1;
        }
    }
}

/// Puts what is behind a backslash, and returns where it ends.
fn unescape(record: &[u8], at: usize, value: &mut Vec<u8>) -> usize {
    let digits = |from: usize, most: usize, radix: u32| {
        let rest = &record[from..];
        let is_digit = |byte: &&u8| char::from(**byte).is_digit(radix);
        let count = rest.iter().take(most).take_while(is_digit).count();
        let number = rest[..count].iter().fold(0u32, |number, byte| {
            number * radix + char::from(*byte).to_digit(radix).unwrap_or(0)
        });
        (count, number as u8)
    };
    let byte = match record[at] {
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'0'..=b'7' => {
            let (count, byte) = digits(at, 3, 8);
            value.push(byte);
            return at + count;
        }
        b'x' if digits(at + 1, 2, 16).0 > 0 => {
            let (count, byte) = digits(at + 1, 2, 16);
            value.push(byte);
            return at + 1 + count;
        }
        other => other,
    };
    value.push(byte);
    at + 1
}

/// Why texts do not become values.
enum Wrong {
    /// The text at this place is none.
    Value(usize),
    /// The type has no texts.
    Type,
    Other(Error),
}

impl<E: Into<Error>> From<E> for Wrong {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Reads texts as values of a type.
fn typed(texts: &StringArray, to: &DataType) -> std::result::Result<ArrayRef, Wrong> {
    match to {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(cast(texts, to)?),
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => {
            let bytes = texts
                .iter()
                .enumerate()
                .map(|(at, text)| text.map(|text| unhex(text).ok_or(Wrong::Value(at))).transpose())
                .collect::<std::result::Result<Vec<_>, _>>()?;
            let bytes: BinaryArray = bytes.iter().map(Option::as_deref).collect();
            Ok(cast(&bytes, to)?)
        }
        DataType::Dictionary(_, values) => Ok(cast(&typed(texts, values)?, to)?),
        DataType::List(of) | DataType::LargeList(of) | DataType::FixedSizeList(of, _) => {
            let list = typed_list(texts, of.data_type())?;
            Ok(cast(&list, to)?)
        }
        to if to.is_nested() || !can_cast_types(&DataType::Utf8, to) => Err(Wrong::Type),
        to => {
            let texts: StringArray = texts.iter().map(|text| text.map(str::trim)).collect();
            let cast = |safe: bool| {
                let options = CastOptions { safe, format_options: FormatOptions::new() };
                cast_with_options(&texts, to, &options)
            };
            cast(false).map_err(|error| {
                let Ok(values) = cast(true) else { return error.into() };
                let is_wrong = |at: &usize| values.is_null(*at) && !texts.is_null(*at);
                (0..texts.len()).find(is_wrong).map_or_else(|| error.into(), Wrong::Value)
            })
        }
    }
}

fn typed_list(texts: &StringArray, of: &DataType) -> std::result::Result<ListArray, Wrong> {
    if of.is_nested() {
        return Err(Wrong::Type);
    }
    let mut elements = StringBuilder::new();
    let mut lengths = Vec::with_capacity(texts.len());
    // The row of each element.
    let mut rows = Vec::new();
    for (row, text) in texts.iter().enumerate() {
        let list = match text {
            None => Vec::new(),
            Some(text) => arrays::parse(text).ok_or(Wrong::Value(row))?,
        };
        lengths.push(list.len());
        for element in list {
            match element {
                Element::Null => elements.append_null(),
                Element::Text(text) => elements.append_value(text),
                Element::List(_) => return Err(Wrong::Value(row)),
            }
            rows.push(row);
        }
    }
    let values = typed(&elements.finish(), of).map_err(|wrong| match wrong {
        Wrong::Value(at) => Wrong::Value(rows[at]),
        other => other,
    })?;
    let field = datafusion::arrow::datatypes::Field::new_list_field(of.clone(), true);
    let offsets = OffsetBuffer::from_lengths(lengths);
    let nulls: Option<NullBuffer> = texts.nulls().cloned();
    Ok(ListArray::try_new(Arc::new(field), offsets, values, nulls)?)
}

/// Reads bytes as Postgres writes them: `\x00ff`.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| Some((digit(pair[0])? * 16 + digit(*pair.get(1)?)?) as u8);
    digits.chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{Field, Schema, TimeUnit};
    use datafusion::arrow::util::pretty::pretty_format_batches;

    use super::*;

    fn parse(text: &str) -> Result<Option<Copy>> {
        Copy::parse(&crate::sql::cut(text)[0])
    }

    fn form(options: &str) -> Form {
        match parse(&format!("COPY t FROM STDIN {options}")).unwrap().unwrap() {
            Copy::In { form, .. } | Copy::Out { form, .. } => form,
        }
    }

    fn schema(types: &[DataType]) -> SchemaRef {
        let fields = types.iter().enumerate();
        let fields = fields.map(|(at, of)| Field::new(format!("c{at}"), of.clone(), true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Decodes bytes that come in pieces of `size`, and shows the rows.
    fn decode(options: &str, types: &[DataType], text: &str, size: usize) -> Result<Vec<String>> {
        let mut decoder = Decoder::new(form(options), schema(types));
        let mut batches = Vec::new();
        for part in text.as_bytes().chunks(size) {
            decoder.take(part);
            while let Some(batch) = decoder.next()? {
                batches.push(batch);
            }
        }
        let (last, rows) = decoder.finish()?;
        batches.push(last);
        assert_eq!(rows, batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>());
        let shown = pretty_format_batches(&batches).unwrap().to_string();
        let lines = shown.lines().skip(3).filter(|line| line.starts_with('|'));
        Ok(lines
            .map(|line| {
                let cells = line.trim_matches('|').split(" | ");
                cells.map(str::trim).collect::<Vec<_>>().join("|")
            })
            .collect())
    }

    #[test]
    fn statements_are_understood() {
        let out = |query: &str, form| Some(Copy::Out { query: query.to_owned(), form });
        let into = |table: &str, columns: &str, form| {
            Some(Copy::In { table: table.to_owned(), columns: columns.to_owned(), form })
        };
        let header = Form { header: Header::Names, ..Form::csv() };
        for (text, expected) in [
            (
                "COPY  ( SELECT f(1) FROM 'x' ) TO STDOUT CSV HEADER",
                out("SELECT f(1) FROM 'x'", header.clone()),
            ),
            ("copy '/t.table' to stdout", out("SELECT * FROM '/t.table'", Form::text())),
            (
                "COPY \"/d\".\"t\" (a, \"B\") TO STDOUT",
                out("SELECT a, \"B\" FROM \"/d\".\"t\"", Form::text()),
            ),
            (
                "COPY t (a,b) FROM STDIN WITH (FORMAT csv, HEADER true, DELIMITER ';', NULL 'x')",
                into("t", "a,b", Form { delimiter: b';', null: "x".to_owned(), ..header.clone() }),
            ),
            (
                "COPY t FROM stdin WITH DELIMITER AS E'\\t' NULL AS E'\\\\N'",
                into("t", "", Form::text()),
            ),
            ("COPY (SELECT 1) TO './a.csv'", None),
            ("COPY t FROM '/a'", None),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for (text, code) in [
            ("COPY t TO STDOUT BINARY", "0A000"),
            ("COPY t TO STDOUT (FORMAT binary)", "0A000"),
            ("COPY t FROM STDIN (FORCE_NULL (a))", "42601"),
            ("COPY t FROM STDIN CSV WHERE a > 1", "0A000"),
            ("COPY t FROM STDIN (DELIMITER 'ab')", "0A000"),
            ("COPY t FROM STDIN (NULL '\\t', DELIMITER 't')", "22023"),
            ("COPY (SELECT 1) FROM STDIN", "42601"),
            ("COPY t () FROM STDIN", "42601"),
        ] {
            assert_eq!(parse(text).unwrap_err().code, code, "{text}");
        }
    }

    #[test]
    fn lines_become_rows_wherever_they_are_cut() {
        use DataType::{Int64, Utf8};
        let text = "1\ta\\tb\\\\\n\\N\t\n3\tx\\\ny\\x41\\101\n\\.\n9\tno\n";
        let csv = "n,s\r\n1,\"a,\"\"b\"\"\nc\"\r\n,\"\"\r\n3,x\"y\"z\r\n";
        for size in [1, 2, 3, 1000] {
            let rows = decode("", &[Int64, Utf8], text, size).unwrap();
            assert_eq!(rows, ["1|a\tb\\", "|", "3|x", "|yAA"], "{size}");
            let rows = decode("CSV HEADER", &[Int64, Utf8], csv, size).unwrap();
            assert_eq!(rows, ["1|a,\"b\"", "|c", "|", "3|xyz"], "{size}");
        }
        let escaped = decode("CSV ESCAPE '\\'", &[Utf8], "\"a\\\"b\\\\\"\nc\\\n", 1).unwrap();
        assert_eq!(escaped, ["a\"b\\", "c\\"]);
    }

    #[test]
    fn values_are_read_as_their_types() {
        let list = DataType::new_list(DataType::Int32, true);
        let types = [
            DataType::Boolean,
            DataType::Float64,
            DataType::Decimal128(10, 2),
            DataType::Date32,
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
            DataType::Time64(TimeUnit::Microsecond),
            DataType::BinaryView,
            list.clone(),
        ];
        let row = "t, -1e3,12.5,2026-01-31,2026-01-31 12:00:00.25,2026-01-31 11:00:00+00,01:02:03.5,\\x00ff,\"{1,NULL,3}\"\n";
        assert_eq!(
            decode("CSV", &types, row, 100).unwrap(),
            [
                "true|-1000.0|12.50|2026-01-31|2026-01-31T12:00:00.250|2026-01-31T11:00:00Z|01:02:03.500|00ff|[1, , 3]"
            ]
        );
        let nothing = decode("CSV", &types, ",,,,,,,,\n", 100).unwrap();
        assert_eq!(nothing, ["||||||||"]);
        for (of, text, code) in [
            (DataType::Int32, "1\nx\n", "22P02"),
            (DataType::Int8, "300\n", "22P02"),
            (DataType::Date32, "soon\n", "22P02"),
            (DataType::Binary, "00ff\n", "22P02"),
            (list, "\"{1,{2}}\"\n", "22P02"),
            (DataType::Int32, "1,2\n", "22P04"),
            (DataType::Utf8, "\"a\n", "22P04"),
            (DataType::Struct(vec![Field::new("a", DataType::Int8, true)].into()), "x\n", "0A000"),
        ] {
            let wrong = decode("CSV", &[of], text, 100).unwrap_err();
            assert_eq!(wrong.code, code, "{text}: {}", wrong.message);
        }
        let wrong = decode("CSV HEADER", &[DataType::Int32], "c0\n1\nx\n", 100).unwrap_err();
        assert_eq!(wrong.message, "COPY: row 2, column 'c0': 'x' is no Int32");
        assert!(decode("(FORMAT csv, HEADER match)", &[DataType::Utf8], "c1\n", 9).is_err());
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let values = ["", "a", "\\N", "a\tb\nc\r", "\"q\"", ",;", "\\.", "é\\"];
        for options in ["", "CSV", "CSV DELIMITER ';' QUOTE '''' NULL 'a'", "DELIMITER ','"] {
            let form = form(options);
            let mut out = BytesMut::new();
            for value in values {
                form.put_line([Some(value.as_bytes()), None].into_iter(), &mut out);
            }
            let mut decoder = Decoder::new(form, schema(&[DataType::Utf8, DataType::Utf8]));
            decoder.take(&out);
            assert!(decoder.next().unwrap().is_none());
            let (batch, rows) = decoder.finish().unwrap();
            assert_eq!(rows, values.len() as u64, "{options}");
            let expected: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
            assert_eq!(batch.column(0), &expected, "{options}");
            assert_eq!(batch.column(1).null_count(), values.len(), "{options}");
        }
    }
}
