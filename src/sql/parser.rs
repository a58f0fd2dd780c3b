//! Recognises our statements by their first tokens; everything else goes, token by token, to the
//! engine's parser.
//!
//! ```ebnf
//! create_node  = CREATE [ OR REPLACE ] NODE [ IF NOT EXISTS ] path FACTORY name
//!                { FROM source { "," source } | options | REFRESH EVERY duration | COMMENT string }
//!                [ AS query ] ;
//! create_view  = CREATE [ OR REPLACE ] VIEW [ IF NOT EXISTS ] path AS query ;
//! alter_node   = ALTER NODE [ IF EXISTS ] path ( SET "(" … ")" | RESET "(" key { "," key } ")"
//!                | SET QUERY AS query | SET COMMENT ( string | NULL ) | RENAME TO path ) ;
//! drop_node    = DROP NODE [ IF EXISTS ] path { "," path } [ RECURSIVE ] [ CASCADE | RESTRICT ] ;
//! refresh_node = REFRESH NODE path { "," path } ;
//! restore_node = RESTORE NODE path TO ( VERSION number | TIMESTAMP expr ) ;
//! show         = SHOW NODES [ ( IN | FROM ) path ] [ RECURSIVE ] [ LIKE string ] | SHOW FACTORIES
//!              | SHOW CREATE NODE path | SHOW LINEAGE FOR path [ UPSTREAM | DOWNSTREAM ] | SHOW LOG ;
//! describe     = ( DESCRIBE | DESC ) ( path | NODE path | FACTORY name ) ;
//! explain_node = EXPLAIN NODE path ;
//! use          = USE path ;
//! summarize    = SUMMARIZE ( path | name | query ) ;
//! options      = ( WITH | OPTIONS ) "(" [ key [ "=" | "=>" ] value { "," … } [ "," ] ] ")" ;
//! value        = string | number | TRUE | FALSE | NULL | word | INTERVAL string | "(" value { "," … } ")" ;
//! ```
//!
//! The query of a node is kept as the text that it was written as.

use datafusion::error::DataFusionError;
use datafusion::sql::parser::DFParserBuilder;
use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};
use serde_json::Value;

use super::script::{DIALECT, Source};
use super::statement::{AlterNodeChange, Body, CreateNode, Describe, NodeStatement, Show};
use super::{ignored, repeated_columns, time_travel};
use crate::error::Error;

/// Why tokens are no statement.
pub(super) enum Failure {
    /// A grammar was not met; the place is in the message.
    Syntax(DataFusionError),
    /// The syntax is known and refused.
    Ours(Error),
}

impl From<ParserError> for Failure {
    fn from(error: ParserError) -> Self {
        Self::Syntax(DataFusionError::SQL(Box::new(error), None))
    }
}

type Parsed<T> = std::result::Result<T, ParserError>;

/// Parses the tokens of one statement of `text`, without its semicolon.
pub(super) fn parse(tokens: Vec<TokenWithSpan>, text: Source<'_>) -> Result<Body, Failure> {
    let (tokens, summarizes) = take_summarize(tokens)?;
    let (tokens, past) = time_travel::take_clauses(tokens)?;
    let mut parser =
        DFParserBuilder::new(tokens).with_dialect(&DIALECT).build().map_err(Failure::Syntax)?;
    if let Some(statement) = node_statement(&mut parser.parser, text)? {
        at_end(&parser.parser)?;
        // Those of a stored query are looked at when it is read.
        if statement.query().is_none_or(|query| past.len() > time_travel::count(query)) {
            time_travel::refuse(&past)?;
        }
        return Ok(Body::Node(statement));
    }
    let mut statement = parser.parse_statement().map_err(Failure::Syntax)?;
    at_end(&parser.parser)?;
    ignored::refuse(&statement).map_err(Failure::Ours)?;
    time_travel::check(&mut statement, &past)?;
    repeated_columns::name(&mut statement);
    Ok(match summarizes {
        true => Body::Summarize(Box::new(statement), past),
        false => Body::Engine(Box::new(statement), past),
    })
}

