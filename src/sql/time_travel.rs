//! Reading the past: `'/p' VERSION AS OF 12`, `TIMESTAMP AS OF expr`, `FOR SYSTEM_TIME AS OF expr`.
//!
//! The dialect has no such clauses, and the engine's planner would ignore them. So they are taken out
//! of the tokens before those are parsed, and the name before each is marked with the clause's number.
//! Afterwards every mark must be on a name in a FROM; when the statement runs and the times are known,
//! [`name_past`] makes path forms of the marked names: `'/p@v12'`, `'/p@2026-01-01T00:00:00Z'`.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement as EngineStatement};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FromTable, Ident, ObjectName, ObjectNamePart, Statement, TableAlias,
    TableFactor, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::parser::{Failure, is_plain_word};
use super::script::{DIALECT, tokenize};
use crate::error::Error;

/// A time in the past, as a statement gives it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Moment {
    /// After this transaction.
    Version(i64),
    /// The newest transaction at the time that this constant expression means.
    Time(Box<SqlExpr>),
}

/// One clause of a statement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PastClause {
    /// The name it follows.
    name: String,
    /// Its first words.
    words: String,
    pub moment: Moment,
}

/// The clauses; the last one's operand is a number, the others' a time.
const CLAUSES: &[&[&str]] = &[
    &["TIMESTAMP", "AS", "OF"],
    &["FOR", "SYSTEM_TIME", "AS", "OF"],
    &["FOR", "TIMESTAMP", "AS", "OF"],
    &["VERSION", "AS", "OF"],
    &["FOR", "VERSION", "AS", "OF"],
];

/// Separates a name from the number of its clause. No name of a node holds it, so a mark that was
/// overlooked names nothing.
const MARK: char = '\0';

/// Takes the clauses out of a statement's tokens and marks the names that they follow.
pub(super) fn take_clauses(
    tokens: Vec<TokenWithSpan>,
) -> Result<(Vec<TokenWithSpan>, Vec<PastClause>), Failure> {
    let mut clauses = Vec::new();
    if !tokens.iter().any(|token| is_plain_word(&token.token, "OF")) {
        return Ok((tokens, clauses));
    }
    let mut taken: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        if let Some((words, operand)) = clause_at(&tokens, at)
            && let Some(name) = taken.iter_mut().rev().find(|token| !is_space(token))
            && let Some(text) = name_before(&name.token, words, &tokens[operand..])?
        {
            let (moment, length) = operand_of(words, &tokens[operand..])?;
            mark(&mut name.token, clauses.len());
            clauses.push(PastClause { name: text, words: words.join(" "), moment });
            at = operand + length;
        } else {
            taken.push(tokens[at].clone());
            at += 1;
        }
    }
    Ok((taken, clauses))
}

/// Returns how many clauses a text has.
pub(super) fn count(text: &str) -> usize {
    let (tokens, _) = tokenize(text);
    take_clauses(tokens).map_or(0, |(_, clauses)| clauses.len())
}

/// Returns the words of the clause that begins at `at`, and where its operand begins.
fn clause_at(tokens: &[TokenWithSpan], at: usize) -> Option<(&'static [&'static str], usize)> {
    CLAUSES.iter().find_map(|words| {
        let mut rest = at;
        for (index, word) in words.iter().enumerate() {
            while index > 0 && tokens.get(rest).is_some_and(is_space) {
                rest += 1;
            }
            if !is_plain_word(&tokens.get(rest)?.token, word) {
                return None;
            }
            rest += 1;
        }
        while tokens.get(rest).is_some_and(is_space) {
            rest += 1;
        }
        Some((*words, rest))
    })
}

