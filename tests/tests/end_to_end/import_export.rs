//! A tree of files goes in, through a kill, and comes out as it was.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use kv_tests::{Launch, Process, files, kvadmin_command, seed};
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};

const VALUE_BYTES_MAX: usize = 1 << 20;
const MANY: usize = 300;

fn random(rng: &mut StdRng, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    rng.fill_bytes(&mut content);
    content
}

fn make_tree(root: &Path, rng: &mut StdRng) {
    for number in 0..MANY {
        let length = rng.random_range(0..64 << 10);
        files::write(&root.join(format!("many/{number:04}")), &random(rng, length));
    }
    let lengths = [0, 1, VALUE_BYTES_MAX, VALUE_BYTES_MAX + 1, 7 * VALUE_BYTES_MAX / 2];
    for length in lengths {
        files::write(&root.join(format!("length/{length}")), &random(rng, length));
    }
    let odd: [&[u8]; 8] = [
        b"two words",
        b" ends with a space ",
        b"two\nlines\n",
        b"caf\xe9 and \xff\xfe",
        b"back\\slash \\x00",
        b"a/b/c/d/e/deep",
        b"a.b/c",
        b"-o",
    ];
    for name in odd {
        files::write(&root.join(OsStr::from_bytes(name)), name);
    }
    // Would be taken for the header of a file in parts, were it stored as it is.
    files::write(&root.join("header"), b"KVPARTS1 of something else");
    files::make_dir(&root.join("nothing"), 0o755);
    files::make_link("header", &root.join("a link"));
    files::make_pipe(&root.join("pipe\n"));
}

/// Broken by: a name or a content that changes on the way, an import that gives up while the node restarts,
/// a part that is lost or left over, something skipped in silence.
#[tokio::test(flavor = "multi_thread")]
async fn a_tree_survives_import_kills_and_export() {
    let mut rng = StdRng::seed_from_u64(seed());
    let dir = tempfile::tempdir().unwrap();
    let (data, from, to) = (dir.path().join("data"), dir.path().join("from"), dir.path().join("to"));
    make_tree(&from, &mut rng);
    // An address that nobody else uses, so that its port is still free for the restart.
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let launch =
        |listen: &str| Launch::new(&data).setting("limits.value_bytes_max", VALUE_BYTES_MAX).listen(listen);
    let node = launch(&format!("127.73.{high}.{low}:0")).start();
    let address = node.listen.clone();

    let mut import = kvadmin_command(&address);
    import.args(["import", "--prefix=tree/", "--concurrency=4"]).arg(&from);
    let mut import = Process::spawn(&mut import);
    let client = node.client();
    let some = format!("tree/many/{:04}", MANY / 4);
    while client.get(some.clone()).await.unwrap().is_none() {
        assert!(import.is_running(), "{}", import.stderr());
    }
    node.kill();
    assert!(import.is_running(), "too fast to be met by the kill: {}", import.stderr());
    let node = launch(&address).start();
    let imported = import.wait();
    assert_eq!(imported.code, Some(0), "{}", imported.stderr);
    for named in [
        "a link: skipped: symbolic link",
        "nothing: skipped: empty directory",
        r"pipe\x0a: skipped: pipe, socket or device",
    ] {
        assert!(imported.stderr.contains(named), "{named:?}: {}", imported.stderr);
    }
    node.kill();

    let node = launch(&address).start();
    node.kvadmin(["export".as_ref(), "--prefix=tree/".as_ref(), to.as_os_str()]).expect(0);
    let mut expected = files::tree(&from);
    expected.retain(|_, content| content.is_some());
    let found = files::tree(&to);
    let names = |tree: &std::collections::BTreeMap<_, _>| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected));
    for (name, content) in &expected {
        assert!(found.get(name) == Some(content), "{}: its content has changed", name.display());
    }
    node.terminate().expect(0);
}