/// Takes SUMMARIZE off a statement, which leaves a query: what follows, or all that the table there
/// holds. Returns whether it was there.
fn take_summarize(mut tokens: Vec<TokenWithSpan>) -> Result<(Vec<TokenWithSpan>, bool), Failure> {
    let is = |token: &TokenWithSpan, word| is_plain_word(&token.token, word);
    let mut words = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_)));
    let Some(first) = words.next() else { return Ok((tokens, false)) };
    if is(first, "EXPLAIN") {
        let verb = words.find(|token| !is(token, "ANALYZE") && !is(token, "VERBOSE"));
        return match verb.is_some_and(|verb| is(verb, "SUMMARIZE")) {
            true => Err(Failure::Ours(
                Error::unsupported("EXPLAIN takes no SUMMARIZE")
                    .with_hint("EXPLAIN the query that is summarized: EXPLAIN SELECT * FROM …"),
            )),
            false => Ok((tokens, false)),
        };
    }
    if !is(first, "SUMMARIZE") {
        return Ok((tokens, false));
    }
    let span = first.span;
    let at = tokens.iter().position(|token| is(token, "SUMMARIZE")).expect("just found");
    let is_query = words.next().is_some_and(|second| begins_query(&second.token));
    let select = [Token::make_keyword("SELECT"), Token::Mul, Token::make_keyword("FROM")];
    let all_of = select.into_iter().map(|token| TokenWithSpan { token, span });
    tokens.splice(at..=at, all_of.filter(|_| !is_query));
    Ok((tokens, true))
}

fn at_end(parser: &Parser<'_>) -> Parsed<()> {
    if parser.peek_token_ref().token == Token::EOF {
        return Ok(());
    }
    expected(parser, "the end of the statement")
}

/// Parses one of our statements, or consumes nothing.
fn node_statement(parser: &mut Parser<'_>, text: Source<'_>) -> Parsed<Option<NodeStatement>> {
    let Token::Word(first) = &parser.peek_token_ref().token else { return Ok(None) };
    let first = first.value.to_ascii_uppercase();
    let statement = match first.as_str() {
        "CREATE" if take(parser, &["CREATE", "NODE"]) => create_node(parser, false, text)?,
        "CREATE" if take(parser, &["CREATE", "OR", "REPLACE", "NODE"]) => {
            create_node(parser, true, text)?
        }
        "CREATE" if let Some(or_replace) = take_view(parser) => {
            create_view(parser, or_replace, text)?
        }
        "ALTER" if take(parser, &["ALTER", "NODE"]) => alter_node(parser, text)?,
        "DROP" if take(parser, &["DROP", "NODE"]) => drop_node(parser)?,
        "REFRESH" if take(parser, &["REFRESH", "NODE"]) => {
            NodeStatement::Refresh { paths: paths(parser)? }
        }
        "RESTORE" if take(parser, &["RESTORE", "NODE"]) => restore_node(parser)?,
        "SHOW" if take(parser, &["SHOW", "NODES"]) => show_nodes(parser)?,
        "SHOW" if take(parser, &["SHOW", "FACTORIES"]) => NodeStatement::Show(Show::Factories),
        "SHOW" if take(parser, &["SHOW", "LOG"]) => NodeStatement::Show(Show::Log),
        "SHOW" if take(parser, &["SHOW", "CREATE", "NODE"]) => {
            NodeStatement::Show(Show::CreateNode(path(parser)?))
        }
        "SHOW" if take(parser, &["SHOW", "LINEAGE"]) => show_lineage(parser)?,
        "EXPLAIN" if is_string(parser, 2) && take(parser, &["EXPLAIN", "NODE"]) => {
            NodeStatement::ExplainNode { path: path(parser)? }
        }
        "DESCRIBE" | "DESC" => return describe(parser),
        "USE" if is_string(parser, 1) => {
            parser.next_token();
            NodeStatement::Use { path: path(parser)? }
        }
        _ => return Ok(None),
    };
    Ok(Some(statement))
}

