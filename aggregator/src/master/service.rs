//! Answers what leaves and other aggregators ask of the master; any other aggregator says who that is.

use std::sync::Arc;
use std::time::Duration;

use ::catalog::command::PlannedMove;
use ::catalog::database::Database;
use ::catalog::event::Severity;
use ::catalog::node::Node;
use ::catalog::{Answer as Decided, Command, Outcome, Refusal, State};
use futures::FutureExt;
use futures::future::BoxFuture;
use transport::rpc::{Failure, Handler, ReplySender};
use types::txn::{Answer, TxnRequest};
use types::{DatabaseId, Member, NodeId, PartitionId, PromotionId, Timestamp, TxnId};

use super::TimestampsError;
use super::catalog::CatalogError;
use crate::dr::LinkService;
use crate::gateway::{is_up, late, master_sheet};
use crate::mysql::Client;
use crate::protocol::{
    FrontAnswer, FrontRequest, LeafAnswer, LeafEvent, LeafRequest, MasterAnswer, MasterRequest, Orders, PlanOrder,
    Planned, SheetOf,
};
use crate::region::Region;

/// How long a deciding partition may take to decide.
const INQUIRY_TIME: Duration = Duration::from_secs(2);
/// A new master does not say that a sink has no cut before it can have heard the leaves.
const YOUNG: Duration = Duration::from_secs(2);

/// The master's side of `MasterRequest`. Cheap to clone.
#[derive(Clone)]
pub struct MasterService {
    region: Arc<Region>,
}

impl MasterService {
    /// At an aggregator, which may be the master or not.
    pub fn new(region: Arc<Region>) -> MasterService {
        MasterService { region }
    }

    fn not_master(&self) -> MasterAnswer {
        MasterAnswer::NotMaster { leader: self.region.catalog.leader() }
    }

    fn failed(&self, error: &CatalogError) -> MasterAnswer {
        match error {
            CatalogError::Moved => self.not_master(),
            error => MasterAnswer::NotNow(error.to_string()),
        }
    }

    async fn decide(&self, command: Command) -> MasterAnswer {
        match self.region.catalog.decide_as(rand::random(), command, None).await.map(|decision| decision.outcome) {
            Ok(Ok(Outcome { answer: Decided::Node(node), .. })) => {
                MasterAnswer::Registered { node, cluster: self.region.catalog.state().cluster }
            }
            Ok(Ok(_)) => MasterAnswer::Done,
            Ok(Err(refusal)) => MasterAnswer::Refused(refusal),
            Err(error) => self.failed(&error),
        }
    }

    async fn answer(&self, request: MasterRequest) -> MasterAnswer {
        let catalog = &self.region.catalog;
        if let MasterRequest::Group = request {
            return MasterAnswer::Group { member: catalog.status().applied > 0 };
        }
        if catalog.status().leads.is_none() {
            return self.not_master();
        }
        match request {
            MasterRequest::Group => unreachable!("it is answered above"),
            MasterRequest::Propose { id, command } => match catalog.decide_as(id, *command, None).await {
                Ok(decision) => MasterAnswer::Proposed { outcome: decision.outcome, index: decision.index },
                Err(error) => self.failed(&error),
            },
            MasterRequest::Applied => match catalog.office().await {
                Ok(_) => MasterAnswer::Applied(catalog.status().applied),
                Err(error) => self.failed(&error),
            },
            MasterRequest::Front(request) => self.front(*request).await,
            request => self.node(request).await,
        }
    }

