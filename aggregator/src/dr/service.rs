//! The answering side: a source to its sinks, and a sink to a source that was away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use catalog::claim::Claim;
use catalog::command::OpenLink;
use catalog::database::{Database, Side};
use catalog::link::SourceLink;
use catalog::user::{Account, Privilege};
use catalog::{Answer, Command, State};
use transport::rpc::{Failure, Handler, ReplySender};
use transport::session::{Control, Session};
use types::{ClusterId, DatabaseId, Fence, LinkId, Timestamp};

use super::protocol::{LinkAnswer, LinkRefusal, LinkRequest, Open, Opened, Poll, Source};
use super::token_hash;
use crate::gateway::{account, log_in};
use crate::protocol::{FrontAnswer, FrontRequest, LinkCaller};
use crate::region::Region;

/// How seldom a sink's cut is written to the catalog. Until then more history is kept than needed, never less.
const PIN_TIME: Duration = Duration::from_secs(5);
/// What a wrong password costs.
const DENIED_TIME: Duration = Duration::from_millis(300);
/// Bytes of a token.
const TOKEN_BYTES: usize = 32;

/// Serves the sessions of other regions. Cheap to clone.
#[derive(Clone)]
pub struct LinkService {
    region: Arc<Region>,
}

/// Answers one request, at the master.
struct Answering {
    region: Arc<Region>,
    caller: LinkCaller,
    /// The caller has proved who it is.
    trusted: AtomicBool,
}

struct Served {
    service: LinkService,
    control: Control,
}

impl LinkService {
    /// Of this region.
    pub fn new(region: Arc<Region>) -> LinkService {
        LinkService { region }
    }

    /// Serves a session until it ends.
    pub async fn serve(&self, session: Session) {
        let (control, incoming, _main, _words) = session.split();
        let served = Served { service: self.clone(), control };
        transport::rpc::serve(incoming, Arc::new(served)).await;
    }

    /// The master's answer, and whether the caller has proved who it is.
    pub async fn answer(region: &Arc<Region>, request: LinkRequest, caller: LinkCaller) -> (LinkAnswer, bool) {
        let answering = Answering { region: region.clone(), caller, trusted: AtomicBool::new(false) };
        let answer = answering.answer(request).await.unwrap_or_else(|refusal| {
            tracing::info!(peer = %caller.address, %refusal, "a request of another region is refused");
            LinkAnswer::Refused(refusal)
        });
        (answer, answering.trusted.into_inner())
    }

    async fn pass_on(&self, request: LinkRequest, control: &Control) -> LinkAnswer {
        let peer = control.peer();
        let caller = LinkCaller { cluster: peer.cluster, address: peer.address };
        match self.region.ask(FrontRequest::Link(request, caller)).await {
            Ok(FrontAnswer::Link { answer, trusted }) => {
                if trusted {
                    control.trust_peer();
                }
                answer
            }
            Ok(other) => LinkAnswer::Refused(LinkRefusal::NotNow(format!("the master answers {other:?}"))),
            Err(error) => LinkAnswer::Refused(LinkRefusal::NotNow(error.message)),
        }
    }
}

impl Answering {
    fn trust(&self) {
        self.trusted.store(true, Ordering::Relaxed);
    }

    async fn answer(&self, request: LinkRequest) -> Result<LinkAnswer, LinkRefusal> {
        match request {
            LinkRequest::Open(open) => self.open(open).await,
            LinkRequest::Poll(poll) => self.poll(poll).await,
            LinkRequest::Close { link, token, keep_pin } => {
                self.proved(link, &token)?;
                self.decide(Command::EndLink { link, keep_pin }).await?;
                Ok(LinkAnswer::Done)
            }
            LinkRequest::Claim { link, token, claims } => {
                let source = self.proved(link, &token)?;
                self.learn(source.database, claims).await?;
                // It follows no longer; what its way back needs is kept.
                self.decide(Command::EndLink { link, keep_pin: true }).await?;
                Ok(LinkAnswer::Done)
            }
            LinkRequest::Ask { link, proof } => self.ask(link, proof),
        }
    }