/// Returns the name that a clause follows; `None` if the words are no clause there, as in
/// `SELECT version AS of`.
fn name_before(
    token: &Token,
    words: &[&str],
    operand: &[TokenWithSpan],
) -> Result<Option<String>, Failure> {
    let refused = |what: &str| {
        let clause = words.join(" ");
        Failure::Ours(
            Error::unsupported(format!("{what} cannot be read as of an earlier time ({clause})"))
                .with_hint("only paths have a past: '/p' VERSION AS OF 12, or ls('/dir@v12')"),
        )
    };
    match token {
        Token::SingleQuotedString(name)
        | Token::Word(Word { value: name, quote_style: Some(_), .. }) => Ok(Some(name.clone())),
        // Anything but an operand means that the words are a column and its alias.
        _ if !operand.first().is_some_and(|token| begins_operand(&token.token)) => Ok(None),
        Token::Word(Word { value: name, keyword: Keyword::NoKeyword, .. }) => {
            Err(refused(&format!("'{name}'")))
        }
        Token::RParen => Err(refused("what is in parentheses")),
        _ => Ok(None),
    }
}

fn begins_operand(token: &Token) -> bool {
    match token {
        Token::Number(..) | Token::SingleQuotedString(_) => true,
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::NoKeyword | Keyword::TIMESTAMP | Keyword::DATE | Keyword::CAST
        ),
        _ => false,
    }
}

/// Parses the operand of a clause and returns its length in tokens.
fn operand_of(words: &[&str], tokens: &[TokenWithSpan]) -> Result<(Moment, usize), Failure> {
    let mut parser = Parser::new(&DIALECT).with_tokens_with_locations(tokens.to_vec());
    let moment =
        if words.contains(&"VERSION") { version(&mut parser)? } else { time(&mut parser)? };
    Ok((moment, parser.index()))
}

/// Parses the number of a transaction.
pub(super) fn version(parser: &mut Parser<'_>) -> Result<Moment, ParserError> {
    let digits = match &parser.peek_token_ref().token {
        Token::Number(digits, _) | Token::SingleQuotedString(digits) => digits.parse().ok(),
        _ => None,
    };
    match digits {
        Some(txn) => {
            parser.next_token();
            Ok(Moment::Version(txn))
        }
        None => parser.expected("the number of a transaction", parser.peek_token()),
    }
}

/// Parses a time.
pub(super) fn time(parser: &mut Parser<'_>) -> Result<Moment, ParserError> {
    Ok(Moment::Time(Box::new(parser.parse_expr()?)))
}

fn is_space(token: &TokenWithSpan) -> bool {
    matches!(token.token, Token::Whitespace(_))
}

fn mark(name: &mut Token, number: usize) {
    if let Token::SingleQuotedString(text) | Token::Word(Word { value: text, .. }) = name {
        text.push_str(&format!("{MARK}{number}"));
    }
}

/// Splits a marked name.
fn marked(ident: &Ident) -> Option<(&str, usize)> {
    let (name, number) = ident.value.split_once(MARK)?;
    Some((name, number.parse().ok()?))
}

/// Splits the mark off a name of any number of parts.
pub(super) fn last_mark(name: &ObjectName) -> Option<(&str, usize)> {
    marked(name.0.last()?.as_ident()?)
}

// ---------------------------------------------------------------------------------------------
// In the parsed statement

/// Refuses the first clause of a statement that can hold none.
pub(super) fn refuse(clauses: &[PastClause]) -> Result<(), Failure> {
    let Some(PastClause { name, words, .. }) = clauses.first() else { return Ok(()) };
    Err(Failure::Ours(
        Error::unsupported(format!("'{name}' takes no {words} here"))
            .with_hint("the past is read in a FROM; elsewhere the path itself tells: '/p@v12'"),
    ))
}

/// Checks that each clause is behind a name in a FROM. A name that is there just once can still be
/// used to qualify columns.
pub(super) fn check(
    statement: &mut EngineStatement,
    clauses: &[PastClause],
) -> Result<(), Failure> {
    if clauses.is_empty() {
        return Ok(());
    }
    let mut found = Found::default();
    let _ = visit(statement, &mut found);
    for target in targets(statement) {
        if let Some((_, number)) = last_mark(target) {
            found.numbers.remove(&number);
        }
    }
    if let Some(number) = (0..clauses.len()).find(|number| !found.numbers.contains(number)) {
        return refuse(&clauses[number..]);
    }
    let _ = visit(statement, &mut Name(found.unaliased));
    Ok(())
}

