//! How an aggregator gets into the group that decides: it founds one, goes on in the one it belongs to, or waits to be added.
//!
//! Of the aggregators that a new region's configurations list, the first founds the group, alone, and adds the others as
//! they announce themselves. It does so only with an empty directory, and only after a majority of the list, itself
//! included, has been heard and nobody of it belongs to a group: whoever lost its disk does not found a second one. See
//! `docs/decisions/0005-founding.md`.

use std::sync::Arc;
use std::time::Duration;

use aggregator::calls::MasterCalls;
use aggregator::master::{Aggregators, CatalogError, MasterService};
use aggregator::protocol::{MasterAnswer, MasterRequest};
use aggregator::region::Region;
use anyhow::{Context, Result, bail};
use catalog::node::{Addresses, Roles};
use transport::tcp::TcpDialler;
use types::Member;

/// Between two attempts to hear from the others.
const RETRY_TIME: Duration = Duration::from_millis(100);
/// How long one may take to answer.
const ASK_TIME: Duration = Duration::from_secs(1);

/// Whether this aggregator, whose directory is empty, founds the group. Waits for a majority of the others to be there.
pub async fn founds(dialler: &TcpDialler, own: &str, listed: &[String]) -> bool {
    let others: Vec<&String> = listed.iter().filter(|address| *address != own).collect();
    if others.is_empty() {
        return true;
    }
    if listed.first().is_none_or(|first| first != own) {
        return false;
    }
    let needed = listed.len() / 2 + 1;
    tracing::info!(needed, "a new region is founded as soon as so many of its aggregators are there");
    loop {
        let asked = others.iter().map(|address| belongs(dialler, address));
        let answers = futures::future::join_all(asked).await;
        if answers.contains(&Some(true)) {
            tracing::info!("the region has been founded before: this aggregator joins it");
            return false;
        }
        if 1 + answers.iter().flatten().count() >= needed {
            return true;
        }
        tokio::time::sleep(RETRY_TIME).await;
    }
}

/// Whether an aggregator belongs to a group; `None`: it does not answer.
async fn belongs(dialler: &TcpDialler, address: &str) -> Option<bool> {
    let calls = MasterCalls::new(dialler.clone(), vec![]);
    match calls.call(Some(address.to_string()), &MasterRequest::Group, ASK_TIME).await {
        Ok(MasterAnswer::Group { member }) => Some(member),
        _ => None,
    }
}

/// What an aggregator says of itself.
pub struct Announcement {
    /// Its process.
    pub member: Member,
    /// Random bits of its directory.
    pub identity: u128,
    /// Where it is reached.
    pub addresses: Addresses,
    /// What it does.
    pub roles: Roles,
    /// A file with root's first password.
    pub root_password_file: Option<std::path::PathBuf>,
    /// Takes part in the group once the master has taken it.
    pub group: Aggregators,
}

impl Announcement {
    /// Registers this process at the master, wherever it is, and makes root where there is no user yet.
    pub async fn make(&self, region: &Arc<Region>) -> Result<()> {
        let Announcement { member, identity, addresses, roles, .. } = self;
        let (node, addresses) = (member.node, addresses.clone());
        let register =
            MasterRequest::Register { node, identity: *identity, addresses: addresses.clone(), roles: *roles };
        tell(region, register).await?;
        self.group.take_part();
        let incarnation = member.incarnation;
        let identity = *identity;
        tell(region, MasterRequest::Started { node, incarnation, identity, addresses }).await?;
        if region.catalog.status().leads.is_none() {
            return Ok(());
        }
        let password = match &self.root_password_file {
            Some(path) => Some(std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?),
            None => None,
        };
        Ok(aggregator::gateway::make_root(region, password.as_deref().map(str::trim_end)).await?)
    }

    /// The same, again and again until a master has taken it.
    pub async fn insist(self, region: Arc<Region>) {
        while let Err(error) = self.make(&region).await {
            tracing::warn!(%error, "this aggregator announces itself again");
            tokio::time::sleep(RETRY_TIME * 10).await;
        }
    }
}

async fn tell(region: &Arc<Region>, request: MasterRequest) -> Result<()> {
    let here = || async {
        match MasterService::new(region.clone()).node(request.clone()).await {
            MasterAnswer::NotMaster { .. } | MasterAnswer::NotNow(_) => None,
            answer => Some(answer),
        }
    };
    let answer: Result<MasterAnswer, CatalogError> = region.catalog.at_master(&request, ASK_TIME * 2, here, Ok).await;
    match answer? {
        MasterAnswer::Refused(refusal) => bail!("the cluster does not take this aggregator: {refusal}"),
        _ => Ok(()),
    }
}
