//! A process that applies and flushes is killed again and again: what is in files is always the state of a prefix of
//! the log, and replay brings it to the state of a process that was never killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use perennial_storage::state::PartitionState;
use types::{Lsn, Record};

use crate::history::{Step, Writer};
use crate::setup::{Map, assert_is, end, entries, env, lineage, open};

const KILLS: usize = 30;
const RECORDS: usize = 40_000;
/// Names the child's directory, and makes a child of the process.
const CHILD: &str = "PERENNIAL_STATE_KILL_DIR";
/// What the child says when it begins to apply.
const READY: &str = "at work";

/// A small generator: the same numbers in every process.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn log() -> Vec<Record> {
    let mut numbers = Numbers(17);
    let steps: Vec<_> = (0..RECORDS)
        .map(|_| {
            let late = numbers.below(2) == 0;
            let writes = (0..=numbers.below(3))
                .map(|_| (numbers.below(25) as u8, (numbers.below(4) > 0).then_some(numbers.below(256) as u8)))
                .collect::<std::collections::BTreeMap<_, _>>()
                .into_iter()
                .collect();
            match numbers.below(1000) {
                0..3 => Step::Failover,
                3..6 => Step::Promotion(numbers.below(12) as u8),
                6..150 => Step::Prepare(writes, late),
                150..300 => Step::Outcome(numbers.below(8) as usize, (numbers.below(5) > 0).then_some(late)),
                300..350 => Step::Reserve,
                350..380 => Step::Forget(numbers.below(1000) as usize),
                _ => Step::Commit(writes, late),
            }
        })
        .collect();
    Writer::write(&steps)
}

/// The child: applies in groups, flushes now and then on a thread of its own, until it is killed or has done all.
fn work(dir: &Path) {
    let log = log();
    let state: PartitionState = open(&env(1 << 20), dir, &log);
    println!("\n{READY}");
    let mut numbers = Numbers(state.applied().0);
    std::thread::scope(|scope| {
        let flusher = scope.spawn(|| {
            while state.flushed() < end(&log) {
                state.flush(end(&log)).expect("flush");
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        while state.applied() < end(&log) {
            let at = state.applied().0 as usize;
            let count = 1 + numbers.below(30) as usize;
            state.apply(&log[at..log.len().min(at + count)]).expect("apply");
            if numbers.below(4) == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        flusher.join().expect("flusher");
    });
}

fn start(dir: &Path) -> Child {
    let program = std::env::current_exe().expect("this program");
    let name = "kill::a_killed_process_loses_nothing_that_replay_does_not_bring_back";
    let mut command = Command::new(program);
    command.args([name, "--exact", "--nocapture"]).env(CHILD, dir).stdout(Stdio::piped());
    let mut child = command.spawn().expect("start a child");
    let mut output = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(output.any(|line| line.is_ok_and(|line| line == READY)), "the child did not come to work");
    child
}

#[test]
fn a_killed_process_loses_nothing_that_replay_does_not_bring_back() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return work(Path::new(&dir));
    }
    let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
    let log = log();
    assert!(log.len() > RECORDS / 2, "{} records", log.len());
    let (mut prefix, mut at, mut kills, mut numbers) = (Map::default(), 0, 0, Numbers(99));
    let (mut lives, mut advanced) = (0, 0);
    while kills < KILLS || advanced < KILLS / 2 {
        lives += 1;
        assert!(lives < 20 * KILLS, "{kills} kills, {advanced} of them after a flush: the child does not get on");
        let mut child = start(dir.path());
        std::thread::sleep(Duration::from_millis(numbers.below(60)));
        // SIGKILL.
        child.kill().expect("kill the child");
        let status = child.wait().expect("wait for the child");
        kills += usize::from(status.code().is_none());

        let state = open(&env, dir.path(), &log);
        let applied = state.applied().0 as usize;
        assert!(applied >= at, "flushed {applied} after {at}");
        advanced += usize::from(applied > at);
        log[at..applied].iter().for_each(|record| prefix.apply(record));
        at = applied;
        assert_eq!(entries(&state), prefix.0, "at {at} after {kills} kills");
        assert_eq!(*state.lineage(), lineage(&log[..at]));
        if at == log.len() {
            // It had come to the end: another life, from the beginning.
            drop(state);
            std::fs::remove_dir_all(dir.path()).unwrap();
            (prefix, at) = (Map::default(), 0);
        }
    }
    let state = open(&env, dir.path(), &log);
    state.apply(&log[at..]).unwrap();
    assert_eq!(state.applied(), Lsn(log.len() as u64));
    assert_eq!(entries(&state), Map::of(&log).0);
    let short = &log[..300];
    let never_killed = tempfile::tempdir().unwrap();
    let other = open(&env, never_killed.path(), short);
    other.apply(short).unwrap();
    assert_is(&other, short);
}
