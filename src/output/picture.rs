//! Draws a lineage: as the text of a Mermaid or DOT diagram, or as an SVG of our own.
//!
//! Arrows lead from what is read to who reads it, from left to right. The layout of the SVG is that of
//! Sugiyama in its simplest form: each box is in the column behind the last one that it reads; an
//! arrow over more than one column bends in each between, where it has a place of its own, so that it
//! passes behind no box; places in a column are put near those of their neighbours. It is made of whole numbers
//! and of the graph's order alone: the same lineage gives the same picture.

use std::fmt::Write;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::escape_controls;
use crate::error::{Error, Result, did_you_mean};
use crate::tree::{LineageGraph, Vertex};

/// How a lineage is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picture {
    /// A Mermaid flowchart, which many viewers of Markdown draw.
    Mermaid,
    /// A graph in the language of Graphviz.
    Dot,
    /// A picture that a browser shows.
    Svg,
}

impl Picture {
    /// Every one.
    pub const ALL: [Picture; 3] = [Self::Mermaid, Self::Dot, Self::Svg];

    /// Returns its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mermaid => "mermaid",
            Self::Dot => "dot",
            Self::Svg => "svg",
        }
    }

    /// Parses what [`Picture::as_str`] returns.
    ///
    /// # Errors
    /// `Invalid` for any other word, with the nearest name or all of them as a hint.
    pub fn parse(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|picture| picture.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str);
            let hint = did_you_mean(text, names)
                .unwrap_or_else(|| format!("there are: {}", names.join(", ")));
            Error::invalid(format!("picture '{text}' does not exist")).with_hint(hint)
        })
    }
}

/// Draws `graph`; the text ends with a line end.
pub fn draw(graph: &LineageGraph, picture: Picture) -> String {
    match picture {
        Picture::Mermaid => mermaid(graph),
        Picture::Dot => dot(graph),
        Picture::Svg => svg(graph),
    }
}

/// Returns what is said of a vertex below its path.
fn kind(vertex: &Vertex) -> &str {
    match (&vertex.factory, vertex.entry_type) {
        (Some(factory), _) => factory,
        (None, Some(entry_type)) => entry_type.as_str(),
        (None, None) => "",
    }
}

/// The lines of a vertex's label.
fn label(vertex: &Vertex) -> impl Iterator<Item = String> {
    let lines = [vertex.path.as_str(), kind(vertex)];
    lines.into_iter().filter(|line| !line.is_empty()).map(escape_controls)
}

fn mermaid(graph: &LineageGraph) -> String {
    let mut text = "flowchart LR\n".to_owned();
    for (at, vertex) in graph.vertices.iter().enumerate() {
        let lines: Vec<String> = label(vertex).map(|line| mermaid_text(&line)).collect();
        push(&mut text, format_args!("  n{at}[\"{}\"]\n", lines.join("<br>")));
    }
    for edge in &graph.edges {
        push(&mut text, format_args!("  n{} --> n{}\n", edge.source, edge.reader));
    }
    let class = |name: &str, is_in: &dyn Fn(usize, &Vertex) -> bool| {
        let members = graph.vertices.iter().enumerate().filter(|(at, vertex)| is_in(*at, vertex));
        let members: Vec<String> = members.map(|(at, _)| format!("n{at}")).collect();
        match members.is_empty() {
            true => String::new(),
            false => format!("  class {} {name}\n", members.join(",")),
        }
    };
    let broken = class("broken", &|_, vertex| vertex.error.is_some());
    if !broken.is_empty() {
        text.push_str("  classDef broken stroke:#c62828,stroke-dasharray:4\n");
        text.push_str(&broken);
    }
    let start = class("start", &|at, _| graph.start == Some(at));
    if !start.is_empty() {
        text.push_str("  classDef start stroke-width:3px\n");
        text.push_str(&start);
    }
    text
}

/// Mermaid has names for characters by their number, as `#35;`.
fn mermaid_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_alphanumeric() || "/._-=:, ".contains(char) {
            escaped.push(char);
        } else {
            push(&mut escaped, format_args!("#{};", u32::from(char)));
        }
    }
    escaped
}

