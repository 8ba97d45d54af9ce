//! Clients that write to one partition each, all the time.
//!
//! A write changes one row by its key and is its own transaction. A client that is refused tries again at once; one whose
//! connection is lost turns to the next aggregator, as an application with several addresses does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::client::{Client, ClientError};
use crate::cluster::{Cluster, connect};

/// Between two writes of one client; no pause is measured finer than this.
const PAUSE: Duration = Duration::from_millis(5);
/// A statement that takes longer than this is given up with its connection.
const PATIENCE: Duration = Duration::from_secs(60);
/// Writes that tell which partition a key is in.
const HITS: u64 = 6;
/// How long those take to be seen.
const SEEN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// A write that was acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Ack {
    /// When it was sent.
    pub sent: Instant,
    /// When it was acknowledged.
    pub at: Instant,
}

#[derive(Debug, Default)]
struct Heard {
    acks: Vec<Ack>,
    errors: BTreeMap<String, u64>,
}

struct Probe {
    ordinal: i64,
    heard: Arc<Mutex<Heard>>,
    thread: Option<JoinHandle<()>>,
}

/// All clients.
pub struct Probes {
    probes: Vec<Probe>,
    stop: Arc<AtomicBool>,
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Probes {
    /// Makes a database, finds a key in each of its partitions, and begins to write there.
    pub fn prepare(cluster: &mut Cluster, partitions: usize, copies: usize) -> Result<Probes> {
        let addresses = cluster.sql();
        let mut client = connect(addresses[0], PATIENCE)?;
        client.run(&format!("CREATE DATABASE probe PARTITIONS {partitions} OPTIONS (redundancy = {copies})"))?;
        client.run("CREATE TABLE probe.t (id INT PRIMARY KEY, n BIGINT NOT NULL)")?;
        cluster.wait_whole(copies)?;
        let keys = keys(cluster, &mut client, partitions)?;
        let stop = Arc::new(AtomicBool::new(false));
        let start = |(ordinal, key): (i64, u32)| {
            let (heard, stop, addresses) = (Arc::<Mutex<Heard>>::default(), stop.clone(), addresses.clone());
            let of_thread = heard.clone();
            let thread = std::thread::spawn(move || write(&addresses, key, &of_thread, &stop));
            Probe { ordinal, heard, thread: Some(thread) }
        };
        Ok(Probes { probes: keys.into_iter().map(start).collect(), stop })
    }

    /// Forgets what was heard, but the last acknowledgement of each client.
    pub fn forget(&self) {
        for probe in &self.probes {
            let mut heard = lock(&probe.heard);
            let last = heard.acks.last().copied();
            *heard = Heard { acks: last.into_iter().collect(), ..Heard::default() };
        }
    }

    /// Whether every partition has acknowledged a write that was sent after this moment.
    pub fn all_since(&self, moment: Instant) -> bool {
        self.probes.iter().all(|probe| lock(&probe.heard).acks.last().is_some_and(|ack| ack.sent >= moment))
    }

    /// The longest time without an acknowledgement since this moment, and where.
    pub fn longest(&self, since: Instant) -> (Duration, i64) {
        let now = Instant::now();
        let of = |probe: &Probe| (longest(&lock(&probe.heard).acks, since, now), probe.ordinal);
        self.probes.iter().map(of).max().unwrap_or_default()
    }

    /// Acknowledgements of all clients in each whole second since this moment.
    pub fn each_second(&self, since: Instant) -> Vec<usize> {
        let mut seconds = vec![0; since.elapsed().as_secs() as usize];
        for probe in &self.probes {
            let acks = lock(&probe.heard).acks.iter().map(|ack| ack.at).filter(|at| *at >= since).collect::<Vec<_>>();
            for at in acks {
                if let Some(second) = seconds.get_mut((at - since).as_secs() as usize) {
                    *second += 1;
                }
            }
        }
        seconds
    }

    /// How often which error came.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for probe in &self.probes {
            for (error, count) in &lock(&probe.heard).errors {
                *all.entry(error.clone()).or_default() += count;
            }
        }
        all
    }

    /// Ends all clients.
    pub fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for probe in &mut self.probes {
            if let Some(thread) = probe.thread.take() {
                thread.join().map_err(|_| anyhow!("the client of partition {} has panicked", probe.ordinal))?;
            }
        }
        Ok(())
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The longest time without an acknowledgement between two moments.
fn longest(acks: &[Ack], since: Instant, now: Instant) -> Duration {
    let mut last = since;
    let mut longest = Duration::ZERO;
    for at in acks.iter().map(|ack| ack.at).filter(|at| *at > since).chain([now]) {
        longest = longest.max(at - last);
        last = at;
    }
    longest
}

