//! `csv_directory` over what is alive: files of the host, directories of other factories, and cycles
//! that nobody could see coming.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use datafusion::arrow::util::pretty::pretty_format_batches;
use futures::stream::BoxStream;
use pond::entry::EntryType;
use pond::factory::{Config, Factory, OpenContext, OptionSpec};
use pond::node::{DirEntry, Directory, ListFields, Node};
use pond::pond::Pond;
use pond::tree::{AlterNode, CreateMode, NewNode, Tree};
use pond::{PondContext, Result};
use serde_json::json;
use tempfile::TempDir;

use crate::oplog::path;
use crate::world::init;

/// A pond, and a directory of the host that is mounted in it as `/host`.
struct World {
    host: TempDir,
    _home: TempDir,
    tree: Tree,
    pond: PondContext,
}

impl World {
    async fn new() -> Self {
        let (host, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let tree = init(home.path()).await;
        let pond = PondContext::new(tree.clone());
        let world = Self { host, _home: home, tree, pond };
        let host = world.host.path().display();
        world
            .ask(&format!("CREATE NODE '/host' FACTORY hostmount WITH (directory = '{host}')"))
            .await;
        world
    }

    fn write(&self, name: &str, text: &str) {
        let to = self.host.path().join(name);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, text).unwrap();
    }

    async fn ask(&self, query: &str) -> String {
        let output = self.pond.sql(query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        let batches = output.collect().await.unwrap_or_else(|error| panic!("{query}: {error}"));
        // What is small is converted after it was read.
        self.tree.cache().idle().await;
        pretty_format_batches(&batches).unwrap().to_string()
    }

    /// Returns the values of a query of one column, in order.
    async fn list(&self, query: &str) -> Vec<String> {
        let table = self.ask(query).await;
        let lines = table.lines().filter(|line| line.starts_with('|')).skip(1);
        lines.map(|line| line.trim_matches(['|', ' ']).to_owned()).collect()
    }

    async fn fails(&self, query: &str) -> String {
        let error = match self.pond.sql(query).await {
            Ok(output) => output.collect().await.map(drop).unwrap_err(),
            Err(error) => error,
        };
        error.to_string()
    }
}

/// Files of the host are shown as they are now, through globs and derived nodes, and have no past.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_host_are_shown_as_they_are() {
    let world = World::new().await;
    world.write("logs/north/a.csv", "timestamp,v\n2026-01-01T00:00:00,1\n2026-01-01T01:00:00,2\n");
    world.write("logs/south/a.csv", "v,timestamp\n10,2026-01-01T00:30:00\n");
    world.write("logs/south/b.tsv", "timestamp\tv\n2026-01-02T00:00:00\t20\n");
    world
        .ask("CREATE NODE '/series' FACTORY csv_directory WITH (source_pattern = '/host/logs/**/*', target_type = 'series')")
        .await;
    let names = "SELECT name FROM ls('/series') ORDER BY name";
    assert_eq!(world.list(names).await, ["b.series", "north-a.series", "south-a.series"]);
    world
        .ask("CREATE NODE '/daily.series' FACTORY sql_derived_series FROM '/series/*.series' AS SELECT date_trunc('day', timestamp) AS day, sum(v) AS v FROM source GROUP BY 1")
        .await;
    let daily = "SELECT v FROM '/daily.series' ORDER BY day";
    assert_eq!(world.list(daily).await, ["13", "20"]);

    // What has come since is shown at once.
    world.write("logs/west/a.csv", "timestamp,v\n2026-01-02T00:00:00,100\n");
    assert_eq!(world.list(daily).await, ["13", "120"]);
    std::fs::remove_file(world.host.path().join("logs/south/b.tsv")).unwrap();
    assert_eq!(world.list(daily).await, ["13", "100"]);
    assert_eq!(world.list(names).await, ["north-a.series", "south-a.series", "west-a.series"]);