/// Puts the path forms of the clauses' moments (`@v12`) where the marks are.
pub(crate) fn name_past(statement: &mut EngineStatement, suffixes: &[String]) {
    if !suffixes.is_empty() {
        let _ = visit(statement, &mut Resolve(suffixes));
    }
}

/// Returns a name without its mark.
pub(super) fn unmarked(name: &str) -> &str {
    name.split_once(MARK).map_or(name, |(name, _)| name)
}

fn visit<V: VisitorMut<Break = ()>>(
    statement: &mut EngineStatement,
    visitor: &mut V,
) -> ControlFlow<()> {
    match statement {
        EngineStatement::Statement(statement) => VisitMut::visit(statement.as_mut(), visitor),
        EngineStatement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => VisitMut::visit(query.as_mut(), visitor),
            CopyToSource::Relation(name) => {
                let mut factor = TableFactor::Table {
                    name: name.clone(),
                    alias: None,
                    args: None,
                    with_hints: Vec::new(),
                    version: None,
                    with_ordinality: false,
                    partitions: Vec::new(),
                    json_path: None,
                    sample: None,
                    index_hints: Vec::new(),
                };
                VisitMut::visit(&mut factor, visitor)?;
                if let TableFactor::Table { name: visited, .. } = factor {
                    *name = visited;
                }
                ControlFlow::Continue(())
            }
        },
        EngineStatement::Explain(explain) => visit(&mut explain.statement, visitor),
        EngineStatement::CreateExternalTable(_) | EngineStatement::Reset(_) => {
            ControlFlow::Continue(())
        }
    }
}

/// Returns the names that a statement changes and that the grammar has as items of a FROM.
fn targets(statement: &EngineStatement) -> Vec<&ObjectName> {
    fn name(factor: &TableFactor) -> Option<&ObjectName> {
        match factor {
            TableFactor::Table { name, .. } => Some(name),
            _ => None,
        }
    }
    match statement {
        EngineStatement::Explain(explain) => targets(&explain.statement),
        EngineStatement::Statement(statement) => match statement.as_ref() {
            Statement::Update(update) => name(&update.table.relation).into_iter().collect(),
            Statement::Delete(delete) => match &delete.from {
                FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables) => {
                    tables.iter().filter_map(|table| name(&table.relation)).collect()
                }
            },
            Statement::Merge(merge) => name(&merge.table).into_iter().collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// Finds the marks in FROM clauses.
#[derive(Default)]
struct Found {
    numbers: BTreeSet<usize>,
    /// How often each name is there without an alias, whatever its time.
    unaliased: HashMap<String, usize>,
}

impl VisitorMut for Found {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: None, alias, .. } = factor {
            let number = last_mark(name).map(|(_, number)| number);
            self.numbers.extend(number);
            if alias.is_none()
                && let Some(name) = plain_name(name)
            {
                *self.unaliased.entry(name).or_default() += 1;
            }
        }
        ControlFlow::Continue(())
    }
}

/// Returns a name of one part, without its mark.
fn plain_name(name: &ObjectName) -> Option<String> {
    let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else { return None };
    Some(marked(ident).map_or(ident.value.as_str(), |(name, _)| name).to_owned())
}

/// Gives marked names their own name as an alias, if no other item has it.
struct Name(HashMap<String, usize>);

impl VisitorMut for Name {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, alias: alias @ None, .. } = factor
            && last_mark(name).is_some()
            && let Some(plain) = plain_name(name)
            && self.0.get(&plain) == Some(&1)
        {
            *alias = Some(TableAlias {
                explicit: true,
                name: Ident::with_quote('"', plain),
                columns: Vec::new(),
                at: None,
            });
        }
        ControlFlow::Continue(())
    }
}

struct Resolve<'a>(&'a [String]);

impl VisitorMut for Resolve<'_> {
    type Break = ();

    fn pre_visit_relation(&mut self, name: &mut ObjectName) -> ControlFlow<()> {
        if let Some(ObjectNamePart::Identifier(ident)) = name.0.last_mut()
            && let Some((plain, number)) = marked(ident)
            && let Some(suffix) = self.0.get(number)
        {
            ident.value = format!("{plain}{suffix}");
        }
        ControlFlow::Continue(())
    }
}
