//! An aggregator's bond with the master: its heartbeat, the lease under which it may write, locks on definitions.
//!
//! `master::fronts` is the other end. What holds here:
//!
//! - Writes begin and commit only under the lease, and a transaction only under one lease without a gap: whoever did not
//!   hear from the master for longer has been given up by it.
//! - Locks let statements wait for a change of definitions, and a change for statements, at all aggregators. That rows
//!   are never made with old definitions does not rest on them (`definitions`): whoever sleeps through a lock is refused by the leaves.
//! - Clients of a process that has just begun are not served before it has the catalog that the master had when it answered
//!   first: what others have made meanwhile would be unknown to them.
//! - After a gap the lease begins again only when no lock of another aggregator is in force that is not held here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sql::{Error, Result};
use tokio::sync::{Notify, OwnedRwLockWriteGuard, watch};
use types::{DatabaseId, Member, Revision};

use crate::master::LEASE;
use crate::protocol::{
    FrontAnswer, FrontOrders, FrontReport, FrontRequest, LockId, MasterAnswer, MasterRequest, Want, WantedLock,
};
use crate::region::Region;

/// Between two heartbeats.
const BEAT: Duration = Duration::from_millis(50);
/// The same while a lock is waited for, and while no master answers.
const HURRY: Duration = Duration::from_millis(5);
const RETRY: Duration = Duration::from_millis(20);
/// How long the master may take to answer one.
const CALL_TIME: Duration = Duration::from_secs(1);

/// Names one lease without a gap.
pub type LeaseNumber = u64;

#[derive(Debug, Default)]
struct Lease {
    until: Duration,
    number: LeaseNumber,
}

/// A lock of another aggregator.
struct Hold {
    /// Nobody here uses the definitions.
    guard: Option<OwnedRwLockWriteGuard<()>>,
}

#[derive(Default)]
struct Locks {
    wants: BTreeMap<LockId, Want>,
    holds: BTreeMap<LockId, Hold>,
}

/// One aggregator's.
pub struct Bond {
    member: Member,
    /// A clock that nobody sets back, and that runs while the machine sleeps.
    clock: fn() -> Duration,
    lease: Mutex<Lease>,
    locks: Mutex<Locks>,
    /// The lease or a lock has changed.
    changed: Notify,
    /// There is something to report.
    news: Notify,
    /// Whether the catalog is here that the master had when it answered first.
    caught_up: watch::Sender<bool>,
}

/// A database's definitions are this aggregator's alone until it is dropped.
pub struct Alone {
    region: Arc<Region>,
    id: LockId,
    _here: OwnedRwLockWriteGuard<()>,
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.region.bond.unlock(self.id);
    }
}

impl Bond {
    /// Of a process that has not been answered yet.
    pub fn new(member: Member, clock: fn() -> Duration) -> Bond {
        let (lease, locks) = (Mutex::default(), Mutex::default());
        let (changed, news) = (Notify::new(), Notify::new());
        Bond { member, clock, lease, locks, changed, news, caught_up: watch::Sender::new(false) }
    }

    /// Returns when all is known here that was decided before this process began. Without a master it waits.
    pub async fn caught_up(&self) {
        // An error would say that the sender is gone, which is held here.
        let _ = self.caught_up.subscribe().wait_for(|caught_up| *caught_up).await;
    }

    /// This process.
    pub fn member(&self) -> Member {
        self.member
    }

    /// The lease, if it holds now.
    pub fn lease(&self) -> Option<LeaseNumber> {
        let lease = self.lease.lock();
        ((self.clock)() < lease.until).then_some(lease.number)
    }