fn create_node(
    parser: &mut Parser<'_>,
    or_replace: bool,
    text: Source<'_>,
) -> Parsed<NodeStatement> {
    let mut node = CreateNode { or_replace, ..CreateNode::default() };
    node.if_not_exists = take(parser, &["IF", "NOT", "EXISTS"]);
    node.path = path(parser)?;
    expect(parser, "FACTORY")?;
    node.factory = name(parser, "a factory")?;
    let mut has_options = false;
    loop {
        if take(parser, &["FROM"]) {
            once(parser, node.sources.is_empty(), "FROM")?;
            node.sources = comma_separated(parser, |parser| {
                let path = path(parser)?;
                let is_query = begins_query(&parser.peek_nth_token_ref(1).token);
                let alias = match !is_query && take(parser, &["AS"]) {
                    true => Some(match parser.parse_identifier()? {
                        Ident { value, quote_style: None, .. } => value.to_lowercase(),
                        quoted => quoted.value,
                    }),
                    false => None,
                };
                Ok((path, alias))
            })?;
        } else if take(parser, &["WITH"]) || take(parser, &["OPTIONS"]) {
            once(parser, !has_options, "WITH")?;
            has_options = true;
            node.options = options(parser)?;
        } else if take(parser, &["REFRESH", "EVERY"]) {
            once(parser, node.refresh.is_none(), "REFRESH EVERY")?;
            take(parser, &["INTERVAL"]);
            node.refresh = Some(string(parser, "a duration in single quotes")?);
        } else if take(parser, &["COMMENT"]) {
            once(parser, node.comment.is_none(), "COMMENT")?;
            node.comment = Some(string(parser, "a comment in single quotes")?);
        } else if take(parser, &["AS"]) {
            node.query = Some(query(parser, text)?);
            return Ok(NodeStatement::Create(node));
        } else if parser.peek_token_ref().token == Token::EOF {
            return Ok(NodeStatement::Create(node));
        } else {
            return expected(parser, "WITH, FROM, REFRESH EVERY, COMMENT or AS");
        }
    }
}

/// Whether a token behind AS begins a query, and is no alias.
fn begins_query(token: &Token) -> bool {
    let words = ["SELECT", "WITH", "VALUES", "FROM", "TABLE"];
    *token == Token::LParen || words.iter().any(|word| is_plain_word(token, word))
}

/// Consumes `CREATE [OR REPLACE] VIEW` before a path, and returns whether it replaces.
fn take_view(parser: &mut Parser<'_>) -> Option<bool> {
    let is_path = |parser: &mut Parser<'_>, mut at: usize| {
        if ["IF", "NOT", "EXISTS"].iter().enumerate().all(|(i, word)| is_word(parser, at + i, word))
        {
            at += 3;
        }
        match &parser.peek_nth_token_ref(at).token {
            Token::SingleQuotedString(_) => true,
            Token::Word(Word { value, quote_style: Some(_), .. }) => value.contains('/'),
            _ => false,
        }
    };
    if is_word(parser, 1, "VIEW") && is_path(parser, 2) && take(parser, &["CREATE", "VIEW"]) {
        return Some(false);
    }
    let words = ["CREATE", "OR", "REPLACE", "VIEW"];
    (is_word(parser, 3, "VIEW") && is_path(parser, 4) && take(parser, &words)).then_some(true)
}

/// `CREATE VIEW '/p.table' AS query`: a derived node in the words of the standard.
fn create_view(
    parser: &mut Parser<'_>,
    or_replace: bool,
    text: Source<'_>,
) -> Parsed<NodeStatement> {
    let if_not_exists = take(parser, &["IF", "NOT", "EXISTS"]);
    let path = name(parser, "a view")?;
    expect(parser, "AS")?;
    let factory = match path.ends_with(".series") {
        true => "sql_derived_series",
        false => "sql_derived_table",
    };
    Ok(NodeStatement::Create(CreateNode {
        path,
        factory: factory.to_owned(),
        or_replace,
        if_not_exists,
        query: Some(query(parser, text)?),
        ..CreateNode::default()
    }))
}

/// Parses the query at the end of a statement, and returns its text as it was written.
fn query(parser: &mut Parser<'_>, text: Source<'_>) -> Parsed<String> {
    let start = parser.peek_token_ref().span.start;
    parser.parse_query()?;
    at_end(parser)?;
    Ok(text.from(start).trim_end().to_owned())
}

