//! What can be mounted, and what is said of a directory that is gone.

use pond::factory::{Config, CreateContext, Factory, hostmount::Hostmount};
use pond::pond::Pond;
use pond::tree::Tree;
use pond::{ErrorKind, Result};

use super::{Mounted, ls, mount};
use crate::oplog::FAST;

async fn prepare(directory: &str, cx: &CreateContext) -> Result<String> {
    let given = [("directory".to_owned(), directory.into())];
    let config = Hostmount.prepare(Config::validate(&Hostmount, given)?, cx).await?;
    let (_, value) = config.iter().next().unwrap();
    Ok(value.as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_relative_directory_becomes_absolute_or_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    let shell = CreateContext { base_dir: Some(dir.path().to_owned()), ..Default::default() };
    let expected = dir.path().join("data").display().to_string();
    for given in ["data", "./data", "data/", &expected] {
        assert_eq!(prepare(given, &shell).await.unwrap(), expected);
    }
    let error = prepare("data", &CreateContext::default()).await.unwrap_err();
    assert_eq!(error.message(), "the host directory 'data' is not an absolute path");
    assert!(error.hint().unwrap().contains("give the whole path"));
}

#[tokio::test]
async fn what_is_no_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sensors")).unwrap();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    let cx = CreateContext { base_dir: Some(dir.path().to_owned()), ..Default::default() };
    let error = prepare("sensor", &cx).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let near = dir.path().join("sensors").display().to_string();
    assert_eq!(
        error.hint().unwrap().trim_end_matches("/'?"),
        format!("did you mean '{near}").trim_end_matches("/'?")
    );
    assert_eq!(prepare("file", &cx).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(prepare("", &cx).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(prepare("a\0b", &cx).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_pond_does_not_mount_itself() {
    let dir = tempfile::tempdir().unwrap();
    let pond = dir.path().join("pond");
    std::fs::create_dir(dir.path().join("beside")).unwrap();
    let tree = Tree::new(Pond::init(&pond, FAST).await.unwrap());
    std::os::unix::fs::symlink(&pond, dir.path().join("link")).unwrap();
    for (given, reason) in [
        ("pond", "is the pond's own directory"),
        ("link", "is the pond's own directory"),
        ("beside/../pond", "is the pond's own directory"),
        ("pond/oplog", "is inside the pond's own directory"),
        ("link/oplog/_delta_log", "is inside the pond's own directory"),
    ] {
        let error = mount(&tree, "/self", &dir.path().join(given)).await.unwrap_err();
        assert!(error.message().contains(reason), "{given}: {error}");
    }
    // A project that holds its pond is the most natural thing to mount.
    mount(&tree, "/project", dir.path()).await.unwrap();
    mount(&tree, "/beside", &dir.path().join("beside")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_vanished_is_listed_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mounted = Mounted::new(&data).await;
    mount(&mounted.tree, "/other", dir.path()).await.unwrap();
    std::fs::remove_dir(&data).unwrap();
    let error = mounted.node("/host").await.unwrap_err();
    let expected = format!("'/host': the host directory '{}' does not exist", data.display());
    assert_eq!(error.message(), expected);
    // The older root of `mounted` does not know `/other`.
    let root = mounted.tree.root(mounted.tree.snapshot().await.unwrap());
    let mounted = Mounted { root, ..mounted };
    assert_eq!(mounted.paths(ls("/")).await.unwrap(), ["/host", "/other"]);
    let rows = mounted.rows(ls("/"), "SELECT path, error LIKE '%does not exist%' FROM ls").await;
    assert_eq!(rows.unwrap(), ["/host|true", "/other|NULL"]);
    // It comes back when the directory does.
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("x"), "").unwrap();
    assert_eq!(mounted.paths(ls("/host")).await.unwrap(), ["/host/x"]);
}
