//! `pond put`: copies files, directories and standard input into the pond.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use pond::blob::read_file;
use pond::entry::EntryType;
use pond::format::TableFormat;
use pond::path::{PondPath, escape_name};
use pond::policy::Policy;
use pond::tree::{Import, ImportSource};
use pond::{Error, Result};

use super::args::{Destination, Message};
use super::{Outcome, Shell, change, completions, progress, query};

/// Copy files into the pond
///
/// All sources become one transaction: all of them are there, or nothing is. Directories are copied
/// with all they hold and added to those that are there. A file that is there gets its next version;
/// a series gets the rows as one more version.
///
/// A file becomes a table or a series if --type says so, if it is one already, or if the target's
/// name ends in .table or .series; else its bytes are kept as they are. Parquet is kept byte for
/// byte; CSV, JSON (one object a line) and Arrow are converted to Parquet, in the order of their
/// rows.
///
/// A symbolic link that is named is followed. In a directory, links that are relative and stay
/// inside of it are kept; what others lead to is copied in their place. FIFOs, sockets, devices and
/// links that lead nowhere are passed over, with a note.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond put 2026/*.csv /sensors/
  pond put --type series readings.csv /sensors/basel.series
  sensor-dump | pond put --source-format csv - /sensors/now.table")]
pub struct Put {
    /// What each file becomes: data, table or series
    #[arg(long = "type", value_name = "TYPE", hide_possible_values = true,
          value_parser = type_parser())]
    entry_type: Option<EntryType>,

    /// The column that orders a series [default: `timestamp`]
    #[arg(long, value_name = "COLUMN")]
    temporal_column: Option<String>,

    /// What the rows of a table are read from: csv, tsv, json, arrow, parquet, or csv.gz and the like
    /// [default: what the file's name says or, for standard input, what it begins with]
    #[arg(long, value_name = "FORMAT", value_parser = parse_source_format,
          add = completions::words(&["csv", "tsv", "json", "arrow", "parquet", "csv.gz"]))]
    source_format: Option<TableFormat>,

    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    message: Message,

    /// Files and directories; `-` is standard input
    #[arg(required = true, value_name = "SOURCE", add = completions::all_paths())]
    sources: Vec<PathBuf>,

    /// Path of the copy, or the directory for it: one that is there, or any if it ends in `/`
    #[arg(value_name = "DEST", add = completions::paths())]
    dest: String,
}

impl Put {
    pub fn run(self, shell: &Shell) -> Outcome {
        query(async {
            let tree = shell.open().await?;
            let mut edit = tree.begin(self.message.text()).await?;
            let root = tree.root(edit.snapshot());
            let dest = Destination::find(&root, &self.dest, self.sources.len()).await?;
            let mut import = Import {
                entry_type: self.entry_type,
                temporal_column: self.temporal_column,
                source_format: self.source_format,
                ..Import::default()
            };
            for source in &self.sources {
                import.sources.push(import_source(source, &dest, tree.policy()).await?);
            }
            if self.dry_run {
                let planned = edit.plan_import(&import).await?;
                change::note_skipped(&planned.skipped);
                return change::print_plan(shell, &planned.changes).await;
            }
            let shown = progress::show(&import.progress);
            let imported = edit.import(import).await?;
            let (changes, undo) = edit.commit_undoable().await?;
            drop(shown);
            change::note_skipped(&imported.skipped);
            change::print(shell, &changes, &undo).await
        })?;
        Ok(0)
    }
}

/// Returns a source and its place.
async fn import_source(
    path: &Path,
    dest: &Destination,
    policy: &Policy,
) -> Result<(ImportSource, PondPath)> {
    if path == Path::new("-") {
        if dest.is_directory() {
            return Err(Error::invalid("standard input has no name")
                .with_hint(format!("name the file, as '{}'", dest.path().child("NAME"))));
        }
        return Ok((standard_input()?, dest.path().clone()));
    }
    let source = ImportSource::of_host(path, policy).await?;
    let bytes = path.as_os_str().as_bytes();
    // `dir/.` is what the directory holds.
    let names_contents = bytes == b"." || bytes.ends_with(b"/.");
    let to = match path.file_name() {
        Some(name) if !names_contents => dest.of(&escape_name(name.as_bytes())),
        _ => dest.path().clone(),
    };
    Ok((source, to))
}

fn standard_input() -> Result<ImportSource> {
    let failed = |error| Error::io("standard input", error);
    let file = File::from(std::io::stdin().as_fd().try_clone_to_owned().map_err(failed)?);
    Ok(ImportSource::Stream { name: "standard input".to_owned(), bytes: read_file(file) })
}

fn type_parser() -> impl TypedValueParser<Value = EntryType> {
    PossibleValuesParser::new(["data", "table", "series"])
        .map(|name| EntryType::parse(&format!("file:{name}")).expect("one of its names"))
}

fn parse_source_format(text: &str) -> Result<TableFormat, String> {
    let known = "it is csv, tsv, json, arrow or parquet; text may be compressed, as csv.gz";
    TableFormat::of_name(&format!("_.{text}")).ok_or_else(|| known.to_owned())
}
