//! S15 of the promises: what a policy closes is closed to every statement, every function, every command
//! and every verb. What there is, is asked of pond itself: what it completes a text with, its registry of
//! functions, its help. Whatever is new there fails here until it has a case, a line below.
//!
//! The library runs with host files opened to SQL, so that nothing but the policy closes them. Each case is
//! run under each policy; what it does is told, and afterwards the pond's files, but for the cache, and a
//! tree of the host are what they were.
//!
//! R4, and the time limit: what is beyond a limit ends with an error that names it, and leaves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use datafusion::arrow::util::pretty::pretty_format_batches;
use pond::context::CandidateKind;
use pond::policy::{Host, Policy};
use pond::pond::Pond;
use pond::tree::Tree;
use pond::{Error, ErrorKind, PondContext};
use tempfile::TempDir;

use super::cli::{run, shell, stderr, stdout};
use super::oplog::FAST;

/// What is in the files of the host that nothing may show.
const SECRET: &str = "not-for-you";

/// A statement, a command or a verb, and what closes it. `$H` is a directory of the host, closed but for
/// the runs that open it.
#[derive(Debug, Clone, Copy)]
struct Case {
    text: &'static str,
    /// Whether it changes the pond: refused to who may only read.
    writes: bool,
    /// Whether it needs `$H`: refused where that is closed.
    host: bool,
}

/// Changes nothing, and needs no host.
const fn free(text: &'static str) -> Case {
    Case { text, writes: false, host: false }
}

const fn writes(text: &'static str) -> Case {
    Case { text, writes: true, host: false }
}

const fn host(text: &'static str) -> Case {
    Case { text, writes: false, host: true }
}

const fn both(text: &'static str) -> Case {
    Case { text, writes: true, host: true }
}