    /// What nodes ask for themselves.
    pub async fn node(&self, request: MasterRequest) -> MasterAnswer {
        match request {
            MasterRequest::Register { node, identity, addresses, roles } => {
                let state = self.region.catalog.state();
                let is_first = state.group().next().is_none();
                let listed = is_first || self.region.options.founders.contains(&addresses.rpc);
                let founds = roles.aggregator && listed;
                let number = Some(node);
                let rpc = addresses.rpc.clone();
                let command = Command::RegisterNode { number, identity, addresses, roles, group: None };
                let registered = self.decide(command).await;
                if matches!(registered, MasterAnswer::Refused(_)) {
                    self.note_stranger(node, identity, &rpc).await;
                }
                if let (MasterAnswer::Registered { node, .. }, true) = (&registered, founds) {
                    self.decide(Command::AddAggregator { node: *node }).await;
                }
                registered
            }
            MasterRequest::Started { node, identity, .. } if self.is_stranger(node, identity) => {
                MasterAnswer::Refused(Refusal::DoFirst {
                    object: format!("node {node}"),
                    problem: "has another data directory".into(),
                    first: "start it with that one, or with a certificate of another number if it is lost".into(),
                })
            }
            MasterRequest::Started { node, incarnation, addresses, .. } => {
                self.decide(Command::NodeStarted { node, incarnation, addresses }).await
            }
            MasterRequest::Report(report) => match self.region.detector.on_report(report).await {
                Ok(Some(orders)) => MasterAnswer::Orders(self.with_timestamp(orders).await),
                Ok(None) => unknown_process(),
                Err(error) => self.failed(&error),
            },
            MasterRequest::Timestamps { count } => match self.region.timestamps.take_here(count).await {
                Ok(first) => MasterAnswer::Timestamps(first),
                Err(TimestampsError::Catalog(error)) => self.failed(&error),
                Err(error) => MasterAnswer::NotNow(error.to_string()),
            },
            MasterRequest::ProposeSet { partition, reign, version, change } => {
                self.decide(Command::ProposeSet { partition, reign, version, change }).await
            }
            MasterRequest::Learn { database, link, promotions, relay } => {
                match self.region.detector.learn(database, link, promotions, relay).await {
                    Ok(None) => MasterAnswer::Done,
                    Ok(Some(reason)) | Err(reason) => MasterAnswer::NotNow(reason),
                }
            }
            MasterRequest::BreakLink(lost) => self.decide(Command::BreakLink(lost)).await,
            MasterRequest::MarkIncomplete { partition, reign, incomplete } => {
                self.decide(Command::MarkIncomplete { partition, reign, incomplete }).await
            }
            MasterRequest::Inquire { partition, txn, history } => self.inquire(partition, txn, history).await,
            MasterRequest::Event { node, event } => {
                let LeafEvent { severity, kind, partition, text } = event;
                self.decide(Command::Announce { severity, kind, node: Some(node), partition, text }).await
            }
            MasterRequest::Group | MasterRequest::Propose { .. } | MasterRequest::Applied | MasterRequest::Front(_) => {
                unreachable!("they are answered elsewhere")
            }
        }
    }

    /// Whether somebody has the number of a node, and not what it holds.
    fn is_stranger(&self, node: NodeId, identity: u128) -> bool {
        let state = self.region.catalog.state();
        state.nodes.get(&node).is_some_and(|known| !known.removed && known.identity != identity)
    }

    /// A process was refused that has a leaf's number or its address, and another data directory: people are told.
    async fn note_stranger(&self, number: NodeId, identity: u128, rpc: &str) {
        let state = self.region.catalog.state();
        let meant = |(id, known): &(&NodeId, &Node)| **id == number || known.addresses.rpc == rpc;
        let mut nodes = state.nodes.iter().filter(|(_, known)| !known.removed && known.identity != identity);
        let Some((id, known)) = nodes.find(meant) else { return };
        if !self.region.detector.note_stranger(*id) {
            return;
        }
        let text = format!(
            "a process at {rpc} has the number or the address of node {id} ({}), and another data directory: it is not taken",
            known.addresses.rpc
        );
        let kind = "identity".into();
        self.decide(Command::Announce { severity: Severity::Error, kind, node: Some(*id), partition: None, text })
            .await;
    }

