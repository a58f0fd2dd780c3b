//! A chart made of characters: dots of Braille for lines, blocks for bars.
//!
//! Several lines share one plot where colours tell them apart, and have one each where there are
//! none.

use std::ops::Range;

use textplots::{Chart as Canvas, ColorPlot, Plot, Shape};
use unicode_width::UnicodeWidthStr;

use super::axis::{Kind, rounded, widened};
use super::{Chart, Drawing};
use crate::output::Terminal;
use crate::output::frame::cut;

/// The width without a terminal.
const WIDTH: usize = 80;

/// Narrower than this, nothing can be seen.
const WIDTH_MIN: usize = 40;

/// Rows of a plot between two marks of the upright axis, and how many marks there are about.
const MARK_ROWS: usize = 4;
const MARKS: usize = 4;

/// The colours of lines: those of Okabe and Ito, which people of all kinds of sight can tell apart.
pub(super) const COLORS: [(u8, u8, u8); super::LINES_MAX] = [
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (213, 94, 0),
    (0, 114, 178),
    (240, 228, 66),
    (150, 150, 150),
];

type Line<'a> = (&'a str, &'a [(f64, f64)]);

/// Draws `chart`; the text ends with a line end.
pub(super) fn draw(chart: &Chart, terminal: Option<Terminal>) -> String {
    let width = terminal.map_or(WIDTH, |terminal| terminal.width.max(WIDTH_MIN));
    let color = terminal.is_some_and(|terminal| terminal.color);
    let mut text = String::new();
    match &chart.drawing {
        Drawing::Lines { x_name, kind, lines } => {
            let lines: Vec<Line> =
                lines.iter().map(|(name, points)| (name.as_str(), points.as_slice())).collect();
            let x = extent(&lines, |point| point.0);
            let from_to = format!("{} … {}", kind.value(x.start), kind.value(x.end));
            let (low, high) = widened(x.start, x.end);
            if color {
                push_plot(&lines, *kind, &(low..high), width, true, &mut text);
            } else {
                for line in lines.chunks(1) {
                    push_plot(line, *kind, &(low..high), width, false, &mut text);
                }
            }
            text.push_str(&format!("{x_name}: {from_to}\n"));
        }
        Drawing::Bars { x_name, y_name, bars } => {
            text.push_str(&format!("{y_name} by {x_name}\n"));
            push_bars(bars, width, color, &mut text);
        }
    }
    if !chart.left_out.is_empty() {
        text.push_str(&format!("({} not drawn)\n", chart.left_out.join(" and ")));
    }
    text
}

/// Returns the range of what `part` returns of all points; there is at least one.
pub(super) fn extent(lines: &[Line], part: fn(&(f64, f64)) -> f64) -> Range<f64> {
    let values = lines.iter().flat_map(|(_, points)| points.iter().map(part));
    values.fold(f64::INFINITY..f64::NEG_INFINITY, |range, value| {
        range.start.min(value)..range.end.max(value)
    })
}

