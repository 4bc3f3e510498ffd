//! Half-written ends are cut; anything else that is not what was written is damage.

use super::make::*;
use crate::encode::frame;
use crate::format::{ALIGNMENT, FRAME_HEADER_BYTES};
use crate::{Edit, Manifest, ManifestError, State, read};
use kv_vfs::MemVfs;

/// A manifest of four change-sets, the last one several blocks long, its states after the last two, and
/// where the frame of the last one begins and ends.
struct Fixture {
    vfs: MemVfs,
    before: State,
    after: State,
    last_at: usize,
    last_end: usize,
}

fn fixture() -> Fixture {
    let vfs = empty();
    let mut manifest = create(&vfs);
    manifest.append("open", vec![Edit::NextFile(9), Edit::Epoch(1), open_segment(1, 2)]).unwrap();
    manifest.append("flush", vec![add(3, 0, "a", "b")]).unwrap();
    let before = manifest.state().clone();
    let membership = (0..6000).map(|n| (n % 251) as u8).collect();
    manifest.append("flush", vec![Edit::Flushed { position: position(1, 5), membership }]).unwrap();
    let after = manifest.state().clone();
    let reading = read(&vfs, dir()).unwrap();
    let last = reading.change_sets.last().unwrap();
    let last_at = last.offset as usize;
    let last_end = last_at + last.length as usize;
    Fixture { vfs, before, after, last_at, last_end }
}

/// After any cut the manifest takes change-sets again, and what was cut never comes back.
fn goes_on(vfs: &MemVfs, mut manifest: Manifest) {
    let state = manifest.state().clone();
    let number = manifest.append("flush", vec![add(4, 0, "x", "y")]).unwrap();
    assert_eq!(number, state.number + 1);
    drop(manifest);
    let again = open(vfs).unwrap();
    assert!(again.torn_tail().is_none());
    assert_eq!(again.state().number, number);
    assert_eq!(again.state().flushed, state.flushed);
    assert!(again.state().tables.contains_key(&4));
}

#[test]
fn a_last_frame_cut_at_any_length_is_left_out() {
    let f = fixture();
    let path = manifest_path(&f.vfs);
    let bytes = bytes_of(&f.vfs, &path);
    assert_eq!(bytes.len(), f.last_end.next_multiple_of(ALIGNMENT as usize));
    for len in f.last_at..=bytes.len() {
        let vfs = with_contents(&f.vfs, &path, &bytes[..len]);
        let manifest = open(&vfs).unwrap();
        if len >= f.last_end {
            assert_eq!((manifest.state(), manifest.torn_tail()), (&f.after, None), "cut to {len}");
        } else {
            assert_eq!(manifest.state(), &f.before, "cut to {len}");
            let torn = manifest.torn_tail().map(|t| (t.file.clone(), t.offset, t.bytes));
            let expected = (path.clone(), f.last_at as u64, (len - f.last_at) as u64);
            assert_eq!(torn, (len > f.last_at).then_some(expected), "cut to {len}");
        }
        if len % 97 == 0 {
            goes_on(&vfs, manifest);
        }
    }
}

/// The length reached the disk, the bytes from some point on did not.
#[test]
fn a_last_frame_that_ends_in_zeros_is_left_out() {
    let f = fixture();
    let path = manifest_path(&f.vfs);
    let bytes = bytes_of(&f.vfs, &path);
    for from in (f.last_at..f.last_end).step_by(61) {
        let mut zeroed = bytes.clone();
        zeroed[from..].fill(0);
        let vfs = with_contents(&f.vfs, &path, &zeroed);
        let manifest = open(&vfs).unwrap();
        assert_eq!(manifest.state(), &f.before);
        assert!(manifest.torn_tail().is_some());
        goes_on(&vfs, manifest);
    }
}