    /// What an aggregator asks for its clients, also this one.
    pub fn front(&self, request: FrontRequest) -> BoxFuture<'_, MasterAnswer> {
        async move {
            // After the request has arrived: what was heard is this office's.
            let term = match self.region.detector.office().await {
                Ok(term) => term,
                Err(error) => return self.failed(&error),
            };
            let answer = self.answer_front(request).await;
            let stands = self.region.catalog.status().leads == Some(term);
            match answer {
                // What was done half by a master that is no longer one is done again by the next, and who is silent to it
                // may speak to that one.
                Some(
                    FrontAnswer::Replicated(Err(_))
                    | FrontAnswer::Stopped(Err(_))
                    | FrontAnswer::Planned(Err(_))
                    | FrontAnswer::Led(Err(_)),
                ) if !stands => self.not_master(),
                Some(answer) => MasterAnswer::Front(Box::new(answer)),
                None => MasterAnswer::NotNow("the master does not know it yet".into()),
            }
        }
        .boxed()
    }

    async fn answer_front(&self, request: FrontRequest) -> Option<FrontAnswer> {
        let region = &self.region;
        let state = region.catalog.state();
        Some(match request {
            // Of a process that was removed, or is not known yet: it may do nothing.
            FrontRequest::Report(report) if !is_member(&state, report.member) => return None,
            FrontRequest::Report(report) => {
                FrontAnswer::Orders(region.fronts.hear(&state, report, region.catalog.refused()))
            }
            FrontRequest::Sheet { of, user, host, address } => {
                if of != SheetOf::Aggregators && self.is_young() {
                    return None;
                }
                FrontAnswer::Sheet(master_sheet(region, &Client::named(user, host, address), &of).map(Into::into))
            }
            FrontRequest::Late(database) => FrontAnswer::Late(late(region, database)),
            FrontRequest::Cut(database) => FrontAnswer::Cut(self.cut(database)?),
            FrontRequest::FenceTimeout(database, node, millis) => {
                region.fences.set_timeout(database, Duration::from_millis(millis));
                FrontAnswer::Running(region.fronts.running(database, node))
            }
            FrontRequest::Replicate(order) => FrontAnswer::Replicated(crate::dr::replicate(region, order).await),
            FrontRequest::Stop(database) => FrontAnswer::Stopped(crate::dr::stop(region, &database).await),
            FrontRequest::Plan(order) => {
                if self.is_young() {
                    return None;
                }
                let moves = region.detector.plan(&order).await.ok()?;
                FrontAnswer::Planned(moves.map(|moves| self.planned(&order, moves)))
            }
            FrontRequest::Lead(node) => FrontAnswer::Led(self.lead(&state, node)?),
            FrontRequest::Link(request, caller) => {
                let (answer, trusted) = LinkService::answer(region, request, caller).await;
                FrontAnswer::Link { answer, trusted }
            }
        })
    }

    fn planned(&self, order: &PlanOrder, moves: Vec<PlannedMove>) -> Planned {
        let (state, detector) = (self.region.catalog.state(), &self.region.detector);
        let is_meant = |id: &PartitionId| match order {
            PlanOrder::Rebalance { database, .. } => database.is_none_or(|database| database == id.database),
            PlanOrder::Evacuate(_) | PlanOrder::Attach(_) => false,
        };
        let lost = state.partitions.iter().map(|(id, _)| *id).filter(is_meant);
        let lost = lost.filter(|id| detector.has_no_whole_copy(&state, *id)).collect();
        let sized =
            |planned: &PlannedMove| Some((planned.partition, detector.primary(&state, planned.partition)?.bytes));
        Planned { bytes: moves.iter().filter_map(sized).collect(), moves, lost }
    }

    /// Hands the office over, unless nobody would take it.
    fn lead(&self, state: &State, node: NodeId) -> Option<Result<(), Refusal>> {
        let region = &self.region;
        if region.catalog.status().node == node || is_up(region, node) {
            return region.catalog.hand_over(node).ok().map(Ok);
        }
        if region.detector.in_office() < region.detector.failure_timeout() {
            return None;
        }
        let addresses = &state.nodes.get(&node)?.addresses;
        Some(Err(Refusal::DoFirst {
            object: format!("aggregator {}", addresses.known_by()),
            problem: "is offline".into(),
            first: format!(
                "start it again, its node number is {node}, and repeat; SHOW AGGREGATORS tells who is there"
            ),
        }))
    }

    /// Whether this master has not heard every leaf yet that may be there.
    fn is_young(&self) -> bool {
        let state = self.region.catalog.state();
        let heard = self.region.detector.leaves();
        let silent = state.nodes.iter().any(|(id, node)| node.holds_replicas() && !heard.contains_key(id));
        silent && self.region.detector.in_office() < self.region.detector.failure_timeout()
    }

    fn cut(&self, database: DatabaseId) -> Option<Timestamp> {
        let cut = self.region.detector.served(&self.region.catalog.state(), database);
        (cut > Timestamp::ZERO || self.region.detector.in_office() > YOUNG).then_some(cut)
    }

    /// A database that is followed publishes marks, and one that is written with ASYNC DURABILITY keeps them: their
    /// primaries get a timestamp with each heartbeat.
    async fn with_timestamp(&self, mut orders: Orders) -> Orders {
        let state = self.region.catalog.state();
        let keeps = |database: &Database| !database.mode.sync_durability && !database.is_sink();
        if !state.sources.is_empty() || state.databases.values().any(keeps) {
            orders.publish = self.region.timestamps.take_here(1).await.ok();
        }
        orders
    }

    async fn inquire(&self, partition: PartitionId, txn: TxnId, history: PromotionId) -> MasterAnswer {
        let request = TxnRequest::Inquire { txn, history: Some(history) };
        let request = LeafRequest::Txn { partition, request };
        match self.region.leaves.ask(partition, &request, INQUIRY_TIME, true).await {
            Ok(LeafAnswer::Txn(Answer::Decided { decision })) => MasterAnswer::Decided(decision),
            Ok(other) => MasterAnswer::NotNow(format!("the deciding partition answers {other:?}")),
            Err(error) => MasterAnswer::NotNow(error.to_string()),
        }
    }
}

