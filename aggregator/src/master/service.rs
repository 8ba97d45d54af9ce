//! Answers what leaves ask of the master.

use std::sync::Arc;
use std::time::Duration;

use ::catalog::{Answer as Decided, Command, Outcome, Refusal};
use transport::rpc::{Failure, Handler, ReplySender};
use types::txn::{Answer, TxnRequest};
use types::{PartitionId, TxnId};

use super::catalog::{Catalog, CatalogError};
use super::{Detector, Timestamps};
use crate::leaves::Leaves;
use crate::protocol::{LeafAnswer, LeafRequest, MasterAnswer, MasterRequest, Orders};

/// How long a deciding partition may take to decide.
const INQUIRY_TIME: Duration = Duration::from_secs(2);

/// The master's side of `MasterRequest`. Cheap to clone.
#[derive(Clone)]
pub struct MasterService {
    catalog: Catalog,
    timestamps: Arc<Timestamps>,
    detector: Arc<Detector>,
    leaves: Leaves,
}

impl MasterService {
    /// Over the parts of a running master.
    pub fn new(
        catalog: Catalog,
        timestamps: Arc<Timestamps>,
        detector: Arc<Detector>,
        leaves: Leaves,
    ) -> MasterService {
        MasterService { catalog, timestamps, detector, leaves }
    }

    async fn decide(&self, command: Command) -> MasterAnswer {
        match self.catalog.propose(command).await {
            Ok(Ok(Outcome { answer: Decided::Node(node), .. })) => {
                MasterAnswer::Registered { node, cluster: self.catalog.state().cluster }
            }
            Ok(Ok(_)) => MasterAnswer::Done,
            Ok(Err(refusal)) => MasterAnswer::Refused(refusal),
            Err(error) => not_now(&error),
        }
    }

    async fn answer(&self, request: MasterRequest) -> MasterAnswer {
        match request {
            MasterRequest::Register { node, identity, addresses, roles } => {
                let number = Some(node);
                self.decide(Command::RegisterNode { number, identity, addresses, roles, group: None }).await
            }
            MasterRequest::Started { node, incarnation, addresses } => {
                self.decide(Command::NodeStarted { node, incarnation, addresses }).await
            }
            MasterRequest::Report(report) => match self.detector.on_report(report).await {
                Some(orders) => MasterAnswer::Orders(self.with_timestamp(orders).await),
                None => unknown_process(),
            },
            MasterRequest::Timestamps { count } => match self.timestamps.take(count).await {
                Ok(first) => MasterAnswer::Timestamps(first),
                Err(error) => MasterAnswer::NotNow(error.to_string()),
            },
            MasterRequest::ProposeSet { partition, reign, version, change } => {
                self.decide(Command::ProposeSet { partition, reign, version, change }).await
            }
            MasterRequest::Learn { database, link, promotions, relay } => {
                match self.detector.learn(database, link, promotions, relay).await {
                    Ok(None) => MasterAnswer::Done,
                    Ok(Some(reason)) | Err(reason) => MasterAnswer::NotNow(reason),
                }
            }
            MasterRequest::MarkIncomplete { partition, reign, incomplete } => {
                self.decide(Command::MarkIncomplete { partition, reign, incomplete }).await
            }
            MasterRequest::Inquire { partition, txn } => self.inquire(partition, txn).await,
        }
    }

    /// A database that is followed publishes marks: its primaries get a timestamp with each heartbeat.
    async fn with_timestamp(&self, mut orders: Orders) -> Orders {
        if !self.catalog.state().sources.is_empty() {
            orders.publish = self.timestamps.take(1).await.ok();
        }
        orders
    }

    async fn inquire(&self, partition: PartitionId, txn: TxnId) -> MasterAnswer {
        let request = LeafRequest::Txn { partition, request: TxnRequest::Inquire { txn } };
        match self.leaves.ask(partition, &request, INQUIRY_TIME, true).await {
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
        let service = self.clone();
        // What is decided is decided, also when the caller has left.
        let answer = tokio::spawn(async move { service.answer(request).await }).await?;
        Ok(replies.send(&answer).await?)
    }
}

fn not_now(error: &CatalogError) -> MasterAnswer {
    MasterAnswer::NotNow(error.to_string())
}

fn unknown_process() -> MasterAnswer {
    MasterAnswer::Refused(Refusal::LookAgain {
        object: "the process that reports".into(),
        is: "not in the catalog".into(),
        based: "an announcement: announce again".into(),
    })
}
