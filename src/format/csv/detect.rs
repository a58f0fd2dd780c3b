//! Detects how a CSV is to be read, from its first part: what is between values, around them and
//! at the start of comments, whether there is a header, and what the columns hold.
//!
//! The idea is that of van den Burg, Nazábal and Sutton (*Wrangling messy CSV files by detecting row
//! and type patterns*, 2019), as DuckDB simplifies it: of the dialects that can be meant, take the
//! one by which records have the same number of values, and more values have a type. Ours counts
//! against the first record, which is what a reader holds the others to; a delimiter that is not in
//! it is none. The delimiters are `,` `;` TAB and `|`, quotes are `"` and `'`. Others, such as `:`
//! and blanks, are in ordinary values too often, and have to be given.
//!
//! What is given is taken; in doubt, things are as in most files: `,`, `"`, doubled quotes, no
//! comments, a header. A doubtful text fails when it is read, with the line, rather than falling
//! apart in another way without a word:
//! - `'` quotes only where whole columns have it around their values, and `"` nothing.
//! - `\` escapes only where quoted values would go on behind their quotes without it.
//! - `#` begins comments only if the text does, and if no such line later on has as many values as
//!   a record.
//! - A first record is data only if it has numbers or times where later ones have them, too; or, in
//!   a table of texts, if later ones share some of its values and not all.
//!
//! It takes time that is linear in the sample: most texts have one delimiter in their first record,
//! and are passed over once. Blank lines are skipped: in a text of one column they are nulls, which
//! tell nothing.

use std::collections::{HashMap, HashSet};

use memchr::{memchr, memchr_iter, memchr2};

use super::decode::without_invalid;
use super::kinds::{Classifier, Kinds, decide, trim};
use super::{Compression, CsvColumn, CsvOptions, Dialect, Encoding, Layout, OnError};
use crate::error::{Error, Result, did_you_mean};

/// What can be between values, by preference.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// How much of a sample tells dialects apart.
const SCORED_BYTES: usize = 64 * 1024;

/// How many records tell dialects apart.
const SCORED_RECORDS: usize = 500;

/// After so many records, a column that has held text is not looked at any more.
const TEXT_RECORDS: usize = 100;

/// Detects how a text is to be read, from `sample`, its beginning in UTF-8, decompressed, with or
/// without a byte order mark. `is_whole` says whether this is the whole text: else the last record
/// may be cut off, and does not count. `temporal_column` is the name of a column that is to hold
/// times: numbers there are times if the options' format says so.
///
/// The layout's compression and encoding are the options', or else none and UTF-8: who read the
/// sample knows better. A text without records has no columns.
///
/// # Errors
/// `Invalid` for a declared column that the text does not have, and for a format of times that is
/// none; `Corrupt` for what is not UTF-8, unless such is rejected, and for a part of a text in which no record ends.
pub(super) fn detect(
    sample: &[u8],
    is_whole: bool,
    options: &CsvOptions,
    temporal_column: Option<&str>,
) -> Result<Layout> {
    let sample = sample.strip_prefix(b"\xef\xbb\xbf").unwrap_or(sample);
    let cleaned;
    let sample = match options.on_error.unwrap_or(OnError::Fail) {
        OnError::Fail => {
            check_utf8(sample, is_whole)?;
            sample
        }
        OnError::Skip | OnError::Null => {
            check_utf16(sample)?;
            (cleaned, _) = without_invalid(sample);
            cleaned.as_bytes()
        }
    };
    let mut dialect = Dialect {
        delimiter: options.delimiter.unwrap_or(b','),
        quote: options.quote.unwrap_or(Some(b'"')),
        escape: options.escape.flatten(),
        comment: options.comment.flatten(),
        comments_lead: options.comment.is_none(),
        has_header: options.has_header.unwrap_or(true),
        nulls: options.null_values.clone().unwrap_or_default(),
        timestamp_format: options.timestamp_format.clone(),
        compression: options.compression.unwrap_or(Compression::None),
        encoding: options.encoding.unwrap_or(Encoding::Utf8),
    };
    let classifier = Classifier::new(&dialect)?;
    let temporal_column = temporal_column.filter(|_| dialect.timestamp_format.is_some());
    let detector = Detector { text: sample, is_whole, options, classifier, temporal_column };
    let survey = detector.choose();
    if survey.records == 0 && !is_whole {
        return Err(Error::corrupt(format!(
            "no record ends in the first {} KiB",
            sample.len().div_ceil(1024)
        ))
        .with_hint("if a quote is never closed, give another 'quote', or 'none'"));
    }
    dialect.delimiter = survey.syntax.delimiter;
    dialect.quote = survey.syntax.quote;
    dialect.escape = survey.syntax.escape;
    dialect.comment = survey.syntax.comment;
    dialect.has_header = detector.has_header(&survey);
    let columns = columns(&survey, dialect.has_header, options)?;
    let on_error = options.on_error.unwrap_or(OnError::Fail);
    Ok(Layout { dialect, columns, on_error, widens: on_error == OnError::Fail, is_whole })
}

/// Fails for what is not UTF-8, other than a character that the end of a part cuts off.
fn check_utf8(text: &[u8], is_whole: bool) -> Result<()> {
    check_utf16(text)?;
    let Err(error) = std::str::from_utf8(text) else { return Ok(()) };
    if error.error_len().is_none() && !is_whole {
        return Ok(());
    }
    let (before, rest) = text.split_at(error.valid_up_to());
    Err(Error::corrupt(format!("line {}: byte 0x{:02X} is not UTF-8", line_at(before), rest[0]))
        .with_hint("if the text is in Latin-1 (or Windows-1252), say so: encoding => 'latin1'"))
}

