//! Files in and out of a pond, as users of such systems rely on it: what went in comes out, all of it
//! or nothing, once, and in little memory.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::cli::{run, run_with_input, shell, stderr, stdout};

/// A directory with a pond in it.
fn pond() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    ok(dir.path(), &["init"]);
    dir
}

/// Runs a command that must succeed, and returns what it printed.
fn ok(dir: &Path, arguments: &[&str]) -> String {
    let output = run(dir, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

/// Runs a command that must succeed, and returns what it told.
fn told(dir: &Path, arguments: &[&str]) -> String {
    let output = run(dir, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stderr(&output)
}

/// Runs a command that must fail, and returns what it complained about.
fn fails(dir: &Path, arguments: &[&str]) -> String {
    let output = run(dir, arguments);
    let code = output.status.code();
    assert!(matches!(code, Some(1 | 4)), "{arguments:?}: {code:?}: {}", stdout(&output));
    stderr(&output)
}

/// The files in `dir` and below, but for directories.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return files };
    for entry in entries {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(files_below(&entry.path())),
            false => files.push(entry.path()),
        }
    }
    files
}

fn blobs(dir: &Path) -> usize {
    files_below(&dir.join(".pond/blobs")).len()
}

/// Bytes that no compression makes small.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = bytes as u64 + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}

#[test]
fn the_newest_of_three_versions_is_read() {
    let dir = pond();
    for (text, said) in [("one", "created"), ("two!", "replaced"), ("three", "replaced")] {
        fs::write(dir.path().join("a.txt"), text).unwrap();
        assert!(told(dir.path(), &["put", "a.txt", "/x/"]).starts_with(said));
        assert_eq!(ok(dir.path(), &["cat", "/x/a.txt"]), text);
    }
    assert_eq!(ok(dir.path(), &["cat", "/x/a.txt@v2"]), "two!");
    // A table, too, shows its newest version and not all of them.
    for rows in ["n\n1\n2\n", "n\n3\n"] {
        fs::write(dir.path().join("n.csv"), rows).unwrap();
        ok(dir.path(), &["put", "n.csv", "/n.table"]);
    }
    assert_eq!(ok(dir.path(), &["cat", "/n.table", "--format", "csv"]), "n\n3\n");
}

#[test]
fn csv_comes_out_byte_for_byte() {
    let dir = pond();
    let text = "\u{feff}a,b\r\n\"x,\"\"y\"\"\",1.50\r\n,\r\nlast,0012";
    fs::write(dir.path().join("a.csv"), text).unwrap();
    ok(dir.path(), &["put", "a.csv", "/a.csv"]);
    ok(dir.path(), &["get", "/a.csv", "out.csv"]);
    assert_eq!(fs::read_to_string(dir.path().join("out.csv")).unwrap(), text);
    assert_eq!(ok(dir.path(), &["get", "/a.csv", "-"]), text);
}

#[test]
fn bytes_above_64_kib_are_a_blob_and_equal_ones_are_stored_once() {
    let dir = pond();
    for (bytes, expected) in [(0, 0), (65_536, 0), (65_537, 1)] {
        let contents = noise(bytes);
        fs::write(dir.path().join("x"), &contents).unwrap();
        ok(dir.path(), &["put", "x", "/x"]);
        assert_eq!(blobs(dir.path()), expected, "{bytes} bytes");
        let output = run(dir.path(), &["cat", "/x"]);
        assert!(output.stdout == contents, "{bytes} bytes came out as others");
    }
    // However often, and under whatever name.
    for name in ["/x", "/y", "/z/x"] {
        ok(dir.path(), &["put", "x", name]);
    }
    ok(dir.path(), &["cp", "/x", "/copy"]);
    assert_eq!(blobs(dir.path()), 1);
    // Lost contents are damage, whoever asks for them.
    fs::remove_file(&files_below(&dir.path().join(".pond/blobs"))[0]).unwrap();
    for arguments in [&["cat", "/x"][..], &["get", "/x", "out"]] {
        let output = run(dir.path(), arguments);
        assert_eq!(output.status.code(), Some(5), "{arguments:?}");
        assert!(stderr(&output).contains("hint: restore the file from a backup"), "{arguments:?}");
    }
}

#[test]
fn what_is_no_table_is_refused_as_one_with_the_reason() {
    let dir = pond();
    fs::write(dir.path().join("notes.txt"), "just words").unwrap();
    fs::write(dir.path().join("notes.table"), "just words").unwrap();
    fs::write(dir.path().join("short.parquet"), "PAR1").unwrap();
    fs::write(dir.path().join("cut.parquet"), [b"PAR1".as_slice(), &noise(100_000)].concat())
        .unwrap();
    for (arguments, reason) in [
        (["put", "notes.txt", "/n.table"], "neither Parquet, CSV, JSON nor Arrow"),
        (["put", "notes.table", "/"], "Parquet"),
        (["put", "short.parquet", "/n.table"], "Parquet"),
        (["put", "cut.parquet", "/n.series"], "Parquet"),
    ] {
        let said = fails(dir.path(), &arguments);
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
    let typed = ["put", "--type", "table", "notes.txt", "/notes"];
    assert!(fails(dir.path(), &typed).contains("neither Parquet"));
    assert_eq!(ok(dir.path(), &["ls"]), "");
    assert_eq!(ok(dir.path(), &["log", "--format", "csv"]), "txn,timestamp,changes,message\n");
    assert_eq!(blobs(dir.path()), 0);
    // As bytes, it may be called what it likes.
    ok(dir.path(), &["put", "--type", "data", "notes.table", "/"]);
    assert_eq!(ok(dir.path(), &["cat", "/notes.table"]), "just words");
}

#[test]
fn a_put_of_many_that_fails_leaves_nothing() {
    let dir = pond();
    fs::create_dir(dir.path().join("tree")).unwrap();
    fs::write(dir.path().join("big"), noise(300_000)).unwrap();
    fs::write(dir.path().join("tree/a"), noise(200_000)).unwrap();
    fs::write(dir.path().join("tree/z.table"), "no table").unwrap();
    for arguments in [
        &["put", "big", "tree", "/x/"] as &[&str],
        &["put", "big", "nowhere", "/x/"],
        &["put", "big", "tree/a", "big", "/x/"],
    ] {
        fails(dir.path(), arguments);
        assert_eq!((ok(dir.path(), &["ls", "-R"]).as_str(), blobs(dir.path())), ("", 0));
    }
    ok(dir.path(), &["put", "--type", "data", "big", "tree", "/x/"]);
    assert_eq!(ok(dir.path(), &["ls", "-R"]), "/x\n/x/big\n/x/tree\n/x/tree/a\n/x/tree/z.table\n");
    assert_eq!(ok(dir.path(), &["log", "--format", "csv"]).lines().count(), 2, "one transaction");
}

/// Runs a command and returns the most memory that it took, in bytes.
fn peak_memory(dir: &Path, arguments: &[&str]) -> u64 {
    let mut child = shell(dir).args(arguments).stdout(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) * 1024);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    peak
}

#[test]
fn a_large_file_takes_no_more_memory_than_a_small_one() {
    let dir = pond();
    let chunk = noise(1 << 20);
    for (name, chunks) in [("small", 1), ("large", 100)] {
        let mut file = fs::File::create(dir.path().join(name)).unwrap();
        for number in 0..chunks {
            file.write_all(&[number]).unwrap();
            file.write_all(&chunk).unwrap();
        }
    }
    let path = |name: &str| format!("/{name}");
    for verb in ["put", "get"] {
        let [small, large] = ["small", "large"].map(|name| match verb {
            "put" => peak_memory(dir.path(), &["put", name, &path(name)]),
            _ => peak_memory(dir.path(), &["get", &path(name), &format!("{name}.out")]),
        });
        assert!(large < small + (40 << 20), "{verb}: {small} bytes, then {large}");
    }
    let [before, after] = ["large", "large.out"].map(|name| fs::read(dir.path().join(name)));
    assert!(before.unwrap() == after.unwrap());
}

#[test]
fn rows_are_converted_in_their_order_and_in_bounded_memory() {
    let dir = pond();
    let table = |rows: u32| {
        (0..rows).fold("n,a\n".to_owned(), |mut text, n| {
            text.push_str(&format!("{},station-{}\n", n ^ 0x5555, n % 7));
            text
        })
    };
    let peaks = [("small.csv", 200_000), ("large.csv", 3_000_000)].map(|(name, rows)| {
        fs::write(dir.path().join(name), table(rows)).unwrap();
        peak_memory(dir.path(), &["put", "--type", "table", name, "/"])
    });
    assert!(peaks[1] < peaks[0] + (48 << 20), "{peaks:?}");
    // Of several row groups.
    assert!(ok(dir.path(), &["cat", "/small.csv", "--format", "csv"]) == table(200_000));
}

/// What is in a directory: contents, links as they are written, nothing of directories.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(at) = waiting.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            let content = if kind.is_dir() {
                waiting.push(path.clone());
                None
            } else if kind.is_symlink() {
                Some(fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec())
            } else {
                Some(fs::read(&path).unwrap())
            };
            all.insert(path.strip_prefix(dir).unwrap().to_owned(), content);
        }
    }
    all
}

