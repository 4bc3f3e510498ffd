use kv_vlog::{Compression, Entry, Position, StoredValue, Vote};

use super::json::record_json;
use super::*;
use crate::args::Key;
use crate::bytes_text;

#[test]
fn an_entry_comes_with_its_operations() {
    let expires = Expiry::at(1_700_000_060);
    let value = StoredValue::expiring(b"k\0", vec![7; 4000].into(), &Compression::default(), expires);
    let ops = vec![
        Op::Check { key: "k".into(), expect: Expect::Seq(9) },
        Op::Put { key: b"k\0"[..].into(), value: OpValue::Full(value) },
        Op::Delete { key: "d".into() },
    ];
    let at = Position { term: 2, index: 5 };
    let entry = Entry { at, time: 1_700_000_000, payload: Payload::Ops(ops) };
    let record = Record::Entry(entry, vec![100, 141, 300]);
    let rows = record_rows(68, 500, &record);
    assert_eq!(rows[0][..5], ["68", "500", "entry", "2", "5"]);
    assert_eq!((&rows[1][2][..], &rows[3][2][..]), ("  check version", "  delete"));
    assert_eq!((&rows[2][0][..], &rows[2][5][..], &rows[2][7][..]), ("141", "4000", "zstd"));
    assert_eq!((&rows[0][10][..], &rows[2][9][..]), ("(at 2023-11-14T22:13:20Z)", "2023-11-14T22:14:20Z"));
    assert_eq!(rows[2][10], r"k\x00");
    assert_eq!(rows[2][8].len(), 8);
    assert!(rows.iter().all(|row| row.len() == 11));
    let json = record_json(68, 500, &record);
    assert_eq!((&json["kind"], &json["index"]), (&json!("entry"), &json!(5)));
    assert_eq!(
        (&json["time"], &json["ops"][1]["expires_at"]),
        (&json!(1_700_000_000), &json!(1_700_000_060))
    );
    assert_eq!((&json["ops"][0]["expected_seq"], &json["ops"][1]["key"]), (&json!(9), &json!("awA=")));
    assert_eq!(json["ops"][2]["bytes"], json!(41));
}

#[test]
fn marks_have_rows_of_their_own() {
    let vote = Vote { term: 3, node: Some(2), committed: true };
    for (record, what) in
        [(Record::Vote(vote), "vote"), (Record::Truncate(4), "truncate"), (Record::Footer, "footer")]
    {
        assert_eq!(record_json(1, 2, &record)["kind"], what);
        let rows = record_rows(1, 2, &record);
        assert_eq!((rows.len(), rows[0].len(), &rows[0][2][..]), (1, 11, what));
    }
    assert_eq!(vote_text(vote), "for node 2 in term 3, committed");
}

/// What a filter leaves: of each record its kind, and the keys of its operations.
fn left(shown: &Shown, records: &[Placed]) -> Vec<String> {
    let text = |(_, _, record): Placed| match &record {
        Record::Entry(entry, offsets) => {
            assert_eq!(entry.payload.ops().len(), offsets.len());
            let keys = entry.payload.ops().iter().map(|op| bytes_text::format(op.key()));
            format!("{}:{}", entry.at.index, keys.collect::<Vec<_>>().join(","))
        }
        Record::Values(values) => values.iter().map(|value| bytes_text::format(&value.key)).collect(),
        other => format!("{other:?}").split(['(', ' ']).next().unwrap_or_default().to_owned(),
    };
    records.iter().filter_map(|record| Filter(shown).part(record)).map(text).collect()
}

