//! What can stand at a place of an unfinished text: the part of completion that needs no pond.
//!
//! [`Place::find`] looks at the pieces of the statement around the cursor. Groups in parentheses that are
//! closed count as one, so that what is left is the level that the cursor is on, and those that it is
//! within. Our own statements are told by their words, from the first on; in a query the last clause
//! tells, and whether something is missing after it. The result is a list of [`Want`]s; whoever has
//! the pond knows what there is of each.
//!
//! Nothing here is exact. A word too many costs a glance, one that is missing costs typing; but the
//! words of our statements are all there.

use super::lexis::{Piece, PieceKind, is_keyword, pieces};

/// What may stand at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Want {
    /// One of these words.
    Words(&'static [&'static str]),
    /// A path of the pond.
    Path,
    /// A file or directory of the host.
    HostPath,
    /// What a query reads: tables of the session, names of its WITH, table functions, paths.
    Tables,
    /// A column: of one table, or of all.
    Columns(Option<String>),
    /// A function that makes a value.
    Functions,
    /// A named argument of a table function.
    Arguments(String),
    /// A factory.
    Factories,
    /// An option of a factory, but these.
    Options(Owner, Vec<String>),
    /// A value of an option.
    Value(Owner, String),
    /// A setting of the session.
    Settings,
}

/// Whose options are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Those of a factory.
    Factory(String),
    /// Those of the factory of the node at a path.
    Node(String),
}

/// A place in a text.
#[derive(Debug)]
pub(crate) struct Place {
    /// Where what is typed begins, quote included.
    pub start: usize,
    /// What is typed, without its quote, and with doubled quotes made one.
    pub typed: String,
    /// The quote that is open.
    pub quote: Option<char>,
    /// Whether that quote is closed right behind the cursor.
    pub is_closed: bool,
    /// What may stand there.
    pub wants: Vec<Want>,
    /// Whether words are written in small letters.
    pub is_lower: bool,
}

/// Something that a statement reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// What it is called in the statement.
    pub name: Option<String>,
    /// The query for its columns.
    pub query: String,
}

/// Words that statements begin with.
const STATEMENTS: &[&str] = &[
    "SELECT",
    "WITH",
    "FROM",
    "VALUES",
    "CREATE",
    "ALTER NODE",
    "DROP",
    "REFRESH NODE",
    "RESTORE NODE",
    "SHOW",
    "DESCRIBE",
    "SUMMARIZE",
    "EXPLAIN",
    "INSERT INTO",
    "UPDATE",
    "DELETE FROM",
    "TRUNCATE TABLE",
    "COPY",
    "SET",
    "RESET",
    "USE",
    "PREPARE",
    "EXECUTE",
    "DEALLOCATE",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
];
const QUERIES: &[&str] = &["SELECT", "WITH", "FROM", "VALUES", "TABLE"];
const QUERY: Want = Want::Words(QUERIES);
/// What an expression may begin with.
const OPERANDS: &[&str] = &[
    "CASE",
    "CAST(",
    "TRY_CAST(",
    "EXTRACT(",
    "INTERVAL",
    "EXISTS (",
    "NOT",
    "NULL",
    "TRUE",
    "FALSE",
    "DATE",
    "TIMESTAMP",
];
/// What an expression may go on with.
const OPERATORS: &[&str] = &[
    "AND",
    "OR",
    "NOT",
    "IN (",
    "BETWEEN",
    "LIKE",
    "ILIKE",
    "IS NULL",
    "IS NOT NULL",
    "IS DISTINCT FROM",
    "OVER (",
    "FILTER (WHERE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "AT TIME ZONE",
];
const AFTER_COLUMNS: &[&str] = &["AS", "FROM", "UNION ALL"];
const AFTER_TABLE: &[&str] = &[
    "AS",
    "FOR VERSION AS OF",
    "FOR TIMESTAMP AS OF",
    "JOIN",
    "LEFT JOIN",
    "RIGHT JOIN",
    "FULL JOIN",
    "INNER JOIN",
    "CROSS JOIN",
    "NATURAL JOIN",
    "ON",
    "USING (",
];
const AFTER_FROM: &[&str] = &["WHERE", "GROUP BY"];
const AFTER_WHERE: &[&str] = &["GROUP BY"];
const AFTER_ROWS: &[&str] = &[
    "HAVING",
    "QUALIFY",
    "ORDER BY",
    "LIMIT",
    "OFFSET",
    "UNION",
    "UNION ALL",
    "INTERSECT",
    "EXCEPT",
];
const AFTER_ORDER: &[&str] = &["ASC", "DESC", "NULLS FIRST", "NULLS LAST"];
const NODE_CLAUSES: &[&str] = &["WITH (", "FROM", "REFRESH EVERY", "COMMENT", "AS"];

