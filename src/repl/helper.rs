//! What helps while a text is typed: it is highlighted, completed, and taken once it is complete.
//!
//! What can be completed in SQL the library knows ([`PondContext::complete`]); commands and what they
//! take are of [`COMMANDS`].

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, RwLock};

use pond::context::{Candidate, CandidateKind, Completions, PondContext, complete_host_path};
use pond::output::Format;
use pond::sql::{Piece, PieceKind, pieces};
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Result};
use tokio::runtime::Handle;

use crate::cli::commands::{COMMANDS, Command, Takes};
use crate::cli::session::is_ready;

/// Longer texts are not highlighted: it is done anew with each key.
const HIGHLIGHTED_BYTES_MAX: usize = 64 * 1024;

const KEYWORD: &str = "\u{1b}[1;34m";
const FUNCTION: &str = "\u{1b}[36m";
const STRING: &str = "\u{1b}[32m";
const NUMBER: &str = "\u{1b}[35m";
const COMMENT: &str = "\u{1b}[2m";
const BRACKET: &str = "\u{1b}[1;7m";
const OFF: &str = "\u{1b}[0m";

/// Helps with texts over one pond.
pub struct Helper {
    context: PondContext,
    runtime: Arc<RwLock<Handle>>,
}

impl Helper {
    /// Helps over `context`, with the threads of `runtime`.
    pub fn new(context: PondContext, runtime: Arc<RwLock<Handle>>) -> Self {
        Self { context, runtime }
    }

    fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        let handle = self.runtime.read().expect("never poisoned").clone();
        handle.block_on(work)
    }

    /// Completes a command, or what it takes.
    fn complete_command(&self, line: &str, at: usize) -> Completions {
        let begun = line.len() - line.trim_start().len();
        let typed = &line[begun..at.max(begun)];
        let Some((name, argument)) = typed.split_once(char::is_whitespace) else {
            // `quit` and `exit` need no sign, and nothing else is a command without one.
            let Some(sign) = typed.get(..1).filter(|sign| ["\\", "."].contains(sign)) else {
                return Completions { start: begun, candidates: Vec::new() };
            };
            let known = COMMANDS.iter().flat_map(|spec| spec.names).map(|name| &name[1..]);
            let mut names: Vec<&str> = known.filter(|name| name.starts_with(&typed[1..])).collect();
            names.sort_unstable();
            names.dedup();
            let candidates = names.into_iter().map(|name| word(&format!("{sign}{name}"))).collect();
            return Completions { start: begun, candidates };
        };
        let argument = argument.trim_start();
        let start = at - argument.len();
        let among = |words: &[&str]| {
            words
                .iter()
                .filter(|known| known.starts_with(argument))
                .map(|known| word(known))
                .collect()
        };
        let candidates = match Command::find(&name[1..]).map(|spec| spec.takes) {
            Some(Takes::PondPath) => self.block_on(self.context.complete_path(argument)),
            Some(Takes::HostFile) => {
                let policy = self.context.tree().policy();
                complete_host_path(Path::new("."), argument, false, policy)
            }
            Some(Takes::Format) => among(&Format::ALL.map(Format::as_str)),
            Some(Takes::Switch) => among(&["on", "off"]),
            Some(Takes::Query) => return self.block_on(self.context.complete(line, at)),
            Some(Takes::Text | Takes::Nothing) | None => Vec::new(),
        };
        Completions { start, candidates }
    }
}

fn word(text: &str) -> Candidate {
    Candidate { text: text.to_owned(), shown: text.to_owned(), kind: CandidateKind::Keyword }
}

impl rustyline::Helper for Helper {}

impl Hinter for Helper {
    type Hint = String;
}

impl Completer for Helper {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> Result<(usize, Vec<Pair>)> {
        let found = match Command::is_one(line) && !line[..pos].contains('\n') {
            true => self.complete_command(line, pos),
            false => self.block_on(self.context.complete(line, pos)),
        };
        // A name may hold what moves the cursor, and what is edited is shown as it is.
        let safe =
            found.candidates.into_iter().filter(|found| !found.text.contains(char::is_control));
        let pairs =
            safe.map(|candidate| Pair { display: candidate.shown, replacement: candidate.text });
        Ok((found.start, pairs.collect()))
    }
}

impl Validator for Helper {
    fn validate(&self, ctx: &mut ValidationContext<'_>) -> Result<ValidationResult> {
        Ok(match is_ready(ctx.input()) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

impl Highlighter for Helper {
    fn highlight<'l>(&self, line: &'l str, pos: usize) -> Cow<'l, str> {
        if line.len() > HIGHLIGHTED_BYTES_MAX || Command::is_one(line) {
            return Cow::Borrowed(line);
        }
        let pieces = pieces(line);
        let pair = brackets(line, &pieces, pos);
        let mut text = String::with_capacity(line.len() * 2);
        let mut at = 0;
        for (index, piece) in pieces.iter().enumerate() {
            let color = match piece.kind {
                PieceKind::Keyword => KEYWORD,
                PieceKind::Function => FUNCTION,
                PieceKind::String => STRING,
                PieceKind::Number => NUMBER,
                PieceKind::Comment => COMMENT,
                PieceKind::Symbol
                    if pair.is_some_and(|(one, other)| index == one || index == other) =>
                {
                    BRACKET
                }
                PieceKind::Name | PieceKind::QuotedName | PieceKind::Symbol => continue,
            };
            text.push_str(&line[at..piece.range.start]);
            text.push_str(color);
            text.push_str(&line[piece.range.clone()]);
            text.push_str(OFF);
            at = piece.range.end;
        }
        text.push_str(&line[at..]);
        Cow::Owned(text)
    }

    fn highlight_char(&self, line: &str, _: usize, _: CmdKind) -> bool {
        line.len() <= HIGHLIGHTED_BYTES_MAX
    }
}

/// Returns the bracket at the cursor, or else before it, and the one that it belongs to.
fn brackets(line: &str, pieces: &[Piece], pos: usize) -> Option<(usize, usize)> {
    let sign = |piece: &Piece| match piece.kind {
        PieceKind::Symbol => line[piece.range.clone()].chars().next(),
        _ => None,
    };
    let is_bracket = |piece: &Piece| matches!(sign(piece), Some('(' | ')' | '[' | ']'));
    let at = |place: usize| {
        pieces.iter().position(|piece| piece.range.start == place && is_bracket(piece))
    };
    let one = at(pos).or_else(|| at(pos.checked_sub(1)?))?;
    let (open, close, forward) = match sign(&pieces[one])? {
        '(' => ('(', ')', true),
        ')' => ('(', ')', false),
        '[' => ('[', ']', true),
        _ => ('[', ']', false),
    };
    let mut depth = 0usize;
    let (same, opposite) = if forward { (open, close) } else { (close, open) };
    let mut step = |index: usize| {
        match sign(&pieces[index]) {
            Some(found) if found == same => depth += 1,
            Some(found) if found == opposite => depth = depth.saturating_sub(1),
            _ => return false,
        }
        depth == 0
    };
    let other = match forward {
        true => (one..pieces.len()).find(|index| step(*index)),
        false => (0..=one).rev().find(|index| step(*index)),
    };
    other.map(|other| (one, other))
}
