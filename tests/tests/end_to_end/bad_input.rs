//! What is refused, by exit code and message: requests, flags, settings, endpoints.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use kv_client::{Batch, Error, Limit};
use kv_tests::{Launch, Node, files, kvadmin};

fn small_limits(dir: &tempfile::TempDir) -> Node {
    Launch::new(&dir.path().join("data"))
        .setting("limits.key_bytes_max", 100)
        .setting("limits.value_bytes_max", 1_000)
        .setting("limits.batch_bytes_max", 1_500)
        .setting("limits.batch_ops_max", 10)
        .start()
}

/// Broken by: a limit that is not held, or a message that does not name the limit, its value and what was
/// given.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_a_limit_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let node = small_limits(&dir);
    let (value, key) = ("v".repeat(1_001), "k".repeat(101));
    let file = dir.path().join("file");
    files::write(&file, value.as_bytes());
    node.kvadmin(["put", "k", &value]).fails(1, &["value too large: 1001", "limit of 1000", "import"]);
    node.kvadmin(["put", "k", "--file", file.to_str().unwrap()]).fails(1, &["limit of 1000", "import"]);
    node.kvadmin(["put", &key, "v"]).fails(1, &["key too large: 101", "limit of 100"]);
    node.kvadmin(["get", &key]).fails(1, &["key too large: 101", "limit of 100"]);
    node.kvadmin(["delete", &key]).fails(1, &["key too large: 101", "limit of 100"]);
    node.kvadmin(["put", "", "v"]).fails(1, &["key must not be empty"]);

    let client = node.client();
    let bytes = Batch::new().put("a", vec![0; 800]).put("b", vec![0; 800]);
    let error = client.write(bytes).await.unwrap_err();
    assert_eq!(error, Error::TooLarge { limit: Limit::BatchBytes, max: 1_500, actual: 1_602 });
    let ops = (0..11).fold(Batch::new(), |batch, n| batch.delete(format!("{n}")));
    let error = client.write(ops).await.unwrap_err();
    assert_eq!(error, Error::TooLarge { limit: Limit::BatchOps, max: 10, actual: 11 });

    // Up to the limit, inclusive, it is taken; and of what was refused nothing is there.
    node.kvadmin(["put", &key[..100], &value[..1_000]]).expect(0);
    assert_eq!(node.kvadmin(["get", &key[..100]]).expect(0), value[..1_000]);
    let scan = node.kvadmin(["scan", "--keys-only", "-o", "json"]).expect(0);
    assert!(!scan.contains("\"YQ==\""), "half of a refused batch is there: {scan}");
}

/// Broken by: another exit code than the contract has, on which scripts rely.
#[test]
fn kvadmin_says_with_its_exit_code_what_was_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let node = small_limits(&dir);
    for key in ["p/1", "p/2"] {
        node.kvadmin(["put", key, "v"]).expect(0);
    }
    node.kvadmin(["shout"]).fails(2, &["unrecognized subcommand", "shout"]);
    node.kvadmin(["get", "k", "--lenght", "5"]).fails(2, &["--lenght", "--length"]);
    node.kvadmin(["--timeout", "0", "get", "k"]).fails(2, &["--timeout", "seconds above 0"]);
    node.kvadmin(["get", r"bad\escape"]).fails(2, &[r"\xNN"]);
    node.kvadmin(["get", "absent"]).fails(4, &["no such key: absent"]);
    node.kvadmin(["delete", "--prefix", "p/"]).fails(5, &["2 keys begin with 'p/'", "--yes"]);
    assert_eq!(node.kvadmin(["get", "p/1"]).expect(0), "v", "refused, and done all the same");
    node.kvadmin(["delete", "--prefix", "p/", "--yes"]).expect(0);
    node.kvadmin(["get", "p/1"]).fails(4, &["no such key"]);
    kvadmin("no-port", ["get", "k"]).fails(2, &["HOST:PORT"]);
}

/// Broken by: waiting for ever, or taking a stranger for a node.
#[test]
fn an_endpoint_that_is_no_node_is_unreachable() {
    let dir = tempfile::tempdir().unwrap();
    let node = small_limits(&dir);
    kvadmin(&node.http, ["get", "k"]).fails(7, &[&node.http, "is no kvnode"]);
    kvadmin(&node.http, ["import", "."]).fails(7, &[&node.http, "is no kvnode"]);
    // Accepts, and says nothing: the queue of a listener does that much.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    kvadmin(&silent, ["--timeout", "1", "get", "k"]).fails(7, &[&silent]);
    // Nobody binds to this address, so the port stays closed.
    let closed = "127.99.99.99:9";
    for args in [vec!["get", "k"], vec!["put", "k", "v"], vec!["cluster", "status"], vec!["bench", "--ops=1"]]
    {
        let args = ["--timeout", "1"].into_iter().chain(args);
        kvadmin(closed, args).fails(7, &["cannot reach", closed]);
    }
    // One that is a node is enough.
    let both = format!("{closed},{}", node.listen);
    kvadmin(&both, ["put", "k", "v"]).expect(0);
}

/// Broken by: a node that a stranger can stop, or make hold on to a connection that speaks no sense.
#[test]
fn a_stranger_is_turned_away_and_the_node_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let node = small_limits(&dir);
    for words in [&b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"[..], &[0xff; 4_096], &[0; 4_096]] {
        let mut stranger = TcpStream::connect(&node.listen).unwrap();
        // It may be turned away before it has said everything.
        let _ = stranger.write_all(words);
        let _ = stranger.read_to_end(&mut Vec::new());
    }
    node.kvadmin(["put", "k", "v"]).expect(0);
    node.terminate().expect(0);
}

/// Broken by: a node that starts on settings other than those it was given.
#[test]
fn kvnode_refuses_wrong_flags_and_settings() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let launch = || Launch::new(&data);
    launch().arg("--lissen=127.0.0.1:0").run().fails(2, &["--lissen"]);
    launch().arg("--node-id=0").run().fails(2, &["node_id", "--node-id", "out of range"]);
    launch().setting("engine.colour", "red").run().fails(2, &["KVNODE_ENGINE_COLOUR", "unknown setting"]);
    let malformed = dir.path().join("malformed.toml");
    files::write(&malformed, b"node_id = 1\nlog_level = \"info\n");
    launch().arg("--config").arg(&malformed).run().fails(2, &["malformed.toml:2"]);
    let unknown = dir.path().join("unknown.toml");
    files::write(&unknown, b"node_id = 1\n[limits]\nvalue_bytes = 5\n");
    launch().arg("--config").arg(&unknown).run().fails(2, &["unknown.toml:3", "limits.value_bytes"]);
    launch().arg("--config=none.toml").run().fails(2, &["none.toml", "No such file"]);
    launch().listen("0.0.0.0:0").run().fails(2, &["0.0.0.0:0", "plaintext", "--insecure-plaintext"]);
    launch().arg("--initial-cluster=1=127.0.0.1:1,2=127.0.0.1:2").run().fails(2, &["initial_cluster"]);
    launch().arg("--join=127.0.0.1:1").run().fails(2, &["join"]);
    assert!(!files::names(dir.path()).contains(&"data".into()), "a refused node made its directory");
}