#[test]
fn filters_leave_what_all_of_them_want() {
    let put = |key: &'static str| {
        let value = StoredValue::new(key.as_bytes(), key.into(), &Compression::default());
        Op::Put { key: key.into(), value: OpValue::Full(value) }
    };
    let entry = |term, index, ops| {
        Record::Entry(Entry { at: Position { term, index }, time: 0, payload: Payload::Ops(ops) }, vec![0, 0])
    };
    let value = StoredValue::new(b"v", "v".into(), &Compression::default());
    let values = vec![ValueRecord { offset: 9, length: 9, seq: 1, key: "v".into(), value }];
    let records: Vec<Placed> = [
        entry(1, 4, vec![put("a"), put("b")]),
        entry(2, 5, vec![put("b"), Op::Delete { key: "c".into() }]),
        Record::Vote(Vote { term: 2, node: None, committed: false }),
        Record::Values(values),
        Record::Footer,
    ]
    .into_iter()
    .zip((100u32..).step_by(100))
    .map(|(record, offset)| (offset, 50, record))
    .collect();
    let all = ["4:a,b", "5:b,c", "Vote", "v", "Footer"];
    assert_eq!(left(&Shown::default(), &records), all);
    assert!(!Filter(&Shown::default()).is_set());
    let cases = [
        (Shown { from: Some(200), ..Shown::default() }, vec!["5:b,c", "Vote", "v", "Footer"]),
        (Shown { from_index: Some(5), ..Shown::default() }, vec!["5:b,c"]),
        (Shown { to_index: Some(4), ..Shown::default() }, vec!["4:a,b"]),
        (Shown { term: Some(2), ..Shown::default() }, vec!["5:b,c", "Vote"]),
        (Shown { kind: Some("vote".into()), ..Shown::default() }, vec!["Vote"]),
        (Shown { kind: Some("entry".into()), ..Shown::default() }, vec!["4:a,b", "5:b,c"]),
        (Shown { kind: Some("delete".into()), ..Shown::default() }, vec!["5:c"]),
        (Shown { kind: Some("put".into()), ..Shown::default() }, vec!["4:a,b", "5:b", "v"]),
        (Shown { key: Some(Key(b"b".to_vec())), ..Shown::default() }, vec!["4:b", "5:b"]),
        (Shown { key: Some(Key(b"v".to_vec())), ..Shown::default() }, vec!["v"]),
        (Shown { key: Some(Key(b"b".to_vec())), term: Some(1), ..Shown::default() }, vec!["4:b"]),
        (Shown { key: Some(Key(b"x".to_vec())), ..Shown::default() }, vec![]),
    ];
    for (shown, expected) in cases {
        assert!(Filter(&shown).is_set());
        assert_eq!(left(&shown, &records), expected, "{shown:?}");
    }
}

/// A segment in a directory, to be shown while somebody does something to its file.
fn shown_while(meddle: impl FnOnce(&Path)) -> Result<Exit, Failure> {
    let dir = tempfile::tempdir().unwrap();
    let db = kv_lsm::Db::open(dir.path(), kv_lsm::Options::default()).unwrap();
    for n in 0..200u8 {
        db.put(&[n], vec![n; 5000]).unwrap();
    }
    db.close().unwrap();
    let directory = Directory::open(dir.path()).unwrap();
    let known = directory.state().segments.values().next().unwrap();
    let input = segment_input(dir.path(), directory.state(), known);
    let mut scanner = open(&directory, &input).unwrap();
    meddle(&input.path);
    let mut out = Output::new(crate::output::Format::Json);
    list(&directory, &input, &mut scanner, &Shown::default(), &mut out)
}

/// Broken by: a file of a dead segment that a node writes again, or gives back to the disk, while it is read here passed for
/// a damaged one.
#[test]
fn a_file_that_is_given_up_meanwhile_is_not_damaged() {
    use kv_vfs::{IoMode, RealVfs, Vfs};
    let write_over = |path: &Path| {
        RealVfs.open(path, IoMode::Buffered).unwrap().write_at(&[7; 64 << 10], 8192).unwrap();
    };
    assert_eq!(shown_while(|_| {}).unwrap(), Exit::Ok);
    assert_eq!(shown_while(|path| write_over(path)).unwrap(), Exit::Corruption);
    let written_over = shown_while(|path| {
        write_over(path);
        RealVfs.rename(path, &path.with_extension("free")).unwrap();
    });
    let cut = shown_while(|path| {
        RealVfs.rename(path, &path.with_extension("gone")).unwrap();
        RealVfs.open(&path.with_extension("gone"), IoMode::Buffered).unwrap().set_len(64 << 10).unwrap();
    });
    for error in [written_over, cut].map(Result::unwrap_err) {
        assert_eq!(error.exit, Exit::Error);
        assert!(error.to_string().contains("given up while it was read"), "{error}");
    }
}
