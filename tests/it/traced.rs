//! R2 of the promises, from the system calls: what a real process asked of the file system is traced, and
//! images are made of what a disk may hold if the power goes between two calls.
//!
//! The model is the least that POSIX promises. What was written to a file is on the disk once the file
//! was synced; until then any page of it may be missing. A name that was made, changed or removed in a
//! directory is so on the disk once the directory was synced; until then each may have come through or
//! not, in any order. Each image is opened and checked: what was acknowledged before the cut is there.
//!
//! Taking the syncs of files, or those of directories, out of the trace must make the same check fail.
//!
//! It needs `strace`; without it, the tests say so and do nothing. The protocol above the file system is
//! tested without ([`crate::power`]).

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use futures::stream::StreamExt;
use pond::ErrorKind;
use pond::keep::check;
use pond::pond::{Pond, PondOptions};
use pond::store::Durability;
use pond::tree::Tree;

use crate::oplog::{FAST, exists, path};
use crate::world::{Random, append_in, bytes, write_in};

/// The traced process: it commits all kinds of contents, maintains, and commits on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the other tests of this file, as a process of its own"]
async fn child() {
    let dir = std::env::var("POND_TEST_DIR").unwrap();
    let options = PondOptions { durability: Durability::Full };
    let tree = Tree::new(Pond::init(Path::new(&dir), options).await.unwrap());
    for number in 1..=25u64 {
        let mut edit = tree.begin(None).await.unwrap();
        edit.mkdir(&path(&format!("/{number}/a")), true).await.unwrap();
        let length = [200, 70_000, 200, 300_000][(number % 4) as usize];
        write_in(&mut edit, &format!("/{number}/f"), bytes(number, length)).await.unwrap();
        if number % 3 == 0 {
            append_in(&mut edit, "/s.series", number as i64 * 10).await.unwrap();
        }
        edit.commit().await.unwrap();
        // One call, so that it is one in the trace.
        std::io::stdout().write_all(format!("ack {number}\n").as_bytes()).unwrap();
        std::io::stdout().flush().unwrap();
        if number == 20 {
            tree.maintain().await.unwrap();
        }
    }
}

/// What a system call did, as far as it matters here. Files and open files are numbered.
#[derive(Debug)]
enum Effect {
    Write {
        file: usize,
        at: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        file: usize,
    },
    SyncFile {
        file: usize,
        begun: usize,
    },
    SyncDir {
        dir: PathBuf,
        begun: usize,
    },
    Mkdir {
        dir: PathBuf,
    },
    /// Gives the name to the file, or to nothing.
    Name {
        path: PathBuf,
        file: Option<usize>,
    },
    Acknowledge {
        number: u64,
    },
}

/// An open file: which it is, and where it is written to next.
#[derive(Debug, Clone)]
enum Open {
    File { file: usize, at: usize, append: bool },
    Dir(PathBuf),
    Stdout,
}

/// Follows a trace.
#[derive(Default)]
struct Tracer {
    effects: Vec<Effect>,
    open: HashMap<i64, Open>,
    names: HashMap<PathBuf, usize>,
    sizes: Vec<usize>,
    /// By thread: the first half of a call, and the number of effects when it began.
    unfinished: HashMap<String, (String, usize)>,
    root: PathBuf,
}

impl Tracer {
    fn line(&mut self, line: &str) {
        let (thread, call) = line.split_once(char::is_whitespace).unwrap();
        let call = call.trim_start();
        if let Some(first) = call.strip_suffix(" <unfinished ...>") {
            let begun = self.effects.len();
            self.unfinished.insert(thread.to_owned(), (first.to_owned(), begun));
            return;
        }
        let (call, begun) = match call.strip_prefix("<... ") {
            Some(rest) => {
                let (_, rest) = rest.split_once(" resumed>").unwrap();
                let Some((first, begun)) = self.unfinished.remove(thread) else { return };
                (first + rest, begun)
            }
            None => (call.to_owned(), self.effects.len()),
        };
        let Some((call, result)) = call.rsplit_once(" = ") else { return };
        let Ok(result) = result.split([' ', '<']).next().unwrap().parse::<i64>() else { return };
        let Some((name, arguments)) = call.split_once('(') else { return };
        if result >= 0 {
            let arguments = arguments.trim_end().trim_end_matches(')');
            self.call(name, &arguments.split(", ").collect::<Vec<_>>(), result, begun);
        }
    }

