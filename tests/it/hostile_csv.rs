//! S9 of the promises: of whatever is called CSV, each record is a row or rejected, or reading ends in
//! an error that names file and line; nothing panics, and nothing grows with the text.
//!
//! Each text is read in both ways there are: directly, as a pond in memory does, and from what it is
//! converted to. Both must give the same. Random texts are compared with a reader that is as plain as
//! the rules are ([`Rules`]).

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use pond::pond::Pond;
use pond::tree::Tree;
use pond::{PondContext, Result};
use tempfile::TempDir;

use crate::world::{Random, init};

type Row = Vec<Option<String>>;

/// A directory of the host, mounted as `/host` in a pond that converts, and in one that cannot.
struct Both {
    host: TempDir,
    _home: TempDir,
    direct: PondContext,
    converting: PondContext,
}

impl Both {
    async fn new() -> Self {
        let (host, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let direct = PondContext::new(Tree::new(Pond::transient().await.unwrap()));
        let converting = PondContext::new(init(home.path()).await);
        let mount = format!(
            "CREATE NODE '/host' FACTORY hostmount WITH (directory = '{}')",
            host.path().display()
        );
        let both = Self { host, _home: home, direct, converting };
        for pond in [&both.direct, &both.converting] {
            read(pond, &mount).await.unwrap();
        }
        both
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.host.path().join(name), bytes).unwrap();
    }

    /// Shows a file as `/t.table`.
    async fn show(&self, name: &str, options: &str) {
        let comma = if options.is_empty() { "" } else { ", " };
        let create = format!(
            "CREATE OR REPLACE NODE '/t.table' FACTORY csv_to_parquet WITH (source = '/host/{name}'{comma}{options})"
        );
        for pond in [&self.direct, &self.converting] {
            read(pond, &create).await.unwrap();
        }
    }

    /// Returns what a query gives, which is the same in both ways.
    async fn ask(&self, query: &str) -> Result<Vec<Row>> {
        let direct = read(&self.direct, query).await;
        // A small text is converted when it has been read.
        let first = read(&self.converting, query).await;
        self.converting.tree().cache().idle().await;
        let converted = read(&self.converting, query).await;
        assert_eq!(first.as_ref().ok(), converted.as_ref().ok(), "{query}");
        match (&direct, &converted) {
            (Ok(direct), Ok(converted)) => assert!(
                direct == converted,
                "{query}: directly {}\nconverted {}",
                brief(direct),
                brief(converted)
            ),
            (Err(direct), Err(converted)) => {
                assert_eq!(direct.to_string(), converted.to_string(), "{query}");
            }
            _ => panic!("{query}: directly {direct:?}, converted {converted:?}"),
        }
        converted
    }

    /// Returns how many records or values were rejected, which are as many as are listed.
    async fn rejected(&self) -> Vec<Row> {
        let told = read(&self.converting, "DESCRIBE NODE '/t.table'").await.unwrap();
        let count = told.iter().find(|row| row[0].as_deref() == Some("rejected")).unwrap();
        let count: usize = count[1].as_deref().unwrap().parse().unwrap();
        let listed = "SELECT line, \"column\", reason, text FROM rejects('/t.table')";
        let listed = self.ask(listed).await.unwrap();
        assert_eq!(listed.len(), count, "{listed:?}");
        listed
    }
}

/// Returns the rows of an answer as texts.
async fn read(pond: &PondContext, query: &str) -> Result<Vec<Row>> {
    let batches = pond.sql(query).await?.collect().await?;
    let mut rows = Vec::new();
    for batch in &batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|column| cast(column, &DataType::Utf8).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let value = |column: &std::sync::Arc<dyn Array>| {
                let column = column.as_string::<i32>();
                column.is_valid(row).then(|| column.value(row).to_owned())
            };
            rows.push(columns.iter().map(value).collect());
        }
    }
    Ok(rows)
}

fn brief(rows: &[Row]) -> String {
    let shown: String = format!("{rows:?}").chars().take(2000).collect();
    format!("{} rows: {shown}", rows.len())
}

/// Writes rows as the table of cases does: `1,NULL;2,b`.
fn written(rows: &[Row]) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
    let row = |row: &Row| row.iter().map(value).collect::<Vec<_>>().join(",");
    rows.iter().map(row).collect::<Vec<_>>().join(";")
}

/// What becomes of a text.
enum Is {
    /// These rows, and these lines of rejects.
    Rows(&'static str, &'static [u64]),
    /// An error with these words, and the name of the file.
    Error(&'static [&'static str]),
}
use Is::{Error, Rows};