#[test]
fn a_tree_comes_out_as_it_went_in() {
    let dir = pond();
    let tree = dir.path().join("tree");
    for sub in ["a/deep/er", "empty", "ü %2F#1"] {
        fs::create_dir_all(tree.join(sub)).unwrap();
    }
    for (name, bytes) in [
        (b"a/x" as &[u8], 10),
        (b"a/deep/er/big", 200_000),
        (b"none", 0),
        (b"not \xff utf-8 \xc3", 5),
        (b"back\\x41slash", 7),
        (b"line\nbreak", 7),
        (b"*?[{", 9),
        (b".hidden", 3),
        (b"v@v1", 4),
        ("ü %2F#1/#x#1".as_bytes(), 70_000),
    ] {
        fs::write(tree.join(OsStr::from_bytes(name)), noise(bytes)).unwrap();
    }
    symlink("deep/er/big", tree.join("a/to-big")).unwrap();
    symlink("../none", tree.join("a/up")).unwrap();
    symlink("gone", tree.join("a/dangling")).unwrap();
    ok(dir.path(), &["put", "tree", "/t"]);
    ok(dir.path(), &["get", "/t", "out"]);
    assert_eq!(contents(&tree), contents(&dir.path().join("out")));
    // Again, into what is there, and what is in it rather than itself.
    ok(dir.path(), &["put", "out/.", "/t"]);
    ok(dir.path(), &["get", "--force", "/t", "."]);
    assert_eq!(contents(&tree), contents(&dir.path().join("t")));
    let output = run(dir.path(), &["cat", "/t/a/to-big"]);
    assert!(output.stdout == noise(200_000));
}

