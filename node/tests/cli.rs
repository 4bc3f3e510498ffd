//! The daemon as scripts see it: exit codes, messages, the `ready` line.
#![expect(clippy::disallowed_methods, reason = "tests lay out files as an operator would")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The program, without whatever settings the developer's environment holds, in a directory of its own.
fn kvnode(dir: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvnode"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KVNODE_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.current_dir(dir.path());
    command
}

fn temporary() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn run(dir: &TempDir, args: &[&str]) -> Output {
    kvnode(dir).args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The program fails with this code and exactly this line.
#[track_caller]
fn fails(dir: &TempDir, args: &[&str], code: i32, message: &str) {
    let output = run(dir, args);
    assert_eq!(stderr(&output), format!("kvnode: {message}\n"));
    assert_eq!(output.status.code(), Some(code));
    assert_eq!(stdout(&output), "");
}

/// A node that has said it is ready; killed when dropped.
struct Node {
    child: Child,
    ready: String,
}

impl Node {
    fn start(dir: &TempDir, args: &[&str]) -> Self {
        let mut command = kvnode(dir);
        command.args(["--listen=127.0.0.1:0", "--http=127.0.0.1:0"]).args(args);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        Self { child, ready }
    }

    fn field(&self, name: &str) -> &str {
        let fields = self.ready.trim_end().split(' ').filter_map(|field| field.split_once('='));
        fields.into_iter().find(|(key, _)| *key == name).unwrap().1
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.field("http")).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn help_and_version_succeed() {
    let dir = temporary();
    let help = run(&dir, &["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(stdout(&help).contains("--initial-cluster <ID=HOST:PORT,...>"), "{}", stdout(&help));
    let version = run(&dir, &["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(stdout(&version), concat!("kvnode ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn an_unknown_flag_is_a_usage_error() {
    let output = run(&temporary(), &["--listn=127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("'--listn'"), "{}", stderr(&output));
    assert!(stderr(&output).contains("'--listen'"), "{}", stderr(&output));
}

#[test]
fn a_wrong_configuration_is_named_by_file_line_and_key() {
    let dir = temporary();
    let file = |text: &str| std::fs::write(dir.path().join("kvnode.toml"), text).unwrap();
    let args = ["--config", "kvnode.toml", "--check-config"];
    file("node_id = 1\nlisten = [\n");
    let malformed = run(&dir, &args);
    assert_eq!(malformed.status.code(), Some(2));
    assert!(stderr(&malformed).starts_with("kvnode: kvnode.toml:"), "{}", stderr(&malformed));
    assert_eq!(stderr(&malformed).lines().count(), 1);
    file("node_id = 1\n[engine]\ncompresion = true\n");
    let unknown = r#"kvnode.toml:3: unknown setting "engine.compresion"; did you mean engine.compression?"#;
    fails(&dir, &args, 2, unknown);
    file("node_id = 'one'\n");
    let wrong_type = r#"kvnode.toml:1: node_id: expected a whole number, found the string "one""#;
    fails(&dir, &args, 2, wrong_type);
    let missing = "cannot read the configuration file none.toml: No such file or directory (os error 2)";
    fails(&dir, &["--config=none.toml"], 2, missing);
}

#[test]
fn a_wrong_variable_is_named() {
    let output = kvnode(&temporary()).env("KVNODE_LISTN", "x").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = "kvnode: environment KVNODE_LISTN: unknown setting; did you mean KVNODE_LISTEN?\n";
    assert_eq!(stderr(&output), message);
}

#[test]
fn plaintext_off_loopback_is_refused_before_anything_is_touched() {
    let dir = temporary();
    let message = "listen (flag --listen): 0.0.0.0:7400 can be reached from other machines, and this version \
                   speaks plaintext only: bind to loopback (127.0.0.1:7400), or pass --insecure-plaintext to let \
                   everyone on that network in";
    fails(&dir, &["--listen=0.0.0.0:7400"], 2, message);
    fails(&dir, &["--listen=0.0.0.0:7400", "--check-config"], 2, message);
    assert!(!dir.path().join("kvnode-data").exists());
}

#[test]
fn a_valid_configuration_passes_the_check() {
    let dir = temporary();
    let output = run(&dir, &["--check-config", "--listen=0.0.0.0:7400", "--insecure-plaintext"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    assert_eq!(stdout(&output), "configuration is valid\n");
    assert!(!dir.path().join("kvnode-data").exists());
}

#[test]
fn a_printed_configuration_names_its_sources_and_is_one_itself() {
    let dir = temporary();
    std::fs::write(dir.path().join("a.toml"), "log_level = 'warn'\n[raft]\nheartbeat_ms = 99\n").unwrap();
    let output = kvnode(&dir)
        .args(["--config=a.toml", "--print-config", "--node-id=7"])
        .env("KVNODE_ENGINE_GROUP_BYTES_MAX", "8 MB")
        .output()
        .unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    let printed = stdout(&output);
    for line in [
        "node_id = 7  # flag --node-id",
        r#"log_level = "warn"  # file a.toml"#,
        "heartbeat_ms = 99  # file a.toml",
        "group_bytes_max = 8000000  # environment KVNODE_ENGINE_GROUP_BYTES_MAX",
        r#"listen = "127.0.0.1:7400"  # default"#,
    ] {
        assert!(printed.lines().any(|other| other == line), "{line}\nis not in\n{printed}");
    }
    std::fs::write(dir.path().join("b.toml"), &printed).unwrap();
    let again = stdout(&run(&dir, &["--config=b.toml", "--print-config"]));
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  #").next().unwrap().to_owned()).collect()
    };
    assert_eq!(values(&again), values(&printed));
}

#[test]
fn an_invalid_configuration_is_printed_all_the_same() {
    let output = run(&temporary(), &["--print-config", "--listen=0.0.0.0:7400"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stdout(&output).contains("listen = \"0.0.0.0:7400\"  # flag --listen"));
    assert!(stderr(&output).starts_with("kvnode: listen (flag --listen): "));
}

#[test]
fn a_data_directory_open_to_others_is_refused() {
    let dir = temporary();
    let path = dir.path().join("data");
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let message = "data directory data has permissions 0755, open to other users; run: chmod 700 data";
    fails(&dir, &["--data-dir=data", "--listen=127.0.0.1:0", "--http=127.0.0.1:0"], 1, message);
}

#[test]
fn foreign_and_damaged_directories_are_told_apart() {
    let dir = temporary();
    let lay = |name: &str, file: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::write(path.join(file), "").unwrap();
    };
    lay("foreign", "photo.jpg");
    lay("damaged", "00000001.seg");
    let foreign = "foreign holds files that are not kvnode's (photo.jpg); name an empty or a new directory with \
                   --data-dir";
    fails(&dir, &["--data-dir=foreign"], 1, foreign);
    let damaged = "data directory damaged is damaged: it holds 00000001.seg but no CURRENT; nothing was changed; \
                   restore CURRENT or the whole directory from a backup";
    fails(&dir, &["--data-dir=damaged"], 6, damaged);
}

#[test]
fn a_node_says_it_is_ready_answers_and_stops_when_told() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = temporary();
        let mut node = Node::start(&dir, &["--node-id=3"]);
        assert_eq!(node.field("node"), "3");
        assert!(node.ready.starts_with("ready node=3 listen=127.0.0.1:"), "{}", node.ready);
        assert!(!node.field("listen").ends_with(":0") && !node.field("http").ends_with(":0"));
        let live = node.get("/livez");
        assert!(live.starts_with("HTTP/1.1 200 "), "{live}");
        assert_eq!(mode(&dir.path().join("kvnode-data")), 0o700);
        node.signal(signal);
        assert_eq!(node.exit_code(), Some(0));
    }
}

#[test]
fn a_second_signal_does_not_wait_for_anybody() {
    let dir = temporary();
    let mut node = Node::start(&dir, &[]);
    let mut slow = TcpStream::connect(node.field("http")).unwrap();
    slow.write_all(b"GET /li").unwrap();
    node.get("/livez");
    let mut log = BufReader::new(node.child.stderr.take().unwrap()).lines().map(Result::unwrap);
    node.signal(Signal::TERM);
    assert!(log.any(|line| line.contains("stopping")));
    node.signal(Signal::TERM);
    assert!(log.any(|line| line.contains("ending at once")));
    assert_eq!(node.exit_code(), Some(1));
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_second_process_on_the_same_directory_is_told_who_has_it() {
    let dir = temporary();
    let first = Node::start(&dir, &[]);
    let second = run(&dir, &["--listen=127.0.0.1:0", "--http=127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(1));
    let holder = format!("kvnode: data directory kvnode-data is in use by pid {} ", first.child.id());
    assert!(stderr(&second).contains(&holder), "{}", stderr(&second));
    assert!(first.get("/livez").starts_with("HTTP/1.1 200 "), "the first goes on");
    drop(first);
    Node::start(&dir, &[]).get("/livez");
}

#[test]
fn a_port_in_use_is_refused_by_name() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let http = format!("--http={}", taken.local_addr().unwrap());
    let output = run(&temporary(), &["--listen=127.0.0.1:0", &http]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).ends_with("choose another address with --http\n"), "{}", stderr(&output));
}

#[test]
fn a_filter_that_makes_no_sense_is_a_configuration_error() {
    let output = kvnode(&temporary()).env("RUST_LOG", "kvnode=loud").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with("kvnode: environment RUST_LOG: "), "{}", stderr(&output));
}

#[test]
fn a_directory_with_levels_of_another_shape_is_refused_until_that_is_accepted() {
    let dir = temporary();
    let start = |multiplier: &str, accept: &str| {
        let mut command = kvnode(&dir);
        command.args(["--listen=127.0.0.1:0", "--http=127.0.0.1:0"]);
        command.env("KVNODE_ENGINE_LEVEL_MULTIPLIER", multiplier);
        command.env("KVNODE_ENGINE_ACCEPT_LEVEL_OPTIONS", accept);
        Node::spawn(command)
    };
    let stop = |mut node: Node| {
        node.signal(Signal::TERM);
        assert_eq!(node.exit_code(), Some(0));
    };
    stop(start("10", "false"));
    let mut refused = start("4", "false");
    assert_eq!((refused.exit_code(), refused.ready.as_str()), (Some(1), ""));
    let mut said = String::new();
    refused.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let why = "made with level_multiplier = 10, and is opened with 4: open it with 10, or with accept_level_options";
    assert!(said.contains(why), "{said}");
    stop(start("4", "true"));
    stop(start("4", "false"));
}
