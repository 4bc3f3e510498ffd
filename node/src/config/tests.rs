//! Layering, sources and every complaint.

use std::collections::BTreeMap;

use super::*;

/// Loads from a file's text, variables and flags, without touching the process.
fn try_load(file: &str, env: &[(&str, &str)], flags: &[&str]) -> Result<Loaded, ConfigError> {
    let args = Args::parse(std::iter::once(&"kvnode").chain(flags)).unwrap();
    let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    layer(&args, env, Some(&ConfigFile::in_memory("kvnode.toml", file)))
}

fn loaded(file: &str, env: &[(&str, &str)], flags: &[&str]) -> Loaded {
    try_load(file, env, flags).unwrap()
}

/// What loading or validating complains of.
fn complaint(file: &str, env: &[(&str, &str)], flags: &[&str]) -> String {
    match try_load(file, env, flags) {
        Ok(loaded) => loaded.validate().unwrap_err().to_string(),
        Err(e) => e.to_string(),
    }
}

fn in_file(text: &str) -> String {
    complaint(text, &[], &[])
}

fn with_flags(flags: &[&str]) -> String {
    complaint("", &[], flags)
}

#[test]
fn nothing_given_gives_the_defaults() {
    let loaded = loaded("", &[("PATH", "/bin"), ("KVADMIN_ENDPOINTS", "x")], &[]);
    assert_eq!(loaded.settings, Settings::default());
    assert!(all().all(|spec| *loaded.origins.of(spec.key) == Origin::Default));
    loaded.validate().unwrap();
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let settings = Settings::default();
    assert_eq!(settings.data_dir.to_str(), Some("kvnode-data"));
    assert_eq!(settings.listen.to_string(), "127.0.0.1:7400");
    assert_eq!(settings.http.to_string(), "127.0.0.1:7480");
    assert_eq!(settings.node_id, 1);
}

#[test]
fn each_layer_overrides_the_one_before_and_the_source_is_remembered() {
    let file = "\nhttp = '127.0.0.1:2'\nlisten = '127.0.0.1:2'\nnode_id = 2\n[raft]\nheartbeat_ms = 50\n";
    let env = [("KVNODE_LISTEN", "127.0.0.1:3"), ("KVNODE_NODE_ID", "3")];
    let loaded = loaded(file, &env, &["--node-id", "4"]);
    let settings = &loaded.settings;
    assert_eq!(settings.http.port(), 2);
    assert_eq!(settings.listen.port(), 3);
    assert_eq!(settings.node_id, 4);
    assert_eq!(settings.raft.heartbeat_ms, 50);
    let origin = |key| loaded.origins.of(key).to_string();
    assert_eq!(origin("http"), "kvnode.toml:2");
    assert_eq!(origin("listen"), "environment KVNODE_LISTEN");
    assert_eq!(origin("node_id"), "flag --node-id");
    assert_eq!(origin("raft.heartbeat_ms"), "kvnode.toml:6");
    assert_eq!(origin("data_dir"), "default");
}

#[test]
fn every_setting_can_be_set_by_its_variable_and_in_the_file() {
    // For each setting a value that is not its default.
    let values: BTreeMap<&str, &str> = all()
        .map(|spec| {
            let value = match spec.kind {
                Kind::Directory => "elsewhere",
                Kind::Address => "localhost:99",
                Kind::Members => "1=localhost:99",
                Kind::Switch if spec.show(&Settings::default()).as_deref() == Some("false") => "true",
                Kind::Switch => "false",
                Kind::Level => "debug",
                Kind::Count { .. } => "7",
                Kind::Bytes { .. } => "300KiB",
                Kind::Millis { .. } => "777",
            };
            (spec.key, if spec.key == "limits.key_bytes_max" { "3 KB" } else { value })
        })
        .collect();
    let defaults = Settings::default();
    for spec in all() {
        let value = values[spec.key];
        let by_env = loaded("", &[(&spec.variable(), value)], &[]);
        assert_ne!(spec.show(&by_env.settings), spec.show(&defaults), "{}", spec.key);
        assert_eq!(by_env.origins.of(spec.key), &Origin::Environment(spec.variable()));
        let shown = spec.show(&by_env.settings).unwrap();
        let by_file = loaded(&format!("{} = {shown}", spec.key), &[], &[]);
        assert_eq!(by_file.settings, by_env.settings, "{}", spec.key);
        assert_eq!(by_file.origins.of(spec.key).to_string(), "kvnode.toml:1");
    }
}