fn dot(graph: &LineageGraph) -> String {
    let mut text = "digraph lineage {\n  rankdir=LR\n  node [shape=box]\n".to_owned();
    for (at, vertex) in graph.vertices.iter().enumerate() {
        let lines: Vec<String> = label(vertex).map(|line| dot_text(&line)).collect();
        push(&mut text, format_args!("  n{at} [label=\"{}\"", lines.join("\\n")));
        if let Some(error) = &vertex.error {
            let error = dot_text(&escape_controls(error));
            push(&mut text, format_args!(", color=red, style=dashed, tooltip=\"{error}\""));
        } else if graph.start == Some(at) {
            text.push_str(", penwidth=2");
        }
        text.push_str("]\n");
    }
    for edge in &graph.edges {
        push(&mut text, format_args!("  n{} -> n{}\n", edge.source, edge.reader));
    }
    text.push_str("}\n");
    text
}

fn dot_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

// ---------------------------------------------------------------------------------------------
// SVG

/// Sizes, in pixels.
const MARGIN: usize = 20;
const BOX_HEIGHT: usize = 46;
/// The room of an arrow that passes a column.
const BEND_HEIGHT: usize = 10;
const BETWEEN_ROWS: usize = 18;
const BETWEEN_COLUMNS: usize = 70;
const PADDING: usize = 12;
/// Widths of a character of the path, and of the line below, in tenths.
const CHAR_TENTHS: usize = 79;
const SMALL_CHAR_TENTHS: usize = 67;
/// The longest text in a box, in characters; the whole is in its tooltip.
const LABEL_MAX: usize = 60;

/// How often places are moved nearer to their neighbours.
const SWEEPS: usize = 8;

/// What has a place in a column.
#[derive(Debug)]
struct Place {
    /// The vertex; `None` for the bend of an arrow.
    vertex: Option<usize>,
    column: usize,
    /// Places in the columns before and after that an arrow joins with it.
    left: Vec<usize>,
    right: Vec<usize>,
    /// Its middle.
    y: usize,
}

impl Place {
    fn height(&self) -> usize {
        if self.vertex.is_some() { BOX_HEIGHT } else { BEND_HEIGHT }
    }
}

/// Where everything is.
#[derive(Debug)]
struct Layout {
    places: Vec<Place>,
    /// The places of each arrow, from its start to its end.
    arrows: Vec<Vec<usize>>,
    /// The places of each column, from the top.
    columns: Vec<Vec<usize>>,
    /// Left edge and width of each column.
    across: Vec<(usize, usize)>,
    width: usize,
    height: usize,
}

/// Returns the column of each vertex.
fn columns_of(graph: &LineageGraph) -> Vec<usize> {
    let count = graph.vertices.len();
    let mut missing = vec![0_usize; count];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); count];
    for edge in graph.edges.iter().filter(|edge| edge.source != edge.reader) {
        readers[edge.source].push(edge.reader);
        missing[edge.reader] += 1;
    }
    let mut columns = vec![0_usize; count];
    let mut is_done = vec![false; count];
    let mut ready: Vec<usize> = (0..count).rev().filter(|&at| missing[at] == 0).collect();
    let mut next_of_cycle = 0;
    loop {
        let Some(at) = ready.pop() else {
            // What is left is in a cycle: two transactions have each made half of one.
            match (next_of_cycle..count).find(|&at| !is_done[at]) {
                Some(at) => {
                    next_of_cycle = at + 1;
                    ready.push(at);
                    continue;
                }
                None => break,
            }
        };
        if std::mem::replace(&mut is_done[at], true) {
            continue;
        }
        for &reader in &readers[at] {
            if !is_done[reader] {
                columns[reader] = columns[reader].max(columns[at] + 1);
                missing[reader] -= 1;
                if missing[reader] == 0 {
                    ready.push(reader);
                }
            }
        }
    }
    // What reads nothing stands right before the first that reads it.
    for at in 0..count {
        if columns[at] == 0
            && let Some(first) = readers[at].iter().map(|&reader| columns[reader]).min()
        {
            columns[at] = first.saturating_sub(1);
        }
    }
    columns
}