const CASES: &[(&[u8], &str, Is)] = &[
    // Ragged records.
    (b"a,b\n1,2\n3\n4,5,6\n7,8\n", "", Error(&["line 3", "1 value where the header names 2"])),
    (b"a,b\n1,2\n3\n4,5,6\n7,8\n", "on_error = 'skip'", Rows("1,2;7,8", &[3, 4])),
    (b"a,b\n1,2\n3\n4,5,6\n7,8\n", "on_error = 'null'", Rows("1,2;3,NULL;4,5;7,8", &[3, 4])),
    (b"a,b\n\n1,2\n   \n\n3,4\n\n", "", Rows("1,2;3,4", &[])),
    (b"a,b,\n1,2,\n3,4,\n", "delimiter = ','", Rows("1,2,NULL;3,4,NULL", &[])),
    // The mark of an encoding.
    (b"\xef\xbb\xbfa,b\n1,2\n", "", Rows("1,2", &[])),
    (b"\xef\xbb\xbf\"a\",b\n1,2\n", "", Rows("1,2", &[])),
    (b"\xff\xfea\0,\0b\0\n\x001\0,\x002\0\n\0", "", Rows("1,2", &[])),
    // Line ends.
    (b"a,b\n1,2\r\n3,4\r5,6\n7,8", "", Rows("1,2;3,4;5,6;7,8", &[])),
    (b"a,b\r1,2\r3,4\r", "", Rows("1,2;3,4", &[])),
    (b"a,b\r\n1,2\r\n3,4\r\n", "", Rows("1,2;3,4", &[])),
    (b"a,b\r1,2\r3\r4,5\n6\n", "on_error = 'skip', delimiter = ','", Rows("1,2;4,5", &[3, 5])),
    (b"a,b\n1,2\r\n\r\n3,4\n\r5,6", "", Rows("1,2;3,4;5,6", &[])),
    // Bytes that are no text.
    (b"a,b\nx\0y,2\n\0,4\n", "delimiter = ','", Rows("x\0y,2;\0,4", &[])),
    (b"a,b\nx,1\ncaf\xe9,2\n", "", Error(&["line 3", "not UTF-8"])),
    (b"a,b\nx,1\ncaf\xe9,2\ny,3\n", "on_error = 'skip'", Rows("x,1;y,3", &[3])),
    (b"a,b\nx,1\ncaf\xe9\xe9,2\ny,3\n", "on_error = 'null'", Rows("x,1;NULL,2;y,3", &[3])),
    (b"a,b\nx,1\ncaf\xe9,2\n", "encoding = 'latin1'", Rows("x,1;caf\u{e9},2", &[])),
    (b"a,b\nx,1\ny\xff,\xff\n", "on_error = 'null'", Rows("x,1;NULL,NULL", &[3, 3])),
    // Quotes.
    (b"a,b\n1,\"x\n2,y\n", "quote = '\"'", Error(&["line 2", "never closed"])),
    (b"a,b\n0,z\n1,\"x\n2,y\n", "quote = '\"', on_error = 'skip'", Rows("0,z;2,y", &[3])),
    (b"a,b\n1,\"x\"y\n2,z\n", "quote = '\"'", Error(&["line 2", "behind a closing quote"])),
    (b"a,b\n1,\"x\"y\n2,z\n", "quote = '\"', on_error = 'skip'", Rows("2,z", &[2])),
    (b"a,b\n1,\"x\"y\n2,z\n", "quote = '\"', on_error = 'null'", Rows("1,NULL;2,z", &[2])),
    (b"a,b\n1,\"x\" \n2,\"\"\n3,\n", "delimiter = ','", Rows("1,x;2,;3,NULL", &[])),
    (b"a,b\n1,\"x,\"\"y\"\"\nz\"\n2,w\n", "", Rows("1,x,\"y\"\nz;2,w", &[])),
    (b"a,b\n1,x\"y\"\n2,5\" disk\n", "", Rows("1,x\"y\";2,5\" disk", &[])),
    (b"a,b\n1,\"x\n\n\ny\"\n2\n3,z\n", "on_error = 'skip'", Rows("1,x\n\n\ny;3,z", &[6])),
    // Names.
    (b"a,a,,a\n1,2,3,4\n", "", Rows("1,2,3,4", &[])),
    // What is hardly there.
    (b"a,b\n", "", Rows("", &[])),
    (b"a,b", "", Rows("", &[])),
    (b"a,b\n1,2", "", Rows("1,2", &[])),
    (b"a\n1\n\n3\n", "has_header = true", Rows("1;NULL;3", &[])),
    // Types.
    (b"a,b\n1,\n2,\n3,x\n", "", Rows("1,NULL;2,NULL;3,x", &[])),
    (b"a\n1\n2.5\n", "has_header = true", Rows("1.0;2.5", &[])),
    (b"a\n9007199254740993\n2.5\n", "has_header = true", Rows("9007199254740993;2.5", &[])),
    (b"a\n9223372036854775808\n1\n", "has_header = true", Rows("9223372036854775808;1", &[])),
    (b"a\n9223372036854775807\n1\n", "has_header = true", Rows("9223372036854775807;1", &[])),
    (b"a\n007\n1\n", "has_header = true", Rows("007;1", &[])),
    (
        b"a,b\n1,x\ntwo,y\n3,z\n",
        "target_schema = 'a INT', on_error = 'null'",
        Rows("1,x;NULL,y;3,z", &[3]),
    ),
    (
        b"a,b\n1,x\ntwo,three\n3,4\n",
        "target_schema = 'a INT, b INT', on_error = 'skip'",
        Rows("3,4", &[2, 3]),
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_text_is_rows_or_an_error() {
    let both = Both::new().await;
    for (number, (text, options, is)) in CASES.iter().enumerate() {
        let shown = format!("case {number}: {} {options}", text.escape_ascii());
        let name = format!("case{number}.csv");
        both.write(&name, text);
        both.show(&name, options).await;
        let answer = both.ask("SELECT * FROM '/t.table'").await;
        match (answer, is) {
            (Ok(rows), Rows(expected, lines)) => {
                assert_eq!(written(&rows), *expected, "{shown}");
                let rejects = both.rejected().await;
                let mut found: Vec<u64> =
                    rejects.iter().map(|row| row[0].as_deref().unwrap().parse().unwrap()).collect();
                found.sort_unstable();
                assert_eq!(found, *lines, "{shown}: {rejects:?}");
                let count = both.ask("SELECT count(*) FROM '/t.table'").await.unwrap();
                assert_eq!(written(&count), rows.len().to_string(), "{shown}");
            }
            (Err(error), Error(words)) => {
                let error = error.to_string();
                for word in words.iter().copied().chain([&name[..]]) {
                    assert!(error.contains(word), "{shown}: {error}");
                }
            }
            (answer, _) => panic!("{shown}: {answer:?}"),
        }
    }
}

/// A text in which nothing is has no columns to be asked for; it is no error in a listing, nor in a glob.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_text_is_no_rows() {
    let both = Both::new().await;
    both.write("empty.csv", b"");
    both.show("empty.csv", "").await;
    assert_eq!(written(&both.ask("SELECT count(*) FROM '/t.table'").await.unwrap()), "0");
    both.write("other.csv", b"x\n1\n");
    assert_eq!(written(&both.ask("SELECT sum(x) FROM '/host/*.csv'").await.unwrap()), "1");
}

/// Columns of many files are matched by name, whatever their order is.
#[tokio::test(flavor = "multi_thread")]
async fn columns_are_matched_by_name() {
    let both = Both::new().await;
    both.write("1.csv", b"id,name,v\n1,one,1.5\n");
    both.write("2.csv", b"v,id,name\n2.5,2,two\n");
    both.write("3.csv", b"name,id\nthree,3\n");
    both.write("4.csv", b"name,v,id,more\nfour,4,4,!\n");
    both.write("5.csv", b"name,v,id,more\n");
    for pond in [&both.direct, &both.converting] {
        let create = "CREATE NODE '/t' FACTORY csv_directory WITH (source_pattern = '/host/*.csv')";
        read(pond, create).await.unwrap();
    }
    for from in ["/host/*.csv", "/t/*.table"] {
        let rows = both.ask(&format!("SELECT id, name, v, more FROM '{from}' ORDER BY id")).await;
        assert_eq!(
            written(&rows.unwrap()),
            "1,one,1.5,NULL;2,two,2.5,NULL;3,three,NULL,NULL;4,four,4.0,!",
            "{from}"
        );
    }
}

/// The rules of CSV, for columns of text, as plainly as they can be written.
#[derive(Debug, Clone, Copy)]
struct Rules {
    delimiter: u8,
    quote: Option<u8>,
    escape: Option<u8>,
    columns: usize,
}

impl Rules {
    fn options(&self) -> String {
        let shown = |byte: u8| match byte {
            b'\t' => "tab".to_owned(),
            b'\'' => "''".to_owned(),
            byte => char::from(byte).to_string(),
        };
        let optional = |byte: Option<u8>| byte.map_or_else(|| "none".to_owned(), shown);
        let columns: Vec<String> = (0..self.columns).map(|at| format!("c{at} TEXT")).collect();
        format!(
            "delimiter = '{}', quote = '{}', escape = '{}', comment = 'none', has_header = true, \
             target_schema = '{}'",
            shown(self.delimiter),
            optional(self.quote),
            optional(self.escape),
            columns.join(", ")
        )
    }

    fn header(&self) -> Vec<u8> {
        let names: Vec<String> = (0..self.columns).map(|at| format!("c{at}")).collect();
        names.join(&char::from(self.delimiter).to_string()).into_bytes()
    }

    /// Returns the rows of a text behind its header, and how many records are none.
    fn read(&self, text: &[u8]) -> (Vec<Row>, usize) {
        let (mut rows, mut rejected, mut at) = (Vec::new(), 0, 0);
        while at < text.len() {
            let start = at;
            let (mut row, mut is_torn) = (Vec::new(), false);
            loop {
                let (value, end, fits) = self.value(text, at);
                row.push(value);
                is_torn |= !fits;
                at = end + 1;
                if text.get(end) != Some(&self.delimiter) {
                    break;
                }
            }
            let record = &text[start..(at - 1).min(text.len())];
            if text.get(at - 1) == Some(&b'\r') && text.get(at) == Some(&b'\n') {
                at += 1;
            }
            if self.columns > 1 && row.len() == 1 && record.iter().all(|byte| *byte == b' ') {
                continue;
            }
            if row.len() != self.columns || is_torn || std::str::from_utf8(record).is_err() {
                rejected += 1;
                continue;
            }
            let text =
                |value: Option<Vec<u8>>| value.map(|value| String::from_utf8(value).unwrap());
            rows.push(row.into_iter().map(text).collect());
        }
        (rows, rejected)
    }

    /// Returns a value, where it ends, and whether it is one.
    fn value(&self, text: &[u8], start: usize) -> (Option<Vec<u8>>, usize, bool) {
        let ends = |byte: u8| byte == self.delimiter || byte == b'\n' || byte == b'\r';
        let to_end = |at: usize| {
            at + text[at..].iter().position(|byte| ends(*byte)).unwrap_or(text.len() - at)
        };
        if self.quote.is_none() || text.get(start).copied() != self.quote {
            let end = to_end(start);
            let value = &text[start..end];
            return ((!value.is_empty()).then(|| value.to_vec()), end, true);
        }
        let (mut value, mut at) = (Vec::new(), start + 1);
        loop {
            let Some(byte) = text.get(at).copied() else {
                // It is never closed: the record ends with its line.
                return (None, to_end(start + 1), false);
            };
            let next = text.get(at + 1).copied();
            if Some(byte) == self.escape
                || (self.escape.is_none() && Some(byte) == self.quote && next == self.quote)
            {
                value.extend(next);
                at += 2;
                continue;
            }
            if Some(byte) == self.quote {
                break;
            }
            value.push(byte);
            at += 1;
        }
        let end = to_end(at + 1);
        let is_blank = text[at + 1..end].iter().all(|byte| *byte == b' ');
        (Some(value), end, is_blank)
    }
}

/// Any text is read by the rules, whatever its bytes are.
#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_are_read_by_the_rules() {
    random_bytes(0..150).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the long form: run with --ignored soak"]
async fn soak_random_bytes() {
    random_bytes(1000..20_000).await;
}

async fn random_bytes(seeds: std::ops::Range<u64>) {
    let both = Both::new().await;
    for seed in seeds {
        let mut random = Random(seed);
        let rules = Rules {
            delimiter: b",;\t| "[random.below(5) as usize],
            quote: [Some(b'"'), Some(b'"'), Some(b'\''), None][random.below(4) as usize],
            escape: None,
            columns: 1 + random.below(4) as usize,
        };
        let escape = random.below(3) == 0 && rules.quote.is_some();
        let rules = Rules { escape: escape.then_some(b'\\'), ..rules };
        let mut text = rules.header();
        let header = text.len() + 1;
        text.push(b'\n');
        // Most texts fit into the first chunk; some take many.
        let length = match random.below(10) {
            0 => 3_000_000,
            1 => 300_000,
            _ => 1 + random.below(3_000) as usize,
        };
        let rarely = 2 + random.below(60);
        while text.len() < length {
            let delimiter = [rules.delimiter];
            let quote = rules.quote.map_or([b'q'], |quote| [quote]);
            let part: &[u8] = match random.below(rarely) {
                0 => match random.below(6) {
                    0 => b"\xff",
                    1 => b"\0",
                    2 => b"\xe2\x82",
                    3 => b"\\",
                    4 => b"\r",
                    _ => &quote,
                },
                1 => [b"\n", &quote[..]][random.below(2) as usize],
                2..4 => b"\r\n",
                4..8 => b"\n",
                8..20 => &delimiter,
                20 => b" ",
                21 => "\u{20ac}".as_bytes(),
                _ => [&b"x"[..], b"17", b"-", b"#", b"abcdefghijklm"][random.below(5) as usize],
            };
            text.extend_from_slice(part);
        }
        // What follows the header must not be a part of its end.
        let (expected, rejected) = rules.read(&text[header..]);
        let name = format!("{seed}.csv");
        both.write(&name, &text);
        println!(
            "seed {seed}, {rules:?}, {} bytes: {} rows, {rejected} rejected",
            text.len(),
            expected.len()
        );
        both.show(&name, &format!("{}, on_error = 'skip'", rules.options())).await;
        let mut rows = both.sorted("SELECT * FROM '/t.table'").await;
        let mut sorted = expected;
        sorted.sort();
        compare(&mut rows, &mut sorted, seed);
        if rejected < 20_000 {
            assert_eq!(both.rejected().await.len(), rejected, "seed {seed}");
        }
        std::fs::remove_file(both.host.path().join(&name)).unwrap();
    }
}

fn compare(found: &mut [Row], expected: &mut [Row], seed: u64) {
    if found != expected {
        let first = found.iter().zip(expected.iter()).find(|(one, other)| one != other);
        panic!("seed {seed}: {} rows, expected {}; {first:?}", found.len(), expected.len());
    }
}

impl Both {
    /// Returns the rows of a query in the order of their values, which are the same in both ways.
    async fn sorted(&self, query: &str) -> Vec<Row> {
        let mut direct = read(&self.direct, query).await.unwrap();
        let mut first = read(&self.converting, query).await.unwrap();
        self.converting.tree().cache().idle().await;
        let mut converted = read(&self.converting, query).await.unwrap();
        direct.sort();
        first.sort();
        converted.sort();
        assert!(first == converted, "{query}: {} and {}", first.len(), converted.len());
        assert!(direct == converted, "{query}: {} and {}", direct.len(), converted.len());
        converted
    }
}

/// What a correct writer wrote is what is read, in every dialect, and by what is detected of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_read() {
    let both = Both::new().await;
    for seed in 0..120 {
        let mut random = Random(seed * 7919);
        let quote = [b'"', b'"', b'\''][random.below(3) as usize];
        let rules = Rules {
            delimiter: b",;\t|"[random.below(4) as usize],
            quote: Some(quote),
            escape: (random.below(3) == 0).then_some(b'\\'),
            columns: 1 + random.below(5) as usize,
        };
        let line_end = ["\n", "\r\n", "\r"][random.below(3) as usize];
        let is_generous = random.below(2) == 0;
        let rows = match random.below(8) {
            0 => 20_000,
            _ => random.below(60),
        };
        let table: Vec<Row> = (0..rows)
            .map(|_| (0..rules.columns).map(|_| some_text(&mut random)).collect())
            .collect();
        let mut text = String::from_utf8(rules.header()).unwrap() + line_end;
        for row in &table {
            for (at, value) in row.iter().enumerate() {
                if at > 0 {
                    text.push(char::from(rules.delimiter));
                }
                let Some(value) = value else { continue };
                let needs = value.is_empty()
                    || value.starts_with(char::from(quote))
                    || value.contains(['\n', '\r', char::from(rules.delimiter)])
                    || value.trim().is_empty();
                if !needs && !is_generous {
                    text.push_str(value);
                    continue;
                }
                let (quote, escape) =
                    (char::from(quote), char::from(rules.escape.unwrap_or(quote)));
                text.push(quote);
                for char in value.chars() {
                    if char == quote || (rules.escape.is_some() && char == escape) {
                        text.push(escape);
                    }
                    text.push(char);
                }
                text.push(quote);
            }
            text.push_str(line_end);
        }
        // One column that ends with a null must say so, and any other text need not end its line.
        if random.below(2) == 0 && table.last().is_some_and(|row| row.iter().any(Option::is_some)) {
            text.truncate(text.len() - line_end.len());
        }
        let name = format!("{seed}.csv");
        both.write(&name, text.as_bytes());
        both.show(&name, &rules.options()).await;
        println!("seed {seed}, {rules:?}, {line_end:?}: {} rows, {} bytes", rows, text.len());
        let mut found = both.sorted("SELECT * FROM '/t.table'").await;
        let mut expected = table;
        expected.sort();
        compare(&mut found, &mut expected, seed);
        let count = both.ask("SELECT count(*) FROM '/t.table'").await.unwrap();
        assert_eq!(written(&count), rows.to_string(), "seed {seed}");
    }
}