const STATEMENTS: &[Case] = &[
    free("SELECT * FROM '/t.table'"),
    free("SELECT * FROM '/m/shown.csv'"),
    free("SELECT * FROM 'file://$H/secret.csv'"),
    free("SELECT * FROM '$H/secret.csv'"),
    free("SELECT * FROM \"$H/secret.csv\""),
    free("SELECT * FROM '/m/../closed/secret.csv'"),
    free("SELECT * FROM '/m/out.csv'"),
    free("SELECT * FROM '/old@v2/secret.csv'"),
    writes("SELECT * INTO '/n.table' FROM '/t.table'"),
    free("WITH a AS (SELECT 1 AS v) SELECT * FROM a"),
    free("FROM '/t.table'"),
    free("VALUES (1)"),
    both("CREATE NODE '/n' FACTORY hostmount WITH (directory = '$H')"),
    both("CREATE NODE '/n' FACTORY hostmount WITH (directory = '$H/../closed/below')"),
    writes("CREATE NODE '/n.table' FACTORY sql_derived_table AS SELECT 1 AS v"),
    writes("CREATE NODE '/n' FACTORY csv_directory WITH (source_pattern = '/m/*.csv')"),
    both("CREATE OR REPLACE NODE '/m' FACTORY hostmount WITH (directory = '$H')"),
    writes("CREATE TABLE '/n.table' AS SELECT 1 AS v"),
    free("CREATE TABLE mine AS SELECT 1 AS v"),
    writes("CREATE OR REPLACE TABLE '/t.table' AS SELECT 1 AS v"),
    writes("CREATE VIEW '/n.table' AS SELECT 1 AS v"),
    free("CREATE VIEW my_view AS SELECT 1 AS v"),
    writes("CREATE OR REPLACE VIEW '/v.table' AS SELECT 1 AS v"),
    writes("CREATE SCHEMA '/n'"),
    host("CREATE EXTERNAL TABLE mine STORED AS CSV LOCATION '$H/secret.csv'"),
    host("CREATE EXTERNAL TABLE mine STORED AS PARQUET LOCATION 'file://$H/'"),
    both("CREATE EXTERNAL TABLE '/n' STORED AS HOSTMOUNT LOCATION '$H'"),
    host("CREATE OR REPLACE EXTERNAL TABLE mine STORED AS CSV LOCATION '$H/secret.csv'"),
    both("ALTER NODE '/m' SET (directory = '$H')"),
    writes("ALTER NODE '/v.table' SET QUERY AS SELECT 3 AS v"),
    writes("ALTER NODE '/m' SET COMMENT 'words'"),
    writes("ALTER NODE '/v.table' RESET (refresh_interval)"),
    writes("ALTER NODE '/m' RENAME TO '/moved'"),
    writes("DROP NODE '/d' RECURSIVE"),
    writes("DROP TABLE '/t.table' CASCADE"),
    writes("DROP VIEW '/v.table'"),
    writes("DROP SCHEMA '/d' CASCADE"),
    free("REFRESH NODE '/v.table'"),
    writes("RESTORE NODE '/t.table' TO VERSION 4"),
    // The mount that was dropped was of what is closed.
    Case { text: "RESTORE NODE '/old' TO VERSION 2", writes: true, host: true },
    Case { text: "RESTORE NODE '/' TO VERSION 2", writes: true, host: true },
    free("SHOW NODES"),
    free("SHOW FACTORIES"),
    free("SHOW CREATE NODE '/m'"),
    free("SHOW LINEAGE FOR '/v.table'"),
    free("SHOW LOG"),
    free("SHOW TABLES"),
    free("SHOW COLUMNS FROM '/t.table'"),
    free("SHOW FUNCTIONS"),
    free("SHOW ALL"),
    free("DESCRIBE '/t.table'"),
    free("DESCRIBE NODE '/m'"),
    free("DESCRIBE FACTORY hostmount"),
    free("DESCRIBE SELECT 1"),
    free("SUMMARIZE '/t.table'"),
    free("EXPLAIN SELECT 1"),
    free("EXPLAIN WITH a AS (SELECT 1) SELECT * FROM a"),
    host("EXPLAIN ANALYZE COPY (SELECT 1 AS v) TO 'file://$H/out.csv'"),
    free("EXPLAIN VERBOSE SELECT 1"),
    free("EXPLAIN NODE '/v.table'"),
    free("EXPLAIN INSERT INTO '/t.table' VALUES (1)"),
    free("EXPLAIN UPDATE '/t.table' SET v = 2"),
    writes("INSERT INTO '/t.table' VALUES (1)"),
    writes("INSERT INTO '/s.series' VALUES (TIMESTAMP '2026-03-01', 1)"),
    writes("INSERT OVERWRITE '/t.table' SELECT 7 AS v"),
    writes("UPDATE '/t.table' SET v = 2"),
    writes("DELETE FROM '/t.table'"),
    writes("TRUNCATE TABLE '/t.table'"),
    writes("COPY (SELECT 1 AS v) TO '/n.csv'"),
    host("COPY (SELECT 1 AS v) TO 'file://$H/out.csv'"),
    host("COPY (SELECT 1 AS v) TO 'file://$H/secret.csv'"),
    host("COPY (SELECT 1 AS v) TO 'file://$H/' STORED AS CSV"),
    host("COPY (SELECT 1 AS v) TO 'file://$H/x/../../closed/out.csv'"),
    host("COPY (SELECT 1 AS v) TO 's3://bucket/$H.csv'"),
    host("SET datafusion.runtime.temp_directory = '$H'"),
    host("SET datafusion.catalog.location = '$H'"),
    free("SET datafusion.execution.batch_size = 100"),
    free("RESET datafusion.execution.batch_size"),
    free("USE '/d'"),
    free("PREPARE p AS SELECT 1"),
    free("PREPARE q AS COPY (SELECT 1 AS v) TO 'file://$H/out.csv'"),
    free("EXECUTE p"),
    free("DEALLOCATE p"),
    free("BEGIN"),
    free("COMMIT"),
    free("ROLLBACK"),
];

/// What the words of a statement go on with is asked for after these.
const BEGINNINGS: &[&str] = &[
    "",
    "CREATE ",
    "CREATE OR REPLACE ",
    "ALTER NODE '/m' ",
    "DROP ",
    "INSERT ",
    "SHOW ",
    "DESCRIBE ",
    "EXPLAIN ",
];

/// Functions that return rows.
const TABLE_FUNCTIONS: &[Case] = &[
    free("SELECT * FROM ls('$H')"),
    free("SELECT * FROM ls('/m/../closed')"),
    free("SELECT * FROM nodes()"),
    free("SELECT * FROM factories()"),
    free("SELECT * FROM lineage('/v.table')"),
    free("SELECT * FROM pond_log()"),
    free("SELECT * FROM pond_diff(1, 2)"),
    free("SELECT * FROM history('$H/secret.csv')"),
    free("SELECT * FROM oplog()"),
    free("SELECT * FROM cache()"),
    free("SELECT * FROM sniff('$H/secret.csv')"),
    free("SELECT * FROM rejects('$H/secret.csv')"),
    free("SELECT * FROM range(1, 3)"),
    free("SELECT * FROM generate_series(1, 3)"),
];

