//! Completion: what can be written at a place of an unfinished text.
//!
//! `sql::complete` says what is wanted there; this finds what there is of it. Directories are asked
//! for names through the traits that every node has, so mounts and views list what they show. The
//! columns of what a statement reads are those of a plan that is made of it, and never run: what would
//! be converted or kept first is read as it is ([`Glance`]).
//!
//! Invariants: nothing is written, and there is no error: what cannot be told in time is left out.
//! Files of the host are listed only where relative paths of the host mean something, as in a shell.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::execution::SessionState;
use futures::StreamExt;

use super::PondContext;
use super::session::SESSION_SCHEMA;
use crate::catalog::{Answers, Binding, CATALOG, Reading};
use crate::entry::EntryType;
use crate::error::Result;
use crate::factory::{FactoryRef, OptionKind};
use crate::node::{Glance, ListFields, Node, lookup};
use crate::path::is_glob;
use crate::policy::{Access, Policy};
use crate::sql::complete::{Owner, Place, Source, Sources, Want};
use crate::sql::diagnose::needs_quotes;
use crate::sql::{Body, Script};
use crate::table_fn;

/// Most candidates of one kind.
pub const CANDIDATES_MAX: usize = 1_000;

/// How long it may take to find columns, or names of a directory.
const WAIT: Duration = Duration::from_millis(200);

/// How many names of a directory are looked at between two looks at the clock.
const NAMES_BETWEEN: usize = 256;

/// What can be written at a place of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Completions {
    /// The byte from which on a candidate takes the place of what is typed.
    pub start: usize,
    /// What can be written, the likely first.
    pub candidates: Vec<Candidate>,
}

/// Something that can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What to write, quotes included.
    pub text: String,
    /// What to show in a list: of a path, its last name.
    pub shown: String,
    /// What it is.
    pub kind: CandidateKind,
}

/// What a candidate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateKind {
    /// A word of the language.
    Keyword,
    /// A column.
    Column,
    /// A table of the session, or a name that the statement itself gives.
    Table,
    /// A function that makes a value.
    Function,
    /// A function that makes a table.
    TableFunction,
    /// A named argument.
    Argument,
    /// A directory of the pond.
    Directory,
    /// Another node of the pond.
    Node,
    /// A file or directory of the host.
    HostFile,
    /// A factory.
    Factory,
    /// An option of a factory.
    Option,
    /// A value of an option.
    Value,
    /// A setting of the session.
    Setting,
}

impl PondContext {
    /// Returns what can be written at the byte `at` of `text`: keywords, names, paths. Words are
    /// matched without regard to case, paths with.
    ///
    /// It takes a few hundred milliseconds at most, in a runtime with timers; what cannot be found in
    /// that time, or at all, is left out.
    pub async fn complete(&self, text: &str, at: usize) -> Completions {
        let at = text.floor_char_boundary(at);
        let Some(place) = Place::find(text, at) else { return Completions::default() };
        let mut found = Found { place: &place, candidates: Vec::new() };
        for want in &place.wants {
            self.find(want, text, at, &mut found).await;
        }
        let mut seen = std::collections::HashSet::new();
        found.candidates.retain(|candidate| seen.insert(candidate.text.clone()));
        Completions { start: place.start, candidates: found.candidates }
    }

    /// Returns the paths of the pond that `typed`, a path without quotes, may go on to, as
    /// [`PondContext::complete`] does: with all of it before the name, and `/` behind directories.
    pub async fn complete_path(&self, typed: &str) -> Vec<Candidate> {
        let mut found = Vec::new();
        self.find_paths(typed, &mut found).await;
        found
    }

