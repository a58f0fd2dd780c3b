//! The shell as its users meet it: transcripts in `tests/cmd`, and what a transcript cannot hold
//! (pipes, standard input, a terminal).

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const POND: &str = env!("CARGO_BIN_EXE_pond");

/// Each file is a session in a directory of its own: `x.md` begins in a copy of `x.in`.
#[test]
fn transcripts() {
    trycmd::TestCases::new()
        .case("tests/cmd/*.md")
        .register_bin("pond", Path::new(POND))
        // An empty variable counts as not set.
        .env("POND", "")
        .env("POND_DURABILITY", "process")
        .env("POND_FORMAT", "table")
        .run();
}

/// A shell command in `dir`, to which no pond is near unless `dir` holds one.
pub fn shell(dir: &Path) -> Command {
    let mut command = Command::new(POND);
    command
        .current_dir(dir)
        .env_remove("POND")
        .env("POND_DURABILITY", "process")
        .env("POND_FORMAT", "table")
        .env("XDG_STATE_HOME", dir.join("state"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub fn run(dir: &Path, arguments: &[&str]) -> Output {
    shell(dir).args(arguments).output().unwrap()
}

pub fn run_with_input(dir: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = shell(dir).args(arguments).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Makes a directory that holds a pond with `data`, which has the file `n.csv`, mounted as `/data`.
pub fn pond_with_data() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("data")).unwrap();
    fs::write(dir.path().join("data/n.csv"), "n,name\n1,one\n2,two\n3,three\n").unwrap();
    let mknod = ["mknod", "--factory", "hostmount", "/data", "--set", "directory=data"];
    for arguments in [&["init"] as &[&str], &mknod] {
        let output = run(dir.path(), arguments);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    dir
}

#[test]
fn a_reader_that_leaves_ends_the_shell_quietly() {
    let dir = pond_with_data();
    let rows = "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    for arguments in [
        &["sql", rows] as &[&str],
        &["sql", "--format", "csv", rows],
        &["sql", "--format", "ndjson", rows],
    ] {
        let mut child = shell(dir.path()).args(arguments).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert!(!first.is_empty());
        // The reader is gone with the end of the statement above.
        let output = wait(child, Duration::from_secs(60));
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    }
}

#[test]
fn a_view_is_printed_as_it_is_made() {
    let dir = pond_with_data();
    let query = "SELECT value, md5(value::text) AS digest FROM generate_series(1, 10000000000)";
    let made = run(dir.path(), &["create-derived-table", "/endless.table", "--query", query]);
    assert!(made.status.success(), "{}", stderr(&made));
    for arguments in
        [&["cat", "/endless.table"] as &[&str], &["cat", "/endless.table", "--format", "csv"]]
    {
        let mut child = shell(dir.path()).args(arguments).spawn().unwrap();
        let mut head = [0; 4096];
        child.stdout.take().unwrap().read_exact(&mut head).unwrap();
        assert!(head.starts_with(b"PAR1") || head.starts_with(b"value,digest\n1,"), "{head:?}");
        let output = wait(child, Duration::from_secs(60));
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    }
}

#[test]
fn changes_go_on_when_the_reader_has_left() {
    let dir = pond_with_data();
    let mut child = shell(dir.path())
        .args(["sql", "SELECT 1; CREATE SCHEMA \"/x1\"; SELECT 2; CREATE SCHEMA \"/x2\""])
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = wait(child, Duration::from_secs(60));
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).starts_with("created /x1 (txn 2)\n"), "{}", stderr(&output));
    let listed = shell(dir.path()).args(["ls", "/"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("x1") && listed.contains("x2"), "{listed}");
}

#[test]
fn deep_statements_end_in_an_answer_or_an_error() {
    let dir = pond_with_data();
    let union = format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(500));
    let terms = format!("SELECT 1 WHERE 1 = 0{}", " OR 1 = 0".repeat(2000));
    let braces = format!("SELECT * FROM ls('/' || '{}')", "{a/,b}".repeat(20_000));
    let deep = format!("CREATE SCHEMA \"{}\"", "/a".repeat(3000));
    for (sql, code) in [(union, 0), (terms, 0), (braces, 1), (deep, 1)] {
        let child = shell(dir.path()).args(["sql", &sql]).stdout(Stdio::null()).spawn().unwrap();
        let output = wait(child, Duration::from_secs(60));
        assert_eq!(output.status.code(), Some(code), "{}: {}", &sql[..60], stderr(&output));
    }
}