#[test]
fn a_bit_flipped_before_the_last_frame_is_damage() {
    let f = fixture();
    let path = manifest_path(&f.vfs);
    let bytes = bytes_of(&f.vfs, &path);
    for at in 0..f.last_at {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let vfs = with_contents(&f.vfs, &path, &flipped);
        match open(&vfs) {
            Err(ManifestError::Corruption { file, offset, .. }) => {
                assert_eq!(file, path);
                // Named within the block, or at the frame behind a block that is not zeros at its end.
                assert!(offset.abs_diff(at as u64) <= ALIGNMENT, "flipped {at}, named {offset}");
            }
            other => panic!("byte {at}: {other:?}"),
        }
    }
}

#[test]
fn a_bit_flipped_in_the_last_frame_never_gives_a_wrong_state() {
    let f = fixture();
    let path = manifest_path(&f.vfs);
    let bytes = bytes_of(&f.vfs, &path);
    for at in f.last_at..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let vfs = with_contents(&f.vfs, &path, &flipped);
        let manifest = open(&vfs).unwrap();
        if at < f.last_end {
            assert_eq!(manifest.state(), &f.before, "byte {at}");
            assert!(manifest.torn_tail().is_some());
            // Whoever knows that the change-set was durable learns that it is gone.
            assert!(matches!(manifest.require(f.after.number), Err(ManifestError::Corruption { .. })));
        } else {
            assert_eq!(manifest.state(), &f.after, "byte {at}");
        }
        if at % 97 == 0 {
            goes_on(&vfs, manifest);
        }
    }
}

/// What was whole when the file came into use is never taken for torn, even at its end.
#[test]
fn below_the_settled_length_nothing_is_torn() {
    let f = fixture();
    let mut manifest = open(&f.vfs).unwrap();
    manifest.settle().unwrap();
    assert_eq!(manifest.state(), &f.after);
    drop(manifest);
    let path = manifest_path(&f.vfs);
    let bytes = bytes_of(&f.vfs, &path);
    for at in (f.last_at..bytes.len()).step_by(13) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        let flipped = with_contents(&f.vfs, &path, &flipped);
        assert!(matches!(open(&flipped), Err(ManifestError::Corruption { .. })), "flipped {at}");
        let cut = with_contents(&f.vfs, &path, &bytes[..at]);
        assert!(matches!(open(&cut), Err(ManifestError::Corruption { .. })), "cut to {at}");
    }
}

/// Blocks swapped, zeroed or doubled: an order of valid frames that no append made.
#[test]
fn misplaced_blocks_are_damage() {
    let f = fixture();
    let path = manifest_path(&f.vfs);
    let bytes = bytes_of(&f.vfs, &path);
    let block = ALIGNMENT as usize;
    for from in (0..f.last_at).step_by(block) {
        for to in (0..f.last_at).step_by(block).filter(|to| *to != from) {
            let mut moved = bytes.clone();
            moved.copy_within(from..from + block, to);
            let vfs = with_contents(&f.vfs, &path, &moved);
            assert!(matches!(open(&vfs), Err(ManifestError::Corruption { .. })), "{from} over {to}");
        }
        let mut zeroed = bytes.clone();
        zeroed[from..from + block].fill(0);
        let vfs = with_contents(&f.vfs, &path, &zeroed);
        assert!(matches!(open(&vfs), Err(ManifestError::Corruption { .. })), "{from} zeroed");
    }
}

/// A frame with a right CRC that nobody could have written.
#[test]
fn valid_frames_that_make_no_sense_are_damage() {
    let f = fixture();
    let path = manifest_path(&f.vfs);
    let bytes = bytes_of(&f.vfs, &path);
    let whole = &bytes[f.last_at + FRAME_HEADER_BYTES..f.last_end];
    let mut trailing = whole.to_vec();
    trailing.push(0);
    let mut renumbered = whole.to_vec();
    renumbered[0] += 1;
    for payload in [trailing, renumbered, Vec::new(), vec![0xff; 20]] {
        let mut with = bytes[..f.last_at].to_vec();
        with.extend(frame(&payload).unwrap());
        let vfs = with_contents(&f.vfs, &path, &with);
        assert!(matches!(open(&vfs), Err(ManifestError::Corruption { .. })));
        assert!(matches!(read(&vfs, dir()), Err(ManifestError::Corruption { .. })));
    }
}
