//! Where the records of a text, and their values, begin and end.
//!
//! [`Scanner::index`] looks at 64 bytes at a time, as simdjson does: comparisons make a bit for each
//! byte that may end something, and the bits that are set are gone through one by one. A quote opens
//! a value only at its start; from there on the text is searched for the quote that closes it. LF, CR
//! and CRLF end records, mixed as they may be.
//!
//! An [`Index`] is rectangular: a record with too few or too many values is a [`Misfit`] and, as
//! [`OnError`] has it, ends the scan, is left out, or is made to fit: values that are missing end
//! before they start.

use memchr::{memchr, memchr2, memrchr2};
use wide::u8x16;

use super::options::{Dialect, OnError};

/// The values of some records: of `text[start(r, c)..end(r, c)]`, quotes and all.
#[derive(Debug, Default)]
pub(super) struct Index {
    columns: usize,
    /// Where each record starts.
    starts: Vec<u32>,
    /// Where each value ends, record by record.
    ends: Vec<u32>,
}

/// A record that is not as wide as the header, or is torn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Misfit {
    /// Where the record starts.
    pub start: usize,
    /// Where it ends, before its line break.
    pub end: usize,
    pub what: Fault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It has this number of values.
    Values(usize),
    /// A quoted value goes on behind its closing quote.
    BehindQuote,
    /// A quote is never closed.
    Unclosed,
}

/// Finds records and values.
#[derive(Debug, Clone)]
pub(super) struct Scanner {
    delimiter: u8,
    quote: Option<u8>,
    escape: Option<u8>,
    comment: Option<u8>,
    pub columns: usize,
    on_error: OnError,
}

impl Index {
    pub fn rows(&self) -> usize {
        self.starts.len()
    }

    /// Returns where a value is; one that is missing ends before it starts.
    pub fn value(&self, row: usize, column: usize) -> (usize, usize) {
        let at = row * self.columns + column;
        let start = match column {
            0 => self.starts[row],
            _ => self.ends[at - 1] + 1,
        };
        (start as usize, self.ends[at] as usize)
    }

    /// Returns where a record starts.
    pub fn start(&self, row: usize) -> usize {
        self.starts[row] as usize
    }

    /// Returns the record that holds the byte at a place, if any does.
    pub fn row_at(&self, at: usize) -> Option<usize> {
        let row = self.starts.partition_point(|start| *start as usize <= at).checked_sub(1)?;
        let end = self.ends[(row + 1) * self.columns - 1];
        (at < end as usize).then_some(row)
    }

    /// Returns the column whose value holds the byte at a place of a record, if any does.
    pub fn column_at(&self, row: usize, at: usize) -> Option<usize> {
        (0..self.columns).find(|column| {
            let (start, end) = self.value(row, *column);
            (start..end).contains(&at)
        })
    }

    /// Returns those of some places, which are in order, that the records reach over.
    pub fn within<'a>(&self, places: &'a [usize]) -> &'a [usize] {
        let (Some(first), Some(last)) = (self.starts.first(), self.ends.last()) else { return &[] };
        let from = places.partition_point(|place| *place < *first as usize);
        let to = places.partition_point(|place| *place < *last as usize);
        &places[from..to.max(from)]
    }

    fn clear(&mut self, columns: usize) {
        self.columns = columns;
        self.starts.clear();
        self.ends.clear();
    }
}

impl Scanner {
    pub fn new(dialect: &Dialect, columns: usize, on_error: OnError) -> Self {
        let Dialect { delimiter, quote, escape, .. } = *dialect;
        let comment = dialect.comment.filter(|_| !dialect.comments_lead);
        Self { delimiter, quote, escape, comment, columns, on_error }
    }

    /// Returns one for the header: every record fits, and what stands before it may be comments.
    pub fn of_header(dialect: &Dialect, columns: usize) -> Self {
        let comment = dialect.comment;
        Self { comment, ..Self::new(dialect, columns, OnError::Null) }
    }