impl Place {
    /// Finds out what is wanted at the byte `at` of a text; `None` within a comment or a number.
    pub(crate) fn find(text: &str, at: usize) -> Option<Self> {
        let (before, after) = text.split_at(at);
        let mut found = pieces(before);
        let statement = statement_start(&found, before);
        found.drain(..statement);
        let mut place = Place {
            start: at,
            typed: String::new(),
            quote: None,
            is_closed: false,
            wants: Vec::new(),
            is_lower: false,
        };
        if let Some(last) = found.last()
            && last.range.end == at
        {
            match last.kind {
                PieceKind::Comment
                    if last.is_open || before[last.range.clone()].starts_with("--") =>
                {
                    return None;
                }
                PieceKind::Number => return None,
                // Between dollars there is anything.
                PieceKind::String
                    if last.is_open && before[last.range.clone()].starts_with('$') =>
                {
                    return None;
                }
                PieceKind::String | PieceKind::QuotedName if last.is_open => {
                    let mut inside = before[last.range.clone()].chars();
                    let quote = inside.next().expect("a quote is a character");
                    place.start = last.range.start;
                    place.typed = unquoted(inside.as_str(), quote);
                    place.quote = Some(quote);
                    place.is_closed = after.starts_with(quote);
                    found.pop();
                }
                PieceKind::Keyword | PieceKind::Name | PieceKind::Function => {
                    place.start = last.range.start;
                    place.typed = before[last.range.clone()].to_owned();
                    found.pop();
                }
                _ => {}
            }
        }
        let first = found.first().map(|first| &before[first.range.clone()]);
        place.is_lower = match place.typed.chars().next() {
            Some(char) if place.quote.is_none() => char.is_lowercase(),
            _ => first.is_some_and(|word| word.starts_with(char::is_lowercase)),
        };
        let levels = Levels::of(before, &found);
        // A setting's name is words with dots between them.
        if matches!(levels.words().as_slice(), ["SET" | "RESET" | "SHOW", _, ".", ..])
            && place.quote.is_none()
            && let Some(begun) = dotted_start(before, &found, place.start)
        {
            place.typed = format!("{}{}", &before[begun..place.start], place.typed);
            place.start = begun;
            place.wants = vec![Want::Settings];
            return Some(place);
        }
        place.wants = levels.wants();
        if place.quote == Some('\'') {
            // What is a text, and where none is named, may still be a path.
            place.wants.retain(|want| {
                matches!(want, Want::Path | Want::HostPath | Want::Value(..) | Want::Tables)
            });
            let is_path = place.typed.starts_with('/');
            if place.wants.is_empty() && (is_path || levels.is_argument()) {
                place.wants.push(Want::Path);
            }
        }
        Some(place)
    }

    /// Whether a word begins with what is typed, in any case.
    pub(crate) fn fits(&self, word: &str) -> bool {
        let typed = &self.typed;
        word.get(..typed.len()).is_some_and(|begun| begun.eq_ignore_ascii_case(typed))
    }
}

/// Returns the first piece of the last statement.
fn statement_start(pieces: &[Piece], text: &str) -> usize {
    let is_end = |piece: &Piece| &text[piece.range.clone()] == ";";
    pieces.iter().rposition(is_end).map_or(0, |at| at + 1)
}

fn unquoted(text: &str, quote: char) -> String {
    text.replace(&format!("{quote}{quote}"), &quote.to_string())
}

/// Returns where `a.b.` before `start` begins, with nothing in between.
fn dotted_start(text: &str, pieces: &[Piece], start: usize) -> Option<usize> {
    let mut begun = None;
    let mut end = start;
    for pair in pieces.rchunks(2) {
        let [word, dot] = pair else { break };
        let is_word = matches!(word.kind, PieceKind::Name | PieceKind::Keyword);
        if !is_word || &text[dot.range.clone()] != "." || dot.range.end != end {
            break;
        }
        end = word.range.start;
        begun = Some(end);
    }
    begun
}