/// Fails for UTF-16 without a byte order mark: as long as it is Latin, it is UTF-8, too.
fn check_utf16(text: &[u8]) -> Result<()> {
    let encoding = match text.get(..4) {
        Some([a, 0, b, 0]) if *a > 0 && *b > 0 => "utf-16le",
        Some([0, a, 0, b]) if *a > 0 && *b > 0 => "utf-16be",
        _ => return Ok(()),
    };
    Err(Error::corrupt("line 1: every other byte is NUL")
        .with_hint(format!("if the text is in UTF-16, say so: encoding => '{encoding}'")))
}

/// Returns the number of the line that comes after `before`, from 1.
fn line_at(before: &[u8]) -> usize {
    let ends = memchr_iter(b'\n', before).count();
    let lone = memchr_iter(b'\r', before).filter(|at| before.get(at + 1) != Some(&b'\n')).count();
    1 + ends + lone
}

/// What tells values apart.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Syntax {
    delimiter: u8,
    quote: Option<u8>,
    escape: Option<u8>,
    comment: Option<u8>,
}

/// What a syntax makes of a text.
#[derive(Debug)]
struct Survey<'a> {
    syntax: Syntax,
    /// Records, with the first.
    records: usize,
    /// The values of the first record, and their kinds.
    first: Vec<(Value<'a>, Kinds)>,
    /// The kinds of the values of later records, by column of the first.
    kinds: Vec<Kinds>,
    /// Whether a value of a later record is bare, and not null, by column of the first.
    bare: Vec<bool>,
    /// Later records with as many values as the first.
    even: usize,
    /// How many values the second record has, and how many later ones have as many.
    second: (usize, usize),
    /// Values of later records that are not null, and how many of them have a type.
    values: usize,
    typed: usize,
    /// Values in quotes, and how many of them go on behind their quotes.
    quoted: usize,
    ragged: usize,
    /// Whether the text ends within quotes.
    is_open: bool,
    /// Comments before the first record, and later ones with as many values as it.
    leading_comments: usize,
    full_comments: usize,
}

impl Survey<'_> {
    fn new(syntax: Syntax) -> Self {
        Self {
            syntax,
            records: 0,
            first: Vec::new(),
            kinds: Vec::new(),
            bare: Vec::new(),
            even: 0,
            second: (0, 0),
            values: 0,
            typed: 0,
            quoted: 0,
            ragged: 0,
            is_open: false,
            leading_comments: 0,
            full_comments: 0,
        }
    }

    /// Adds a later record of `count` values, those within the columns being of `kinds`.
    fn add(&mut self, kinds: &[Kinds], count: usize) {
        for (all, kind) in self.kinds.iter_mut().zip(kinds) {
            *all |= *kind;
            self.values += usize::from(*kind != Kinds::NULL);
            self.typed += usize::from(!kind.meets(Kinds::NULL | Kinds::TEXT));
        }
        if self.records == 1 {
            self.second.0 = count;
        }
        self.second.1 += usize::from(count == self.second.0);
        self.even += usize::from(count == self.first.len());
    }

    /// Says how well the syntax fits, from 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "counts of a sample")]
    fn score(&self) -> f64 {
        let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
        let even = if self.records > 1 { share(self.even, self.records - 1) } else { 1.0 };
        let several = 1.0 - share(1, self.first.len());
        let typed = 0.1 + 0.9 * share(self.typed, self.values);
        even * even * several * typed * (1.0 - share(self.ragged, self.quoted))
    }

    /// Counts what would be wrong about the quotes.
    fn misquoted(&self) -> usize {
        self.ragged + usize::from(self.is_open)
    }

    /// Whether there are quotes around all values of a column.
    fn has_quoted_column(&self) -> bool {
        match self.records {
            0 | 1 => self.first.iter().all(|(value, _)| value.quoted),
            _ => {
                self.kinds.iter().zip(&self.bare).any(|(kinds, bare)| {
                    !bare && kinds.meets(Kinds::from_bits(!Kinds::NULL.bits()))
                })
            }
        }
    }

    /// Tells from the kinds of values whether the first record is a header, if they tell.
    fn header_by_kinds(&self) -> Option<bool> {
        let columns = || self.first.iter().map(|(_, first)| *first).zip(self.kinds.iter().copied());
        let is_name = |(first, rest): (Kinds, Kinds)| {
            let is_other = first == Kinds::TEXT || families(first) != 0;
            is_other
                && families(rest) != 0
                && !rest.meets(Kinds::TEXT)
                && families(first) & families(rest) == 0
        };
        let is_data = |(first, rest): (Kinds, Kinds)| families(first) & families(rest) != 0;
        if columns().any(is_name) {
            Some(true)
        } else if columns().any(is_data) {
            Some(false)
        } else {
            None
        }
    }
}

/// Says which families kinds are of, a bit for each: booleans, numbers, times. What is like a value
/// may be a number or a time.
fn families(kinds: Kinds) -> u8 {
    let numbers = Kinds::NUMBERS | Kinds::LIKE;
    let times = Kinds::TIMES | Kinds::LIKE;
    u8::from(kinds.meets(Kinds::BOOLEAN))
        | u8::from(kinds.meets(numbers)) << 1
        | u8::from(kinds.meets(times)) << 2
}

/// A text, and what is said of it.
struct Detector<'a> {
    text: &'a [u8],
    is_whole: bool,
    options: &'a CsvOptions,
    classifier: Classifier,
    temporal_column: Option<&'a str>,
}