    /// Indexes up to `rows_max` records of `text` from `at` on, and returns where the next one
    /// starts. The text ends with a record.
    ///
    /// # Errors
    /// The first misfit, if misfits are errors.
    pub fn index(
        &self,
        text: &[u8],
        at: usize,
        rows_max: usize,
        index: &mut Index,
        misfits: &mut Vec<Misfit>,
    ) -> Result<usize, Misfit> {
        index.clear(self.columns);
        let mut rows = Rows { scanner: self, text, index, misfits, record: at, torn: None };
        let mut field = at;
        let mut base = self.skip_comments(text, at);
        if base != at {
            (rows.record, field) = (base, base);
        }
        'blocks: while base < text.len() {
            let mut bits = self.bits(text, base);
            while bits != 0 {
                let at = base + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let byte = text[at];
                if byte == self.delimiter {
                    rows.index.ends.push(offset(at));
                    field = at + 1;
                } else if Some(byte) == self.quote {
                    if at == field {
                        base = match self.close(text, at + 1) {
                            Some(closed) => {
                                if !self.ends_here(text, closed) {
                                    rows.torn = Some(Fault::BehindQuote);
                                }
                                closed
                            }
                            // The record ends with its line: a stray quote takes no other along.
                            None => {
                                rows.torn = Some(Fault::Unclosed);
                                at + 1
                            }
                        };
                        // What is behind the quote is not at the start of a value.
                        field = usize::MAX;
                        continue 'blocks;
                    }
                } else {
                    rows.end(at)?;
                    let is_pair = byte == b'\r' && text.get(at + 1) == Some(&b'\n');
                    let next = at + 1 + usize::from(is_pair);
                    let after = self.skip_comments(text, next);
                    rows.record = after;
                    field = after;
                    if rows.index.rows() == rows_max {
                        return Ok(after);
                    }
                    if is_pair {
                        // The second byte of the pair.
                        bits &= bits.wrapping_sub(1);
                    }
                    if after != next || next > base + BLOCK {
                        base = after;
                        continue 'blocks;
                    }
                }
            }
            base += BLOCK;
        }
        if rows.record < text.len() {
            rows.end(text.len())?;
        }
        Ok(text.len())
    }

    /// Returns where the last record that ends within `text` does; `text` starts with one. A CR at
    /// the end of the text may be half of a line end, so it ends nothing.
    pub fn last_end(&self, text: &[u8]) -> Option<usize> {
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let quoted = self.quote.is_some_and(|quote| memchr(quote, text).is_some());
        if !quoted {
            return memrchr2(b'\n', b'\r', text).map(|at| at + 1);
        }
        let (mut field, mut last) = (0, None);
        let mut base = self.skip_comments(text, 0);
        field += base;
        'blocks: while base < text.len() {
            let mut bits = self.bits(text, base);
            while bits != 0 {
                let at = base + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let byte = text[at];
                if byte == self.delimiter {
                    field = at + 1;
                } else if Some(byte) == self.quote {
                    if at == field {
                        base = self.close(text, at + 1).unwrap_or(text.len());
                        field = usize::MAX;
                        continue 'blocks;
                    }
                } else {
                    let next = at + 1;
                    last = Some(next);
                    let after = self.skip_comments(text, next);
                    field = after;
                    if after != next {
                        base = after;
                        continue 'blocks;
                    }
                }
            }
            base += BLOCK;
        }
        last
    }

    /// Returns the position behind lines that are comments.
    pub fn skip_comments(&self, text: &[u8], mut at: usize) -> usize {
        let Some(comment) = self.comment else { return at };
        while text.get(at) == Some(&comment) {
            at = memchr2(b'\n', b'\r', &text[at..]).map_or(text.len(), |end| at + end + 1);
            if text[at - 1] == b'\r' && text.get(at) == Some(&b'\n') {
                at += 1;
            }
        }
        at
    }

    /// Returns the position behind the quote that closes the value from `at` on.
    fn close(&self, text: &[u8], mut at: usize) -> Option<usize> {
        let quote = self.quote?;
        loop {
            let found = match self.escape {
                Some(escape) if escape != quote => at + memchr2(quote, escape, text.get(at..)?)?,
                _ => at + memchr(quote, text.get(at..)?)?,
            };
            let is_doubled = self.escape.is_none_or(|escape| escape == quote)
                && text.get(found + 1) == Some(&quote);
            if text[found] == quote && !is_doubled {
                return Some(found + 1);
            }
            // The byte behind it is one of the value's.
            at = found + 2;
        }
    }

    /// Whether a value ends at `at`, but for blanks.
    fn ends_here(&self, text: &[u8], at: usize) -> bool {
        let rest = &text[at..];
        let next = rest.iter().find(|byte| **byte != b' ' || **byte == self.delimiter);
        next.is_none_or(|byte| *byte == self.delimiter || *byte == b'\n' || *byte == b'\r')
    }

    /// Returns a bit for each of the next bytes that is a delimiter, a quote, or ends a line.
    fn bits(&self, text: &[u8], base: usize) -> u64 {
        let mut padded = [0u8; BLOCK];
        let block: &[u8; BLOCK] = match text.get(base..base + BLOCK) {
            Some(block) => block.try_into().expect("it is that long"),
            None => {
                let rest = &text[base..];
                padded[..rest.len()].copy_from_slice(rest);
                // Bytes of zero are no text's end, unless somebody chose them to be.
                let bits = self.block_bits(&padded);
                return bits & !(u64::MAX << rest.len());
            }
        };
        self.block_bits(block)
    }

    #[inline(always)]
    fn block_bits(&self, block: &[u8; BLOCK]) -> u64 {
        let delimiter = u8x16::splat(self.delimiter);
        let quote = u8x16::splat(self.quote.unwrap_or(b'\n'));
        let (lf, cr) = (u8x16::splat(b'\n'), u8x16::splat(b'\r'));
        let mut bits = 0;
        for part in 0..BLOCK / 16 {
            let bytes: [u8; 16] =
                block[part * 16..part * 16 + 16].try_into().expect("it is that long");
            let bytes = u8x16::new(bytes);
            let found =
                bytes.cmp_eq(delimiter) | bytes.cmp_eq(quote) | bytes.cmp_eq(lf) | bytes.cmp_eq(cr);
            // The bits beyond the sixteenth are not set.
            bits |= u64::from(found.move_mask().cast_unsigned()) << (part * 16);
        }
        bits
    }
}