/// The pieces before a place, by the parentheses that are open there.
struct Levels(Vec<Vec<Token>>);

struct Token {
    /// A word or a name in capitals, `'` for a text, `"` for a quoted name, `0` for a number, `()` for a
    /// group, else the sign itself.
    word: String,
    /// What it says: without quotes, and as it is written.
    source: String,
}

impl Levels {
    fn of(text: &str, pieces: &[Piece]) -> Self {
        let mut levels = vec![Vec::new()];
        for piece in pieces {
            let source = &text[piece.range.clone()];
            let word = match piece.kind {
                PieceKind::Comment => continue,
                PieceKind::String => "'".to_owned(),
                PieceKind::QuotedName => "\"".to_owned(),
                PieceKind::Number => "0".to_owned(),
                PieceKind::Symbol if source == "(" => {
                    levels.push(Vec::new());
                    continue;
                }
                PieceKind::Symbol if source == ")" => {
                    // One too many closes nothing.
                    if levels.len() > 1 {
                        levels.pop();
                    }
                    "()".to_owned()
                }
                _ => source.to_uppercase(),
            };
            if let Some(level) = levels.last_mut() {
                level.push(Token { word, source: name_of(source) });
            }
        }
        Self(levels)
    }

    /// Returns the tokens of a level, counted from the one that the place is on.
    fn tokens(&self, up: usize) -> &[Token] {
        self.0.len().checked_sub(up + 1).map_or(&[], |at| &self.0[at])
    }

    fn words_of(&self, up: usize) -> Vec<&str> {
        self.tokens(up).iter().map(|token| token.word.as_str()).collect()
    }

    /// Returns the words of the level that the place is on.
    fn words(&self) -> Vec<&str> {
        self.words_of(0)
    }

    /// Returns the function whose arguments the place is among.
    fn function(&self) -> Option<String> {
        let name = &self.tokens(1).last()?.word;
        let is_name = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        (is_name && !is_keyword(name)).then(|| name.to_lowercase())
    }

    /// Whether the place is where an argument of a function begins.
    fn is_argument(&self) -> bool {
        matches!(self.words().last(), None | Some(&("," | ">"))) && self.function().is_some()
    }

    fn wants(&self) -> Vec<Want> {
        let words = self.words();
        if let [.., "."] = words.as_slice() {
            let name = words.len().checked_sub(2).map(|at| self.tokens(0)[at].source.clone());
            return vec![Want::Columns(name)];
        }
        if self.0.len() == 1 {
            return statement(&words);
        }
        if let Some(wants) = self.in_options() {
            return wants;
        }
        let above = self.words_of(1);
        if matches!(words.first(), Some(&("SELECT" | "WITH" | "FROM" | "VALUES"))) {
            return query(&words);
        }
        let mut wants = match (above.as_slice(), words.is_empty()) {
            ([.., "OVER"], _) => {
                let mut wants = vec![Want::Words(&["PARTITION BY", "ORDER BY"])];
                if !words.is_empty() {
                    wants.extend(query(&words));
                }
                return wants;
            }
            ([.., "FROM" | "JOIN"], true) => return vec![QUERY, Want::Tables],
            ([.., "USING"], _) | (["INSERT", .., "\"" | "'"], _) => {
                return vec![Want::Columns(None)];
            }
            (["INSERT", "INTO", _], _) => return vec![Want::Columns(None)],
            (_, true) => vec![QUERY],
            (_, false) => Vec::new(),
        };
        if let Some(function) = self.function() {
            wants.insert(0, Want::Arguments(function));
        }
        wants.extend(query(&words));
        wants
    }