impl<'a> Detector<'a> {
    /// Surveys the text by the syntax that fits it best.
    fn choose(&self) -> Survey<'a> {
        if let Some(comment) = self.options.comment {
            return self.choose_with(comment);
        }
        if self.text.first() != Some(&b'#') {
            return self.choose_with(None);
        }
        let survey = self.choose_with(Some(b'#'));
        if survey.records == 0 || survey.full_comments > 0 {
            return self.choose_with(None);
        }
        // The only comment may be a header: `#id,name`.
        if survey.leading_comments == 1
            && self.text.get(1).is_some_and(u8::is_ascii_alphanumeric)
            && survey.header_by_kinds() != Some(true)
        {
            let bare = self.choose_with(None);
            if bare.first.len() > 1 && bare.even + 1 == bare.records {
                return bare;
            }
        }
        survey
    }

    fn choose_with(&self, comment: Option<u8>) -> Survey<'a> {
        let escape = self.options.escape.flatten();
        let (delimiter, quote) = self.choose_separators(escape, comment);
        let syntax = Syntax { delimiter, quote, escape, comment };
        let mut survey = self.survey_all(syntax);
        if survey.misquoted() > 0 && quote == Some(b'\'') && self.options.quote.is_none() {
            survey = self.survey_all(Syntax { quote: Some(b'"'), ..syntax });
        }
        if survey.misquoted() > 0 && self.options.escape.is_none() {
            let escaped = self.survey_all(Syntax { escape: Some(b'\\'), ..survey.syntax });
            if escaped.misquoted() < survey.misquoted() {
                return escaped;
            }
        }
        survey
    }

    /// Chooses what is between and around values.
    fn choose_separators(&self, escape: Option<u8>, comment: Option<u8>) -> (u8, Option<u8>) {
        let (head, is_whole) = match self.text.get(..SCORED_BYTES) {
            Some(head) if head.len() < self.text.len() => (head, false),
            _ => (self.text, self.is_whole),
        };
        let survey = |delimiter, quote, records| {
            let syntax = Syntax { delimiter, quote, escape, comment };
            self.survey(head, is_whole, syntax, records)
        };
        let quotes = match self.options.quote {
            Some(quote) => vec![quote],
            None if memchr(b'\'', head).is_some() => vec![Some(b'"'), Some(b'\'')],
            None => vec![Some(b'"')],
        };
        let mut candidates = Vec::new();
        for quote in quotes {
            match self.options.delimiter {
                Some(delimiter) => candidates.push((delimiter, quote)),
                None => candidates.extend(
                    DELIMITERS
                        .into_iter()
                        .filter(|delimiter| survey(*delimiter, quote, 1).first.len() > 1)
                        .map(|delimiter| (delimiter, quote)),
                ),
            }
        }
        match candidates.as_slice() {
            [] => return self.choose_for_one_column(escape, comment),
            [only] => return *only,
            _ => {}
        }
        let mut best: Option<(f64, (u8, Option<u8>))> = None;
        let mut has_double_quotes = false;
        for (delimiter, quote) in candidates {
            let survey = survey(delimiter, quote, SCORED_RECORDS);
            if quote == Some(b'\'') && self.options.quote.is_none() {
                if has_double_quotes || survey.misquoted() > 0 || !survey.has_quoted_column() {
                    continue;
                }
            } else {
                has_double_quotes |= survey.quoted > 0;
            }
            let score = survey.score();
            // Quotes that would be part of values otherwise are worth more than none.
            let is_better = |(other_score, other): (f64, (u8, Option<u8>))| {
                score > other_score || score >= other_score && other == (delimiter, Some(b'"'))
            };
            if best.is_none_or(is_better) {
                best = Some((score, (delimiter, quote)));
            }
        }
        match best {
            Some((_, chosen)) => chosen,
            None => self.choose_for_one_column(escape, comment),
        }
    }

    /// Chooses for a text whose first record is one value: a delimiter that is in no other, either;
    /// or one that all others have alike, so that a title above a table is an error.
    fn choose_for_one_column(&self, escape: Option<u8>, comment: Option<u8>) -> (u8, Option<u8>) {
        let quote = self.options.quote.unwrap_or(Some(b'"'));
        let surveys = DELIMITERS.map(|delimiter| {
            let occurs = memchr(delimiter, self.text).is_some();
            occurs.then(|| self.survey_all(Syntax { delimiter, quote, escape, comment }))
        });
        let makes_table = |survey: &Survey| {
            let (values, alike) = survey.second;
            values > 1 && alike > 1 && alike * 10 >= (survey.records - 1) * 9
        };
        let makes_column = |survey: &Survey| survey.even + 1 >= survey.records;
        let table = surveys.iter().position(|survey| survey.as_ref().is_some_and(makes_table));
        let chosen = table
            .or_else(|| surveys.iter().position(|survey| survey.as_ref().is_none_or(makes_column)));
        (DELIMITERS[chosen.unwrap_or(0)], quote)
    }

    fn survey_all(&self, syntax: Syntax) -> Survey<'a> {
        self.survey(self.text, self.is_whole, syntax, usize::MAX)
    }

    /// Looks at the records of a text, up to `records_max` of them.
    fn survey(
        &self,
        text: &'a [u8],
        is_whole: bool,
        syntax: Syntax,
        records_max: usize,
    ) -> Survey<'a> {
        let mut survey = Survey::new(syntax);
        let mut scanner = Scanner::new(text, syntax);
        let mut temporal = None;
        // The last record counts only once it has ended.
        let mut row: Vec<Kinds> = Vec::new();
        while survey.records < records_max {
            match scanner.begin() {
                Begin::End => break,
                Begin::Comment(_) if survey.records == 0 => survey.leading_comments += 1,
                Begin::Comment(line) => {
                    let values = memchr_iter(syntax.delimiter, line).count() + 1;
                    survey.full_comments += usize::from(values == survey.first.len());
                }
                Begin::Record => {
                    let is_first = survey.records == 0;
                    let mut count = 0;
                    let end = loop {
                        let value = scanner.value();
                        survey.quoted += usize::from(value.quoted);
                        survey.ragged += usize::from(value.is_ragged);
                        survey.is_open |= value.is_open;
                        if is_first {
                            let kinds = self.classifier.classify(value.bytes, value.quoted);
                            survey.first.push((value, kinds));
                        } else if count < row.len() {
                            row[count] = if temporal == Some(count) {
                                self.classifier.classify_time(value.bytes, value.quoted)
                            } else if survey.records > TEXT_RECORDS
                                && survey.kinds[count].meets(Kinds::TEXT)
                            {
                                Kinds::TEXT
                            } else {
                                self.classifier.classify(value.bytes, value.quoted)
                            };
                            survey.bare[count] |= !value.quoted && row[count] != Kinds::NULL;
                        }
                        count += 1;
                        if value.end != End::Value {
                            break value.end;
                        }
                    };
                    if end == End::Text && !is_whole {
                        if is_first {
                            survey.first.clear();
                        }
                        break;
                    }
                    if is_first {
                        row = vec![Kinds::NONE; count];
                        survey.kinds.clone_from(&row);
                        survey.bare = vec![false; count];
                        temporal = self.temporal_position(&survey.first);
                        if let Some((value, kinds)) = temporal.map(|at| &mut survey.first[at]) {
                            *kinds = self.classifier.classify_time(value.bytes, value.quoted);
                        }
                    } else {
                        survey.add(&row[..count.min(row.len())], count);
                    }
                    survey.records += 1;
                }
            }
        }
        // A part of a text may end within quotes.
        survey.is_open &= is_whole;
        survey
    }
}