    async fn find(&self, want: &Want, text: &str, at: usize, found: &mut Found<'_>) {
        let place = found.place;
        match want {
            Want::Words(words) => found.add_words(words),
            Want::Path => self.add_paths(found).await,
            Want::HostPath => self.add_host_paths(found, false).await,
            Want::Tables => {
                let sources = Sources::find(text, at, place);
                found.add_names(CandidateKind::Table, sources.named);
                if place.quote != Some('\'') {
                    let state = self.session().state();
                    found.add_names(CandidateKind::Table, session_tables(&state));
                    if place.quote.is_none() && !place.typed.is_empty() {
                        let functions = table_fn::names().map(str::to_owned);
                        let of_session = state.table_functions().keys().cloned();
                        let mut names: Vec<String> = functions.chain(of_session).collect();
                        names.sort_unstable();
                        found.add_functions(CandidateKind::TableFunction, names);
                    }
                }
                self.add_paths(found).await;
            }
            Want::Columns(of) => {
                let sources = Sources::find(text, at, place).read;
                let is_wanted = |source: &&Source| match (of, &source.name) {
                    (Some(of), Some(name)) => of.eq_ignore_ascii_case(name),
                    (Some(_), None) => false,
                    (None, _) => true,
                };
                let wanted: Vec<&Source> = sources.iter().filter(is_wanted).collect();
                let mut columns = Vec::new();
                // What was found by then is there.
                let _ = tokio::time::timeout(WAIT, self.find_columns(&wanted, &mut columns)).await;
                found.add_names(CandidateKind::Column, columns);
                if of.is_none() && place.quote.is_none() && !place.typed.is_empty() {
                    let names = sources.into_iter().filter_map(|source| source.name);
                    for name in names.filter(|name| place.fits(name)) {
                        let text = format!("{}.", written(&name, None, false));
                        found.add(CandidateKind::Table, text.clone(), text);
                    }
                }
            }
            // There are hundreds of them.
            Want::Functions if place.typed.is_empty() || place.quote.is_some() => {}
            Want::Functions => {
                let tables = self.table_function_names();
                let mut names = self.function_names();
                names.retain(|name| !tables.contains(name));
                found.add_functions(CandidateKind::Function, names);
            }
            Want::Arguments(function) => {
                for name in table_fn::parameters(function).iter().filter(|name| place.fits(name)) {
                    found.add(CandidateKind::Argument, format!("{name} => "), (*name).to_owned());
                }
            }
            Want::Factories => {
                for factory in self.tree().factories().all() {
                    let name = factory.name();
                    if place.fits(name) {
                        found.add(CandidateKind::Factory, name.to_owned(), name.to_owned());
                    }
                }
            }
            Want::Options(owner, given) => {
                let Some(factory) = self.factory_meant(owner).await else { return };
                for option in factory.options() {
                    let name = option.name;
                    if place.fits(name)
                        && !given.iter().any(|given| given.eq_ignore_ascii_case(name))
                    {
                        found.add(CandidateKind::Option, format!("{name} = "), name.to_owned());
                    }
                }
            }
            Want::Value(owner, option) => {
                let Some(factory) = self.factory_meant(owner).await else { return };
                let mut options = factory.options().iter();
                if let Some(option) = options.find(|spec| spec.name.eq_ignore_ascii_case(option)) {
                    self.add_values(option.kind, found).await;
                }
            }
            Want::Settings => self.add_settings(found),
        }
    }

    fn table_function_names(&self) -> Vec<String> {
        let state = self.session().state();
        let of_session = state.table_functions().keys().cloned();
        of_session.chain(table_fn::names().map(str::to_owned)).collect()
    }

    async fn factory_meant(&self, owner: &Owner) -> Option<FactoryRef> {
        let name = match owner {
            Owner::Factory(name) => name.clone(),
            Owner::Node(path) => {
                let path = self.path(path).ok()?;
                let snapshot = tokio::time::timeout(WAIT, self.snapshot()).await.ok()?.ok()?;
                let node = self.tree().stored(&snapshot, &path).ok()??;
                node.entry.dynamic_factory()?.to_owned()
            }
        };
        self.tree().factories().get(&name)
    }

    /// Adds what an option may be.
    async fn add_values(&self, kind: OptionKind, found: &mut Found<'_>) {
        match kind {
            OptionKind::Boolean => match found.place.quote {
                None => found.add_words(&["TRUE", "FALSE"]),
                Some(_) => found.add_texts(&["true", "false"]),
            },
            OptionKind::Choice(words) => found.add_texts(words),
            OptionKind::Auto(kind) => {
                found.add_texts(&["auto"]);
                Box::pin(self.add_values(*kind, found)).await;
            }
            OptionKind::HostDirectory => self.add_host_paths(found, true).await,
            OptionKind::PondPath | OptionKind::PondPaths => self.add_paths(found).await,
            OptionKind::Text
            | OptionKind::Texts
            | OptionKind::Query
            | OptionKind::Duration
            | OptionKind::Integer
            | OptionKind::Columns => {}
        }
    }

    fn add_settings(&self, found: &mut Found<'_>) {
        let state = self.session().state();
        let entries = state.config_options().entries();
        let keys = entries.into_iter().chain(state.runtime_env().config_entries());
        let mut names: Vec<String> = keys.map(|entry| entry.key).collect();
        names.sort_unstable();
        let place = found.place;
        let typed = place.typed.len();
        for name in names.iter().filter(|name| place.fits(name)) {
            // A group of them, like a directory.
            let end = name[typed..].find('.').map_or(name.len(), |dot| typed + dot + 1);
            let text = &name[..end];
            let before = name[..typed].rfind('.').map_or(0, |dot| dot + 1);
            found.add(CandidateKind::Setting, text.to_owned(), text[before..].to_owned());
        }
    }