    /// Returns what is wanted among the options of a node, if the place is there.
    fn in_options(&self) -> Option<Vec<Want>> {
        // A list of values is a level of its own.
        let up = (0..=1).find(|up| {
            let above = self.words_of(up + 1);
            matches!(above.as_slice(), [.., "WITH" | "OPTIONS" | "SET" | "RESET"])
                && is_node_statement(&above)
        })?;
        let above = self.tokens(up + 1);
        let owner = match above.iter().position(|token| token.word == "FACTORY") {
            Some(at) => Owner::Factory(above.get(at + 1)?.source.clone()),
            None => Owner::Node(above.iter().find(|token| token.word == "'")?.source.clone()),
        };
        let tokens = self.tokens(up);
        let last = tokens.split(|token| token.word == ",").next_back().unwrap_or_default();
        let Some(name) = last.first() else {
            let given = tokens.split(|token| token.word == ",").filter_map(|option| option.first());
            return Some(vec![Want::Options(
                owner,
                given.map(|name| name.source.clone()).collect(),
            )]);
        };
        Some(match last.len() {
            1 => vec![Want::Words(&["="])],
            _ if last.last().is_some_and(|last| matches!(last.word.as_str(), "=" | ">"))
                || up == 1 =>
            {
                vec![Want::Value(owner, name.source.clone())]
            }
            _ => Vec::new(),
        })
    }
}

/// Returns a name or a text without its quotes.
fn name_of(source: &str) -> String {
    let quote = source.chars().next().filter(|char| matches!(char, '\'' | '"' | '`'));
    match quote.and_then(|quote| Some((quote, source[1..].strip_suffix(quote)?))) {
        Some((quote, inside)) => unquoted(inside, quote),
        None => source.to_owned(),
    }
}

fn is_node_statement(words: &[&str]) -> bool {
    matches!(words, ["CREATE" | "ALTER", "NODE", ..] | ["CREATE", "OR", "REPLACE", "NODE", ..])
}

