//! Ponds in an object store: a real S3 server, in a process of its own on loopback, and the shell
//! beside it.
//!
//! The server is this test binary again, running the ignored test `objects::server`: the file-system
//! back end of s3s, which checks before it puts and not while it does, so puts are let in one at a
//! time, as S3 orders them. It notes each request, to be counted. To try a pond on it by hand: any
//! other S3 server will do, as `AWS_ENDPOINT_URL=http://127.0.0.1:9000 pond --pond s3://bucket/p init`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use pond::ErrorKind;
use pond::blob::Blobs;
use pond::keep::Grace;
use pond::location::{Location, Remote};
use pond::pond::Pond;
use pond::tree::Tree;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;
use url::Url;

use crate::cli::{stderr, stdout};
use crate::oplog::FAST;
use crate::world::{Random, append, bytes, write};

/// A server, and a directory with its objects.
pub struct Server {
    child: Child,
    address: SocketAddr,
    dir: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts one with a bucket called `bucket`.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("objects/bucket")).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "objects::server", "--nocapture", "--quiet"])
            .env("POND_TEST_DIR", dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .find_map(|line| line.unwrap().strip_prefix("listening ").map(str::to_owned))
            .expect("it tells its address");
        Self { child, address: address.parse().unwrap(), dir }
    }

    /// The environment in which the shell finds it. `home` has the cache.
    pub fn environment(&self, home: &Path) -> Vec<(String, String)> {
        let set = |name: &str, value: String| (name.to_owned(), value);
        vec![
            set("AWS_ACCESS_KEY_ID", "key".into()),
            set("AWS_SECRET_ACCESS_KEY", "secret".into()),
            set("AWS_REGION", "us-east-1".into()),
            set("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            set("XDG_CACHE_HOME", home.display().to_string()),
        ]
    }

    /// A shell in `home` on the pond called `name`.
    pub fn pond(&self, home: &Path, name: &str) -> Command {
        let mut shell = crate::cli::shell(home);
        shell.args(["--pond", &format!("s3://bucket/{name}")]).envs(self.environment(home));
        shell
    }

    /// Returns what was asked for since the last time: method and path with query.
    pub fn requests(&self) -> Vec<String> {
        let path = self.dir.path().join("requests");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(&path);
        text.lines().map(str::to_owned).collect()
    }

    fn objects(&self) -> std::path::PathBuf {
        self.dir.path().join("objects/bucket")
    }
}

/// The process of a server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the other tests, as a process of its own"]
async fn server() {
    let dir = std::env::var("POND_TEST_DIR").unwrap();
    let dir = Path::new(&dir).to_owned();
    let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir.join("objects")).unwrap());
    service.set_auth(SimpleAuth::from_single("key", "secret"));
    let service = service.build();
    let puts = Arc::new(tokio::sync::Mutex::new(()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("\nlistening {}", listener.local_addr().unwrap());
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (service, puts, dir) = (service.clone(), puts.clone(), dir.clone());
        let counted = service_fn(move |request: Request<Incoming>| {
            let (service, puts) = (service.clone(), puts.clone());
            let line = format!("{} {}\n", request.method(), request.uri());
            let mut log =
                fs::File::options().create(true).append(true).open(dir.join("requests")).unwrap();
            log.write_all(line.as_bytes()).unwrap();
            async move {
                let _one_at_a_time = match request.method().as_str() {
                    "PUT" => Some(puts.lock_owned().await),
                    _ => None,
                };
                Service::call(&service, request).await
            }
        });
        tokio::spawn(async move {
            let connection = Builder::new(TokioExecutor::new());
            let _ = connection.serve_connection(TokioIo::new(socket), counted).await;
        });
    }
}

