//! Snapshots: exported, sent in chunks over a bad line, taken.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use perennial_storage::snapshot::{Chunk, Export, FileEntry, Import, Manifest, SnapshotError};
use perennial_storage::state::{PartitionState, StateEnv, StateError};
use types::{Lsn, Record};

use crate::history::{HERE, Step, Writer};
use crate::setup::{assert_is, end, env, open, replay};

fn log() -> Vec<Record> {
    let steps: Vec<_> = (0..400)
        .map(|n| match n % 9 {
            3 => Step::Prepare(vec![(n as u8 % 5, Some(4))], true),
            6 => Step::Outcome(0, Some(false)),
            _ if n == 200 => Step::Promotion(2),
            _ => Step::Commit(vec![(n as u8 % 6, (n % 7 != 0).then_some(n as u8))], false),
        })
        .collect();
    Writer::write(&steps)
}

struct Source {
    env: Arc<StateEnv>,
    dir: tempfile::TempDir,
    state: PartitionState,
    log: Vec<Record>,
}

impl Source {
    fn new() -> Source {
        let (env, dir, log) = (env(1 << 20), tempfile::tempdir().unwrap(), log());
        let state = open(&env, &dir.path().join("state"), &log);
        state.apply(&log[..150]).unwrap();
        state.flush(end(&log)).unwrap();
        state.apply(&log[150..300]).unwrap();
        Source { env, dir, state, log }
    }

    fn export(&self) -> Export {
        Export::create(&self.state, &self.dir.path().join("export"), end(&self.log)).unwrap()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }
}

fn fetch(export: &Export, import: &mut Import, chunk: usize, limit: usize) {
    for _ in 0..limit {
        let Some((file, offset)) = import.next() else { return };
        import.write(&export.read(file, offset, chunk).unwrap()).unwrap();
    }
}

#[test]
fn a_snapshot_is_the_state_at_its_position() {
    let source = Source::new();
    let export = source.export();
    assert_eq!(export.manifest().applied, Lsn(300));
    // The source goes on and leaves the export alone.
    source.state.apply(&source.log[300..]).unwrap();
    source.state.flush(end(&source.log)).unwrap();
    let manifest = Manifest::decode(export.manifest().encode()).unwrap();
    assert_eq!(&manifest, export.manifest());
    let mut import = Import::begin(&source.path("import"), manifest).unwrap();
    fetch(&export, &mut import, 1000, usize::MAX);
    let manifest = import.finish(&source.env, HERE, &source.path("copy")).unwrap();
    assert_eq!(manifest.applied, Lsn(300));
    assert!(!source.path("import").exists());
    export.remove().unwrap();

    let copy = open(&source.env, &source.path("copy"), &source.log[..300]);
    assert_is(&copy, &source.log[..300]);
    replay(&copy, &source.log);
    assert_is(&copy, &source.log);
    assert_is(&source.state, &source.log);
}

#[test]
fn a_snapshot_of_what_the_log_may_lose_is_refused() {
    let source = Source::new();
    let refused = Export::create(&source.state, &source.path("export"), Lsn(299)).err().expect("refused");
    assert!(matches!(refused, SnapshotError::State(StateError::LogBehind { .. })), "{refused}");
}

#[test]
fn the_log_is_synced_while_nothing_is_applied() {
    let source = Source::new();
    let mut synced = None;
    let sync = || {
        synced = Some(source.state.applied());
        Ok(source.state.applied())
    };
    let export = Export::create_synced(&source.state, &source.path("export"), sync).unwrap();
    assert_eq!((synced, export.manifest().applied, source.state.flushed()), (Some(Lsn(300)), Lsn(300), Lsn(300)));
    let failed = source.state.flush_synced(|| Err(StateError::LogFailed { reason: "no disk".into() })).unwrap_err();
    assert!(failed.to_string().contains("no disk"), "{failed}");
}