impl Handler for MasterService {
    type Request = MasterRequest;
    type Reply = MasterAnswer;

    async fn handle(&self, request: MasterRequest, replies: &ReplySender<MasterAnswer>) -> Result<(), Failure> {
        if matches!(request, MasterRequest::Propose { .. } | MasterRequest::Front(_)) {
            // For its clients an aggregator may ask for anything; a leaf has none.
            let (state, node) = (self.region.catalog.state(), replies.peer().node);
            let known = state.nodes.get(&node).filter(|known| known.roles.aggregator);
            if known.is_some_and(|known| known.removed) {
                return Ok(replies.send(&MasterAnswer::Removed).await?);
            }
            if known.is_none() {
                let problem = "it is no aggregator of this region".into();
                let refusal = Refusal::Correct { object: format!("node {node}"), problem };
                return Ok(replies.send(&MasterAnswer::Refused(refusal)).await?);
            }
        }
        let service = self.clone();
        // What is decided is decided, also when the caller has left.
        let answer = tokio::spawn(async move { service.answer(request).await }).await?;
        Ok(replies.send(&answer).await?)
    }
}

fn is_member(state: &State, member: Member) -> bool {
    state.nodes.get(&member.node).is_some_and(|node| node.in_group() && node.incarnation == member.incarnation)
}

fn unknown_process() -> MasterAnswer {
    MasterAnswer::Refused(Refusal::LookAgain {
        object: "the process that reports".into(),
        is: "not in the catalog".into(),
        based: "an announcement: announce again".into(),
    })
}
