//! Appending, reopening, settling and rewriting, with nothing going wrong.

use kv_vfs::{MemVfs, Vfs};

use super::make::*;
use crate::format::{FIRST_FRAME_AT, REWRITE_BYTES_MIN};
use crate::{Edit, InvalidEdit, ManifestError, read};

fn listing(vfs: &MemVfs) -> Vec<(String, Vec<u8>)> {
    let entries = vfs.list(dir()).unwrap();
    entries.into_iter().map(|e| (e.name.clone(), bytes_of(vfs, &dir().join(&e.name)))).collect()
}

#[test]
fn a_life_is_replayed() {
    let vfs = empty();
    let mut manifest = create(&vfs);
    assert_eq!((manifest.state().number, &manifest.state().identity), (1, &identity()));
    let mut states = vec![manifest.state().clone()];
    for (n, (cause, edits)) in life().into_iter().enumerate() {
        assert_eq!(manifest.append(cause, edits).unwrap(), n as u64 + 2);
        assert_eq!(open(&vfs).unwrap().state(), manifest.state());
        states.push(manifest.state().clone());
    }
    let reading = read(&vfs, dir()).unwrap();
    assert_eq!(&reading.state, manifest.state());
    for state in &states {
        assert_eq!(reading.state_at(state.number).unwrap().as_ref(), Some(state));
    }
    let last = manifest.state().number;
    assert_eq!((reading.state_at(0).unwrap(), reading.state_at(last + 1).unwrap()), (None, None));
    assert_eq!((reading.identity, reading.file), (identity(), "MANIFEST-000001".to_string()));
    assert_eq!(reading.torn_tail, None);
    let told: Vec<_> = reading.change_sets.iter().skip(1).map(|r| r.change_set.cause.as_str()).collect();
    assert_eq!(told, life().iter().map(|(cause, _)| *cause).collect::<Vec<_>>());
}

#[test]
fn the_same_life_with_a_restart_before_each_step() {
    let vfs = empty();
    let mut expected = create(&empty());
    drop(create(&vfs));
    for (cause, edits) in life() {
        let mut manifest = open(&vfs).unwrap();
        expected.append(cause, edits.clone()).unwrap();
        manifest.append(cause, edits).unwrap();
        assert!(same_but_for_next_file(manifest.state(), expected.state()));
    }
    // The history is kept, and one manifest only.
    assert_eq!(read(&vfs, dir()).unwrap().change_sets.len(), life().len() + 1);
    assert_eq!(vfs.list(dir()).unwrap().len(), 2);
}

#[test]
fn opening_and_reading_write_nothing() {
    let vfs = empty();
    drop(create(&vfs));
    let before = listing(&vfs);
    drop(open(&vfs).unwrap());
    read(&vfs, dir()).unwrap();
    assert_eq!(listing(&vfs), before);
}

#[test]
fn a_refused_change_set_is_not_written() {
    let vfs = empty();
    let mut manifest = create(&vfs);
    let before = (listing(&vfs), manifest.state().clone());
    let refused = manifest.append("bad", vec![Edit::RemoveTable { id: 9 }]);
    let why = InvalidEdit::UnknownTable { id: 9 };
    assert!(matches!(refused, Err(ManifestError::InvalidEdit(e)) if e == why));
    assert_eq!((listing(&vfs), manifest.state().clone()), before);
    assert_eq!(manifest.append("good", vec![]).unwrap(), 2);
}

#[test]
fn frames_are_where_the_reading_says() {
    let vfs = empty();
    let mut manifest = create(&vfs);
    manifest.append("open", vec![Edit::Epoch(1)]).unwrap();
    let bytes = bytes_of(&vfs, &manifest_path(&vfs));
    let recorded = read(&vfs, dir()).unwrap().change_sets;
    assert_eq!(recorded[0].offset, FIRST_FRAME_AT);
    for one in recorded {
        let mut frame = crate::encode::frame(&crate::encode_change_set(&one.change_set)).unwrap();
        frame.truncate(one.length as usize);
        let at = one.offset as usize;
        assert_eq!(bytes[at..at + frame.len()], frame);
    }
}

