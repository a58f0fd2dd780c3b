//! `pond completions`: the script that a shell sources, and the candidates that it then asks for.
//!
//! The script calls this program with `$POND_COMPLETE` set, and the words typed so far as arguments
//! ([`answer`]). Verbs, flags and their values come from clap; paths of the pond are looked up in the
//! one directory concerned, as `pond ls` would list it, for a bounded time. Nobody wants to read an
//! error there: what cannot be found out has no candidates, nor has a name that would move the cursor.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, CommandFactory, Parser};
use clap_complete::CompleteEnv;
use clap_complete::engine::{
    ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use clap_complete::env::Shells;
use futures::StreamExt;
use pond::entry::EntryType;
use pond::factory::FactoryRegistry;
use pond::node::{ListFields, Node, resolve};
use pond::{Error, Result, output};

use super::{CommandLine, Outcome, Shell, pond_path, serve};

/// Set by the scripts to the name of the shell.
const VARIABLE: &str = "POND_COMPLETE";

/// Most candidates for one path.
const CANDIDATES_MAX: usize = 1000;

/// How long candidates are looked for.
const TIME_MAX: Duration = Duration::from_millis(500);

/// Print the script that completes verbs, flags and paths of the pond in a shell
///
/// It asks this program while you type, so it stays true when the program is replaced. For zsh and
/// fish, source it in the same way.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  source <(pond completions bash)
  pond completions fish > ~/.config/fish/completions/pond.fish")]
pub struct Completions {
    /// bash, zsh, fish, elvish or powershell
    #[arg(hide_possible_values = true,
          value_parser = PossibleValuesParser::new(Shells::builtins().names()))]
    shell: String,
}

impl Completions {
    pub fn run(self, shell: &Shell) -> Outcome {
        let shells = Shells::builtins();
        let completer = shells.completer(&self.shell).expect("one of their names");
        let mut out = shell.stdout()?;
        completer
            .write_registration(VARIABLE, "pond", "pond", &program(), &mut out)
            .and_then(|()| out.flush())
            .map_err(output::write_error)?;
        Ok(0)
    }
}

/// Returns what a shell calls to run this program: its name if that is how it was found.
fn program() -> String {
    let name = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let program = match name.components().count() {
        0 | 1 => name,
        _ => std::env::current_exe().unwrap_or(name),
    };
    program.to_string_lossy().into_owned()
}

/// Answers a shell that asks for candidates; returns whether one did.
pub fn answer() -> bool {
    if std::env::var_os(VARIABLE).is_none_or(|shell| shell.is_empty()) {
        return false;
    }
    let here = std::env::current_dir().ok();
    let words = std::env::args_os();
    // A shell that is not known gets nothing.
    let _ = CompleteEnv::with_factory(CommandLine::command)
        .var(VARIABLE)
        .bin("pond")
        .try_complete(words, here.as_deref());
    true
}

/// Completes paths of the pond.
pub fn paths() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| candidates(word, true))
}

/// Completes directories of the pond.
pub fn directories() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| candidates(word, false))
}

/// Completes paths of the pond, and those of the host.
pub fn all_paths() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let mut all = candidates(word, true);
        all.extend(PathCompleter::any().complete(word));
        all
    })
}

/// Completes paths of the pond behind a name: `name=/path`.
pub fn named_paths() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let text = word.to_str().unwrap_or_default();
        match text.split_once('=') {
            Some((name, path)) if !name.contains('/') => candidates(OsStr::new(path), true)
                .into_iter()
                .map(|candidate| candidate.add_prefix(format!("{name}=")))
                .collect(),
            _ => candidates(word, true),
        }
    })
}

/// Completes words.
pub fn words(words: &'static [&'static str]) -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let word = word.to_str().unwrap_or_default();
        words.iter().filter(|known| known.starts_with(word)).map(CompletionCandidate::new).collect()
    })
}

/// Completes the names of factories.
pub fn factories() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let word = word.to_str().unwrap_or_default();
        let all = FactoryRegistry::default().all();
        all.iter()
            .filter(|factory| factory.name().starts_with(word))
            .map(|factory| {
                CompletionCandidate::new(factory.name()).help(Some(factory.description().into()))
            })
            .collect()
    })
}