    /// Waits for the lease, and for a majority that gives timestamps, for as long as a statement waits.
    pub async fn admit(&self, region: &Region) -> Result<LeaseNumber> {
        let wait = async {
            loop {
                if let Some(number) = self.lease().filter(|_| region.catalog.has_majority()) {
                    return number;
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        let admitted = tokio::time::timeout(region.options.partition_wait, wait).await;
        admitted.map_err(|_| {
            region.serves().err().unwrap_or_else(|| {
                let error = crate::master::CatalogError::NoLeader(region.catalog.missing());
                Error::new(9005, format!("Nothing can be written: {error}"))
            })
        })
    }

    /// Makes a database's definitions this aggregator's alone: nobody else uses them, or begins to.
    pub async fn lock(region: &Arc<Region>, database: DatabaseId, limit: Duration) -> Result<Alone> {
        let bond = &region.bond;
        let id: LockId = rand::random();
        let wait = async {
            loop {
                let changed = bond.changed.notified();
                if bond.locks.lock().wants.get(&id).is_some_and(|want| want.granted) {
                    break;
                }
                changed.await;
            }
            region.definitions.lock(database).write_owned().await
        };
        bond.locks.lock().wants.insert(id, Want { id, database, granted: false });
        bond.news.notify_one();
        match tokio::time::timeout(limit, wait).await {
            Ok(here) => Ok(Alone { region: region.clone(), id, _here: here }),
            Err(_) => {
                bond.unlock(id);
                Err(Error::new(1205, "Lock wait timeout exceeded; try restarting transaction"))
            }
        }
    }

    fn unlock(&self, id: LockId) {
        self.locks.lock().wants.remove(&id);
        self.news.notify_one();
    }

    /// Reports to the master for as long as the process lives.
    pub async fn run(region: Arc<Region>) {
        let bond = &region.bond;
        // The master's catalog when it answered first.
        let mut first: Option<Revision> = None;
        loop {
            let sent = (bond.clock)();
            let answered = match beat(&region).await {
                Some(orders) => {
                    if region.catalog.state().revision >= *first.get_or_insert(orders.revision) {
                        bond.caught_up.send_replace(true);
                    }
                    bond.obey(&region, sent, orders);
                    true
                }
                None => false,
            };
            let waiting = bond.locks.lock().wants.values().any(|want| !want.granted);
            let pause = if !answered {
                RETRY
            } else if waiting {
                HURRY
            } else {
                BEAT
            };
            // An error: nothing has happened meanwhile.
            let _ = tokio::time::timeout(pause, bond.news.notified()).await;
        }
    }

    fn obey(&self, region: &Arc<Region>, sent: Duration, orders: FrontOrders) {
        orders.cancel.iter().for_each(|database| region.roll_back_undecided(*database));
        let foreign = orders.locks.map(|locks| {
            let foreign = locks.into_iter().filter(|lock| lock.owner != self.member.node);
            foreign.collect::<Vec<WantedLock>>()
        });
        let mut all_held = foreign.is_some();
        {
            let mut locks = self.locks.lock();
            for want in locks.wants.values_mut() {
                want.granted |= orders.granted.contains(&want.id);
            }
            if let Some(foreign) = &foreign {
                locks.holds.retain(|id, _| foreign.iter().any(|lock| lock.id == *id));
                for lock in foreign {
                    all_held &= locks.holds.get(&lock.id).is_some_and(|hold| hold.guard.is_some());
                    locks.holds.entry(lock.id).or_insert_with(|| {
                        tokio::spawn(hold(region.clone(), *lock));
                        Hold { guard: None }
                    });
                }
            }
        }
        self.renew(sent, all_held);
        self.changed.notify_waiters();
    }

    fn renew(&self, sent: Duration, may_begin: bool) {
        let mut lease = self.lease.lock();
        let lapsed = (self.clock)() >= lease.until;
        if lapsed && !may_begin {
            return;
        }
        if lapsed {
            lease.number += 1;
        }
        lease.until = lease.until.max(sent + LEASE);
    }
}

/// One heartbeat. `None`: no master has answered.
async fn beat(region: &Arc<Region>) -> Option<FrontOrders> {
    if region.catalog.status().applied == 0 {
        // It has no catalog: whatever it is, it is nobody's front yet.
        return None;
    }
    let request = FrontRequest::Report(report(region));
    let answer = match region.catalog.status().leads {
        Some(_) => region.master().front(request).await,
        None => region.catalog.call_once(&MasterRequest::Front(Box::new(request)), CALL_TIME).await,
    };
    match answer {
        MasterAnswer::Front(answer) => match *answer {
            FrontAnswer::Orders(orders) => Some(orders),
            _ => None,
        },
        _ => None,
    }
}

fn report(region: &Region) -> FrontReport {
    let (revision, open) = region.stamps.counts(|| region.catalog.state().revision);
    let locks = region.bond.locks.lock();
    let held = locks.holds.iter().filter(|(_, hold)| hold.guard.is_some());
    FrontReport {
        member: region.bond.member,
        applied: region.catalog.status().applied,
        revision,
        open,
        connections: region.sessions.list().len() as u64,
        version: env!("CARGO_PKG_VERSION").into(),
        wants: locks.wants.values().copied().collect(),
        holds: held.map(|(id, _)| *id).collect(),
    }
}

/// Waits until nobody here uses a database's definitions, and keeps it so while the lock is in force.
async fn hold(region: Arc<Region>, lock: WantedLock) {
    let guard = region.definitions.lock(lock.database).write_owned().await;
    region.definitions.forget(lock.database);
    if let Some(hold) = region.bond.locks.lock().holds.get_mut(&lock.id) {
        hold.guard = Some(guard);
    }
    region.bond.news.notify_one();
}