impl Detector<'_> {
    /// Returns the position of the column of times by the names in the first record, or by the
    /// names of columns without a header.
    fn temporal_position(&self, first: &[(Value, Kinds)]) -> Option<usize> {
        let wanted = self.temporal_column?;
        let has_header = self.options.has_header.unwrap_or(true);
        let by_header = has_header.then(|| position(&names(first, true), wanted)).flatten();
        by_header.or_else(|| {
            let positional = positional_names(self.options, first.len(), has_header);
            position(&positional.unwrap_or_else(|| names(first, false)), wanted)
        })
    }

    /// Tells whether the first record is a header.
    fn has_header(&self, survey: &Survey) -> bool {
        if let Some(given) = self.options.has_header {
            return given;
        }
        let is_declared = || {
            let names = names(&survey.first, true);
            self.options.columns.iter().any(|(name, _)| position(&names, name).is_some())
        };
        if survey.first.is_empty() || is_declared() {
            return true;
        }
        if survey.records == 1 {
            let is_name = |kinds: &Kinds| kinds.is_within(Kinds::NULL | Kinds::TEXT);
            return survey.first.iter().all(|(_, kinds)| is_name(kinds));
        }
        survey.header_by_kinds().unwrap_or_else(|| !self.has_likes_of_first(survey))
    }

    /// Whether several later records share some of the first one's values, and not all, as a header
    /// within a text would.
    fn has_likes_of_first(&self, survey: &Survey) -> bool {
        if survey.first.len() == 1 {
            return false;
        }
        let mut scanner = Scanner::new(self.text, survey.syntax);
        let mut records = 0;
        let mut alike = 0;
        loop {
            match scanner.begin() {
                Begin::End => return false,
                Begin::Comment(_) => {}
                Begin::Record => {
                    let mut shared = 0;
                    let mut count = 0;
                    loop {
                        let value = scanner.value();
                        let other = survey.first.get(count).map(|(first, _)| first.bytes);
                        shared += usize::from(
                            !trim(value.bytes).is_empty() && other == Some(value.bytes),
                        );
                        count += 1;
                        if value.end != End::Value {
                            break;
                        }
                    }
                    records += 1;
                    alike += usize::from(records > 1 && shared > 0 && shared < survey.first.len());
                    if alike > 1 {
                        return true;
                    }
                }
            }
        }
    }
}

/// Names the columns, and tells their types.
fn columns(survey: &Survey, has_header: bool, options: &CsvOptions) -> Result<Vec<CsvColumn>> {
    let positional = positional_names(options, survey.first.len(), has_header);
    let names = positional.unwrap_or_else(|| names(&survey.first, has_header));
    let mut columns: Vec<CsvColumn> = names
        .into_iter()
        .zip(&survey.first)
        .zip(&survey.kinds)
        .map(|((name, (_, first)), rest)| {
            let seen = if has_header { *rest } else { *rest | *first };
            CsvColumn { name, data_type: decide(seen), is_declared: false, seen: seen.bits() }
        })
        .collect();
    // An empty text has no columns, whatever they would be.
    for (name, data_type) in options.columns.iter().filter(|_| survey.records > 0) {
        let names = columns.iter().map(|column| column.name.as_str());
        let at = position(&names.clone().collect::<Vec<_>>(), name).ok_or_else(|| {
            let hint = did_you_mean(name, names.clone())
                .unwrap_or_else(|| format!("there are {}", listed(names)));
            Error::invalid(format!("there is no column '{name}'")).with_hint(hint)
        })?;
        columns[at].data_type = data_type.clone();
        columns[at].is_declared = true;
    }
    Ok(columns)
}

