//! What all verbs have: an example in their help, a manual page, completion in a shell.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::cli::{run, shell, stderr, stdout};

const POND: &str = env!("CARGO_BIN_EXE_pond");

/// Returns the verbs that the help lists.
fn verbs() -> Vec<String> {
    let help = stdout(&run(Path::new("/"), &["--help"]));
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    listed
        .take_while(|line| !line.is_empty())
        // The summary of a verb may go on below.
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}

/// Returns the examples in a help: each whole, though it may take many lines.
fn examples(help: &str) -> Vec<String> {
    let below = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    let lines: Vec<&str> = below.take_while(|line| line.starts_with("  ")).collect();
    let text = lines.join("\n").replace("\\\n", " ");
    text.lines().map(|line| line.trim().to_owned()).collect()
}

/// Returns the arguments that a command line gives to pond, as bash splits them.
fn words(line: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join(".config/fish/completions")).unwrap();
    let script = format!("pond() {{ printf '%s\\n' \"$@\" >&3; }}; {{ {line}\n}} 3>&1 >/dev/null");
    let output = Command::new("bash")
        .current_dir(dir.path())
        .env("HOME", dir.path())
        .args(["-c", &script])
        .output()
        .unwrap();
    stdout(&output).lines().map(str::to_owned).collect()
}

#[test]
fn every_verb_has_an_example_that_parses() {
    let here = Path::new("/");
    let verbs = verbs();
    assert!(verbs.len() > 25, "{verbs:?}");
    let nested = [vec!["cache".to_owned(), "clear".to_owned()], Vec::new()];
    for verb in verbs.into_iter().map(|verb| vec![verb]).chain(nested) {
        let mut arguments: Vec<&str> = verb.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = stdout(&run(here, &arguments));
        let summary = help.lines().next().unwrap();
        assert!(summary.len() < 100 && !summary.starts_with("Usage"), "{verb:?}: {summary}");
        let examples = examples(&help);
        assert!(!examples.is_empty(), "{verb:?} has no example:\n{help}");
        for example in examples {
            let mut words = words(&example);
            words.push("--help".to_owned());
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            assert!(words.starts_with(&arguments[..arguments.len() - 1]), "{verb:?}: {example}");
            let parsed = run(here, &words);
            assert!(parsed.status.success(), "{example}: {}", stderr(&parsed));
        }
    }
}