#[test]
fn the_newest_time_of_a_state_is_that_of_its_log() {
    let source = Source::new();
    for applied in [300, 350, 400] {
        let newest = source.log[..applied].iter().filter_map(|record| record.body.timestamp()).max();
        source.state.apply(&source.log[source.state.applied().0 as usize..applied]).unwrap();
        assert_eq!(source.state.newest().unwrap(), newest.unwrap(), "at {applied}");
    }
    // What garbage collection removes is remembered by its bounds.
    let newest = source.state.newest().unwrap();
    while !source.state.collect(newest, Lsn(400), 1000).unwrap().finished {}
    assert_eq!(source.state.newest().unwrap(), newest);
    let empty = open(&source.env, &source.path("empty"), &[]);
    assert_eq!(empty.newest().unwrap(), types::Timestamp::ZERO);
}

#[test]
fn a_doomed_state_is_deleted_with_its_last_reader() {
    let Source { env, dir, state, log } = Source::new();
    let path = dir.path().join("state");
    let view = state.view(types::Timestamp::MAX).unwrap();
    state.doom();
    drop(state);
    assert!(path.exists(), "a view reads it");
    drop(view);
    assert!(!path.exists());
    // The place is free for another one.
    assert_eq!(open(&env, &path, &log).applied(), Lsn::ZERO);
}

#[test]
fn a_transfer_that_broke_goes_on_where_it_was() {
    let source = Source::new();
    drop(source.export());
    let mut asked = 0;
    let mut taken = None;
    for _ in 0..1000 {
        // Both sides have restarted.
        let export = Export::open(&source.path("export")).unwrap();
        let mut import = Import::begin(&source.path("import"), export.manifest().clone()).unwrap();
        assert!(taken.is_none_or(|place| import.next() == Some(place) || import.next().is_none()));
        fetch(&export, &mut import, 700, 3);
        asked += 3;
        taken = import.next();
        if taken.is_none() {
            import.finish(&source.env, HERE, &source.path("copy")).unwrap();
            break;
        }
    }
    let size = Export::open(&source.path("export")).unwrap().manifest().size() as usize;
    assert!(asked <= size / 700 + 20 * 3, "{asked} chunks for {size} bytes: it began again");
    assert_is(&open(&source.env, &source.path("copy"), &source.log[..300]), &source.log[..300]);
}

#[test]
fn damage_on_the_way_is_noticed_and_fetched_again() {
    let source = Source::new();
    let export = source.export();
    let mut import = Import::begin(&source.path("import"), export.manifest().clone()).unwrap();
    let (file, offset) = import.next().unwrap();
    let good = export.read(file, offset, 64).unwrap();
    let refuse = |import: &mut Import, chunk: Chunk| {
        let refused = import.write(&chunk).unwrap_err();
        assert!(matches!(refused, SnapshotError::Chunk { .. }), "{refused}");
        assert_eq!(import.next(), Some((file, offset)));
    };
    let mut changed = good.bytes.to_vec();
    changed[0] ^= 1;
    refuse(&mut import, Chunk { bytes: changed.clone().into(), ..good.clone() });
    refuse(&mut import, Chunk { offset: 64, ..good.clone() });
    refuse(&mut import, Chunk { file: file + 1, ..good.clone() });
    let long = Bytes::from(vec![0; export.manifest().files[file as usize].size as usize + 1]);
    refuse(&mut import, Chunk { crc: crc32c::crc32c(&long), bytes: long, ..good.clone() });

    // A wrong chunk with a right checksum is noticed when its file is complete.
    import.write(&Chunk { crc: crc32c::crc32c(&changed), bytes: changed.into(), ..good }).unwrap();
    let refused = loop {
        let (file, offset) = import.next().unwrap();
        if let Err(error) = import.write(&export.read(file, offset, 1 << 20).unwrap()) {
            break error;
        }
    };
    assert!(matches!(refused, SnapshotError::File { .. }), "{refused}");
    assert_eq!(import.next(), Some((file, 0)));
    fetch(&export, &mut import, 1 << 20, usize::MAX);
    import.finish(&source.env, HERE, &source.path("copy")).unwrap();
    assert_is(&open(&source.env, &source.path("copy"), &source.log[..300]), &source.log[..300]);
}

