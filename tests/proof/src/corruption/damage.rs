//! The ways in which a file can be damaged.

use std::path::PathBuf;

use kv_manifest::names;
use kv_vfs::{MemVfs, Vfs};

use super::fixture::{Fixture, kind_of};

const SECTOR: usize = 512;

/// One damage.
#[derive(Clone, Debug)]
pub enum Damage {
    /// A bit of the file is the other one.
    Flip(PathBuf, u64),
    /// The file ends here.
    Truncate(PathBuf, u64),
    /// The file goes on with so many bytes of garbage.
    Extend(PathBuf, usize),
    /// A sector is all zeros.
    Zero(PathBuf, usize),
    /// Two sectors are in each other's place.
    SwapSectors(PathBuf, usize, usize),
    /// Two files are in each other's place.
    SwapFiles(PathBuf, PathBuf),
    /// The file is this one of another node.
    Foreign(PathBuf, PathBuf),
    /// The file is gone.
    Missing(PathBuf),
}

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "those of `Damage`")]
pub enum Kind {
    Flip,
    Truncate,
    Extend,
    Zero,
    SwapSectors,
    SwapFiles,
    Foreign,
    Missing,
}

/// All damages; of bits and lengths every so many-th.
pub fn all(fixture: &Fixture, other: &Fixture, every: u64) -> Vec<Damage> {
    let mut damages = Vec::new();
    for (path, bytes) in fixture.files() {
        let len = bytes.len() as u64;
        let stepped = |end: u64| (0..end).step_by(every as usize);
        damages.extend(stepped(len * 8).map(|bit| Damage::Flip(path.clone(), bit)));
        damages.extend(stepped(len).map(|to| Damage::Truncate(path.clone(), to)));
        damages.extend([1, 5_000].map(|more| Damage::Extend(path.clone(), more)));
        let sectors = bytes.len().div_ceil(SECTOR);
        damages.extend((0..sectors).map(|sector| Damage::Zero(path.clone(), sector)));
        let swaps = (0..sectors).flat_map(|a| [a + 1, (a * 7 + 3) % sectors].map(|b| (a, b)));
        let swaps = swaps.filter(|(a, b)| a != b && *b < sectors);
        damages.extend(swaps.map(|(a, b)| Damage::SwapSectors(path.clone(), a, b)));
        for same_kind in fixture.files().filter(|(second, _)| kind_of(second) == kind_of(path)) {
            if same_kind.0 > path {
                damages.push(Damage::SwapFiles(path.clone(), same_kind.0.clone()));
            }
        }
        for theirs in other.files().filter(|(theirs, _)| kind_of(theirs) == kind_of(path)) {
            damages.push(Damage::Foreign(path.clone(), theirs.0.clone()));
        }
        damages.push(Damage::Missing(path.clone()));
    }
    damages
}

impl Damage {
    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Damage::Flip(..) => Kind::Flip,
            Damage::Truncate(..) => Kind::Truncate,
            Damage::Extend(..) => Kind::Extend,
            Damage::Zero(..) => Kind::Zero,
            Damage::SwapSectors(..) => Kind::SwapSectors,
            Damage::SwapFiles(..) => Kind::SwapFiles,
            Damage::Foreign(..) => Kind::Foreign,
            Damage::Missing(..) => Kind::Missing,
        }
    }

    /// Does it to the fixture's files on this disk; returns those that are damaged.
    pub fn apply(&self, disk: &MemVfs, fixture: &Fixture, other: &Fixture) -> Vec<PathBuf> {
        let write = |path: &PathBuf, bytes: &[u8]| {
            disk.write_file(path, bytes).unwrap();
            vec![path.clone()]
        };
        match self {
            Damage::Flip(path, bit) => {
                disk.corrupt(path, bit / 8, 1 << (bit % 8)).unwrap();
                vec![path.clone()]
            }
            Damage::Truncate(path, to) => write(path, &fixture.bytes(path)[..*to as usize]),
            Damage::Extend(path, more) => write(path, &[fixture.bytes(path), &vec![0xa5; *more]].concat()),
            Damage::Zero(path, sector) => {
                let mut bytes = fixture.bytes(path).to_vec();
                sector_of(&mut bytes, *sector).fill(0);
                write(path, &bytes)
            }
            Damage::SwapSectors(path, a, b) => {
                let mut bytes = fixture.bytes(path).to_vec();
                let (first, second) =
                    (sector_of(&mut bytes, *a).to_vec(), sector_of(&mut bytes, *b).to_vec());
                let shorter = first.len().min(second.len());
                sector_of(&mut bytes, *a)[..shorter].copy_from_slice(&second[..shorter]);
                sector_of(&mut bytes, *b)[..shorter].copy_from_slice(&first[..shorter]);
                write(path, &bytes)
            }
            Damage::SwapFiles(a, b) => {
                let mut damaged = write(a, fixture.bytes(b));
                damaged.extend(write(b, fixture.bytes(a)));
                damaged
            }
            // By a manifest of another node all of our files are foreign.
            Damage::Foreign(path, theirs) if kind_of(path) == "manifest" => {
                write(path, other.bytes(theirs));
                fixture.files().map(|(path, _)| path.clone()).collect()
            }
            Damage::Foreign(path, theirs) => write(path, other.bytes(theirs)),
            Damage::Missing(path) => {
                disk.remove(path).unwrap();
                // It is CURRENT that names the manifest.
                let current = (kind_of(path) == "manifest").then(|| path.with_file_name(names::CURRENT));
                [path.clone()].into_iter().chain(current).collect()
            }
        }
    }
}

fn sector_of(bytes: &mut [u8], sector: usize) -> &mut [u8] {
    let end = bytes.len().min((sector + 1) * SECTOR);
    &mut bytes[sector * SECTOR..end]
}