fn some_text(random: &mut Random) -> Option<String> {
    if random.below(8) == 0 {
        return None;
    }
    let mut text = String::new();
    for _ in 0..random.below(6) {
        let part = [
            "a",
            "17",
            "\"",
            "'",
            ",",
            ";",
            "\t",
            "|",
            "\n",
            "\r\n",
            "\r",
            "\\",
            "\u{e9}",
            "\u{1f600}",
            " ",
            "#",
            "\u{feff}",
            "\0",
            "NULL",
            "2026-01-01",
            "a long value that goes on for some time",
        ];
        text.push_str(part[random.below(part.len() as u64) as usize]);
    }
    Some(text)
}

/// Quotes that hold line breaks, wherever chunks begin and end.
#[tokio::test(flavor = "multi_thread")]
async fn values_go_on_over_the_ends_of_chunks() {
    let both = Both::new().await;
    for (seed, offset) in [0usize, 1, 2, 63, 64, 65].into_iter().enumerate() {
        let mut text = b"n,s\n".to_vec();
        let mut rows = 0u64;
        // A value of line breaks lies across the ends of the first chunk, and of those behind it.
        for end in [128 << 10, 256 << 10, (128 << 10) + (2 << 20), 6 << 20, 17 << 20] {
            while text.len() + 200 < end - offset {
                writeln_row(&mut text, rows, b"\"x,\ny\"\"\"");
                rows += 1;
            }
            let mut value = b"\"".to_vec();
            value.resize(400 - offset, b'\n');
            value.extend_from_slice(b"\r\n,\"\"\r\"");
            writeln_row(&mut text, rows, &value);
            rows += 1;
        }
        let name = format!("{seed}.csv");
        both.write(&name, &text);
        both.show(&name, "").await;
        let sums = "SELECT count(*), sum(n), sum(length(s)), count(DISTINCT s) FROM '/t.table'";
        let lengths = (rows - 5) * 5 + 5 * (399 - offset as u64 + 5);
        let expected = format!("{rows},{},{lengths},2", rows * (rows - 1) / 2);
        assert_eq!(written(&both.ask(sums).await.unwrap()), expected, "offset {offset}");
        std::fs::remove_file(both.host.path().join(name)).unwrap();
    }
}