/// Lists the first few names.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const NAMES_MAX: usize = 20;
    let mut names: Vec<_> = names.take(NAMES_MAX + 1).map(|name| format!("'{name}'")).collect();
    if names.len() > NAMES_MAX {
        names[NAMES_MAX] = "…".to_owned();
    }
    names.join(", ")
}

/// Returns the position of a name as it is, or else without regard to case.
fn position(names: &[impl AsRef<str>], wanted: &str) -> Option<usize> {
    let exact = names.iter().position(|name| name.as_ref() == wanted);
    exact.or_else(|| {
        let wanted = wanted.to_lowercase();
        names.iter().position(|name| name.as_ref().to_lowercase() == wanted)
    })
}

/// Returns the declared names for a text that is said to have no header, if they are as many as its
/// columns.
fn positional_names(options: &CsvOptions, columns: usize, has_header: bool) -> Option<Vec<String>> {
    let names: Vec<_> = options.columns.iter().map(|(name, _)| name.clone()).collect();
    (!has_header && options.has_header.is_some() && names.len() == columns).then_some(names)
}

/// Names columns by the header, or by number, so that no two have the same name: of equal names, the
/// first stays as it is.
fn names(first: &[(Value, Kinds)], has_header: bool) -> Vec<String> {
    let names: Vec<String> = first
        .iter()
        .enumerate()
        .map(|(at, (value, _))| match has_header.then(|| value.name()) {
            Some(name) if !name.is_empty() => name,
            _ => format!("column_{}", at + 1),
        })
        .collect();
    let taken: HashSet<&str> = names.iter().map(String::as_str).collect();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    names
        .iter()
        .map(|name| {
            let count = counts.entry(name).or_insert(0);
            let mut unique = name.clone();
            while *count > 0 && taken.contains(unique.as_str()) {
                unique = format!("{name}_{count}");
                *count += 1;
            }
            *count = (*count).max(1);
            unique
        })
        .collect()
}

/// Goes through the values of a text.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    syntax: Syntax,
    /// Whether a byte ends a bare value.
    ends: [bool; 256],
}

/// What begins at the start of a line.
#[derive(Debug, Clone, Copy)]
enum Begin<'a> {
    Record,
    Comment(&'a [u8]),
    End,
}

/// A value as it is written.
#[derive(Debug, Clone, Copy)]
struct Value<'a> {
    /// What is between its quotes, or all of it.
    bytes: &'a [u8],
    /// Its quote and escape, if it is in quotes.
    quoted: bool,
    escape: u8,
    quote: u8,
    /// Whether it goes on behind the quote that ends it.
    is_ragged: bool,
    /// Whether the text ends within its quotes.
    is_open: bool,
    end: End,
}

/// What comes after a value.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Value,
    Record,
    Text,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a [u8], syntax: Syntax) -> Self {
        let mut ends = [false; 256];
        for byte in [syntax.delimiter, b'\n', b'\r'] {
            ends[usize::from(byte)] = true;
        }
        Self { text, at: 0, syntax, ends }
    }

    /// Skips blank lines; passes a comment.
    fn begin(&mut self) -> Begin<'a> {
        while let Some(b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
        let rest = &self.text[self.at..];
        match rest.first() {
            None => Begin::End,
            Some(byte) if Some(*byte) == self.syntax.comment => {
                let length = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                self.at += length;
                Begin::Comment(&rest[..length])
            }
            Some(_) => Begin::Record,
        }
    }

    /// Passes a value and what ends it.
    #[inline]
    fn value(&mut self) -> Value<'a> {
        match self.syntax.quote {
            Some(quote) if self.text.get(self.at) == Some(&quote) => self.quoted_value(quote),
            _ => {
                let start = self.at;
                let end = self.pass_bare();
                let bytes = &self.text[start..self.at - usize::from(end != End::Text)];
                Value {
                    bytes,
                    quoted: false,
                    escape: 0,
                    quote: 0,
                    is_ragged: false,
                    is_open: false,
                    end,
                }
            }
        }
    }

    /// Passes bytes up to, and with, a delimiter or a line end.
    #[inline]
    fn pass_bare(&mut self) -> End {
        let rest = &self.text[self.at..];
        match rest.iter().position(|byte| self.ends[usize::from(*byte)]) {
            None => {
                self.at = self.text.len();
                End::Text
            }
            Some(length) => {
                self.at += length + 1;
                match rest[length] == self.syntax.delimiter {
                    true => End::Value,
                    false => End::Record,
                }
            }
        }
    }

    fn quoted_value(&mut self, quote: u8) -> Value<'a> {
        let escape = self.syntax.escape.unwrap_or(quote);
        let start = self.at + 1;
        let mut closing = None;
        self.at = start;
        while let Some(length) = memchr2(quote, escape, &self.text[self.at..]) {
            let found = self.at + length;
            let next = self.text.get(found + 1);
            let escapes = self.text[found] == escape
                && next.is_some_and(|next| escape != quote || *next == quote);
            if escapes {
                self.at = found + 2;
            } else if self.text[found] == quote {
                closing = Some(found);
                break;
            } else {
                self.at = found + 1;
            }
        }
        let value = |bytes, is_ragged, is_open, end| Value {
            bytes,
            quoted: true,
            escape,
            quote,
            is_ragged,
            is_open,
            end,
        };
        let Some(closing) = closing else {
            self.at = self.text.len();
            return value(&self.text[start..], false, true, End::Text);
        };
        self.at = closing + 1;
        let end = self.pass_bare();
        let behind = self.at - usize::from(end != End::Text);
        match behind == closing + 1 {
            true => value(&self.text[start..closing], false, false, end),
            false => value(&self.text[start..behind], true, false, end),
        }
    }
}

