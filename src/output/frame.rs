//! Rows as a framed table that fits a terminal.
//!
//! The first [`TABLE_HEAD_ROWS`] rows tell how wide the columns would like to be. What does not fit
//! is cut, and each cut is seen by its `…`: texts become narrower first, the widest of them most;
//! then columns from the middle are left out; last, all else becomes narrower. A text of many lines
//! takes as many. Below the table is how many rows it has.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::cell::{Column, is_number, is_plain, type_name};
use super::escape::{escape_controls, isolate};
use super::table::{TABLE_HEAD_ROWS, escape_cell};
use super::text::Encoder;
use super::{Style, Terminal, Written, count_text};
use crate::error::Result;

/// Texts do not become narrower than this while there are columns to leave out.
const TEXT_WIDTH_MIN: usize = 12;

/// What a column has beside its cells: a blank on both sides and a line.
const MARGIN: usize = 3;

const DIM: &str = "\u{1b}[2m";
const BOLD: &str = "\u{1b}[1m";
const RESET: &str = "\u{1b}[0m";

pub(super) struct FrameEncoder {
    terminal: Terminal,
    header: bool,
    null: String,
    fields: Vec<Field>,
    /// What is shown, from left to right.
    shown: Vec<Shown>,
}

struct Field {
    name: String,
    type_name: String,
    is_number: bool,
    /// Whether its texts may become narrower before columns are left out.
    is_text: bool,
}

/// A column of the picture.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Shown {
    /// The column `at`, so wide.
    Column { at: usize, width: usize },
    /// Columns that are left out.
    Gap,
}

impl FrameEncoder {
    pub(super) fn new(schema: &SchemaRef, style: &Style, terminal: Terminal) -> Self {
        let fields = schema.fields().iter().map(|field| Field {
            name: escape_controls(field.name()),
            type_name: escape_controls(&type_name(field.data_type())),
            is_number: is_number(field.data_type()),
            is_text: !is_plain(field.data_type()),
        });
        Self {
            terminal,
            header: style.header,
            null: escape_cell(style.null.as_deref().unwrap_or("NULL")),
            fields: fields.collect(),
            shown: Vec::new(),
        }
    }

    fn cell(&self, column: &Column, row: usize) -> Result<String> {
        if column.is_null(row) {
            return Ok(self.null.clone());
        }
        let mut cell = Vec::new();
        column.text(row, &mut cell)?;
        Ok(escape_cell(&String::from_utf8_lossy(&cell)))
    }

    /// Appends a line of the frame, as `┌───┬───┐`.
    fn push_rule(&self, [left, middle, right]: [&str; 3], text: &mut Vec<u8>) {
        let rules: Vec<String> =
            self.shown.iter().map(|shown| "─".repeat(shown.width() + MARGIN - 1)).collect();
        text.extend_from_slice(format!("{left}{}{right}\n", rules.join(middle)).as_bytes());
    }

    /// Appends a row; `cell` returns the text of a column, and how it is coloured.
    fn push_row<'a>(
        &self,
        cell: impl Fn(usize) -> (&'a str, Option<&'static str>),
        text: &mut Vec<u8>,
    ) {
        let cells: Vec<(Vec<&str>, Option<&str>, bool)> = self
            .shown
            .iter()
            .map(|shown| match shown {
                Shown::Gap => (vec!["…"], None, false),
                Shown::Column { at, .. } => {
                    let (cell, color) = cell(*at);
                    (cell.split('\n').collect(), color, self.fields[*at].is_number)
                }
            })
            .collect();
        let height = cells.iter().map(|(lines, _, _)| lines.len()).max().unwrap_or(0);
        for line in 0..height {
            for ((lines, color, is_right), shown) in cells.iter().zip(&self.shown) {
                text.extend_from_slice("│ ".as_bytes());
                let cell = cut(lines.get(line).unwrap_or(&""), shown.width());
                let padding = " ".repeat(shown.width().saturating_sub(cell.width()));
                let cell = match color {
                    Some(color) if self.terminal.color => {
                        format!("{color}{}{RESET}", isolate(cell))
                    }
                    _ => isolate(cell),
                };
                let cell = match is_right {
                    true => format!("{padding}{cell} "),
                    false => format!("{cell}{padding} "),
                };
                text.extend_from_slice(cell.as_bytes());
            }
            text.extend_from_slice("│\n".as_bytes());
        }
    }
}

impl Encoder for FrameEncoder {
    fn head_rows(&self) -> usize {
        TABLE_HEAD_ROWS
    }

    fn begin(&mut self, head: &[RecordBatch], text: &mut Vec<u8>) -> Result<()> {
        if self.fields.is_empty() {
            return Ok(());
        }
        let mut widths: Vec<usize> = match self.header {
            true => {
                let width = |field: &Field| field.name.width().max(field.type_name.width());
                self.fields.iter().map(width).collect()
            }
            false => vec![1; self.fields.len()],
        };
        let mut rows_left = TABLE_HEAD_ROWS;
        for batch in head {
            let rows = batch.num_rows().min(rows_left);
            rows_left -= rows;
            for (column, width) in Column::all(batch)?.iter().zip(&mut widths) {
                for row in 0..rows {
                    let cell = self.cell(column, row)?;
                    *width = cell.split('\n').map(UnicodeWidthStr::width).fold(*width, usize::max);
                }
            }
        }
        let is_text: Vec<bool> = self.fields.iter().map(|field| field.is_text).collect();
        self.shown = fit(&widths, &is_text, self.terminal.width);
        self.push_rule(["┌", "┬", "┐"], text);
        if self.header {
            self.push_row(|at| (&self.fields[at].name, Some(BOLD)), text);
            self.push_row(|at| (&self.fields[at].type_name, Some(DIM)), text);
            self.push_rule(["├", "┼", "┤"], text);
        }
        Ok(())
    }