    let error = world.fails("SELECT * FROM '/series/b.series'").await;
    assert!(error.contains("'/series/b.series' does not exist"), "{error}");
    let error = world.fails("SELECT * FROM '/series/north-a.series' VERSION AS OF 2").await;
    assert!(error.contains("'/host' has no past"), "{error}");
    let error = world.fails("DROP NODE '/host'").await;
    assert!(error.contains("'/series' reads '/host/logs/**/*'"), "{error}");
}

/// What cannot be read is listed with its siblings, and says why; a name says which file it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_listed() {
    let world = World::new().await;
    world.write("a.csv", "x\n1\n");
    world.write(".hidden.csv", "x\n2\n");
    world.write("deep/x.csv", "x\n3\n");
    let root = world.host.path();
    let odd = std::ffi::OsStr::from_bytes(b"caf\xe9.csv");
    std::fs::write(root.join(odd), "x\n4\n").unwrap();
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, root.join(name)).unwrap();
    link("a.csv", "link.csv");
    link("nothing", "broken.csv");
    link("/etc/passwd", "outside.csv");
    link("deep", "directory.csv");
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("fifo.csv"), 0o600.into()).unwrap();
    world.ask("CREATE NODE '/t' FACTORY csv_directory WITH (source_pattern = '/host/*.csv')").await;
    assert_eq!(
        world.list("SELECT name FROM ls('/t') ORDER BY name").await,
        ["a.table", "broken.table", "caf\\xe9.table", "link.table", "outside.table"]
    );
    assert_eq!(
        world.list("SELECT name FROM ls('/t') WHERE error IS NOT NULL ORDER BY name").await,
        ["broken.table", "outside.table"]
    );
    assert_eq!(world.list("SELECT x FROM '/t/caf\\xe9.table'").await, ["4"]);
    assert_eq!(world.list("SELECT x FROM '/t/{a,link}.table'").await, ["1", "1"]);
    let error = world.fails("SELECT * FROM '/t/outside.table'").await;
    assert!(error.contains("leaves the hostmount"), "{error}");
    let error = world.fails("SELECT * FROM '/t/*.table'").await;
    assert!(error.contains("broken.csv") || error.contains("outside.csv"), "{error}");
    // A hidden file is shown by who asks for it, under a hidden name.
    world.ask("CREATE NODE '/h' FACTORY csv_directory WITH (source_pattern = '/host/.*')").await;
    assert_eq!(world.list("SELECT name FROM ls('/h', hidden => true)").await, [".hidden.table"]);
    // The mount is gone: the node is listed, and its error is that of the mount.
    let host = world.host.path().to_owned();
    std::fs::remove_dir_all(&host).unwrap();
    assert_eq!(world.list("SELECT name FROM ls('/') WHERE name = 't'").await, ["t"]);
    let error = world.fails("SELECT * FROM ls('/t')").await;
    assert!(error.contains(host.to_str().unwrap()), "{error}");
}