    async fn open(&self, open: Open) -> Result<LinkAnswer, LinkRefusal> {
        let address = self.caller.address;
        let state = self.region.catalog.state();
        let user = self.log_in(&state, &open, address).await?;
        let named = state.database_named(&open.database).map(|(id, _)| id);
        let database = named.ok_or_else(|| LinkRefusal::NoDatabase(open.database.clone()))?;
        let token = rand::random::<[u8; TOKEN_BYTES]>().to_vec();
        let command = OpenLink {
            link: LinkId(rand::random()),
            database,
            user,
            token_hash: token_hash(&token),
            peer_cluster: self.caller.cluster,
            peer_database: open.peer_database,
            peer_address: Some(open.peer_address),
            peer_fingerprint: Some(open.peer_fingerprint),
            sync: open.sync,
            on_silence: open.on_silence,
        };
        let answer = self.decide(Command::OpenLink(command)).await?;
        let Answer::Link(link) = answer else { return Err(LinkRefusal::NotNow(format!("the catalog says {answer}"))) };
        self.trust();
        self.region.links.begin(link);
        let state = self.region.catalog.state();
        let known = state.databases.get(&database).ok_or(LinkRefusal::NoDatabase(open.database))?;
        let source = self.source(&state, database, known).await?;
        let (cluster, identity, partitions) = (state.cluster, known.identity, known.partitions);
        Ok(LinkAnswer::Opened(Box::new(Opened { link, token, cluster, identity, partitions, source })))
    }

    async fn log_in(&self, state: &State, open: &Open, address: SocketAddr) -> Result<Account, LinkRefusal> {
        if !log_in(&self.region, &open.user, open.password.as_bytes(), address) {
            tokio::time::sleep(DENIED_TIME).await;
            let with_password = !open.password.is_empty();
            return Err(LinkRefusal::Login { user: open.user.clone(), with_password });
        }
        let (account, user) = account(state, &open.user, address)
            .ok_or_else(|| LinkRefusal::Login { user: open.user.clone(), with_password: false })?;
        if !user.may(Privilege::Replication, None) {
            return Err(LinkRefusal::Privilege(account.to_string()));
        }
        Ok(account.clone())
    }

    /// The link whose token the peer holds.
    fn proved(&self, link: LinkId, token: &[u8]) -> Result<SourceLink, LinkRefusal> {
        let state = self.region.catalog.state();
        let known = state.sources.get(&link).filter(|known| known.token_hash == Some(token_hash(token)));
        let known = known.ok_or(LinkRefusal::Token)?;
        self.trust();
        Ok(known.clone())
    }

    async fn poll(&self, poll: Poll) -> Result<LinkAnswer, LinkRefusal> {
        let Poll { link, token, cut, promotions, full_copy, claims, aggregators } = poll;
        let known = self.proved(link, &token)?;
        if known.ended.is_some() {
            return Err(LinkRefusal::Token);
        }
        let database = known.database;
        self.learn(database, claims).await?;
        let state = self.region.catalog.state();
        let here = state.databases.get(&database).ok_or(LinkRefusal::Token)?;
        if let Some(copy) = full_copy.filter(|copy| here.full_copy != Some(*copy)) {
            self.decide(Command::MeasureCopy { database, copy }).await?;
        }
        if known.peer_others != aggregators {
            self.decide(Command::LearnAddresses { link, addresses: aggregators }).await?;
        }
        let parted = here.promotions != known.pin_promotions;
        if cut > Timestamp::ZERO && (known.pin.is_none_or(|pin| pin < cut) || parted) && self.pin_is_due(link, parted) {
            self.decide(Command::ReportPin { link, cut, promotions }).await?;
        }
        self.region.links.note(link, |state| {
            state.heard = Some(Instant::now());
            state.sink_cut = cut;
        });
        Ok(LinkAnswer::Source(Box::new(self.source(&state, database, here).await?)))
    }