/// Returns what a statement goes on with.
fn statement(words: &[&str]) -> Vec<Want> {
    use Want::{Path, Tables, Words};
    let one_of = |words| vec![Words(words)];
    match words {
        [] => one_of(STATEMENTS),
        ["CREATE"] => one_of(&["NODE", "OR REPLACE", "TABLE", "VIEW", "SCHEMA", "EXTERNAL TABLE"]),
        ["CREATE", "OR"] => one_of(&["REPLACE"]),
        ["CREATE", "OR", "REPLACE"] => one_of(&["NODE", "TABLE", "VIEW", "EXTERNAL TABLE"]),
        ["CREATE", "EXTERNAL"] | ["TRUNCATE"] => one_of(&["TABLE"]),
        ["ALTER" | "REFRESH" | "RESTORE"] => one_of(&["NODE"]),
        ["DROP"] => one_of(&["NODE", "TABLE", "VIEW", "SCHEMA"]),
        ["CREATE", .., "IF"] => one_of(&["NOT EXISTS"]),
        ["CREATE", .., "IF", "NOT"] | ["ALTER" | "DROP", .., "IF"] => one_of(&["EXISTS"]),
        ["CREATE" | "ALTER" | "DROP", .., "EXISTS"] => vec![Path],
        ["CREATE", "NODE" | "TABLE" | "VIEW" | "SCHEMA"]
        | ["CREATE", "EXTERNAL", "TABLE"]
        | ["CREATE", "OR", "REPLACE", "NODE" | "TABLE" | "VIEW"] => {
            vec![Path, Words(&["IF NOT EXISTS"])]
        }
        ["ALTER", "NODE"] | ["DROP", "NODE" | "VIEW" | "SCHEMA"] => {
            vec![Path, Words(&["IF EXISTS"])]
        }
        ["DROP", "TABLE"] => vec![Tables, Words(&["IF EXISTS"])],
        ["REFRESH" | "RESTORE" | "EXPLAIN", "NODE"] | ["USE"] => vec![Path],
        ["REFRESH" | "DROP", .., ","] => vec![Path],
        ["DROP", "NODE", ..] => one_of(&["RECURSIVE", "CASCADE", "RESTRICT"]),
        ["DROP", ..] => one_of(&["CASCADE"]),
        ["RESTORE", "NODE", _] => one_of(&["TO VERSION", "TO TIMESTAMP"]),
        ["RESTORE", "NODE", _, "TO"] => one_of(&["VERSION", "TIMESTAMP"]),
        ["CREATE", "NODE", ..] | ["CREATE", "OR", "REPLACE", "NODE", ..] => create_node(words),
        ["CREATE", "EXTERNAL", "TABLE", ..] => match words {
            [.., "STORED"] => one_of(&["AS"]),
            [.., "STORED", "AS"] => {
                vec![Want::Factories, Words(&["CSV", "PARQUET", "JSON", "ARROW"])]
            }
            [.., "LOCATION"] => vec![Want::HostPath],
            _ => one_of(&["STORED AS", "LOCATION", "OPTIONS ("]),
        },
        ["CREATE", ..] => query_in(words).unwrap_or_else(|| match words.last() {
            Some(&"AS") => vec![QUERY],
            _ => one_of(&["AS"]),
        }),
        ["ALTER", "NODE", ..] => query_in(words).unwrap_or_else(|| match words {
            [.., "SET"] => one_of(&["QUERY AS", "COMMENT"]),
            [.., "SET", "QUERY"] => one_of(&["AS"]),
            [.., "AS"] => vec![QUERY],
            [.., "RENAME"] => one_of(&["TO"]),
            [.., "RENAME", "TO"] => vec![Path],
            [.., "'"] => one_of(&["SET (", "SET QUERY AS", "SET COMMENT", "RESET (", "RENAME TO"]),
            _ => Vec::new(),
        }),
        ["SHOW"] => vec![
            Words(&[
                "NODES",
                "FACTORIES",
                "CREATE NODE",
                "LINEAGE FOR",
                "LOG",
                "TABLES",
                "COLUMNS FROM",
                "FUNCTIONS",
                "ALL",
            ]),
            Want::Settings,
        ],
        ["SHOW", "NODES", "IN"] | ["SHOW", "LINEAGE", "FOR"] | ["SHOW", "CREATE", _] => vec![Path],
        ["SHOW", "NODES", .., "LIKE"] => Vec::new(),
        ["SHOW", "NODES"] => one_of(&["IN", "RECURSIVE", "LIKE"]),
        ["SHOW", "NODES", ..] => one_of(&["RECURSIVE", "LIKE"]),
        ["SHOW", "CREATE"] => one_of(&["NODE", "TABLE", "VIEW"]),
        ["SHOW", "LINEAGE"] => one_of(&["FOR"]),
        ["SHOW", "LINEAGE", ..] => one_of(&["UPSTREAM", "DOWNSTREAM"]),
        ["SHOW", "COLUMNS"] => one_of(&["FROM"]),
        ["SHOW", "COLUMNS", "FROM" | "IN"] => vec![Tables],
        ["SET" | "RESET"] => vec![Want::Settings],
        ["DESCRIBE" | "DESC"] => vec![Tables, Words(&["NODE", "FACTORY", "SELECT"])],
        ["DESCRIBE" | "DESC", "NODE"] => vec![Path],
        ["DESCRIBE" | "DESC", "FACTORY"] => vec![Want::Factories],
        ["SUMMARIZE"] | ["UPDATE"] | ["TRUNCATE", "TABLE"] => vec![Tables],
        ["INSERT"] => one_of(&["INTO", "OVERWRITE"]),
        ["INSERT", "INTO" | "OVERWRITE"] => vec![Tables],
        ["INSERT", "INTO" | "OVERWRITE", _] | ["INSERT", "INTO" | "OVERWRITE", _, "()"] => {
            vec![QUERY]
        }
        ["DELETE"] => one_of(&["FROM"]),
        ["UPDATE", _] => one_of(&["SET"]),
        ["COPY"] => vec![Tables],
        ["COPY", .., "TO"] => vec![Path],
        ["COPY", _] => one_of(&["TO"]),
        ["COPY", ..] => one_of(&["STORED AS", "OPTIONS ("]),
        ["EXPLAIN"] => {
            vec![Words(&["ANALYZE", "VERBOSE", "NODE", "SELECT", "WITH", "INSERT INTO", "UPDATE"])]
        }
        ["EXPLAIN", "ANALYZE" | "VERBOSE"] => vec![QUERY],
        [
            "SHOW" | "SET" | "RESET" | "USE" | "BEGIN" | "COMMIT" | "ROLLBACK" | "EXECUTE"
            | "DEALLOCATE",
            ..,
        ]
        | ["REFRESH" | "RESTORE" | "SUMMARIZE" | "TRUNCATE", ..]
        | ["DESCRIBE" | "DESC", _] => Vec::new(),
        _ => query(words),
    }
}