/// Runs the shell, which must succeed.
fn succeed(mut shell: Command, arguments: &[&str]) -> String {
    let output = shell.args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

fn run(mut shell: Command, arguments: &[&str]) -> Output {
    shell.args(arguments).output().unwrap()
}

const TABLE: &str = "CREATE TABLE '/t.table' AS SELECT value AS n, value * 2 AS twice
    FROM generate_series(1, 100000)";

#[test]
fn a_pond_in_an_object_store_is_like_one_in_a_directory() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("small.csv"), "a,b\n1,x\n2,y\n").unwrap();
    // More than is sent in one piece.
    fs::write(home.path().join("large.bin"), bytes(7, 20_000_000)).unwrap();
    let local = || {
        let mut shell = crate::cli::shell(home.path());
        shell.args(["--pond", "local"]);
        shell
    };
    let steps: &[&[&str]] = &[
        &["init"],
        &["mkdir", "-p", "/a/b"],
        &["put", "small.csv", "/a/small.csv"],
        &["put", "large.bin", "/a/b/large.bin"],
        &["sql", TABLE],
        &["sql", "SELECT count(*), sum(twice) FROM '/t.table' WHERE n > 50"],
        &[
            "sql",
            "INSERT INTO '/t.table' SELECT * FROM '/t.table' WHERE n < 4; SELECT count(*) FROM '/t.table'",
        ],
        &[
            "sql",
            "CREATE NODE '/v.table' FACTORY sql_derived_table WITH (sql_query = 'SELECT n FROM ''/t.table'' WHERE n < 3')",
        ],
        &["sql", "SELECT * FROM '/v.table' ORDER BY n"],
        &["sql", "SELECT * FROM '/a/small.csv' ORDER BY a"],
        &["sql", "SELECT path, entry_type FROM ls('/', recursive => true) ORDER BY path"],
        &["cat", "/a/small.csv"],
        &["cp", "/a/b/large.bin", "/copy.bin"],
        &["get", "/copy.bin", "-"],
        &["rm", "/a/b/large.bin"],
        &["sql", "SELECT count(*) FROM '/t.table' VERSION AS OF 4"],
        &["maintain"],
        &["gc", "--grace", "0s"],
        &["fsck"],
        &["sql", "SELECT count(*) FROM '/t.table'"],
    ];
    for step in steps {
        let (here, there) = (run(local(), step), run(server.pond(home.path(), "p"), step));
        assert!(here.status.success(), "{step:?}: {}", stderr(&here));
        assert!(there.status.success(), "{step:?}: {}", stderr(&there));
        if step[0] != "gc" {
            assert!(here.stdout == there.stdout, "{step:?}: {} {}", stdout(&here), stdout(&there));
        }
    }
    let status = succeed(server.pond(home.path(), "p"), &["status"]);
    assert!(status.contains("oplog"), "{status}");
    // Nothing is left that keeps clean-up away, and nothing that was to be sent.
    let pins = fs::read_dir(server.objects().join("p/pins"));
    assert!(pins.map_or(true, |mut pins| pins.next().is_none()));
    let gone = run(server.pond(home.path(), "other"), &["ls"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(stderr(&gone).contains("no pond at 's3://bucket/other'"), "{}", stderr(&gone));
    let twice = run(server.pond(home.path(), "p"), &["init"]);
    assert!(stderr(&twice).contains("already holds a pond"), "{}", stderr(&twice));
}

#[test]
fn a_warm_one_shot_asks_for_little_before_its_data() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    succeed(server.pond(home.path(), "p"), &["init"]);
    succeed(server.pond(home.path(), "p"), &["sql", TABLE]);
    for number in 0..40 {
        succeed(server.pond(home.path(), "p"), &["mkdir", &format!("/d{number}")]);
    }
    let query = "SELECT max(n + twice) FROM '/t.table'";
    succeed(server.pond(home.path(), "p"), &["sql", query]);
    server.requests();
    succeed(server.pond(home.path(), "p"), &["sql", query]);
    let requests = server.requests();
    let before = requests.iter().take_while(|request| !request.contains("/blobs/")).count();
    assert!(before <= 4, "{requests:#?}");
    assert!(requests.len() <= before + 4, "{requests:#?}");
    // Statistics answer this one, and no data is read.
    succeed(server.pond(home.path(), "p"), &["sql", "SELECT count(*) FROM '/t.table'"]);
    assert_eq!(server.requests().len(), 4);
    // Without the cache it is the log that is read, and what clean-up left of it.
    fs::remove_dir_all(home.path().join("pond")).unwrap();
    succeed(server.pond(home.path(), "p"), &["sql", query]);
    let cold = server.requests();
    assert!(cold.len() < 120, "{cold:#?}");
    // A commit of one row is its rows, its log, and a look at the one before.
    succeed(server.pond(home.path(), "p"), &["mkdir", "/one"]);
    let commit = server.requests();
    assert!(commit.len() <= 12, "{commit:#?}");
}

