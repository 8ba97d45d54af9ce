//! Faults as they happen: whom they meet, what is done, and how it is undone.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::fault::Fault;
use super::operator::Operator;
use crate::cluster::{Cluster, Node, Place, Quality, Relay, Role};

/// A suspended process stands still for so long, and runs for so long.
const STUTTER: [Duration; 2] = [Duration::from_millis(180), Duration::from_millis(120)];
/// Nothing else begins or ends while one stutters.
const STUTTER_MAX: Duration = Duration::from_secs(3);
/// Bytes that are left on a disk that is full for a leaf, and of one without any room.
const LEFT: [u64; 2] = [16 << 20, 0];
/// What somebody else writes at once.
const BLOCK: usize = 1 << 20;
/// How many do so.
const WRITERS: usize = 3;

/// A fault that lasts.
pub struct Struck {
    /// What.
    pub fault: Fault,
    /// Whom it meets.
    pub victims: Vec<Place>,
    /// In words.
    pub text: String,
    /// When it is to be undone.
    pub until: Instant,
    kilobits: u32,
    quality: Quality,
    relay: Option<Relay>,
    busy: Option<Busy>,
    operator: Option<Operator>,
}

/// Strikes. `None`: there is nobody whom it could meet, for those whom others meet are left alone.
pub fn strike(
    cluster: &mut Cluster,
    fault: Fault,
    taken: &[Place],
    random: &mut ChaCha8Rng,
    lasts: Duration,
) -> Result<Option<Struck>> {
    let Some(victims) = victims(cluster, fault, taken, random)? else { return Ok(None) };
    let names: Vec<&str> = victims.iter().map(|place| &*cluster.nodes[*place].name).collect();
    let text = format!("{} {}", fault.name(), names.join(", "));
    let (kilobits, quality) = (random.random_range(100..4_000), quality(fault, random));
    let until = Instant::now() + lasts;
    let mut struck = Struck { fault, victims, text, until, kilobits, quality, relay: None, busy: None, operator: None };
    struck.begin(cluster, lasts)?;
    Ok(Some(struck))
}

/// Of a bad line.
fn quality(fault: Fault, random: &mut ChaCha8Rng) -> Quality {
    let millis = |most: u64, random: &mut ChaCha8Rng| Duration::from_millis(random.random_range(1..most));
    match fault {
        Fault::LossyLink => {
            Quality { delay: Duration::ZERO, jitter: millis(10, random), loss: random.random_range(0.01..0.3) }
        }
        _ => Quality { delay: millis(400, random), jitter: millis(200, random), loss: 0.0 },
    }
}

fn victims(cluster: &Cluster, fault: Fault, taken: &[Place], random: &mut ChaCha8Rng) -> Result<Option<Vec<Place>>> {
    let free = |role: Option<Role>| {
        let fits = |node: &&Node| role.is_none_or(|role| node.role == role) && !taken.contains(&node.place);
        cluster.nodes.iter().filter(fits).map(|node| node.place).collect::<Vec<Place>>()
    };
    let one = |role, random: &mut ChaCha8Rng| free(role).choose(random).map(|place| vec![*place]);
    Ok(match fault {
        Fault::KillLeaf | Fault::SuspendLeaf | Fault::Stutter | Fault::CutLeaf | Fault::LoseDisk => {
            one(Some(Role::Leaf), random)
        }
        Fault::KillAggregator | Fault::SuspendAggregator | Fault::CutAggregator => one(Some(Role::Aggregator), random),
        Fault::Stop | Fault::SlowLink | Fault::LateLink | Fault::LossyLink => one(None, random),
        // Whom nobody knows at the moment nobody kills.
        Fault::KillMaster => cluster.master().ok().filter(|master| !taken.contains(master)).map(|master| vec![master]),
        Fault::CutPair | Fault::CutWay => {
            let leaf = free(Some(Role::Leaf)).choose(random).copied();
            let other = |leaf: Place| free(None).into_iter().filter(|place| *place != leaf).collect::<Vec<Place>>();
            let pair = leaf.and_then(|leaf| Some(vec![leaf, *other(leaf).choose(random)?]));
            pair.map(|mut pair| {
                if random.random() {
                    pair.reverse();
                }
                pair
            })
        }
        Fault::FullDisk | Fault::NoRoom => {
            let small = cluster.of(Role::Leaf).last().map(|node| node.place);
            small.filter(|place| !taken.contains(place)).map(|place| vec![place])
        }
        Fault::SlowDisk => Some(vec![]),
        Fault::KillAll => taken.is_empty().then(|| free(None)),
    })
}