/// Returns what the query at the end of a statement goes on with, if it has begun.
fn query_in(words: &[&str]) -> Option<Vec<Want>> {
    let begins = |pair: &[&str]| {
        pair[0] == "AS" && matches!(pair[1], "SELECT" | "WITH" | "VALUES" | "FROM" | "TABLE")
    };
    let at = words.windows(2).position(begins)?;
    Some(query(&words[at + 1..]))
}

fn create_node(words: &[&str]) -> Vec<Want> {
    if !words.contains(&"FACTORY") {
        return vec![Want::Words(&["FACTORY"])];
    }
    if let Some(wants) = query_in(words) {
        return wants;
    }
    match words {
        [.., "FACTORY"] => vec![Want::Factories],
        [.., "FROM" | ","] => vec![Want::Path],
        [.., "REFRESH"] => vec![Want::Words(&["EVERY"])],
        [.., "AS"] => vec![QUERY],
        [.., "WITH" | "OPTIONS" | "COMMENT" | "EVERY" | "INTERVAL"] => Vec::new(),
        _ => {
            let is_given = |clause: &str| {
                let first = clause.split(' ').next().unwrap_or_default();
                words.contains(&first) && first != "AS"
            };
            let left = NODE_CLAUSES.iter().filter(|clause| !is_given(clause));
            left.map(|clause| Want::Words(std::slice::from_ref(clause))).collect()
        }
    }
}

/// Words that begin a clause.
const CLAUSES: &[&str] = &[
    "SELECT",
    "FROM",
    "JOIN",
    "INTO",
    "WHERE",
    "BY",
    "HAVING",
    "QUALIFY",
    "ON",
    "USING",
    "LIMIT",
    "OFFSET",
    "SET",
    "VALUES",
    "WITH",
    "UNION",
    "INTERSECT",
    "EXCEPT",
];

/// Returns what a query, or an expression, goes on with: by its last clause.
fn query(words: &[&str]) -> Vec<Want> {
    use Want::{Tables, Words};
    let operands = || vec![Want::Columns(None), Want::Functions, Words(OPERANDS)];
    let Some(at) = words.iter().rposition(|word| CLAUSES.contains(word)) else {
        return if is_begun(words) { vec![Words(OPERATORS)] } else { operands() };
    };
    let since = &words[at + 1..];
    let clause = words[at];
    if matches!(since.last(), Some(&"AS")) && clause != "WITH" {
        return Vec::new();
    }
    if is_begun(since) {
        let lists: &[&'static [&'static str]] = match clause {
            "SELECT" => &[AFTER_COLUMNS, OPERATORS],
            "FROM" | "JOIN" => &[AFTER_TABLE, AFTER_FROM, AFTER_ROWS],
            "ON" | "USING" => &[OPERATORS, AFTER_TABLE, AFTER_FROM, AFTER_ROWS],
            "WHERE" => &[OPERATORS, AFTER_WHERE, AFTER_ROWS],
            "SET" => &[&["WHERE"], OPERATORS],
            "BY" => &[AFTER_ORDER, AFTER_ROWS],
            "HAVING" | "QUALIFY" => &[OPERATORS, AFTER_ROWS],
            "LIMIT" => &[&["OFFSET"]],
            "WITH" if matches!(since, [.., "()"]) => &[QUERIES],
            "WITH" => &[&["AS ("]],
            // `* EXCEPT (a)`
            "EXCEPT" => &[AFTER_COLUMNS],
            "VALUES" => &[AFTER_ROWS],
            _ => &[],
        };
        return lists.iter().map(|list| Words(list)).collect();
    }
    match (clause, since) {
        ("SELECT", []) => {
            let mut wants = operands();
            wants.push(Words(&["DISTINCT"]));
            wants
        }
        ("FROM" | "JOIN" | "INTO", _) => vec![Tables, Words(&["LATERAL"])],
        ("UNION" | "INTERSECT" | "EXCEPT", _) => vec![QUERY, Words(&["ALL"])],
        ("WITH", []) => vec![Words(&["RECURSIVE"])],
        ("WITH" | "LIMIT" | "OFFSET" | "VALUES", _) => Vec::new(),
        _ => operands(),
    }
}