fn alter_node(parser: &mut Parser<'_>, text: Source<'_>) -> Parsed<NodeStatement> {
    let if_exists = take(parser, &["IF", "EXISTS"]);
    let path_text = path(parser)?;
    let change = if take(parser, &["SET", "QUERY"]) {
        expect(parser, "AS")?;
        AlterNodeChange::Query(query(parser, text)?)
    } else if take(parser, &["SET", "COMMENT"]) {
        if take(parser, &["NULL"]) {
            AlterNodeChange::Comment(None)
        } else {
            AlterNodeChange::Comment(Some(string(parser, "a comment in single quotes, or NULL")?))
        }
    } else if take(parser, &["SET"]) {
        AlterNodeChange::Set(options(parser)?)
    } else if take(parser, &["RESET"]) {
        parser.expect_token(&Token::LParen)?;
        let keys = comma_separated(parser, key)?;
        parser.expect_token(&Token::RParen)?;
        AlterNodeChange::Reset(keys)
    } else if take(parser, &["RENAME", "TO"]) {
        AlterNodeChange::Rename(path(parser)?)
    } else {
        return expected(parser, "SET, RESET or RENAME TO");
    };
    Ok(NodeStatement::Alter { path: path_text, if_exists, change })
}

fn drop_node(parser: &mut Parser<'_>) -> Parsed<NodeStatement> {
    let if_exists = take(parser, &["IF", "EXISTS"]);
    let paths = paths(parser)?;
    let recursive = take(parser, &["RECURSIVE"]);
    let cascade = take(parser, &["CASCADE"]);
    if !cascade {
        take(parser, &["RESTRICT"]);
    }
    Ok(NodeStatement::Drop { paths, if_exists, recursive, cascade })
}

fn restore_node(parser: &mut Parser<'_>) -> Parsed<NodeStatement> {
    let path = path(parser)?;
    expect(parser, "TO")?;
    let to = if take(parser, &["VERSION"]) {
        time_travel::version(parser)?
    } else if take(parser, &["TIMESTAMP"]) {
        time_travel::time(parser)?
    } else {
        return expected(parser, "VERSION or TIMESTAMP");
    };
    Ok(NodeStatement::Restore { path, to })
}

fn show_nodes(parser: &mut Parser<'_>) -> Parsed<NodeStatement> {
    let within =
        if take(parser, &["IN"]) || take(parser, &["FROM"]) { Some(path(parser)?) } else { None };
    let recursive = take(parser, &["RECURSIVE"]);
    let like = if take(parser, &["LIKE"]) {
        Some(string(parser, "a pattern in single quotes")?)
    } else {
        None
    };
    Ok(NodeStatement::Show(Show::Nodes { path: within, recursive, like }))
}

fn show_lineage(parser: &mut Parser<'_>) -> Parsed<NodeStatement> {
    expect(parser, "FOR")?;
    let path = path(parser)?;
    let direction =
        ["UPSTREAM", "DOWNSTREAM"].into_iter().find(|direction| take(parser, &[direction]));
    Ok(NodeStatement::Show(Show::Lineage { path, direction }))
}

/// `DESCRIBE t` of a session's table and `DESCRIBE SELECT …` are the engine's.
fn describe(parser: &mut Parser<'_>) -> Parsed<Option<NodeStatement>> {
    let describe = if is_string(parser, 1) {
        parser.next_token();
        Describe::Path(path(parser)?)
    } else if is_word(parser, 1, "NODE") && is_string(parser, 2) {
        parser.next_token();
        parser.next_token();
        Describe::Node(path(parser)?)
    } else if is_word(parser, 1, "FACTORY") && parser.peek_nth_token_ref(2).token != Token::EOF {
        parser.next_token();
        parser.next_token();
        Describe::Factory(name(parser, "a factory")?)
    } else {
        return Ok(None);
    };
    Ok(Some(NodeStatement::Describe(describe)))
}

// ---------------------------------------------------------------------------------------------
// Parts of statements

fn options(parser: &mut Parser<'_>) -> Parsed<Vec<(String, Value)>> {
    parser.expect_token(&Token::LParen)?;
    let mut options = Vec::new();
    while !parser.consume_token(&Token::RParen) {
        let key = key(parser)?;
        let _ = parser.consume_token(&Token::Eq) || parser.consume_token(&Token::RArrow);
        options.push((key, value(parser)?));
        if !parser.consume_token(&Token::Comma) {
            parser.expect_token(&Token::RParen)?;
            break;
        }
    }
    Ok(options)
}

fn key(parser: &mut Parser<'_>) -> Parsed<String> {
    if is_string(parser, 0) { string(parser, "an option") } else { name(parser, "an option") }
}