/// What is kept of the files of a directory is told, is made anew on demand, and tells of each file how
/// it was read.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_told_and_made_anew() {
    let world = World::new().await;
    for file in ["a", "b", "c"] {
        world.write(&format!("{file}.csv"), "id;x\n1;2\n3;4\n");
    }
    world
        .ask("CREATE NODE '/t' FACTORY csv_directory WITH (source_pattern = '/host/*.csv', on_error = 'skip')")
        .await;
    let state = "SELECT state FROM nodes() WHERE path = '/t'";
    assert_eq!(world.list(state).await, ["3 unconverted"]);
    // Looking at one converts none.
    world.ask("SELECT * FROM ls('/t') WHERE error IS NULL").await;
    world.ask("EXPLAIN NODE '/t'").await;
    world.ask("DESCRIBE NODE '/t/a.table'").await;
    assert_eq!(world.list(state).await, ["3 unconverted"]);
    world.ask("SELECT * FROM '/t/b.table'").await;
    assert_eq!(world.list(state).await, ["1 cached, 2 unconverted"]);

    world.write("b.csv", "id;x\n1;2\n3;4\n5\n6;7;8\n");
    assert_eq!(world.list(state).await, ["1 stale, 2 unconverted"]);
    world.ask("REFRESH NODE '/t/b.table'").await;
    assert_eq!(world.list(state).await, ["1 cached, 2 unconverted"]);
    assert_eq!(world.list("SELECT sum(x) FROM '/t/b.table'").await, ["6"]);
    let told = world.ask("DESCRIBE NODE '/t/b.table'").await;
    for (name, value) in [
        ("source", "/host/b.csv"),
        ("state", "cached"),
        ("dialect", "delimiter ;"),
        ("columns", "id Int64, x Int64"),
        ("rows", "2"),
        ("rejected", "2"),
    ] {
        let line = told.lines().find(|line| line.starts_with(&format!("| {name} ")));
        assert!(line.is_some_and(|line| line.contains(value)), "{name}: {told}");
    }
    let refreshed = world.list("REFRESH NODE '/t'").await;
    assert_eq!(refreshed.len(), 3, "{refreshed:?}");
    assert_eq!(world.list(state).await, ["3 cached"]);

    // Another recipe makes other rows.
    world.ask("ALTER NODE '/t' SET (delimiter = ',')").await;
    assert_eq!(world.list(state).await, ["3 unconverted"]);
    assert_eq!(world.list("SELECT \"id;x\" FROM '/t/a.table'").await, ["1;2", "3;4"]);
    // One that cannot be converted keeps no other from it.
    std::fs::write(world.host.path().join("a.csv"), b"\x1f\x8b\x08\x00cut off").unwrap();
    let error = world.fails("REFRESH NODE '/t'").await;
    assert!(
        error.contains("1 of 3 files could not be converted") && error.contains("a.csv"),
        "{error}"
    );
    assert_eq!(world.list(state).await, ["2 cached, 1 stale"]);
}

/// A series is in the order of time, whatever its text is.
#[tokio::test(flavor = "multi_thread")]
async fn a_series_is_in_the_order_of_time() {
    let world = World::new().await;
    world.write("a.csv", "v,at\n3,2026-01-03\n1,2026-01-01\n2,2026-01-02\n");
    world
        .ask("CREATE NODE '/s' FACTORY csv_directory WITH (source_pattern = '/host/*.csv', target_type = 'series', temporal_column = 'at')")
        .await;
    assert_eq!(world.list("SELECT v FROM '/s/a.series'").await, ["1", "2", "3"]);
    let plan = world.ask("EXPLAIN SELECT v FROM '/s/a.series' ORDER BY at").await;
    assert!(!plan.contains("SortExec"), "{plan}");
    world.ask("ALTER NODE '/s' SET (temporal_column = 'time')").await;
    let error = world.fails("SELECT v FROM '/s/a.series'").await;
    assert!(error.contains("'/host/a.csv'") && error.contains("no column 'time'"), "{error}");
    world.ask("ALTER NODE '/s' SET (temporal_column = 'v')").await;
    let error = world.fails("SELECT v FROM '/s/*.series'").await;
    assert!(error.contains("'/host/a.csv'") && error.contains("cannot order a series"), "{error}");
}

/// What is said of the encoding is what the bytes are taken for.
#[tokio::test(flavor = "multi_thread")]
async fn texts_are_read_as_they_are_encoded() {
    let world = World::new().await;
    let latin1: Vec<u8> = "name\ncaf\u{e9}\n".chars().map(|char| char as u8).collect();
    let utf16: Vec<u8> = "name\ncaf\u{e9}\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
    std::fs::write(world.host.path().join("latin1.csv"), latin1).unwrap();
    std::fs::write(world.host.path().join("utf-16be.csv"), utf16).unwrap();
    for encoding in ["latin1", "utf-16be"] {
        world
            .ask(&format!("CREATE NODE '/{encoding}' FACTORY csv_directory WITH (source_pattern = '/host/*', encoding = '{encoding}')"))
            .await;
        let query = format!("SELECT name FROM '/{encoding}/{encoding}.table'");
        assert_eq!(world.list(&query).await, ["caf\u{e9}"]);
    }
}

