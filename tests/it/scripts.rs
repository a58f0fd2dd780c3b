//! What a script relies on: what is on stdout and what on stderr, exit codes, files that are complete
//! or not there.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{run, run_with_input, shell, stderr, stdout};

/// A directory with a pond that has `/n.table` of three rows, one of which is null.
fn pond() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let make =
        "CREATE TABLE '/n.table' AS SELECT * FROM (VALUES (1, 'one'), (2, NULL), (3, 'three'))
                AS t(n, name)";
    for arguments in [&["init"] as &[&str], &["sql", make]] {
        let output = run(dir.path(), arguments);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    dir
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

const SELECT: &str = "SELECT * FROM '/n.table' ORDER BY n";

#[test]
fn rows_in_a_pipe_are_csv_and_nothing_else_is_there() {
    let dir = pond();
    let piped = |arguments: &[&str]| {
        shell(dir.path()).env_remove("POND_FORMAT").args(arguments).output().unwrap()
    };
    let text = format!("CREATE SCHEMA \"/made\"; {SELECT}; DROP SCHEMA \"/made\"");
    let output = piped(&["sql", &text]);
    assert_eq!(stdout(&output), "n,name\n1,one\n2,\n3,three\n");
    assert!(stderr(&output).contains("created /made (txn 2)\n"), "{}", stderr(&output));
    let output = piped(&["-q", "sql", &text]);
    assert_eq!(
        (stdout(&output).as_str(), stderr(&output).as_str()),
        ("n,name\n1,one\n2,\n3,three\n", "")
    );
    let output = piped(&["sql", SELECT, "--no-header", "--null", "-", "--max-rows", "2"]);
    assert_eq!(stdout(&output), "1,one\n2,-\n");
    let status = piped(&["status"]);
    assert!(stdout(&status).starts_with("what,count,"), "{}", stdout(&status));
}

#[test]
fn the_exit_code_tells_what_went_wrong() {
    let dir = pond();
    fs::create_dir(dir.path().join("data")).unwrap();
    fs::write(dir.path().join("data/torn.csv"), "a,b\n1,2\n3,4,5,6\n").unwrap();
    let mount = "CREATE NODE '/data' FACTORY hostmount WITH (directory = 'data')";
    assert_eq!(code(&run(dir.path(), &["sql", mount])), 0);
    let limited = "SET datafusion.runtime.memory_limit = '1K'; \
                   SELECT count(DISTINCT value) FROM generate_series(1, 1000000)";
    for (arguments, expected) in [
        (&["sql", SELECT] as &[&str], 0),
        (&["sql", "SELECT nothing"], 1),
        (&["cat", "/nothing"], 1),
        (&["sql", "--nothing"], 2),
        (&["nothing"], 2),
        (&["rm", "/data/torn.csv"], 4),
        (&["sql", "COPY (SELECT 1) TO './x.csv'"], 4),
        (&["sql", "SELECT * FROM '/data/torn.csv'"], 5),
        (&["sql", limited], 6),
    ] {
        let output = run(dir.path(), arguments);
        assert_eq!(code(&output), expected, "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn a_conflict_ends_with_3() {
    let dir = pond();
    let mut child = shell(dir.path()).arg("sql").stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(b"BEGIN;\nINSERT INTO '/n.table' VALUES (4, 'four');\nSELECT 'begun';\n")
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("begun")));
    let other = run(dir.path(), &["sql", "INSERT INTO '/n.table' VALUES (5, 'five')"]);
    assert_eq!(code(&other), 0, "{}", stderr(&other));
    stdin.write_all(b"COMMIT;\n").unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 3, "{}", stderr(&output));
}

#[test]
fn a_script_stops_at_the_first_error_unless_it_is_to_go_on() {
    let dir = pond();
    fs::write(
        dir.path().join("a.sql"),
        "SELECT 'a1' AS x;\nSELECT\n  nonsense;\nSELECT 'a2' AS x;\n",
    )
    .unwrap();
    let arguments = ["-c", "SELECT 'first' AS x", "-f", "a.sql", "-c", "SELECT 'last' AS x"];
    let ndjson = |options: &[&str]| {
        run(dir.path(), &[&["sql", "--format", "ndjson"], options, &arguments].concat())
    };
    let stopped = ndjson(&[]);
    assert_eq!(stdout(&stopped), "{\"x\":\"first\"}\n{\"x\":\"a1\"}\n");
    assert_eq!(code(&stopped), 1);
    let place = " --> a.sql:3:3\n  |\n3 |   nonsense;\n  |   ^^^^^^^^\n";
    assert!(stderr(&stopped).contains(place), "{}", stderr(&stopped));
    let went_on = ndjson(&["--keep-going"]);
    assert_eq!(code(&went_on), 1);
    assert_eq!(stderr(&went_on), stderr(&stopped));
    assert_eq!(
        stdout(&went_on),
        "{\"x\":\"first\"}\n{\"x\":\"a1\"}\n{\"x\":\"a2\"}\n{\"x\":\"last\"}\n"
    );
    let piped = run_with_input(
        dir.path(),
        &["--keep-going", "--format", "ndjson"],
        "SELECT nonsense;\nSELECT 1 AS x;",
    );
    assert_eq!((code(&piped), stdout(&piped).as_str()), (1, "{\"x\":1}\n"));
}