#[test]
fn of_two_writers_each_gets_through_and_one_path_is_made_once() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    succeed(server.pond(home.path(), "p"), &["init"]);
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let statements = |writer: usize| -> String {
        let one =
            |number| format!("CREATE SCHEMA '/w{writer}-{number}'; CREATE SCHEMA '/s{number}';\n");
        (0..15).map(one).collect()
    };
    let writers: Vec<Child> = homes
        .iter()
        .enumerate()
        .map(|(writer, home)| {
            let mut shell = server.pond(home.path(), "p");
            shell.args(["sql", "--keep-going", &statements(writer)]);
            shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let told: Vec<String> =
        writers.into_iter().map(|child| stderr(&child.wait_with_output().unwrap())).collect();
    for number in 0..15 {
        for (writer, told) in told.iter().enumerate() {
            assert!(told.contains(&format!("created /w{writer}-{number} ")), "{told}");
        }
        let made =
            told.iter().filter(|told| told.contains(&format!("created /s{number} "))).count();
        assert_eq!(made, 1, "/s{number}: {told:#?}");
    }
    let log = succeed(server.pond(home.path(), "p"), &["log", "--no-header", "--format", "csv"]);
    let mut txns: Vec<usize> =
        log.lines().map(|line| line.split(',').next().unwrap().parse().unwrap()).collect();
    txns.sort_unstable();
    assert_eq!(txns, (1..=45).collect::<Vec<_>>());
    succeed(server.pond(home.path(), "p"), &["fsck"]);
}

/// Killed at any moment, a writer takes nothing with it that it told of, and holds nobody up.
#[test]
fn a_writer_that_is_killed_takes_nothing_with_it() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    succeed(server.pond(home.path(), "p"), &["init"]);
    let mut random = Random(4);
    let mut told = Vec::new();
    for round in 0..10 {
        let one = |number| {
            format!(
                "CREATE SCHEMA '/d{round}-{number}';
                 CREATE TABLE '/t{round}-{number}.table' AS SELECT * FROM generate_series(1, 20000);\n"
            )
        };
        let text: String = (0..100).map(one).collect();
        let mut shell = server.pond(home.path(), "p");
        shell.args(["sql", &text]).stderr(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(150 + random.below(900)));
        child.kill().unwrap();
        let stderr = stderr(&child.wait_with_output().unwrap());
        let paths = stderr.lines().filter_map(|line| line.strip_prefix("created "));
        told.extend(paths.filter_map(|line| line.split_once(" (txn")).map(|(at, _)| at.to_owned()));
    }
    assert!(told.len() > 20, "{told:?}");
    let listing = ["sql", "--no-header", "--format", "csv", "SELECT path FROM ls('/')"];
    let there = succeed(server.pond(home.path(), "p"), &listing);
    let there: std::collections::HashSet<&str> = there.lines().collect();
    for path in &told {
        assert!(there.contains(path.as_str()), "{path} was told, and is not there");
    }
    succeed(server.pond(home.path(), "p"), &["fsck"]);
    succeed(server.pond(home.path(), "p"), &["mkdir", "/after"]);
}

#[test]
fn another_pond_at_the_same_url_is_not_taken_for_the_one_before() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    for name in ["/one", "/two"] {
        succeed(server.pond(home.path(), "p"), &["init"]);
        succeed(server.pond(home.path(), "p"), &["mkdir", name]);
        let listed = succeed(
            server.pond(home.path(), "p"),
            &["sql", "--no-header", "--format", "csv", "SELECT path FROM ls('/')"],
        );
        assert_eq!(listed, format!("{name}\n"));
        fs::remove_dir_all(server.objects().join("p")).unwrap();
    }
    let caches: Vec<_> = fs::read_dir(home.path().join("pond/ponds")).unwrap().collect();
    assert_eq!(caches.len(), 1);
}

/// A pond that was put back as it was goes on as another one, under the same identity.
#[test]
fn an_answer_of_a_history_that_is_gone_is_not_served() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let pond = || server.pond(home.path(), "p");
    succeed(pond(), &["init"]);
    succeed(pond(), &["sql", TABLE]);
    let view = "CREATE NODE '/v.table' FACTORY sql_derived_table
        FROM '/t.table' REFRESH EVERY '1s' AS SELECT sum(twice) AS s FROM '/t.table'";
    succeed(pond(), &["sql", view]);
    succeed(pond(), &["backup", "s3://bucket/backup"]);
    let query = ["sql", "--no-header", "--format", "csv", "SELECT s FROM '/v.table'"];
    for (times, sum) in [(2, "20000200000\n"), (3, "30000300000\n")] {
        let text = format!("INSERT OVERWRITE '/t.table' SELECT n, twice * {times} FROM '/t.table'");
        succeed(pond(), &["sql", &text]);
        std::thread::sleep(Duration::from_millis(1200));
        assert_eq!(succeed(pond(), &query), sum);
        fs::remove_dir_all(server.objects().join("p")).unwrap();
        succeed(pond(), &["restore-from", "s3://bucket/backup"]);
    }
}