#[test]
fn sizes_are_numbers_or_texts() {
    for text in ["65536", "'64KiB'", "'65536'", "'64 kib'", "0x10000", "65_536"] {
        let loaded = loaded(&format!("engine.group_bytes_max = {text}"), &[], &[]);
        assert_eq!(loaded.settings.engine.group_bytes_max, 65536, "{text}");
    }
}

#[test]
fn a_cluster_is_a_text_or_an_array_and_an_empty_text_unsets_it() {
    let text = loaded("initial_cluster = '1=a:1,2=b:2'", &[], &[]).settings;
    let array = loaded("initial_cluster = ['1=a:1', '2=b:2']", &[], &[]).settings;
    assert_eq!(text, array);
    assert_eq!(text.initial_cluster.unwrap().members().len(), 2);
    let unset = loaded("initial_cluster = '1=a:1'", &[("KVNODE_INITIAL_CLUSTER", "")], &[]);
    assert_eq!(unset.settings.initial_cluster, None);
    assert_eq!(unset.origins.of("initial_cluster").to_string(), "environment KVNODE_INITIAL_CLUSTER");
}

#[test]
fn a_printed_configuration_gives_the_same_settings_again() {
    let env = [
        ("KVNODE_DATA_DIR", "a \"strange\\\" näme\n#"),
        ("KVNODE_ENGINE_MEMTABLE_FLUSH_BYTES", "123456789"),
        ("KVNODE_ENGINE_COMPRESSION", "false"),
        ("KVNODE_LOG_LEVEL", "trace"),
        ("KVNODE_LIMITS_PAGE_BYTES_MAX", "1MiB"),
    ];
    for (env, flags) in [
        (&[][..], &[][..]),
        (&env[..], &["--initial-cluster", "1=[::1]:1,2=b:2", "--join", "h:1", "--insecure-plaintext"][..]),
    ] {
        let first = loaded("", env, flags);
        let second = loaded(&first.to_toml(), &[], &[]);
        assert_eq!(first.settings, second.settings);
    }
}

#[test]
fn a_printed_configuration_says_where_each_value_comes_from() {
    let file = "[engine]\ncompression = false\n";
    let text = loaded(file, &[("KVNODE_HTTP", "localhost:0")], &["--node-id=7"]).to_toml();
    for line in [
        r#"data_dir = "kvnode-data"  # default"#,
        r#"http = "localhost:0"  # environment KVNODE_HTTP"#,
        "node_id = 7  # flag --node-id",
        "# join is not set  # default",
        "[engine]",
        r#"memtable_flush_bytes = "64MiB"  # default"#,
        "compression = false  # file kvnode.toml",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\nis not in\n{text}");
    }
}

#[test]
fn a_file_name_cannot_break_out_of_its_comment() {
    let args = Args::parse(["kvnode"]).unwrap();
    let file = ConfigFile::in_memory("a\nnode_id = 9", "node_id = 2");
    let first = layer(&args, [], Some(&file)).unwrap();
    assert_eq!(loaded(&first.to_toml(), &[], &[]).settings.node_id, 2);
}