/// Completes `KEY=`, for the options of the factory that is among the words.
pub fn factory_options() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let word = word.to_str().unwrap_or_default();
        let Some(name) = value_of("--factory") else { return Vec::new() };
        let Some(factory) = FactoryRegistry::default().get(&name.to_string_lossy()) else {
            return Vec::new();
        };
        let options = factory.options().iter().filter(|option| option.name.starts_with(word));
        options
            .map(|option| {
                CompletionCandidate::new(format!("{}=", option.name)).help(Some(option.doc.into()))
            })
            .collect()
    })
}

/// Returns what a path that begins with `word` may go on with.
fn candidates(word: &OsStr, files: bool) -> Vec<CompletionCandidate> {
    let Some(typed) = word.to_str() else { return Vec::new() };
    let typed = if is_bash() { unescape(typed) } else { typed.to_owned() };
    let at = typed.rfind('/').map_or(0, |at| at + 1);
    let (above, begun) = typed.split_at(at);
    let found = serve(async {
        let found = tokio::time::timeout(TIME_MAX, children(above, begun)).await;
        found.map_err(|_| Error::invalid("it takes too long"))?
    });
    let mut found = found.unwrap_or_default();
    found.sort();
    found
        .into_iter()
        .filter(|(_, is_directory)| files || *is_directory)
        .map(|(name, is_directory)| {
            let path = format!("{above}{name}{}", if is_directory { "/" } else { "" });
            CompletionCandidate::new(if is_bash() { escape(&path) } else { path })
        })
        .collect()
}

/// Returns the children of a directory whose names begin with `begun`, and whether they are
/// directories.
async fn children(directory: &str, begun: &str) -> Result<Vec<(String, bool)>> {
    let tree = shell()?.open().await?;
    let path = pond_path(if directory.is_empty() { "/" } else { directory })?;
    let place = tree.in_time(tree.snapshot().await?, &path).await?;
    let mut found = Vec::new();
    let Node::Directory(directory) = resolve(&place.root, &place.path).await? else {
        return Ok(found);
    };
    let mut entries = directory.list(ListFields::NAMES);
    while found.len() < CANDIDATES_MAX
        && let Some(entry) = entries.next().await
    {
        // Lets the time run out, however ready the entries are.
        tokio::task::consume_budget().await;
        let Ok(entry) = entry else { continue };
        let is_shown = !entry.is_hidden() || begun.starts_with('.');
        if entry.name.starts_with(begun) && is_shown && !entry.name.contains(char::is_control) {
            found.push((entry.name, entry.entry_type == Some(EntryType::Directory)));
        }
    }
    Ok(found)
}

/// Returns the options that are among the words typed so far.
fn shell() -> Result<Shell> {
    let pond = value_of("--pond").into_iter().flat_map(|dir| ["--pond".into(), dir]);
    let words = std::iter::once("pond".into()).chain(pond);
    let parsed = CommandLine::try_parse_from(words);
    let options = parsed.map_err(|error| Error::invalid(error.to_string()))?.options;
    Shell::new(options.or_environment()?)
}

/// Returns the value of an option among the words typed so far.
fn value_of(option: &str) -> Option<OsString> {
    let mut words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    while let Some(word) = words.next() {
        if word == option {
            return words.next();
        }
        let text = word.to_string_lossy();
        if let Some(value) = text.strip_prefix(option).and_then(|rest| rest.strip_prefix('=')) {
            return Some(value.into());
        }
    }
    None
}

/// Whether candidates go into a command line as they are: other shells quote what they insert.
fn is_bash() -> bool {
    std::env::var_os("_CLAP_COMPLETE_COMP_TYPE").is_some()
}

/// Characters that bash would not take as a part of a word.
const SPECIAL: &str = " \t\"'\\$`!&|;<>(){}[]*?#~";

fn escape(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for char in path.chars() {
        if SPECIAL.contains(char) {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped
}

fn unescape(word: &str) -> String {
    let mut plain = String::with_capacity(word.len());
    let mut chars = word.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => plain.extend(chars.next()),
            char => plain.push(char),
        }
    }
    plain
}