impl Layout {
    fn of(graph: &LineageGraph) -> Self {
        let columns = columns_of(graph);
        let place =
            |vertex, column| Place { vertex, column, left: Vec::new(), right: Vec::new(), y: 0 };
        let mut places: Vec<Place> =
            columns.iter().enumerate().map(|(at, &column)| place(Some(at), column)).collect();
        let mut arrows = Vec::with_capacity(graph.edges.len());
        for edge in &graph.edges {
            let mut arrow = vec![edge.source];
            for column in columns[edge.source] + 1..columns[edge.reader] {
                arrow.push(places.len());
                places.push(place(None, column));
            }
            arrow.push(edge.reader);
            for joined in arrow.windows(2) {
                // Not those that lead back, in a cycle.
                if places[joined[0]].column < places[joined[1]].column {
                    places[joined[0]].right.push(joined[1]);
                    places[joined[1]].left.push(joined[0]);
                }
            }
            arrows.push(arrow);
        }
        let mut all: Vec<Vec<usize>> =
            vec![Vec::new(); columns.iter().max().map_or(0, |last| last + 1)];
        for (at, place) in places.iter().enumerate() {
            all[place.column].push(at);
        }
        let mut layout =
            Self { places, arrows, columns: all, across: Vec::new(), width: 0, height: 0 };
        layout.order();
        layout.measure(graph);
        layout
    }

    /// Puts the places of each column in an order that keeps arrows short.
    fn order(&mut self) {
        let mut ranks = vec![0; self.places.len()];
        let rank = |column: &[usize], ranks: &mut Vec<usize>| {
            for (rank, &at) in column.iter().enumerate() {
                ranks[at] = rank;
            }
        };
        for column in &self.columns {
            rank(column, &mut ranks);
        }
        for sweep in 0..SWEEPS {
            let count = self.columns.len();
            for step in 0..count {
                let column = if sweep % 2 == 0 { step } else { count - 1 - step };
                let places = &self.places;
                // The middle of the neighbours, in thousandths.
                let wanted = |at: usize| {
                    let place = &places[at];
                    let near = if sweep % 2 == 0 { &place.left } else { &place.right };
                    match near.len() {
                        0 => ranks[at] * 1000,
                        many => near.iter().map(|&at| ranks[at] * 1000).sum::<usize>() / many,
                    }
                };
                let mut order: Vec<(usize, usize)> =
                    self.columns[column].iter().map(|&at| (wanted(at), at)).collect();
                order.sort_by_key(|&(wanted, _)| wanted);
                self.columns[column] = order.into_iter().map(|(_, at)| at).collect();
                rank(&self.columns[column], &mut ranks);
            }
        }
    }

    /// Gives everything its size and place.
    fn measure(&mut self, graph: &LineageGraph) {
        let mut x = MARGIN;
        for column in &self.columns {
            let boxes = column.iter().filter_map(|&at| self.places[at].vertex);
            let width = boxes.map(|at| box_width(&graph.vertices[at])).max().unwrap_or(0);
            self.across.push((x, width));
            x += width + BETWEEN_COLUMNS;
        }
        self.width = x.saturating_sub(BETWEEN_COLUMNS).max(MARGIN) + MARGIN;
        let places = &self.places;
        let height_of = |column: &Vec<usize>| {
            let heights: usize = column.iter().map(|&at| places[at].height()).sum();
            heights + BETWEEN_ROWS * column.len().saturating_sub(1)
        };
        let heights: Vec<usize> = self.columns.iter().map(height_of).collect();
        let tallest = heights.iter().max().copied().unwrap_or(0);
        self.height = tallest + 2 * MARGIN;
        for (column, height) in self.columns.iter().zip(heights) {
            let mut y = MARGIN + (tallest - height) / 2;
            for &at in column {
                let height = self.places[at].height();
                self.places[at].y = y + height / 2;
                y += height + BETWEEN_ROWS;
            }
        }
    }

