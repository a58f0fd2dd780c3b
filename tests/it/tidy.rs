//! The rules of the source tree that no compiler checks: imports go to earlier layers only, each
//! file says what it is, nothing unfinished is left, and CI runs what the README promises.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers, from the words up to the user; a module imports from its own layer and earlier ones.
const LAYERS: &[(&str, &[&str])] = &[
    ("words", &["error", "path", "glob", "entry", "memo", "policy", "progress"]),
    ("storage", &["store", "location", "oplog", "index", "blob"]),
    ("file system", &["snapshot", "transaction", "namespace", "pond", "keep", "replica"]),
    ("nodes", &["node", "format", "cache"]),
    ("language", &["sql"]),
    ("dynamic nodes", &["factory", "tree"]),
    ("SQL", &["catalog", "table_fn", "cluster", "context", "embed"]),
    ("user interface", &["output", "serve", "cli", "repl", "main"]),
];

/// Names that `lib.rs` passes on, and the modules they are from.
const PASSED_ON: &[(&str, &str)] = &[
    ("Error", "error"),
    ("ErrorKind", "error"),
    ("Result", "error"),
    ("PondContext", "context"),
    ("register", "embed"),
];

/// What only tests may say.
const FORBIDDEN: &[&str] = &[
    ".unwrap()",
    "println!(",
    "eprintln!(",
    "print!(",
    "eprint!(",
    "dbg!(",
    "todo!(",
    "unimplemented!(",
    "TODO",
    "FIXME",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the Rust files below `dir`, with their text.
fn rust_files(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            files.push((path, text));
        }
    }
    files.sort();
    files
}

fn sources() -> Vec<(PathBuf, String)> {
    let files = rust_files(&root().join("src"));
    assert!(files.len() > 20, "the sources were not found");
    files
}

/// Returns the code of a file: without comments, and without its tests, which are at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .fold(String::new(), |code, line| code + line + "\n")
}

/// Returns the top-level module that a file belongs to.
fn module_of(path: &Path) -> String {
    let path = path.strip_prefix(root().join("src")).unwrap();
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn layer_of(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|(_, modules)| modules.contains(&module))
        .unwrap_or_else(|| panic!("module '{module}' is in no layer: add it to LAYERS"))
}

/// Returns the modules that `code` names after `root`, as in `crate::node` or `crate::{node, path}`.
fn imports(code: &str, root: &str) -> Vec<String> {
    let is_name = |char: char| char.is_alphanumeric() || char == '_';
    let mut modules = Vec::new();
    for (at, _) in code.match_indices(root) {
        if code[..at].chars().next_back().is_some_and(|before| is_name(before) || before == ':') {
            continue;
        }
        let rest = &code[at + root.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            modules.push(rest.chars().take_while(|char| is_name(*char)).collect());
            continue;
        };
        let (mut depth, mut name, mut names) = (1, String::new(), Vec::new());
        for char in group.chars() {
            match char {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 || (depth == 1 && char == ',') {
                names.push(std::mem::take(&mut name));
            } else {
                name.push(char);
            }
            if depth == 0 {
                break;
            }
        }
        for name in names.iter().map(|name| name.trim()).filter(|name| !name.is_empty()) {
            modules.push(name.chars().take_while(|char| is_name(*char)).collect());
        }
    }
    for module in &mut modules {
        if let Some((_, from)) = PASSED_ON.iter().find(|(name, _)| name == module) {
            *module = (*from).to_owned();
        }
    }
    modules.retain(|module| module != "self" && !module.is_empty());
    modules
}

#[test]
fn the_scanner_finds_imports_in_groups_and_in_code() {
    let code = "use crate::{Error, node::{Node, lookup}, path};\nlet a = crate::tree::Tree::new();\n\
                use other_crate::not;\n";
    assert_eq!(imports(code, "crate::"), ["error", "node", "path", "tree"]);
}

#[test]
fn imports_go_to_earlier_layers() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let module = module_of(&path);
        if module == "lib" {
            continue;
        }
        let layer = layer_of(&module);
        let code = code(&text);
        let mut used = imports(&code, "crate::");
        // The shell is a crate of its own and names the library.
        if ["cli", "repl", "main"].contains(&module.as_str()) {
            used.extend(imports(&code, "pond::"));
        }
        for import in used {
            if layer_of(&import) > layer {
                wrong.push(format!("{} imports {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "imports of later layers:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let mut files = sources();
    files.extend(rust_files(&root().join("tests")));
    for (path, text) in files {
        assert!(text.starts_with("//!"), "{} does not start with //!", path.display());
    }
}

#[test]
fn foreign_types_stay_behind_one_file() {
    for (name, home) in [("rustyline", "repl"), ("clap", "cli"), ("deltalake", "oplog")] {
        for (path, text) in sources() {
            let found = code(&text).contains(&format!("{name}::"));
            assert!(
                !found || module_of(&path) == home,
                "{} names {name}, which belongs to {home}",
                path.display()
            );
        }
    }
}

#[test]
fn nothing_unfinished_is_left() {
    for (path, text) in sources() {
        for word in FORBIDDEN {
            assert!(!code(&text).contains(word), "{} has {word}", path.display());
        }
    }
}

#[test]
fn ci_runs_the_test_command_of_the_readme() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, after) = readme.split_once("```sh\n").expect("README has a block of commands");
    let (commands, _) = after.split_once("```").unwrap();
    let test = commands.trim();
    assert!(test.starts_with("cargo test") && !test.contains('\n'), "{test}");
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(ci.lines().any(|line| line == format!("step {test}")), ".ci/run lacks `step {test}`");
}