#[test]
fn file_numbers_are_recorded_and_never_come_again() {
    let vfs = empty();
    let mut manifest = create(&vfs);
    let numbers = manifest.file_numbers();
    let (first, second) = (numbers.take(), numbers.take());
    assert_eq!((first, second), (2, 3));
    manifest.append("flush", vec![add(first, 0, "a", "b")]).unwrap();
    assert_eq!(manifest.state().next_file, 4);
    // The caller may also count by itself.
    manifest.append("flush", vec![add(7, 0, "a", "b"), Edit::NextFile(8)]).unwrap();
    assert_eq!(numbers.take(), 8);
    drop(manifest);
    // A number that only a file in the directory shows.
    write(&vfs, &dir().join("00000011.seg"), b"left by a crash");
    let mut manifest = open(&vfs).unwrap();
    assert_eq!(manifest.file_numbers().take(), 12);
    manifest.append("open", vec![]).unwrap();
    assert_eq!(manifest.file_name(), "MANIFEST-000013");
    manifest.rewrite().unwrap();
    assert_eq!(manifest.file_name(), "MANIFEST-000014");
    assert_eq!(manifest.state().next_file, 15);
    assert_eq!(open(&vfs).unwrap().state(), manifest.state());
}

#[test]
fn a_required_number_must_be_there() {
    let vfs = empty();
    let mut manifest = create(&vfs);
    let number = manifest.append("open", vec![Edit::Epoch(1)]).unwrap();
    manifest.require(number).unwrap();
    let error = manifest.require(number + 1).unwrap_err().to_string();
    assert!(error.contains("acknowledged change-sets are missing"), "{error}");
    assert!(error.contains("kvadmin check --data-dir /data"), "{error}");
    manifest.rewrite().unwrap();
    open(&vfs).unwrap().require(number).unwrap();
}

#[test]
fn a_rewrite_keeps_the_state_and_drops_the_history() {
    let vfs = empty();
    let mut manifest = create(&vfs);
    for (cause, edits) in life() {
        manifest.append(cause, edits).unwrap();
        let before = manifest.state().clone();
        manifest.rewrite().unwrap();
        assert!(same_but_for_next_file(manifest.state(), &before));
        assert_eq!(open(&vfs).unwrap().state(), manifest.state());
        let reading = read(&vfs, dir()).unwrap();
        assert_eq!(reading.change_sets.len(), 1);
        assert_eq!(reading.change_sets[0].change_set.number, before.number);
        assert_eq!(vfs.list(dir()).unwrap().len(), 2, "the old manifest is gone");
    }
}

#[test]
fn other_options_are_recorded_under_the_number_there_is() {
    let vfs = empty();
    let mut manifest = create(&vfs);
    manifest.append("open", vec![Edit::Epoch(1)]).unwrap();
    let options = [("comparator".to_owned(), "bytewise".to_owned()), ("levels".to_owned(), "9".to_owned())];
    manifest.set_options(options.clone().into()).unwrap();
    for state in [manifest.state(), open(&vfs).unwrap().state()] {
        assert_eq!(state.identity.options, options.clone().into());
        assert_eq!((state.number, state.epoch), (2, 1));
        assert_eq!(state.identity.cluster_id, identity().cluster_id);
    }
    assert_eq!(manifest.append("open", vec![Edit::Epoch(2)]).unwrap(), 3);
}

#[test]
fn a_file_of_mostly_history_is_rewritten() {
    let vfs = empty();
    let mut manifest = create(&vfs);
    let mut rewrites = 0;
    let mut longest = 0;
    for index in 1..200 {
        let membership = vec![index as u8; 30_000];
        let name = manifest.file_name();
        manifest.append("flush", vec![Edit::Flushed { position: position(1, index), membership }]).unwrap();
        rewrites += usize::from(manifest.file_name() != name);
        longest = longest.max(bytes_of(&vfs, &dir().join(manifest.file_name())).len() as u64);
        assert_eq!(manifest.state().number, index + 1);
    }
    // 200 frames of 32 KiB are 6.4 MiB; the state is one of them.
    assert!((5..=7).contains(&rewrites), "{rewrites}");
    assert!((REWRITE_BYTES_MIN..REWRITE_BYTES_MIN + 65_536).contains(&longest), "{longest}");
    assert_eq!(open(&vfs).unwrap().state(), manifest.state());
}

#[test]
fn a_file_of_mostly_state_is_left_alone() {
    let vfs = empty();
    let mut manifest = create(&vfs);
    let membership = vec![5; 2 << 20];
    manifest.append("flush", vec![Edit::Flushed { position: position(1, 1), membership }]).unwrap();
    for _ in 0..40 {
        manifest.append("nothing", vec![]).unwrap();
    }
    assert_eq!(manifest.file_name(), "MANIFEST-000001");
}
