//! `pond serve`: the pond as clients of Postgres meet it. The client is tokio-postgres, or bytes; psql is
//! tried where it is installed. Each server is a process of its own on a free port of this machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::TryStreamExt;
use pond::pond::Pond;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::cli::{run, shell, stderr, stdout};
use crate::oplog::FAST;
use crate::world::Random;

/// A server of a pond of its own.
struct Server {
    child: Child,
    address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Server {
    /// Serves a pond with a series, a view of it and a mount.
    fn start(options: &[&str]) -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), &[], options)
    }

    fn start_with(dir: tempfile::TempDir, global: &[&str], options: &[&str]) -> Self {
        let of = dir.path();
        for arguments in [
            &["init"] as &[&str],
            &["mkdir", "/sensors"],
            &[
                "sql",
                "CREATE TABLE '/sensors/a.series' AS SELECT to_timestamp(n) AS timestamp, n, \
                 n * 0.5 AS half, CASE WHEN n % 3 = 0 THEN NULL ELSE 'n' || n END AS name \
                 FROM generate_series(1, 5000) AS s (n)",
            ],
            &[
                "sql",
                "CREATE VIEW '/sensors/few.table' AS SELECT n, name FROM '/sensors/a.series' \
                 WHERE n <= 3",
            ],
        ] {
            let output = run(of, arguments);
            assert!(output.status.success(), "{}", stderr(&output));
        }
        let mut arguments = global.to_vec();
        arguments.push("serve");
        if !options.contains(&"--postgres") {
            arguments.extend(["--postgres", "127.0.0.1:0"]);
        }
        arguments.extend(options);
        let mut child = shell(of).args(&arguments).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let begin = said.len();
            assert!(lines.read_line(&mut said).unwrap() > 0, "the server ended: {said}");
            if let Some((_, rest)) = said[begin..].split_once("served at ") {
                break rest.split(';').next().unwrap().parse().unwrap();
            }
        };
        // Read on, or the server waits to be read.
        std::thread::spawn(move || lines.read_to_string(&mut String::new()));
        Self { child, address, dir }
    }

    fn config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.address.port()).user("ann").dbname("pond");
        config
    }

    async fn client(&self) -> Client {
        self.try_client().await.unwrap()
    }

    async fn try_client(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = self.config().connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    fn raw(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.address.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn code(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("none", SqlState::code)
}

/// Returns the values of a simple query, and what was said at its ends.
async fn simple(client: &Client, text: &str) -> Vec<String> {
    let messages =
        client.simple_query(text).await.unwrap_or_else(|error| panic!("{text}: {error:?}"));
    let shown = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(
            (0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect::<Vec<_>>().join("|"),
        ),
        SimpleQueryMessage::CommandComplete(rows) => Some(format!("done {rows}")),
        _ => None,
    });
    shown.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_the_same_in_text_and_in_binary() {
    let server = Server::start(&[]);
    let client = server.client().await;
    let text = "SELECT true, 1::smallint, 2::int, 3::bigint, 1.5::real, -2.25::double, 'é', NULL, \
                X'00ff', DATE '2026-01-31', TIMESTAMP '2026-01-31T12:00:00.25', \
                arrow_cast(TIMESTAMP '2026-01-31T11:00:00', 'Timestamp(Microsecond, Some(\"+00:00\"))'), CAST(-12345.678 AS DECIMAL(10,3)), \
                INTERVAL '1 day 2 hours', [1, 2, NULL], ['a b', 'c'], \
                named_struct('k', 1, 'l', ['x']), TIME '01:02:03.5', \
                arrow_cast(18446744073709551615, 'UInt64')";
    assert_eq!(
        simple(&client, text).await,
        [
            "t|1|2|3|1.5|-2.25|é|NULL|\\x00ff|2026-01-31|2026-01-31 12:00:00.25|\
             2026-01-31 11:00:00+00|-12345.678|1 day 02:00:00|{1,2,NULL}|{\"a b\",c}|\
             {\"k\":1,\"l\":[\"x\"]}|01:02:03.5|18446744073709551615",
            "done 1"
        ]
    );
    let row = client.query_one(text, &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    assert_eq!((row.get::<_, i16>(1), row.get::<_, i32>(2), row.get::<_, i64>(3)), (1, 2, 3));
    assert_eq!((row.get::<_, f32>(4), row.get::<_, f64>(5)), (1.5, -2.25));
    assert_eq!((row.get::<_, &str>(6), row.get::<_, Option<&str>>(7)), ("é", None));
    assert_eq!(row.get::<_, &[u8]>(8), [0, 255]);
    let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    assert_eq!(row.get::<_, SystemTime>(10), at(1_769_860_800) + Duration::from_millis(250));
    assert_eq!(row.get::<_, SystemTime>(11), at(1_769_857_200));
    assert_eq!(row.get::<_, Vec<Option<i64>>>(14), [Some(1), Some(2), None]);
    assert_eq!(row.get::<_, Vec<String>>(15), ["a b", "c"]);
    let types: Vec<&str> = row.columns().iter().map(|column| column.type_().name()).collect();
    assert_eq!(
        types[9..],
        [
            "date",
            "timestamp",
            "timestamptz",
            "numeric",
            "interval",
            "_int8",
            "_text",
            "json",
            "time",
            "numeric"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_take_values_of_their_types() {
    let server = Server::start(&[]);
    let client = server.client().await;
    // Known from what they are compared with.
    let statement = client
        .prepare("SELECT n, name FROM '/sensors/a.series' WHERE n > $1 AND name <> $2 ORDER BY n LIMIT 2")
        .await
        .unwrap();
    let types: Vec<&str> = statement.params().iter().map(|param| param.name()).collect();
    assert_eq!(types, ["int8", "text"]);
    for (above, expected) in [(3i64, [5i64, 7]), (100, [101, 103])] {
        let rows = client.query(&statement, &[&above, &"n4"]).await.unwrap();
        let found: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(found, expected);
    }
    // Known from a cast; what is nowhere known is a text.
    let row =
        client.query_one("SELECT $1::int + 1, $2, $1::int", &[&41i32, &"it's; --"]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 42);
    assert_eq!((row.get::<_, &str>(1), row.get::<_, i32>(2)), ("it's; --", 41));
    let row = client
        .query_one("SELECT $1::double * 2, $2::text", &[&1.5f64, &None::<&str>])
        .await
        .unwrap();
    assert_eq!((row.get::<_, f64>(0), row.get::<_, Option<&str>>(1)), (3.0, None));
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(4999);
    let count = "SELECT count(*) FROM '/sensors/a.series' WHERE timestamp >= $1";
    let row = client.query_one(count, &[&at]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 2);
    let error = client.query("SELECT $1::int", &[&"text"]).await.unwrap_err();
    assert!(error.to_string().contains("serializing"), "{error}");
    for (text, expected) in [
        ("SELECT 1; SELECT 2", "42601"),
        ("SELECT nothing FROM '/sensors/a.series'", "42703"),
        ("SELECT $1 FROM '/none.series'", "42P01"),
    ] {
        assert_eq!(code(&client.prepare(text).await.unwrap_err()), expected, "{text}");
    }
    // The session goes on, and an empty statement is one.
    assert!(client.query("", &[]).await.unwrap().is_empty());
    assert_eq!(simple(&client, "DEALLOCATE ALL; SELECT 1").await, ["done 0", "1", "done 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_give_rows_in_parts() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let transaction = client.transaction().await.unwrap();
    let text = "SELECT n FROM '/sensors/a.series' WHERE n > $1 ORDER BY n";
    let portal = transaction.bind(text, &[&10i64]).await.unwrap();
    let mut next = 11i64;
    for wanted in [1, 2, 1000, 0] {
        let rows = transaction.query_portal(&portal, wanted).await.unwrap();
        if wanted > 0 {
            assert_eq!(rows.len() as i32, wanted);
        }
        for row in rows {
            assert_eq!(row.get::<_, i64>(0), next);
            next += 1;
        }
    }
    assert_eq!(next, 5001);
    assert!(transaction.query_portal(&portal, 5).await.unwrap().is_empty());
    transaction.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_give_rows_in_parts() {
    let server = Server::start(&["--write"]);
    let client = server.client().await;
    let declare =
        "DECLARE c NO SCROLL CURSOR FOR SELECT n, name FROM '/sensors/a.series' ORDER BY n";
    assert_eq!(code(&client.simple_query(declare).await.unwrap_err()), "25P01");
    simple(&client, "BEGIN").await;
    for (text, expected) in [
        (declare, &["done 0"] as &[&str]),
        ("FETCH 2 FROM c", &["1|n1", "2|n2", "done 2"]),
        ("MOVE FORWARD 3 IN c", &["done 3"]),
        ("FETCH NEXT c", &["6|NULL", "done 1"]),
        ("MOVE 4993 FROM c; FETCH ALL c", &["done 4993", "5000|n5000", "done 1"]),
        ("FETCH ALL IN c", &["done 0"]),
        // Of Postgres's own tables, and without an end.
        (
            "DECLARE d CURSOR WITHOUT HOLD FOR SELECT nspname FROM pg_namespace ORDER BY 1",
            &["done 0"],
        ),
        (
            "DECLARE \"E\" CURSOR FOR SELECT x FROM generate_series(1, 10000000000) AS s (x)",
            &["done 0"],
        ),
        ("FETCH 1 d; FETCH FORWARD 3 FROM \"E\"", &["/", "done 1", "1", "2", "3", "done 3"]),
        ("SELECT name FROM pg_catalog.pg_cursors ORDER BY 1", &["E", "c", "d", "done 3"]),
        ("CLOSE d", &["done 0"]),
    ] {
        assert_eq!(simple(&client, text).await, expected, "{text}");
    }
    // Those from after a savepoint end on the way back to it.
    simple(&client, "SAVEPOINT a; DECLARE f CURSOR FOR SELECT 1").await;
    assert_eq!(code(&client.simple_query("FETCH 1 FROM d").await.unwrap_err()), "34000");
    assert_eq!(code(&client.simple_query("FETCH 1 FROM \"E\"").await.unwrap_err()), "25P02");
    simple(&client, "ROLLBACK TO a").await;
    assert_eq!(simple(&client, "FETCH 1 FROM \"E\"").await, ["4", "done 1"]);
    assert_eq!(code(&client.simple_query("FETCH 1 FROM f").await.unwrap_err()), "34000");
    simple(&client, "ROLLBACK").await;
    assert_eq!(code(&client.simple_query("FETCH 1 FROM \"E\"").await.unwrap_err()), "34000");

    // With values, and rows in binary; of the snapshot that was when it was declared.
    let create = "CREATE TABLE '/t.table' AS SELECT n FROM generate_series(1, 100) AS s (n)";
    simple(&client, create).await;
    let query = "DECLARE c CURSOR FOR SELECT n FROM '/t.table' WHERE n > $1 ORDER BY n";
    simple(&client, "BEGIN").await;
    client.execute(query, &[&97i64]).await.unwrap();
    simple(&client, "DELETE FROM '/t.table' WHERE n > 98").await;
    let row = client.query_one("FETCH 1 FROM c", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 98);
    let rows = client.query("FETCH ALL FROM c", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [99, 100]);
    for (text, expected) in [
        ("DECLARE c CURSOR FOR SELECT 1", "42P03"),
        ("DECLARE g SCROLL CURSOR FOR SELECT 1", "0A000"),
        ("DECLARE g CURSOR WITH HOLD FOR SELECT 1", "0A000"),
        ("DECLARE g CURSOR FOR DROP TABLE '/t.table'", "42601"),
        ("DECLARE g CURSOR FOR SELECT wrong FROM '/t.table'", "42703"),
        ("FETCH BACKWARD 1 FROM c", "55000"),
    ] {
        simple(&client, "SAVEPOINT s").await;
        let error = client.simple_query(text).await.unwrap_err();
        assert_eq!(code(&error), expected, "{text}: {error:?}");
        simple(&client, "ROLLBACK TO s").await;
    }
    let many: Vec<String> =
        (0..99).map(|number| format!("DECLARE m{number} CURSOR FOR SELECT 1;")).collect();
    simple(&client, &many.concat()).await;
    let error = client.simple_query("DECLARE m99 CURSOR FOR SELECT 1").await.unwrap_err();
    assert_eq!(code(&error), "53200");
    simple(&client, "COMMIT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_protocol_of_statements_and_their_errors() {
    let server = Server::start(&[]);
    let client = server.client().await;
    assert_eq!(
        simple(&client, "SELECT 1; ; SELECT 'a;b' AS x -- c\n;SHOW server_version").await,
        ["1", "done 1", "a;b", "done 1", "15.0", "done 0"]
    );
    assert_eq!(simple(&client, " -- nothing\n;").await, ["done 0"]);
    for (text, expected, position) in [
        ("SELECT 1; SELEC 2", "42601", Some(11)),
        ("SELECT\n a FROM '/none.series'", "42P01", Some(16)),
        ("SELECT wrong FROM '/sensors/a.series'", "42703", Some(8)),
        ("SELECT none(1)", "42883", None),
        ("SELECT 1/0", "22012", None),
        ("SELECT CAST('x' AS INT)", "22P02", None),
        ("SELECT $1", "42P02", None),
        ("SET none_such = 1", "42704", None),
        ("SET client_encoding = 'LATIN1'", "22023", None),
        ("SAVEPOINT a", "25P01", None),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", "0A000", None),
        ("CREATE NODE '/n' FACTORY hostmount WITH (directory = '/tmp')", "25006", None),
        ("INSERT INTO '/sensors/a.series' SELECT * FROM '/sensors/a.series'", "25006", None),
        ("CREATE TABLE '/t.table' AS SELECT 1 AS a", "25006", None),
        ("DROP TABLE '/sensors/a.series'", "25006", None),
    ] {
        let error = client.simple_query(text).await.unwrap_err();
        assert_eq!(code(&error), expected, "{text}: {error:?}");
        if let Some(position) = position {
            let found = error.as_db_error().unwrap().position().cloned();
            let expected = tokio_postgres::error::ErrorPosition::Original(position);
            assert_eq!(found, Some(expected), "{text}");
        }
    }
    let error = client.simple_query("SELECT nam FROM '/sensors/a.series'").await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().hint(), Some("did you mean 'name'?"));
    for (text, expected) in [
        ("SET application_name = 'x'; SHOW application_name", ["done 0", "x", "done 0"]),
        ("SET TIME ZONE 'Europe/Berlin'; SHOW TIME ZONE", ["done 0", "Europe/Berlin", "done 0"]),
        ("DISCARD ALL; SHOW application_name", ["done 0", "", "done 0"]),
    ] {
        assert_eq!(simple(&client, text).await, expected, "{text}");
    }
    // Where it is, is the connection's own.
    let there = "USE '/sensors'; SELECT count(*) FROM 'a.series'";
    assert_eq!(simple(&client, there).await, ["done 0", "5000", "done 1"]);
    let other = server.client().await;
    assert_eq!(code(&other.simple_query("SELECT * FROM 'a.series'").await.unwrap_err()), "42P01");
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_those_of_the_pond() {
    let server = Server::start(&["--write", "--allow-host", "."]);
    let (client, other) = (server.client().await, server.client().await);
    let count = "SELECT count(*) FROM '/t.table'";
    assert_eq!(simple(&client, "CREATE TABLE '/t.table' AS SELECT 1 AS a").await, ["done 0"]);
    assert_eq!(
        simple(&client, "BEGIN; INSERT INTO '/t.table' VALUES (2), (3)").await,
        ["done 0", "done 2"]
    );
    assert_eq!(simple(&client, count).await, ["3", "done 1"]);
    assert_eq!(simple(&other, count).await, ["1", "done 1"]);
    assert_eq!(simple(&client, "COMMIT").await, ["done 0"]);
    assert_eq!(simple(&other, count).await, ["3", "done 1"]);

    // One that fails leaves nothing but its end.
    simple(&client, "BEGIN; DELETE FROM '/t.table' WHERE a = 1").await;
    assert!(client.simple_query("SELECT wrong").await.is_err());
    assert_eq!(code(&client.simple_query("SELECT 1").await.unwrap_err()), "25P02");
    assert_eq!(code(&client.query("SELECT 1", &[]).await.unwrap_err()), "25P02");
    assert_eq!(simple(&client, "COMMIT").await, ["done 0"]);
    assert_eq!(simple(&client, count).await, ["3", "done 1"]);

    // Back to a savepoint: one from before the first change, and one from between two.
    simple(&client, "BEGIN; SAVEPOINT a; INSERT INTO '/t.table' VALUES (8); SAVEPOINT b").await;
    simple(&client, "INSERT INTO '/t.table' VALUES (9)").await;
    assert!(client.simple_query("SELECT wrong").await.is_err());
    simple(&client, "ROLLBACK TO b").await;
    assert_eq!(simple(&client, count).await, ["4", "done 1"]);
    simple(&client, "RELEASE b; ROLLBACK TO SAVEPOINT a").await;
    assert_eq!(simple(&client, count).await, ["3", "done 1"]);
    assert_eq!(code(&client.simple_query("ROLLBACK TO b").await.unwrap_err()), "3B001");
    simple(&client, "ROLLBACK").await;

    // Two that change the same.
    for each in [&client, &other] {
        simple(each, "BEGIN; DELETE FROM '/t.table' WHERE a = 1").await;
    }
    simple(&client, "COMMIT").await;
    assert_eq!(code(&other.simple_query("COMMIT").await.unwrap_err()), "40001");
    assert_eq!(simple(&other, count).await, ["2", "done 1"]);

    // One snapshot, where it is asked for, and nothing changed where that was said.
    simple(&other, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await;
    simple(&client, "INSERT INTO '/t.table' VALUES (7)").await;
    assert_eq!(simple(&other, count).await, ["2", "done 1"]);
    let error = other.simple_query("DROP TABLE '/t.table'").await.unwrap_err();
    assert_eq!(code(&error), "25006");
    simple(&other, "ROLLBACK").await;
    assert_eq!(simple(&other, count).await, ["3", "done 1"]);

    // What SELECT makes is a part of one, too.
    simple(&client, "BEGIN; SELECT 1 AS a INTO '/made.table'; ROLLBACK").await;
    let error = client.simple_query("SELECT * FROM '/made.table'").await.unwrap_err();
    assert_eq!(code(&error), "42P01", "{error:?}");

    // One whose client is gone leaves nothing.
    simple(&client, "BEGIN; DROP TABLE '/t.table'").await;
    drop(client);
    assert_eq!(simple(&other, count).await, ["3", "done 1"]);
    let node = "CREATE NODE '/h' FACTORY hostmount WITH (directory = '.'); DROP NODE '/h'";
    assert_eq!(simple(&other, node).await, ["done 0", "done 0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_machine_are_closed_to_clients() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("open")).unwrap();
    let mount = |directory: &str| {
        format!(
            "CREATE NODE '/m' FACTORY hostmount WITH (directory = '{directory}'); DROP NODE '/m'"
        )
    };
    let server = Server::start(&["--write"]);
    let client = server.client().await;
    for directory in ["/etc", "."] {
        let error = client.simple_query(&mount(directory)).await.unwrap_err();
        assert_eq!(code(&error), "42501", "{error:?}");
        let hint = error.as_db_error().unwrap().hint().unwrap();
        assert!(hint.contains("--allow-host") && !hint.contains("--safe"), "{hint}");
    }
    let error = client.simple_query("COPY (SELECT 1 AS a) TO './a.csv'").await.unwrap_err();
    assert_eq!(code(&error), "42501", "{error:?}");
    drop(server);
    let server = Server::start_with(dir, &["--allow-host", "open"], &["--write"]);
    let client = server.client().await;
    assert_eq!(simple(&client, &mount("open")).await, ["done 0", "done 0"]);
    assert_eq!(code(&client.simple_query(&mount("/etc")).await.unwrap_err()), "42501");

    // A refusal to write says what the server is to be started with.
    let server = Server::start_with(tempfile::tempdir().unwrap(), &["--read-only"], &[]);
    let client = server.client().await;
    for text in [
        "CREATE TABLE '/t.table' AS SELECT 1 AS a",
        "CREATE NODE '/n.table' FACTORY sql_derived_table AS SELECT 1 AS a",
        "ALTER NODE '/sensors/few.table' SET COMMENT 'words'",
        "DROP TABLE '/sensors/a.series'",
        "BEGIN; DROP TABLE '/sensors/a.series'",
    ] {
        let error = client.simple_query(text).await.unwrap_err();
        assert_eq!(code(&error), "25006", "{text}: {error:?}");
        let hint = error.as_db_error().unwrap().hint().unwrap();
        assert!(hint.contains("serve --write") && !hint.contains("--read-only"), "{text}: {hint}");
    }
    let both =
        run(server.dir.path(), &["--read-only", "serve", "--postgres", "127.0.0.1:0", "--write"]);
    assert_eq!(both.status.code(), Some(1), "{}", stderr(&both));
    assert!(stderr(&both).contains("--read-only and serve --write"), "{}", stderr(&both));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_copied_to_the_client() {
    let server = Server::start(&[]);
    let client = server.client().await;
    let copied = async |text: &str| {
        let parts: Vec<_> = client.copy_out(text).await.unwrap().try_collect().await.unwrap();
        String::from_utf8(parts.concat()).unwrap()
    };
    let of = "SELECT n, name, [n, NULL] AS l FROM '/sensors/few.table' ORDER BY n";
    assert_eq!(
        copied(&format!("COPY ({of}) TO STDOUT")).await,
        "1\tn1\t{1,NULL}\n2\tn2\t{2,NULL}\n3\t\\N\t{3,NULL}\n"
    );
    assert_eq!(
        copied(&format!("COPY ({of}) TO STDOUT CSV HEADER")).await,
        "n,name,l\n1,n1,\"{1,NULL}\"\n2,n2,\"{2,NULL}\"\n3,,\"{3,NULL}\"\n"
    );
    let table = "COPY \"/sensors\".\"few.table\" (name) TO STDOUT \
                 (FORMAT csv, DELIMITER ';', NULL '-', QUOTE '''')";
    assert_eq!(copied(table).await, "n1\nn2\n-\n");
    assert_eq!(copied("COPY '/sensors/a.series' TO STDOUT").await.lines().count(), 5000);
    for (text, expected) in [
        ("COPY (SELECT wrong) TO STDOUT", "42703"),
        ("COPY (DROP TABLE '/sensors/a.series') TO STDOUT", "42601"),
        ("COPY (SELECT 1 AS a INTO '/x.table') TO STDOUT", "42601"),
        ("COPY '/none.table' TO STDOUT", "42P01"),
        ("COPY (SELECT 1) TO STDOUT (FORMAT binary)", "0A000"),
        ("COPY (SELECT $1) TO STDOUT", "42P02"),
    ] {
        let error = client.simple_query(text).await.unwrap_err();
        assert_eq!(code(&error), expected, "{text}: {error:?}");
    }
    // One that fails in the middle, and one that is cancelled.
    let fails = "COPY (SELECT 10 / (x - 50000) FROM generate_series(1, 100000) AS s (x)) TO STDOUT";
    let parts = client.copy_out(fails).await.unwrap();
    let failed = parts.try_for_each(|_| async { Ok(()) }).await.unwrap_err();
    assert_eq!(code(&failed), "22012");
    let endless = "COPY (SELECT x FROM generate_series(1, 10000000000) AS s (x)) TO STDOUT";
    let parts = client.copy_out(endless).await.unwrap();
    let token = client.cancel_token();
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(NoTls).await.unwrap();
    };
    let (failed, ()) = tokio::join!(parts.try_for_each(|_| async { Ok(()) }), cancel);
    assert_eq!(code(&failed.unwrap_err()), "57014");
    assert_eq!(simple(&client, "SELECT 1").await, ["1", "done 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_copied_from_the_client() {
    use futures::SinkExt;
    let server = Server::start(&["--write"]);
    let client = server.client().await;
    let create = "CREATE TABLE '/t.table' (n BIGINT, name VARCHAR, at TIMESTAMP, l BIGINT[])";
    simple(&client, create).await;
    let begin = async |text: &str| client.copy_in::<_, bytes::Bytes>(text).await.map(Box::pin);
    let copy = async |text: &str, parts: &[&'static str]| {
        let mut sink = begin(text).await?;
        for part in parts {
            sink.send(bytes::Bytes::from_static(part.as_bytes())).await?;
        }
        sink.as_mut().finish().await
    };
    let all = "SELECT * FROM '/t.table' ORDER BY n";
    let text = ["1\ta\\tb\t2026-01-31 12:00:00\t{1,NULL}\n2\t\\N\t", "\\N\t{}\n", "\\.\n"];
    assert_eq!(copy("COPY '/t.table' FROM STDIN", &text).await.unwrap(), 2);
    let csv = ["name,n\r\n\"x,\ny\",3\r\n", "\"\",4"];
    assert_eq!(copy("COPY \"/t.table\" (name, n) FROM STDIN CSV HEADER", &csv).await.unwrap(), 2);
    let expected = [
        "1|a\tb|2026-01-31 12:00:00|{1,NULL}",
        "2|NULL|NULL|{}",
        "3|x,\ny|NULL|NULL",
        "4||NULL|NULL",
        "done 4",
    ];
    assert_eq!(simple(&client, all).await, expected);
    // What is wrong leaves the table as it was.
    for (text, parts, expected) in [
        ("COPY '/t.table' FROM STDIN", &["5\ta\n"] as &[&str], "22P04"),
        ("COPY '/t.table' (n) FROM STDIN", &["5\n", "x\n"], "22P02"),
        ("COPY '/t.table' (n) FROM STDIN CSV", &["5\n\"6"], "22P04"),
        ("COPY '/t.table' (n) FROM STDIN CSV", &["5\n", ",,,,,,,\n"], "22P04"),
    ] {
        let error = copy(text, parts).await.unwrap_err();
        assert_eq!(code(&error), expected, "{text}: {error:?}");
    }
    for (text, expected) in [
        ("COPY '/t.table' (wrong) FROM STDIN", "42703"),
        ("COPY '/none.table' FROM STDIN", "42P01"),
        ("COPY '/sensors/few.table' (n) FROM STDIN", "0A000"),
        ("COPY '/t.table' FROM STDIN (DELIMITER 'n')", "22023"),
        ("COPY '/t.table' FROM STDIN (FORMAT csv, NULL '\"')", "22023"),
        ("COPY '/t.table' FROM STDIN (FORMAT csv, HEADER, FORMAT csv)", "42601"),
    ] {
        let error = client.simple_query(text).await.unwrap_err();
        assert_eq!(code(&error), expected, "{text}: {error:?}");
    }
    // So does who gives it up, or cancels it.
    let five = || bytes::Bytes::from_static(b"5\n");
    let mut sink = begin("COPY '/t.table' (n) FROM STDIN").await.unwrap();
    sink.send(five()).await.unwrap();
    drop(sink);
    let mut sink = begin("COPY '/t.table' (n) FROM STDIN").await.unwrap();
    sink.send(five()).await.unwrap();
    client.cancel_token().cancel_query(NoTls).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(code(&sink.as_mut().finish().await.unwrap_err()), "57014");
    drop(sink);
    assert_eq!(simple(&client, all).await, expected);
    // And who hangs up, whatever was sent before.
    for sent in ["5\n", "5\n\\.\n"] {
        let mut stream = server.raw();
        stream.write_all(&startup()).unwrap();
        stream.write_all(&message(b'Q', b"COPY '/t.table' (n) FROM STDIN\0")).unwrap();
        stream.write_all(&message(b'd', sent.as_bytes())).unwrap();
        std::thread::sleep(Duration::from_millis(200));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(simple(&client, all).await, expected);
    // In a transaction it is a part of that.
    simple(&client, "BEGIN").await;
    assert_eq!(copy("COPY '/t.table' (n) FROM STDIN", &["5\n6\n"]).await.unwrap(), 2);
    assert_eq!(simple(&client, "SELECT count(*) FROM '/t.table'").await, ["6", "done 1"]);
    simple(&client, "ROLLBACK").await;
    assert_eq!(simple(&client, all).await, expected);
    // A series is sorted, whatever order rows come in; and many rows stream.
    simple(&client, "CREATE TABLE '/s.series' (timestamp TIMESTAMP, n BIGINT)").await;
    let mut sink = begin("COPY '/s.series' FROM STDIN CSV").await.unwrap();
    for part in 0..200 {
        let line = |n: i64| format!("2026-01-01 {:02}:{:02}:00,{n}\n", n % 24, n % 60);
        let lines: String = (part * 1000..part * 1000 + 1000).map(line).collect();
        sink.send(bytes::Bytes::from(lines)).await.unwrap();
    }
    assert_eq!(sink.as_mut().finish().await.unwrap(), 200_000);
    let counted = "SELECT count(*), sum(n), min(timestamp) FROM '/s.series'";
    assert_eq!(
        simple(&client, counted).await,
        ["200000|19999900000|2026-01-01 00:00:00", "done 1"]
    );
}

/// Sends messages, and returns the types of the answers up to the last of so many ReadyForQuery, after
/// the one for coming in, and what was told of errors.
fn exchange(server: &Server, messages: &[Vec<u8>], ready: usize) -> (String, String) {
    let mut stream = server.raw();
    stream.write_all(&startup()).unwrap();
    stream.write_all(&messages.concat()).unwrap();
    let (mut kinds, mut errors) = (String::new(), String::new());
    let mut seen = 0;
    while seen <= ready {
        let mut head = [0; 5];
        stream.read_exact(&mut head).unwrap();
        let mut body = vec![0; i32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4];
        stream.read_exact(&mut body).unwrap();
        if seen > 0 {
            kinds.push(char::from(head[0]));
        }
        seen += usize::from(head[0] == b'Z');
        if head[0] == b'E' {
            errors.push_str(&String::from_utf8_lossy(&body).replace('\0', " "));
        }
    }
    (kinds, errors)
}

#[test]
fn the_protocol_of_copies() {
    let server = Server::start(&["--write"]);
    let created = message(b'Q', b"CREATE TABLE '/t.table' (n BIGINT)\0");
    assert_eq!(exchange(&server, &[created], 1).0, "CZ");
    let copy = || message(b'Q', b"COPY '/t.table' FROM STDIN\0");
    let data = |text: &str| message(b'd', text.as_bytes());
    let done = || message(b'c', b"");
    let sync = || message(b'S', b"");
    let extended = || {
        [
            message(b'P', b"\0COPY '/t.table' FROM STDIN\0\0\0"),
            message(b'B', b"\0\0\0\0\0\0\0\0"),
            message(b'D', b"P\0"),
            message(b'E', b"\0\0\0\0\0"),
            message(b'S', b""),
        ]
        .concat()
    };
    for (messages, ready, kinds, error) in [
        (vec![copy(), data("1\n2"), sync(), done()], 1, "GCZ", ""),
        (vec![copy(), data("1\n"), message(b'f', b"enough\0")], 1, "GEZ", "57014"),
        // What is behind an error is passed over.
        (vec![copy(), data("x\n"), data("1\n"), done(), sync()], 2, "GEZZ", "22P02"),
        (vec![copy(), done()], 1, "GCZ", ""),
        (vec![extended(), data("3\n"), done(), sync()], 1, "12nGCZ", ""),
        (vec![extended(), data("x\n"), done(), sync()], 1, "12nGEZ", "22P02"),
        (vec![copy(), data("7\n"), message(b'Q', b"SELECT 1\0")], 0, "", ""),
        (vec![message(b'Q', b"COPY (SELECT 1) TO STDOUT; SELECT 2\0")], 1, "HdcCTDCZ", ""),
        (
            vec![message(b'Q', b"COPY '/t.table' FROM STDIN; SELECT 2\0"), data("4"), done()],
            1,
            "GCTDCZ",
            "",
        ),
    ] {
        let (found, said) = exchange(&server, &messages, ready);
        assert_eq!(found, kinds, "{said}");
        assert!(said.contains(error), "{said}");
    }
    let counted = "SELECT count(*), sum(n) FROM '/t.table'";
    let counted = run(server.dir.path(), &["sql", "--format", "csv", counted]);
    assert!(stdout(&counted).contains("\n4,10"), "{}", stdout(&counted));
    // Where nothing is written, nothing is asked for.
    let server = Server::start(&[]);
    let copy = message(b'Q', b"COPY '/sensors/a.series' FROM STDIN\0");
    let (kinds, said) = exchange(&server, &[copy], 1);
    assert_eq!(kinds, "EZ");
    assert!(said.contains("25006") && said.contains("serve --write"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn arrays_come_and_go() {
    let server = Server::start(&["--write"]);
    let client = server.client().await;
    let names = |types: &[tokio_postgres::types::Type]| {
        types.iter().map(|of| of.name().to_owned()).collect::<Vec<_>>()
    };
    // Known from what they are compared with, in binary.
    let of = "SELECT count(*) FROM '/sensors/a.series' WHERE n = ANY($1) AND name <> ALL ($2)";
    let statement = client.prepare(of).await.unwrap();
    assert_eq!(names(statement.params()), ["_int8", "_text"]);
    for (numbers, texts, expected) in [
        (vec![Some(1i64), Some(2), Some(4), None], vec!["n1", "it's, {\"\\}"], 2),
        (vec![], vec!["n1"], 0),
        (vec![Some(1)], vec![], 1),
    ] {
        let row = client.query_one(&statement, &[&numbers, &texts]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), expected, "{numbers:?} {texts:?}");
    }
    let of = "SELECT $1::int[], $2::text[], $3::float8[], $4::timestamp[], $5::bool[]";
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_769_860_800);
    let (floats, times, flags) = (vec![1.5, -2.0], vec![at], vec![true, false]);
    let (numbers, texts) = (vec![Some(1i32), None], vec!["a", "b \"c"]);
    let row = client.query_one(of, &[&numbers, &texts, &floats, &times, &flags]).await.unwrap();
    assert_eq!(row.get::<_, Vec<Option<i32>>>(0), numbers);
    assert_eq!(row.get::<_, Vec<String>>(1), texts);
    assert_eq!(row.get::<_, Vec<f64>>(2), floats);
    assert_eq!(row.get::<_, Vec<SystemTime>>(3), times);
    assert_eq!(row.get::<_, Vec<bool>>(4), flags);
    let of =
        "SELECT [DATE '2026-01-31', NULL], [1::smallint], [X'00ff'], [CAST(1.5 AS DECIMAL(5, 2))]";
    assert_eq!(
        simple(&client, of).await,
        ["{2026-01-31,NULL}|{1}|{\"\\\\x00ff\"}|{1.50}", "done 1"]
    );
    let row = client.query_one(of, &[]).await.unwrap();
    let types: Vec<&str> = row.columns().iter().map(|column| column.type_().name()).collect();
    assert_eq!(types, ["_date", "_int2", "_bytea", "_numeric"]);
    assert_eq!(row.get::<_, Vec<&[u8]>>(2), [[0, 255]]);
    // Written, too.
    simple(&client, "CREATE TABLE '/t.table' (n BIGINT, l BIGINT[])").await;
    let insert = "INSERT INTO '/t.table' VALUES ($1, $2::bigint[])";
    assert_eq!(client.execute(insert, &[&1i64, &vec![1i64, 2]]).await.unwrap(), 1);
    assert_eq!(client.execute(insert, &[&2i64, &Vec::<i64>::new()]).await.unwrap(), 1);
    let all = "SELECT * FROM '/t.table' ORDER BY n";
    assert_eq!(simple(&client, all).await, ["1|{1,2}", "2|{}", "done 2"]);
    // As drivers ask for the elements of a type that they do not know.
    let asked = "WITH RECURSIVE typeinfo_tree(oid) AS (SELECT ti.oid FROM pg_type ti \
                 WHERE ti.oid = any($1::oid[])) SELECT * FROM typeinfo_tree";
    let statement = client.prepare(asked).await.unwrap();
    assert_eq!(names(statement.params()), ["_oid"]);
    let row = client.query_one(&statement, &[&vec![1016u32]]).await.unwrap();
    assert_eq!((row.get::<_, &str>("name"), row.get::<_, u32>("elemtype")), ("_int8", 20));
}

/// Drivers that put values into the text write bytes so.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_in_a_text_are_bytes() {
    let server = Server::start(&["--write"]);
    let client = server.client().await;
    for (text, expected) in [
        ("CREATE TABLE '/b.table' (b BYTEA)", &["done 0"] as &[&str]),
        ("INSERT INTO '/b.table' VALUES ('\\x4100ff'::bytea), ('\\x'::BYTEA)", &["done 2"]),
        ("SELECT b FROM '/b.table' ORDER BY b", &["\\x", "\\x4100ff", "done 2"]),
        ("SELECT '\\x41' AS t, '\\x41'::bytea AS b", &["\\x41|\\x41", "done 1"]),
    ] {
        assert_eq!(simple(&client, text).await, expected, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_are_prepared_in_sql() {
    let server = Server::start(&["--write"]);
    let client = server.client().await;
    for (text, expected) in [
        (
            "PREPARE q (bigint, text) AS SELECT n, $2 FROM '/sensors/a.series' WHERE n = $1",
            &["done 0"] as &[&str],
        ),
        ("EXECUTE q(2, 'it''s')", &["2|it's", "done 1"]),
        ("EXECUTE q('3' , NULL)", &["3|NULL", "done 1"]),
        ("EXECUTE Q(1 + 3, upper('a'))", &["4|A", "done 1"]),
        ("PREPARE w AS INSERT INTO '/t.table' VALUES ($1), ($1 + 1)", &["done 0"]),
        ("CREATE TABLE '/t.table' (a BIGINT)", &["done 0"]),
        ("EXECUTE w(-5)", &["done 2"]),
        ("BEGIN; EXECUTE w(1); ROLLBACK", &["done 0", "done 2", "done 0"]),
        (
            "PREPARE r AS SELECT count(*), min(a) FROM '/t.table'; EXECUTE r",
            &["done 0", "2|-5", "done 1"],
        ),
        // It is run on what there is.
        ("EXECUTE w(7); EXECUTE r", &["done 2", "4|-5", "done 1"]),
        ("PREPARE c AS SELECT current_database(); EXECUTE c", &["done 0", "pond", "done 1"]),
    ] {
        assert_eq!(simple(&client, text).await, expected, "{text}");
    }
    let rows = client.query("EXECUTE q(5, 'x')", &[]).await.unwrap();
    assert_eq!((rows[0].get::<_, i64>(0), rows[0].get::<_, &str>(1)), (5, "x"));
    for (text, expected) in [
        ("EXECUTE q(1)", "42601"),
        ("EXECUTE q('x', '')", "22P02"),
        ("EXECUTE q(n, '')", "42703"),
        ("EXECUTE none", "26000"),
        ("PREPARE q AS SELECT 1", "42P05"),
        ("PREPARE b AS BEGIN", "42601"),
        ("PREPARE b AS SELEC 1", "42601"),
        ("DEALLOCATE none", "26000"),
    ] {
        let error = client.simple_query(text).await.unwrap_err();
        assert_eq!(code(&error), expected, "{text}: {error:?}");
    }
    // None executes itself, or one that does.
    for (name, text) in [("p", "EXECUTE p"), ("a", "EXECUTE b"), ("b", "EXECUTE a")] {
        let parse = [name.as_bytes(), b"\0", text.as_bytes(), b"\0\0\0"].concat();
        let bind = [b"\0", name.as_bytes(), b"\0\0\0\0\0\0\0"].concat();
        let describe = [b"S", name.as_bytes(), b"\0"].concat();
        for last in [(b'D', describe), (b'E', b"\0\0\0\0\0".to_vec())] {
            let messages = [(b'P', parse.clone()), (b'B', bind.clone()), last, (b'S', Vec::new())];
            let messages = messages.map(|(kind, body)| message(kind, &body));
            let (_, said) = exchange(&server, &messages, 1);
            assert!(said.contains("C0A000") || said.contains("C26000"), "{text}: {said}");
        }
    }
    simple(&client, "DEALLOCATE PREPARE q").await;
    assert_eq!(code(&client.simple_query("EXECUTE q(1, '')").await.unwrap_err()), "26000");
    simple(&client, "DEALLOCATE ALL").await;
    assert_eq!(code(&client.simple_query("EXECUTE r").await.unwrap_err()), "26000");
    // Where only is read, it only reads.
    let server = Server::start(&[]);
    let client = server.client().await;
    simple(&client, "PREPARE w AS DROP TABLE '/sensors/a.series'").await;
    assert_eq!(code(&client.simple_query("EXECUTE w").await.unwrap_err()), "25006");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_tell_how_many_rows() {
    let server = Server::start(&["--write"]);
    let client = server.client().await;
    simple(
        &client,
        "CREATE TABLE '/t.table' AS SELECT x, x % 10 AS y FROM generate_series(1, 100) AS s (x)",
    )
    .await;
    for (text, expected) in [
        ("UPDATE '/t.table' SET y = 20 WHERE x <= 7", 7),
        ("UPDATE '/t.table' SET y = NULL WHERE x = 1000", 0),
        ("UPDATE '/t.table' SET y = y", 100),
        ("UPDATE '/t.table' SET y = 0 WHERE y IN (SELECT y FROM '/t.table' WHERE x = 1)", 7),
        ("UPDATE '/t.table' SET y = NULL WHERE x > 98", 2),
        // What is null is not met.
        ("UPDATE '/t.table' SET x = x WHERE y < 100", 98),
        ("DELETE FROM '/t.table' WHERE x > 90", 10),
        ("DELETE FROM '/t.table' WHERE x > 90", 0),
        ("INSERT INTO '/t.table' VALUES (1, 1), (2, 2)", 2),
        ("INSERT INTO '/t.table' SELECT * FROM '/t.table' WHERE x > 80", 10),
        ("CREATE TABLE '/c.table' AS SELECT 1 AS a, false AS __changed, 2 AS __is_met", 0),
        ("UPDATE '/c.table' SET a = 2 WHERE a = 1", 1),
    ] {
        if text.starts_with("CREATE") {
            simple(&client, text).await;
            continue;
        }
        assert_eq!(client.execute(text, &[]).await.unwrap(), expected, "{text}");
        let done = simple(&client, &format!("BEGIN; {text}; ROLLBACK")).await;
        assert_eq!(done.len(), 3, "{text}");
    }
    assert_eq!(simple(&client, "SELECT * FROM '/t.table' WHERE x = 3").await, ["3|0", "done 1"]);
    assert_eq!(simple(&client, "SELECT count(*) FROM '/t.table'").await, ["102", "done 1"]);
    // A row is changed or not, whatever its condition says when it is asked again.
    let text = "UPDATE '/t.table' SET x = -1, y = -1 WHERE random() < 0.5";
    let changed = client.execute(text, &[]).await.unwrap().to_string();
    for condition in ["x = -1", "y = -1", "x = -1 AND y = -1"] {
        let count = format!("SELECT count(*) FROM '/t.table' WHERE {condition}");
        assert_eq!(simple(&client, &count).await, [changed.as_str(), "done 1"], "{condition}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_one_table_follow_each_other() {
    const CLIENTS: usize = 4;
    const TURNS: usize = 5;
    let server = Server::start(&["--write"]);
    let client = server.client().await;
    simple(&client, "CREATE TABLE '/t.table' AS SELECT CAST(0 AS BIGINT) AS n").await;
    let mut writers = Vec::new();
    for _ in 0..CLIENTS {
        let writer = server.client().await;
        writers.push(tokio::spawn(async move {
            for _ in 0..TURNS {
                let text = "UPDATE '/t.table' SET n = n + 1";
                assert_eq!(writer.execute(text, &[]).await.unwrap(), 1);
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let expected = (CLIENTS * TURNS).to_string();
    assert_eq!(simple(&client, "SELECT n FROM '/t.table'").await, [expected.as_str(), "done 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_cancelled_at_once() {
    let server = Server::start(&[]);
    let client = server.client().await;
    let long = "SELECT count(*) FROM generate_series(1, 100000000) AS a (x), \
                generate_series(1, 100000000) AS b (y) WHERE x % 7 <> y % 5";
    let rows = "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    for text in [long, rows] {
        for simply in [true, false] {
            let token = client.cancel_token();
            let cancel = async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                token.cancel_query(NoTls).await.unwrap();
                Instant::now()
            };
            let statement = async {
                let failed = match simply {
                    true => {
                        client
                            .simple_query_raw(text)
                            .await
                            .unwrap()
                            .try_for_each(|_| async { Ok(()) })
                            .await
                    }
                    false => {
                        let none: [&str; 0] = [];
                        let rows = client.query_raw(text, none).await.unwrap();
                        rows.try_for_each(|_| async { Ok(()) }).await
                    }
                };
                (failed.unwrap_err(), Instant::now())
            };
            let (cancelled, (error, ended)) = tokio::join!(cancel, statement);
            assert_eq!(code(&error), "57014", "{error:?}");
            let late = ended.saturating_duration_since(cancelled);
            assert!(late < Duration::from_secs(2), "{text}: {late:?}");
        }
    }
    // Between two statements it is for neither.
    client.cancel_token().cancel_query(NoTls).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(simple(&client, "SELECT 1").await, ["1", "done 1"]);
    // Nor is it anybody else's.
    let mut stream = server.raw();
    let request = [16i32, 80_877_102, 1, 12345].map(i32::to_be_bytes).concat();
    stream.write_all(&request).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_ends_at_its_limit_of_time() {
    let server = Server::start(&[]);
    let client = server.client().await;
    let long = "SELECT count(*) FROM generate_series(1, 100000000) AS a (x), \
                generate_series(1, 100000000) AS b (y) WHERE x % 7 <> y % 5";
    simple(&client, "SET statement_timeout = '300ms'").await;
    let begun = Instant::now();
    assert_eq!(code(&client.simple_query(long).await.unwrap_err()), "57014");
    assert!(begun.elapsed() < Duration::from_secs(3));
    // In one partition nothing ever waits.
    let one = "SET datafusion.execution.target_partitions = 1";
    let long = "SELECT count(*) FROM range(1000000000000)";
    simple(&client, one).await;
    let begun = Instant::now();
    assert_eq!(code(&client.simple_query(long).await.unwrap_err()), "57014");
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert_eq!(
        simple(&client, "SET statement_timeout = 0; SELECT 1").await,
        ["done 0", "1", "done 1"]
    );
}

/// A query that was asked before has no more time than one that was not.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_cursor_end_at_the_limit_of_time() {
    let server = Server::start(&["--timeout", "1s"]);
    let client = server.client().await;
    for _ in 0..2 {
        simple(&client, "BEGIN; DECLARE c CURSOR FOR SELECT n FROM '/sensors/a.series'").await;
        simple(&client, "FETCH 1 FROM c").await;
        tokio::time::sleep(Duration::from_millis(1300)).await;
        let late = client.simple_query("FETCH ALL FROM c").await.unwrap_err();
        assert_eq!(code(&late), "57014", "{late:?}");
        simple(&client, "ROLLBACK").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_was_not_done() {
    let server = Server::start(&["--write"]);
    let client = server.client().await;
    simple(&client, "CREATE SCHEMA '/made'").await;
    let create = |number: usize| format!("CREATE TABLE '/made/{number}.table' AS SELECT 1 AS a");
    let begun = Instant::now();
    simple(&client, &create(0)).await;
    simple(&client, &create(1)).await;
    let usual = begun.elapsed() / 2;
    let mut said = vec![true, true];
    // Around the time that one takes, by a limit of it or by a request.
    for number in 2..122 {
        let limit = usual * (number as u32 % 40 + 1) / 25 + Duration::from_millis(1);
        let done = if number % 2 == 0 {
            simple(&client, &format!("SET statement_timeout = {}", limit.as_millis())).await;
            client.simple_query(&create(number)).await
        } else {
            simple(&client, "SET statement_timeout = 0").await;
            let token = client.cancel_token();
            let cancel = async {
                tokio::time::sleep(limit).await;
                token.cancel_query(NoTls).await.unwrap();
            };
            let text = create(number);
            tokio::join!(client.simple_query(&text), cancel).0
        };
        if let Err(error) = &done {
            assert_eq!(code(error), "57014", "{error:?}");
        }
        said.push(done.is_ok());
    }
    // A request may still be on its way.
    tokio::time::sleep(Duration::from_millis(200)).await;
    simple(&client, "SET statement_timeout = 0").await;
    let there = "SELECT table_name FROM information_schema.tables WHERE table_schema = '/made'";
    let there = simple(&client, there).await;
    for (number, done) in said.iter().enumerate() {
        assert_eq!(there.contains(&format!("{number}.table")), *done, "{number}: {done}");
    }
    assert!(said.contains(&false) && said[2..].contains(&true), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_clients_at_once() {
    let server = Server::start(&["--max-connections", "50"]);
    let ready = Arc::new(tokio::sync::Barrier::new(51));
    let mut clients = Vec::new();
    for number in 0..50i64 {
        let client = server.client().await;
        let ready = ready.clone();
        clients.push(tokio::spawn(async move {
            ready.wait().await;
            for turn in 0..5 {
                let text = "SELECT count(*), sum(n) FROM '/sensors/a.series' WHERE n > $1";
                let row = client.query_one(text, &[&(number + turn)]).await.unwrap();
                assert_eq!(row.get::<_, i64>(0), 5000 - number - turn);
            }
            ready.wait().await;
        }));
    }
    // There is no place for another one, who is told so.
    let error = server.try_client().await.err().unwrap();
    assert_eq!(code(&error), "53300", "{error:?}");
    ready.wait().await;
    ready.wait().await;
    for client in clients {
        client.await.unwrap();
    }
    // Places are free again, if not at once.
    let begun = Instant::now();
    while server.try_client().await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Puts a message of a type.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend((body.len() as i32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn startup() -> Vec<u8> {
    let body = b"\0\x03\0\0user\0ann\0database\0pond\0options\0-c geqo=off\0\0";
    let mut bytes = (body.len() as i32 + 4).to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

/// Exchanges that a client may have, each message by itself.
fn exchanges() -> Vec<Vec<Vec<u8>>> {
    vec![
        vec![startup(), message(b'Q', b"SELECT 1\0"), message(b'X', b"")],
        vec![
            startup(),
            message(b'P', b"s\0SELECT $1::int, n FROM '/sensors/few.table' WHERE n > $2\0\0\x02\0\0\0\x17\0\0\0\0"),
            message(b'D', b"Ss\0"),
            message(b'B', b"p\0s\0\0\x02\0\x01\0\0\0\x02\0\0\0\x04\0\0\0\x05\0\0\0\x011\0\x01\0\x01"),
            message(b'D', b"Pp\0"),
            message(b'E', b"p\0\0\0\0\x01"),
            message(b'H', b""),
            message(b'E', b"p\0\0\0\0\0"),
            message(b'C', b"Pp\0"),
            message(b'S', b""),
            message(b'X', b""),
        ],
        vec![
            startup(),
            message(b'Q', b"BEGIN; SELECT * FROM pg_catalog.pg_namespace; SELECT 'a'; COMMIT\0"),
            message(b'd', b"copied"),
            message(b'c', b""),
            message(b'S', b""),
        ],
        vec![[8i32, 80_877_103].map(i32::to_be_bytes).concat(), startup(), message(b'X', b"")],
        vec![[16i32, 80_877_102, 7, 7].map(i32::to_be_bytes).concat()],
    ]
}

/// Makes a valid exchange another one.
fn mutate(random: &mut Random, mut exchange: Vec<Vec<u8>>) -> Vec<u8> {
    for _ in 0..=random.below(3) {
        let at = random.below(exchange.len() as u64) as usize;
        let part = &mut exchange[at];
        let place = random.below(part.len() as u64 + 1) as usize;
        match random.below(8) {
            0 => part.truncate(place),
            1 if place < part.len() => part[place] = random.below(256) as u8,
            2 => part.insert(place, random.below(256) as u8),
            // A length that is not its own.
            3 if part.len() >= 5 => {
                let lengths = [0, 3, 4, 5, 1000, 1 << 20, 16 << 20, i32::MAX, -1, i32::MIN];
                let length = lengths[random.below(lengths.len() as u64) as usize];
                let begin = usize::from(at > 0);
                part[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
            }
            4 => *part = (0..random.below(64)).map(|_| random.below(256) as u8).collect(),
            5 => {
                let other = exchange[random.below(exchange.len() as u64) as usize].clone();
                exchange.insert(at, other);
            }
            6 => drop(exchange.remove(at)),
            _ => part.extend((0..random.below(9)).map(|_| random.below(256) as u8)),
        }
        if exchange.is_empty() {
            break;
        }
    }
    exchange.concat()
}

#[test]
fn ten_thousand_malformed_messages_end_nothing_but_themselves() {
    const EXCHANGES: usize = 10_000;
    const CLIENTS: u64 = 8;
    let server = Server::start(&[]);
    let send = |bytes: &[u8]| {
        let mut stream = server.raw();
        // The server may have hung up in the middle.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let begun = Instant::now();
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
        assert!(begun.elapsed() < Duration::from_secs(19), "no end to {bytes:?}");
    };
    let all = |seed: u64, count: usize| {
        let mut random = Random(seed);
        let exchanges = exchanges();
        for _ in 0..count {
            let exchange = exchanges[random.below(exchanges.len() as u64) as usize].clone();
            send(&mutate(&mut random, exchange));
        }
    };
    all(1, 200);
    let before = server.resident_kib();
    std::thread::scope(|scope| {
        for seed in 0..CLIENTS {
            let all = &all;
            scope.spawn(move || all(seed + 2, EXCHANGES / CLIENTS as usize));
        }
    });
    let after = server.resident_kib();
    assert!(after < before + 200 * 1024, "{before} KiB became {after} KiB");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = server.client().await;
        assert_eq!(simple(&client, "SELECT 1").await, ["1", "done 1"]);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_holds_nothing_but_a_batch() {
    let server = Server::start(&[]);
    let client = server.client().await;
    simple(&client, "SELECT 1").await;
    let mut stream = server.raw();
    stream.write_all(&startup()).unwrap();
    let many = b"SELECT repeat('x', 1000), x FROM generate_series(1, 100000000) AS s (x)\0";
    stream.write_all(&message(b'Q', many)).unwrap();
    let before = server.resident_kib();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = server.resident_kib();
    assert!(after < before + 200 * 1024, "{before} KiB became {after} KiB");
    assert_eq!(simple(&client, "SELECT 1").await, ["1", "done 1"]);
}

#[test]
fn who_never_reads_loses_its_place() {
    // Planning needs more of a stack than threads of tests have.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(32 << 20)
        .build()
        .unwrap();
    runtime.block_on(never_read());
}

async fn never_read() {
    let dir = tempfile::tempdir().unwrap();
    let pond = Pond::init(dir.path(), FAST).await.unwrap();
    let options = pond::serve::Options {
        connections_max: 1,
        send_timeout: Duration::from_millis(500),
        ..pond::serve::Options::new("127.0.0.1:0")
    };
    let tree = pond::tree::Tree::new(pond);
    let context = move || pond::context::PondContext::new(tree.clone());
    let server = pond::serve::postgres(options, context).await.unwrap();
    let address = server.address();
    let (end, ends) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async { drop(ends.await) }));
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    stream.write_all(&startup()).unwrap();
    // Small answers to what comes before they are read.
    let asks = message(b'Q', format!("SELECT '{}'\0", "x".repeat(100_000)).as_bytes());
    let stream = tokio::task::spawn_blocking(move || {
        while stream.write_all(&asks).is_ok() {}
        stream
    });
    let begun = Instant::now();
    let port = address.port();
    let connect = || async move {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(port).user("ann");
        config.connect(NoTls).await
    };
    // The other one is there first.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(code(&connect().await.err().unwrap()), "53300");
    while connect().await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(stream.await.unwrap());
    end.send(()).unwrap();
    serving.await.unwrap();
}

const ASKED_BY_PSQL: &[(&str, &[&str])] = &[
    // \dn
    (
        r#"SELECT n.nspname AS "Name", pg_catalog.pg_get_userbyid(n.nspowner) AS "Owner"
           FROM pg_catalog.pg_namespace n
           WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1;"#,
        &["/|ann", "/sensors|ann", "public|ann", "done 3"],
    ),
    // \d
    (
        r#"SELECT n.nspname as "Schema", c.relname as "Name",
             CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
               WHEN 'i' THEN 'index' WHEN 'S' THEN 'sequence' WHEN 't' THEN 'TOAST table'
               WHEN 'f' THEN 'foreign table' WHEN 'p' THEN 'partitioned table'
               WHEN 'I' THEN 'partitioned index' END as "Type",
             pg_catalog.pg_get_userbyid(c.relowner) as "Owner"
           FROM pg_catalog.pg_class c
             LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
           WHERE c.relkind IN ('r','p','v','m','S','f','')
             AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_toast'
             AND n.nspname <> 'information_schema' AND pg_catalog.pg_table_is_visible(c.oid)
           ORDER BY 1,2;"#,
        &["/sensors|a.series|table|ann", "/sensors|few.table|view|ann", "done 2"],
    ),
    ("SELECT current_database(), current_schema, current_user", &["pond|public|ann", "done 1"]),
    ("SELECT \"pg_is_in_recovery\"(), current_setting('server_version')", &["f|15.0", "done 1"]),
    // psycopg's look for types, and asyncpg's end of a turn.
    ("SELECT to_regtype('hstore')", &["NULL", "done 1"]),
    (
        "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL",
        &["NULL", "done 1", "done 0", "done 0", "done 0"],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn tools_find_directories_and_tables() {
    let server = Server::start(&[]);
    let client = server.client().await;
    for (text, expected) in ASKED_BY_PSQL {
        assert_eq!(simple(&client, text).await, *expected, "{text}");
    }
    let version = simple(&client, "SELECT version()").await;
    assert!(version[0].starts_with("PostgreSQL 15.0 (pond "), "{version:?}");
    // Numbers are the same on all connections, and lead to columns.
    let number = "SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relname = 'a.series'";
    let number = simple(&client, number).await[0].clone();
    let columns = format!(
        "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnum
         FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = '{number}' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
    );
    let found = simple(&server.client().await, &columns).await;
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(found[1].starts_with("n|bigint|2"), "{found:?}");
    // The standard's own, and a path as tools write it.
    let columns = "SELECT column_name FROM information_schema.columns \
                   WHERE table_schema = '/sensors' AND table_name = 'few.table'";
    assert_eq!(simple(&client, columns).await, ["n", "name", "done 2"]);
    let rows = "SELECT count(*) FROM \"/sensors\".\"few.table\"";
    assert_eq!(simple(&client, rows).await, ["3", "done 1"]);
    let both = "SELECT relname, count(*) FROM pg_class, '/sensors/few.table' \
                WHERE relkind = 'v' GROUP BY 1";
    assert_eq!(simple(&client, both).await, ["few.table|3", "done 1"]);
}

/// What drivers and tools ask that know no pond, and what they are told: JDBC's metadata, DBeaver's
/// trees, SQLAlchemy's reflection, ODBC's catalog functions, asyncpg's look for types, psql. `{a}` is
/// the number of `/sensors/a.series`.
const ASKED_BY_TOOLS: &[(&str, &[&str])] = &[
    // JDBC: getPrimaryKeys
    (
        "SELECT result.TABLE_CAT, result.TABLE_SCHEM, result.TABLE_NAME, result.COLUMN_NAME, \
         result.KEY_SEQ, result.PK_NAME FROM (SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM, \
         ct.relname AS TABLE_NAME, a.attname AS COLUMN_NAME, \
         (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ, ci.relname AS PK_NAME, \
         information_schema._pg_expandarray(i.indkey) AS KEYS, a.attnum AS A_ATTNUM \
         FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid) \
         JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid) \
         JOIN pg_catalog.pg_index i ON (a.attrelid = i.indrelid) \
         JOIN pg_catalog.pg_class ci ON (ci.oid = i.indexrelid) WHERE true \
         AND n.nspname = '/sensors' AND ct.relname = 'a.series' AND i.indisprimary) result \
         where result.A_ATTNUM = (result.KEYS).x ORDER BY result.table_name, result.pk_name, \
         result.key_seq",
        &["done 0"],
    ),
    // JDBC: how many columns a key has at most, and what a type is.
    ("SELECT setting FROM pg_catalog.pg_settings WHERE name='max_index_keys'", &["32", "done 1"]),
    (
        "SELECT typinput='pg_catalog.array_in'::regproc as is_array, typtype, typname, pg_type.oid \
         FROM pg_catalog.pg_type LEFT JOIN (select ns.oid as nspoid, ns.nspname, r.r \
         from pg_namespace as ns join (select s.r, (current_schemas(false))[s.r] as nspname \
         from generate_series(1, array_upper(current_schemas(false), 1)) as s(r)) as r \
         using (nspname)) as sp ON sp.nspoid = typnamespace \
         WHERE pg_type.oid = 1016 ORDER BY sp.r, pg_type.oid DESC",
        &["t|b|_int8|1016", "done 1"],
    ),
    // JDBC: getTypeInfo, of which the first ones.
    (
        "SELECT t.typname,t.oid FROM pg_catalog.pg_type t \
         JOIN pg_catalog.pg_namespace n ON (t.typnamespace = n.oid) \
         WHERE n.nspname != 'pg_toast' AND (t.typrelid = 0 OR (SELECT c.relkind = 'c' \
         FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid)) ORDER BY t.oid LIMIT 2",
        &["bool|16", "bytea|17", "done 2"],
    ),
    // JDBC: getProcedures, of which there are none; its columns have no names.
    (
        "SELECT NULL AS PROCEDURE_CAT, n.nspname AS PROCEDURE_SCHEM, p.proname AS PROCEDURE_NAME, \
         NULL, NULL, NULL, d.description AS REMARKS, 2 AS PROCEDURE_TYPE, \
         p.proname || '_' || p.oid AS SPECIFIC_NAME FROM pg_catalog.pg_namespace n, \
         pg_catalog.pg_proc p LEFT JOIN pg_catalog.pg_description d ON (p.oid=d.objoid) \
         LEFT JOIN pg_catalog.pg_class c ON (d.classoid=c.oid AND c.relname='pg_proc') \
         LEFT JOIN pg_catalog.pg_namespace pn ON (c.relnamespace=pn.oid AND pn.nspname='pg_catalog') \
         WHERE p.pronamespace=n.oid AND p.prokind='p' AND p.proname LIKE '%' \
         ORDER BY PROCEDURE_SCHEM, PROCEDURE_NAME, p.oid::text",
        &["done 0"],
    ),
    // ODBC: SQLTables for catalogs and for schemas, SQLPrimaryKeys.
    ("select NULL, NULL, NULL", &["NULL|NULL|NULL", "done 1"]),
    (
        "select NULL, nspname, NULL from pg_catalog.pg_namespace n where true and nspname not in \
         ('pg_catalog', 'information_schema', 'pg_toast', 'pg_temp_1') order by nspname",
        &["NULL|/|NULL", "NULL|/sensors|NULL", "NULL|public|NULL", "done 3"],
    ),
    (
        "select ta.attname, ia.attnum, ic.relname, n.nspname, tc.relname from \
         pg_catalog.pg_attribute ta, pg_catalog.pg_attribute ia, pg_catalog.pg_class tc, \
         pg_catalog.pg_index i, pg_catalog.pg_namespace n, pg_catalog.pg_class ic where \
         tc.relname = 'a.series' AND n.nspname = '/sensors' AND tc.oid = i.indrelid \
         AND n.oid = tc.relnamespace AND i.indisprimary = 't' AND ia.attrelid = i.indexrelid \
         AND ta.attrelid = i.indrelid AND ta.attnum = i.indkey[ia.attnum-1] \
         AND (NOT ta.attisdropped) AND (NOT ia.attisdropped) AND ic.oid = i.indexrelid \
         order by ia.attnum",
        &["done 0"],
    ),
    // SQLAlchemy: get_schema_names, get_pk_constraint, get_columns.
    (
        "SELECT pg_catalog.pg_namespace.nspname FROM pg_catalog.pg_namespace \
         WHERE (pg_catalog.pg_namespace.nspname NOT LIKE 'pg/_'::VARCHAR || '%' ESCAPE '/') \
         ORDER BY pg_catalog.pg_namespace.nspname",
        &["/", "/sensors", "information_schema", "public", "done 4"],
    ),
    (
        "SELECT attr.conrelid, array_agg(CAST(attr.attname AS TEXT) ORDER BY attr.ord) AS cols, \
         attr.conname, min(attr.description) AS description, NULL AS extra \
         FROM (SELECT con.conrelid AS conrelid, con.conname AS conname, \
         con.description AS description, con.ord AS ord, \
         pg_catalog.pg_attribute.attname AS attname FROM pg_catalog.pg_attribute JOIN \
         (SELECT pg_catalog.pg_constraint.conrelid AS conrelid, \
         pg_catalog.pg_constraint.conname AS conname, \
         unnest(pg_catalog.pg_constraint.conkey) AS attnum, \
         generate_subscripts(pg_catalog.pg_constraint.conkey, 1) AS ord, \
         pg_catalog.pg_description.description AS description FROM pg_catalog.pg_constraint \
         LEFT OUTER JOIN pg_catalog.pg_description \
         ON pg_catalog.pg_description.objoid = pg_catalog.pg_constraint.oid \
         WHERE pg_catalog.pg_constraint.contype = 'p' \
         AND pg_catalog.pg_constraint.conrelid IN ({a})) AS con \
         ON pg_catalog.pg_attribute.attnum = con.attnum \
         AND pg_catalog.pg_attribute.attrelid = con.conrelid WHERE con.conrelid IN ({a})) AS attr \
         GROUP BY attr.conrelid, attr.conname ORDER BY attr.conrelid, attr.conname",
        &["done 0"],
    ),
    (
        "SELECT pg_catalog.pg_attribute.attname AS name, \
         pg_catalog.format_type(pg_catalog.pg_attribute.atttypid, \
         pg_catalog.pg_attribute.atttypmod) AS format_type, \
         (SELECT pg_catalog.pg_get_expr(pg_catalog.pg_attrdef.adbin, \
         pg_catalog.pg_attrdef.adrelid) AS pg_get_expr_1 FROM pg_catalog.pg_attrdef \
         WHERE pg_catalog.pg_attrdef.adrelid = pg_catalog.pg_attribute.attrelid \
         AND pg_catalog.pg_attrdef.adnum = pg_catalog.pg_attribute.attnum \
         AND pg_catalog.pg_attribute.atthasdef) AS \"default\", \
         pg_catalog.pg_attribute.attnotnull AS not_null, pg_catalog.pg_class.relname AS table_name, \
         CASE WHEN (pg_catalog.pg_attribute.attidentity != '') THEN \
         (SELECT json_build_object('always', pg_catalog.pg_attribute.attidentity = 'a', 'start', \
         pg_catalog.pg_sequence.seqstart) AS json_build_object_1 FROM pg_catalog.pg_sequence \
         WHERE pg_catalog.pg_sequence.seqrelid = CAST(CAST(pg_catalog.pg_get_serial_sequence( \
         CAST(CAST(pg_catalog.pg_attribute.attrelid AS REGCLASS) AS TEXT), \
         pg_catalog.pg_attribute.attname) AS REGCLASS) AS OID)) ELSE NULL END AS identity_options \
         FROM pg_catalog.pg_class LEFT OUTER JOIN pg_catalog.pg_attribute \
         ON pg_catalog.pg_class.oid = pg_catalog.pg_attribute.attrelid \
         AND pg_catalog.pg_attribute.attnum > 0 AND NOT pg_catalog.pg_attribute.attisdropped \
         JOIN pg_catalog.pg_namespace \
         ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace \
         WHERE pg_catalog.pg_class.relkind = ANY (ARRAY['r', 'p', 'f', 'v', 'm']) \
         AND pg_catalog.pg_namespace.nspname = '/sensors' \
         AND pg_catalog.pg_class.relname IN ('few.table') \
         ORDER BY pg_catalog.pg_class.relname, pg_catalog.pg_attribute.attnum",
        &["n|bigint|NULL|f|few.table|NULL", "name|text|NULL|f|few.table|NULL", "done 2"],
    ),
    // DBeaver: databases, schemas, tables, columns, roles, keys, sizes.
    ("SELECT db.oid,db.* FROM pg_catalog.pg_database db WHERE datname='postgres'", &["done 0"]),
    ("SELECT datname FROM pg_catalog.pg_database db WHERE datallowconn", &["pond", "done 1"]),
    (
        "SELECT n.nspname, d.description FROM pg_catalog.pg_namespace n \
         LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=n.oid AND d.objsubid=0 \
         AND d.classoid='pg_namespace'::regclass WHERE n.nspname LIKE '/%' ORDER BY nspname",
        &["/|NULL", "/sensors|NULL", "done 2"],
    ),
    (
        "SELECT c.relname, c.relkind, d.description, \
         pg_catalog.pg_get_expr(c.relpartbound, c.oid) as partition_expr, \
         pg_catalog.pg_get_partkeydef(c.oid) as partition_key FROM pg_catalog.pg_class c \
         LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=c.oid AND d.objsubid=0 \
         AND d.classoid='pg_class'::regclass \
         WHERE c.relnamespace='\"/sensors\"'::regnamespace AND c.relkind not in ('i','I','c') \
         ORDER BY 1",
        &["a.series|r|NULL|NULL|NULL", "few.table|v|NULL|NULL|NULL", "done 2"],
    ),
    (
        "select c.relname,pg_catalog.pg_total_relation_size(c.oid) as total_rel_size, \
         pg_catalog.pg_relation_size(c.oid) as rel_size FROM pg_class c \
         WHERE c.relnamespace='/sensors' ORDER BY 1",
        &["a.series|NULL|NULL", "few.table|NULL|NULL", "done 2"],
    ),
    ("SELECT a.oid,a.rolname,a.rolsuper FROM pg_catalog.pg_roles a", &["10|ann|f", "done 1"]),
    (
        "SELECT c.oid,c.*,t.relname as tabrelname,rt.relnamespace as refnamespace,d.description, \
         case when c.contype='c' then \"substring\"(pg_get_constraintdef(c.oid), 7) else null end \
         consrc_copy FROM pg_catalog.pg_constraint c \
         INNER JOIN pg_catalog.pg_class t ON t.oid=c.conrelid \
         LEFT OUTER JOIN pg_catalog.pg_class rt ON rt.oid=c.confrelid \
         LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=c.oid AND d.objsubid=0 \
         AND d.classoid='pg_constraint'::regclass WHERE c.conrelid={a} ORDER BY c.oid",
        &["done 0"],
    ),
    (
        "SELECT count(*) FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_catalog.pg_type et \
         ON et.oid=t.typelem LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid=t.typrelid \
         WHERE t.typname IS NOT NULL AND c.relkind = 'c'",
        &["0", "done 1"],
    ),
    ("SELECT * FROM information_schema.table_constraints WHERE 1 = 0", &[]),
    (
        "SELECT kcu.column_name FROM information_schema.table_constraints tc \
         JOIN information_schema.key_column_usage kcu ON tc.constraint_name = kcu.constraint_name \
         WHERE tc.constraint_type = 'PRIMARY KEY' AND tc.table_name = 'a.series'",
        &["done 0"],
    ),
    // psql: \df+, \dT, \dp, \sf in their essence.
    (
        "SELECT p.proname, COALESCE(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc) \
         FROM pg_catalog.pg_proc p WHERE p.proname OPERATOR(pg_catalog.~) '^(no_such)$' \
         COLLATE pg_catalog.default AND pg_catalog.pg_function_is_visible(p.oid)",
        &["done 0"],
    ),
    (
        "SELECT pg_catalog.format_type(t.oid, NULL) AS \"Name\", pg_catalog.array_to_string( \
         ARRAY(SELECT e.enumlabel FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid \
         ORDER BY e.enumsortorder), E'\\n') AS \"Elements\" FROM pg_catalog.pg_type t \
         WHERE NOT EXISTS(SELECT 1 FROM pg_catalog.pg_type el WHERE el.oid = t.typelem \
         AND el.typarray = t.oid) AND t.typname = 'int4'",
        &["integer|", "done 1"],
    ),
    (
        "SELECT c.relname, pg_catalog.array_to_string(ARRAY(SELECT attname || E':\\n  ' || \
         pg_catalog.array_to_string(attacl, E'\\n  ') FROM pg_catalog.pg_attribute a \
         WHERE attrelid = c.oid AND NOT attisdropped AND attacl IS NOT NULL), E'\\n') \
         FROM pg_catalog.pg_class c WHERE c.relname = 'a.series'",
        &["a.series|NULL", "done 1"],
    ),
    (
        "SELECT s.name, pg_catalog.current_setting(s.name) FROM pg_catalog.pg_settings s \
         WHERE s.source <> 'default' AND s.name LIKE 'default%' \
         AND s.setting IS DISTINCT FROM s.boot_val ORDER BY 1",
        &["default_transaction_read_only|on", "done 1"],
    ),
    // Of functions, those that the engine has.
    (
        "SELECT DISTINCT p.proname FROM pg_catalog.pg_proc p \
         WHERE p.proname IN ('lower', 'pg_sleep', 'ts_rank') ORDER BY 1",
        &["lower", "done 1"],
    ),
    // pgcli: what functions take.
    (
        "SELECT DISTINCT p.proname func_name, p.proargnames, \
         COALESCE(proallargtypes::regtype[], proargtypes::regtype[])::text[], p.proargmodes, \
         prorettype::regtype::text return_type FROM pg_catalog.pg_proc p \
         WHERE p.proname = 'substr' AND prorettype = 'text'::regtype ORDER BY 3",
        &["substr|NULL|{text,int4}|NULL|text", "substr|NULL|{text,int4,int4}|NULL|text", "done 2"],
    ),
    // Grafana: tables outside the search path, with their schemas.
    (
        "SELECT CASE WHEN quote_ident(table_schema) IN (SELECT CASE WHEN trim(s[i]) = '\"$user\"' \
         THEN user ELSE trim(s[i]) END FROM generate_series( \
         array_lower(string_to_array(current_setting('search_path'),','),1), \
         array_upper(string_to_array(current_setting('search_path'),','),1)) as i, \
         string_to_array(current_setting('search_path'),',') s) THEN quote_ident(table_name) \
         ELSE quote_ident(table_schema) || '.' || quote_ident(table_name) END AS \"table\" \
         FROM information_schema.tables WHERE quote_ident(table_schema) NOT IN \
         ('information_schema', 'pg_catalog') ORDER BY 1",
        &["\"/sensors\".\"a.series\"", "\"/sensors\".\"few.table\"", "done 2"],
    ),
    // asyncpg: what lists are of.
    (
        "WITH RECURSIVE tree(oid, name, kind, basetype, elemtype, attrtypoids, depth) AS ( \
         SELECT ti.oid, ti.name, ti.kind, ti.basetype, ti.elemtype, ti.attrtypoids, 0 FROM ( \
         SELECT t.oid AS oid, t.typname AS name, t.typtype AS kind, \
         (CASE WHEN t.typtype = 'd' THEN (WITH RECURSIVE bases(oid, depth) AS ( \
         SELECT t2.typbasetype AS oid, 0 AS depth FROM pg_type t2 WHERE t2.oid = t.oid UNION ALL \
         SELECT t2.typbasetype AS oid, b.depth + 1 AS depth FROM pg_type t2, bases b \
         WHERE b.oid = t2.oid AND t2.typbasetype != 0) SELECT oid FROM bases ORDER BY depth DESC \
         LIMIT 1) ELSE NULL END) AS basetype, t.typelem AS elemtype, \
         (CASE WHEN t.typtype = 'c' THEN (SELECT array_agg(ia.atttypid ORDER BY ia.attnum) \
         FROM pg_attribute ia INNER JOIN pg_class c ON (ia.attrelid = c.oid) \
         WHERE c.reltype = t.oid) ELSE NULL END) AS attrtypoids FROM pg_catalog.pg_type AS t) AS ti \
         WHERE ti.oid = any(ARRAY[1016]::oid[]) UNION ALL \
         SELECT ti.oid, ti.name, ti.kind, ti.basetype, ti.elemtype, ti.attrtypoids, tt.depth + 1 \
         FROM (SELECT t.oid AS oid, t.typname AS name, t.typtype AS kind, NULL AS basetype, \
         t.typelem AS elemtype, NULL AS attrtypoids FROM pg_catalog.pg_type AS t) ti, tree tt \
         WHERE (tt.elemtype IS NOT NULL AND ti.oid = tt.elemtype) \
         OR (tt.attrtypoids IS NOT NULL AND ti.oid = any(tt.attrtypoids))) \
         SELECT DISTINCT oid, name, elemtype::regtype::text AS elemtype_name, depth FROM tree \
         ORDER BY depth DESC",
        &["20|int8|oid(0)|1", "1016|_int8|bigint|0", "done 2"],
    ),
    // Numbers and names of objects.
    (
        "SELECT '\"/sensors\".\"a.series\"'::regclass::oid = {a}, {a}::regclass, \
         to_regclass('none') IS NULL, 'pg_class'::regclass::int, 'integer'::regtype::int, \
         1016::regtype::text, '/sensors'::regnamespace IS NOT NULL",
        &["t|\"/sensors\".\"a.series\"|t|1259|23|bigint[]|t", "done 1"],
    ),
    // Values and lists of subqueries, in words that the engine has.
    (
        "SELECT n.nspname, (SELECT c.relname FROM pg_class c WHERE c.relnamespace = n.oid \
         ORDER BY c.relname LIMIT 1), ARRAY(SELECT c.relname FROM pg_class c \
         WHERE c.relnamespace = n.oid ORDER BY c.relname DESC), \
         (SELECT count(*) FROM pg_class c WHERE c.relnamespace = n.oid), \
         (SELECT count(*) FROM pg_index i), (SELECT max(i.indnatts) FROM pg_index i) \
         FROM pg_namespace n WHERE n.nspname = '/sensors'",
        &["/sensors|a.series|{few.table,a.series}|2|0|NULL", "done 1"],
    ),
    (
        "WITH keys AS (SELECT i.indrelid FROM pg_index i) SELECT c.relname, k.indrelid FROM \
         pg_class c LEFT JOIN keys k ON k.indrelid = c.oid WHERE c.relname = 'a.series' \
         UNION ALL SELECT 'key', k.indrelid FROM keys k",
        &["a.series|NULL", "done 1"],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn drivers_and_tools_ask_as_they_ask_postgres() {
    let server = Server::start(&[]);
    let client = server.client().await;
    let number = simple(&client, "SELECT oid FROM pg_class WHERE relname = 'a.series'").await;
    for (text, expected) in ASKED_BY_TOOLS {
        let text = text.replace("{a}", &number[0]);
        match expected.is_empty() {
            false => assert_eq!(simple(&client, &text).await, *expected, "{text}"),
            // There is no such table, and nothing is made up.
            true => assert_eq!(code(&client.simple_query(&text).await.unwrap_err()), "42P01"),
        }
    }
    // Columns are called what Postgres calls them.
    let text = "SELECT current_schema(), count(*), NULL, c.oid::text, 1 + 1, CASE WHEN true THEN 1 END, \
                ARRAY(SELECT 1 FROM pg_index) FROM pg_class c GROUP BY c.oid";
    let columns = client.prepare(text).await.unwrap();
    let names: Vec<&str> = columns.columns().iter().map(|column| column.name()).collect();
    assert_eq!(names, ["current_schema", "count", "?column?", "oid", "?column?5", "case", "array"]);
    // A parameter may name an object.
    let text = "SELECT c.relname FROM pg_class c WHERE c.oid = CAST($1 AS REGCLASS)";
    let rows = client.query(text, &[&"\"/sensors\".\"few.table\""]).await.unwrap();
    assert_eq!(rows[0].get::<_, &str>(0), "few.table");
    assert_eq!(code(&client.query(text, &[&"none"]).await.unwrap_err()), "42P01");
    let text = "SELECT 'lower'::pg_catalog.regproc::pg_catalog.oid";
    assert_eq!(code(&client.simple_query(text).await.unwrap_err()), "42883");
    // What an aggregate has of nothing is a row.
    assert_eq!(simple(&client, "SELECT count(*) FROM pg_index").await, ["0", "done 1"]);
    // A decimal has its digits.
    let digits = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute \
                  WHERE attrelid = 'd.table'::regclass";
    let server = Server::start(&["--write"]);
    let client = server.client().await;
    let table = "CREATE TABLE '/d.table' AS SELECT CAST(1.5 AS DECIMAL(10, 2)) AS d";
    simple(&client, table).await;
    assert_eq!(code(&client.simple_query(digits).await.unwrap_err()), "42P01");
    let digits = digits.replace("d.table", "\"/\".\"d.table\"");
    assert_eq!(simple(&client, &digits).await, ["numeric(10,2)", "done 1"]);
}

/// What is below a mount are schemas like others.
#[tokio::test(flavor = "multi_thread")]
async fn directories_of_a_mount_are_schemas() {
    let dir = tempfile::tempdir().unwrap();
    let host = dir.path().join("host");
    for (name, text) in
        [("one.csv", "a\n1\n"), ("deep/er/two.csv", "b\n2\n3\n"), (".git/x.csv", "c\n")]
    {
        let path = host.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let mount =
        format!("CREATE NODE '/host' FACTORY hostmount WITH (directory = '{}')", host.display());
    let server = Server::start_with(dir, &[], &["--write", "--allow-host", host.to_str().unwrap()]);
    let client = server.client().await;
    simple(&client, &mount).await;
    let tables = "SELECT n.nspname, c.relname FROM pg_namespace n \
                  LEFT JOIN pg_class c ON c.relnamespace = n.oid \
                  WHERE n.nspname LIKE '/host%' ORDER BY 1, 2";
    assert_eq!(
        simple(&client, tables).await,
        ["/host|one.csv", "/host/deep|NULL", "/host/deep/er|two.csv", "done 3"]
    );
    let rows = "SELECT count(*) FROM \"/host/deep/er\".\"two.csv\"";
    assert_eq!(simple(&client, rows).await, ["2", "done 1"]);
    let columns = "SELECT column_name FROM information_schema.columns \
                   WHERE table_schema = '/host/deep/er'";
    assert_eq!(simple(&client, columns).await, ["b", "done 1"]);
}

/// What a program of Python does with psycopg, which fails where it is told anything else.
const PSYCOPG: &str = r#"
import datetime, decimal, sys, threading, time
import psycopg
from psycopg import errors

url = f"host=127.0.0.1 port={sys.argv[1]} user=ann dbname=pond"
series = '"/sensors"."a.series"'

def expect(found, wanted):
    if found != wanted:
        raise SystemExit(f"found {found!r}, not {wanted!r}")

# Prepared at once, and run again: in text and in binary.
with psycopg.connect(url, prepare_threshold=0) as connection:
    for binary in False, True:
        cursor = connection.cursor(binary=binary)
        for above in range(10):
            text = f"SELECT n, half, name FROM {series} WHERE n > %s AND name <> %s ORDER BY n LIMIT 1"
            row = cursor.execute(text, (above, "n4")).fetchone()
            n = above + 1
            while n % 3 == 0 or n == 4:
                n += 1
            expect(row, (n, n / 2, f"n{n}"))
        day = datetime.datetime(2026, 1, 31, 12, 0, 0, 250000)
        values = [
            ("bool", True), ("int", -5), ("bigint", 2**40), ("smallint", 7),
            ("double precision", 1.25), ("text", "it's; --"), ("bytea", b"\x00\xff"),
            ("date", day.date()), ("timestamp", day), ("time", day.time()), ("int", None),
        ]
        text = "SELECT " + ", ".join(f"CAST(%s AS {name}) AS c{at}" for at, (name, _) in enumerate(values))
        for _ in range(3):
            row = cursor.execute(text, [value for _, value in values]).fetchone()
            expect(list(row), [value for _, value in values])
        row = cursor.execute("SELECT CAST(%s AS DECIMAL(10, 3))", (decimal.Decimal("-12.345"),)).fetchone()
        expect(row, (decimal.Decimal("-12.345"),))
        expect(cursor.execute("SELECT [1, 2], ['a', 'b c']").fetchone(), ([1, 2], ["a", "b c"]))

# Many rows at once, a transaction that is given up, one that is kept.
with psycopg.connect(url) as connection:
    connection.execute("CREATE TABLE \"/\".\"p.table\" AS SELECT CAST(0 AS BIGINT) AS a, 'x' AS b")
    connection.commit()
    count = 'SELECT count(*) FROM "/"."p.table"'
    with connection.cursor() as cursor:
        cursor.executemany('INSERT INTO "/"."p.table" VALUES (%s, %s)', [(n, f"t{n}") for n in range(1, 6)])
        expect(cursor.rowcount, 5)
    expect(connection.execute(count).fetchone(), (6,))
    connection.rollback()
    expect(connection.execute(count).fetchone(), (1,))
    connection.commit()
    with connection.transaction():
        connection.execute('INSERT INTO "/"."p.table" VALUES (%s, %s)', (1, "kept"))
        try:
            with connection.transaction():
                connection.execute('INSERT INTO "/"."p.table" VALUES (2, %s)', ("given up",))
                raise psycopg.Rollback()
        finally:
            pass
    expect(connection.execute(count).fetchone(), (2,))
    try:
        connection.execute(f"SELECT nam FROM {series}")
        raise SystemExit("a column that is not there was found")
    except errors.UndefinedColumn as error:
        expect(error.diag.message_hint, "did you mean 'name'?")
    connection.rollback()
    connection.read_only = True
    try:
        connection.execute('DELETE FROM "/"."p.table"')
        raise SystemExit("a transaction that only reads wrote")
    except errors.ReadOnlySqlTransaction:
        connection.rollback()

# A statement is cancelled, and the connection goes on.
with psycopg.connect(url, autocommit=True) as connection:
    threading.Timer(0.5, connection.cancel).start()
    begun = time.monotonic()
    try:
        connection.execute(f"SELECT count(*) FROM {series} a, {series} b, {series} c WHERE a.n + b.n + c.n < 7")
        raise SystemExit("it was not cancelled")
    except errors.QueryCanceled:
        expect(time.monotonic() - begun < 10, True)
    expect(connection.execute("SELECT 1").fetchone(), (1,))
    # Several statements at once.
    with connection.pipeline():
        cursors = [connection.execute("SELECT %s::int", (n,)) for n in range(20)]
    expect([cursor.fetchone()[0] for cursor in cursors], list(range(20)))
print("done")
"#;

/// Where Python has psycopg, it is tried.
#[test]
fn psycopg_reads_and_writes() {
    let python = |arguments: &[&str]| Command::new("python3").args(arguments).output();
    if !python(&["-c", "import psycopg"]).is_ok_and(|output| output.status.success()) {
        return;
    }
    let server = Server::start(&["--write"]);
    let output = python(&["-c", PSYCOPG, &server.address.port().to_string()]).unwrap();
    assert_eq!(stdout(&output), "done\n", "{}", stderr(&output));
}

/// TLS for tokio-postgres, which trusts one certificate.
#[derive(Clone)]
struct Tls(Arc<tokio_rustls::rustls::ClientConfig>);

struct Encrypted(tokio_rustls::client::TlsStream<tokio_postgres::Socket>);

impl tokio_postgres::tls::MakeTlsConnect<tokio_postgres::Socket> for Tls {
    type Stream = Encrypted;
    type TlsConnect = Self;
    type Error = std::io::Error;

    fn make_tls_connect(&mut self, _: &str) -> Result<Self, std::io::Error> {
        Ok(self.clone())
    }
}

impl tokio_postgres::tls::TlsConnect<tokio_postgres::Socket> for Tls {
    type Stream = Encrypted;
    type Error = std::io::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Encrypted, std::io::Error>> + Send>>;

    fn connect(self, stream: tokio_postgres::Socket) -> Self::Future {
        Box::pin(async move {
            let name = "localhost".try_into().unwrap();
            let connector = tokio_rustls::TlsConnector::from(self.0);
            connector.connect(name, stream).await.map(Encrypted)
        })
    }
}

impl tokio_postgres::tls::TlsStream for Encrypted {
    fn channel_binding(&self) -> tokio_postgres::tls::ChannelBinding {
        tokio_postgres::tls::ChannelBinding::none()
    }
}

impl tokio::io::AsyncRead for Encrypted {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl tokio::io::AsyncWrite for Encrypted {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Writes a certificate of this machine, its key, and a file of users; returns a client that trusts it.
fn identity(dir: &Path) -> Tls {
    use std::os::unix::fs::PermissionsExt;
    use tokio_rustls::rustls;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let own = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(dir.join("key.pem"), own).unwrap();
    users(dir, "# who may come in\nann:geheim:é\n");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Tls(Arc::new(config))
}

const SECURED: &[&str] =
    &["--tls-cert", "cert.pem", "--tls-key", "key.pem", "--password-file", "users"];

#[tokio::test(flavor = "multi_thread")]
async fn others_come_in_with_tls_and_a_password_only() {
    let dir = tempfile::tempdir().unwrap();
    let tls = identity(dir.path());
    let options = [&["--postgres", "0.0.0.0:0"], SECURED].concat();
    let server = Server::start_with(dir, &[], &options);
    let connect = async |password: Option<&str>, user: &str, tls: Tls| {
        let mut config = server.config();
        config.user(user).ssl_mode(tokio_postgres::config::SslMode::Require);
        if let Some(password) = password {
            config.password(password);
        }
        let (client, connection) = config.connect(tls).await?;
        tokio::spawn(connection);
        Ok::<_, tokio_postgres::Error>(client)
    };
    let client = connect(Some("geheim:é"), "ann", tls.clone()).await.unwrap();
    assert_eq!(simple(&client, "SELECT current_user").await, ["ann", "done 1"]);
    for (password, user) in [("wrong", "ann"), ("geheim:é", "bob"), ("", "ann")] {
        let error = connect(Some(password), user, tls.clone()).await.err().unwrap();
        assert_eq!(code(&error), "28P01", "{user} {password}: {error:?}");
    }
    assert!(connect(None, "ann", tls.clone()).await.is_err());
    // A statement of theirs is cancelled through TLS, too.
    let long = "SELECT count(*) FROM generate_series(1, 100000000) AS a (x), \
                generate_series(1, 100000000) AS b (y) WHERE x % 7 <> y % 5";
    let token = client.cancel_token();
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(tls).await.unwrap();
    };
    let ((), cancelled) = tokio::join!(cancel, client.simple_query(long));
    assert_eq!(code(&cancelled.unwrap_err()), "57014");
    // In clear, nobody.
    let mut config = server.config();
    config.password("geheim:é");
    let error = config.connect(NoTls).await.err().unwrap();
    assert_eq!(code(&error), "28000", "{error:?}");
}

/// Writes a file of users.
fn users(dir: &Path, lines: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(dir.join("users"), lines).unwrap();
    std::fs::set_permissions(dir.join("users"), std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Begins to come in as `ann`, and returns the server's challenge.
fn challenged(stream: &mut TcpStream) -> String {
    stream.write_all(&startup()).unwrap();
    let first = b"n,,n=,r=abc";
    let mut body = b"SCRAM-SHA-256\0".to_vec();
    body.extend((first.len() as i32).to_be_bytes());
    body.extend(first);
    stream.write_all(&message(b'p', &body)).unwrap();
    let mut said = String::new();
    while !said.contains(",i=") {
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).unwrap();
        assert!(count > 0, "{said}");
        said.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_said_who_it_is_takes_no_place() {
    let dir = tempfile::tempdir().unwrap();
    users(dir.path(), "ann:secret\n");
    let options = ["--password-file", "users", "--max-connections", "2"];
    let server = Server::start_with(dir, &[], &options);
    let mut strangers = [server.raw(), server.raw(), server.raw()];
    for stranger in &mut strangers {
        challenged(stranger);
    }
    let mut clients = Vec::new();
    for _ in 0..2 {
        let (client, connection) = server.config().password("secret").connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        assert_eq!(simple(&client, "SELECT 1").await, ["1", "done 1"]);
        clients.push(client);
    }
    let error = server.config().password("secret").connect(NoTls).await.err().unwrap();
    assert_eq!(code(&error), "53300", "{error:?}");
}

#[test]
fn who_is_not_there_is_challenged_like_the_others() {
    let verifier = |user: &str| {
        let (salt, key) = ("W22ZaJ0SNY7soEsUEjb6gQ==", format!("{}=", "A".repeat(43)));
        format!("{user}:SCRAM-SHA-256$5000:{salt}${key}:{key}\n")
    };
    let of = |file: &str| {
        let dir = tempfile::tempdir().unwrap();
        users(dir.path(), file);
        let server = Server::start_with(dir, &[], &["--password-file", "users"]);
        challenged(&mut server.raw())
    };
    for file in [verifier("ann"), verifier("bob")] {
        let said = of(&file);
        assert!(said.contains(",i=5000"), "{file}: {said}");
    }
}

#[test]
fn an_address_of_others_is_refused_without_tls_and_users() {
    let dir = tempfile::tempdir().unwrap();
    identity(dir.path());
    assert!(run(dir.path(), &["init"]).status.success());
    let serve = |options: &[&str]| {
        let output = run(dir.path(), &[&["serve", "--postgres"], options].concat());
        (output.status.code(), stderr(&output))
    };
    for options in [
        &["0.0.0.0:0"] as &[&str],
        &["0.0.0.0:0", "--password-file", "users"],
        &["0.0.0.0:0", "--tls-cert", "cert.pem", "--tls-key", "key.pem"],
        &["[::]:0"],
    ] {
        let (code, said) = serve(options);
        assert_eq!(code, Some(4), "{options:?}: {said}");
        assert!(said.contains("can be reached by others"), "{said}");
    }
    use std::os::unix::fs::PermissionsExt;
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(dir.path().join("key.pem"), open.clone()).unwrap();
    let (code, said) = serve(&["127.0.0.1:0", "--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("'key.pem' can be read by others"), "{said}");
    std::fs::set_permissions(dir.path().join("users"), open).unwrap();
    let (code, said) = serve(&["127.0.0.1:0", "--password-file", "users"]);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("can be read by others") && said.contains("chmod 600"), "{said}");
    let (code, said) = serve(&["nonsense"]);
    assert_eq!(code, Some(1), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_end_the_server_in_order() {
    use rustix::process::Signal;
    for (signal, expected) in [(Signal::TERM, 0), (Signal::INT, 130)] {
        let mut server = Server::start(&["--write"]);
        let (idle, busy) = (server.client().await, server.client().await);
        simple(&idle, "BEGIN; CREATE TABLE '/left.table' AS SELECT 1 AS a").await;
        let long = "SELECT count(*) FROM generate_series(1, 100000000) AS a (x), \
                    generate_series(1, 100000000) AS b (y) WHERE x % 7 <> y % 5";
        let running = tokio::spawn(async move { busy.simple_query(long).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.signal(signal);
        let error = running.await.unwrap().unwrap_err();
        assert_eq!(code(&error), "57P01", "{error:?}");
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = server.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(status.code(), Some(expected));
        let listed = run(server.dir.path(), &["ls", "/"]);
        assert!(!stdout(&listed).contains("left"), "{}", stdout(&listed));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_not_multiplied_without_bound() {
    let server = Server::start(&[]);
    let client = server.client().await;
    simple(&client, "SELECT 1").await;
    let before = server.resident_kib();
    let text = format!("SELECT length(concat({}))", ["$1"; 2_000].join(", "));
    let long = "x".repeat(100_000);
    let prepared = client.prepare_typed(&text, &[tokio_postgres::types::Type::TEXT]).await.unwrap();
    let error = client.query(&prepared, &[&long]).await.unwrap_err();
    assert_eq!(code(&error), "54000", "{error:?}");
    let after = server.resident_kib();
    assert!(after < before + 400 * 1024, "{before} KiB became {after} KiB");
    let row = client.query_one("SELECT length($1::text || $1)::bigint", &[&long]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 200_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_complex_is_not_planned() {
    let server = Server::start(&[]);
    let client = server.client().await;
    let chain = |terms: usize, by: &str| vec!["1"; terms].join(by);
    for text in [
        format!("SELECT {}", chain(5000, "+")),
        format!("SELECT n FROM '/sensors/a.series' WHERE {}", chain(3000, "=n or n=")),
        format!("SELECT 1 IN ({})", chain(5000, " + ")),
        format!("VALUES (1), ({})", chain(5000, " + ")),
        chain(3000, " UNION ALL SELECT ").replacen('1', "SELECT 1", 1),
    ] {
        let begun = Instant::now();
        let error = client.simple_query(&text).await.unwrap_err();
        assert_eq!(code(&error), "54001", "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(3));
        assert_eq!(code(&client.prepare(&text).await.unwrap_err()), "54001");
    }
    // What is long but flat is.
    let list = chain(3000, ", -");
    let text = format!("SELECT count(*) FROM '/sensors/a.series' WHERE n IN ({list})");
    assert_eq!(simple(&client, &text).await, ["1", "done 1"]);
    let rows = format!("SELECT count(*) FROM (VALUES ({}))", chain(3000, "), (-"));
    assert_eq!(simple(&client, &rows).await, ["3000", "done 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn planning_on_all_threads_keeps_nobody_out() {
    let server = Server::start(&[]);
    let text = format!("SELECT {}", vec!["1"; 1900].join(" + "));
    let processors = std::thread::available_parallelism().unwrap().get();
    for _ in 0..processors + 2 {
        let (client, text) = (server.client().await, text.clone());
        tokio::spawn(async move { client.simple_query(&text).await });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    let client = server.client().await;
    assert_eq!(simple(&client, "SHOW application_name").await, ["", "done 0"]);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let mut server = server;
    server.signal(rustix::process::Signal::TERM);
    let begun = Instant::now();
    while server.child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(12));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_leaves_the_memory_of_all() {
    let server = Server::start(&["--write"]);
    let client = server.client().await;
    for text in [
        "SET datafusion.runtime.memory_limit = '1M'",
        "SET datafusion.runtime.memory_limit TO '900G'",
        "RESET datafusion.runtime.memory_limit",
    ] {
        let error = client.simple_query(text).await.unwrap_err();
        assert_eq!(code(&error), "42501", "{text}: {error:?}");
    }
    simple(&client, "SET datafusion.execution.batch_size = 100").await;
    // Nor does a table of its own.
    for text in ["CREATE TABLE held AS SELECT 1 AS a", "SELECT 1 AS a INTO held"] {
        let error = client.simple_query(text).await.unwrap_err();
        assert_eq!(code(&error), "42501", "{text}: {error:?}");
        let hint = error.as_db_error().unwrap().hint().unwrap();
        assert!(hint.contains("'/held.table'"), "{hint}");
    }
}

fn has_psql() -> bool {
    Command::new("psql").arg("--version").stdout(Stdio::null()).status().is_ok()
}

/// Runs commands in psql, which is quiet: else it tells of nothing found as of an error.
fn psql(server: &Server, commands: &[&str]) -> String {
    let port = server.address.port().to_string();
    let mut command = Command::new("psql");
    command.args(["-X", "-q", "-h", "127.0.0.1", "-p", &port, "-U", "ann", "-At", "pond"]);
    for each in commands {
        command.args(["-c", each]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{commands:?}: {}", stderr(&output));
    assert_eq!(stderr(&output), "", "{commands:?}");
    stdout(&output)
}

/// Where psql is installed, it is tried.
#[test]
fn psql_copies_files() {
    if !has_psql() {
        return;
    }
    let server = Server::start(&["--write"]);
    let file = |name: &str| server.dir.path().join(name).to_str().unwrap().to_owned();
    let (out, back) = (file("rows.csv"), file("rows.txt"));
    let to = format!("\\copy (SELECT n, name FROM '/sensors/few.table') TO '{out}' CSV HEADER");
    psql(&server, &[&to, "CREATE TABLE '/t.table' (n BIGINT, name VARCHAR)"]);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "n,name\n1,n1\n2,n2\n3,\n");
    let from = format!("\\copy '/t.table' (n, name) FROM '{out}' CSV HEADER");
    psql(&server, &[&from, &format!("\\copy \"/t.table\" TO '{back}'")]);
    assert_eq!(std::fs::read_to_string(&back).unwrap(), "1\tn1\n2\tn2\n3\t\\N\n");
    psql(&server, &[&format!("\\copy \"/t.table\" FROM '{back}'")]);
    assert_eq!(psql(&server, &["SELECT count(*) FROM '/t.table'"]), "6\n");
}

/// Where psql is installed, it is tried.
#[test]
fn psql_describes_the_pond() {
    if !has_psql() {
        return;
    }
    let server = Server::start(&[]);
    let psql = |commands: &[&str]| psql(&server, commands);
    assert_eq!(psql(&["SELECT 1", "SELECT 'a' AS b"]), "1\na\n");
    let tables = "/sensors|a.series|table|ann\n";
    assert_eq!(psql(&["\\dt"]), tables);
    assert_eq!(psql(&["\\d"]), format!("{tables}/sensors|few.table|view|ann\n"));
    assert!(psql(&["\\dn"]).contains("/sensors|ann"));
    let described = psql(&["\\d \"/sensors\".\"a.series\""]);
    assert!(described.starts_with("timestamp|timestamp"), "{described}");
    assert!(described.contains("\nn|bigint|"), "{described}");
    for command in [
        "\\l",
        "\\du",
        "\\df nothing",
        "\\di",
        "\\dv",
        "\\conninfo",
        "\\dn+",
        "\\dt+",
        "\\d+ \"/sensors\".\"few.table\"",
    ] {
        psql(&[command]);
    }
}
