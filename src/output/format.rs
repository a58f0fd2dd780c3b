//! The formats of output by name, and how rows are written in one.

use std::path::Path;

use crate::error::{Error, Result, did_you_mean};

/// A form in which rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// Aligned columns for people; control characters are escaped, NULL is `NULL`.
    #[default]
    Table,
    /// A header line and comma-separated values (RFC 4180); NULL is empty, the empty text `""`.
    Csv,
    /// As [`Format::Csv`], with tabs for commas.
    Tsv,
    /// One JSON array of objects, each with every column.
    Json,
    /// One JSON object a line, each with every column.
    Ndjson,
    /// A table of GitHub's Markdown.
    Markdown,
    /// A line for each value, `name = value`, with a blank line between rows.
    Line,
    /// A page that a browser shows, complete in itself.
    Html,
    /// One Apache Parquet file.
    Parquet,
    /// One Apache Arrow IPC file.
    Arrow,
    /// A plot of lines or bars made of characters.
    Chart,
    /// The plot as an SVG picture.
    Svg,
    /// The plot as a PNG picture.
    Png,
}

/// What users of other shells call a format, and what file names end with.
const ALIASES: &[(&str, Format)] = &[
    ("txt", Format::Table),
    ("text", Format::Table),
    ("tab", Format::Tsv),
    ("jsonl", Format::Ndjson),
    ("jsonlines", Format::Ndjson),
    ("md", Format::Markdown),
    ("htm", Format::Html),
    ("pq", Format::Parquet),
    ("ipc", Format::Arrow),
    ("feather", Format::Arrow),
];

/// Names of formats that no file's name ends with.
const WORDS: &[(&str, Format)] = &[
    ("box", Format::Table),
    ("column", Format::Table),
    ("tabs", Format::Tsv),
    ("vertical", Format::Line),
    ("plot", Format::Chart),
];

impl Format {
    /// Every format.
    pub const ALL: [Format; 13] = [
        Self::Table,
        Self::Csv,
        Self::Tsv,
        Self::Json,
        Self::Ndjson,
        Self::Markdown,
        Self::Line,
        Self::Html,
        Self::Parquet,
        Self::Arrow,
        Self::Chart,
        Self::Svg,
        Self::Png,
    ];

    /// Returns the format's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Markdown => "markdown",
            Self::Line => "line",
            Self::Html => "html",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::Chart => "chart",
            Self::Svg => "svg",
            Self::Png => "png",
        }
    }

    /// Parses what [`Format::as_str`] returns, or what other shells call the same: `jsonl`, `md`,
    /// `box`.
    ///
    /// # Errors
    /// `Invalid` for any other word, with the nearest name or all of them as a hint.
    pub fn parse(text: &str) -> Result<Self> {
        let lower = text.to_ascii_lowercase();
        let other = || WORDS.iter().find(|(word, _)| *word == lower).map(|&(_, format)| format);
        Self::of_ending(&lower).or_else(other).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str);
            let hint = did_you_mean(text, names)
                .unwrap_or_else(|| format!("there are: {}", names.join(", ")));
            Error::invalid(format!("format '{text}' does not exist")).with_hint(hint)
        })
    }

    /// Returns the format that the ending of a file's name tells, if it tells one.
    pub fn of_path(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        // Words that say what a plot or a table is, but not what is in a file.
        let is_word = ["table", "line", "chart"].contains(&ending.as_str());
        Self::of_ending(&ending).filter(|_| !is_word)
    }

    fn of_ending(ending: &str) -> Option<Self> {
        let alias = || ALIASES.iter().find(|(word, _)| *word == ending).map(|&(_, format)| format);
        Self::ALL.into_iter().find(|format| format.as_str() == ending).or_else(alias)
    }

    /// Whether the output can hold the rows of several results, one after another.
    pub fn holds_many(self) -> bool {
        !self.is_binary() && self != Self::Html
    }

    /// Whether the output is bytes that are of no use on a terminal.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::Parquet | Self::Arrow | Self::Svg | Self::Png)
    }
}

/// How rows are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Style {
    /// The form of the whole.
    pub format: Format,
    /// Whether the names of the columns come before the values, where the format can leave them
    /// out.
    pub header: bool,
    /// What stands for NULL in a text format; `None` is the format's own.
    pub null: Option<String>,
    /// The most rows that are written.
    pub rows_max: Option<u64>,
    /// The terminal that the text is for; `None` is a file or a pipe.
    pub terminal: Option<Terminal>,
}

impl Style {
    /// Returns the text of a null where the format has no other: `NULL`.
    pub(super) fn null_text(&self) -> String {
        self.null.clone().unwrap_or_else(|| "NULL".to_owned())
    }
}

impl Default for Style {
    fn default() -> Self {
        Self::from(Format::default())
    }
}

impl From<Format> for Style {
    fn from(format: Format) -> Self {
        Self { format, header: true, null: None, rows_max: None, terminal: None }
    }
}

/// What a terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// In columns.
    pub width: usize,
    /// Whether escape sequences may colour the text.
    pub color: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_names_other_names_and_endings() {
        for format in Format::ALL {
            assert_eq!(Format::parse(format.as_str()).unwrap(), format);
        }
        for (name, format) in [
            ("JSONL", Format::Ndjson),
            ("md", Format::Markdown),
            ("box", Format::Table),
            ("tabs", Format::Tsv),
        ] {
            assert_eq!(Format::parse(name).unwrap(), format);
        }
        let error = Format::parse("prquet").unwrap_err();
        assert_eq!(error.hint(), Some("did you mean 'parquet'?"));
        let of = |path| Format::of_path(Path::new(path));
        assert_eq!(of("/a.csv/b.JSON"), Some(Format::Json));
        assert_eq!(of("a.tab"), Some(Format::Tsv));
        assert_eq!(of("a.txt"), Some(Format::Table));
        assert_eq!(of("a.png"), Some(Format::Png));
        for path in ["csv", ".csv", "a", "a.table", "a.box", "a.gz"] {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