    fn pin_is_due(&self, link: LinkId, parted: bool) -> bool {
        let pinned = self.region.links.state(link).pinned;
        let due = parted || pinned.is_none_or(|at| at.elapsed() >= PIN_TIME);
        if due {
            self.region.links.note(link, |known| known.pinned = Some(Instant::now()));
        }
        due
    }

    fn ask(&self, link: LinkId, proof: [u8; 32]) -> Result<LinkAnswer, LinkRefusal> {
        let state = self.region.catalog.state();
        let parted = state.parted.get(&link).map(|parted| (parted.database, &parted.credentials));
        let known = parted.or_else(|| state.sinks.get(&link).map(|sink| (sink.database, &sink.credentials)));
        let known = known.filter(|(_, credentials)| token_hash(&credentials.token) == proof);
        let (database, credentials) = known.ok_or(LinkRefusal::Token)?;
        self.trust();
        let claims = state.databases.get(&database).map(|known| known.claims.values().cloned().collect());
        Ok(LinkAnswer::Claims { token: credentials.token.clone(), claims: claims.unwrap_or_default() })
    }

    async fn learn(&self, database: DatabaseId, claims: Vec<Claim>) -> Result<(), LinkRefusal> {
        super::guard::learn(&self.region, database, claims).await.map_err(LinkRefusal::NotNow)
    }

    async fn source(&self, state: &State, id: DatabaseId, database: &Database) -> Result<Source, LinkRefusal> {
        let not_now = |error: &dyn std::fmt::Display| LinkRefusal::NotNow(error.to_string());
        let position = match database.side {
            Side::Writable => self.region.timestamps.take_here(1).await.map_err(|error| not_now(&error))?,
            Side::Sink { .. } => self.region.detector.served(state, id),
        };
        let sealed = matches!(database.fenced.fence, Fence::Sealed(_));
        let (mut route, mut safe) = (vec![], vec![]);
        for (partition, known) in state.partitions_of(id) {
            if let Some(node) = state.nodes.get(&known.primary.node) {
                route.push((partition.ordinal, node.addresses.rpc.clone()));
            }
            if let Some(report) = self.region.detector.primary(state, partition) {
                safe.push((partition.ordinal, report.leading.map_or(report.durable, |leading| leading.safe)));
            }
        }
        Ok(Source {
            promotions: database.promotions.clone(),
            relay: database.is_sink(),
            upstream: self.upstream(state, database),
            position,
            end: database.fenced.finals.as_ref().filter(|_| sealed).map(|finals| finals.time),
            route,
            safe,
            live_bytes: self.region.detector.live_bytes(state, id),
            full_copy: database.full_copy,
            claims: database.claims.values().cloned().collect(),
            aggregators: state.sql_addresses(),
        })
    }

    /// The clusters that a database follows, also by a link that is broken.
    fn upstream(&self, state: &State, database: &Database) -> Vec<ClusterId> {
        let Side::Sink { link } = database.side else { return vec![] };
        let further = self.region.links.state(link).source.map(|source| source.upstream).unwrap_or_default();
        [state.sinks[&link].source_cluster].into_iter().chain(further).collect()
    }

    async fn decide(&self, command: Command) -> Result<Answer, LinkRefusal> {
        match self.region.catalog.propose(command).await {
            Ok(Ok(outcome)) => Ok(outcome.answer),
            Ok(Err(refusal)) => Err(LinkRefusal::Catalog(refusal)),
            Err(error) => Err(LinkRefusal::NotNow(error.to_string())),
        }
    }
}

impl Handler for Served {
    type Request = LinkRequest;
    type Reply = LinkAnswer;

    async fn handle(&self, request: LinkRequest, replies: &ReplySender<LinkAnswer>) -> Result<(), Failure> {
        let (service, control) = (self.service.clone(), self.control.clone());
        // What is decided is decided, also when the caller has left.
        let answer = tokio::spawn(async move { service.pass_on(request, &control).await }).await?;
        Ok(replies.send(&answer).await?)
    }
}
