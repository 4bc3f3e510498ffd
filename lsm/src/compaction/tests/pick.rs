//! Levels in, decision out: cases in `testscripts/pick.txt`, and rules that hold of every decision.

use kv_manifest::{SegmentRef, TableMeta};
use proptest::prelude::*;

use crate::compaction::*;

pub(super) const OPTIONS: PickOptions = PickOptions {
    l0_tables_max: 2,
    base_bytes: 1000,
    level_multiplier: 10,
    table_bytes: 100,
    garbage_percent: 10,
};

/// A case, owned.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub levels: Vec<Vec<(TableMeta, u64, bool)>>,
    pub running: Vec<Claim>,
    pub cursors: Vec<Vec<u8>>,
    pub snapshot: Option<u64>,
    pub idle: bool,
    pub wanted: Vec<Wanted>,
}

impl Scene {
    pub(super) fn empty() -> Self {
        Self {
            levels: vec![Vec::new(); LEVELS],
            running: Vec::new(),
            cursors: vec![Vec::new(); LEVELS],
            snapshot: None,
            idle: false,
            wanted: Vec::new(),
        }
    }

    pub(super) fn situation(&self) -> Situation<'_> {
        let levels = self.levels.iter().map(|level| {
            level
                .iter()
                .map(|(meta, keys, due)| TableState { meta, keys: *keys, expired: 0, due: *due })
                .collect()
        });
        Situation {
            levels: levels.collect(),
            running: &self.running,
            cursors: &self.cursors,
            oldest_snapshot: self.snapshot,
            idle: self.idle,
            wanted: &self.wanted,
        }
    }

    fn read_line(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "idle" => self.idle = true,
            "snapshot" => self.snapshot = Some(rest.parse().unwrap()),
            "cursor" => {
                let (level, key) = rest.split_once(' ').unwrap();
                self.cursors[number(level)] = key.into();
            }
            "wanted" => {
                let (range, seq) = rest.split_once(" seq ").unwrap();
                let (from, to) = range.split_once('-').unwrap();
                let to = (!to.is_empty()).then(|| to.into());
                self.wanted.push(Wanted { from: from.into(), to, seq: seq.parse().unwrap() });
            }
            "running" => {
                let (levels, rest) = rest.split_once(' ').unwrap();
                let (from, to) = levels.split_once("->").unwrap();
                let (tables, range) = rest.split_once('[').unwrap();
                let tables = tables.split_whitespace().map(|id| id.parse().unwrap()).collect();
                let range = range_of(range.trim_end_matches(']'));
                self.running.push(Claim { tables, from: number(from), to: number(to), range });
            }
            level => {
                let level = number(level.trim_end_matches(':'));
                self.levels[level] = rest.split_whitespace().map(|text| table(text, level)).collect();
            }
        }
    }
}

/// The number of a level.
fn number(level: &str) -> usize {
    level.strip_prefix('L').unwrap_or_else(|| panic!("{level}")).parse().unwrap()
}

fn range_of(text: &str) -> KeyRange {
    let (smallest, largest) = text.split_once('-').unwrap();
    KeyRange { smallest: smallest.into(), largest: largest.into() }
}

fn table(text: &str, level: usize) -> (TableMeta, u64, bool) {
    let (id, rest) = text.split_once('[').unwrap();
    let (range, properties) = rest.split_once(']').unwrap();
    let KeyRange { smallest, largest } = range_of(range);
    let (level, bytes, entries, seq_max) = (level as u8, 1, 1, 1);
    let id = id.parse().unwrap();
    let mut meta = TableMeta { id, level, smallest, largest, bytes, entries, seq_max, ..Default::default() };
    let (mut keys, mut due) = (None, false);
    for property in properties.split(',').filter(|property| !property.is_empty()) {
        let (name, is) = property.split_once('=').unwrap_or((property, ""));
        let value = |text: &str| text.parse::<u64>().unwrap();
        match name {
            "b" => meta.bytes = value(is),
            "v" => meta.refs = vec![SegmentRef { segment: 1, count: 1, bytes: value(is) }],
            "e" => meta.entries = value(is),
            "t" => meta.tombstones = value(is),
            "k" => keys = Some(value(is)),
            "s" => {
                let (min, max) = is.split_once("..").unwrap();
                (meta.seq_min, meta.seq_max) = (value(min), value(max));
            }
            "due" => due = true,
            other => panic!("{other}"),
        }
    }
    let keys = keys.unwrap_or(meta.entries);
    (meta, keys, due)
}