#[test]
fn mistyped_verbs_and_flags_have_near_ones() {
    for (arguments, near) in [
        (&["sq"] as &[&str], "'sql'"),
        (&["ls", "--fromat", "csv"], "'--format'"),
        (&["ls", "--format", "tabel"], "'table'"),
        (&["completions", "bahs"], "'bash'"),
        (&["man", "lss"], "'ls'"),
    ] {
        let output = run(Path::new("/"), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(near), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn versions_are_told() {
    let long = stdout(&run(Path::new("/"), &["--version"]));
    let short = stdout(&run(Path::new("/"), &["-V"]));
    let names: Vec<&str> = long.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["pond", "datafusion", "deltalake-core", "arrow"], "{long}");
    assert_eq!(long.lines().next(), short.lines().next());
    assert_eq!(short.lines().count(), 1);
}

#[test]
fn every_verb_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man");
    let written = run(dir.path(), &["man", "--dir", "man"]);
    assert!(written.status.success(), "{}", stderr(&written));
    let mut verbs = verbs();
    for verb in &verbs {
        let page = fs::read_to_string(pages.join(format!("pond-{verb}.1"))).unwrap();
        assert!(page.contains(".TH pond-"), "{verb}: {page}");
        assert!(page.contains("Examples:"), "{verb}: {page}");
        assert_eq!(stdout(&run(dir.path(), &["man", verb])), page);
    }
    verbs.push("pond".to_owned());
    assert_eq!(fs::read_dir(pages).unwrap().count(), verbs.len());
    assert!(stdout(&run(dir.path(), &["man"])).contains(".TH pond 1"));
}

/// Asks for candidates as bash does; the last word is the one that is completed.
fn complete(dir: &Path, words: &[&str]) -> Vec<String> {
    let output = ask(dir, words);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    stdout(&output).split('\u{b}').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn ask(dir: &Path, words: &[&str]) -> Output {
    shell(dir)
        .env("POND_COMPLETE", "bash")
        .env("_CLAP_IFS", "\u{b}")
        .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
        .env("_CLAP_COMPLETE_COMP_TYPE", "9")
        .env("_CLAP_COMPLETE_SPACE", "false")
        .arg("--")
        .args(words)
        .output()
        .unwrap()
}

fn a_pond() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("data/below")).unwrap();
    fs::write(dir.path().join("data/n.csv"), "n\n1\n").unwrap();
    fs::write(dir.path().join("data/it's new.csv"), "n\n1\n").unwrap();
    fs::write(dir.path().join("data/.hidden"), "").unwrap();
    fs::write(dir.path().join("data/\u{1b}[2J.csv"), "").unwrap();
    for arguments in [
        &["init"] as &[&str],
        &["mkdir", "/sensors"],
        &["put", "data/n.csv", "/sensors.table"],
        &["put", "data/n.csv", "/sensors/a.csv"],
        &["mknod", "--factory", "hostmount", "/host", "--set", "directory=data"],
        &["create-csv-directory", "/tables", "--pattern", "/host/*.csv"],
        &["create-derived-table", "/one.table", "--query", "SELECT 1 AS one"],
    ] {
        let output = run(dir.path(), arguments);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    dir
}

#[test]
fn a_shell_completes_verbs_values_and_paths() {
    let dir = a_pond();
    let dir = dir.path();
    for (words, expected) in [
        (&["pond", "desc"] as &[&str], &["describe"] as &[&str]),
        (&["pond", "cat", "/sen"], &["/sensors/", "/sensors.table"]),
        (&["pond", "cat", "sen"], &["sensors/", "sensors.table"]),
        (&["pond", "cat", "/sensors/"], &["/sensors/a.csv"]),
        (&["pond", "ls", "/host/"], &["/host/below/", r"/host/it\'s\ new.csv", "/host/n.csv"]),
        (&["pond", "ls", r"/host/it\'s\ "], &[r"/host/it\'s\ new.csv"]),
        (&["pond", "ls", "/host/."], &["/host/.hidden"]),
        (&["pond", "cat", "/tables/n"], &["/tables/n.table"]),
        (&["pond", "cat", "/on"], &["/one.table"]),
        (&["pond", "rm", "/nowhere/"], &[]),
        (&["pond", "mkdir", "/sen"], &["/sensors/"]),
        (&["pond", "cp", "/sensors/a.csv", "/sensors/"], &["/sensors/a.csv"]),
        (&["pond", "put", "data/n.csv", "/senso"], &["/sensors/", "/sensors.table"]),
        (&["pond", "mknod", "--factory", "hostm"], &["hostmount"]),
        (&["pond", "mknod", "--factory", "hostmount", "--set", "dir"], &["directory="]),
        (&["pond", "create-csv-to-parquet", "--on-error", ""], &["fail", "skip", "null"]),
        (&["pond", "create-derived-table", "--source", "a=/sensors."], &["a=/sensors.table"]),
        (&["pond", "completions", "ba"], &["bash"]),
        (&["pond", "ls", "--format", "tab"], &["table"]),
        (&["pond", "--pond", ".pond", "cat", "/on"], &["/one.table"]),
        (&["pond", "--pond", "nowhere", "cat", "/on"], &[]),
    ] {
        assert_eq!(complete(dir, words), expected, "{words:?}");
    }
    // No pond, no candidates, no error.
    let empty = tempfile::tempdir().unwrap();
    assert!(complete(empty.path(), &["pond", "cat", "/"]).is_empty());
}

#[test]
fn bash_takes_the_script() {
    let dir = a_pond();
    let bin = Path::new(POND).parent().unwrap().to_str().unwrap();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
    // What bash does at the Tab key: it sets these, and calls the function.
    let script = "set -e; source <(pond completions bash); complete -p pond; \
                  COMP_WORDS=(pond cat /sensors.); COMP_CWORD=2; COMP_TYPE=9; \
                  _clap_complete_pond pond /sensors. cat; echo \"candidates: ${COMPREPLY[*]}\"";
    let output = Command::new("bash")
        .current_dir(dir.path())
        .env("PATH", path)
        .env_remove("POND")
        .args(["-c", script])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(said.contains("-F _clap_complete_pond pond"), "{said}");
    assert!(said.contains("candidates: /sensors.table"), "{said}");
    for other in ["zsh", "fish"] {
        let script = run(dir.path(), &["completions", other]);
        assert!(script.status.success() && stdout(&script).contains("POND_COMPLETE"), "{other}");
    }
}

#[test]
fn a_path_among_ten_thousand_is_found_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    fs::create_dir(&files).unwrap();
    for n in 0..10_000 {
        fs::write(files.join(format!("n{n:05}")), "x").unwrap();
    }
    for arguments in [&["init"] as &[&str], &["-q", "put", "files", "/all"]] {
        let output = run(dir.path(), arguments);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let begun = Instant::now();
    assert_eq!(complete(dir.path(), &["pond", "cat", "/all/n0765"]).len(), 10);
    let time = begun.elapsed();
    // Optimized it takes a tenth; this one says that nothing grows with what was not asked for.
    assert!(time < Duration::from_secs(2), "{time:?}");
    assert_eq!(complete(dir.path(), &["pond", "cat", "/all/n"]).len(), 1000);
}
