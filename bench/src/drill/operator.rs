//! What a person does when a leaf has lost its disk: `docs/leaves.md`, step by step.
//!
//! What it held is copied to other leaves, and it is removed; then a new leaf begins in its place, with an empty disk and
//! another number, is added, and gets its share. Each statement is repeated until it succeeds, at any aggregator: other faults
//! happen meanwhile.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::PATIENCE;
use crate::cluster::{Cluster, Place, connect};

/// How long a person tries one statement. Others may have to end first.
const TRY_TIME: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(200);

/// A person at work.
pub struct Operator {
    typing: JoinHandle<Result<()>>,
    /// The new leaf runs, and is being added.
    adds: bool,
}

impl Operator {
    /// Gives up a leaf that does not run.
    pub fn give_up(cluster: &Cluster, place: Place) -> Operator {
        let address = cluster.nodes[place].addresses.rpc;
        let statements = ["RESTORE REDUNDANCY ON drill".into(), format!("REMOVE LEAF '{address}' FORCE")];
        Operator { typing: type_all(cluster.sql(), statements), adds: false }
    }

    /// Whether everything is typed that can be.
    pub fn is_done(&self) -> bool {
        self.typing.is_finished()
    }

    /// What follows; `None`: nothing does.
    pub fn go_on(self, cluster: &mut Cluster, place: Place) -> Result<Option<Operator>> {
        let typed = self.typing.join().map_err(|_| anyhow!("the operator has panicked"))?;
        typed.with_context(|| format!("replacing {}", cluster.nodes[place].name))?;
        if self.adds {
            return Ok(None);
        }
        cluster.renew(place)?;
        cluster.nodes[place].start()?;
        let address = cluster.nodes[place].addresses.rpc;
        let statements = [format!("ADD LEAF '{address}'"), "REBALANCE ALL DATABASES".into()];
        Ok(Some(Operator { typing: type_all(cluster.sql(), statements), adds: true }))
    }
}

fn type_all(aggregators: Vec<SocketAddr>, statements: [String; 2]) -> JoinHandle<Result<()>> {
    std::thread::spawn(move || statements.iter().try_for_each(|statement| insist(&aggregators, statement)))
}

/// Until one of the aggregators has done it.
fn insist(aggregators: &[SocketAddr], statement: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        let mut troubles = Vec::new();
        for address in aggregators {
            match connect(*address, PATIENCE).and_then(|mut client| client.run(statement)) {
                Ok(_) => return Ok(()),
                Err(error) => troubles.push(format!("{address}: {error}")),
            }
        }
        if begun.elapsed() > TRY_TIME {
            bail!("{statement} fails for {} s: {}", TRY_TIME.as_secs(), troubles.join("; "));
        }
        std::thread::sleep(LOOK);
    }
}