impl Struck {
    fn begin(&mut self, cluster: &mut Cluster, lasts: Duration) -> Result<()> {
        let (network, first) = (cluster.network, self.victims.first().copied());
        match (self.fault, first) {
            (Fault::KillLeaf | Fault::KillAggregator | Fault::KillMaster | Fault::KillAll, _) => {
                self.victims.iter().try_for_each(|place| cluster.nodes[*place].kill())
            }
            (Fault::LoseDisk, Some(place)) => {
                cluster.nodes[place].kill()?;
                self.operator = Some(Operator::give_up(cluster, place));
                Ok(())
            }
            (Fault::Stop, Some(place)) => cluster.nodes[place].stop(),
            (Fault::SuspendLeaf | Fault::SuspendAggregator, Some(place)) => cluster.nodes[place].signal("STOP"),
            (Fault::Stutter, Some(place)) => {
                let begun = Instant::now();
                while begun.elapsed() < lasts.min(STUTTER_MAX) {
                    cluster.nodes[place].signal("STOP")?;
                    std::thread::sleep(STUTTER[0]);
                    cluster.nodes[place].signal("CONT")?;
                    std::thread::sleep(STUTTER[1]);
                }
                Ok(())
            }
            (Fault::CutLeaf | Fault::CutAggregator, Some(place)) => network.cut(place),
            (Fault::CutPair, Some(place)) => {
                network.cut_way(place, self.victims[1])?;
                network.cut_way(self.victims[1], place)
            }
            (Fault::CutWay, Some(place)) => network.cut_way(place, self.victims[1]),
            (Fault::SlowLink, Some(place)) => network.slow(place, self.kilobits),
            (Fault::LateLink | Fault::LossyLink, Some(place)) => {
                self.relay = Some(network.degrade(place, self.quality, u64::from(self.kilobits))?);
                Ok(())
            }
            (Fault::FullDisk, Some(place)) => fill(&cluster.nodes[place].data(), LEFT[0]),
            (Fault::NoRoom, Some(place)) => fill(&cluster.nodes[place].data(), LEFT[1]),
            (Fault::SlowDisk, _) => {
                self.busy = Some(Busy::start(cluster.dir())?);
                Ok(())
            }
            (_, None) => Ok(()),
        }
    }

    /// Whether it can be undone, or has been by a person.
    pub fn is_over(&self) -> bool {
        self.until <= Instant::now() && self.operator.as_ref().is_none_or(Operator::is_done)
    }

    /// Undoes it. A process that has ended is started, whatever it ended of. What is still there then is not undone yet.
    pub fn mend(mut self, cluster: &mut Cluster) -> Result<Option<Struck>> {
        if let (Some(operator), Some(place)) = (self.operator.take(), self.victims.first().copied()) {
            self.operator = operator.go_on(cluster, place)?;
            return Ok(self.operator.is_some().then_some(self));
        }
        self.undo(cluster).map(|()| None)
    }

    fn undo(mut self, cluster: &mut Cluster) -> Result<()> {
        let (network, first) = (cluster.network, self.victims.first().copied());
        match (self.fault, first) {
            (Fault::SuspendLeaf | Fault::SuspendAggregator, Some(place)) => cluster.nodes[place].signal("CONT")?,
            (Fault::CutLeaf | Fault::CutAggregator, Some(place)) => network.mend(place)?,
            (Fault::CutPair, Some(place)) => {
                network.mend_way(place, self.victims[1])?;
                network.mend_way(self.victims[1], place)?;
            }
            (Fault::CutWay, Some(place)) => network.mend_way(place, self.victims[1])?,
            (Fault::SlowLink, Some(place)) => network.hasten(place)?,
            (Fault::FullDisk | Fault::NoRoom, Some(place)) => {
                std::fs::remove_file(ballast(&cluster.nodes[place].data())).context("making room again")?;
            }
            _ => {}
        }
        if let (Some(relay), Some(place)) = (self.relay.take(), first) {
            let (passed, Quality { delay, jitter, .. }) = (network.repair(place, relay)?, self.quality);
            println!(
                "             {}: {} frames, {} of them lost, the others {} to {} ms late",
                self.text,
                passed.frames,
                passed.lost,
                delay.as_millis(),
                (delay + jitter).as_millis()
            );
        }
        if let Some(busy) = self.busy.take() {
            busy.stop();
        }
        for place in &self.victims {
            let node = &mut cluster.nodes[*place];
            if !node.runs() {
                node.start()?;
            }
        }
        Ok(())
    }

    /// Whether a process of this node may end by itself meanwhile: one without room on its disk does.
    pub fn may_end(&self, place: Place) -> bool {
        self.fault == Fault::NoRoom && self.victims.contains(&place)
    }
}

fn ballast(data: &Path) -> PathBuf {
    data.join("ballast")
}

/// Fills the disk of a directory with a file, up to so many bytes.
fn fill(data: &Path, left: u64) -> Result<()> {
    let path = ballast(data);
    let mut file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    let block = vec![0; 64 << 10];
    let mut written = 0;
    loop {
        match file.write(&block) {
            Ok(0) | Err(_) => break,
            Ok(bytes) => written += bytes as u64,
        }
    }
    file.set_len(written.saturating_sub(left)).with_context(|| format!("writing {}", path.display()))
}

/// Others who write to the same disk, and wait for it.
struct Busy {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<()>>,
    paths: Vec<PathBuf>,
}

impl Busy {
    fn start(dir: &Path) -> Result<Busy> {
        let stop = Arc::new(AtomicBool::new(false));
        let paths: Vec<PathBuf> = (0..WRITERS).map(|number| dir.join(format!("busy-{number}"))).collect();
        let mut writers = Vec::new();
        for path in &paths {
            let mut file = File::create(path).with_context(|| format!("making {}", path.display()))?;
            let stop = stop.clone();
            writers.push(std::thread::spawn(move || {
                let block = vec![7; BLOCK];
                let mut blocks = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    // A disk that refuses is as busy as one can wish.
                    let _ = file.write_all(&block).and_then(|()| file.sync_data());
                    blocks += 1;
                    if blocks.is_multiple_of(256) {
                        let _ = file.rewind().and_then(|()| file.set_len(0));
                    }
                }
            }));
        }
        Ok(Busy { stop, writers, paths })
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers {
            // It does nothing that could panic.
            let _ = writer.join();
        }
        for path in self.paths {
            let _ = std::fs::remove_file(path);
        }
    }
}
