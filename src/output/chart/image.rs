//! A chart as a picture: SVG, or PNG in true colour.
//!
//! The letters are those of one font that is part of the program, so that a picture is the same on
//! every machine; an SVG names the fonts of the machine that shows it.

use std::fmt;
use std::ops::Range;
use std::sync::Once;

use epaint_default_fonts::UBUNTU_LIGHT;
use plotters::chart::{ChartBuilder, SeriesLabelPosition};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{PathElement, Rectangle};
use plotters::prelude::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::series::LineSeries;
use plotters::style::{BLACK, Color, FontStyle, RGBColor, ShapeStyle, WHITE, register_font};

use super::axis::{Kind, rounded, widened};
use super::characters::{COLORS, extent};
use super::{Chart, Drawing};
use crate::error::{Error, ErrorKind, Result};

/// The size of a picture, in pixels; one of many bars is higher.
const WIDTH: u32 = 960;
const HEIGHT: u32 = 540;

/// What a bar needs, in pixels.
const BAR_HEIGHT: u32 = 24;

const FONT: &str = "sans-serif";

/// Draws `chart` as SVG.
pub(super) fn svg(chart: &Chart) -> Result<String> {
    let mut text = String::new();
    draw(chart, SVGBackend::with_string(&mut text, (WIDTH, height(chart))))?;
    Ok(text)
}

/// Draws `chart` as PNG.
pub(super) fn png(chart: &Chart) -> Result<Vec<u8>> {
    let height = height(chart);
    let mut pixels = vec![0; (WIDTH * height * 3) as usize];
    draw(chart, BitMapBackend::with_buffer(&mut pixels, (WIDTH, height)))?;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, WIDTH, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&pixels).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

fn height(chart: &Chart) -> u32 {
    match &chart.drawing {
        Drawing::Lines { .. } => HEIGHT,
        Drawing::Bars { bars, .. } => (bars.len() as u32 * BAR_HEIGHT + 120).max(HEIGHT / 2),
    }
}

fn failed(source: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Io, format!("drawing the chart: {source}"))
}

fn draw(chart: &Chart, backend: impl DrawingBackend) -> Result<()> {
    static FONTS: Once = Once::new();
    FONTS.call_once(|| {
        let registered = register_font(FONT, FontStyle::Normal, UBUNTU_LIGHT);
        assert!(registered.is_ok(), "the font of the program is one");
    });
    let area = backend.into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    let mut title = match &chart.drawing {
        Drawing::Lines { x_name, lines, .. } => {
            let names: Vec<&str> = lines.iter().map(|(name, _)| name.as_str()).collect();
            format!("{} by {x_name}", names.join(", "))
        }
        Drawing::Bars { x_name, y_name, .. } => format!("{y_name} by {x_name}"),
    };
    if !chart.left_out.is_empty() {
        title.push_str(&format!(" ({} not drawn)", chart.left_out.join(" and ")));
    }
    match &chart.drawing {
        Drawing::Lines { x_name, kind, lines } => draw_lines(&area, &title, x_name, *kind, lines),
        Drawing::Bars { y_name, bars, .. } => draw_bars(&area, &title, y_name, bars),
    }?;
    area.present().map_err(failed)
}