/// Appends a plot of lines with its axes, all in `width` columns.
fn push_plot(
    lines: &[Line],
    kind: Kind,
    x: &Range<f64>,
    width: usize,
    color: bool,
    text: &mut String,
) {
    let names: Vec<String> = lines
        .iter()
        .zip(COLORS)
        .map(|((name, points), (red, green, blue))| {
            let empty = if points.is_empty() { " (no values)" } else { "" };
            match color && lines.len() > 1 {
                true => format!("\u{1b}[38;2;{red};{green};{blue}m━\u{1b}[0m {name}{empty}"),
                false => format!("{name}{empty}"),
            }
        })
        .collect();
    text.push_str(&names.join("  "));
    text.push('\n');
    if lines.iter().all(|(_, points)| points.is_empty()) {
        return;
    }
    let y = extent(lines, |point| point.1);
    let (low, high) = rounded(y.start, y.end, MARKS);
    let marks = Kind::Number.marks(low, high, 2 * MARKS);
    let rows = MARK_ROWS * (marks.len() - 1).max(1);
    let margin = marks.iter().map(|(_, label)| label.width()).max().unwrap_or(0) + 2;
    let columns = width.saturating_sub(margin).max(16);

    // The dots are numbered from 0: in single precision no other numbers would do.
    let dots = (2 * columns as u32 - 1, 4 * rows as u32 - 1);
    let place = |value: f64, low: f64, high: f64, dots: u32| {
        // Halves first, since the whole may be more than a number can be.
        let part = (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
        (part * f64::from(dots)).round() as f32
    };
    let points: Vec<Vec<(f32, f32)>> = lines
        .iter()
        .map(|(_, points)| {
            let point = |&(of_x, of_y): &(f64, f64)| {
                (place(of_x, x.start, x.end, dots.0), place(of_y, low, high, dots.1))
            };
            let mut points: Vec<_> = points.iter().map(point).collect();
            points.dedup();
            // One point alone is a line as well, that ends where it begins.
            if let [point] = points[..] {
                points.push(point);
            }
            points
        })
        .collect();
    let shapes: Vec<Shape> = points.iter().map(|points| Shape::Lines(points)).collect();
    let (right, top) = (dots.0 as f32, dots.1 as f32);
    let mut canvas = Canvas::new_with_y_range(dots.0, dots.1, 0.0, right, 0.0, top);
    let mut drawn = &mut canvas;
    for (shape, rgb) in shapes.iter().zip(COLORS) {
        drawn = match color && lines.len() > 1 {
            true => drawn.linecolorplot(shape, rgb.into()),
            false => drawn.lineplot(shape),
        };
    }
    drawn.figures();
    for (row, line) in drawn.frame().lines().enumerate() {
        let mark = marks.iter().find(|(value, _)| {
            let from_top = (high - value) / (high - low) * (rows - 1) as f64;
            from_top.round() as usize == row
        });
        let (label, corner) = mark.map_or(("", '│'), |(_, label)| (label, '┤'));
        let padding = " ".repeat(margin - 2 - label.width());
        let line = line.replace('\u{2800}', " ");
        text.push_str(format!("{padding}{label} {corner}{line}").trim_end());
        text.push('\n');
    }
    push_axis(kind, x, margin - 1, columns, text);
}

/// Appends the level axis and its labels, below a plot of `columns` columns.
fn push_axis(kind: Kind, x: &Range<f64>, margin: usize, columns: usize, text: &mut String) {
    let mut marks = kind.marks(x.start, x.end, columns / 12);
    let mut rule: Vec<char> = vec!['─'; columns];
    let mut labels = String::new();
    marks.retain(|(value, label)| {
        let part = (value / 2.0 - x.start / 2.0) / (x.end / 2.0 - x.start / 2.0);
        let at = (part * (columns - 1) as f64).round().clamp(0.0, (columns - 1) as f64) as usize;
        let begin = at.saturating_sub(label.width() / 2).min(columns.saturating_sub(label.width()));
        if !labels.is_empty() && begin < labels.width() + 2 {
            return false;
        }
        rule[at] = '┬';
        labels.push_str(&" ".repeat(begin - labels.width()));
        labels.push_str(label);
        true
    });
    let margin = " ".repeat(margin);
    text.push_str(&format!("{margin}└{}\n", rule.into_iter().collect::<String>()));
    text.push_str(format!("{margin} {labels}").trim_end());
    text.push('\n');
}

fn push_bars(bars: &[(String, f64)], width: usize, color: bool, text: &mut String) {
    let (mut low, mut high) = (0.0_f64, 0.0_f64);
    for (_, value) in bars.iter().filter(|(_, value)| value.is_finite()) {
        (low, high) = (low.min(*value), high.max(*value));
    }
    let values: Vec<String> = bars
        .iter()
        .map(|(_, value)| match value.is_finite() {
            true => Kind::Number.value(*value),
            false => "NULL".to_owned(),
        })
        .collect();
    let widest = |texts: &mut dyn Iterator<Item = &String>| texts.map(|text| text.width()).max();
    let name_width = widest(&mut bars.iter().map(|(name, _)| name)).unwrap_or(0).min(width / 3);
    let value_width = widest(&mut values.iter()).unwrap_or(0);
    let room = width.saturating_sub(name_width + value_width + 3).max(8);
    // Bars below zero have a part of the room of their own.
    let scale = if high > low { room as f64 / (high - low) } else { 0.0 };
    let left = (-low * scale).round() as usize;
    for ((name, value), label) in bars.iter().zip(&values) {
        let name = cut(name, name_width);
        let padding = " ".repeat(name_width - name.width());
        let length = if value.is_finite() { value * scale } else { 0.0 };
        let bar = match length < 0.0 {
            true => {
                let blocks = (-length).round() as usize;
                format!("{}{}", " ".repeat(left.saturating_sub(blocks)), "█".repeat(blocks))
            }
            false => format!("{}{}", " ".repeat(left), blocks(length)),
        };
        let (on, off) = match color {
            true => ("\u{1b}[36m", "\u{1b}[0m"),
            false => ("", ""),
        };
        text.push_str(&format!("{padding}{name} │{on}{bar}{off} {label}\n"));
    }
}

/// Returns a bar of so many columns, to an eighth.
fn blocks(length: f64) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (length * 8.0).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}