impl Value<'_> {
    /// Returns the value as the name of a column, without the blanks around it.
    fn name(&self) -> String {
        let mut bytes = Vec::with_capacity(self.bytes.len());
        let mut rest = self.bytes.iter();
        while let Some(byte) = rest.next() {
            let is_escape = self.quoted
                && *byte == self.escape
                && (self.escape != self.quote || rest.as_slice().first() == Some(&self.quote));
            bytes.push(match is_escape {
                true => *rest.next().unwrap_or(byte),
                false => *byte,
            });
        }
        String::from_utf8_lossy(trim(&bytes)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes a layout in short: delimiter, quote, escape, comment, header, columns.
    fn sketch(text: &[u8], options: &CsvOptions) -> String {
        match detect(text, true, options, None) {
            Ok(layout) => sketch_of(&layout),
            Err(error) => format!("error: {}", error.message()),
        }
    }

    fn sketch_of(layout: &Layout) -> String {
        let Dialect { delimiter, quote, escape, comment, has_header, .. } = &layout.dialect;
        let byte = |byte: Option<u8>| byte.map_or('-', char::from);
        let delimiter = char::from(*delimiter).escape_default();
        let columns = layout.columns.iter().map(|column| {
            let data_type = match column.data_type.to_string().as_str() {
                "Utf8View" => "text".to_owned(),
                other => other.to_lowercase(),
            };
            format!("{} {data_type}", column.name)
        });
        format!(
            "{delimiter} {} {} {} {}: {}",
            byte(*quote),
            byte(*escape),
            byte(*comment),
            if *has_header { "header" } else { "data" },
            columns.collect::<Vec<_>>().join(", "),
        )
    }

    #[test]
    fn ugly_texts_have_layouts() {
        for (text, expected) in [
            // Nothing, or little.
            ("", r#", " - - header: "#),
            ("\u{feff}", r#", " - - header: "#),
            ("\n\r\n\n", r#", " - - header: "#),
            ("a", r#", " - - header: a text"#),
            ("a,b\n", r#", " - - header: a text, b text"#),
            ("a;b,c;d\n", r#"; " - - header: a text, b,c text, d text"#),
            ("1,2\n", r#", " - - data: column_1 int64, column_2 int64"#),
            ("2024-01-01\n", r#", " - - data: column_1 date32"#),
            // Delimiters.
            ("a,b\n1,x\n", r#", " - - header: a int64, b text"#),
            ("a;b\n1;x\n", r#"; " - - header: a int64, b text"#),
            ("a\tb\n1\tx\n", r#"\t " - - header: a int64, b text"#),
            ("a|b\n1|x\n", r#"| " - - header: a int64, b text"#),
            ("id;v\n1;1,5\n2;2,5\n", r#"; " - - header: id int64, v text"#),
            ("1,5;2,5\n3,5;4,5\n", r#"; " - - data: column_1 text, column_2 text"#),
            ("Doe, John;5\nRoe, Jane;6\n", r#"; " - - data: column_1 text, column_2 int64"#),
            ("name,note\nx,a;b;c\ny,d;e;f\n", r#", " - - header: name text, note text"#),
            ("a,b;c\n1,2;3\n4,5;6\n", r#"; " - - header: a,b text, c int64"#),
            ("t,v\n10:00,1\n11:00,2\n", r#", " - - header: t text, v int64"#),
            ("a,b\n\"x|y\",\"z|w\"\n", r#", " - - header: a text, b text"#),
            ("a,b,\n1,2,\n", r#", " - - header: a int64, b int64, column_3 text"#),
            // One column.
            ("a\n1\n2\n", r#", " - - header: a int64"#),
            ("a\n\n1\n\n", r#", " - - header: a int64"#),
            ("comment\nhello, you\nbye\n", r#"; " - - header: comment text"#),
            ("comment\n\"hello, you\"\nbye\n", r#", " - - header: comment text"#),
            ("10:00\n11:00\n", r#", " - - data: column_1 text"#),
            // A title above a table is left to fail.
            ("Report\na,b\n1,2\n3,4\n", r#", " - - header: Report text"#),
            // Line ends.
            ("a,b\r\n1,2\r\n", r#", " - - header: a int64, b int64"#),
            ("a,b\r1,2\r", r#", " - - header: a int64, b int64"#),
            ("a,b\n1,2\r\n\r\n3,4\r5,6", r#", " - - header: a int64, b int64"#),
            ("\u{feff}a,b\n1,2\n", r#", " - - header: a int64, b int64"#),
            // Quotes.
            ("\"a\",\"b\"\n\"1\",\"x\"\n", r#", " - - header: a int64, b text"#),
            ("\"a\"\"b\",\"c\nd\"\n1,\"x\ny\"\n", ", \" - - header: a\"b int64, c\nd text"),
            ("'a','b'\n'1','x,y'\n'2','z'\n", r#", ' - - header: a int64, b text"#),
            ("a,b\n1,'x'\n2,'y'\n", r#", ' - - header: a int64, b text"#),
            ("a,b\n1,'x'\n2,y\n", r#", " - - header: a int64, b text"#),
            ("a,b\n1,'tis\n2,'twas\n", r#", " - - header: a int64, b text"#),
            ("a,b\n1,'x'\n\"2\",'y'\n", r#", " - - header: a int64, b text"#),
            ("a,b\n5\" pipe,2\n", r#", " - - header: a text, b int64"#),
            ("a,b\n1,\"x\n", r#", " - - header: a int64, b text"#),
            ("a,b\n\"\",1\n,2\n", r#", " - - header: a text, b int64"#),
            // Escapes.
            ("a,b\n1,\"x \\\"y\\\", z\"\n", r#", " \ - header: a int64, b text"#),
            ("a,b\n1,\"x \"\"y\"\", z\"\n", r#", " - - header: a int64, b text"#),
            ("a,b\n1,\"C:\\dir\\\"\n2,\"D:\\\"\n", r#", " - - header: a int64, b text"#),
            ("a,b\n1,\"x\" y\n", r#", " - - header: a int64, b text"#),
            // Comments.
            ("# made\n# by me\na,b\n1,2\n", r##", " - # header: a int64, b int64"##),
            ("# made, by me\na,b\n1,2\n", r##", " - # header: a int64, b int64"##),
            ("#made,by me\na,b\n1,2\n", r##", " - # header: a int64, b int64"##),
            ("#a,b\n1,2\n3,4\n", r##", " - - header: #a int64, b int64"##),
            ("a,b\n#1,2\n3,4\n", r#", " - - header: a text, b int64"#),
            ("# x\na,b\n1,2\n#3,4\n", r#", " - - header: # x text"#),
            ("# x\na,b\n1,2\n# three\n", r##", " - # header: a int64, b int64"##),
            ("#a\n#b\n", r##", " - - header: #a text"##),
            // Headers.
            ("1,2\n3,4\n", r#", " - - data: column_1 int64, column_2 int64"#),
            ("1.5,x\n2,y\n", r#", " - - data: column_1 float64, column_2 text"#),
            ("x,1\ny,2\n", r#", " - - data: column_1 text, column_2 int64"#),
            ("name,2019\nx,5\n", r#", " - - data: column_1 text, column_2 int64"#),
            ("id,2019\n1,5\n", r#", " - - header: id int64, 2019 int64"#),
            ("day,2019\n2024-01-01,5\n", r#", " - - header: day date32, 2019 int64"#),
            (",name\n1,x\n2,y\n", r#", " - - header: column_1 int64, name text"#),
            ("value\n1\nn/a\n2\n", r#", " - - header: value text"#),
            ("5\n1\nn/a\n2\n", r#", " - - data: column_1 text"#),
            ("code\n007\n008\n", r#", " - - header: code text"#),
            ("31.12.2024,x\n1.1.2025,y\n", r#", " - - data: column_1 text, column_2 text"#),
            ("007\n12\n", r#", " - - data: column_1 text"#),
            ("name,city\nann,x\nbob,y\n", r#", " - - header: name text, city text"#),
            ("red,x\nblue,y\nred,z\nred,w\n", r#", " - - data: column_1 text, column_2 text"#),
            ("a,b\nx,y\na,b\nz,w\na,b\n", r#", " - - header: a text, b text"#),
            ("a,a,b,a_1\n1,2,3,4\n", r#", " - - header: a int64, a_2 int64, b int64, a_1 int64"#),
            ("a,a,a\n1,2,3\n", r#", " - - header: a int64, a_1 int64, a_2 int64"#),
            (
                ",column_1, b \n1,2,3\n",
                r#", " - - header: column_1 int64, column_1_1 int64, b int64"#,
            ),
            // Types.
            ("a\n1\n9223372036854775807\n", r#", " - - header: a int64"#),
            ("a\n1.5\n9007199254740993\n", r#", " - - header: a text"#),
            ("a\n1\n9223372036854775808\n", r#", " - - header: a text"#),
            ("a\n1\nnan\n", r#", " - - header: a float64"#),
            ("a,b\nnan,1\ninf,2\n", r#", " - - header: a text, b int64"#),
            ("a\ntrue\nFALSE\n", r#", " - - header: a boolean"#),
            ("a\n2024-01-01\n2024-01-01 10:00\n", r#", " - - header: a timestamp(µs)"#),
            ("a\n2024-01-01T10:00:00.1234567\n", r#", " - - header: a timestamp(ns)"#),
            ("a\n2024-01-01T10:00Z\n", r#", " - - header: a timestamp(µs, "utc")"#),
            ("a\n2024-01-01T10:00Z\n2024-01-01T10:00\n", r#", " - - header: a text"#),
            ("a,b\n 1 , 2024-01-01 \n", r#", " - - header: a int64, b date32"#),
            ("a,b\n1\n2,3,4\n", r#", " - - header: a int64, b int64"#),
            ("a,b\nx\u{0}y,1\n", r#", " - - header: a text, b int64"#),
        ] {
            assert_eq!(sketch(text.as_bytes(), &CsvOptions::default()), expected, "{text:?}");
        }
    }

    #[test]
    fn options_go_before_what_is_detected() {
        let text = b"#a;b\n'1,5';x\n";
        let given = |change: fn(&mut CsvOptions)| {
            let mut options = CsvOptions::default();
            change(&mut options);
            sketch(text, &options)
        };
        assert_eq!(given(|_| {}), "; ' - - header: #a text, b text");
        assert_eq!(
            given(|options| options.delimiter = Some(b',')),
            r##", " - # header: '1 text, 5';x text"##
        );
        assert_eq!(given(|options| options.quote = Some(None)), "; - - - header: #a text, b text");
        assert_eq!(
            given(|options| options.escape = Some(Some(b'^'))),
            "; ' ^ - header: #a text, b text"
        );
        assert_eq!(
            given(|options| options.comment = Some(Some(b'#'))),
            r##", " - # header: '1 text, 5';x text"##
        );
        assert_eq!(
            given(|options| options.has_header = Some(false)),
            "; ' - - data: column_1 text, column_2 text"
        );
        assert_eq!(
            given(|options| options.null_values = Some(vec!["x".to_owned()])),
            "; ' - - header: #a text, b text"
        );
    }

    #[test]
    fn declared_columns_override() {
        use datafusion::arrow::datatypes::DataType;
        let declared = |names: &[&str], has_header| CsvOptions {
            columns: names.iter().map(|name| ((*name).to_owned(), DataType::Float32)).collect(),
            has_header,
            ..CsvOptions::default()
        };
        let text = b"Amount,note\n1,2\n";
        let layout = detect(text, true, &declared(&["amount"], None), None).unwrap();
        assert_eq!(sketch_of(&layout), r#", " - - header: Amount float32, note int64"#);
        assert!(layout.columns[0].is_declared && !layout.columns[1].is_declared);
        let error = detect(text, true, &declared(&["amuont"], None), None).unwrap_err();
        assert_eq!(error.message(), "there is no column 'amuont'");
        assert_eq!(error.hint(), Some("did you mean 'Amount'?"));
        // A declared name in the first record makes it a header.
        let layout = detect(b"x,5\n1,6\n", true, &declared(&["x"], None), None).unwrap();
        assert_eq!(sketch_of(&layout), r#", " - - header: x float32, 5 int64"#);
        // Without a header, as many names as columns are theirs.
        let layout = detect(b"1,2\n3,4\n", true, &declared(&["x", "y"], Some(false)), None);
        assert_eq!(sketch_of(&layout.unwrap()), r#", " - - data: x float32, y float32"#);
        let layout = detect(b"1,2\n3,4\n", true, &declared(&["column_2"], Some(false)), None);
        assert_eq!(
            sketch_of(&layout.unwrap()),
            r#", " - - data: column_1 int64, column_2 float32"#
        );
        // An empty text has no columns to be declared.
        assert!(detect(b"", true, &declared(&["x"], None), None).unwrap().columns.is_empty());
    }

    #[test]
    fn a_column_of_times_can_hold_numbers() {
        let options =
            |format| CsvOptions { timestamp_format: Some(format), ..CsvOptions::default() };
        let text = b"n,time\n20240101,20240131\n1,20240201\n";
        let days = options(super::super::TimestampFormat::Strftime("%Y%m%d".to_owned()));
        let layout = detect(text, true, &days, Some("Time")).unwrap();
        assert_eq!(sketch_of(&layout), r#", " - - header: n int64, time date32"#);
        let epoch = options(super::super::TimestampFormat::Epoch(1));
        let layout = detect(text, true, &epoch, Some("time")).unwrap();
        assert_eq!(sketch_of(&layout), r#", " - - header: n int64, time timestamp(µs, "utc")"#);
        let layout = detect(b"1,2\n3,4\n", true, &epoch, Some("column_2")).unwrap();
        let expected = r#", " - - data: column_1 int64, column_2 timestamp(µs, "utc")"#;
        assert_eq!(sketch_of(&layout), expected);
        assert_eq!(
            sketch(text, &epoch),
            r#", " - - header: n int64, time int64"#,
            "without a name it is a number"
        );
    }

    #[test]
    fn a_part_leaves_out_its_last_record() {
        let options = CsvOptions::default();
        let layout = detect(b"a,b\n1,2\n3,x", false, &options, None).unwrap();
        assert_eq!(sketch_of(&layout), r#", " - - header: a int64, b int64"#);
        assert!(!layout.is_whole);
        // A character that the end cuts off is no error.
        detect(b"a,b\n1,2\n3,\xc3", false, &options, None).unwrap();
        let error = detect(b"a,\"b\n1,2\n", false, &options, None).unwrap_err();
        assert_eq!(error.message(), "no record ends in the first 1 KiB");
    }

    #[test]
    fn other_encodings_are_errors_with_a_line() {
        for (text, expected) in [
            (&b"a\n1\r\n2\r\xe9t\xe9\n"[..], "error: line 4: byte 0xE9 is not UTF-8"),
            (b"a,\xc3", "error: line 1: byte 0xC3 is not UTF-8"),
            (b"a\0,\0b\0\n\0", "error: line 1: every other byte is NUL"),
        ] {
            assert_eq!(sketch(text, &CsvOptions::default()), expected);
        }
    }

    #[test]
    fn many_columns_of_one_name_take_no_time() {
        let text = "a,".repeat(200_000) + "\n";
        let layout = detect(text.as_bytes(), true, &CsvOptions::default(), None).unwrap();
        assert_eq!(layout.columns[199_999].name, "a_199999");
    }

    fn ugly_text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just("\"".to_owned()),
            Just("'".to_owned()),
            Just("\\".to_owned()),
            Just("#".to_owned()),
            Just(",".to_owned()),
            Just(";".to_owned()),
            Just("\r".to_owned()),
            Just("\n".to_owned()),
            Just("\u{feff}".to_owned()),
            Just("\0".to_owned()),
            Just("2024-01-01".to_owned()),
            Just("-1.5e3".to_owned()),
            "[a-z é]{0,4}",
        ];
        prop_oneof![
            prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat().into_bytes()),
            prop::collection::vec(any::<u8>(), 0..200),
        ]
    }

    proptest! {
        #[test]
        fn no_text_is_too_ugly(text in ugly_text(), is_whole: bool) {
            if let Ok(layout) = detect(&text, is_whole, &CsvOptions::default(), None) {
                let names: HashSet<_> = layout.columns.iter().map(|column| &column.name).collect();
                prop_assert_eq!(names.len(), layout.columns.len());
                for column in &layout.columns {
                    prop_assert_eq!(&column.data_type, &decide(Kinds::from_bits(column.seen)));
                }
            }
        }
    }
}