#[test]
fn the_rows_of_queries_follow_one_another() {
    let dir = pond();
    let two = ["-c", "SELECT 1 AS a", "-c", "SELECT 'x' AS b"];
    let written = |format: &str| {
        let output = run(dir.path(), &[&["sql", "--format", format] as &[&str], &two].concat());
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        stdout(&output)
    };
    assert_eq!(written("csv"), "a\n1\n\nb\nx\n");
    assert_eq!(written("json"), "[{\"a\":1}]\n[{\"b\":\"x\"}]\n");
    let output = run(dir.path(), &[&["sql", "--format", "arrow"] as &[&str], &two].concat());
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("arrow holds the rows of one query"), "{}", stderr(&output));
    let mut describe = shell(dir.path());
    let described = describe.env_remove("POND_FORMAT").args(["describe", "/n.table"]).output();
    let described = described.unwrap();
    assert_eq!(code(&described), 0, "{}", stderr(&described));
}

/// What a command sends to a file is there when it is whole, whatever else goes wrong.
#[test]
fn a_file_that_a_command_names_is_whole_or_as_it_was() {
    let dir = pond();
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).ok();
    fs::write(dir.path().join("kept.csv"), "kept\n").unwrap();
    let script = "\\o out.csv\nSELECT nonsense;\nSELECT 1 AS a;\nSELECT 2 AS b;\n\\o\n\
                  \\once kept.csv\nSELECT nonsense;\n\\o\n\\once once.json\n\
                  CREATE SCHEMA \"/s\";\nSELECT 3 AS c;\nSELECT 4 AS d;\n";
    let output = run_with_input(dir.path(), &["sql", "--keep-going"], script);
    assert_eq!(code(&output), 1);
    assert_eq!(stdout(&output), " d\n---\n 4\n");
    assert_eq!(read("out.csv").as_deref(), Some("a\n1\n\nb\n2\n"));
    assert_eq!(read("kept.csv").as_deref(), Some("kept\n"));
    assert_eq!(read("once.json").as_deref(), Some("[{\"c\":3}]\n"));

    // Half a result is none, and that is said.
    let torn = "\\o kept.csv\nSELECT 1 / (5000 - value) FROM generate_series(1, 10000);\n";
    let output = run_with_input(dir.path(), &["sql"], torn);
    assert_eq!((code(&output), read("kept.csv").as_deref()), (1, Some("kept\n")));
    assert!(stderr(&output).contains("'kept.csv' is left as it was"), "{}", stderr(&output));
    let keep = ["sql", "--keep-going", "-o", "kept.csv", "-c", "SELECT nonsense", "-c", "SELECT 1"];
    assert_eq!(code(&run(dir.path(), &keep)), 1);
    assert_eq!(read("kept.csv").as_deref(), Some("kept\n"));

    let chart = "SELECT value, value * value AS y FROM generate_series(1, 9);";
    run_with_input(dir.path(), &["sql"], &format!("\\o plot.svg\n\\chart {chart}\n\\o\n"));
    assert!(read("plot.svg").unwrap().starts_with("<svg"));
    run(dir.path(), &["sql", "--format", "chart", "-o", "two.svg", chart]);
    assert!(read("two.svg").unwrap().starts_with("<svg"));
    let output = run(dir.path(), &["sql", "-o", "x.csv.gz", SELECT]);
    assert!(stderr(&output).contains("not written compressed"), "{}", stderr(&output));
    assert_eq!(stdout(&run(dir.path(), &["sql", "-o", "-", "SELECT 1 AS a"])), " a\n---\n 1\n");
}