pub(super) fn shown(choice: Option<&Choice>) -> String {
    let Some(Choice { claim, work, why, .. }) = choice else { return "nothing".into() };
    let verb = if *work == Work::Move { "move" } else { "merge" };
    let ids: Vec<_> = claim.tables.iter().map(u64::to_string).collect();
    format!("{verb} {}: L{}->L{} ({})", ids.join(" "), claim.from, claim.to, why.name())
}

/// Broken by: a small store, all of it in level 0, that keeps what nobody sees any more.
#[test]
fn an_idle_store_gives_up_what_has_expired_in_level_0() {
    let mut scene = Scene { idle: true, ..Scene::empty() };
    scene.levels[0] = vec![table("5[a-c]b=10,v=990,e=10", 0)];
    for (expired, choice) in [(0, "nothing"), (1, "nothing"), (2, "move 5: L0->L6 (idle)")] {
        let mut situation = scene.situation();
        situation.levels[0][0].expired = expired;
        assert_eq!(shown(pick(&situation, &OPTIONS).as_ref()), choice);
    }
}

#[test]
fn decisions_are_those_of_the_script() {
    let script = include_str!("../testscripts/pick.txt");
    let (mut scene, mut title, mut cases, mut wrong) = (Scene::empty(), "", 0, Vec::new());
    let lines = script.lines().map(str::trim).filter(|line| !line.is_empty());
    for line in lines.filter(|line| line.starts_with("##") || !line.starts_with('#')) {
        if let Some(next) = line.strip_prefix("## ") {
            title = next;
        } else if let Some(expected) = line.strip_prefix("=> ") {
            let choice = pick(&scene.situation(), &OPTIONS);
            let (expected, found) = (expected.trim_end_matches(" !"), shown(choice.as_ref()));
            if found != expected {
                wrong.push(format!("{title}: {expected} expected, {found} found"));
            }
            if let Some(wanted) = scene.wanted.first() {
                let satisfied = is_satisfied(&scene.situation(), &OPTIONS, wanted);
                assert_eq!(satisfied, choice.is_none(), "{title}");
            }
            scene = Scene::empty();
            cases += 1;
        } else {
            scene.read_line(line);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(cases > 40, "{cases} cases");
}

fn any_range() -> impl Strategy<Value = KeyRange> {
    (b'a'..=b'z', 0u8..6)
        .prop_map(|(first, more)| KeyRange { smallest: vec![first], largest: vec![(first + more).min(b'z')] })
}

fn any_meta() -> impl Strategy<Value = (TableMeta, u64, bool)> {
    (any_range(), 1u64..150, 0u64..400, 1u64..100, 0u64..100, 0u64..100, prop::bool::weighted(0.1)).prop_map(
        |(range, bytes, values, entries, tombstones, shadowed, due)| {
            let refs = vec![SegmentRef { segment: 1, count: 1, bytes: values }];
            let KeyRange { smallest, largest } = range;
            let tombstones = tombstones.saturating_sub(80).min(entries);
            let meta =
                TableMeta { smallest, largest, bytes, entries, tombstones, refs, ..Default::default() };
            (meta, entries - shadowed.saturating_sub(80).min(entries - 1), due)
        },
    )
}

/// Levels as they can be: disjoint below level 0, which is in the order of age.
pub(super) fn any_scene() -> impl Strategy<Value = Scene> {
    let level = || prop::collection::vec(any_meta(), 0..9);
    let levels = prop::collection::vec(level(), LEVELS);
    let cursors = prop::collection::vec(prop::collection::vec(b'a'..=b'z', 0..2), LEVELS);
    let wanted = prop::option::weighted(0.2, (any_range(), 0u64..40));
    let snapshot = prop::option::weighted(0.2, 0u64..60);
    (levels, cursors, snapshot, any::<bool>(), wanted).prop_map(
        |(levels, cursors, snapshot, idle, wanted)| {
            let mut scene = Scene { cursors, snapshot, idle, ..Scene::empty() };
            scene.wanted.extend(wanted.map(|(range, seq)| Wanted { from: range.smallest, to: None, seq }));
            let mut id = 100;
            for (level, tables) in levels.into_iter().enumerate() {
                for (mut meta, keys, due) in tables {
                    let range = KeyRange::of(&meta);
                    if level > 0 && scene.levels[level].iter().any(|(other, ..)| range.touches_table(other)) {
                        continue;
                    }
                    id -= 1;
                    (meta.id, meta.level) = (id, level as u8);
                    (meta.seq_min, meta.seq_max) = (id * 10, id * 10 + 9);
                    scene.levels[level].push((meta, keys, due));
                }
                if level > 0 {
                    scene.levels[level].sort_by(|a, b| a.0.smallest.cmp(&b.0.smallest));
                }
            }
            scene
        },
    )
}

fn table_of(scene: &Scene, id: u64) -> &TableMeta {
    scene.levels.iter().flatten().map(|(meta, ..)| meta).find(|meta| meta.id == id).unwrap()
}

/// What must hold of a decision, whatever it is for.
fn check(scene: &Scene, choice: &Choice) {
    let Claim { tables, from, to, range } = &choice.claim;
    let inputs: Vec<_> = tables.iter().map(|id| table_of(scene, *id)).collect();
    let is_input = |meta: &TableMeta| tables.contains(&meta.id);
    assert!(inputs.iter().all(|meta| [*from, *to].contains(&usize::from(meta.level))));
    assert_eq!(KeyRange::hull(inputs.iter().copied()).as_ref(), Some(range));
    assert!(inputs.iter().any(|meta| usize::from(meta.level) == *from));
    for running in &scene.running {
        let shared = running.tables.iter().any(|id| tables.contains(id));
        let written = *to > 0 && running.to == *to && running.range.touches(range);
        assert!(!shared && !written, "in the way of {running:?}: {choice:?}");
    }
    // A version never gets below an older one of its key, nor beside another table of its keys.
    for (level, tables) in scene.levels.iter().enumerate() {
        for (at, (meta, ..)) in tables.iter().enumerate().filter(|(_, (meta, ..))| !is_input(meta)) {
            let older_in_0 = || {
                scene.levels[0]
                    .iter()
                    .take(at)
                    .any(|(newer, ..)| is_input(newer) && KeyRange::of(newer).touches_table(meta))
            };
            if level == 0 && *to > 0 {
                assert!(!older_in_0(), "{} is older than what goes down: {choice:?}", meta.id);
            } else if level > *from && level <= *to {
                let upper = inputs.iter().filter(|input| usize::from(input.level) == *from);
                let mut upper = upper.map(|input| KeyRange::of(input));
                assert!(
                    !upper.any(|range| range.touches_table(meta)),
                    "{} is passed by: {choice:?}",
                    meta.id
                );
            }
        }
    }
    if *to == 0 {
        let at = |id: &u64| scene.levels[0].iter().position(|(meta, ..)| meta.id == *id).unwrap();
        let places: Vec<_> = tables.iter().map(at).collect();
        assert!(places.windows(2).all(|pair| pair[1] == pair[0] + 1), "no neighbours by age: {choice:?}");
    }
    if choice.work == Work::Move {
        assert!(inputs.iter().all(|meta| usize::from(meta.level) == *from) && from < to);
        for (n, meta) in inputs.iter().enumerate() {
            let beside = inputs.iter().skip(n + 1).any(|other| KeyRange::of(meta).touches_table(other));
            assert!(!beside, "tables that overlap would share a level: {choice:?}");
        }
    }
}

/// The levels once the compaction has been done: what is merged comes out as one table.
fn done(scene: &mut Scene, choice: &Choice) {
    let Claim { tables, to, range, .. } = &choice.claim;
    let mut gone = Vec::new();
    for level in &mut scene.levels {
        level.retain(|table| {
            let stays = !tables.contains(&table.0.id);
            if !stays {
                gone.push(table.clone());
            }
            stays
        });
    }
    if choice.work == Work::Merge {
        let sum = |of: fn(&TableMeta) -> u64| gone.iter().map(|(meta, ..)| of(meta)).sum::<u64>();
        let bottom = scene.levels.iter().skip(*to + 1).flatten().all(|(meta, ..)| !range.touches_table(meta));
        let seen =
            scene.snapshot.is_some_and(|snapshot| gone.iter().any(|(meta, ..)| meta.seq_max > snapshot));
        let tombstones = if bottom && !seen && *to > 0 { 0 } else { sum(|meta| meta.tombstones) };
        let entries = sum(|meta| meta.entries);
        let meta = TableMeta {
            id: gone.iter().map(|(meta, ..)| meta.id).max().unwrap(),
            smallest: range.smallest.clone(),
            largest: range.largest.clone(),
            bytes: sum(|meta| meta.bytes),
            entries,
            tombstones,
            seq_min: gone.iter().map(|(meta, ..)| meta.seq_min).min().unwrap(),
            seq_max: gone.iter().map(|(meta, ..)| meta.seq_max).max().unwrap(),
            refs: gone.iter().flat_map(|(meta, ..)| meta.refs.clone()).collect(),
            ..Default::default()
        };
        let keys = if seen { entries.min(1) } else { entries };
        gone = vec![(meta, keys, tombstones > 0 && gone.iter().any(|(.., due)| *due))];
    }
    for mut table in gone {
        table.0.level = *to as u8;
        scene.levels[*to].push(table);
    }
    if *to == 0 {
        scene.levels[0].sort_by_key(|(meta, ..)| std::cmp::Reverse(meta.seq_max));
    } else {
        scene.levels[*to].sort_by(|a, b| a.0.smallest.cmp(&b.0.smallest));
        let level = &scene.levels[*to];
        assert!(level.windows(2).all(|pair| pair[0].0.largest < pair[1].0.smallest), "overlap: {choice:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..Default::default() })]

    /// Any number of compactions at once, which end in any order, until there is nothing to do.
    #[test]
    fn no_two_compactions_are_in_each_others_way_and_all_comes_to_an_end(
        mut scene in any_scene(),
        workers in 1usize..5,
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
    ) {
        let (mut running, mut steps): (Vec<Choice>, usize) = (Vec::new(), 0);
        loop {
            while running.len() < workers {
                let Some(choice) = pick(&scene.situation(), &OPTIONS) else { break };
                check(&scene, &choice);
                scene.cursors[choice.claim.from] = choice.cursor.clone();
                scene.running.push(choice.claim.clone());
                running.push(choice);
            }
            if running.is_empty() {
                break;
            }
            steps += 1;
            prop_assert!(steps < 2000, "no end: {running:?} {scene:?}");
            let choice = running.swap_remove(order[steps % order.len()].index(running.len()));
            done(&mut scene, &choice);
            scene.running.retain(|claim| *claim != choice.claim);
        }
        let satisfied = |wanted: &Wanted| is_satisfied(&scene.situation(), &OPTIONS, wanted);
        prop_assert!(scene.wanted.iter().all(satisfied), "{scene:?}");
        prop_assert!(scene.levels[0].len() < OPTIONS.l0_tables_max);
        prop_assert!(scene.situation().pending_bytes(&OPTIONS) == 0);
        let bottom = (1..LEVELS).rev().find(|level| !scene.levels[*level].is_empty());
        if scene.idle && scene.snapshot.is_none() {
            let due = scene.levels.iter().flatten().filter(|(meta, _, due)| *due && meta.tombstones > 0);
            prop_assert_eq!(due.count(), 0);
            let above = scene.levels.iter().take(bottom.unwrap_or(0)).flatten();
            let above: u64 = above.map(|(meta, ..)| weight(meta)).sum();
            prop_assert!(above == 0 || scene.situation().weights().iter().max().copied() >= Some(above));
        }
    }
}