#[test]
fn what_is_wrong_with_a_url_is_said() {
    let home = tempfile::tempdir().unwrap();
    let told = |url: &str, variables: &[(&str, &str)]| {
        let mut shell = crate::cli::shell(home.path());
        shell.args(["--pond", url]).envs(variables.iter().copied());
        stderr(&run(shell, &["ls"]))
    };
    let key = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_REGION", "r")];
    assert!(told("ftp://host/p", &key).contains("'ftp://host/p': no pond is at a ftp URL"));
    assert!(told("s3://", &key).contains("'s3://'"), "{}", told("s3://", &key));
    let mut no_scheme = key.to_vec();
    no_scheme.push(("AWS_ENDPOINT_URL", "127.0.0.1:9000"));
    let told_scheme = told("s3://bucket/p", &no_scheme);
    assert!(told_scheme.contains("hint: AWS_ENDPOINT_URL=http://127.0.0.1:9000"), "{told_scheme}");
    // Nobody listens there.
    let mut closed = key.to_vec();
    closed.push(("AWS_ENDPOINT_URL", "http://127.0.0.1:1"));
    let begun = std::time::Instant::now();
    let refused = told("s3://bucket/p", &closed);
    assert!(refused.contains("127.0.0.1:1"), "{refused}");
    assert!(begun.elapsed() < Duration::from_secs(30));
}

/// A place in the memory of this process.
fn in_memory(store: &Arc<InMemory>, cache: &Path) -> Remote {
    let url = Url::parse("memory://host/a/pond").unwrap();
    Remote::new(url, store.clone()).unwrap().with_cache(cache.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_brings_its_own_store() {
    let (store, cache) = (Arc::new(InMemory::new()), tempfile::tempdir().unwrap());
    let location = Location::from(in_memory(&store, cache.path()));
    let tree = Tree::new(Pond::init(location.clone(), FAST).await.unwrap());
    write(&tree, "/f", bytes(1, 100_000)).await.unwrap();
    for second in 0..3 {
        append(&tree, "/s.series", second * 10).await.unwrap();
    }
    let other = Tree::new(Pond::open(location.clone(), FAST).await.unwrap());
    assert_eq!(other.snapshot().await.unwrap().txn(), 4);
    let objects: Vec<String> =
        store.list(None).map_ok(|object| object.location.to_string()).try_collect().await.unwrap();
    assert!(objects.iter().all(|name| name.starts_with("a/pond/")), "{objects:?}");
    assert_eq!(objects.iter().filter(|name| name.contains("/blobs/")).count(), 4);
    let mut findings = Vec::new();
    pond::keep::check(location, |error| findings.push(error)).await.unwrap();
    assert!(findings.is_empty(), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clean_up_waits_for_writers_and_writers_for_clean_up() {
    let (store, cache) = (Arc::new(InMemory::new()), tempfile::tempdir().unwrap());
    let remote = in_memory(&store, cache.path());
    let blobs = Blobs::remote(&remote, cache.path().to_owned()).unwrap();
    let short = Duration::from_millis(700);
    let pin = blobs.pin().await.unwrap();
    let refused = blobs.lock(short).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    pin.check().await.unwrap();
    pin.release().await;
    let lock = blobs.lock(short).await.unwrap();
    assert_eq!(blobs.lock(short).await.unwrap_err().kind(), ErrorKind::Conflict);
    let waiting = tokio::spawn({
        let blobs = blobs.clone();
        async move { blobs.pin().await }
    });
    tokio::time::sleep(short).await;
    assert!(!waiting.is_finished());
    lock.release().await;
    waiting.await.unwrap().unwrap().release().await;
    assert!(store.list(None).collect::<Vec<_>>().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clean_up_in_an_object_store_leaves_what_is_needed() {
    let (store, cache) = (Arc::new(InMemory::new()), tempfile::tempdir().unwrap());
    let location = Location::from(in_memory(&store, cache.path()));
    let tree = Tree::new(Pond::init(location, FAST).await.unwrap());
    write(&tree, "/f", bytes(1, 100_000)).await.unwrap();
    let orphan = ObjectPath::from(format!("a/pond/blobs/ab/ab{}", "0".repeat(62)));
    store.put(&orphan, Bytes::from_static(b"left behind").into()).await.unwrap();
    let garbage = tree.pond().collect_garbage(Grace(Duration::ZERO), false).await.unwrap();
    assert_eq!(garbage.len(), 1, "{garbage:?}");
    assert!(store.head(&orphan).await.is_err());
    assert_eq!(tree.pond().status().await.unwrap().live_blobs, 1);
}