#[test]
fn texts_are_read_as_they_are() {
    let dir = pond();
    let script = "\u{feff}-- a comment\n/* another; */\n.mode json\n-- one more\n\
                  SELECT 'a\r\nb;\n;c' AS x;\n";
    fs::write(dir.path().join("x.sql"), script).unwrap();
    let rows = "[{\"x\":\"a\\r\\nb;\\n;c\"}]\n";
    for output in [
        run(dir.path(), &["sql", "-f", "x.sql"]),
        run_with_input(dir.path(), &["sql"], script),
        run(dir.path(), &["sql", "-c", script]),
    ] {
        assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), (rows, ""));
    }
}

#[test]
fn a_table_of_the_session_is_told_from_one_of_the_pond() {
    let dir = pond();
    let output = run(dir.path(), &["sql", "CREATE TABLE foo AS SELECT 1 AS a"]);
    assert!(stderr(&output).contains("note: 'foo' is there until"), "{}", stderr(&output));
    let output = run(dir.path(), &["sql", "CREATE TABLE '/foo.table' AS SELECT 1 AS a"]);
    assert!(!stderr(&output).contains("note"), "{}", stderr(&output));
}

#[test]
fn the_caret_is_under_the_word_that_is_wrong() {
    let dir = pond();
    for (text, column) in [
        ("SELECT 'nope' AS x, nope FROM '/n.table'", 21),
        ("SELECT n AS nope, q.nope FROM '/n.table' q", 21),
        ("CREATE VIEW '/v.table' AS SELECT nope FROM '/n.table'", 34),
        ("CREATE NODE '/h' FACTORY hostmount WITH (directry = 'x')", 42),
    ] {
        let output = run(dir.path(), &["--error-format", "json", "sql", text]);
        let error: Value = serde_json::from_str(&stderr(&output)).unwrap();
        assert_eq!(error["position"]["column"], column, "{text}: {error}");
    }
}

#[test]
fn errors_notes_and_changes_can_be_json() {
    let dir = pond();
    let text = "CREATE SCHEMA \"/made\";\nSELECT nam FROM '/n.table'";
    fs::write(dir.path().join("x.sql"), text).unwrap();
    let output = run(dir.path(), &["--error-format", "json", "sql", "-f", "x.sql"]);
    let lines: Vec<Value> =
        stderr(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["status"], "created");
    assert_eq!((&lines[0]["path"], &lines[0]["txn"]), (&"/made".into(), &2.into()));
    let error = lines.last().unwrap();
    assert_eq!(error["code"], "not_found");
    assert_eq!(error["message"], "column 'nam' does not exist");
    assert_eq!(error["hint"], "did you mean 'name'?");
    let position = serde_json::json!({"file": "x.sql", "line": 2, "column": 8, "text": "nam"});
    assert_eq!(error["position"], position);
    let usage = run(dir.path(), &["--error-format=json", "sqll"]);
    let usage: Value = serde_json::from_str(&stderr(&usage)).unwrap();
    assert_eq!(usage["code"], "usage");
    for asked in ["--help", "--version"] {
        let output = run(dir.path(), &["--error-format=json", asked]);
        assert_eq!((code(&output), stderr(&output).as_str()), (0, ""), "{asked}");
        assert_eq!(output.stdout, run(dir.path(), &[asked]).stdout, "{asked}");
    }
}

#[test]
fn options_of_the_interactive_shell_are_refused_beside_a_verb() {
    let dir = pond();
    for option in ["--keep-going", "--no-init", "--param=x=1"] {
        let output = run(dir.path(), &[option, "ls"]);
        assert_eq!((code(&output), stdout(&output).as_str()), (2, ""), "{option}");
        let name = option.split('=').next().unwrap();
        assert!(stderr(&output).contains(&format!("error: {name} ")), "{}", stderr(&output));
    }
}