#[test]
fn an_unknown_name_in_the_file_is_an_error_that_suggests_another() {
    assert_eq!(in_file("\n\nlistn = 'x'"), r#"kvnode.toml:3: unknown setting "listn"; did you mean listen?"#);
    assert_eq!(
        in_file("[engine]\n\nmemtable_flush_byts = 1"),
        r#"kvnode.toml:3: unknown setting "engine.memtable_flush_byts"; did you mean engine.memtable_flush_bytes?"#
    );
    assert_eq!(
        in_file("memtable_flush_bytes = 1"),
        r#"kvnode.toml:1: unknown setting "memtable_flush_bytes"; did you mean engine.memtable_flush_bytes?"#
    );
    assert_eq!(
        in_file("node_id = 1\n[enginee]\nx = 1"),
        r#"kvnode.toml:2: unknown section "enginee"; did you mean engine?"#
    );
    assert_eq!(
        in_file("colour = 1"),
        r#"kvnode.toml:1: unknown setting "colour"; `kvnode --print-config` lists what there is"#
    );
    assert_eq!(
        in_file("raft = 3"),
        r#"kvnode.toml:1: unknown setting "raft": it is a section, to be written as [raft]"#
    );
}

#[test]
fn a_malformed_file_is_an_error_with_its_line() {
    assert!(in_file("node_id = 1\nlisten = \n").starts_with("kvnode.toml:2: "));
    let twice = in_file("node_id = 1\nnode_id = 2\n");
    assert!(twice.starts_with("kvnode.toml:2: ") && twice.contains("duplicate key"), "{twice}");
    assert!(!in_file("a = [1,\n{").contains('\n'));
}

#[test]
fn a_wrong_type_in_the_file_is_an_error_that_names_line_and_key() {
    for (text, why) in [
        ("node_id = 'x'", r#"node_id: expected a whole number, found the string "x""#),
        ("node_id = '1'", r#"node_id: expected a whole number, found the string "1""#),
        ("node_id = -1", "node_id: expected a whole number, found the integer -1"),
        ("node_id = 1.5", "node_id: expected a whole number, found the number 1.5"),
        ("node_id = true", "node_id: expected a whole number, found the boolean true"),
        ("node_id = []", "node_id: expected a whole number, found an array"),
        ("node_id = [1]", "node_id: expected a whole number, found an array"),
        ("node_id = {}", "node_id: expected a whole number, found a table"),
        ("node_id = 1979-05-27", "node_id: expected a whole number, found a date"),
        (
            "node_id = 99999999999999999999",
            "node_id: expected a whole number, found the integer 99999999999999999999, which is too large",
        ),
        ("listen = 7400", "listen: expected HOST:PORT, found the integer 7400"),
        ("listen = '7400'", r#"listen: expected HOST:PORT, found "7400""#),
        ("data_dir = ''", r#"data_dir: expected a path, found """#),
        (
            "insecure_plaintext = 'yes'",
            r#"insecure_plaintext: expected true or false, found the string "yes""#,
        ),
        (
            "log_level = 'loud'",
            r#"log_level: expected one of off, error, warn, info, debug, trace, found "loud""#,
        ),
        ("join = ['a:1']", "join: expected HOST:PORT, found an array"),
        ("initial_cluster = 1", "initial_cluster: expected ID=HOST:PORT,..., found the integer 1"),
        ("initial_cluster = ['1']", r#"initial_cluster: expected a list of ID=HOST:PORT, found "1""#),
        (
            "raft.heartbeat_ms = '5'",
            r#"raft.heartbeat_ms: expected a whole number of milliseconds, found the string "5""#,
        ),
        (
            "engine.log_flush_bytes = false",
            r#"engine.log_flush_bytes: expected a number of bytes such as 65536 or "64MiB", found the boolean false"#,
        ),
    ] {
        assert_eq!(in_file(text), format!("kvnode.toml:1: {why}"), "{text}");
    }
}

#[test]
fn a_value_out_of_range_is_refused_with_the_range() {
    assert_eq!(
        in_file("raft.heartbeat_ms = 5"),
        "kvnode.toml:1: raft.heartbeat_ms: 5 is out of range: 10 to 60000"
    );
    assert_eq!(
        in_file("limits.key_bytes_max = '65KiB'"),
        "kvnode.toml:1: limits.key_bytes_max: 65KiB is out of range: 1 to 64KiB"
    );
    assert!(with_flags(&["--node-id=0"]).starts_with("flag --node-id: node_id: 0 is out of range: 1 to "));
    let mut settings = Settings::default();
    settings.limits.batch_ops_max = 70_000;
    assert_eq!(
        settings.validate(),
        Err(Invalid { key: "limits.batch_ops_max", why: "70000 is out of range: 1 to 65535".into() })
    );
}

#[test]
fn the_environment_is_judged_like_the_file() {
    let env = |name, value| complaint("", &[(name, value)], &[]);
    assert_eq!(
        env("KVNODE_LISTN", "x"),
        "environment KVNODE_LISTN: unknown setting; did you mean KVNODE_LISTEN?"
    );
    assert_eq!(
        env("KVNODE_MEMTABLE", "x"),
        "environment KVNODE_MEMTABLE: unknown setting; `kvnode --print-config` lists what there is"
    );
    assert_eq!(
        env("KVNODE_NODE_ID", "x"),
        r#"environment KVNODE_NODE_ID: node_id: expected a whole number, found "x""#
    );
    assert_eq!(
        env("KVNODE_ENGINE_COMPRESSION", "yes"),
        r#"environment KVNODE_ENGINE_COMPRESSION: engine.compression: expected true or false, found "yes""#
    );
    assert_eq!(
        env("KVNODE_NODE_ID", "99999999999999999999"),
        r#"environment KVNODE_NODE_ID: node_id: "99999999999999999999" is too large"#
    );
}

#[test]
fn a_service_link_of_kubernetes_is_no_setting() {
    loaded("", &[("KVNODE_SERVICE_HOST", "10.0.0.1"), ("KVNODE_PORT", "tcp://10.0.0.1:7400")], &[]);
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf_8_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let args = Args::parse(["kvnode"]).unwrap();
    let env = [("KVNODE_DATA_DIR".into(), OsString::from_vec(vec![0xff]))];
    let e = layer(&args, env, None).unwrap_err();
    assert_eq!(e.to_string(), "environment KVNODE_DATA_DIR: data_dir: is not UTF-8");
}

#[test]
fn plaintext_off_loopback_is_refused_with_both_remedies() {
    for (flag, key) in [("--listen", "listen"), ("--http", "http")] {
        for address in ["0.0.0.0:7401", "10.1.2.3:7401", "[::]:7401", "node1:7401"] {
            assert_eq!(
                with_flags(&[flag, address]),
                format!(
                    "{key} (flag {flag}): {address} can be reached from other machines, and this version speaks \
                     plaintext only: bind to loopback (127.0.0.1:7401), or pass --insecure-plaintext to let \
                     everyone on that network in"
                )
            );
            loaded("", &[], &[flag, address, "--insecure-plaintext"]).validate().unwrap();
        }
        loaded("", &[], &[flag, "localhost:0"]).validate().unwrap();
        loaded("", &[], &[flag, "[::1]:0"]).validate().unwrap();
    }
}

#[test]
fn a_cluster_must_hold_this_node_where_it_listens() {
    let cluster = |list| with_flags(&["--initial-cluster", list]);
    assert_eq!(
        cluster("2=127.0.0.1:7400"),
        "initial_cluster (flag --initial-cluster): does not name this node, 1; it names 2"
    );
    assert_eq!(
        cluster("1=127.0.0.1:7401"),
        "initial_cluster (flag --initial-cluster): has this node, 1, at 127.0.0.1:7401, but it is to listen on \
         127.0.0.1:7400"
    );
    loaded("", &[], &["--initial-cluster", "1=127.0.0.1:7400"]).validate().unwrap();
    loaded("", &[], &["--initial-cluster", "1=127.0.0.1:7400,2=127.0.0.1:7401"]).validate().unwrap();
    let wildcard = ["--listen=0.0.0.0:7400", "--insecure-plaintext", "--initial-cluster=1=node1:7400"];
    loaded("", &[], &wildcard).validate().unwrap();
    let other_port = ["--listen=0.0.0.0:7400", "--insecure-plaintext", "--initial-cluster=1=node1:7401"];
    assert!(with_flags(&other_port).contains("but it is to listen on 0.0.0.0:7400"));
}

#[test]
fn what_is_not_built_yet_is_refused_by_name() {
    assert_eq!(
        with_flags(&["--join", "10.0.0.1:7400"]),
        "join (flag --join): is not built yet: start all nodes of a cluster with the same initial_cluster"
    );
    assert!(with_flags(&["--initial-cluster=1=127.0.0.1:7400", "--join=a:1"]).contains("together with join"));
}

#[test]
fn values_that_do_not_go_together_are_refused() {
    assert_eq!(
        with_flags(&["--http", "127.0.0.1:7400"]),
        "http (flag --http): 127.0.0.1:7400 is also the address of listen; they must differ"
    );
    loaded("", &[], &["--http=127.0.0.1:0", "--listen=127.0.0.1:0"]).validate().unwrap();
    assert_eq!(
        in_file("limits.batch_bytes_max = 1000"),
        "limits.batch_bytes_max (kvnode.toml:1): 1000 is too small for one largest key and value: set it to at \
         least 67174400, or lower limits.value_bytes_max"
    );
    assert_eq!(
        in_file("[engine]\nsegment_bytes_min = '256MiB'"),
        "engine.segment_bytes_min (kvnode.toml:2): 268435456 is more than engine.segment_bytes_max, 134217728"
    );
    assert_eq!(
        in_file("raft.election_timeout_ms_max = 500"),
        "raft.election_timeout_ms_min (default): 500 is not less than raft.election_timeout_ms_max, 500"
    );
    assert_eq!(
        in_file("raft.heartbeat_ms = 251"),
        "raft.heartbeat_ms (kvnode.toml:1): 251 is more than half of raft.election_timeout_ms_min, 500: one late \
         heartbeat would start an election"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let e = ConfigFile::read(Path::new("no-such-directory/kvnode.toml")).unwrap_err();
    let text = e.to_string();
    assert!(text.starts_with("cannot read the configuration file no-such-directory/kvnode.toml: "), "{text}");
}

#[test]
fn names_end_in_their_unit() {
    for spec in all() {
        let has = |unit: &str| spec.key.ends_with(unit) || spec.key.contains(&format!("{unit}_"));
        assert_eq!(has("_bytes"), matches!(spec.kind, Kind::Bytes { .. }), "{}", spec.key);
        assert_eq!(has("_ms"), matches!(spec.kind, Kind::Millis { .. }), "{}", spec.key);
    }
}