fn draw_lines<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    title: &str,
    x_name: &str,
    kind: Kind,
    lines: &[(String, Vec<(f64, f64)>)],
) -> Result<()> {
    let borrowed: Vec<(&str, &[(f64, f64)])> =
        lines.iter().map(|(name, points)| (name.as_str(), points.as_slice())).collect();
    let (x, y) = (extent(&borrowed, |point| point.0), extent(&borrowed, |point| point.1));
    let (left, right) = widened(x.start, x.end);
    let (low, high) = rounded(y.start, y.end, 6);
    let mut plot = ChartBuilder::on(area)
        .caption(title, (FONT, 20))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d(Axis::of(kind, left..right), Axis::of(Kind::Number, low..high))
        .map_err(failed)?;
    let axis = format!("{x_name}: {} … {}", kind.value(x.start), kind.value(x.end));
    let mut mesh = plot.configure_mesh();
    mesh.disable_x_mesh().light_line_style(WHITE).x_labels(9).y_labels(8);
    mesh.label_style((FONT, 13)).x_desc(axis);
    if let [(name, _)] = lines {
        mesh.y_desc(name);
    }
    mesh.draw().map_err(failed)?;
    for ((name, points), (red, green, blue)) in lines.iter().zip(COLORS) {
        let style = ShapeStyle::from(RGBColor(red, green, blue)).stroke_width(2);
        // A point alone is seen as a dot.
        let dot = if points.len() == 1 { 3 } else { 0 };
        let series = LineSeries::new(points.iter().copied(), style).point_size(dot);
        let drawn = plot.draw_series(series).map_err(failed)?;
        drawn.label(name).legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], style));
    }
    if lines.len() > 1 {
        let mut legend = plot.configure_series_labels();
        legend.position(SeriesLabelPosition::UpperRight).label_font((FONT, 13));
        legend.background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.2));
        legend.draw().map_err(failed)?;
    }
    Ok(())
}

fn draw_bars<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    title: &str,
    y_name: &str,
    bars: &[(String, f64)],
) -> Result<()> {
    let lengths = bars.iter().map(|(_, value)| *value).filter(|value| value.is_finite());
    let (low, high) =
        lengths.fold((0.0_f64, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    let (low, high) = rounded(low, high, 8);
    let letters = bars.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) as u32;
    let names = bars.iter().map(|(name, _)| name.clone()).collect();
    let mut plot = ChartBuilder::on(area)
        .caption(title, (FONT, 20))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size((letters * 8 + 24).min(WIDTH / 3))
        .build_cartesian_2d(Axis::of(Kind::Number, low..high), Axis::of_names(names))
        .map_err(failed)?;
    let mut mesh = plot.configure_mesh();
    mesh.disable_y_mesh().light_line_style(WHITE).x_labels(9).y_labels(bars.len());
    mesh.label_style((FONT, 13)).x_desc(y_name);
    mesh.draw().map_err(failed)?;
    let (red, green, blue) = COLORS[0];
    let style = RGBColor(red, green, blue).filled();
    let drawn = bars.iter().enumerate().filter(|(_, (_, value))| value.is_finite());
    let drawn = drawn.map(|(at, (_, value))| {
        let middle = (bars.len() - at) as f64 - 0.5;
        Rectangle::new([(0.0, middle - 0.35), (*value, middle + 0.35)], style)
    });
    plot.draw_series(drawn).map_err(failed)?;
    Ok(())
}

/// An axis whose marks are ours.
struct Axis {
    range: Range<f64>,
    kind: Kind,
    /// The names of bars, which are marks: the first is on top.
    names: Vec<String>,
}

impl Axis {
    fn of(kind: Kind, range: Range<f64>) -> Self {
        Self { range, kind, names: Vec::new() }
    }

    fn of_names(names: Vec<String>) -> Self {
        Self { range: 0.0..names.len() as f64, kind: Kind::Number, names }
    }

    fn marks(&self, count_max: usize) -> Vec<(f64, String)> {
        if self.names.is_empty() {
            return self.kind.marks(self.range.start, self.range.end, count_max);
        }
        let count = self.names.len();
        let mark = |(at, name): (usize, &String)| ((count - at) as f64 - 0.5, name.clone());
        self.names.iter().enumerate().map(mark).collect()
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let Range { start, end } = self.range;
        // Halves first, since the whole may be more than a number can be.
        let part = (value / 2.0 - start / 2.0) / (end / 2.0 - start / 2.0);
        limit.0 + (part * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, hint: H) -> Vec<f64> {
        self.marks(hint.max_num_points()).into_iter().map(|(value, _)| value).collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        // The label of a value depends on how many there are, which is not told here; the same
        // numbers are tried that the marks were made for.
        [9, 8]
            .into_iter()
            .flat_map(|count| self.marks(count))
            .find(|(mark, _)| mark == value)
            .map_or_else(|| self.kind.value(*value), |(_, label)| label)
    }
}
