//! `pond sql`: runs statements, one after another, until one fails.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches};
#[cfg(not(feature = "ballista"))]
use pond::Error;
use pond::context::{PondContext, PondContextBuilder};
use pond::entry::EntryType;
use pond::node::{Node, lookup};
use pond::path::PondPath;
use pond::{ErrorKind, Result};

use super::args::{Parameters, note_unused};
#[cfg(feature = "ballista")]
use super::interrupt;
use super::mknod::read_text;
use super::results::Results;
use super::session::Session;
use super::{Interactive, Outcome, Shell, engine};
use crate::repl;

/// Run SQL statements
///
/// Statements end with `;` and run in order; the first that fails ends the run, and the file and
/// line are told. Relative host paths in them count from the working directory.
///
/// Without -c, -f or SQL, statements are read from stdin; on a terminal this is the interactive shell.
#[derive(Debug, Args)]
#[command(after_help = r#"Examples:
  pond sql "SELECT station, max(temperature) FROM '/sensors/*.series' GROUP BY station"
  pond sql --param path=/sensors.series --param above=25 \
      'SELECT * FROM $path WHERE temperature > $above'
  pond sql --cluster df://scheduler:50050 "SELECT count(*) FROM '/events.series' WHERE code = 7""#)]
pub struct Sql {
    /// The statements; `-` reads them from stdin
    #[arg(value_name = "SQL")]
    sql: Option<String>,

    #[command(flatten)]
    inputs: Inputs,

    #[command(flatten)]
    params: Parameters,

    /// Tell errors and go on with the next statement; the exit code is that of the first
    #[arg(long)]
    keep_going: bool,

    /// Run queries on the Ballista cluster of this scheduler, df://HOST:PORT, whose executors open the
    /// pond's files at the same path; EXPLAIN tells what runs here
    #[arg(long, value_name = "URL")]
    cluster: Option<String>,
}

/// Statements given by options, in the order in which they are given.
#[derive(Debug)]
struct Inputs(Vec<Input>);

#[derive(Debug, Clone)]
enum Input {
    Text(String),
    File(PathBuf),
}

impl Args for Inputs {
    fn augment_args(command: clap::Command) -> clap::Command {
        command
            .arg(
                Arg::new("command")
                    .short('c')
                    .long("command")
                    .value_name("SQL")
                    .help("Statements; may be given many times")
                    .action(ArgAction::Append)
                    .allow_hyphen_values(true),
            )
            .arg(
                Arg::new("file")
                    .short('f')
                    .long("file")
                    .value_name("FILE")
                    .help("A file of statements, `-` for stdin; may be given many times")
                    .action(ArgAction::Append)
                    .value_parser(clap::value_parser!(PathBuf)),
            )
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Inputs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let texts = matches.get_many::<String>("command").into_iter().flatten().cloned();
        let files = matches.get_many::<PathBuf>("file").into_iter().flatten().cloned();
        let at = |id| matches.indices_of(id).into_iter().flatten();
        let mut inputs: Vec<(usize, Input)> = at("command")
            .zip(texts.map(Input::Text))
            .chain(at("file").zip(files.map(Input::File)))
            .collect();
        inputs.sort_by_key(|(at, _)| *at);
        Ok(Self(inputs.into_iter().map(|(_, input)| input).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Sql {
    pub fn run(self, shell: &Shell) -> Outcome {
        let mut inputs = self.inputs.0;
        match self.sql {
            Some(sql) if sql == "-" => inputs.insert(0, Input::File(sql.into())),
            Some(sql) => inputs.insert(0, Input::Text(sql)),
            None if inputs.is_empty() && std::io::stdin().is_terminal() => {
                let Self { keep_going, params, cluster, .. } = self;
                let how = Interactive { keep_going, no_init: false, params, cluster };
                return repl::run(&how, shell);
            }
            None if inputs.is_empty() => inputs.push(Input::File("-".into())),
            None => {}
        }
        let results = shell.results()?;
        let runtime = engine()?;
        let params = self.params.values()?;
        let context = on_cluster(runtime.block_on(shell.context())?, self.cluster.as_deref())?;
        let context = context.build().with_params(params.clone());
        let mut session = Session::new(runtime, context, results, self.keep_going);
        session.has_format = shell.format()?.is_some();
        let outcome = inputs.into_iter().try_for_each(|input| match input {
            Input::Text(text) => session.run_text(None, &text),
            Input::File(file) if file.as_os_str() == "-" => session.run_stdin(),
            Input::File(file) => {
                let (name, text) = read_text(&file, shell.policy())?;
                session.run_text(Some(&name), &text)
            }
        });
        let code = session.end(outcome)?;
        if code != 0 {
            shell.discard();
        }
        note_unused(&params);
        Ok(code)
    }
}

/// Has queries run on the cluster at `address`, if there is one.
///
/// # Errors
/// `Invalid` for what is no address; `Unsupported` in a build without clusters.
#[cfg(feature = "ballista")]
pub fn on_cluster(
    context: PondContextBuilder,
    address: Option<&str>,
) -> Result<PondContextBuilder> {
    let Some(address) = address else { return Ok(context) };
    let cluster = pond::cluster::Cluster::parse(address)?;
    // What is given up is to be cancelled there.
    interrupt::hold();
    Ok(context.with_cluster(cluster))
}

/// Refuses a cluster.
///
/// # Errors
/// `Unsupported`.
#[cfg(not(feature = "ballista"))]
pub fn on_cluster(
    context: PondContextBuilder,
    address: Option<&str>,
) -> Result<PondContextBuilder> {
    match address {
        None => Ok(context),
        Some(_) => {
            Err(Error::unsupported("--cluster: this pond was built without the feature 'ballista'")
                .with_hint("cargo install pond --features ballista --locked"))
        }
    }
}

/// Writes what a node is and, if it is a table, its columns; just the columns of a table if
/// `columns_only`.
pub async fn describe(
    context: &PondContext,
    path: &PondPath,
    columns_only: bool,
    results: &mut Results,
) -> Result<()> {
    let quoted = quoted(path);
    let found = context.tree().in_time(context.snapshot().await?, path).await?;
    let Some(node) = lookup(&found.root, &found.path).await? else {
        return Err(found.not_found().await);
    };
    let columns = match node {
        Node::File(file) => {
            let is_data = file.metadata().await?.entry_type == Some(EntryType::FileData);
            match context.sql(&format!("DESCRIBE {quoted}")).await {
                // Its bytes have no rows.
                Err(error) if is_data && error.kind() == ErrorKind::Unsupported => None,
                columns => Some(columns),
            }
        }
        Node::Directory(_) | Node::Symlink(_) => None,
    };
    if !columns_only || columns.is_none() {
        results.write(context.sql(&format!("DESCRIBE NODE {quoted}")).await?).await?;
    }
    if let Some(columns) = columns {
        results.write(columns?).await?;
    }
    Ok(())
}

/// Returns a path as it is written in SQL.
pub fn quoted(path: &PondPath) -> String {
    format!("'{}'", path.as_str().replace('\'', "''"))
}