/// A key in each partition: which one a key is in is told by whose log grows.
fn keys(cluster: &Cluster, client: &mut Client, partitions: usize) -> Result<BTreeMap<i64, u32>> {
    let mut keys = BTreeMap::new();
    let mut before = ends(cluster)?;
    for key in 0.. {
        if keys.len() == partitions {
            break;
        }
        ensure!(key < 100 * partitions as u32, "{key} keys lie in {} of {partitions} partitions alone", keys.len());
        client.run(&format!("INSERT INTO probe.t VALUES ({key}, 0)"))?;
        for _ in 0..HITS {
            client.run(&format!("UPDATE probe.t SET n = n + 1 WHERE id = {key}"))?;
        }
        let begun = Instant::now();
        let grown = loop {
            let now = ends(cluster)?;
            let has_grown = |(ordinal, end): &(&i64, &u64)| before.get(*ordinal).is_some_and(|was| **end >= was + HITS);
            if let Some((ordinal, _)) = now.iter().find(has_grown) {
                break *ordinal;
            }
            ensure!(begun.elapsed() < SEEN, "no log has grown after {HITS} writes to key {key}");
            std::thread::sleep(LOOK);
        };
        keys.entry(grown).or_insert(key);
        // Nothing of this key comes later.
        std::thread::sleep(LOOK * 4);
        before = ends(cluster)?;
    }
    Ok(keys)
}

/// Where the primaries' logs end.
fn ends(cluster: &Cluster) -> Result<BTreeMap<i64, u64>> {
    let copies = cluster.copies()?;
    let primaries = copies.iter().filter(|copy| copy.in_sync.is_some());
    primaries.map(|copy| Ok((copy.ordinal, copy.appended.context("a primary is not heard")?))).collect()
}

fn write(addresses: &[SocketAddr], key: u32, heard: &Mutex<Heard>, stop: &AtomicBool) {
    let update = format!("UPDATE probe.t SET n = n + 1 WHERE id = {key}");
    let (mut client, mut turn) = (None::<Client>, key as usize);
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        let mut open = match client.take() {
            Some(open) => open,
            None => match connect(addresses[turn % addresses.len()], PATIENCE) {
                Ok(open) => open,
                Err(_) => {
                    turn += 1;
                    std::thread::sleep(PAUSE);
                    continue;
                }
            },
        };
        match open.run(&update) {
            Ok(_) => {
                lock(heard).acks.push(Ack { sent, at: Instant::now() });
                client = Some(open);
            }
            Err(error) => {
                let name = error.code().map_or("connection lost".into(), |code| code.to_string());
                *lock(heard).errors.entry(name).or_default() += 1;
                match error {
                    ClientError::Server(_) => client = Some(open),
                    ClientError::Lost(_) | ClientError::Protocol(_) => turn += 1,
                }
            }
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_counts_from_the_fault_and_to_the_present() {
        let zero = Instant::now();
        let at = |millis: u64| zero + Duration::from_millis(millis);
        let ack = |millis: u64| Ack { sent: at(millis), at: at(millis) };
        let of = |acks: &[u64], since: u64, now: u64| {
            let acks: Vec<Ack> = acks.iter().map(|millis| ack(*millis)).collect();
            longest(&acks, at(since), at(now)).as_millis()
        };
        assert_eq!(of(&[0, 10, 400, 410], 100, 420), 300, "what lies before the fault is no part of it");
        assert_eq!(of(&[0, 10, 110, 300], 100, 310), 190, "the longest of several");
        assert_eq!(of(&[0, 10], 100, 900), 800, "it lasts still");
    }
}