    /// Adds paths of the pond, where one can stand: in quotes, or before anything is typed.
    async fn add_paths(&self, found: &mut Found<'_>) {
        let place = found.place;
        let (quote, typed) = match place.quote {
            Some('"') if !place.typed.starts_with('/') => return,
            Some(quote) => (quote, place.typed.as_str()),
            None if place.typed.is_empty() && self.directory().is_root() => ('\'', "/"),
            None if place.typed.is_empty() => ('\'', ""),
            None => return,
        };
        let mut paths = Vec::new();
        self.find_paths(typed, &mut paths).await;
        for path in paths {
            let text =
                quoted(&path.text, quote, path.kind == CandidateKind::Node && !place.is_closed);
            found.candidates.push(Candidate { text, ..path });
        }
    }

    /// Finds the paths that `typed` may go on to, as they are without quotes.
    async fn find_paths(&self, typed: &str, paths: &mut Vec<Candidate>) {
        let until = Instant::now() + WAIT;
        // What was found by then is there, and what cannot be listed has no names.
        let _ = tokio::time::timeout(WAIT, self.list_names(typed, until, paths)).await;
        paths.sort_unstable_by(|left, right| left.shown.cmp(&right.shown));
    }

    async fn list_names(
        &self,
        typed: &str,
        until: Instant,
        paths: &mut Vec<Candidate>,
    ) -> Result<()> {
        let (above, begun) = typed.split_at(typed.rfind('/').map_or(0, |slash| slash + 1));
        if is_glob(above) {
            return Ok(());
        }
        let place = self.tree().in_time(self.snapshot().await?, &self.path(above)?).await?;
        let Some(Node::Directory(directory)) = lookup(&place.root, &place.path).await? else {
            return Ok(());
        };
        let mut names = directory.list(ListFields::NAMES);
        let mut looked = 0;
        while let Some(entry) = names.next().await {
            looked += 1;
            if paths.len() >= CANDIDATES_MAX
                || (looked % NAMES_BETWEEN == 0 && Instant::now() >= until)
            {
                break;
            }
            let Ok(entry) = entry else { continue };
            if !entry.name.starts_with(begun) || (entry.is_hidden() && !begun.starts_with('.')) {
                continue;
            }
            let (kind, end) = match entry.entry_type {
                Some(EntryType::Directory) => (CandidateKind::Directory, "/"),
                Some(EntryType::Special) => continue,
                _ => (CandidateKind::Node, ""),
            };
            let text = format!("{above}{}{end}", entry.name);
            paths.push(Candidate { text, shown: format!("{}{end}", entry.name), kind });
        }
        Ok(())
    }

    /// Adds files of the host, where relative ones mean something.
    async fn add_host_paths(&self, found: &mut Found<'_>, only_directories: bool) {
        let Some(base) = self.tree().base_dir().map(PathBuf::from) else { return };
        let place = found.place;
        if place.quote != Some('\'') && !place.typed.is_empty() {
            return;
        }
        let (typed, policy) = (place.typed.clone(), self.tree().policy().clone());
        let listed = tokio::task::spawn_blocking(move || {
            complete_host_path(&base, &typed, only_directories, &policy)
        });
        let Ok(Ok(names)) = tokio::time::timeout(WAIT, listed).await else { return };
        for name in names {
            let is_directory = name.text.ends_with('/');
            let text = quoted(&name.text, '\'', !is_directory && !place.is_closed);
            found.candidates.push(Candidate { text, ..name });
        }
    }

    /// Finds the columns of what is read, one after the other.
    async fn find_columns(&self, sources: &[&Source], columns: &mut Vec<String>) {
        for source in sources {
            // A source that is not there, or not finished, has none.
            if let Ok(names) = self.columns_of(&source.query).await {
                columns.extend(names);
            }
        }
    }

    /// Plans a query, and returns the names of its columns.
    async fn columns_of(&self, query: &str) -> Result<Vec<String>> {
        let (_, body) = Script::parse_one(query)?.into_parts();
        let Body::Engine(mut statement, past) = body else { return Ok(Vec::new()) };
        self.name_past(&mut statement, &past).await?;
        let binding = self.bind_glance().await?;
        let lean = self.lean();
        let mut planned = lean.bound(&binding).statement_to_plan((*statement).clone()).await;
        if planned.is_err() && !lean.is_complete() {
            lean.complete();
            planned = lean.bound(&binding).statement_to_plan(*statement).await;
        }
        Ok(planned?.schema().fields().iter().map(|field| field.name().clone()).collect())
    }

