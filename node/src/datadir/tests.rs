//! Every rule, on every file system there is.

use std::os::unix::fs::PermissionsExt;

use kv_vfs::{IoMode, MemVfs, RealVfs, Survival};

use super::*;

fn holder() -> Holder {
    Holder { pid: 4711, listen: "127.0.0.1:7400".into(), since_unix_ms: 1_790_000_000_000 }
}

fn open_dir(vfs: &dyn Vfs, path: &Path) -> Result<DataDir, DataDirError> {
    DataDir::open(vfs, path, &holder())
}

fn refusal(vfs: &dyn Vfs, path: &Path) -> String {
    open_dir(vfs, path).unwrap_err().to_string()
}

/// A directory of ours with these empty files in it.
fn with_files(vfs: &dyn Vfs, path: &Path, names: &[&str]) {
    vfs.create_dir_all(path).unwrap();
    for name in names {
        vfs.create(&path.join(name), IoMode::Buffered).unwrap();
    }
}

/// Runs a test on each kind of file system, with a directory to work in.
fn everywhere(test: impl Fn(&dyn Vfs, &Path)) {
    let real = tempfile::tempdir().unwrap();
    test(&RealVfs, real.path());
    test(&MemVfs::new(), Path::new("/"));
}

#[test]
fn a_missing_directory_is_made_private_with_those_above_it() {
    everywhere(|vfs, root| {
        let path = root.join("a/b/data");
        let dir = open_dir(vfs, &path).unwrap();
        assert_eq!(dir.path(), path);
        assert!(dir.is_new());
        assert_eq!(vfs.permissions(&path).unwrap(), 0o700);
        drop(dir);
        assert!(open_dir(vfs, &path).unwrap().is_new(), "a lock file alone is nothing");
    });
}

#[test]
fn a_directory_that_was_made_outlives_a_crash() {
    let vfs = MemVfs::new();
    let path = Path::new("/a/b/data");
    drop(open_dir(&vfs, path).unwrap());
    assert!(vfs.crash_clone(&Survival::Synced).exists(path).unwrap());
}

#[test]
fn a_directory_with_current_is_ours_whatever_else_is_in_it() {
    everywhere(|vfs, root| {
        let path = root.join("data");
        with_files(vfs, &path, &["CURRENT", "MANIFEST-000012", "00000007.seg", "00000008.sst", "notes.txt"]);
        assert!(!open_dir(vfs, &path).unwrap().is_new());
    });
}

#[test]
fn a_second_process_is_told_who_has_it() {
    everywhere(|vfs, root| {
        let path = root.join("data");
        let first = open_dir(vfs, &path).unwrap();
        assert_eq!(
            refusal(vfs, &path),
            format!(
                "data directory {} is in use by pid 4711 listening on 127.0.0.1:7400 since 2026-09-21T14:13:20Z: \
                 stop that process, or give this node a directory of its own with --data-dir",
                path.display()
            )
        );
        drop(first);
        open_dir(vfs, &path).unwrap();
    });
}

#[test]
fn the_lock_is_asked_before_a_lost_current_is_missed() {
    everywhere(|vfs, root| {
        let path = root.join("data");
        let _making_its_first_files = open_dir(vfs, &path).unwrap();
        with_files(vfs, &path, &["MANIFEST-000002"]);
        assert!(refusal(vfs, &path).contains("is in use by pid 4711"));
    });
}

#[test]
fn foreign_files_are_named_and_left_alone() {
    everywhere(|vfs, root| {
        let path = root.join("photos");
        with_files(vfs, &path, &["a.jpg", "b.jpg", "c.jpg", "d.jpg"]);
        assert_eq!(
            refusal(vfs, &path),
            format!(
                "{} holds files that are not kvnode's (a.jpg, b.jpg, c.jpg and 1 more); name an empty or a new \
                 directory with --data-dir",
                path.display()
            )
        );
        assert_eq!(vfs.list(&path).unwrap().len(), 4, "not even a lock file");
        let path = root.join("volume");
        vfs.create_dir_all(&path.join("lost+found")).unwrap();
        assert!(refusal(vfs, &path).contains("(lost+found)"));
    });
}

#[test]
fn our_files_without_current_are_damage() {
    for name in ["00000007.seg", "00000007.sst", "MANIFEST-000002"] {
        everywhere(|vfs, root| {
            let path = root.join("data");
            with_files(vfs, &path, &["MANIFEST-000001", name, "notes.txt"]);
            let e = open_dir(vfs, &path).unwrap_err();
            assert!(matches!(&e, DataDirError::Damaged { found, .. } if found == name), "{e}");
            assert_eq!(
                e.to_string(),
                format!(
                    "data directory {} is damaged: it holds {name} but no CURRENT; nothing was changed; restore \
                     CURRENT or the whole directory from a backup",
                    path.display()
                )
            );
        });
    }
}

#[test]
fn what_a_crash_in_the_making_leaves_is_no_damage() {
    everywhere(|vfs, root| {
        let path = root.join("data");
        with_files(vfs, &path, &["MANIFEST-000001", "CURRENT.tmp", "LOCK"]);
        assert!(open_dir(vfs, &path).unwrap().is_new());
    });
}

#[test]
fn a_directory_open_to_others_is_refused_with_the_remedy() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("data");
    let vfs = RealVfs;
    vfs.create_dir_all(&path).unwrap();
    for (mode, shown) in [(0o750, "0750"), (0o701, "0701"), (0o777, "0777")] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        assert_eq!(
            refusal(&vfs, &path),
            format!(
                "data directory {0} has permissions {shown}, open to other users; run: chmod 700 {0}",
                path.display()
            )
        );
    }
    assert!(vfs.list(&path).unwrap().is_empty());
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
    open_dir(&vfs, &path).unwrap();
}

#[test]
fn nobody_is_told_to_close_a_directory_of_others() {
    let root = tempfile::tempdir().unwrap();
    let vfs = RealVfs;
    vfs.create(&root.path().join("passwd"), IoMode::Buffered).unwrap();
    std::fs::set_permissions(root.path(), PermissionsExt::from_mode(0o755)).unwrap();
    assert!(refusal(&vfs, root.path()).contains("not kvnode's (passwd)"));
}

#[test]
fn a_file_is_no_directory() {
    everywhere(|vfs, root| {
        let path = root.join("file");
        vfs.create(&path, IoMode::Buffered).unwrap();
        assert_eq!(
            refusal(vfs, &path),
            format!("{} is not a directory; name another with --data-dir", path.display())
        );
    });
}

#[test]
fn exit_codes_follow_the_contract() {
    use crate::exit::{Code, Failure};
    everywhere(|vfs, root| {
        with_files(vfs, &root.join("damaged"), &["00000007.seg"]);
        with_files(vfs, &root.join("foreign"), &["x"]);
        let code = |name| Failure::from(open_dir(vfs, &root.join(name)).unwrap_err()).code;
        assert_eq!(code("damaged"), Code::Damaged);
        assert_eq!(code("foreign"), Code::Refused);
    });
}