/// Waits for `child`, but not for ever.
fn wait(mut child: Child, at_most: Duration) -> Output {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > at_most {
            child.kill().unwrap();
            panic!("the shell did not end within {at_most:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

#[test]
fn the_environment_names_a_pond_unless_an_option_does() {
    let dir = pond_with_data();
    for name in ["one", "two"] {
        assert!(run(dir.path(), &["init", name]).status.success());
        assert!(
            run(dir.path(), &["--pond", name, "mkdir", &format!("/in-{name}")]).status.success()
        );
    }
    let below = dir.path().join("data/below");
    fs::create_dir(&below).unwrap();
    assert_eq!(stdout(&run(&below, &["ls"])), "data\n");
    let named =
        |arguments: &[&str]| shell(dir.path()).env("POND", "two").args(arguments).output().unwrap();
    assert_eq!(stdout(&named(&["ls"])), "in-two\n");
    assert_eq!(stdout(&named(&["--pond", "one", "ls"])), "in-one\n");
    let output = shell(dir.path()).env("POND_DURABILITY", "never").arg("ls").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with("error: $POND_DURABILITY: "), "{}", stderr(&output));
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_listed() {
    let dir = pond_with_data();
    assert!(run(dir.path(), &["mkdir", "/empty"]).status.success());
    fs::rename(dir.path().join("data"), dir.path().join("moved")).unwrap();
    let output = run(dir.path(), &["ls", "-R"]);
    assert_eq!(stdout(&output), "/data\n/empty\n");
    assert_eq!(output.status.code(), Some(1));
    let errors = stderr(&output);
    assert!(errors.starts_with("error: ") && errors.contains("data"), "{errors}");
    // It is listed whatever became of it.
    let output = run(dir.path(), &["ls", "-l"]);
    assert!(
        stdout(&output).contains("  /data [hostmount]")
            || stdout(&output).contains("  data [hostmount]")
    );
}

#[test]
fn statements_come_from_stdin_and_stop_at_the_first_failure() {
    let dir = pond_with_data();
    let script = "CREATE NODE '/a' FACTORY hostmount WITH (directory = 'data');\n\
                  SELECT count(*) AS n FROM '/a/n.csv';\n\
                  SELECT * FROM\n  '/a/x.csv';\n\
                  CREATE NODE '/b' FACTORY hostmount WITH (directory = 'data');\n";
    for arguments in [&["sql", "-"] as &[&str], &["sql", "-f", "-"], &[]] {
        let output = run_with_input(dir.path(), arguments, script);
        assert_eq!(output.status.code(), Some(1));
        let errors = stderr(&output);
        let (_, error) = errors.split_once("error: ").unwrap();
        let place = "'/a/x.csv' does not exist\n --> standard input:4:3\n  |\n\
                     4 |   '/a/x.csv';\n  |   ^^^^^^^^^^\n";
        assert!(error.starts_with(place), "{errors}");
        assert_eq!(stdout(&output), " n\n---\n 3\n");
        assert_eq!(stdout(&run(dir.path(), &["ls"])), "a\ndata\n");
        assert!(run(dir.path(), &["rm", "/a"]).status.success());
    }
}

#[test]
fn a_script_that_leaves_a_transaction_open_changes_nothing_and_says_so() {
    let dir = pond_with_data();
    let begin = "BEGIN; CREATE TABLE '/t.table' AS SELECT 1 AS v;";
    let unended = "the script ends within a transaction, which was rolled back";
    let failing = format!("{begin} SELECT nonsense; COMMIT");
    let note = "note: the open transaction was rolled back";
    for output in [
        run(dir.path(), &["sql", begin]),
        run_with_input(dir.path(), &["sql", "-"], begin),
        run_with_input(dir.path(), &[], begin),
        run_with_input(dir.path(), &[], &format!("{begin}\n\\q\n")),
    ] {
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(unended), "{}", stderr(&output));
    }
    for output in [run(dir.path(), &["sql", &failing]), run_with_input(dir.path(), &[], &failing)] {
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(note), "{}", stderr(&output));
        assert!(stderr(&output).contains("column 'nonsense' does not exist"));
    }
    let output = run(dir.path(), &["sql", &format!("{begin} COMMIT; SELECT v FROM '/t.table'")]);
    assert!(stderr(&output).contains("committed"), "{}", stderr(&output));
    assert!(stdout(&run(dir.path(), &["log"])).lines().count() <= 5);
}

#[test]
fn a_text_may_begin_with_a_comment() {
    let dir = pond_with_data();
    let text = "-- how many?\nSELECT count(*) AS n FROM '/data/n.csv'";
    assert_eq!(stdout(&run(dir.path(), &["sql", text])), " n\n---\n 3\n");
    let text = "-- all\nSELECT n";
    let output = run(dir.path(), &["cat", "/data/n.csv", "--format", "csv", "--sql", text]);
    assert_eq!(stdout(&output), "n\n1\n2\n3\n");
}

#[test]
fn commands_of_the_interactive_shell_work_in_a_pipe() {
    let dir = pond_with_data();
    let input = "\\cd /data\nSELECT name\n  FROM 'n.csv'\n  WHERE n = 2;\n\\f ndjson\n\
                 SELECT 1 AS a, 'x;y' AS b;\n\\q\nSELECT 2;\n";
    let output = run_with_input(dir.path(), &[], input);
    assert_eq!(stderr(&output), "");
    assert_eq!(stdout(&output), " name\n------\n two\n{\"a\":1,\"b\":\"x;y\"}\n");
    let output = run_with_input(dir.path(), &[], "SELECT 1;\n\\nonsense\n");
    assert_eq!(output.status.code(), Some(1));
    let errors = stderr(&output);
    let place = " --> standard input:2:1\n  |\n2 | \\nonsense\n  | ^^^^^^^^^\n";
    assert!(errors.starts_with("error: '\\nonsense' is no command\n"), "{errors}");
    assert!(errors.contains(place), "{errors}");
}

#[test]
fn options_come_from_yaml_json_and_stdin() {
    let dir = pond_with_data();
    fs::write(dir.path().join("mount.yaml"), "# the data\ndirectory: data\n").unwrap();
    fs::write(dir.path().join("mount.json"), "{\"directory\": \"data\"}").unwrap();
    for (path, file) in [("/y", "mount.yaml"), ("/j", "mount.json"), ("/s", "-")] {
        let arguments = ["mknod", "--factory", "hostmount", path, file];
        let output = run_with_input(dir.path(), &arguments, "directory: ./data\n");
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(stdout(&run(dir.path(), &["ls", path])), "n.csv\n");
    }
}

#[test]
fn parquet_is_written_whole_and_reads_back() {
    let dir = pond_with_data();
    let query = "SELECT n * 2 AS n FROM '/data/n.csv'";
    let output = run(dir.path(), &["sql", "--format", "parquet", query]);
    assert!(output.status.success(), "{}", stderr(&output));
    fs::write(dir.path().join("data/twice.parquet"), &output.stdout).unwrap();
    let output = run(
        dir.path(),
        &["sql", "--format", "csv", "SELECT sum(n) AS n FROM '/data/twice.parquet'"],
    );
    assert_eq!(stdout(&output), "n\n12\n");
}

#[test]
fn names_that_move_the_cursor_reach_a_pipe_as_they_are() {
    let dir = pond_with_data();
    fs::write(dir.path().join("data/a\u{1b}[2Jb"), "").unwrap();
    assert_eq!(stdout(&run(dir.path(), &["ls", "/data"])), "a\u{1b}[2Jb\nn.csv\n");
    let long = stdout(&run(dir.path(), &["ls", "-l", "/data"]));
    assert!(long.contains("a\\u{1b}[2Jb\n"), "{long}");
}