    fn rows(&self, batch: &RecordBatch, _: u64, text: &mut Vec<u8>) -> Result<()> {
        let columns = Column::all(batch)?;
        if columns.is_empty() {
            return Ok(());
        }
        for row in 0..batch.num_rows() {
            let mut cells = vec![String::new(); columns.len()];
            for shown in &self.shown {
                if let Shown::Column { at, .. } = *shown {
                    cells[at] = self.cell(&columns[at], row)?;
                }
            }
            self.push_row(|at| (&cells[at], columns[at].is_null(row).then_some(DIM)), text);
        }
        Ok(())
    }

    fn end(&self, written: Written, text: &mut Vec<u8>) -> Result<()> {
        if self.fields.is_empty() {
            return Ok(());
        }
        self.push_rule(["└", "┴", "┘"], text);
        let mut count = count_text(written);
        if self.shown.contains(&Shown::Gap) {
            let (all, shown) = (self.fields.len(), self.shown.len() - 1);
            count.push_str(&format!(", {shown} of {all} columns"));
        }
        text.extend_from_slice(format!("({count})\n").as_bytes());
        Ok(())
    }
}

impl Shown {
    fn width(self) -> usize {
        match self {
            Self::Column { width, .. } => width,
            Self::Gap => 1,
        }
    }
}

/// Chooses what is shown of columns that would like to have `widths`, in a line of `width`.
fn fit(widths: &[usize], is_text: &[bool], width: usize) -> Vec<Shown> {
    let floors: Vec<usize> = widths
        .iter()
        .zip(is_text)
        .map(|(&width, is_text)| if *is_text { width.min(TEXT_WIDTH_MIN) } else { width })
        .collect();
    let room = width.saturating_sub(1);
    let needed = |columns: &[usize]| -> usize {
        let gap = if columns.len() < widths.len() { 1 + MARGIN } else { 0 };
        columns.iter().map(|&at| floors[at] + MARGIN).sum::<usize>() + gap
    };
    // Columns from the middle go until the others fit; the outermost stay in any case.
    let mut kept: Vec<usize> = (0..widths.len()).collect();
    while kept.len() > 2 && needed(&kept) > room {
        kept.remove(kept.len() / 2);
    }
    let has_gap = kept.len() < widths.len();
    let margins = kept.len() * MARGIN + if has_gap { 1 + MARGIN } else { 0 };
    let mut room = room.saturating_sub(margins);
    // Whoever likes less than an equal part of what is left gets it; the others share the rest.
    let mut shares = vec![0; widths.len()];
    let fits = kept.iter().map(|&at| floors[at]).sum::<usize>() <= room;
    let floor = |at: usize| if fits { floors[at] } else { 1 };
    room = room.saturating_sub(kept.iter().map(|&at| floor(at)).sum());
    let mut wants: Vec<(usize, usize)> =
        kept.iter().map(|&at| (widths[at].saturating_sub(floor(at)), at)).collect();
    wants.sort_unstable();
    for (place, &(want, at)) in wants.iter().enumerate() {
        let share = want.min(room / (wants.len() - place));
        room -= share;
        shares[at] = floor(at) + share;
    }
    let mut shown: Vec<Shown> =
        kept.iter().map(|&at| Shown::Column { at, width: shares[at] }).collect();
    if has_gap {
        shown.insert(kept.len().div_ceil(2), Shown::Gap);
    }
    shown
}

/// Returns a line no wider than `width`, with `…` at its end if some of it was cut off.
pub(super) fn cut(line: &str, width: usize) -> String {
    if line.width() <= width {
        return line.to_owned();
    }
    let mut end = 0;
    let mut used = 0;
    for (at, character) in line.char_indices() {
        used += character.width().unwrap_or(0);
        if used >= width {
            break;
        }
        end = at + character.len_utf8();
    }
    // No joiner that would take the mark with it.
    format!("{}…", line[..end].trim_end_matches('\u{200d}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(widths: &[usize], text: &[usize], width: usize) -> Vec<usize> {
        let is_text: Vec<bool> = (0..widths.len()).map(|at| text.contains(&at)).collect();
        let shown = fit(widths, &is_text, width);
        let total: usize = shown.iter().map(|shown| shown.width() + MARGIN).sum();
        assert!(total < width.max(2 * (1 + MARGIN) + 1), "{shown:?}");
        shown.iter().map(|shown| if *shown == Shown::Gap { 0 } else { shown.width() }).collect()
    }

    #[test]
    fn texts_shrink_then_columns_go_then_all_shrinks() {
        assert_eq!(shown(&[5, 20], &[1], 32), [5, 20]);
        assert_eq!(shown(&[5, 20], &[1], 31), [5, 19]);
        // The widest texts give first.
        assert_eq!(shown(&[5, 30, 14], &[1, 2], 42), [5, 14, 13]);
        assert_eq!(shown(&[10; 9], &[], 60), [10, 10, 0, 10, 10]);
        assert_eq!(shown(&[50, 10, 50], &[], 40), [14, 0, 15]);
        assert_eq!(shown(&[100], &[0], 20), [16]);
        assert_eq!(shown(&[3, 3], &[], 1), [1, 1]);
    }

    #[test]
    fn what_is_cut_says_so_and_is_never_too_wide() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 5), "abcd…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("👩\u{200d}🚀x", 2), "…");
        assert_eq!(cut("abc", 1), "…");
    }
}
