//! S5: whatever a file is called, it is listed, and readable by the listed path.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use object_store::ObjectStoreExt;
use pond::path::{escape_name, unescape_name};

use super::{Mounted, ls, ls_all};

fn names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = (1..=255u8)
        .filter(|byte| *byte != b'/')
        .flat_map(|byte| {
            [vec![byte, b'.', b'c', b's', b'v'], vec![b'x', byte, b'.', b'c', b's', b'v']]
        })
        .collect();
    for text in [
        "a#1.csv",
        "a#12.csv",
        "%2F.csv",
        "%2e%2e.csv",
        "a%20b.csv",
        "line\nbreak.csv",
        "tab\t.csv",
        "\u{e9}.csv",
        "e\u{301}.csv",
        "a.csv",
        "A.csv",
        "a .csv",
        " .csv",
        "..csv",
        "...",
        "-rf.csv",
        "--.csv",
        "*.csv",
        "?.csv",
        "[a].csv",
        "{a,b}.csv",
        "**.csv",
        "$(x).csv",
        "'q'.csv",
        "\"q\".csv",
        r"\x41.csv",
        r"\xff.csv",
        r"\x5cx41.csv",
        r"\.csv",
        r"\\.csv",
        r"a\b.csv",
        "日本語.csv",
        "👩‍🔬.csv",
        "a@v12.csv",
        "~.csv",
        "a:b.csv",
        "a;b.csv",
        "COM1.csv",
    ] {
        names.push(text.as_bytes().to_vec());
    }
    for bytes in [&b"\xff\xfe.csv"[..], b"caf\xe9.csv", b"\xf0\x9f\x92.csv", b"\x80\\x80.csv"] {
        names.push(bytes.to_vec());
    }
    names.push([vec![b'l'; 251], b".csv".to_vec()].concat());
    names.push([vec![0xfe; 251], b".csv".to_vec()].concat());
    names.sort();
    names.dedup();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_is_listed_and_readable_by_the_listed_path() {
    let dir = tempfile::tempdir().unwrap();
    let names = names();
    let mut contents = BTreeMap::new();
    for (number, name) in names.iter().enumerate() {
        let content = format!("number\n{number}\n");
        std::fs::write(dir.path().join(OsStr::from_bytes(name)), &content).unwrap();
        assert!(contents.insert(format!("/host/{}", escape_name(name)), content).is_none());
    }
    let mounted = Mounted::new(dir.path()).await;
    let listed = mounted.paths(ls_all("/host")).await.unwrap();
    let expected: Vec<String> = contents.keys().cloned().collect();
    assert_eq!(listed, expected);
    let mut locations = BTreeMap::new();
    for (path, content) in &contents {
        assert_eq!(mounted.cat(path).await.unwrap(), content.as_bytes(), "{path}");
        let name = path.strip_prefix("/host/").unwrap();
        assert!(names.contains(&unescape_name(name).unwrap()));
        let rows = mounted.rows(ls(path), "SELECT path, name, size FROM ls").await.unwrap();
        assert_eq!(rows, [format!("{path}|{name}|{}", content.len())]);
        if name.ends_with(".csv") {
            let (source, store) = mounted.source(path).await.unwrap();
            let location = source.object.location;
            let bytes = store.get(&location).await.unwrap().bytes().await.unwrap();
            assert_eq!(bytes, content.as_bytes(), "{path}");
            assert_eq!(locations.insert(location, path), None);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_escaped_in_directories_too() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join(OsStr::from_bytes(b"d\xff")).join(OsStr::from_bytes(b"\\x64"));
    std::fs::create_dir_all(&below).unwrap();
    std::fs::write(below.join(OsStr::from_bytes(b"f\xff.csv")), "x\n1\n").unwrap();
    let mounted = Mounted::new(dir.path()).await;
    let path = r"/host/d\xff/\x5cx64/f\xff.csv";
    let expected = [r"/host/d\xff", r"/host/d\xff/\x5cx64", path];
    assert_eq!(mounted.paths(ls_all("/host")).await.unwrap(), expected);
    assert_eq!(mounted.cat(path).await.unwrap(), b"x\n1\n");
    let (source, store) = mounted.source(path).await.unwrap();
    assert_eq!(store.get(&source.object.location).await.unwrap().bytes().await.unwrap(), "x\n1\n");
    // One file has one name.
    for other in [r"/host/d\xFF", r"/host/d\xff/\x64", r"/host/d\xff/\x5cx64/\x66\xff.csv"] {
        assert!(mounted.node(other).await.is_err(), "{other}");
    }
}