/// Bytes looked at together.
const BLOCK: usize = 64;

/// Records being ended.
struct Rows<'a> {
    scanner: &'a Scanner,
    text: &'a [u8],
    index: &'a mut Index,
    misfits: &'a mut Vec<Misfit>,
    /// Where the record starts.
    record: usize,
    /// What is wrong with it.
    torn: Option<Fault>,
}

impl Rows<'_> {
    /// Ends the record, the last value of which ends at `at`.
    #[inline]
    fn end(&mut self, at: usize) -> Result<(), Misfit> {
        let columns = self.scanner.columns;
        let before = self.index.starts.len() * columns;
        let values = self.index.ends.len() - before + 1;
        let is_blank = columns > 1 && at == self.record;
        if values == columns && self.torn.is_none() && !is_blank {
            self.index.ends.push(offset(at));
            self.index.starts.push(offset(self.record));
            return Ok(());
        }
        self.end_misfit(at, before, values)
    }

    #[cold]
    fn end_misfit(&mut self, at: usize, before: usize, values: usize) -> Result<(), Misfit> {
        let is_blank = self.text[self.record..at].iter().all(|byte| *byte == b' ');
        if is_blank && values == 1 {
            return Ok(());
        }
        let what = self.torn.take().unwrap_or(Fault::Values(values));
        let misfit = Misfit { start: self.record, end: at, what };
        match self.scanner.on_error {
            OnError::Fail => return Err(misfit),
            OnError::Skip => self.index.ends.truncate(before),
            OnError::Null => {
                let columns = self.scanner.columns;
                self.index.ends.push(offset(at));
                self.index.ends.truncate(before + columns);
                // A value that is missing ends where the one before did, and starts behind that.
                self.index.ends.resize(before + columns, offset(at));
                self.index.starts.push(offset(self.record));
            }
        }
        self.misfits.push(misfit);
        Ok(())
    }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("a chunk is far below 4 GiB")
}