fn value(parser: &mut Parser<'_>) -> Parsed<Value> {
    if is_string(parser, 0) {
        return Ok(Value::String(string(parser, "a value")?));
    }
    if take(parser, &["INTERVAL"]) {
        return Ok(Value::String(string(parser, "a duration in single quotes")?));
    }
    if parser.consume_token(&Token::LParen) {
        let values = comma_separated(parser, value)?;
        parser.expect_token(&Token::RParen)?;
        return Ok(Value::Array(values));
    }
    let negative = parser.consume_token(&Token::Minus);
    match parser.peek_token_ref().token.clone() {
        Token::Number(digits, _) => {
            let text = if negative { format!("-{digits}") } else { digits };
            let number =
                text.parse::<i64>().map(Value::from).ok().or_else(|| {
                    serde_json::Number::from_f64(text.parse().ok()?).map(Value::Number)
                });
            match number {
                Some(number) => {
                    parser.next_token();
                    Ok(number)
                }
                None => expected(parser, "a number"),
            }
        }
        Token::Word(word) if !negative => {
            parser.next_token();
            Ok(match (word.quote_style, word.value.to_ascii_uppercase().as_str()) {
                (None, "TRUE") => Value::Bool(true),
                (None, "FALSE") => Value::Bool(false),
                (None, "NULL") => Value::Null,
                _ => Value::String(word.value),
            })
        }
        _ => expected(parser, "a value"),
    }
}

fn paths(parser: &mut Parser<'_>) -> Parsed<Vec<String>> {
    comma_separated(parser, path)
}

fn path(parser: &mut Parser<'_>) -> Parsed<String> {
    string(parser, "a path in single quotes")
}

fn string(parser: &mut Parser<'_>, what: &str) -> Parsed<String> {
    if is_string(parser, 0) { parser.parse_literal_string() } else { expected(parser, what) }
}

fn name(parser: &mut Parser<'_>, what: &str) -> Parsed<String> {
    match &parser.peek_token_ref().token {
        Token::Word(Word { value, .. }) | Token::SingleQuotedString(value) => {
            let value = value.clone();
            parser.next_token();
            Ok(value)
        }
        _ => expected(parser, &format!("the name of {what}")),
    }
}