fn writeln_row(text: &mut Vec<u8>, n: u64, value: &[u8]) {
    text.extend_from_slice(format!("{n},").as_bytes());
    text.extend_from_slice(value);
    text.push(b'\n');
}

/// A record that is too long to be held is an error, or is left out; its line is told, and that of what
/// comes behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_too_long_is_rejected() {
    let both = Both::new().await;
    for (end, columns) in [("\n", 2), ("\r\n", 2), ("\r\n", 1), ("\r", 2)] {
        let row = |n: u64| match columns {
            1 => format!("{n}{end}"),
            _ => format!("{n},s{end}"),
        };
        let mut text = if columns == 1 { format!("n{end}") } else { format!("n,s{end}") };
        for n in 0..1000 {
            text.push_str(&row(n));
        }
        text.push_str("7,");
        text.extend(std::iter::repeat_n('x', 20_000_000));
        text.push_str(end);
        for n in 0..1000 {
            text.push_str(&row(n));
        }
        text.push_str(&format!("bad,,{end}"));
        let name = format!("{columns}{}.csv", end.escape_debug()).replace('\\', "");
        both.write(&name, text.as_bytes());
        let schema = if columns == 1 { "delimiter = ';', " } else { "" };
        both.show(&name, &format!("{schema}target_schema = 'n INT', has_header = true")).await;
        let error = both.ask("SELECT * FROM '/t.table'").await.unwrap_err().to_string();
        assert!(error.contains(&name) && error.contains("line 1002"), "{error}");
        let skip = format!("{schema}target_schema = 'n INT', has_header = true, on_error = 'skip'");
        both.show(&name, &skip).await;
        let sums = "SELECT count(*), count(n), sum(n) FROM '/t.table'";
        assert_eq!(written(&both.ask(sums).await.unwrap()), "2000,2000,999000", "{name}");
        let rejects = both.rejected().await;
        let lines: Vec<_> = rejects.iter().map(|row| row[0].as_deref().unwrap()).collect();
        assert_eq!(lines, ["1002", "2003"], "{name}");
        std::fs::remove_file(both.host.path().join(name)).unwrap();
    }
}

