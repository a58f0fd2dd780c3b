//! S1 and S2: nothing outside a mounted directory shows, through any entry point, whatever names,
//! links and swaps lead there. S3: nothing is ever written.

use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Location;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt};
use pond::node::{ListFields, Node};
use pond::path::PondPath;
use pond::tree::{AlterNode, CreateMode, DropNodes, NewNode};
use pond::{Error, ErrorKind};

use super::{Mounted, ls, ls_all};

/// What only files outside the mount hold, and what only they are called.
const SECRETS: [&str; 2] = ["SECRET-BYTES", "hidden-name"];

/// What an attempt must come to.
enum Outcome {
    /// The link leaves the mount.
    Leaves,
    /// The links lead in a circle, or where the kernel's own links do.
    Refused,
    /// There is no such thing.
    Missing,
    /// No node can be called that.
    Invalid,
    /// It is listed, and not opened.
    Special,
    /// It is a file in the mount with these bytes.
    Reads(&'static str),
    /// It is a directory in the mount.
    Lists,
}
use Outcome::{Invalid, Leaves, Lists, Missing, Reads, Refused, Special};

/// Makes the mounted directory, full of ways out, and what lies outside of it.
fn fixture(dir: &Path) -> PathBuf {
    let (root, outside) = (dir.join("root"), dir.join("outside"));
    for directory in
        [&root, &outside, &dir.join("root_evil"), &root.join("sub/deep"), &outside.join("more")]
    {
        std::fs::create_dir_all(directory).unwrap();
    }
    for file in ["outside/secret.csv", "outside/more/hidden-name.csv", "root_evil/secret.csv"] {
        std::fs::write(dir.join(file), "column\nSECRET-BYTES\n").unwrap();
    }
    for file in ["root/ok.csv", "root/sub/in.csv"] {
        std::fs::write(dir.join(file), "column\nfine\n").unwrap();
    }
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    for (link, target) in [
        ("abs_file.csv", text(&outside.join("secret.csv"))),
        ("abs_dir", text(&outside)),
        ("abs_inside.csv", text(&root.join("ok.csv"))),
        ("abs_missing.csv", text(&outside.join("nothing.csv"))),
        ("rel_file.csv", "../outside/secret.csv".to_owned()),
        ("rel_dir", "../outside".to_owned()),
        ("rel_missing.csv", "../outside/nothing.csv".to_owned()),
        ("rel_back.csv", "../root/ok.csv".to_owned()),
        ("up", "..".to_owned()),
        ("upup", "../..".to_owned()),
        ("slash", "/".to_owned()),
        ("etc", "/etc".to_owned()),
        ("passwd.csv", "/etc/passwd".to_owned()),
        ("evil", "../root_evil".to_owned()),
        ("evil.csv", "../root_evil/secret.csv".to_owned()),
        ("proc_root", "/proc/self/root".to_owned()),
        ("proc_cwd", "/proc/self/cwd".to_owned()),
        ("chain1.csv", "chain2.csv".to_owned()),
        ("chain2.csv", "sub/chain3.csv".to_owned()),
        ("sub/chain3.csv", "../abs_file.csv".to_owned()),
        ("chain_dir", "sub/out".to_owned()),
        ("sub/out", "../../outside".to_owned()),
        ("sub/out.csv", "../../outside/secret.csv".to_owned()),
        ("sub/deep/out.csv", "../../../outside/secret.csv".to_owned()),
        ("through.csv", "up/outside/secret.csv".to_owned()),
        ("through_dir.csv", "sub/out/secret.csv".to_owned()),
        ("dots.csv", "sub/../../outside/secret.csv".to_owned()),
        ("slashes.csv", "sub//..//..//outside//secret.csv".to_owned()),
        ("loop_a.csv", "loop_b.csv".to_owned()),
        ("loop_b.csv", "loop_a.csv".to_owned()),
        ("itself.csv", "itself.csv".to_owned()),
        ("loop_dir", "sub/loop_back".to_owned()),
        ("sub/loop_back", "../loop_dir".to_owned()),
        ("nowhere.csv", "nothing.csv".to_owned()),
        ("in_file.csv", "sub/in.csv".to_owned()),
        ("in_dir", "sub".to_owned()),
        ("in_dots.csv", "sub/deep/../../ok.csv".to_owned()),
        ("sub/in_up.csv", "../ok.csv".to_owned()),
        ("sub/deep/in_up.csv", "../../ok.csv".to_owned()),
        ("in_chain.csv", "in_file.csv".to_owned()),
        ("to_fifo.csv", "fifo.csv".to_owned()),
    ] {
        symlink(target, root.join(link)).unwrap();
    }
    let mode = rustix::fs::Mode::from_bits_truncate(0o644);
    for (name, kind) in
        [("fifo.csv", rustix::fs::FileType::Fifo), ("socket.csv", rustix::fs::FileType::Socket)]
    {
        rustix::fs::mknodat(rustix::fs::CWD, root.join(name), kind, mode, 0).unwrap();
    }
    // Only root makes devices.
    let device = rustix::fs::makedev(1, 5);
    let kind = rustix::fs::FileType::CharacterDevice;
    if rustix::fs::mknodat(rustix::fs::CWD, root.join("zero.csv"), kind, mode, device).is_err() {
        symlink("fifo.csv", root.join("zero.csv")).unwrap();
    }
    root
}

const FINE: Outcome = Reads("column\nfine\n");

/// Paths below the pond's root.
const PATHS: &[(&str, Outcome)] = &[
    // Links that leave.
    ("/host/abs_file.csv", Leaves),
    ("/host/abs_dir", Leaves),
    ("/host/abs_dir/secret.csv", Leaves),
    ("/host/abs_dir/more/hidden-name.csv", Leaves),
    ("/host/abs_dir/nothing", Leaves),
    ("/host/abs_inside.csv", Leaves),
    ("/host/abs_missing.csv", Leaves),
    ("/host/rel_file.csv", Leaves),
    ("/host/rel_dir", Leaves),
    ("/host/rel_dir/secret.csv", Leaves),
    ("/host/rel_dir/more", Leaves),
    ("/host/rel_missing.csv", Leaves),
    ("/host/rel_back.csv", Leaves),
    ("/host/up", Leaves),
    ("/host/up/outside/secret.csv", Leaves),
    ("/host/up/root/ok.csv", Leaves),
    ("/host/upup", Leaves),
    ("/host/slash", Leaves),
    ("/host/slash/etc/passwd", Leaves),
    ("/host/etc", Leaves),
    ("/host/etc/passwd", Leaves),
    ("/host/passwd.csv", Leaves),
    ("/host/evil", Leaves),
    ("/host/evil/secret.csv", Leaves),
    ("/host/evil.csv", Leaves),
    ("/host/proc_root", Leaves),
    ("/host/proc_root/etc/passwd", Leaves),
    ("/host/proc_cwd", Leaves),
    ("/host/chain1.csv", Leaves),
    ("/host/chain2.csv", Leaves),
    ("/host/sub/chain3.csv", Leaves),
    ("/host/chain_dir", Leaves),
    ("/host/chain_dir/secret.csv", Leaves),
    ("/host/sub/out", Leaves),
    ("/host/sub/out/secret.csv", Leaves),
    ("/host/sub/out.csv", Leaves),
    ("/host/sub/deep/out.csv", Leaves),
    ("/host/in_dir/out.csv", Leaves),
    ("/host/in_dir/deep/out.csv", Leaves),
    ("/host/through.csv", Leaves),
    ("/host/through_dir.csv", Leaves),
    ("/host/dots.csv", Leaves),
    ("/host/slashes.csv", Leaves),
    // Links in circles, and to nothing.
    ("/host/loop_a.csv", Refused),
    ("/host/itself.csv", Refused),
    ("/host/loop_dir", Refused),
    ("/host/loop_dir/ok.csv", Refused),
    ("/host/nowhere.csv", Missing),
    // Names that mean something elsewhere.
    ("/host/../outside/secret.csv", Missing),
    ("/host/sub/../../outside/secret.csv", Missing),
    ("/host/../../../../etc/passwd", Missing),
    ("/../outside/secret.csv", Missing),
    ("/host//etc//passwd", Leaves),
    ("/host/./../host/../outside", Missing),
    ("/host_evil/secret.csv", Missing),
    ("/host/%2e%2e/outside/secret.csv", Missing),
    ("/host/..%2foutside%2fsecret.csv", Missing),
    ("/host/%2e%2e%2foutside", Missing),
    (r"/host/\x2e\x2e/outside/secret.csv", Missing),
    (r"/host/..\x2foutside\x2fsecret.csv", Missing),
    (r"/host/..\outside\secret.csv", Missing),
    ("/host/..\u{2215}outside", Missing),
    ("/host/\u{ff0e}\u{ff0e}/outside/secret.csv", Missing),
    ("/host/.../outside/secret.csv", Missing),
    ("/host/.. /outside/secret.csv", Missing),
    ("/host/~/secret.csv", Missing),
    ("/host/$HOME", Missing),
    ("/host/file:///etc/passwd", Missing),
    ("/host/ok.csv/../../outside/secret.csv", Missing),
    ("/host/ok.csv/x", Missing),
    ("/host/ok.csv\0", Invalid),
    ("/host/\0/../outside", Invalid),
    ("../outside/secret.csv", Invalid),
    // What is no file.
    ("/host/fifo.csv", Special),
    ("/host/socket.csv", Special),
    ("/host/zero.csv", Special),
    ("/host/to_fifo.csv", Special),
    // And what is allowed.
    ("/host/ok.csv", FINE),
    ("/host/in_file.csv", FINE),
    ("/host/in_chain.csv", FINE),
    ("/host/in_dots.csv", FINE),
    ("/host/in_dir/in.csv", FINE),
    ("/host/in_dir/in_up.csv", FINE),
    ("/host/sub/deep/in_up.csv", FINE),
    ("/host/in_dir", Lists),
    ("/host/sub/../sub", Lists),
];

fn check_hidden(place: &str, text: &str) {
    for secret in SECRETS {
        // The text of the path itself may say it.
        assert!(!text.replace(place, "").contains(secret), "{place} shows {text}");
    }
    assert!(!text.contains("root:x:0"), "{place} shows {text}");
}

fn check_error(place: &str, outcome: &Outcome, error: &Error) {
    check_hidden(place, &format!("{error:?}"));
    match outcome {
        Leaves => {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{place}: {error:?}");
            assert!(error.message().contains("leaves the hostmount '/host'"), "{place}: {error:?}");
        }
        Missing => assert_eq!(error.kind(), ErrorKind::NotFound, "{place}: {error:?}"),
        Refused | Invalid => assert_eq!(error.kind(), ErrorKind::Invalid, "{place}: {error:?}"),
        Special => assert_eq!(error.kind(), ErrorKind::Unsupported, "{place}: {error:?}"),
        Reads(_) | Lists => panic!("{place} failed: {error:?}"),
    }
}

/// Tries one path through every entry point.
async fn attempt(mounted: &Mounted, place: &str, outcome: &Outcome) {
    match mounted.node(place).await {
        Err(error) => check_error(place, outcome, &error),
        Ok(Node::Directory(directory)) => {
            assert!(matches!(outcome, Lists), "{place} is a directory");
            let entries: Vec<_> = directory.list(ListFields::ALL).try_collect().await.unwrap();
            check_hidden(place, &format!("{entries:?}").replace("SECRET", ""));
        }
        Ok(Node::File(_)) => {
            match mounted.cat(place).await {
                Ok(bytes) => {
                    let Reads(expected) = outcome else { panic!("{place} was read") };
                    assert_eq!(String::from_utf8(bytes).unwrap(), *expected, "{place}");
                }
                Err(error) => check_error(place, outcome, &error),
            }
            match mounted.source(place).await {
                Ok((source, store)) => {
                    let Reads(expected) = outcome else { panic!("{place} is a table") };
                    let bytes = store.get(&source.object.location).await.unwrap();
                    assert_eq!(bytes.bytes().await.unwrap(), expected.as_bytes(), "{place}");
                }
                Err(error) => check_error(place, outcome, &error),
            }
        }
        Ok(other) => panic!("{place} is {other:?}"),
    }
    for args in [ls(place), ls_all(place)] {
        match (mounted.rows(args, "SELECT * FROM ls").await, outcome) {
            (Ok(rows), Lists) => check_hidden(place, &without_targets(&rows)),
            (Ok(rows), Reads(_) | Special) => assert_eq!(rows.len(), 1, "{rows:?}"),
            (Ok(rows), _) => panic!("{place}: {rows:?}"),
            (Err(error), outcome) => check_error(place, outcome, &error),
        }
    }
    // As a directory that a pattern looks into.
    for pattern in [format!("{place}/*"), format!("{place}/**"), format!("{place}*")] {
        match mounted.rows(ls_all(&pattern), "SELECT path, size FROM ls").await {
            Ok(rows) => check_hidden(place, &rows.join("\n")),
            Err(error) => check_hidden(place, &format!("{error:?}")),
        }
    }
}

fn without_targets(rows: &[String]) -> String {
    rows.iter().filter(|row| !row.contains("|symlink|")).cloned().collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_leads_out_of_a_mount() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = Mounted::new(&fixture(dir.path())).await;
    assert!(PATHS.len() >= 60);
    for (place, outcome) in PATHS {
        attempt(&mounted, place, outcome).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_does_not_tell_whether_a_target_exists() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = Mounted::new(&fixture(dir.path())).await;
    for (there, not_there) in [
        ("abs_file.csv", "abs_missing.csv"),
        ("rel_file.csv", "rel_missing.csv"),
        ("abs_dir/more", "abs_dir/nothing"),
        ("abs_dir/secret.csv", "abs_dir/more/nothing"),
    ] {
        let said = async |name: &str| {
            let error = mounted.node(&format!("/host/{name}")).await.unwrap_err();
            let text = format!("{error:?}");
            text.replace(name, "…").replace("secret.csv", "…").replace("nothing.csv", "…")
        };
        assert_eq!(said(there).await, said(not_there).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_hands_out_its_own_children_only() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = Mounted::new(&fixture(dir.path())).await;
    let host = mounted.directory("/host").await.unwrap();
    let long = "x".repeat(300);
    for name in [
        "",
        ".",
        "..",
        "/",
        "../outside",
        "sub/in.csv",
        "./ok.csv",
        "/etc",
        "ok.csv/",
        "a\0b",
        r"\x2e\x2e",
        r"\x2e",
        r"\x2f",
        r"\x00",
        r"..\x2foutside",
        "%2e%2e",
        "OK.CSV",
        &long,
    ] {
        assert!(host.get(name).await.unwrap().is_none(), "{name:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_stays_in_the_mount() {
    let dir = tempfile::tempdir().unwrap();
    let root = fixture(dir.path());
    let mounted = Mounted::new(&root).await;
    let mut expected = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            }
            let below = entry.path().strip_prefix(&root).unwrap().display().to_string();
            expected.push(format!("/host/{below}"));
        }
    }
    expected.sort();
    for path in ["/host", "/host/**", "/{host,nothing}/**"] {
        assert_eq!(mounted.paths(ls_all(path)).await.unwrap(), expected, "{path}");
    }
    let types = "SELECT entry_type, is_symlink, symlink_target FROM ls WHERE name = ";
    for (name, row) in [
        ("fifo.csv", "special|false|NULL"),
        ("socket.csv", "special|false|NULL"),
        ("rel_dir", "symlink|true|../outside"),
        ("etc", "symlink|true|/etc"),
        ("sub", "directory|false|NULL"),
    ] {
        let rows = mounted.rows(ls("/host"), &format!("{types} '{name}'")).await.unwrap();
        assert_eq!(rows, [row], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_serves_no_made_up_location() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = Mounted::new(&fixture(dir.path())).await;
    let (source, store) = mounted.source("/host/sub/in.csv").await.unwrap();
    let good = source.object.location.as_ref().to_owned();
    let (head, _) = good.split_once("/sub/").unwrap();
    let (mount, identity) = head.split_once('/').unwrap();
    for location in [
        format!("{head}/abs_file.csv"),
        format!("{head}/sub/out.csv"),
        format!("{head}/abs_dir/secret.csv"),
        format!("{head}/%2E%2E/outside/secret.csv"),
        format!("{head}/..%2Foutside%2Fsecret.csv"),
        format!("{head}/%2Fetc%2Fpasswd"),
        format!("{head}/fifo.csv"),
        format!("{head}/ok.csv%00"),
        format!("{head}/%"),
        format!("{head}/%zz"),
        format!("{head}/sub"),
        format!("{mount}/0-0/ok.csv"),
        format!("0-0/{identity}/ok.csv"),
        "etc/passwd".to_owned(),
        mount.to_owned(),
        String::new(),
    ] {
        let parsed = Location::parse(&location).unwrap();
        for options in [GetOptions::new(), GetOptions::new().with_head(true)] {
            let error = store.get_opts(&parsed, options).await.expect_err(&location);
            check_hidden(&location, &format!("{error} {error:?}"));
        }
        assert!(store.get_range(&parsed, 0..1).await.is_err(), "{location}");
    }
}

/// S2: two threads exchange a directory and a file of the mount with ones outside, as fast as they
/// can, while everything is read. Whatever is inside at one moment may show; a path that a link
/// leads out of may not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swapped_links_do_not_lead_out() {
    const TRIES: usize = 300;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let outside = dir.path().join("outside");
    std::fs::create_dir_all(root.join("a")).unwrap();
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(root.join("a/x.csv"), "fine").unwrap();
    std::fs::write(root.join("f.csv"), "fine").unwrap();
    std::fs::write(outside.join("x.csv"), "SECRET-BYTES").unwrap();
    std::fs::write(outside.join("hidden-name"), "SECRET-BYTES").unwrap();
    symlink("../outside", root.join("b")).unwrap();
    symlink("../outside/x.csv", root.join("g.csv")).unwrap();
    let mounted = Mounted::new(&root).await;
    let stop = Arc::new(AtomicBool::new(false));
    let attackers: Vec<_> = [("a", "b"), ("f.csv", "g.csv")]
        .into_iter()
        .map(|(one, other)| {
            let (one, other, stop) = (root.join(one), root.join(other), stop.clone());
            std::thread::spawn(move || {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let mut swaps = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    let cwd = rustix::fs::CWD;
                    rustix::fs::renameat_with(cwd, &one, cwd, &other, flags).unwrap();
                    swaps += 1;
                }
                swaps
            })
        })
        .collect();
    let (mut read, mut refused) = (0, 0);
    for _ in 0..TRIES {
        for place in ["/host/a/x.csv", "/host/b/x.csv", "/host/f.csv", "/host/g.csv"] {
            let sourced = async {
                let (source, store) = mounted.source(place).await?;
                let get = async { store.get(&source.object.location).await?.bytes().await };
                get.await.map(Vec::from).map_err(|error| Error::invalid(error.to_string()))
            };
            for result in [mounted.cat(place).await, sourced.await] {
                match result {
                    Ok(bytes) => {
                        assert_eq!(bytes, b"fine", "{place}");
                        read += 1;
                    }
                    Err(error) => {
                        check_hidden(place, &format!("{error:?}"));
                        refused += 1;
                    }
                }
            }
        }
        let paths = mounted.paths(ls_all("/host")).await.unwrap();
        assert!(!paths.iter().any(|path| path.contains("hidden-name")), "{paths:?}");
    }
    stop.store(true, Ordering::Relaxed);
    let swaps: Vec<u64> = attackers.into_iter().map(|attacker| attacker.join().unwrap()).collect();
    assert!(read > 0 && refused > 0, "{read} read, {refused} refused");
    assert!(swaps.iter().all(|swaps| *swaps > 100), "{swaps:?}");
}

/// Everything about a tree that writing to it could change; reading may change access times.
fn fingerprint(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                directories.push(path.clone());
            }
            let content = match meta.is_file() {
                true => std::fs::read(&path).unwrap(),
                false if meta.is_symlink() => {
                    std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
                }
                false => Vec::new(),
            };
            let kind = meta.file_type();
            let stat = (meta.ino(), meta.mode(), meta.nlink(), meta.size(), meta.rdev());
            let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
            let fifo = kind.is_fifo();
            found.push(format!("{path:?} {stat:?} {times:?} {fifo} {content:?}"));
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_changes_in_a_mount_and_every_change_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = fixture(dir.path());
    let before = fingerprint(dir.path());
    let mounted = Mounted::new(&root).await;
    for (place, outcome) in PATHS {
        attempt(&mounted, place, outcome).await;
    }
    assert_eq!(
        mounted.directory("/host/sub").await.unwrap().read_only().as_deref(),
        Some("hostmount '/host'")
    );

    // Through the verbs.
    let path = |text: &str| PondPath::parse(text).unwrap();
    let tree = &mounted.tree;
    let node = |text: &str, mode| NewNode {
        path: path(text),
        factory: "hostmount".to_owned(),
        options: vec![("directory".to_owned(), root.to_str().unwrap().into())],
        mode,
        comment: None,
    };
    let (ok, sub, new) = (path("/host/ok.csv"), path("/host/sub"), path("/host/sub/new"));
    let mut errors = Vec::new();
    errors.push(tree.mkdir(&new, true, None).await.unwrap_err());
    errors.push(tree.mkdir(&path("/host/ok.csv/x"), true, None).await.unwrap_err());
    for mode in [CreateMode::New, CreateMode::OrReplace] {
        errors.push(tree.create_node(node("/host/sub/new", mode), None).await.unwrap_err());
    }
    for (paths, recursive) in [(vec![ok.clone()], false), (vec![sub.clone()], true)] {
        errors.push(
            tree.drop_nodes(&paths, DropNodes { recursive, ..DropNodes::default() }, None)
                .await
                .unwrap_err(),
        );
    }
    errors.push(tree.rename(&ok, &path("/stolen"), None).await.unwrap_err());
    errors.push(tree.rename(&ok, &new, None).await.unwrap_err());
    let comment = AlterNode::Comment(Some("x".to_owned()));
    errors.push(tree.alter_node(&ok, comment, None).await.unwrap_err());
    tree.mkdir(&path("/mine"), false, None).await.unwrap();
    errors.push(tree.rename(&path("/mine"), &path("/host/mine"), None).await.unwrap_err());
    for error in &errors {
        assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error:?}");
        assert!(error.message().contains("hostmount") && error.message().contains("/host"));
    }

    // Through the object store.
    let (source, store) = mounted.source("/host/ok.csv").await.unwrap();
    let (at, to) = (source.object.location.clone(), Location::from("x/y/new.csv"));
    let mut errors = vec![
        store.put(&at, "x".into()).await.unwrap_err(),
        store.put(&to, "x".into()).await.unwrap_err(),
        store.put_multipart(&at).await.unwrap_err(),
        store.delete(&at).await.unwrap_err(),
        store.copy(&at, &to).await.unwrap_err(),
        store.copy_if_not_exists(&at, &to).await.unwrap_err(),
        store.rename(&at, &to).await.unwrap_err(),
        store.rename_if_not_exists(&at, &to).await.unwrap_err(),
    ];
    let all = futures::stream::iter([Ok(at.clone()), Ok(to)]).boxed();
    errors.extend(
        store.delete_stream(all).filter_map(|r| async { r.err() }).collect::<Vec<_>>().await,
    );
    assert_eq!(errors.len(), 10);
    for error in errors {
        let text = error.to_string();
        assert!(text.contains("the hostmount '/host' is read-only"), "{text}");
    }
    assert!(store.list(None).try_collect::<Vec<_>>().await.is_err());
    // Through the engine's own COPY, which keeps the reason to itself.
    let target = format!("{}out.csv", source.store_url.as_str());
    let copy = mounted.context.sql(&format!("COPY (SELECT 1) TO '{target}'")).await.unwrap();
    assert!(copy.collect().await.is_err());

    assert_eq!(fingerprint(dir.path()), before);
}

/// Opening a FIFO that nobody writes to waits for ever, so a listing or a read must not.
#[tokio::test(flavor = "multi_thread")]
async fn a_fifo_does_not_hold_anything_up() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = Mounted::new(&fixture(dir.path())).await;
    let start = Instant::now();
    for _ in 0..20 {
        assert!(mounted.cat("/host/fifo.csv").await.is_err());
        mounted.rows(ls("/host/fifo.csv"), "SELECT * FROM ls").await.unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}