#[test]
fn a_file_that_is_replaced_stays_what_it_is() {
    let dir = pond();
    let path = |name: &str| dir.path().join(name);
    let write =
        |name: &str| run(dir.path(), &["sql", "--format", "csv", "-o", name, "SELECT 1 AS x"]);
    // Its mode is its own, whatever the umask.
    fs::write(path("open.csv"), "before").unwrap();
    fs::set_permissions(path("open.csv"), fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(code(&write("open.csv")), 0);
    assert_eq!(fs::read_to_string(path("open.csv")).unwrap(), "x\n1\n");
    assert_eq!(path("open.csv").metadata().unwrap().permissions().mode() & 0o7777, 0o666);
    // A link leads where it led, though nothing was there.
    fs::create_dir(path("below")).unwrap();
    symlink("below/first", path("link.csv")).unwrap();
    symlink("target.csv", path("below/first")).unwrap();
    assert_eq!(code(&write("link.csv")), 0);
    assert!(path("link.csv").is_symlink() && path("below/first").is_symlink());
    assert_eq!(fs::read_to_string(path("below/target.csv")).unwrap(), "x\n1\n");
    // What runs may not be written, by whomever: it is not replaced either.
    fs::copy("/bin/sleep", path("busy")).unwrap();
    let mut busy = Command::new(path("busy")).arg("60").spawn().unwrap();
    let output = write("busy");
    busy.kill().unwrap();
    busy.wait().unwrap();
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).starts_with("error: 'busy': "), "{}", stderr(&output));
}

#[test]
fn a_file_is_there_when_it_is_complete() {
    let dir = pond();
    let file = dir.path().join("out.ndjson");
    let write = |text: &str| run(dir.path(), &["sql", "-o", "out.ndjson", text]);
    let output = write(SELECT);
    assert_eq!((code(&output), stdout(&output).as_str()), (0, ""), "{}", stderr(&output));
    let rows =
        "{\"n\":1,\"name\":\"one\"}\n{\"n\":2,\"name\":null}\n{\"n\":3,\"name\":\"three\"}\n";
    assert_eq!(fs::read_to_string(&file).unwrap(), rows);
    assert_eq!(code(&write("SELECT 1 AS x; SELECT nonsense")), 1);
    assert_eq!(fs::read_to_string(&file).unwrap(), rows, "it was replaced by a part");
    let left = || {
        let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().contains("out.")).count()
    };
    assert_eq!(left(), 1);

    // Ctrl-C leaves nothing either.
    let endless = "SELECT value FROM generate_series(1, 100000000000)";
    let child = shell(dir.path()).args(["sql", "-o", "out.csv", endless]).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while left() == 1 {
        assert!(Instant::now() < until, "no file was begun");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(200));
    interrupt(child.id());
    assert_eq!(code(&child.wait_with_output().unwrap()), 130);
    assert_eq!(left(), 1);

    let output = run(dir.path(), &["sql", "-o", "nowhere/x.csv", SELECT]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).starts_with("error: 'nowhere/x.csv': "), "{}", stderr(&output));
    let output = run(dir.path(), &["sql", "-o", "/dev/null", SELECT]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

#[test]
fn ctrl_c_ends_with_130() {
    let dir = pond();
    let endless = "SELECT count(*) FROM generate_series(1, 100000000000)";
    let child = shell(dir.path()).args(["sql", endless]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    interrupt(child.id());
    assert_eq!(code(&child.wait_with_output().unwrap()), 130);
}

fn interrupt(pid: u32) {
    let done = Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap();
    assert!(done.success());
}

/// Nothing that goes to a pipe moves the cursor or has a colour, whatever is in it to tempt.
#[test]
fn no_escape_byte_goes_into_a_pipe() {
    let dir = pond();
    let no_escape = |dir: &Path, arguments: &[&str]| {
        let output = shell(dir).env("TERM", "xterm-256color").args(arguments).output().unwrap();
        for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            assert!(!bytes.contains(&0x1b), "{arguments:?} writes an escape to {name}");
        }
    };
    for format in ["table", "csv", "tsv", "json", "ndjson", "markdown", "line", "html", "chart"] {
        no_escape(dir.path(), &["sql", "--format", format, "SELECT n, n * 2 AS m FROM '/n.table'"]);
    }
    let errors =
        ["SELECT nonsense", "SELEC", "SELECT * FROM '/\u{1b}[31m'", "SELECT '\u{1b}[31m' FRM"];
    for text in errors {
        no_escape(dir.path(), &["sql", text]);
        no_escape(dir.path(), &["--error-format", "json", "sql", text]);
    }
    for arguments in [
        &["--help"] as &[&str],
        &["sql", "--help"],
        &["nonsense"],
        &["ls", "-l"],
        &["log"],
        &["status"],
        &["describe", "/n.table"],
        &["cat", "/\u{1b}[31m"],
        &["fsck"],
        &["lineage", "/n.table"],
        &["--version"],
    ] {
        no_escape(dir.path(), arguments);
    }
    // Unless they are asked for.
    let output = run(dir.path(), &["--color", "always", "sql", "SELECT nonsense"]);
    assert!(stderr(&output).contains('\u{1b}'), "{}", stderr(&output));
}