    fn call(&mut self, name: &str, arguments: &[&str], result: i64, begun: usize) {
        let number = |at: usize| arguments[at].parse::<i64>().unwrap();
        match name {
            "open" => self.opened(&unquote_path(arguments[0]), arguments[1], result),
            "openat" => self.opened(&unquote_path(arguments[1]), arguments[2], result),
            "close" => drop(self.open.remove(&number(0))),
            "fcntl" if arguments[1].starts_with("F_DUPFD") => {
                if let Some(open) = self.open.get(&number(0)).cloned() {
                    self.open.insert(result, open);
                }
            }
            "write" | "pwrite64" => {
                let mut bytes = unquote(arguments[1]);
                bytes.truncate(result as usize);
                let place = (name == "pwrite64").then(|| number(3) as usize);
                self.wrote(number(0), bytes, place);
            }
            "fsync" | "fdatasync" => match self.open.get(&number(0)) {
                Some(Open::File { file, .. }) => {
                    self.effects.push(Effect::SyncFile { file: *file, begun });
                }
                Some(Open::Dir(dir)) => {
                    self.effects.push(Effect::SyncDir { dir: dir.clone(), begun });
                }
                _ => {}
            },
            "linkat" | "link" => {
                let [from, to] = if name == "link" { [0, 1] } else { [1, 3] };
                let (from, to) = (unquote_path(arguments[from]), unquote_path(arguments[to]));
                let file = match from.strip_prefix("/proc/self/fd") {
                    Ok(fd) => match self.open[&fd.to_str().unwrap().parse().unwrap()] {
                        Open::File { file, .. } => file,
                        _ => panic!("a link to no file"),
                    },
                    Err(_) => self.names[&from],
                };
                self.named(to, Some(file));
            }
            "rename" | "renameat" | "renameat2" => {
                let [from, to] = if name == "rename" { [0, 1] } else { [1, 3] };
                let (from, to) = (unquote_path(arguments[from]), unquote_path(arguments[to]));
                if let Some(file) = self.names.get(&from).copied() {
                    // One call, but two names: a directory on the disk may have either.
                    self.named(to, Some(file));
                    self.named(from, None);
                }
            }
            "unlink" => self.named(unquote_path(arguments[0]), None),
            "unlinkat" => self.named(unquote_path(arguments[1]), None),
            "mkdir" | "mkdirat" => {
                let dir = unquote_path(arguments[usize::from(name == "mkdirat")]);
                if dir.starts_with(&self.root) {
                    self.effects.push(Effect::Mkdir { dir });
                }
            }
            "ftruncate" | "fallocate" | "writev" | "pwritev" | "copy_file_range" | "sendfile" => {
                let fd = number(usize::from(name == "copy_file_range") * 2);
                let is_ours = matches!(self.open.get(&fd), Some(Open::File { .. }));
                assert!(!is_ours, "the model knows no {name}");
            }
            _ => {}
        }
    }

    fn opened(&mut self, path: &Path, flags: &str, fd: i64) {
        self.open.remove(&fd);
        if !path.starts_with(&self.root) {
            return;
        }
        let has = |flag| flags.split('|').any(|other| other == flag);
        if has("O_TMPFILE") {
            let file = self.new_file();
            self.open.insert(fd, Open::File { file, at: 0, append: false });
        } else if path.is_dir() || has("O_DIRECTORY") {
            self.open.insert(fd, Open::Dir(path.to_owned()));
        } else {
            let file = match self.names.get(path) {
                Some(file) => *file,
                None if has("O_CREAT") => {
                    let file = self.new_file();
                    self.named(path.to_owned(), Some(file));
                    file
                }
                None => return,
            };
            if has("O_TRUNC") && self.sizes[file] > 0 {
                self.sizes[file] = 0;
                self.effects.push(Effect::Truncate { file });
            }
            self.open.insert(fd, Open::File { file, at: 0, append: has("O_APPEND") });
        }
    }

    fn new_file(&mut self) -> usize {
        self.sizes.push(0);
        self.sizes.len() - 1
    }

