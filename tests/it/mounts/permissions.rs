//! S7: what may not be read is visible, with the reason, and hides nothing beside it.
//!
//! Mode bits mean nothing to root, so as root the test runs itself again as an ordinary user.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

use pond::ErrorKind;

use super::{Mounted, ls, ls_all};

const NOBODY: u32 = 65534;
const TREE: &str = "POND_TEST_UNREADABLE_TREE";

fn fixture(root: &Path) {
    for sub in ["open/in", "locked/in", "no_enter"] {
        std::fs::create_dir_all(root.join(sub)).unwrap();
    }
    for file in ["open/in/a.csv", "open/b.csv", "locked/in/c.csv", "no_enter/d.csv", "secret.csv"] {
        std::fs::write(root.join(file), "x\n1\n").unwrap();
    }
    let chmod = |name: &str, mode| {
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    chmod("secret.csv", 0o000);
    chmod("locked", 0o000);
    // Its names can be read, but nothing about them.
    chmod("no_enter", 0o444);
    chmod("", 0o755);
}

async fn check(root: &Path) {
    let mounted = Mounted::new(root).await;
    let query = "SELECT path, entry_type, size IS NULL, error FROM ls";
    let denied = "permission denied";
    let expected = [
        "/host/locked|directory|false|permission denied".to_owned(),
        "/host/no_enter/d.csv|file:data|true|permission denied".to_owned(),
        "/host/no_enter|directory|false|NULL".to_owned(),
        "/host/open/b.csv|file:data|false|NULL".to_owned(),
        "/host/open/in/a.csv|file:data|false|NULL".to_owned(),
        "/host/open/in|directory|false|NULL".to_owned(),
        "/host/open|directory|false|NULL".to_owned(),
        "/host/secret.csv|file:data|false|permission denied".to_owned(),
    ];
    assert_eq!(mounted.rows(ls_all("/host"), query).await.unwrap(), expected);
    assert_eq!(mounted.rows(ls_all("/host/**"), query).await.unwrap(), expected);
    // Names come without leave to look at them, and whatever the columns, siblings are listed.
    assert_eq!(mounted.paths(ls_all("/host")).await.unwrap().len(), expected.len());
    assert_eq!(mounted.rows(ls_all("/"), "SELECT count(*) FROM ls").await.unwrap(), ["9"]);
    let csv = "SELECT path, size FROM ls WHERE name LIKE '%.csv'";
    assert_eq!(mounted.rows(ls_all("/host"), csv).await.unwrap().len(), 4);

    // What is asked for itself is an error that names it.
    for path in ["/host/locked", "/host/locked/**"] {
        let error = mounted.paths(ls(path)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{path}: {error:?}");
        assert!(error.to_string().contains("'/host/locked'"), "{error}");
    }
    for error in [
        mounted.cat("/host/secret.csv").await.unwrap_err(),
        mounted.source("/host/secret.csv").await.map(|_| ()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
        assert!(error.message().contains("'/host/secret.csv'"), "{error}");
    }
    let rows = mounted.rows(ls("/host/secret.csv"), "SELECT size, error FROM ls").await.unwrap();
    assert_eq!(rows, [format!("4|{denied}")]);
    assert_eq!(mounted.cat("/host/open/b.csv").await.unwrap(), b"x\n1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_is_visible_with_the_reason() {
    if let Some(root) = std::env::var_os(TREE) {
        check(Path::new(&root)).await;
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    if !rustix::process::getuid().is_root() {
        fixture(&root);
        check(&root).await;
        return;
    }
    // Where the binary is, the other user may not reach it.
    let binary = dir.path().join("it");
    let this = std::env::current_exe().unwrap();
    if std::fs::hard_link(&this, &binary).is_err() {
        std::fs::copy(&this, &binary).unwrap();
    }
    fixture(&root);
    std::os::unix::fs::lchown(root.join("locked"), Some(NOBODY), Some(NOBODY)).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = std::process::Command::new(&binary)
        .args(["--exact", "mounts::permissions::what_may_not_be_read_is_visible_with_the_reason"])
        .current_dir("/")
        .env(TREE, &root)
        .env("TMPDIR", "/tmp")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