#[test]
fn links_that_leave_the_tree_are_followed_and_loops_are_refused() {
    let dir = pond();
    let [tree, other] = ["tree", "other"].map(|name| dir.path().join(name));
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::create_dir(&other).unwrap();
    fs::write(other.join("o"), "other").unwrap();
    symlink("o", other.join("inner")).unwrap();
    symlink(&other, tree.join("absolute")).unwrap();
    symlink("../../other/o", tree.join("sub/outside")).unwrap();
    symlink("/nowhere/at/all", tree.join("dangling")).unwrap();
    let output = run(dir.path(), &["put", "tree", "/t"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let told = stderr(&output);
    let notes: Vec<&str> = told.lines().filter(|line| line.starts_with("note: ")).collect();
    assert!(notes.len() == 1 && notes[0].contains("tree/dangling' was passed over: "), "{told}");
    assert_eq!(
        ok(dir.path(), &["ls", "-R"]),
        "/t\n/t/absolute\n/t/absolute/inner\n/t/absolute/o\n/t/sub\n/t/sub/outside\n"
    );
    assert_eq!(ok(dir.path(), &["cat", "/t/absolute/inner"]), "other");
    assert_eq!(ok(dir.path(), &["cat", "/t/sub/outside"]), "other");
    // A link that is named itself is followed, too.
    symlink("tree/sub", dir.path().join("named")).unwrap();
    ok(dir.path(), &["put", "named", "/"]);
    assert_eq!(ok(dir.path(), &["ls", "/named"]), "outside\n");

    symlink(&tree, tree.join("sub/round")).unwrap();
    let said = fails(dir.path(), &["put", "tree", "/u"]);
    assert!(said.contains("is a loop of symbolic links"), "{said}");
    fs::remove_file(tree.join("sub/round")).unwrap();
    symlink(tree.join("b"), tree.join("a")).unwrap();
    symlink(tree.join("a"), tree.join("b")).unwrap();
    let said = fails(dir.path(), &["put", "tree", "/u"]);
    assert!(said.contains("is a loop of symbolic links"), "{said}");
    assert!(!ok(dir.path(), &["ls"]).contains('u'));
}

#[test]
fn loops_in_the_pond_are_refused() {
    let dir = pond();
    for (target, link) in [("/d/b", "/d/a"), ("a", "/d/b"), ("/d", "/d/self")] {
        ok(dir.path(), &["ln", "-s", target, link]);
    }
    for arguments in [
        &["cat", "/d/a"] as &[&str],
        &["put", "state", "/d/a"],
        &["cp", "/d/a", "/x"],
        &["get", "/d", "out"],
    ] {
        fs::create_dir_all(dir.path().join("state")).unwrap();
        let said = fails(dir.path(), arguments);
        assert!(said.contains("is a loop of symbolic links"), "{arguments:?}: {said}");
    }
}

#[test]
fn pipes_in_a_tree_are_passed_over_and_a_pipe_that_is_named_is_read() {
    let dir = pond();
    fs::create_dir(dir.path().join("tree")).unwrap();
    fs::write(dir.path().join("tree/x"), "x").unwrap();
    let pipe = dir.path().join("tree/pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let output = run(dir.path(), &["put", "tree", "/t"]);
    assert!(output.status.success() && stderr(&output).contains("it is a FIFO"));
    assert_eq!(ok(dir.path(), &["ls", "/t"]), "x\n");
    let writer = {
        let pipe = pipe.clone();
        std::thread::spawn(move || fs::write(pipe, "through a pipe").unwrap())
    };
    ok(dir.path(), &["put", "tree/pipe", "/p"]);
    writer.join().unwrap();
    assert_eq!(ok(dir.path(), &["cat", "/p"]), "through a pipe");
}

#[test]
fn nothing_is_written_outside_of_the_target_nor_over_what_is_there() {
    let dir = pond();
    let outside = dir.path().join("outside");
    fs::create_dir_all(dir.path().join("tree/sub")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(dir.path().join("tree/sub/x"), "new").unwrap();
    ok(dir.path(), &["put", "tree", "/t"]);
    // A link where a directory should be is not followed.
    fs::create_dir_all(dir.path().join("out/t")).unwrap();
    symlink(&outside, dir.path().join("out/t/sub")).unwrap();
    for arguments in [&["get", "/t", "out"] as &[&str], &["get", "--force", "/t", "out"]] {
        let said = fails(dir.path(), arguments);
        assert!(said.contains("out/t/sub' is not a directory"), "{said}");
    }
    assert_eq!(contents(&outside), BTreeMap::new());
    // A link that is a file's name is replaced, and not written through.
    fs::remove_file(dir.path().join("out/t/sub")).unwrap();
    fs::create_dir(dir.path().join("out/t/sub")).unwrap();
    fs::write(outside.join("o"), "old").unwrap();
    symlink(outside.join("o"), dir.path().join("out/t/sub/x")).unwrap();
    let said = fails(dir.path(), &["get", "/t", "out"]);
    assert!(said.contains("out/t/sub/x' already exists"), "{said}");
    ok(dir.path(), &["get", "--force", "/t", "out"]);
    assert_eq!(fs::read_to_string(dir.path().join("out/t/sub/x")).unwrap(), "new");
    assert_eq!(fs::read_to_string(outside.join("o")).unwrap(), "old");
    // Names that look like a way up stay names.
    ok(dir.path(), &["mkdir", r"/odd\x2e\x2e"]);
    ok(dir.path(), &["put", "tree/sub/x", r"/odd\x2e\x2e/\x2fx"]);
    ok(dir.path(), &["get", r"/odd\x2e\x2e", "odd"]);
    assert_eq!(contents(&dir.path().join("odd")).len(), 1);
}

#[test]
fn standard_input_is_bytes_or_a_table() {
    let dir = pond();
    let put = |arguments: &[&str], input: &str| {
        let output = run_with_input(dir.path(), &[&["put"], arguments].concat(), input);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    };
    put(&["-", "/bytes"], "a,b\n1,2\n");
    assert_eq!(ok(dir.path(), &["cat", "/bytes"]), "a,b\n1,2\n");
    let rows = "b,a\n2,x\n1,y\n";
    put(&["-", "/t.table"], rows);
    assert_eq!(ok(dir.path(), &["cat", "/t.table", "--format", "csv"]), rows);
    put(&["-", "/j.table"], "{\"b\":2,\"a\":\"x\"}\n{\"b\":1,\"a\":\"y\"}\n");
    put(&["--type", "table", "--source-format", "tsv", "-", "/tabs"], "b\ta\n2\tx\n1\ty\n");
    for name in ["/j.table", "/tabs"] {
        let sorted = ok(dir.path(), &["cat", name, "--sql", "SELECT b, a", "--format", "csv"]);
        assert_eq!(sorted, rows, "{name}");
    }
    let output = run_with_input(dir.path(), &["put", "-", "/dir/"], "x");
    assert!(stderr(&output).contains("standard input has no name"), "{}", stderr(&output));
    // What had to be stored to be converted is gone afterwards.
    let before = blobs(dir.path());
    let long = (0..30_000).fold("n\n".to_owned(), |text, n| text + &format!("{n}\n"));
    assert!(long.len() > 65_536);
    put(&["-", "/long.table"], &long);
    assert_eq!(blobs(dir.path()), before + 1);
    assert_eq!(ok(dir.path(), &["cat", "/long.table", "--format", "csv"]), long);
}

#[test]
fn a_series_grows_with_each_put_and_comes_out_as_one_file() {
    let dir = pond();
    let rows = |hour: u32| format!("timestamp,t\n2026-01-01T{hour:02}:00:00,{hour}.5\n");
    for (hour, said) in [(7, "created"), (9, "appended"), (8, "appended")] {
        fs::write(dir.path().join("r.csv"), rows(hour)).unwrap();
        assert!(told(dir.path(), &["put", "r.csv", "/r.series"]).starts_with(said), "{hour}");
    }
    let expected = "timestamp,t\n2026-01-01T07:00:00,7.5\n2026-01-01T08:00:00,8.5\n\
                    2026-01-01T09:00:00,9.5\n";
    let sorted = ["--sql", "SELECT * ORDER BY timestamp", "--format", "csv"];
    assert_eq!(ok(dir.path(), &[&["cat", "/r.series"] as &[&str], &sorted].concat()), expected);
    // Out, and in again under another name.
    ok(dir.path(), &["get", "/r.series", "out.parquet"]);
    ok(dir.path(), &["put", "out.parquet", "/again.table"]);
    assert_eq!(ok(dir.path(), &[&["cat", "/again.table"] as &[&str], &sorted].concat()), expected);
    // It is a series, whatever the file is called and says.
    let said = fails(dir.path(), &["put", "--type", "data", "r.csv", "/r.series"]);
    assert!(said.contains("file:series"), "{said}");
}

#[test]
fn parquet_becomes_a_table_byte_for_byte() {
    let dir = pond();
    let parquet = run(dir.path(), &["sql", "--format", "parquet", "SELECT 1 AS a, 'x' AS b"]);
    fs::write(dir.path().join("p.parquet"), &parquet.stdout).unwrap();
    ok(dir.path(), &["put", "p.parquet", "/p.table"]);
    assert!(run(dir.path(), &["cat", "/p.table"]).stdout == parquet.stdout);
    let output = run_with_input(dir.path(), &["put", "-", "/none.table"], "");
    assert_eq!(output.status.code(), Some(1), "an empty file is no table");
}

#[test]
fn the_log_keeps_the_command_line_or_the_words_given() {
    let dir = pond();
    fs::write(dir.path().join("it's here"), "x").unwrap();
    ok(dir.path(), &["put", "it's here", "/a dir/"]);
    ok(dir.path(), &["mkdir", "-p", "/m", "-m", "because"]);
    ok(dir.path(), &["rm", "-rf", "/m", "/nothing"]);
    let many: Vec<String> = (0..500).map(|n| format!("/missing-{n}")).collect();
    let mut arguments = vec!["rm", "-f", "/a dir/it's here"];
    arguments.extend(many.iter().map(String::as_str));
    ok(dir.path(), &arguments);
    let log = ok(dir.path(), &["log", "--format", "ndjson"]);
    for message in [
        r#""message":"pond put 'it'\\''s here' '/a dir/'""#,
        r#""message":"because""#,
        r#""message":"pond rm -rf /m /nothing""#,
        "more)\"",
    ] {
        assert!(log.contains(message), "{message} is not in {log}");
    }
    assert!(log.lines().all(|line| line.len() < 1200), "{log}");
}

#[test]
fn a_dry_run_lists_what_would_change_and_changes_nothing() {
    let dir = pond();
    fs::create_dir(dir.path().join("tree")).unwrap();
    for name in ["a", "b"] {
        fs::write(dir.path().join("tree").join(name), name).unwrap();
    }
    ok(dir.path(), &["put", "tree", "/t"]);
    fs::write(dir.path().join("tree/c"), noise(100_000)).unwrap();
    for (arguments, expected) in [
        (
            &["put", "--dry-run", "tree/.", "/t"] as &[&str],
            "would be replaced /t/a\nwould be replaced /t/b\nwould be created /t/c\n",
        ),
        (
            &["rm", "-r", "--dry-run", "/t"],
            "would be removed /t\nwould be removed /t/a\nwould be removed /t/b\n",
        ),
        (&["rm", "--dry-run", "/t/*"], "would be removed /t/a\nwould be removed /t/b\n"),
        (
            &["restore", "/", "--to", "0", "--dry-run"],
            "would be removed /t\nwould be removed /t/a\nwould be removed /t/b\n",
        ),
    ] {
        let output = run(dir.path(), arguments);
        assert_eq!(stdout(&output), expected, "{arguments:?}: {}", stderr(&output));
        assert_eq!(stderr(&output), "note: a dry run: nothing was changed\n");
        assert_eq!(ok(dir.path(), &["ls", "/t"]), "a\nb\n");
        assert_eq!(ok(dir.path(), &["log", "--format", "csv"]).lines().count(), 2);
        assert_eq!(blobs(dir.path()), 0);
    }
}

#[test]
fn out_of_a_mount_bytes_are_copied_in() {
    let dir = pond();
    fs::create_dir_all(dir.path().join("data/sub")).unwrap();
    fs::write(dir.path().join("data/sub/x"), "old").unwrap();
    fs::write(dir.path().join("data/n.csv"), "n\n1\n").unwrap();
    symlink("/etc/passwd", dir.path().join("data/sub/away")).unwrap();
    let mount = ["mknod", "--factory", "hostmount", "/host", "--set", "directory=data"];
    ok(dir.path(), &mount);
    let output = run(dir.path(), &["cp", "/host/sub", "/host/n.csv", "/in/"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("'/host/sub/away' was passed over: "), "{}", stderr(&output));
    ok(dir.path(), &["cp", "/host/n.csv", "/n.table"]);
    fs::write(dir.path().join("data/sub/x"), "newer").unwrap();
    assert_eq!(ok(dir.path(), &["cat", "/in/sub/x"]), "old");
    assert_eq!(ok(dir.path(), &["cat", "/n.table", "--format", "csv"]), "n\n1\n");
    // The mount itself is copied as what it is.
    ok(dir.path(), &["cp", "/host", "/live"]);
    assert_eq!(ok(dir.path(), &["cat", "/live/sub/x"]), "newer");
    let said = fails(dir.path(), &["put", "data/n.csv", "/host/"]);
    assert!(said.contains("read-only"), "{said}");
    let said = fails(dir.path(), &["cat", "/host/sub/x@v1"]);
    assert!(said.contains("has no past"), "{said}");
}

/// A name that is no text reaches the pond and comes back.
#[test]
fn names_are_bytes() {
    let dir = pond();
    let name = CString::new(b"\xf0\x28\x8c".to_vec()).unwrap();
    let name = OsStr::from_bytes(name.as_bytes());
    fs::write(dir.path().join(name), "odd").unwrap();
    let output = shell(dir.path()).arg("put").arg(name).arg("/").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(ok(dir.path(), &["ls"]), "\\xf0(\\x8c\n");
    fs::create_dir(dir.path().join("out")).unwrap();
    ok(dir.path(), &["get", "/*", "out"]);
    assert_eq!(fs::read_to_string(dir.path().join("out").join(name)).unwrap(), "odd");
}