fn comma_separated<T>(
    parser: &mut Parser<'_>,
    part: impl Fn(&mut Parser<'_>) -> Parsed<T>,
) -> Parsed<Vec<T>> {
    let mut parts = vec![part(parser)?];
    while parser.consume_token(&Token::Comma) {
        parts.push(part(parser)?);
    }
    Ok(parts)
}

/// Consumes `words` if they all come next, unquoted and in any case.
fn take(parser: &mut Parser<'_>, words: &[&str]) -> bool {
    let found = words.iter().enumerate().all(|(at, word)| is_word(parser, at, word));
    if found {
        for _ in words {
            parser.next_token();
        }
    }
    found
}

fn expect(parser: &mut Parser<'_>, word: &str) -> Parsed<()> {
    if take(parser, &[word]) { Ok(()) } else { expected(parser, word) }
}

fn once(parser: &mut Parser<'_>, is_first: bool, clause: &str) -> Parsed<()> {
    if is_first { Ok(()) } else { expected(parser, &format!("no second {clause}")) }
}

fn expected<T>(parser: &Parser<'_>, what: &str) -> Parsed<T> {
    parser.expected(what, parser.peek_token())
}

fn is_word(parser: &Parser<'_>, at: usize, word: &str) -> bool {
    is_plain_word(&parser.peek_nth_token_ref(at).token, word)
}

fn is_string(parser: &Parser<'_>, at: usize) -> bool {
    matches!(
        parser.peek_nth_token_ref(at).token,
        Token::SingleQuotedString(_) | Token::EscapedStringLiteral(_)
    )
}

/// Whether `token` is `word`, unquoted and in any case.
pub(super) fn is_plain_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(Word { value, quote_style: None, .. })
        if value.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::script::Script;
    use super::super::statement::{NodeParts, create_node_sql};
    use super::*;

    fn node(sql: &str) -> NodeStatement {
        match Script::parse_one(sql).unwrap().into_parts().1 {
            Body::Node(node) => node,
            Body::Engine(statement, _) | Body::Summarize(statement, _) => {
                panic!("not ours: {statement}")
            }
        }
    }

    #[test]
    fn create_node_takes_options_in_every_form() {
        let NodeStatement::Create(node) = node(
            "create or replace node '/a''b' factory \"My\" options (a 1, 'b' = -2.5, c => TRUE, \
             d null, e word, f INTERVAL '1 hour', g ('x', 2),) comment 'it''s'",
        ) else {
            panic!("no CREATE NODE")
        };
        assert_eq!(node.path, "/a'b");
        assert_eq!(node.factory, "My");
        assert!(node.or_replace && !node.if_not_exists);
        assert_eq!(node.comment.as_deref(), Some("it's"));
        let options: Vec<_> = node.options.iter().map(|(key, value)| (&**key, value)).collect();
        assert_eq!(
            options,
            [
                ("a", &json!(1)),
                ("b", &json!(-2.5)),
                ("c", &json!(true)),
                ("d", &json!(null)),
                ("e", &json!("word")),
                ("f", &json!("1 hour")),
                ("g", &json!(["x", 2])),
            ]
        );
    }

    #[test]
    fn our_words_are_special_in_statement_position_only() {
        for sql in [
            "SELECT node, factory, log FROM nodes",
            "CREATE TABLE node (factory INT)",
            "DESCRIBE node",
            "DESC factory",
            "DROP TABLE node",
            "SHOW TABLES",
            "USE node",
        ] {
            let (_, body) = Script::parse_one(sql).unwrap().into_parts();
            assert!(matches!(body, Body::Engine(..)), "{sql}");
        }
    }

    #[test]
    fn bad_statements_say_what_was_expected() {
        for (sql, expected) in [
            ("CREATE NODE /a FACTORY f", "column 13: expected a path in single quotes, found /"),
            ("CREATE NODE '/a' FACTORY f WITH (x =)", "column 37: expected a value, found )"),
            ("CREATE NODE '/a' FACTORY f FOO", "column 28: expected WITH, FROM, REFRESH EVERY"),
            ("ALTER NODE '/a' DROP x", "column 17: expected SET, RESET or RENAME TO, found DROP"),
            ("DROP NODE '/a' '/b'", "column 16: expected the end of the statement, found '/b'"),
            ("CREATE NODE '/a' FACTORY f WITH () WITH ()", "expected no second WITH"),
            ("SELECT * FROM a VERSION AS OF 3", "'a' cannot be read as of an earlier time"),
        ] {
            let error = Script::parse_one(sql).unwrap_err();
            assert!(error.message().contains(expected), "{sql}: {}", error.message());
        }
    }

    #[test]
    fn deep_nesting_is_an_error() {
        let sql = format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000));
        let error = Script::parse_one(&sql).unwrap_err();
        assert!(error.message().contains("nested too deeply"), "{}", error.message());
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            ".*".prop_map(Value::String),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 8, 4, |inner| {
            proptest::collection::vec(inner, 1..4).prop_map(Value::Array)
        })
    }

    proptest! {
        #[test]
        fn a_printed_create_node_parses_back(
            path in "(/[^/\0]{1,8}){1,3}",
            factory in "[a-zA-Z][a-zA-Z0-9 \"-]{0,8}",
            sources in proptest::collection::vec(("/[^/\0]{1,8}", proptest::option::of("[a-z\" ]{1,4}")), 0..3),
            options in proptest::collection::btree_map("[a-zA-Z_]{1,8}", any_value(), 0..4),
            refresh in proptest::option::of(".*"),
            comment in proptest::option::of(".*"),
            query in proptest::option::of("SELECT '[^'\\\\]{0,4}' AS \"[a-z]{1,3}\" FROM '/[a-z]{1,3}'"),
        ) {
            let sql = create_node_sql(&NodeParts {
                path: &path,
                factory: &factory,
                sources: sources.clone(),
                options: options.iter().map(|(name, value)| (name.as_str(), value)).collect(),
                refresh: refresh.as_deref(),
                comment: comment.as_deref(),
                query: query.as_deref(),
            });
            let NodeStatement::Create(parsed) = node(&sql) else { panic!("{sql}") };
            prop_assert_eq!(parsed.path, path);
            prop_assert_eq!(parsed.factory, factory);
            prop_assert_eq!(parsed.sources, sources);
            prop_assert_eq!(parsed.options.into_iter().collect::<std::collections::BTreeMap<_, _>>(), options);
            prop_assert_eq!(parsed.refresh, refresh);
            prop_assert_eq!(parsed.comment, comment);
            prop_assert_eq!(parsed.query, query);
        }
    }
}