/// What comes behind the sample widens a column that is converted, and is an error once of a text that
/// is read directly.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_late_widens() {
    let both = Both::new().await;
    let mut text = String::from("n,m,late\n");
    for n in 0..300_000 {
        let _ = match n {
            299_990 => writeln!(text, "text,{n}.5,soon"),
            _ => writeln!(text, "{n},{n},"),
        };
    }
    both.write("late.csv", text.as_bytes());
    let types =
        "SELECT DISTINCT arrow_typeof(n), arrow_typeof(m), arrow_typeof(late) FROM '/t.table'";
    both.show("late.csv", "").await;
    assert_eq!(written(&both.ask(types).await.unwrap()), "Utf8View,Float64,Utf8View");
    let counts = "SELECT count(*), count(n), sum(m), count(late) FROM '/t.table'";
    let sum = 299_999.0 * 150_000.0 + 0.5;
    let expected = format!("300000,300000,{sum},1");
    assert_eq!(
        written(&both.ask(counts).await.unwrap()).replace("44999850000.5", &sum.to_string()),
        expected
    );

    // By itself, of no column that must be looked for.
    let text = text.replace("late\n", "late\n0,0,x\n");
    for (number, pond) in [&both.direct, &both.converting].into_iter().enumerate() {
        let name = format!("direct{number}.csv");
        both.write(&name, text.as_bytes());
        let query = format!("SELECT count(n), count(m), count(late) FROM '/host/{name}'");
        // The query begins again, twice at most, before any row of it is out.
        assert_eq!(written(&read(pond, &query).await.unwrap()), "300001,300001,2");
    }

    // Under other rules, what does not fit is left out, whatever else has to be looked for.
    for (options, expected, lines) in [
        ("on_error = 'skip'", "Int64,Int64,299999,299999,0", 1),
        ("on_error = 'null'", "Int64,Int64,300000,299999,1", 2),
    ] {
        let mut text = String::from("n,m,late\n");
        for n in 0..300_000 {
            let _ = match n {
                299_990 => writeln!(text, "text,{n}.5,soon"),
                _ => writeln!(text, "{n},{n},"),
            };
        }
        both.write("strict.csv", text.as_bytes());
        both.show("strict.csv", options).await;
        let query = "SELECT arrow_typeof(n), arrow_typeof(m), count(*), count(n), count(late) FROM '/t.table' GROUP BY 1, 2";
        assert_eq!(written(&both.ask(query).await.unwrap()), expected, "{options}");
        assert_eq!(both.rejected().await.len(), lines, "{options}");
    }
}

