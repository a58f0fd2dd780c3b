//! What a changing verb or statement says of how to undo it does undo it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::cli::{run, shell, stderr, stdout};

const POND: &str = env!("CARGO_BIN_EXE_pond");

/// What is in a pond: the text of each file, and what is no file.
fn contents(dir: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let listed = run(dir, &["ls", "-aR"]);
    let paths = stdout(&listed);
    let bytes = |path: &str| {
        let cat = run(dir, &["cat", path, "--format", "csv"]);
        let cat = if cat.status.success() { cat } else { run(dir, &["cat", path]) };
        cat.status.success().then_some(cat.stdout)
    };
    paths.lines().map(|path| (path.to_owned(), bytes(path))).collect()
}

/// Returns what an `undo:` line says.
fn undo_of(said: &str) -> Option<String> {
    said.lines().find_map(|line| line.strip_prefix("undo: ")).map(str::to_owned)
}

fn a_pond() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.csv"), "n,timestamp\n1,2026-01-01\n").unwrap();
    fs::write(dir.path().join("b.csv"), "n,timestamp\n2,2026-01-02\n").unwrap();
    fs::create_dir_all(dir.path().join("many/below")).unwrap();
    for name in ["x", "y", "below/z"] {
        fs::write(dir.path().join("many").join(name), name).unwrap();
    }
    for arguments in [
        &["init"] as &[&str],
        &["put", "a.csv", "/a.csv"],
        &["put", "a.csv", "/it's here.csv"],
        &["put", "a.csv", "/s.series"],
        &["put", "a.csv", "/t.table"],
        &["put", "many", "/dir"],
        &[
            "create-derived-table",
            "/d.table",
            "--source",
            "/t.table",
            "--query",
            "SELECT * FROM source",
        ],
    ] {
        let output = run(dir.path(), arguments);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    dir
}

#[test]
fn what_undoes_a_verb_undoes_it() {
    let dir = a_pond();
    let dir = dir.path();
    let path = std::env::join_paths(
        std::iter::once(Path::new(POND).parent().unwrap().to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    )
    .unwrap();
    let before = contents(dir);
    assert!(before.len() >= 9, "{before:?}");
    for arguments in [
        &["mkdir", "/new"] as &[&str],
        &["mkdir", "-p", "/new/of/them"],
        &["put", "b.csv", "/b.csv"],
        &["put", "b.csv", "/deep/er/b.csv"],
        &["put", "b.csv", "/a.csv"],
        &["put", "b.csv", "/s.series"],
        &["put", "b.csv", "/t.table"],
        &["put", "many", "/many"],
        &["put", "many/x", "many/y", "b.csv", "/dir/"],
        &["cp", "/a.csv", "/c.csv"],
        &["cp", "/dir", "/a.csv", "/copies/"],
        &["cp", "/s.series", "/s2.series"],
        &["mv", "/a.csv", "/b.csv"],
        &["mv", "/dir", "/elsewhere/"],
        &["mv", "/a.csv", "/it's here.csv", "/dir/"],
        &["mv", "/dir/x", "/dir/y", "/dir/below", "/a.csv", "/new/"],
        &["ln", "-s", "a.csv", "/link"],
        &["rm", "/a.csv"],
        &["rm", "/it's here.csv"],
        &["rm", "-r", "/dir"],
        &["rm", "--cascade", "/t.table"],
        &["rm", "-r", "/a.csv", "/dir", "/s.series", "/it's here.csv"],
        &["restore", "/", "--to", "2"],
        &["mknod", "--factory", "hostmount", "/host", "--set", "directory=many"],
        &["create-derived-table", "/e.table", "--query", "SELECT 1 AS one"],
        &["create-derived-table", "/d.table", "--replace", "--query", "SELECT 1 AS one"],
        &["sql", "DROP NODE '/dir' RECURSIVE"],
        &["sql", "ALTER NODE '/a.csv' RENAME TO '/it''s.csv'"],
        &[
            "sql",
            "BEGIN; ALTER NODE '/dir' RENAME TO '/moved';
             CREATE TABLE '/moved/new' AS SELECT 1 AS z; COMMIT",
        ],
        &["sql", "BEGIN; ALTER NODE '/dir' RENAME TO '/moved'; DROP NODE '/moved/x'; COMMIT"],
        &["sql", "CREATE TABLE '/n.table' AS SELECT 1 AS one"],
        &["sql", "INSERT INTO '/t.table' SELECT * FROM '/t.table'"],
        &[
            "sql",
            "BEGIN; DROP NODE '/a.csv'; CREATE SCHEMA '/n'; UPDATE '/t.table' SET n = 5; COMMIT",
        ],
    ] {
        let changed = run(dir, arguments);
        let said = stderr(&changed);
        assert!(changed.status.success(), "{arguments:?}: {said}");
        let restores_the_past = arguments[0] == "restore" && contents(dir) == before;
        assert!(contents(dir) != before || restores_the_past, "{arguments:?}: {said}");
        let undo = undo_of(&said).unwrap_or_else(|| panic!("{arguments:?} says {said:?}"));
        let undone = match arguments[0] {
            "sql" => run(dir, &["sql", &undo]),
            _ => {
                let mut bash = Command::new("bash");
                let environment = shell(dir);
                for (name, value) in environment.get_envs() {
                    match value {
                        Some(value) => bash.env(name, value),
                        None => bash.env_remove(name),
                    };
                }
                bash.env("PATH", &path).current_dir(dir).args(["-c", &undo]).output().unwrap()
            }
        };
        assert!(undone.status.success(), "{arguments:?}: {undo}: {}", stderr(&undone));
        let after = contents(dir);
        assert_eq!(after, before, "{arguments:?}: {undo}");
    }
}

#[test]
fn nothing_to_undo_is_not_told() {
    let dir = a_pond();
    for arguments in [
        &["mkdir", "-p", "/dir"] as &[&str],
        &["rm", "-f", "/nowhere"],
        &["rm", "--dry-run", "-r", "/dir"],
        &["restore", "/a.csv", "--to", "1"],
        &["put", "--dry-run", "b.csv", "/b.csv"],
        &["gc"],
        &["maintain"],
        &["-q", "rm", "/a.csv"],
        &["sql", "BEGIN; DROP NODE '/s.series'; ROLLBACK"],
        &["sql", "SELECT 1 AS one"],
    ] {
        let output = run(dir.path(), arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        assert_eq!(undo_of(&stderr(&output)), None, "{arguments:?}");
    }
    // A pond that was named is named again.
    let named = shell(Path::new("/"))
        .args(["--pond", dir.path().join(".pond").to_str().unwrap(), "mkdir", "/new"])
        .output()
        .unwrap();
    let undo = undo_of(&stderr(&named)).unwrap();
    assert!(undo.contains("--pond /"), "{undo}");
    // So many that the tree is restored.
    let mut command = shell(dir.path());
    let names: Vec<String> = (0..30).map(|n| format!("/n{n}")).collect();
    for name in &names {
        fs::write(dir.path().join(&name[1..]), name).unwrap();
    }
    command.arg("put").args(names.iter().map(|name| &name[1..])).arg("/");
    let said = stderr(&command.output().unwrap());
    assert!(undo_of(&said).unwrap().contains("restore / --to"), "{said}");
    assert_eq!(said.lines().count(), 22, "{said}");
}
