//! Everything that can be decided. One variant per decision, each a value that names what it was based on.
//!
//! A command carries what a state machine must not ask for: random bits (`nonce`, ids), times, and what was read from
//! replicas (positions, received timestamps and epoch numbers).

mod dr;
mod leaves;
mod region;

pub use dr::{BreakLink, CreateSink, Follow, HandoverAnswer, LinkTerms, OpenLink, Promote};
pub use leaves::{LeafChange, PlanMoves, PlannedMove};
pub use region::{Confirmed, CreateDatabase, Loss, NamePrimary, RecoverToCut, SetChange};

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use types::{
    DatabaseId, Incarnation, LinkId, Mode, NodeId, PartitionId, Promotion, Reign, Revision, SetVersion, Timestamp,
};

use crate::claim::Claim;
use crate::database::{Finals, FullCopy, Holder, Options};
use crate::event::Severity;
use crate::link::{LinkOptions, OnSilence};
use crate::node::{Addresses, Roles};
use crate::user::{Account, Privilege, Scope, Verifier};

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A node with an empty data directory joins. Answers its id; repeated with the same identity, the same id.
    RegisterNode {
        /// Its number, where its certificate names one; otherwise the catalog chooses.
        number: Option<NodeId>,
        /// Random bits from its data directory.
        identity: u128,
        /// Where it is reached.
        addresses: Addresses,
        /// What it does.
        roles: Roles,
        /// With whom it fails; `None`: a group of its own.
        group: Option<u64>,
    },
    /// A process of a node has started. It replaces its predecessor in the in-sync sets of databases whose members
    /// have on disk what they acknowledged; elsewhere it is no member until it has caught up.
    NodeStarted {
        /// Which node.
        node: NodeId,
        /// Above every earlier one.
        incarnation: Incarnation,
        /// Where it is reached now.
        addresses: Addresses,
    },
    /// ADD AGGREGATOR: a registered aggregator belongs to the group that decides from now on.
    AddAggregator {
        /// Which node.
        node: NodeId,
    },
    /// Something happened at a node, for people. Nothing follows from it.
    Announce {
        /// How much they should care.
        severity: Severity,
        /// What kind.
        kind: String,
        /// At which node, where one is meant.
        node: Option<NodeId>,
        /// Of which partition, where one is meant.
        partition: Option<PartitionId>,
        /// One sentence.
        text: String,
    },
    /// A node goes for good. Refused while it holds a replica, and for the last aggregator.
    RemoveNode {
        /// Which node.
        node: NodeId,
    },
    /// A new, empty, writable database.
    CreateDatabase(CreateDatabase),
    /// A database goes with all its partitions and links. Epoch numbers are not reset.
    DropDatabase {
        /// Its name.
        name: String,
    },
    /// Other settings.
    AlterDatabase {
        /// Its name.
        name: String,
        /// Durability and replication from now on.
        mode: Mode,
        /// Settings from now on.
        options: Options,
    },
    /// The primary changes its in-sync set: a compare-and-set on reign and version. A candidate that cannot join is
    /// turned down with a higher version, for the proposer waits for it until it sees one.
    ProposeSet {
        /// Of which partition.
        partition: PartitionId,
        /// The proposer's reign.
        reign: Reign,
        /// The set that it knows.
        version: SetVersion,
        /// The change.
        change: SetChange,
    },
    /// A primary has come to what a change of its database's settings asks for.
    Confirm {
        /// Of which partition.
        partition: PartitionId,
        /// The primary's reign.
        reign: Reign,
        /// The set, and the settings, of which it is true.
        version: SetVersion,
        /// What.
        what: Confirmed,
    },
    /// The primary begins a full copy or a state diff (`true`), or has ended it (`false`).
    MarkIncomplete {
        /// Of which partition.
        partition: PartitionId,
        /// The primary's reign.
        reign: Reign,
        /// Whether its state is good for nothing yet.
        incomplete: bool,
    },
    /// A new term of office: a compare-and-set on reign and version. Repeated for the same primary and set, it renews
    /// an epoch whose number turned out not to be above the log's last.
    NamePrimary(NamePrimary),
    /// A log here holds an epoch number of another region: every epoch minted from now on is above it.
    ReceiveEpoch {
        /// The number.
        number: u64,
    },
    /// After a loss: a writable database goes on from a consistent cut, by the same record as a promotion.
    RecoverToCut(RecoverToCut),
    /// A node shall hold a copy of a partition.
    AddReplica {
        /// Which partition.
        partition: PartitionId,
        /// Which leaf.
        node: NodeId,
    },
    /// A node shall hold a copy no longer. Refused while a member of the set is on it.
    RemoveReplica {
        /// Which partition.
        partition: PartitionId,
        /// Which leaf.
        node: NodeId,
    },
    /// A leaf has deleted the files of a copy that it was told to give up.
    ReplicaGone {
        /// Which partition.
        partition: PartitionId,
        /// Which leaf.
        node: NodeId,
    },
    /// ADD, REMOVE, DETACH and ATTACH LEAF.
    ChangeLeaf {
        /// Which node.
        node: NodeId,
        /// What becomes of it.
        change: LeafChange,
    },
    /// Where partitions shall be from now on.
    PlanMoves(PlanMoves),
    /// The first step of a move: the copies that are missing shall be held.
    BeginMove {
        /// Of which partition.
        partition: PartitionId,
    },
    /// A partition is about to change hands: what has not written to it yet waits.
    HandOver {
        /// Which partition.
        partition: PartitionId,
        /// The reign that is to end.
        reign: Reign,
        /// Who shall lead.
        to: NodeId,
    },
    /// ASYNC REPLICATION: nothing is under way there, and nothing more is written in this reign.
    SealHandover {
        /// Which partition.
        partition: PartitionId,
        /// The reign that is to end.
        reign: Reign,
    },
    /// It does not change hands now: writes go on.
    AbandonHandover {
        /// Which partition.
        partition: PartitionId,
    },
    /// The last step: all wanted copies are in the set, the wanted one leads, and the others are taken away. A
    /// compare-and-set on reign and version.
    FinishMove {
        /// Of which partition.
        partition: PartitionId,
        /// Its reign.
        reign: Reign,
        /// The set of which it is true.
        version: SetVersion,
    },
    /// A move cannot be completed: what was added for it and has not joined is taken away again.
    GiveUpMove {
        /// Of which partition.
        partition: PartitionId,
        /// Why, for people.
        reason: String,
    },
    /// The leader's clock may hand out timestamps up to here.
    ExtendTimestampBlock {
        /// The new upper bound, inclusive.
        upper: Timestamp,
    },
    /// Transactions that have not written yet may not start to. Several may hold a fence at once.
    Fence {
        /// Which database.
        database: DatabaseId,
        /// Who wants it.
        holder: Holder,
    },
    /// The drain has ended: no data record is written from now on. A compare-and-set on the fence.
    Seal {
        /// Which database.
        database: DatabaseId,
        /// When the drain began.
        draining: Revision,
    },
    /// Every primary has acknowledged the seal, and these are the ends.
    ReportFinals {
        /// Which database.
        database: DatabaseId,
        /// When it was sealed.
        sealed: Revision,
        /// Its ends.
        finals: Finals,
    },
    /// One who holds the fence lets go. The answer says who still holds it.
    Unfence {
        /// Which database.
        database: DatabaseId,
        /// Who.
        holder: Holder,
        /// Overrules the others, a token that is on its way and the guard too. Logged as a fork.
        force: bool,
    },
    /// REPLICATE of a database that does not exist here: it is made with the source's partitions, and follows.
    CreateSink(CreateSink),
    /// REPLICATE of an existing database: it becomes a sink, and the user's fence ends, in one command.
    Follow(Follow),
    /// The source's history has other promotions: commit them, wait, or break the link.
    LearnPromotions {
        /// Which database.
        database: DatabaseId,
        /// By which link it was heard.
        link: LinkId,
        /// The source's promotions.
        promotions: Vec<Promotion>,
        /// The source is a sink itself: its list may merely be behind.
        relay: bool,
        /// Up to where this sink has served reads.
        served: Timestamp,
    },
    /// Every partition has been compared with the source and rewound: a person's order to follow it is carried out.
    Joined {
        /// Which database.
        database: DatabaseId,
        /// By which link.
        link: LinkId,
    },
    /// A full copy has been made of a database, and took so much. For people.
    MeasureCopy {
        /// Which database.
        database: DatabaseId,
        /// What it took.
        copy: FullCopy,
    },
    /// The source has lost what was served here: nothing is taken from it until a person orders it.
    BreakLink(BreakLink),
    /// The region at the other end of a link has these aggregators: any of them may be asked.
    LearnAddresses {
        /// Which link, of either kind.
        link: LinkId,
        /// Their SQL addresses.
        addresses: Vec<String>,
    },
    /// PAUSE REPLICATING (`true`) or CONTINUE REPLICATING (`false`).
    PauseLink {
        /// Which database.
        database: DatabaseId,
        /// Whether nothing is taken.
        paused: bool,
    },
    /// ALTER REPLICATION.
    AlterLink {
        /// Which database.
        database: DatabaseId,
        /// Settings from now on.
        options: LinkOptions,
    },
    /// STOP REPLICATING, or the acceptance of a hand-over token: the sink becomes writable at a cut.
    Promote(Promote),
    /// A sink has logged in: it gets a link, or a new token for the link it has.
    OpenLink(OpenLink),
    /// The sink's side has altered the link: whether commits wait for it, and what happens when it is silent.
    SetSync {
        /// Which link.
        link: LinkId,
        /// Commits shall wait.
        sync: bool,
        /// What happens when the sink is silent.
        on_silence: OnSilence,
    },
    /// A sink was promoted, re-targeted or dropped. Its pin is kept until it joins again or retention gives it up.
    EndLink {
        /// Which link.
        link: LinkId,
        /// Whether history above its pin is kept.
        keep_pin: bool,
    },
    /// The durable cut of a sink's region.
    ReportPin {
        /// Of which link.
        link: LinkId,
        /// The cut.
        cut: Timestamp,
        /// In whose history.
        promotions: Vec<Promotion>,
    },
    /// Retention has ended for a follower that is away: history is no longer kept for it. The link stays.
    GiveUpPin {
        /// Of which link; one that ended with a promotion here, too.
        link: LinkId,
    },
    /// A SYNC sink is silent. Committed before the first commit that does not wait for it.
    Degrade {
        /// Which link.
        link: LinkId,
        /// Commits at and above this do not wait.
        since: Timestamp,
    },
    /// The sink's cut has passed everything that was acknowledged without it: commits wait again.
    Restore {
        /// Which link.
        link: LinkId,
        /// Above every timestamp that was acknowledged without it.
        above: Timestamp,
    },
    /// The source hands the right to write over: once per seal. Needs the final positions.
    IssueToken {
        /// Which database.
        database: DatabaseId,
        /// Random bits.
        token: u128,
        /// To which sink.
        link: LinkId,
    },
    /// The source learns what the sink has committed about its token.
    HandoverAnswered {
        /// Which database.
        database: DatabaseId,
        /// Which token.
        token: u128,
        /// Accepted or refused.
        answer: HandoverAnswer,
    },
    /// The sink will never accept this token.
    RefuseToken {
        /// Which database.
        database: DatabaseId,
        /// Which token.
        token: u128,
    },
    /// Somebody has claimed the database. Once learnt it is durable.
    LearnClaim {
        /// Which database.
        database: DatabaseId,
        /// Who, and from which history.
        claim: Claim,
    },
    /// CREATE USER.
    CreateUser {
        /// Who.
        account: Account,
        /// What verifies the password.
        verifier: Verifier,
    },
    /// ALTER USER … IDENTIFIED BY.
    AlterUser {
        /// Who.
        account: Account,
        /// What verifies the password from now on.
        verifier: Verifier,
    },
    /// DROP USER. Links that were opened as this user end until they are opened anew.
    DropUser {
        /// Who.
        account: Account,
    },
    /// GRANT. `ALL` is [`Privilege::all`].
    Grant {
        /// To whom.
        account: Account,
        /// On what.
        scope: Scope,
        /// What.
        privileges: BTreeSet<Privilege>,
    },
    /// REVOKE. Without REPLICATION, links that were opened as this user end, too.
    Revoke {
        /// From whom.
        account: Account,
        /// On what.
        scope: Scope,
        /// What.
        privileges: BTreeSet<Privilege>,
    },
}