/// Two transactions may each make half of a cycle: whoever looks into it is told so.
#[tokio::test(flavor = "multi_thread")]
async fn a_cycle_that_two_transactions_made_is_an_error() {
    let world = World::new().await;
    for name in ["a", "b"] {
        world
            .ask(&format!(
                "CREATE NODE '/{name}' FACTORY csv_directory WITH (source_pattern = '/host/*.csv')"
            ))
            .await;
    }
    let (mut one, mut two) =
        (world.tree.begin(None).await.unwrap(), world.tree.begin(None).await.unwrap());
    let to = |pattern: &str| AlterNode::Set(vec![("source_pattern".to_owned(), json!(pattern))]);
    one.alter_node(&path("/a"), to("/b/*")).await.unwrap();
    two.alter_node(&path("/b"), to("/a/*")).await.unwrap();
    one.commit().await.unwrap();
    two.commit().await.unwrap();
    for query in
        ["SELECT * FROM ls('/a')", "SELECT * FROM '/b/*.table'", "SELECT * FROM '/a/x.table'"]
    {
        let error = world.fails(query).await;
        assert!(error.contains("is derived from itself"), "{query}: {error}");
    }
    let listed = world.ask("SELECT name, error FROM ls('/') ORDER BY name").await;
    assert!(listed.contains("would be derived from itself"), "{listed}");
}

/// A directory of many files that counts how often it is listed.
#[derive(Debug, Default)]
struct Counting {
    lists: Arc<AtomicUsize>,
}

const FILES: usize = 300;

#[async_trait]
impl Factory for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn description(&self) -> &'static str {
        "many files, for a test"
    }

    fn options(&self) -> &'static [OptionSpec] {
        &[]
    }

    fn entry_type(&self, _config: &Config) -> EntryType {
        EntryType::Directory
    }

    async fn open(&self, _config: &Config, cx: &OpenContext) -> Result<Node> {
        let inner = match pond::node::lookup(&cx.root, &path("/host")).await? {
            Some(Node::Directory(directory)) => directory,
            other => panic!("{other:?}"),
        };
        Ok(Node::Directory(Arc::new(Counted { inner, lists: self.lists.clone() })))
    }
}

#[derive(Debug)]
struct Counted {
    inner: Arc<dyn Directory>,
    lists: Arc<AtomicUsize>,
}

#[async_trait]
impl Directory for Counted {
    fn list(&self, fields: ListFields) -> BoxStream<'static, Result<DirEntry>> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        self.inner.list(fields)
    }

    async fn get(&self, name: &str) -> Result<Option<Node>> {
        self.inner.get(name).await
    }
}

/// Whatever looks at all files of a directory lists what it shows once, or twice.
#[tokio::test(flavor = "multi_thread")]
async fn each_directory_is_listed_once() {
    let world = World::new().await;
    for file in 0..FILES {
        world.write(&format!("{file}.csv"), "x\n1\n");
    }
    let counting = Counting::default();
    let lists = counting.lists.clone();
    world.tree.factories().register(Arc::new(counting)).unwrap();
    world.ask("CREATE NODE '/many' FACTORY counting").await;
    world.ask("CREATE NODE '/t' FACTORY csv_directory WITH (source_pattern = '/many/*')").await;
    world.ask("CREATE VIEW '/all.table' AS SELECT sum(x) AS x FROM '/t/*.table'").await;
    for (query, lists_max) in [
        ("SELECT count(*) FROM '/t/*.table'", 1),
        ("SELECT x FROM '/all.table'", 1),
        ("SELECT count(*) FROM ls('/t') WHERE error IS NULL", 2),
        (
            "SELECT count(*) FROM ls('/', recursive => true) WHERE path LIKE '/t/%' AND error IS NULL",
            4,
        ),
        ("SELECT state FROM nodes() WHERE path = '/t'", 1),
        ("SELECT count(*) FROM lineage('/t')", 0),
        ("SELECT count(*) FROM information_schema.columns WHERE table_schema = '/t'", 3),
    ] {
        lists.store(0, Ordering::SeqCst);
        let answer = world.list(query).await;
        let seen = lists.load(Ordering::SeqCst);
        assert!(seen <= lists_max, "{query} lists {seen} times");
        let is_all = answer[0].starts_with(&FILES.to_string());
        assert!(is_all || query.contains("lineage"), "{query}: {answer:?}");
    }
}