    /// Binds a look at columns: nothing is made or converted for it.
    async fn bind_glance(&self) -> Result<Arc<Binding>> {
        let (snapshot, answers) = match self.inner.open.lock().await.as_ref() {
            Some(edit) => (edit.snapshot(), Answers::None),
            None => (self.tree().snapshot().await?, Answers::Read),
        };
        let context = self.clone();
        Ok(Binding::pinned(
            self.tree().clone(),
            snapshot,
            self.directory(),
            Vec::new(),
            Reading::from(answers),
            Arc::new(move |binding, complete| {
                let lean = context.lean();
                if complete {
                    lean.complete();
                }
                let mut state = lean.bound(binding);
                state.config_mut().set_extension(Arc::new(Glance));
                Ok(state)
            }),
        ))
    }
}

/// Returns the names of a session's own tables, sorted.
fn session_tables(state: &SessionState) -> Vec<String> {
    let catalog = state.catalog_list().catalog(CATALOG);
    let schema = catalog.and_then(|catalog| catalog.schema(SESSION_SCHEMA));
    let mut names = schema.map(|schema| schema.table_names()).unwrap_or_default();
    names.sort_unstable();
    names
}

/// Returns the files of the host that `typed` may go on to, relative to `base`, with `/` behind
/// directories: none where `policy` closes the directory.
pub fn complete_host_path(
    base: &std::path::Path,
    typed: &str,
    only_directories: bool,
    policy: &Policy,
) -> Vec<Candidate> {
    let (above, begun) = typed.split_at(typed.rfind('/').map_or(0, |slash| slash + 1));
    if policy.check_host(&base.join(above), Access::Read).is_err() {
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir(base.join(above)) else { return Vec::new() };
    let mut names = Vec::new();
    for entry in entries.flatten() {
        // What is not UTF-8 cannot be typed, either.
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !name.starts_with(begun) || (name.starts_with('.') && !begun.starts_with('.')) {
            continue;
        }
        // Links are followed.
        let is_directory = entry.path().is_dir();
        if only_directories && !is_directory {
            continue;
        }
        let end = if is_directory { "/" } else { "" };
        names.push(Candidate {
            text: format!("{above}{name}{end}"),
            shown: format!("{name}{end}"),
            kind: CandidateKind::HostFile,
        });
        if names.len() >= CANDIDATES_MAX {
            break;
        }
    }
    names.sort_unstable_by(|left, right| left.shown.cmp(&right.shown));
    names
}

fn quoted(text: &str, quote: char, is_whole: bool) -> String {
    let inside = text.replace(quote, &format!("{quote}{quote}"));
    if is_whole { format!("{quote}{inside}{quote}") } else { format!("{quote}{inside}") }
}

/// Returns a name as it is written: in the quotes that are open, or in quotes where it needs them.
fn written(name: &str, quote: Option<char>, is_closed: bool) -> String {
    match quote {
        Some(quote) => quoted(name, quote, !is_closed),
        None if needs_quotes(name) => quoted(name, '"', true),
        None => name.to_owned(),
    }
}

/// What was found for a place.
struct Found<'a> {
    place: &'a Place,
    candidates: Vec<Candidate>,
}

impl Found<'_> {
    fn add(&mut self, kind: CandidateKind, text: String, shown: String) {
        self.candidates.push(Candidate { text, shown, kind });
    }

    fn add_words(&mut self, words: &[&str]) {
        // Quotes hold no words.
        if self.place.quote.is_some() {
            return;
        }
        let place = self.place;
        for word in words.iter().filter(|word| place.fits(word)) {
            let word = if place.is_lower { word.to_lowercase() } else { (*word).to_owned() };
            let shown = word.clone();
            self.candidates.push(Candidate { text: word, shown, kind: CandidateKind::Keyword });
        }
    }

    fn add_texts(&mut self, texts: &[&str]) {
        let place = self.place;
        for text in texts.iter().filter(|text| place.fits(text)) {
            let written = quoted(text, place.quote.unwrap_or('\''), !place.is_closed);
            self.add(CandidateKind::Value, written, (*text).to_owned());
        }
    }

    fn add_names(&mut self, kind: CandidateKind, names: Vec<String>) {
        let place = self.place;
        if place.quote == Some('\'') {
            return;
        }
        for name in names.into_iter().filter(|name| place.fits(name)) {
            self.add(kind, written(&name, place.quote, place.is_closed), name);
        }
    }

    fn add_functions(&mut self, kind: CandidateKind, names: Vec<String>) {
        let place = self.place;
        for name in names.into_iter().filter(|name| place.fits(name)) {
            self.add(kind, format!("{name}("), format!("{name}()"));
        }
    }
}