    fn wrote(&mut self, fd: i64, bytes: Vec<u8>, place: Option<usize>) {
        if fd == 1 && !self.open.contains_key(&1) {
            self.open.insert(1, Open::Stdout);
        }
        match self.open.get_mut(&fd) {
            Some(Open::Stdout) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if let Some(number) = text.strip_prefix("ack ") {
                    let number = number.trim().parse().unwrap();
                    self.effects.push(Effect::Acknowledge { number });
                }
            }
            Some(Open::File { file, at, append }) => {
                let start = place.unwrap_or(if *append { self.sizes[*file] } else { *at });
                if place.is_none() {
                    *at = start + bytes.len();
                }
                self.sizes[*file] = self.sizes[*file].max(start + bytes.len());
                self.effects.push(Effect::Write { file: *file, at: start, bytes });
            }
            _ => {}
        }
    }

    fn named(&mut self, path: PathBuf, file: Option<usize>) {
        if path.starts_with(&self.root) {
            match file {
                Some(file) => drop(self.names.insert(path.clone(), file)),
                None => drop(self.names.remove(&path)),
            }
            self.effects.push(Effect::Name { path, file });
        }
    }
}

fn unquote(text: &str) -> Vec<u8> {
    let text = text.trim_matches('"');
    let digits = text.split("\\x").skip(1);
    digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
}

fn unquote_path(text: &str) -> PathBuf {
    String::from_utf8(unquote(text)).unwrap().into()
}

/// The calls that change a file system.
const CALLS: &str = "open,openat,close,fcntl,write,pwrite64,writev,pwritev,fsync,fdatasync,link,linkat,\
                     rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,ftruncate,fallocate,\
                     copy_file_range,sendfile";

/// Runs the child under strace; `None` if there is none.
fn trace() -> Option<Vec<Effect>> {
    let works = Command::new("strace").args(["-o", "/dev/null", "true"]).status();
    if !works.is_ok_and(|status| status.success()) {
        println!("skipped: strace is not here, or not allowed");
        return None;
    }
    let work = tempfile::tempdir().unwrap();
    let root = work.path().canonicalize().unwrap().join("pond");
    std::fs::create_dir(&root).unwrap();
    let output = work.path().join("trace");
    let status = Command::new("strace")
        .args(["-f", "-xx", "-s", "3000000", "-e", "signal=none", "-o"])
        .arg(&output)
        .args(["-e", &format!("trace={CALLS}")])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "traced::child", "--nocapture", "--quiet"])
        .env("POND_TEST_DIR", &root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success(), "the traced process failed");
    let mut tracer = Tracer { root: root.clone(), ..Tracer::default() };
    std::fs::read_to_string(&output).unwrap().lines().for_each(|line| tracer.line(line));
    // From here on, names are relative to the pond.
    let mut effects = tracer.effects;
    for effect in &mut effects {
        if let Effect::SyncDir { dir: path, .. }
        | Effect::Mkdir { dir: path }
        | Effect::Name { path, .. } = effect
        {
            *path = path.strip_prefix(&root).unwrap().to_owned();
        }
    }
    Some(effects)
}

/// Which syncs reach the disk.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Disk {
    Synced,
    FilesUnsynced,
    DirsUnsynced,
}

/// One of the states that the disk may be in after the first `cut` effects.
struct Image {
    dirs: Vec<PathBuf>,
    files: BTreeMap<PathBuf, Vec<u8>>,
    acknowledged: u64,
}

fn image(effects: &[Effect], cut: usize, disk: Disk, random: &mut Random) -> Image {
    let done = &effects[..cut];
    let (mut files_synced, mut dirs_synced) = (HashMap::new(), HashMap::new());
    for effect in done {
        match effect {
            Effect::SyncFile { file, begun } if disk != Disk::FilesUnsynced => {
                files_synced.insert(*file, *begun);
            }
            Effect::SyncDir { dir, begun } if disk != Disk::DirsUnsynced => {
                dirs_synced.insert(dir.as_path(), *begun);
            }
            _ => {}
        }
    }
    let came_through = |at: usize, path: &Path, random: &mut Random| {
        let synced = path.parent().and_then(|dir| dirs_synced.get(dir));
        synced.is_some_and(|synced| at < *synced) || random.below(2) == 0
    };
    let mut dirs = Vec::new();
    let mut names: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let mut contents: HashMap<usize, Vec<u8>> = HashMap::new();
    let mut acknowledged = 0;
    for (at, effect) in done.iter().enumerate() {
        match effect {
            Effect::Mkdir { dir } if came_through(at, dir, random) => dirs.push(dir.clone()),
            Effect::Name { path, file } if came_through(at, path, random) => match file {
                Some(file) => drop(names.insert(path.clone(), *file)),
                None => drop(names.remove(path)),
            },
            Effect::Truncate { file } => drop(contents.remove(file)),
            Effect::Write { file, at: start, bytes } => {
                let synced = files_synced.get(file).is_some_and(|synced| at < *synced);
                let content = contents.entry(*file).or_default();
                let fate = if synced { 0 } else { random.below(4) };
                if fate == 3 {
                    continue;
                }
                let end = start + bytes.len();
                content.resize(content.len().max(end), 0);
                for (page, part) in bytes.chunks(4096).enumerate() {
                    if fate < 2 || random.below(2) == 0 {
                        let from = start + page * 4096;
                        content[from..from + part.len()].copy_from_slice(part);
                    }
                }
            }
            Effect::Acknowledge { number } => acknowledged = *number,
            _ => {}
        }
    }
    let made = dirs.clone();
    let is_there = |path: &Path| {
        let mut above = path.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty());
        above.all(|dir| made.iter().any(|made| made == dir))
    };
    let files = names.into_iter().filter(|(path, _)| is_there(path));
    let files = files.map(|(path, file)| (path, contents.get(&file).cloned().unwrap_or_default()));
    let files = files.collect();
    dirs.retain(|dir| is_there(dir));
    Image { dirs, files, acknowledged }
}