/// A pond in memory shows them, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_pond_in_memory_reads_them() {
    let host = tempfile::tempdir().unwrap();
    std::fs::write(host.path().join("a.csv"), "x\n1\n").unwrap();
    let tree = Tree::new(Pond::transient().await.unwrap());
    let pond = PondContext::new(tree.clone());
    for (at, factory, options) in [
        ("/host", "hostmount", vec![("directory".to_owned(), json!(host.path()))]),
        ("/t", "csv_directory", vec![("source_pattern".to_owned(), json!("/host/*"))]),
    ] {
        let (mode, factory) = (CreateMode::New, factory.to_owned());
        let new = NewNode { path: path(at), factory, options, mode, comment: None };
        tree.create_node(new, None).await.unwrap();
    }
    let output = pond.sql("SELECT x FROM '/t/a.table'").await.unwrap();
    assert_eq!(output.collect().await.unwrap()[0].num_rows(), 1);
}

/// What many files show together is the same before and after they are converted, whatever types each
/// of them has by itself.
#[tokio::test(flavor = "multi_thread")]
async fn types_are_united_as_those_of_the_texts() {
    let world = World::new().await;
    world.write("a.csv", "k,n,m,b\n1,1,true,\n");
    world.write("b.csv", "k,n,m,b\n2,2.5,5,7\n");
    world.write("c.csv", "k,n\n3,+4\n");
    world.write("empty.csv", "");
    world.write("header.csv", "k,n,m,b\n");
    world.ask("CREATE NODE '/t' FACTORY csv_directory WITH (source_pattern = '/host/*.csv')").await;
    let all = "SELECT concat_ws('|', k, n, m, b) FROM '/t/*.table' ORDER BY k";
    let first = world.list(all).await;
    assert_eq!(first, ["1|1.0|true", "2|2.5|5|7", "3|4.0"]);
    assert_eq!(world.list(all).await, first);
    for one in ["empty", "header"] {
        for _ in 0..2 {
            assert_eq!(world.list(&format!("SELECT count(*) FROM '/t/{one}.table'")).await, ["0"]);
        }
    }
    // Whole numbers and floats go together as they are; a float does not hold all of these.
    world.write("b.csv", "k,n\n2,2.5\n");
    world.write("a.csv", "k,n\n1,1\n");
    let numbers = "SELECT n FROM '/t/*.table' ORDER BY k";
    for _ in 0..2 {
        assert_eq!(world.list(numbers).await, ["1.0", "2.5", "4.0"]);
    }
    let plan = world.ask("EXPLAIN SELECT n FROM '/t/*.table'").await;
    assert!(!plan.contains("csv=[/host/a.csv"), "{plan}");
    world.write("a.csv", "k,n\n1,9007199254740993\n");
    for _ in 0..2 {
        assert_eq!(world.list(numbers).await, ["9007199254740993", "2.5", "+4"]);
    }
}

/// An option that is none is not one that is left to be detected, and the name of a file tells of it
/// whatever other file has the same content.
#[tokio::test(flavor = "multi_thread")]
async fn conversions_are_of_the_very_options() {
    let world = World::new().await;
    world.write("c.csv", "# made\na,b\n1,2\n");
    let one = "CREATE NODE '/k1.table' FACTORY csv_to_parquet WITH (source = '/host/c.csv', comment = 'none', on_error = 'skip')";
    world.ask(one).await;
    let two = "CREATE NODE '/k2.table' FACTORY csv_to_parquet WITH (source = '/host/c.csv', on_error = 'skip')";
    world.ask(two).await;
    let columns = "SELECT column_name FROM information_schema.columns WHERE table_name = ";
    for _ in 0..2 {
        world.ask("SELECT * FROM '/k1.table'").await;
        assert_eq!(world.list(&format!("{columns} 'k1.table'")).await, ["# made"]);
        world.ask("SELECT * FROM '/k2.table'").await;
        assert_eq!(world.list(&format!("{columns} 'k2.table'")).await, ["a", "b"]);
    }
}
