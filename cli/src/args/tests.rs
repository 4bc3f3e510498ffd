use clap::CommandFactory as _;
use clap::error::ErrorKind;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("kvadmin").chain(line.split_whitespace()))
}

fn command(line: &str) -> Command {
    parse(line).unwrap_or_else(|error| panic!("{line}: {error}")).command
}

#[test]
fn the_definitions_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn global_options_stand_anywhere() {
    let cli = parse("bench --timeout 0.5 -o json --endpoints a:1,[::1]:2 --ops 5").expect("parses");
    assert_eq!(cli.global.timeout, Some(Duration::from_millis(500)));
    assert_eq!(cli.global.output, Format::Json);
    assert_eq!(cli.global.endpoints, ["a:1", "[::1]:2"]);
    assert!(parse("-o json cluster status").is_ok());
}

#[test]
fn keys_have_escapes_and_values_have_none() {
    let Command::Put(put) = command(r"put a\x00\\b C:\dir") else { panic!("put") };
    assert_eq!(put.key.0, b"a\0\\b");
    assert_eq!(put.value.map(literal), Some(br"C:\dir".to_vec()));
    let odd = OsString::from_vec(b"\xff\xfe".to_vec());
    let cli = Cli::try_parse_from([OsString::from("kvadmin"), "get".into(), odd]).expect("parses");
    assert!(matches!(cli.command, Command::Get(Get { key: Key(key), .. }) if key == b"\xff\xfe"));
    assert!(matches!(command("put k -"), Command::Put(Put { value: Some(value), .. }) if value == "-"));
}

#[test]
fn wrong_usage_is_refused_with_what_to_do() {
    for (line, hint) in [
        (r"get a\n", "\\xNN"),
        ("put k", "--file"),
        ("put k v --file f", "cannot be used"),
        ("delete", "--prefix"),
        ("delete k --prefix p", "cannot be used"),
        ("--timeout 0 cluster status", "above 0"),
        ("--timeout -1 cluster status", ""),
        ("--timeout nan cluster status", "above 0"),
        ("--timeout 1e300 cluster status", "above 0"),
        ("--endpoints host cluster status", "HOST:PORT"),
        ("--endpoints :7400 cluster status", "HOST:PORT"),
        ("--endpoints h:0 cluster status", "HOST:PORT"),
        ("bench --workload a", "workload a is not supported yet"),
        ("bench --workload x", "fill, overwrite or read"),
        ("bench --seconds 1 --ops 1", "cannot be used"),
        ("bench --clients 0", "1..=4096"),
        ("scan --reverse", "--reverse"),
        ("manifest inspect", "--data-dir"),
        ("check", "--data-dir"),
        ("vlog inspect x --data-dir d", "invalid digit"),
        ("sst inspect 1 --limit 5 --data-dir d", "--keys"),
        ("vlog inspect 1 --kind x --data-dir d", "entry, blank"),
        ("vlog inspect 1 --remap --dump-value 5 --data-dir d", "cannot be used"),
        ("vlog inspect 1 --out f --data-dir d", "--dump-value"),
        ("repair d", "--into"),
        ("cluster", ""),
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(hint), "{line}: {error}");
    }
    assert_eq!(parse("--help").expect_err("help").kind(), ErrorKind::DisplayHelp);
    assert_eq!(parse("--help").expect_err("help").exit_code(), 0);
}