    /// Returns the left and the right edge of a place.
    fn edges_of(&self, place: &Place, graph: &LineageGraph) -> (usize, usize) {
        let (x, width) = self.across[place.column];
        match place.vertex {
            Some(at) => (x, x + box_width(&graph.vertices[at])),
            None => (x, x + width),
        }
    }
}

fn box_width(vertex: &Vertex) -> usize {
    let path = shortened(vertex.path.as_str()).width() * CHAR_TENTHS;
    let kind = shortened(kind(vertex)).width() * SMALL_CHAR_TENTHS;
    path.max(kind).div_ceil(10) + 2 * PADDING
}

/// Returns a text for a box: without control characters, and not too long, its middle left out.
fn shortened(text: &str) -> String {
    let text = escape_controls(text);
    if text.width() <= LABEL_MAX {
        return text;
    }
    let take = |chars: &mut dyn Iterator<Item = char>| -> String {
        let mut left = LABEL_MAX / 2 - 1;
        chars
            .take_while(|char| {
                let width = char.width().unwrap_or(0);
                let fits = width <= left;
                left = left.saturating_sub(width);
                fits
            })
            .collect()
    };
    let head = take(&mut text.chars());
    let tail: String = take(&mut text.chars().rev()).chars().rev().collect();
    format!("{head}…{tail}")
}

fn svg(graph: &LineageGraph) -> String {
    let layout = Layout::of(graph);
    let (width, height) = (layout.width, layout.height);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"ui-monospace, monospace\" \
         font-size=\"13\">\n\
         <defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" \
         markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#666\"/></marker></defs>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    let title = |vertex: &Vertex| xml(&escape_controls(vertex.path.as_str()));
    for (arrow, edge) in layout.arrows.iter().zip(&graph.edges) {
        let (source, reader) = (&graph.vertices[edge.source], &graph.vertices[edge.reader]);
        push(
            &mut text,
            format_args!(
                "<path d=\"{}\" fill=\"none\" stroke=\"#666\" marker-end=\"url(#arrow)\">\
                 <title>{} reads {}</title></path>\n",
                curve(&layout, arrow, graph),
                title(reader),
                title(source)
            ),
        );
    }
    for place in &layout.places {
        let Some(at) = place.vertex else { continue };
        let vertex = &graph.vertices[at];
        let (left, right) = layout.edges_of(place, graph);
        let top = place.y - BOX_HEIGHT / 2;
        let fill = match vertex.factory {
            Some(_) => "#e3f2fd",
            None => "#f5f5f5",
        };
        let stroke = match (&vertex.error, graph.start == Some(at)) {
            (Some(_), true) => "#c62828\" stroke-dasharray=\"4\" stroke-width=\"3",
            (Some(_), false) => "#c62828\" stroke-dasharray=\"4",
            (None, true) => "#1565c0\" stroke-width=\"3",
            (None, false) => "#90a4ae",
        };
        let error = vertex.error.as_deref().map(|error| format!(": {}", escape_controls(error)));
        push(
            &mut text,
            format_args!(
                "<g><title>{}{}</title><rect x=\"{left}\" y=\"{top}\" width=\"{}\" \
                 height=\"{BOX_HEIGHT}\" rx=\"4\" fill=\"{fill}\" stroke=\"{stroke}\"/>",
                title(vertex),
                xml(&error.unwrap_or_default()),
                right - left
            ),
        );
        let (x, kind) = (left + PADDING, kind(vertex));
        let first = if kind.is_empty() { place.y + 5 } else { place.y - 4 };
        let name = xml(&shortened(vertex.path.as_str()));
        push(&mut text, format_args!("<text x=\"{x}\" y=\"{first}\">{name}</text>"));
        if !kind.is_empty() {
            let (y, kind) = (place.y + 14, xml(&shortened(kind)));
            push(
                &mut text,
                format_args!(
                    "<text x=\"{x}\" y=\"{y}\" font-size=\"11\" fill=\"#546e7a\">{kind}</text>"
                ),
            );
        }
        text.push_str("</g>\n");
    }
    text.push_str("</svg>\n");
    text
}