/// Whether words end with an operand, so that an operator or the next clause is due.
fn is_begun(words: &[&str]) -> bool {
    match words {
        [] => false,
        [.., "*"] => matches!(words, ["*"] | [.., "," | ".", "*"]),
        [
            ..,
            last @ ("()" | "'" | "\"" | "0" | "END" | "NULL" | "TRUE" | "FALSE" | "ASC" | "DESC"),
        ] => !last.is_empty(),
        [.., last] => {
            last.starts_with(|c: char| c.is_alphabetic() || c == '_') && !is_keyword(last)
        }
    }
}

/// What a statement reads, wherever it stands in it, and the names that its WITH gives.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// What is read, as queries for its columns.
    pub read: Vec<Source>,
    /// The names that WITH gives.
    pub named: Vec<String>,
}

/// Most sources that are looked at.
const SOURCES_MAX: usize = 16;

impl Sources {
    /// Finds what the statement around a place reads, what is being typed left out.
    pub(crate) fn find(text: &str, at: usize, place: &Place) -> Self {
        let (before, after) = (&text[..place.start], &text[at..]);
        let found = pieces(before);
        let begun = match statement_start(&found, before) {
            0 => 0,
            at => found[at - 1].range.end,
        };
        let after = match place.quote {
            // What is left of the text or name, if it is closed.
            Some(quote) => after.split_once(quote).map_or(after, |(_, after)| after),
            None => after.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'),
        };
        let text = format!("{} {after}", &before[begun..]);
        let found: Vec<Piece> = pieces(&text)
            .into_iter()
            .take_while(|piece| &text[piece.range.clone()] != ";")
            .filter(|piece| piece.kind != PieceKind::Comment)
            .collect();
        let reader = Reader { text: &text, pieces: &found };
        let (with, named) = reader.with();
        let mut read = Vec::new();
        let mut at = 0;
        while at < found.len() && read.len() < SOURCES_MAX {
            let begins = matches!(
                reader.word(at).as_str(),
                "FROM" | "JOIN" | "INTO" | "UPDATE" | "DESCRIBE"
            );
            at += 1;
            if !begins {
                continue;
            }
            while let Some((source, next)) = reader.source(at, &with, &named) {
                read.push(source);
                at = next;
                if reader.word(at) != "," || read.len() >= SOURCES_MAX {
                    break;
                }
                at += 1;
            }
        }
        Self { read, named }
    }
}

/// Reads the pieces of a statement.
struct Reader<'a> {
    text: &'a str,
    pieces: &'a [Piece],
}

