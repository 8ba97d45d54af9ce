//! Runs the golden scripts of `tests/scripts`: one scenario a file, the file's name is the claim.
//!
//! `UPDATE_GOLDENFILES=1 cargo test -p perennial-replication --test goldens` writes what the code does now; the diff
//! is then read and compared with `docs/protocol.md` before it is committed.

extern crate perennial_replication as replication;

mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use replication::Planted;
use world::World;

/// The scripts of a folder; a failing one does not hide the others.
fn run(folder: &str) {
    let scripts = scripts(&Path::new("tests/scripts").join(folder));
    assert!(!scripts.is_empty(), "{folder} has no scripts");
    let mut failed = vec![];
    for script in scripts {
        let result = catch_unwind(AssertUnwindSafe(|| goldenscript::run(&mut World::default(), &script)));
        match result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failed.push(format!("{}: {error}", script.display())),
            Err(_) => failed.push(format!("{}: see above", script.display())),
        }
    }
    assert!(failed.is_empty(), "{} scripts failed:\n{}", failed.len(), failed.join("\n"));
}

fn scripts(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder of scripts exists");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    paths.sort();
    paths
}

macro_rules! folders {
    ($($folder:ident)*) => {
        const FOLDERS: &[&str] = &[$(stringify!($folder)),*];

        $(#[test]
        fn $folder() {
            run(stringify!($folder));
        })*
    };
}

folders! { ack append catch_up dr_promotion dr_rewind dr_stream fence in_sync lease marks reign resolved rewind schema two_phase txn }

/// A rule that no script shows could be lost without anybody noticing: with each planted bug some script must read
/// otherwise, or end otherwise, than it does.
#[test]
fn every_planted_bug_changes_a_script() {
    let all: Vec<String> = FOLDERS
        .iter()
        .flat_map(|folder| scripts(&Path::new("tests/scripts").join(folder)))
        .map(|path| std::fs::read_to_string(path).expect("it can be read"))
        .collect();
    let mut unnoticed = vec![];
    for planted in PLANTED {
        if !all.iter().any(|text| reads_otherwise(*planted, text)) {
            unnoticed.push(planted);
        }
    }
    assert!(unnoticed.is_empty(), "no script shows {unnoticed:?}");
}

fn reads_otherwise(planted: Planted, text: &str) -> bool {
    let generate = AssertUnwindSafe(|| goldenscript::generate(&mut World::with(planted), text));
    !matches!(catch_unwind(generate), Ok(Ok(generated)) if generated == text)
}

/// All but those that are left out by the host: `FlushBeforeSync`, `LeaseBeforeRead`.
const PLANTED: &[Planted] = &[
    Planted::CandidateNotWaited,
    Planted::EarlyRemoval,
    Planted::LeaseFromReceipt,
    Planted::OrderAlone,
    Planted::ClosedIsDeath,
    Planted::ServeBeforeStart,
    Planted::AckBeforeSync,
    Planted::RestartForgets,
    Planted::OldFrames,
    Planted::ShipCommitted,
    Planted::PromiseVolatile,
    Planted::CandidateNoLease,
    Planted::AloneNoLease,
    Planted::CandidateNotDurable,
    Planted::ReignForgets,
    Planted::OutcomeByRead,
    Planted::NamedUnsynced,
    Planted::RefusedLate,
    Planted::GrantsRenewed,
    Planted::HeartbeatVoids,
    Planted::SlowStays,
    Planted::PresumedAbort,
    Planted::MarkIgnoresPrepared,
    Planted::MarkIgnoresRegistered,
    Planted::FailoverAborts,
    Planted::LossUnasked,
    Planted::MarksSurvive,
    Planted::LateMarks,
    Planted::LateFrames,
    Planted::CutForgotten,
    Planted::DeadServed,
    Planted::ServeVolatile,
    Planted::MarkBeforeHeld,
    Planted::IdleMarks,
    Planted::MarksAfterSeal,
    Planted::HistoryUnleased,
    Planted::RelayBeforeJoined,
    Planted::StaleTurn,
    Planted::SinkEndUnasked,
    Planted::MemberAwaitsCopy,
    Planted::MemberByCopy,
    Planted::OldLives,
    Planted::ResumeOpens,
    Planted::CopyForPromoted,
    Planted::CopyUncompared,
    Planted::CopyByDamaged,
    Planted::CopyForWaited,
    Planted::SchemaUnchecked,
    Planted::ViewIgnoresRegistered,
    Planted::ReaderIgnoresPrepared,
    Planted::TouchUnchecked,
    Planted::StartLocal,
    Planted::CutPerPartition,
    Planted::RequiredAtOnce,
    Planted::TermsKept,
    Planted::InquiredAcross,
    Planted::AnyHistory,
    Planted::CommitUnleased,
    Planted::LastCutAlone,
    Planted::ForgetUnderSeal,
    Planted::ReadShippedLate,
    Planted::EarlyWordForgotten,
    Planted::WithdrawnCommits,
];

/// A folder that nobody runs would claim what nobody checks.
#[test]
fn every_folder_is_run() {
    let mut folders: Vec<&str> = FOLDERS.to_vec();
    folders.sort();
    let found: Vec<String> = scripts(Path::new("tests/scripts"))
        .iter()
        .map(|path| path.file_name().expect("it has a name").to_string_lossy().into_owned())
        .collect();
    assert_eq!(found, folders);
}
