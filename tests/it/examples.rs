//! What the documents show is what happens: each script in `sql-examples`, and the README.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Makes an empty directory with `sql-examples` in it, as a checkout has.
fn checkout() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(&root().join("sql-examples"), &dir.path().join("sql-examples"));
    dir
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Returns a `bash` in which `pond` is the shell under test, and no other pond is known.
fn bash(dir: &Path) -> Command {
    let bin = Path::new(env!("CARGO_BIN_EXE_pond")).parent().unwrap();
    let mut path = vec![bin.to_owned()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let mut bash = Command::new("bash");
    bash.current_dir(dir)
        .env_remove("POND")
        .env("POND_DURABILITY", "process")
        .env("POND_FORMAT", "table")
        .env("PATH", std::env::join_paths(path).unwrap());
    bash
}

fn scripts() -> Vec<PathBuf> {
    let mut scripts: Vec<PathBuf> = fs::read_dir(root().join("sql-examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    scripts
}

/// Returns the command that a script says it is run by, or the plain one.
fn command_of(name: &str, text: &str) -> String {
    let said = text.lines().find_map(|line| line.strip_prefix("--     pond "));
    match said {
        Some(command) => format!("pond {command}"),
        None => format!("pond sql -f sql-examples/{name}"),
    }
}

/// Each line a script says it prints (`-->…`) is printed, and no other.
#[test]
fn sql_examples_print_what_they_say() {
    for script in scripts() {
        let name = script.file_name().unwrap().to_str().unwrap();
        let dir = checkout();
        let text = fs::read_to_string(&script).unwrap();
        let output = bash(dir.path()).args(["-c", &command_of(name, &text)]).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{name}: {errors}");
        let printed = String::from_utf8(output.stdout).unwrap();
        let printed: Vec<&str> = printed.lines().filter(|line| !line.is_empty()).collect();
        let said: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("-->")).collect();
        assert_eq!(
            printed.join("\n"),
            said.join("\n"),
            "{name} does not print what it says (left: printed, right: said)"
        );
    }
}

/// Returns the text of the README's code blocks in `language`.
fn readme_blocks(language: &str) -> Vec<String> {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let mut blocks = Vec::new();
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        if let Some(found) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if found == language {
                blocks.push(block.join("\n") + "\n");
            }
        }
    }
    assert!(!blocks.is_empty(), "README has no {language} block");
    blocks
}

/// Runs the console blocks of the README in one session. Lines after a command are its output, in
/// which `…` stands for any text; a command with none may print anything.
#[test]
fn the_readme_shows_what_happens() {
    const MARK: &str = "==next==";
    let mut script = String::new();
    let mut steps: Vec<(String, String)> = Vec::new();
    for block in readme_blocks("console") {
        for line in block.lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                // The tests have built the shell already.
                let command = command.replace("cargo run --", "pond");
                script += &format!("{command}\n");
                script += &format!("[ $? = 0 ] || echo FAILED\necho '{MARK}'\n");
                steps.push((command, String::new()));
            } else {
                let (_, said) = steps.last_mut().expect("a block begins with a command");
                *said += line;
                said.push('\n');
            }
        }
    }
    let dir = checkout();
    let output = bash(dir.path()).args(["-c", &format!("exec 2>&1\n{script}")]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed: Vec<&str> = printed.split(&format!("{MARK}\n")).collect();
    assert_eq!(printed.len(), steps.len() + 1, "{printed:?}");
    for ((command, said), printed) in steps.iter().zip(printed) {
        let fails = said.lines().any(|line| line.starts_with("error: "));
        let done = printed.strip_suffix("FAILED\n");
        assert_eq!(done.is_some(), fails, "{command}:\n{printed}");
        let printed = done.unwrap_or(printed);
        assert!(
            said.is_empty() || matches(said, printed),
            "{command}\nprinted:\n{printed}but README says:\n{said}"
        );
    }
}

/// Whether `text` is `pattern`, in which `…` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    for (at, part) in parts.iter().enumerate() {
        let found = if at + 1 == parts.len() { rest.rfind(part) } else { rest.find(part) };
        match found {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

/// The README shows a part of an example that compiles and runs.
#[test]
fn the_readme_embeds_as_the_example_does() {
    let example = fs::read_to_string(root().join("examples/embed.rs")).unwrap();
    let example: Vec<&str> = example.lines().map(str::trim).collect();
    for block in readme_blocks("rust") {
        let block: Vec<&str> = block.lines().map(str::trim).collect();
        assert!(
            example.windows(block.len()).any(|window| window == block),
            "examples/embed.rs does not hold:\n{}",
            block.join("\n")
        );
    }
}