/// Compresses by the program of that name; `None` where there is none.
fn compressed(program: &str, text: &[u8], dir: &Path) -> Option<Vec<u8>> {
    let plain = dir.join(".plain");
    std::fs::write(&plain, text).unwrap();
    let input = std::fs::File::open(&plain).unwrap();
    let output = Command::new(program).arg("-c").stdin(input).stderr(Stdio::null()).output();
    std::fs::remove_file(plain).unwrap();
    output.ok().filter(|output| output.status.success()).map(|output| output.stdout)
}

/// Compressed texts are read like others; one that is cut off is an error, never fewer rows.
#[tokio::test(flavor = "multi_thread")]
async fn compressed_texts_are_whole_or_an_error() {
    let both = Both::new().await;
    let mut random = Random(3);
    let mut text = String::from("n,s\n");
    for n in 0..200_000 {
        let _ = writeln!(text, "{n},\"{}\n\"", random.below(1 << 30));
    }
    for (program, ending) in [("gzip", "gz"), ("zstd", "zst"), ("bzip2", "bz2"), ("xz", "xz")] {
        let Some(bytes) = compressed(program, text.as_bytes(), both.host.path()) else {
            println!("skipped: there is no {program}");
            continue;
        };
        let query = "SELECT count(*), sum(n) FROM '/t.table'";
        let whole = format!("whole.csv.{ending}");
        both.write(&whole, &bytes);
        both.show(&whole, "").await;
        assert_eq!(written(&both.ask(query).await.unwrap()), "200000,19999900000", "{program}");
        // Two in a row are one, as the programs have it.
        let rest = compressed(program, b"200000,x\n", both.host.path()).unwrap();
        let joined = format!("joined.csv.{ending}");
        both.write(&joined, &[&bytes[..], &rest].concat());
        both.show(&joined, "").await;
        assert_eq!(written(&both.ask(query).await.unwrap()), "200001,20000100000", "{program}");
        for (number, length) in
            [bytes.len() - 1, bytes.len() - 9, bytes.len() / 2, 20].into_iter().enumerate()
        {
            for on_error in ["fail", "skip"] {
                let name = format!("cut{number}{on_error}.csv.{ending}");
                both.write(&name, &bytes[..length]);
                both.show(&name, &format!("on_error = '{on_error}'")).await;
                match both.ask("SELECT count(*), count(s) FROM '/t.table'").await {
                    Ok(rows) => panic!("{name}: {}", written(&rows)),
                    Err(error) => assert!(error.to_string().contains(&name), "{error}"),
                }
            }
        }
    }
}

