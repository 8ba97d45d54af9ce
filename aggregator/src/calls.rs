//! Calls to the master aggregator, wherever it is: of leaves, and of the other aggregators.
//!
//! Any aggregator says who the master is. A call that finds another one there follows its word; a call whose session is
//! lost turns to the next address. When the master has moved, calls that wait at the old one are given up at once.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use transport::identity::Role;
use transport::rpc::Client;
use transport::tcp::TcpDialler;

use crate::protocol::{MasterAnswer, MasterRequest};

/// How long one address may take to be reached.
const DIAL_TIME: Duration = Duration::from_secs(1);

type Calls = Client<MasterRequest, MasterAnswer>;

/// The way to the master. Cheap to clone.
#[derive(Clone)]
pub struct MasterCalls {
    shared: Arc<Shared>,
}

struct Shared {
    dialler: TcpDialler,
    configured: Vec<String>,
    learnt: Mutex<Vec<String>>,
    /// Where the master is believed to be.
    believed: watch::Sender<Option<String>>,
    open: tokio::sync::Mutex<Option<(String, Calls)>>,
}

impl MasterCalls {
    /// Through the aggregators at these RPC addresses, and those that are learnt.
    pub fn new(dialler: TcpDialler, configured: Vec<String>) -> MasterCalls {
        let believed = watch::channel(configured.first().cloned()).0;
        let (learnt, open) = (Mutex::default(), tokio::sync::Mutex::new(None));
        MasterCalls { shared: Arc::new(Shared { dialler, configured, learnt, believed, open }) }
    }

    /// The aggregators of the region, as the catalog has them.
    pub fn learn(&self, addresses: Vec<String>) {
        *self.shared.learnt.lock() = addresses;
    }

    fn addresses(&self) -> Vec<String> {
        let mut all = self.shared.learnt.lock().clone();
        all.extend(self.shared.configured.iter().filter(|known| !all.contains(known)).cloned().collect::<Vec<_>>());
        all
    }

    fn believe(&self, address: Option<String>) {
        let believed = &self.shared.believed;
        believed.send_if_modified(|known| {
            let changed = *known != address;
            *known = address;
            changed
        });
    }

    /// The next address after one that does not help.
    fn turn_from(&self, address: &str) {
        if self.shared.believed.borrow().as_deref() != Some(address) {
            return;
        }
        let all = self.addresses();
        let next = all.iter().position(|known| known == address).map_or(0, |place| place + 1);
        self.believe(all.get(next).or(all.first()).cloned());
    }

    async fn open(&self, address: &str) -> Result<Calls, String> {
        let mut open = self.shared.open.lock().await;
        if let Some((at, calls)) = &*open
            && at == address
            && calls.control().closed_reason().is_none()
        {
            return Ok(calls.clone());
        }
        let dial = self.shared.dialler.dial(address, None, Role::Catalog);
        let session = tokio::time::timeout(DIAL_TIME, dial).await;
        let session = session.map_err(|_| format!("{address} does not answer within {DIAL_TIME:?}"))?;
        let (control, ..) = session.map_err(|error| error.to_string())?.split();
        let calls = Client::new(control);
        *open = Some((address.to_string(), calls.clone()));
        Ok(calls)
    }

    /// One attempt, at the address that is named or else believed. [`MasterAnswer::NotMaster`]: the next one goes to whom
    /// that names.
    pub async fn call(
        &self,
        address: Option<String>,
        request: &MasterRequest,
        limit: Duration,
    ) -> Result<MasterAnswer, String> {
        let told = address.is_some();
        if told {
            self.believe(address);
        }
        let mut believed = self.shared.believed.subscribe();
        let address = believed.borrow_and_update().clone().or_else(|| self.addresses().into_iter().next());
        let address = address.ok_or_else(|| "no aggregator is known".to_string())?;
        let asked = async {
            let calls = self.open(&address).await?;
            calls.call(request, limit).await.map_err(|error| error.to_string())
        };
        let answer = tokio::select! {
            answer = asked => answer,
            _ = believed.changed() => Err("the master has moved".into()),
        };
        match &answer {
            Ok(MasterAnswer::NotMaster { leader: Some(leader) }) if !told => self.believe(Some(leader.clone())),
            // Who named it learns of another one by itself.
            Ok(MasterAnswer::NotMaster { leader: None }) | Err(_) if !told => self.turn_from(&address),
            _ => {}
        }
        answer
    }
}