/// Opens an image and says what is wrong with it.
async fn examine(image: Image) -> Result<(), String> {
    let work = tempfile::tempdir().unwrap();
    let dir = work.path();
    for made in &image.dirs {
        std::fs::create_dir_all(dir.join(made)).unwrap();
    }
    for (path, content) in &image.files {
        std::fs::write(dir.join(path), content).unwrap();
    }
    let pond = match Pond::open(dir, FAST).await {
        Ok(pond) => pond,
        Err(error) if error.kind() == ErrorKind::NotFound && image.acknowledged == 0 => {
            return Pond::init(dir, FAST).await.map(drop).map_err(|error| error.to_string());
        }
        Err(error) => return Err(error.to_string()),
    };
    let snapshot = pond.snapshot().await.map_err(|error| error.to_string())?;
    for number in 1..=image.acknowledged {
        for child in ["a", "f"] {
            if !exists(&snapshot, &format!("/{number}/{child}")) {
                return Err(format!("/{number}/{child} was acknowledged and is lost"));
            }
        }
    }
    let mut findings = Vec::new();
    let checked = check(dir, |error| findings.push(error.to_string())).await;
    checked.map_err(|error| error.to_string())?;
    if findings.is_empty() { Ok(()) } else { Err(format!("findings: {findings:?}")) }
}

async fn images(effects: &Arc<Vec<Effect>>, count: u64, seed: u64, disk: Disk) -> Vec<String> {
    println!("seed {seed}");
    let examined = (0..count).map(|number| {
        let effects = effects.clone();
        async move {
            let mut random = Random(seed + number * 7919);
            let cut = random.below(effects.len() as u64 + 1) as usize;
            let image = image(&effects, cut, disk, &mut random);
            let wrong = match tokio::spawn(examine(image)).await {
                Ok(examined) => examined.err()?,
                Err(panic) => panic.to_string(),
            };
            Some(format!("image {number} of seed {seed}, cut at {cut}: {wrong}"))
        }
    });
    let wrong = futures::stream::iter(examined).buffered(4);
    wrong.filter_map(|wrong| async { wrong }).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_between_system_calls_lose_nothing_acknowledged() {
    let Some(effects) = trace() else { return };
    let effects = Arc::new(effects);
    let acknowledged = effects.iter().filter(|it| matches!(it, Effect::Acknowledge { .. })).count();
    assert_eq!(acknowledged, 25, "the trace is not understood");
    let wrong = images(&effects, 300, 20_260_102, Disk::Synced).await;
    assert!(wrong.is_empty(), "{} images are wrong: {:#?}", wrong.len(), &wrong[..1]);
    for disk in [Disk::FilesUnsynced, Disk::DirsUnsynced] {
        let wrong = images(&effects, 40, 3, disk).await;
        assert!(wrong.len() > 20, "{disk:?}: only {} of 40 images are wrong", wrong.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the long form: run with --ignored soak"]
async fn soak_traced_power() {
    let Some(effects) = trace() else { return };
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let wrong = images(&Arc::new(effects), 20_000, seed, Disk::Synced).await;
    assert!(wrong.is_empty(), "{} images are wrong: {:#?}", wrong.len(), &wrong[..1]);
}