/// Many rejects are listed in the time that reading takes, and bytes that are no text are counted once
/// for a record.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_of_rejects_is_listed() {
    let both = Both::new().await;
    let mut text = b"a,b\n1,2\n".to_vec();
    for _ in 0..200_000 {
        text.extend_from_slice(b"x\nyyyy\n");
    }
    both.write("x.csv", &text);
    both.show("x.csv", "on_error = 'skip'").await;
    assert_eq!(written(&both.ask("SELECT * FROM '/t.table'").await.unwrap()), "1,2");
    let begun = std::time::Instant::now();
    let sums =
        "SELECT count(*), min(line), max(line), count(DISTINCT line) FROM rejects('/t.table')";
    assert_eq!(written(&both.ask(sums).await.unwrap()), "400000,3,400002,400000");
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

/// What the compressed text of one long line, and a line of a gigabyte that is no more than a hole in a
/// file, take of memory does not grow with them.
#[test]
fn long_lines_take_bounded_memory() {
    let host = tempfile::tempdir().unwrap();
    let hole = host.path().join("hole.csv");
    std::fs::write(&hole, "a,b\n1,2\n").unwrap();
    std::fs::File::options().write(true).open(&hole).unwrap().set_len(HOLE_BYTES).unwrap();
    let mut measured = vec!["hole.csv"];
    let input = std::fs::File::open(&hole).unwrap();
    let output = std::fs::File::create(host.path().join("bomb.csv.gz")).unwrap();
    match Command::new("gzip").args(["-1", "-c"]).stdin(input).stdout(output).status() {
        Ok(status) if status.success() => measured.push("bomb.csv.gz"),
        failed => println!("skipped: {failed:?}"),
    }
    for name in measured {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "hostile_csv::measured", "--nocapture", "--quiet"])
            .env("POND_TEST_FILE", host.path().join(name))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success(), "{name}: {said} {child:?}");
        let peak = said.lines().find_map(|line| line.strip_prefix("peak "));
        let peak: u64 = peak.unwrap().parse().unwrap();
        println!("{name}: {} MiB", peak >> 10);
        assert!(peak < PEAK_KIB_MAX, "{name}: {} MiB", peak >> 10);
    }
}

const HOLE_BYTES: u64 = 400 << 20;
const PEAK_KIB_MAX: u64 = 250 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the other tests, as a process of its own"]
async fn measured() {
    let file = std::path::PathBuf::from(std::env::var_os("POND_TEST_FILE").unwrap());
    let both = Both::new().await;
    let name = file.file_name().unwrap().to_str().unwrap();
    std::fs::hard_link(&file, both.host.path().join(name)).unwrap();
    both.show(name, "on_error = 'fail', delimiter = ','").await;
    let error = both.ask("SELECT * FROM '/t.table'").await.unwrap_err().to_string();
    assert!(error.contains("line 3") && error.contains(name), "{error}");
    both.show(name, "on_error = 'skip', delimiter = ','").await;
    assert_eq!(written(&both.ask("SELECT * FROM '/t.table'").await.unwrap()), "1,2");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("\npeak {}", peak.trim().trim_end_matches(" kB"));
}