/// Verbs, in a shell that reads the words as bash does.
const VERBS: &[Case] = &[
    both("init $H/pond"),
    free("sql 'SELECT 1'"),
    host("sql -f $H/script.sql"),
    writes("sql \"CREATE SCHEMA '/n'\""),
    host("sql -o $H/out.csv 'SELECT 1'"),
    host("sql '\\o $H/out.csv'"),
    host("sql '\\i $H/script.sql'"),
    free("ls /"),
    host("ls / -o $H/out.csv"),
    free("cat /t.table"),
    free("cat /t.table --sql 'SELECT *'"),
    host("cat /t.table -o $H/out.parquet"),
    free("describe /t.table"),
    both("put $H/secret.csv /n.csv"),
    both("put $H /n"),
    writes("put - /n.txt"),
    both("put --dry-run $H/secret.csv /n.csv"),
    host("get /t.table $H/out.parquet"),
    host("get --force /t.table $H/secret.csv"),
    free("get /t.table -"),
    writes("cp /t.table /copy.table"),
    writes("mv /d /moved"),
    writes("ln -s /t.table /link.table"),
    writes("rm /moved"),
    writes("mkdir /n"),
    both("mknod --factory hostmount /mounted --set directory=$H"),
    both("mknod --factory sql_derived_table /recipe.table $H/recipe.yaml"),
    writes("create-derived-series /n.series --source /s.series --query 'SELECT * FROM source'"),
    writes("create-derived-table /n.table --source /t.table --query 'SELECT * FROM source'"),
    writes("create-csv-directory /n --pattern '/m/*.csv'"),
    writes("create-csv-to-parquet /n.table --source /m/shown.csv"),
    free("lineage /v.table"),
    host("lineage /v.table -o $H/out.svg"),
    free("log"),
    free("diff 1 2"),
    writes("restore /t.table --to 4"),
    Case { text: "restore /old --to 2", writes: true, host: true },
    free("status"),
    free("fsck"),
    writes("maintain"),
    writes("gc"),
    free("gc --dry-run"),
    free("cache"),
    writes("cache clear"),
    writes("expire --older-than 1w"),
    both("backup $H/copy"),
    both("clone $H/copy $H/clone"),
    both("restore-from $H/copy"),
    both("pull $H/copy"),
    both("push $H/copy"),
    host("fsck --against $H/copy"),
    // Elsewhere it would serve for as long as it is let.
    free("serve --postgres nowhere"),
    free("completions bash"),
    free("man put"),
    host("man --dir $H/man"),
];

/// Commands of a session, each with its usual name; those for a terminal alone are not here.
const COMMANDS: &[Case] = &[
    free("\\d /t.table"),
    free("\\l /"),
    free("\\cd /d"),
    free("\\format csv"),
    free("\\x on"),
    free("\\headers on"),
    free("\\nullvalue -"),
    free("\\timing on"),
    free("\\chart SELECT 1 AS a, 2 AS b"),
    host("\\o $H/out.csv"),
    host("\\once $H/out.csv"),
    host("\\i $H/script.sql"),
    free("\\version"),
    free("\\?"),
    free("\\q"),
];

/// A directory that holds a pond, `.pond`, with something of everything, and files of the host.
struct World {
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        for dir in ["closed/below", "closed_too", "data", "open", "state"] {
            fs::create_dir_all(world.path(dir)).unwrap();
        }
        fs::write(world.path("data/shown.csv"), "id,name\n1,a\n").unwrap();
        symlink(world.path("closed/secret.csv"), world.path("data/out.csv")).unwrap();
        for dir in ["closed", "open"] {
            fs::write(world.path(dir).join("secret.csv"), format!("{SECRET}\n1\n")).unwrap();
            fs::write(world.path(dir).join("script.sql"), "SELECT 1;\n").unwrap();
            fs::write(world.path(dir).join("recipe.yaml"), "query: SELECT 1 AS v\n").unwrap();
        }
        let closed = world.path("closed").display().to_string();
        for arguments in [
            &["init"] as &[&str],
            &["mkdir", "/d"],
            &["mknod", "--factory", "hostmount", "/old", "--set", &format!("directory={closed}")],
            &["rm", "/old"],
            &["sql", "CREATE TABLE '/t.table' AS SELECT 1 AS v"],
            &["sql", "INSERT INTO '/t.table' VALUES (2)"],
            &["mknod", "--factory", "hostmount", "/m", "--set", "directory=data"],
            &[
                "sql",
                "CREATE TABLE '/s.series' AS SELECT TIMESTAMP '2026-01-01' AS timestamp, 1 AS v",
            ],
            &[
                "sql",
                "CREATE NODE '/v.table' FACTORY sql_derived_table WITH (refresh_interval = '1h') \
                 AS SELECT v FROM '/t.table'",
            ],
        ] {
            let done = run(world.dir.path(), arguments);
            assert!(done.status.success(), "{arguments:?}: {}", stderr(&done));
        }
        world
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(below)
    }

    /// All that must stay: the files of the pond that are no cache, and those of the host.
    fn files(&self, below: &[&str]) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut open: Vec<PathBuf> = below.iter().map(|below| self.path(below)).collect();
        while let Some(path) = open.pop() {
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                found.insert(path.clone(), Vec::new());
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if kind.is_file() {
                found.insert(path.clone(), fs::read(&path).unwrap());
            } else {
                found.insert(path.clone(), b"a link".to_vec());
            }
        }
        found
    }

    /// Returns a session that obeys `policy`, and to which host files are open otherwise.
    async fn context(&self, policy: Policy) -> PondContext {
        let pond = Pond::open(&self.path(".pond"), FAST).await.unwrap().restricted(policy);
        let tree = Tree::new(pond).with_base_dir(self.path(""));
        PondContext::builder(tree).with_host_files(true).build()
    }
}