impl Reader<'_> {
    /// Returns a keyword or sign in capitals; nothing for what is quoted.
    fn word(&self, at: usize) -> String {
        match self.pieces.get(at) {
            Some(piece) if !matches!(piece.kind, PieceKind::String | PieceKind::QuotedName) => {
                self.text[piece.range.clone()].to_uppercase()
            }
            _ => String::new(),
        }
    }

    fn is_name(&self, at: usize) -> bool {
        let is_name = |piece: &Piece| {
            matches!(piece.kind, PieceKind::Name | PieceKind::Function | PieceKind::QuotedName)
        };
        self.pieces.get(at).is_some_and(is_name)
    }

    fn name(&self, at: usize) -> String {
        name_of(&self.text[self.pieces[at].range.clone()])
    }

    /// Returns the piece behind a group that begins at `at`.
    fn skip_group(&self, mut at: usize) -> usize {
        let mut depth = 0usize;
        while at < self.pieces.len() {
            match self.word(at).as_str() {
                "(" => depth += 1,
                ")" => depth = depth.saturating_sub(1),
                _ => {}
            }
            at += 1;
            if depth == 0 {
                break;
            }
        }
        at
    }

    /// Returns the WITH of a query, if all of it is there, and the names that it gives.
    fn with(&self) -> (String, Vec<String>) {
        let Some(begun) = (0..self.pieces.len()).find(|&at| {
            self.word(at) == "WITH" && (self.is_name(at + 1) || self.word(at + 1) == "RECURSIVE")
        }) else {
            return Default::default();
        };
        let mut named = Vec::new();
        let mut at = begun + 1 + usize::from(self.word(begun + 1) == "RECURSIVE");
        let mut end = at;
        while self.is_name(at) {
            let name = self.name(at);
            at += 1;
            if self.word(at) == "(" {
                at = self.skip_group(at);
            }
            if self.word(at) != "AS" || self.word(at + 1) != "(" {
                break;
            }
            at = self.skip_group(at + 1);
            named.push(name);
            end = at;
            if self.word(at) != "," {
                break;
            }
            at += 1;
        }
        let range = self.pieces[begun].range.start..self.pieces[end - 1].range.end;
        (if named.is_empty() { String::new() } else { self.text[range].to_owned() }, named)
    }

    /// Reads what is read at `at`, its alias included, and returns the piece behind it.
    fn source(&self, at: usize, with: &str, named: &[String]) -> Option<(Source, usize)> {
        let first = self.pieces.get(at)?;
        let mut next = at + 1;
        let mut name = None;
        match first.kind {
            PieceKind::String => {}
            PieceKind::Symbol if self.word(at) == "(" => next = self.skip_group(at),
            _ if self.is_name(at) => {
                while self.word(next) == "." && self.is_name(next + 1) {
                    next += 2;
                }
                name = Some(self.name(next - 1));
                if self.pieces[next - 1].kind == PieceKind::Function && self.word(next) == "(" {
                    // `INSERT INTO t (a)` is not a call.
                    let is_target = at > 0 && self.word(at - 1) == "INTO";
                    if !is_target {
                        next = self.skip_group(next);
                    }
                }
            }
            _ => return None,
        }
        let read = &self.text[first.range.start..self.pieces[next - 1].range.end];
        // A name of WITH is known within it only.
        let with = match &name {
            Some(name) if named.iter().any(|given| given.eq_ignore_ascii_case(name)) => with,
            _ if read.starts_with('(') => with,
            _ => "",
        };
        let query = format!("{with} SELECT * FROM {read}");
        let alias = next + usize::from(self.word(next) == "AS");
        if self.is_name(alias) {
            name = Some(self.name(alias));
            next = alias + 1;
        }
        Some((Source { name, query }, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finds the place of `|`.
    fn find(text: &str) -> (String, usize, Option<Place>) {
        let at = text.find('|').unwrap();
        let text = text.replacen('|', "", 1);
        let place = Place::find(&text, at);
        (text, at, place)
    }

    #[test]
    fn what_is_typed_is_told_from_what_is_there() {
        for (text, typed, quote) in [
            ("SELECT ab|c", "ab", None),
            ("SELECT 1; sel|", "sel", None),
            ("FROM '/it''s|", "/it's", Some('\'')),
            ("FROM \"/a|\"", "/a", Some('"')),
            ("SET datafusion.exec|", "datafusion.exec", None),
            ("SET datafusion.|", "datafusion.", None),
            ("SELECT a.b|", "b", None),
        ] {
            let place = find(text).2.unwrap();
            assert_eq!((place.typed.as_str(), place.quote), (typed, quote), "{text}");
        }
        for text in ["-- sel|", "/* sel|", "SELECT 12|", "SELECT $$a|"] {
            assert!(find(text).2.is_none(), "{text}");
        }
    }

    #[test]
    fn sources_are_found_on_both_sides() {
        let sources = |text: &str| {
            let (text, at, place) = find(text);
            Sources::find(&text, at, &place.unwrap())
                .read
                .into_iter()
                .map(|source| {
                    format!("{}: {}", source.name.unwrap_or_default(), source.query.trim())
                })
                .collect::<Vec<_>>()
        };
        for (text, expected) in [
            (
                "SELECT | FROM '/a.csv' x, t",
                vec!["x: SELECT * FROM '/a.csv'", "t: SELECT * FROM t"],
            ),
            (
                "SELECT 1 FROM old; SELECT * FROM pond.\"/a\".\"b\" JOIN ls('/', true) AS l ON |; SELECT 2 FROM y",
                vec!["b: SELECT * FROM pond.\"/a\".\"b\"", "l: SELECT * FROM ls('/', true)"],
            ),
            (
                "WITH w AS (SELECT 1 AS a) SELECT | FROM w",
                vec!["w: WITH w AS (SELECT 1 AS a) SELECT * FROM w"],
            ),
            ("SELECT | FROM (SELECT 1 AS b) s", vec!["s: SELECT * FROM (SELECT 1 AS b)"]),
            ("INSERT INTO t (|", vec!["t: SELECT * FROM t"]),
            ("SELECT '|' FROM t", vec!["t: SELECT * FROM t"]),
            ("SELECT a FROM t|", vec![]),
        ] {
            assert_eq!(sources(text), expected, "{text}");
        }
    }
}