/// Returns the line of an arrow: level through each place, and bent between them.
fn curve(layout: &Layout, arrow: &[usize], graph: &LineageGraph) -> String {
    let mut line = String::new();
    let mut from: Option<(usize, usize)> = None;
    let last = arrow.len() - 1;
    for (step, &at) in arrow.iter().enumerate() {
        let place = &layout.places[at];
        let (left, right) = layout.edges_of(place, graph);
        let y = place.y;
        if let Some((x, before)) = from {
            // An arrow back, in a cycle, leaves to the right and comes from the left, too.
            let reach = left.abs_diff(x).max(BETWEEN_COLUMNS) / 2;
            let (first, second) = (x + reach, left.saturating_sub(reach));
            push(&mut line, format_args!("C{first} {before} {second} {y} {left} {y}"));
        }
        if step == 0 {
            push(&mut line, format_args!("M{right} {y}"));
        } else if step < last {
            push(&mut line, format_args!("H{right}"));
        }
        from = Some((right, y));
    }
    line
}

/// Returns a text that is safe in XML, within and without quotes.
fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // XML has no way to write these.
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            char => escaped.push(char),
        }
    }
    escaped
}

fn push(text: &mut String, part: std::fmt::Arguments<'_>) {
    text.write_fmt(part).expect("a string takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryType;
    use crate::path::PondPath;
    use crate::tree::{Direction, Edge};

    /// Makes a graph of paths and, as indices, what reads what.
    fn graph(paths: &[&str], edges: &[(usize, usize)]) -> LineageGraph {
        let vertex = |path: &&str| Vertex {
            path: PondPath::parse(path).unwrap(),
            entry_type: Some(EntryType::FileTable),
            factory: path.ends_with("v.table").then(|| "sql_derived_table".to_owned()),
            error: path.contains('!').then(|| "it's <\"gone\"> & away".to_owned()),
        };
        let edge = |&(reader, source): &(usize, usize)| Edge {
            direction: Direction::Upstream,
            depth: 1,
            reader,
            source,
        };
        LineageGraph {
            vertices: paths.iter().map(vertex).collect(),
            edges: edges.iter().map(edge).collect(),
            start: Some(0),
        }
    }

    #[test]
    fn text_that_means_something_to_a_language_is_escaped() {
        let odd = graph(&["/v.table", "/a\"b\\c;#<\n!"], &[(0, 1)]);
        assert_eq!(
            draw(&odd, Picture::Mermaid),
            "flowchart LR\n\
             \u{20} n0[\"/v.table<br>sql_derived_table\"]\n\
             \u{20} n1[\"/a#34;b#92;c#59;#35;#60;#92;n#33;<br>file:table\"]\n\
             \u{20} n1 --> n0\n\
             \u{20} classDef broken stroke:#c62828,stroke-dasharray:4\n\
             \u{20} class n1 broken\n\
             \u{20} classDef start stroke-width:3px\n\
             \u{20} class n0 start\n"
        );
        assert_eq!(
            draw(&odd, Picture::Dot),
            "digraph lineage {\n  rankdir=LR\n  node [shape=box]\n\
             \u{20} n0 [label=\"/v.table\\nsql_derived_table\", penwidth=2]\n\
             \u{20} n1 [label=\"/a\\\"b\\\\c;#<\\\\n!\\nfile:table\", color=red, style=dashed, \
             tooltip=\"it's <\\\"gone\\\"> & away\"]\n\
             \u{20} n1 -> n0\n}\n"
        );
        let svg = draw(&odd, Picture::Svg);
        assert!(svg.contains("<title>/a&quot;b\\c;#&lt;\\n!: it&#39;s &lt;&quot;gone"), "{svg}");
        assert_eq!(well_formed(&svg), Ok(17));
    }

    #[test]
    fn any_graph_makes_a_well_formed_picture() {
        let names: Vec<String> =
            (0..40).map(|at| format!("/d/{at}{}v.table", "ü".repeat(at))).collect();
        let paths: Vec<&str> = names.iter().map(String::as_str).collect();
        let chain: Vec<(usize, usize)> = (1..40).map(|at| (at, at - 1)).collect();
        let cycle: Vec<(usize, usize)> = (0..40).map(|at| (at, (at + 1) % 40)).collect();
        let all: Vec<(usize, usize)> =
            (0..40).flat_map(|reader| (0..reader).map(move |source| (reader, source))).collect();
        for edges in [vec![], vec![(0, 0)], chain, cycle, all] {
            let svg = draw(&graph(&paths, &edges), Picture::Svg);
            assert_eq!(well_formed(&svg).map(|elements| elements > 40), Ok(true));
            assert_eq!(svg, draw(&graph(&paths, &edges), Picture::Svg));
        }
        assert!(well_formed(&draw(&LineageGraph::default(), Picture::Svg)).is_ok());
    }

    #[test]
    fn what_reads_stands_to_the_right_and_nothing_overlaps() {
        // 3 reads 0 over two columns; 5 has no neighbours.
        let edges = [(1, 0), (2, 1), (3, 2), (3, 0), (3, 4)];
        let graph = graph(&["/a", "/b", "/c", "/d", "/e", "/f"], &edges);
        assert_eq!(columns_of(&graph), [0, 1, 2, 3, 2, 0]);
        let layout = Layout::of(&graph);
        for column in &layout.columns {
            for pair in column.windows(2) {
                let [above, below] = [pair[0], pair[1]].map(|at| &layout.places[at]);
                assert!(above.y + above.height() / 2 < below.y - below.height() / 2);
            }
        }
        let bends: Vec<usize> = layout.arrows.iter().map(|arrow| arrow.len() - 2).collect();
        assert_eq!(bends, [0, 0, 0, 2, 0]);
    }

    /// Counts the elements of an XML text, or says what is wrong with it.
    fn well_formed(text: &str) -> std::result::Result<usize, String> {
        let mut open = Vec::new();
        let mut count = 0;
        let mut rest = text;
        while let Some(at) = rest.find('<') {
            check_text(&rest[..at])?;
            let tag = &rest[at + 1..];
            let end = tag.find('>').ok_or("a tag without an end")?;
            rest = &tag[end + 1..];
            let tag = &tag[..end];
            if let Some(name) = tag.strip_prefix('/') {
                if open.pop() != Some(name) {
                    return Err(format!("</{name}> closes nothing"));
                }
                continue;
            }
            count += 1;
            let (tag, is_empty) = match tag.strip_suffix('/') {
                Some(tag) => (tag, true),
                None => (tag, false),
            };
            let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
            while !attributes.is_empty() {
                let (key, value) = attributes.split_once("=\"").ok_or("an attribute")?;
                let (value, more) = value.split_once('"').ok_or("an open quote")?;
                check_text(value)?;
                if key.is_empty() || !key.chars().all(|char| char.is_alphabetic() || char == '-') {
                    return Err(format!("attribute {key}"));
                }
                attributes = more.strip_prefix(' ').unwrap_or(more);
            }
            if !is_empty {
                open.push(name);
            }
        }
        match (open.is_empty(), rest) {
            (true, "\n") => Ok(count),
            _ => Err(format!("{open:?} {rest:?}")),
        }
    }

    fn check_text(text: &str) -> std::result::Result<(), String> {
        for (at, _) in text.match_indices('&') {
            let known = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
            if !known.iter().any(|entity| text[at..].starts_with(entity)) {
                return Err(format!("entity at {}", &text[at..]));
            }
        }
        match text.contains(|char: char| char.is_control() && char != '\n') {
            true => Err(format!("a control character in {text:?}")),
            false => Ok(()),
        }
    }
}