const POND: &[&str] = &[".pond/oplog", ".pond/blobs"];
const HOST: &[&str] = &["closed", "closed_too", "data"];

async fn execute(context: &PondContext, sql: &str) -> Result<String, Error> {
    let rows = context.sql(sql).await?.collect().await?;
    Ok(pretty_format_batches(&rows).unwrap().to_string())
}

/// Runs a statement in a session, and returns how it was refused, if it was.
async fn statement(context: &PondContext, sql: &str) -> Option<String> {
    let done = execute(context, sql).await;
    context.tree().cache().idle().await;
    if let Ok(rows) = &done {
        assert!(!rows.contains(SECRET), "{sql}: {rows}");
    }
    let error = done.err()?;
    assert!(!error.to_string().contains(SECRET), "{sql}: {error:?}");
    (error.kind() == ErrorKind::Refused).then(|| {
        assert!(error.hint().is_some(), "{sql}: {error:?}");
        error.to_string()
    })
}

fn only(dirs: &[PathBuf]) -> Policy {
    Policy { host: Host::only(dirs).unwrap(), ..Policy::default() }
}

fn safe() -> Policy {
    Policy { host: Host::None, ..Policy::default() }
}

fn read_only() -> Policy {
    Policy { read_only: true, ..Policy::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_has_a_case() {
    let world = World::new();
    let context = world.context(Policy::default()).await;
    // Without paths and blanks.
    let squeezed = |text: &str| {
        let pieces: Vec<&str> = text.split('\'').step_by(2).collect();
        pieces.concat().replace(' ', "").to_uppercase()
    };
    let cases: Vec<String> = STATEMENTS.iter().map(|case| squeezed(case.text)).collect();
    let mut words = 0;
    for beginning in BEGINNINGS {
        for candidate in context.complete(beginning, beginning.len()).await.candidates {
            if candidate.kind != CandidateKind::Keyword {
                continue;
            }
            words += 1;
            let wanted = squeezed(&format!("{beginning}{}", candidate.text));
            let is_there = cases.iter().any(|case| case.starts_with(&wanted));
            assert!(is_there, "no case for {beginning}{}", candidate.text);
        }
    }
    assert!(words > 50, "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_obeys_who_may_only_read() {
    let world = World::new();
    let before = world.files(POND);
    // So that nothing but the pond is at stake.
    let open = world.path("open").display().to_string();
    let context = world.context(read_only()).await;
    for case in STATEMENTS.iter().chain(TABLE_FUNCTIONS) {
        let sql = case.text.replace("$H", &open);
        let refused = statement(&context, &sql).await;
        assert_eq!(refused.is_some(), case.writes, "{sql}: {refused:?}");
        if let Some(refused) = refused {
            let says = refused.contains("policy is read-only");
            assert!(says && refused.starts_with("'/"), "{sql}: {refused}");
        }
        assert!(world.files(POND) == before, "{sql} has changed the pond");
    }
    // Nor in an open transaction.
    execute(&context, "BEGIN").await.unwrap();
    assert!(statement(&context, "CREATE SCHEMA '/n'").await.is_some());
    execute(&context, "COMMIT").await.unwrap();
    assert!(world.files(POND) == before);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_obeys_who_closes_the_host() {
    let policies = |world: &World| [safe(), only(&[world.path("open")])];
    for policy in 0..2 {
        let world = World::new();
        let before = world.files(HOST);
        let policy = policies(&world)[policy].clone();
        let closed = world.path("closed").display().to_string();
        for case in STATEMENTS.iter().chain(TABLE_FUNCTIONS) {
            let sql = case.text.replace("$H", &closed);
            let context = world.context(policy.clone()).await;
            execute(&context, "BEGIN").await.unwrap();
            // It would be refused within the transaction, and elsewhere for what it is.
            if !["BEGIN", "COMMIT", "ROLLBACK"].contains(&case.text) {
                let refused = statement(&context, &sql).await;
                assert_eq!(refused.is_some(), case.host, "{policy:?}: {sql}: {refused:?}");
            }
            // What it may have brought is not seen.
            for path in ["/n", "/old", "/m"] {
                let seen = format!("SELECT * FROM '{path}/secret.csv'");
                assert!(execute(&context, &seen).await.is_err(), "{policy:?}: {sql}: {seen}");
            }
            assert!(world.files(HOST) == before, "{policy:?}: {sql} has changed the host");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_allowed_of_the_host_works() {
    let world = World::new();
    let open = world.path("open");
    let policy = only(std::slice::from_ref(&open));
    // These were refused because of the directory alone.
    for case in STATEMENTS.iter().filter(|case| case.host && case.text.contains("$H")) {
        let context = world.context(policy.clone()).await;
        execute(&context, "BEGIN").await.unwrap();
        let sql = case.text.replace("$H", &open.display().to_string());
        let refused = statement_shown(&context, &sql).await;
        let closed =
            ["CREATE EXTERNAL TABLE mine", "CREATE OR REPLACE EXTERNAL TABLE mine", "SET "];
        let is_closed = sql.contains("closed")
            || sql.contains("s3:")
            || closed.iter().any(|text| sql.starts_with(text));
        assert_eq!(refused, is_closed, "{sql}");
    }
    assert!(open.join("out.csv").exists());
}

/// As [`statement`], where what is in the files may be shown.
async fn statement_shown(context: &PondContext, sql: &str) -> bool {
    execute(context, sql).await.is_err_and(|error| error.kind() == ErrorKind::Refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_function_obeys() {
    let world = World::new();
    let context = world.context(Policy { read_only: true, ..safe() }).await;
    let names = context.function_names();
    let state = context.session().state();
    let tables: BTreeSet<&str> = TABLE_FUNCTIONS
        .iter()
        .map(|case| case.text.trim_start_matches("SELECT * FROM ").split('(').next().unwrap())
        .collect();
    let returns_rows = |name: &&String| {
        !(state.scalar_functions().contains_key(*name)
            || state.aggregate_functions().contains_key(*name)
            || state.window_functions().contains_key(*name)
            || state.higher_order_functions().contains_key(*name))
    };
    let ours = names.iter().filter(returns_rows);
    let engines = state.table_functions().keys();
    let found: BTreeSet<&str> = ours.chain(engines).map(String::as_str).collect();
    assert_eq!(found, tables, "a function that returns rows has no case, or a case no function");
    let (pond, host) = (world.files(POND), world.files(HOST));
    let secret = world.path("closed/secret.csv").display().to_string();
    let mut worked = 0;
    for name in &names {
        for arguments in 1..=2 {
            let arguments = vec![format!("'{secret}'"); arguments].join(", ");
            let sql = format!("SELECT \"{name}\"({arguments})");
            if let Ok(rows) = execute(&context, &sql).await {
                assert!(!rows.contains(SECRET), "{sql}: {rows}");
                worked += 1;
            }
        }
    }
    assert!(names.len() > 300 && worked > 50, "{} {worked}", names.len());
    assert!(world.files(POND) == pond && world.files(HOST) == host);
}

/// Runs pond as bash reads the words, with the words of a policy before them.
fn in_bash(world: &World, policy: &str, words: &str, input: &str) -> std::process::Output {
    let pond = env!("CARGO_BIN_EXE_pond");
    let input_file = world.path("state/input");
    fs::write(&input_file, input).unwrap();
    let plain = shell(world.dir.path());
    let mut command = Command::new("bash");
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
        .current_dir(world.dir.path())
        .args(["-c", &format!("exec {pond} {policy} {words}")])
        .stdin(fs::File::open(input_file).unwrap())
        .output()
        .unwrap()
}

/// Runs a case under a policy and says whether it was refused.
fn is_refused(world: &World, policy: &str, words: &str, input: &str) -> bool {
    let done = in_bash(world, policy, words, input);
    let said =
        String::from_utf8_lossy(&[done.stdout.clone(), done.stderr.clone()].concat()).into_owned();
    assert!(done.status.code().is_some_and(|code| code != 101), "{policy} {words}: {said}");
    let refused = done.status.code() == Some(4);
    if refused {
        let by_policy = said.contains("the policy ");
        assert!(by_policy && said.contains("hint: "), "{policy} {words}: {said}");
    }
    refused
}

#[test]
fn every_verb_and_command_has_a_case() {
    let help = stdout(&run(Path::new("/"), &["--help"]));
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let verbs: BTreeSet<&str> = listed
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let first = |case: &Case| case.text.split(' ').next().unwrap();
    let cases: BTreeSet<&str> = VERBS.iter().map(first).collect();
    assert_eq!(verbs, cases);

    let world = World::new();
    let help = stdout(&in_bash(&world, "", "sql '\\?'", ""));
    let commands: BTreeSet<&str> = help
        .lines()
        .filter(|line| line.starts_with("  \\"))
        .filter_map(|line| line.split([' ', ',']).find(|word| !word.is_empty()))
        .collect();
    assert_eq!(commands, COMMANDS.iter().map(first).collect());
}

#[test]
fn every_verb_obeys_who_may_only_read() {
    let world = World::new();
    let before = world.files(POND);
    let open = world.path("open").display().to_string();
    for case in VERBS {
        let words = case.text.replace("$H", &open);
        let refused = is_refused(&world, "--read-only", &words, "input");
        assert_eq!(refused, case.writes, "{words}");
        assert!(world.files(POND) == before, "{words} has changed the pond");
    }
    assert!(!world.path("open/pond").exists());
}

#[test]
fn every_verb_obeys_who_closes_the_host() {
    for policy in ["--safe", "--allow-host open"] {
        let world = World::new();
        let before = world.files(HOST);
        let closed = world.path("closed").display().to_string();
        for case in VERBS {
            let words = case.text.replace("$H", &closed);
            let refused = is_refused(&world, policy, &words, "input");
            assert_eq!(refused, case.host, "{policy} {words}");
            assert!(world.files(HOST) == before, "{policy} {words} has changed the host");
        }
    }
    let world = World::new();
    let open = world.path("open").display().to_string();
    for case in VERBS.iter().filter(|case| case.text.contains("$H")) {
        let words = case.text.replace("$H", &open);
        assert!(!is_refused(&world, "--allow-host open", &words, "input"), "{words}");
    }
    for made in ["out.csv", "out.parquet", "out.svg", "man/pond.1", "pond/oplog"] {
        assert!(world.path("open").join(made).exists(), "{made}");
    }
}

#[test]
fn every_command_obeys() {
    for policy in ["--safe", "--allow-host open", "--read-only --safe"] {
        let world = World::new();
        let (host, pond) = (world.files(HOST), world.files(POND));
        let closed = world.path("closed").display().to_string();
        for case in COMMANDS {
            let script = format!("{}\nSELECT 1;\n", case.text.replace("$H", &closed));
            let refused = is_refused(&world, policy, "sql", &script);
            assert_eq!(refused, case.host, "{policy} {script}");
        }
        assert!(world.files(HOST) == host && world.files(POND) == pond, "{policy}");
    }
}

#[test]
fn what_is_copied_in_is_not_led_out() {
    let world = World::new();
    symlink(world.path("closed/secret.csv"), world.path("open/link.csv")).unwrap();
    assert!(is_refused(&world, "--allow-host open", "put open /n", ""));
    assert!(is_refused(&world, "--allow-host open", "put open/link.csv /n", ""));
    let listed = stdout(&in_bash(&world, "", "ls -R /", ""));
    assert!(!listed.contains("/n"), "{listed}");
    // Nor is a name that only begins like it a part of it.
    symlink(world.path("closed_too"), world.path("open/dir")).unwrap();
    for to in ["closed_too/x", "open/dir/x", "open/../closed_too/x"] {
        assert!(is_refused(
            &world,
            "--allow-host closed --allow-host open",
            &format!("get /t.table {to}"),
            ""
        ));
    }
    assert!(is_refused(&world, "--allow-host open", "sql -f open/../closed/script.sql", ""));
    assert!(!is_refused(
        &world,
        "--allow-host closed --allow-host open",
        "get /t.table open/x",
        ""
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_allows_more() {
    let world = World::new();
    let pond = Pond::open(&world.path(".pond"), FAST).await.unwrap();
    let strict = Policy {
        read_only: true,
        host: Host::None,
        memory_limit: Some(64_000_000),
        timeout: Some(Duration::from_secs(60)),
    };
    let restricted = pond.restricted(strict.clone()).restricted(Policy::default());
    assert_eq!(*restricted.policy(), strict);
    assert_eq!(*Tree::new(restricted.clone()).policy(), strict);
    assert_eq!(*pond.policy(), Policy::default());

    let context = PondContext::builder(Tree::new(restricted)).with_host_files(true).build();
    execute(&context, "SET datafusion.runtime.memory_limit = '32M'").await.unwrap();
    for raised in [
        "SET datafusion.runtime.memory_limit = '65M'",
        "SET datafusion.runtime.memory_limit = '8G'",
        "RESET datafusion.runtime.memory_limit",
        "PREPARE p AS SET datafusion.runtime.memory_limit = '8G'",
        "SET datafusion.runtime.metadata_cache_limit = '8G'",
        "RESET datafusion.runtime.metadata_cache_limit",
        "SET datafusion.runtime.temp_directory = '/tmp'",
        "RESET datafusion.runtime.temp_directory",
        "SET datafusion.runtime.max_temp_directory_size = '900G'",
        "SET datafusion.execution.batch_size = 1000000",
        "SET datafusion.execution.batch_size = 0",
        "RESET datafusion.execution.target_partitions",
        "SET datafusion.execution.target_partitions = 1000",
        "SET datafusion.catalog.location = '/tmp'",
        "CREATE TABLE held AS SELECT 1 AS v",
        "CREATE TABLE held (v INT)",
        "CREATE TEMPORARY TABLE held AS SELECT 1 AS v",
        "SELECT 1 AS v INTO held",
    ] {
        let error = execute(&context, raised).await.unwrap_err();
        let is_unknown = (raised.starts_with("PREPARE") || raised.contains("TEMPORARY"))
            && error.kind() != ErrorKind::Refused;
        assert!(error.kind() == ErrorKind::Refused || is_unknown, "{raised}: {error:?}");
    }
    for lowered in [
        "SET datafusion.runtime.memory_limit = '61M'",
        "SET datafusion.execution.batch_size = 100",
        "SET datafusion.execution.target_partitions = 1",
        "SET datafusion.execution.time_zone = '+02:00'",
        "SET datafusion.explain.logical_plan_only = true",
    ] {
        execute(&context, lowered).await.unwrap_or_else(|error| panic!("{lowered}: {error:?}"));
    }
}

const NOBODY: u32 = 65534;

#[test]
fn a_pond_that_cannot_be_written_is_read() {
    let world = World::new();
    let _ = fs::remove_dir_all(world.path(".pond/cache"));
    let chmod = |mode: u32, directories: u32| {
        for (path, _) in world.files(&[".pond", "data"]) {
            let mode = if path.is_dir() { directories } else { mode };
            if !path.is_symlink() {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
    };
    fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    chmod(0o444, 0o555);
    let before = world.files(&[".pond"]);
    // Where the shell was built may be closed to others.
    let open = tempfile::tempdir().unwrap();
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = open.path().join("pond");
    fs::copy(env!("CARGO_BIN_EXE_pond"), &program).unwrap();
    for words in [
        &["sql", "SELECT sum(v) AS all FROM '/t.table'"] as &[&str],
        &["sql", "SELECT count(*) FROM '/v.table'"],
        &["sql", "SELECT name FROM '/m/shown.csv'"],
        &["ls", "-R", "/"],
        &["cat", "/t.table", "--format", "csv"],
        &["status"],
        &["log"],
    ] {
        let known = shell(world.dir.path());
        let mut command = Command::new(&program);
        command.current_dir(world.dir.path()).arg("--read-only").args(words);
        for (name, value) in known.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY);
        }
        let done = command.output().unwrap();
        assert!(done.status.success(), "{words:?}: {}", stderr(&done));
        assert!(!stdout(&done).is_empty(), "{words:?}");
    }
    assert!(world.files(&[".pond"]) == before);
    chmod(0o644, 0o755);
}

/// Runs pond, and returns the exit code, what it said, and the most memory that it took, in bytes.
fn measured(world: &World, words: &[&str]) -> (Option<i32>, String, u64) {
    let mut child = shell(world.dir.path()).args(words).stdout(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) * 1024);
        std::thread::sleep(Duration::from_millis(2));
    }
    let done = child.wait_with_output().unwrap();
    (done.status.code(), stderr(&done), peak)
}

/// What may be held beside the limit.
const BESIDE: u64 = 150_000_000;

#[test]
fn memory_stays_within_the_limit() {
    let world = World::new();
    let limited = |words: &[&str]| {
        let words = [&["--memory-limit", "64MB"], words].concat();
        let begun = Instant::now();
        let (code, said, peak) = measured(&world, &words);
        println!("{:4} MB, {:?}, {code:?}: {words:?} {said}", peak / 1_000_000, begun.elapsed());
        assert!(peak < 64_000_000 + BESIDE, "{peak} bytes: {words:?}");
        match code {
            Some(0) => true,
            Some(6) => {
                assert!(said.contains("memory limit of 64 MB"), "{words:?}: {said}");
                assert!(said.contains("--memory-limit"), "{words:?}: {said}");
                false
            }
            _ => panic!("{words:?}: {said}"),
        }
    };
    // About 150 MB in memory.
    let rows = "SELECT value AS id, value * 7919 % 1000003 AS mixed, \
                concat('the value of this row is ', value * 31 % 999983) AS words \
                FROM generate_series(1, 1500000)";
    let csv = world.path("data/large.csv").display().to_string();
    assert!(limited(&["sql", &format!("CREATE TABLE '/large.table' AS {rows}")]));
    assert!(limited(&["sql", "-o", &csv, "--format", "csv", "SELECT * FROM '/large.table'"]));
    // A sort goes on on disk.
    assert!(limited(&["sql", "SELECT * FROM '/large.table' ORDER BY words, mixed"]));
    for sql in [
        "SELECT count(*) FROM (SELECT words, count(*) FROM '/large.table' GROUP BY words)",
        "SELECT count(*) FROM '/large.table' a JOIN '/large.table' b ON a.mixed = b.id",
        "SELECT sum(length(words)) FROM '/m/large.csv'",
        "SELECT words FROM '/m/large.csv' ORDER BY words",
        "CREATE TABLE '/copy.table' AS SELECT * FROM '/m/large.csv'",
        "CREATE TABLE '/sorted.table' AS SELECT * FROM '/large.table' ORDER BY words",
    ] {
        limited(&["sql", sql]);
    }
    limited(&["put", "--type", "table", &csv, "/put.table"]);
    limited(&["cat", "/large.table", "--format", "parquet"]);
    // What must hold everything at once cannot.
    let of_both =
        "SELECT count(*) FROM '/large.table' a JOIN '/large.table' b ON a.words = b.words";
    assert!(!limited(&["sql", of_both]));
}

const ENDLESS: &str = "SELECT count(*) FROM range(0, 1000000000000)";

#[test]
fn what_takes_too_long_is_given_up() {
    let world = World::new();
    let pipe = world.path("open/pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    // Opened for both, so that it never ends.
    let _held = fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let before = world.files(POND);
    let copy = format!("COPY ({ENDLESS}) TO '/n.csv'");
    let table = "CREATE TABLE '/n.table' AS SELECT value FROM range(0, 1000000000000)".to_owned();
    let rows = "SELECT value FROM range(0, 1000000000000)";
    for words in [
        &["sql", ENDLESS] as &[&str],
        // In one partition nothing ever waits.
        &["--memory-limit", "64MB", "sql", ENDLESS],
        &["sql", "-c", "SET datafusion.execution.target_partitions = 1", "-c", ENDLESS],
        &["sql", &copy],
        &["sql", &table],
        &["sql", rows],
        &["sql", "-o", "open/out.csv", rows],
        &["sql", "-c", "BEGIN", "-c", "CREATE SCHEMA '/n'", "-c", ENDLESS, "-c", "COMMIT"],
        &["cat", "/t.table", "--sql", &format!("SELECT * FROM source, ({rows})")],
        &["put", "open/pipe", "/n.txt"],
    ] {
        let begun = Instant::now();
        let words = [&["--timeout", "300ms"], words].concat();
        let (code, said, _) = measured(&world, &words);
        assert_eq!(code, Some(6), "{words:?}: {said}");
        assert!(said.contains("longer than the time limit of 300ms"), "{words:?}: {said}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{words:?}: {:?}", begun.elapsed());
        assert!(world.files(POND) == before, "{words:?} has left something");
        assert!(!world.path("open/out.csv").exists(), "{words:?}");
    }
    // It is of each statement, not of all of them.
    let done = run(world.dir.path(), &["--timeout", "20s", "sql", "SELECT 1; SELECT 2; SELECT 3"]);
    assert!(done.status.success(), "{}", stderr(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_done_or_too_late_never_both() {
    let world = World::new();
    let plain = Pond::open(&world.path(".pond"), FAST).await.unwrap();
    let (mut done, mut late) = (0, 0);
    for round in 0..100_u64 {
        let before = plain.snapshot().await.unwrap().txn();
        let timeout = Some(Duration::from_micros(200 * round));
        let pond = plain.restricted(Policy { timeout, ..Policy::default() });
        let context = PondContext::new(Tree::new(pond));
        let outcome = execute(&context, "INSERT INTO '/t.table' VALUES (1)").await;
        let after = plain.snapshot().await.unwrap().txn();
        match outcome {
            Ok(_) => {
                done += 1;
                assert_eq!(after, before + 1, "round {round}");
            }
            Err(error) => {
                late += 1;
                assert_eq!(error.kind(), ErrorKind::Limit, "round {round}: {error:?}");
                assert_eq!(after, before, "round {round}");
            }
        }
    }
    assert!(late > 0, "{done} {late}");
    println!("{done} done, {late} too late");
}

#[tokio::test]
async fn rows_that_are_read_too_slowly_end() {
    let world = World::new();
    let timeout = Some(Duration::from_millis(300));
    let context = world.context(Policy { timeout, ..Policy::default() }).await;
    let rows = context.sql("SELECT value FROM range(0, 1000000000000)").await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    let error = rows.collect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error:?}");
    // The next one has its own time.
    assert!(execute(&context, "SELECT 1").await.is_ok());
}