#[test]
fn bytes_that_the_disk_lost_after_a_restart_are_fetched_again() {
    let source = Source::new();
    let export = source.export();
    let mut import = Import::begin(&source.path("import"), export.manifest().clone()).unwrap();
    fetch(&export, &mut import, 1 << 20, usize::MAX);
    drop(import);
    let longest = export.manifest().files.iter().max_by_key(|file| file.size).unwrap();
    let path = source.path("import").join(&longest.name);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[longest.size as usize / 2..].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let mut import = Import::begin(&source.path("import"), export.manifest().clone()).unwrap();
    let place = export.manifest().files.iter().position(|file| file == longest).unwrap();
    assert_eq!(import.next(), Some((place as u32, 0)));
    fetch(&export, &mut import, 1 << 20, usize::MAX);
    import.finish(&source.env, HERE, &source.path("copy")).unwrap();
    assert_is(&open(&source.env, &source.path("copy"), &source.log[..300]), &source.log[..300]);
}

#[test]
fn another_snapshot_in_the_same_place_begins_anew() {
    let source = Source::new();
    let export = source.export();
    let mut import = Import::begin(&source.path("import"), export.manifest().clone()).unwrap();
    fetch(&export, &mut import, 1 << 20, 2);
    export.remove().unwrap();
    source.state.apply(&source.log[300..350]).unwrap();
    let export = source.export();
    let mut import = Import::begin(&source.path("import"), export.manifest().clone()).unwrap();
    let first = export.manifest().files.iter().position(|file| file.size > 0).unwrap();
    assert_eq!(import.next(), Some((first as u32, 0)));
    fetch(&export, &mut import, 1 << 20, usize::MAX);
    import.finish(&source.env, HERE, &source.path("copy")).unwrap();
    assert_is(&open(&source.env, &source.path("copy"), &source.log[..350]), &source.log[..350]);
}

fn finish_fails(source: &Source, import: Import, target: &Path) -> String {
    let refused = import.finish(&source.env, HERE, target).unwrap_err();
    assert!(matches!(refused, SnapshotError::Mismatch { .. }), "{refused}");
    refused.to_string()
}

#[test]
fn nothing_is_installed_that_is_not_whole_and_right() {
    let source = Source::new();
    let export = source.export();
    let mut import = Import::begin(&source.path("import"), export.manifest().clone()).unwrap();
    fetch(&export, &mut import, 700, 2);
    assert!(finish_fails(&source, import, &source.path("copy")).contains("only"));

    let mut import = Import::begin(&source.path("import"), export.manifest().clone()).unwrap();
    fetch(&export, &mut import, 1 << 20, usize::MAX);
    assert!(finish_fails(&source, import, &source.path("state")).contains("in the way"));

    let wrong = Manifest { applied: Lsn(299), ..export.manifest().clone() };
    let mut import = Import::begin(&source.path("wrong"), wrong).unwrap();
    fetch(&export, &mut import, 1 << 20, usize::MAX);
    assert!(finish_fails(&source, import, &source.path("copy")).contains("Lsn(299)"));
    assert!(!source.path("copy").exists());
}

#[test]
fn a_manifest_that_was_changed_or_leaves_its_directory_is_refused() {
    let source = Source::new();
    let good = source.export().manifest().clone();
    let bytes = good.encode();
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 0x10;
        assert!(Manifest::decode(changed.into()).is_err(), "byte {at}");
        assert!(Manifest::decode(bytes.slice(..at)).is_err(), "{at} bytes");
    }
    for name in ["", ".", "..", "../state", "a/b", "/etc/x", "a\0b", "perennial-snapshot", "ä"] {
        let files = vec![FileEntry { name: name.into(), size: 1, crc: 0 }];
        let refused = Manifest::decode(Manifest { files, ..good.clone() }.encode()).unwrap_err();
        assert!(refused.to_string().contains("is no file name"), "{name:?}: {refused}");
    }
}
