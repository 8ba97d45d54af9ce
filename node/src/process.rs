//! One process: reads its directory, listens, and runs what its roles ask for, until it is told to stop.
//!
//! The order of start: certificates, data directory (one process at a time), listener, catalog, leaf, MySQL. A process
//! listens before it announces itself and holds its listener for its whole life, so that a refused connection proves
//! that it is gone. The order of stop: MySQL clients first, then sessions, then the log.

use std::sync::Arc;

use aggregator::dr::{LinkService, Peering};
use aggregator::leaves::Leaves;
use aggregator::master::{Catalog, Detector, DetectorOptions, MasterService, Timestamps};
use aggregator::region::{Region, RegionOptions};
use anyhow::{Context, Result, bail};
use catalog::node::{Addresses, Roles};
use catalog::{Command, State};
use storage::log::LogOptions;
use storage::state::StateConfig;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use transport::identity::{Admit, Local, Role as SessionRole};
use transport::limits::Limits;
use transport::quic::{QuicDialler, QuicListener};
use transport::session::Session;
use transport::tcp::{TcpDialler, TcpListener};
use transport::tls::Credentials;
use types::{ClusterId, Member, NodeId};

use crate::config::{Config, Role};
use crate::data_dir::DataDir;
use crate::leaf::{Leaf, LeafOptions};

/// What a running process consists of.
pub struct Process {
    dir: DataDir,
    member: Member,
    addresses: Addresses,
    credentials: Credentials,
    dialler: TcpDialler,
    link_dialler: QuicDialler,
    limits: Limits,
}

/// Runs the process until `stop` completes or something fatal happens.
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> Result<()> {
    let cluster = ClusterId(config.cluster.id);
    let credentials = Credentials::load(&config.cluster.certificates, cluster)
        .context("certificates: make them with `perennial cert`")?;
    let mut dir = DataDir::open(&config.data_dir)?;
    let node = NodeId(config.cluster.node);
    if dir.registered.is_some_and(|known| known != (node, cluster)) {
        bail!(
            "data directory {} belongs to another node: check cluster.id and cluster.node",
            config.data_dir.display()
        );
    }
    let first_start = dir.registered.is_none();
    dir.register(node, cluster)?;
    let member = Member { node, incarnation: dir.incarnation };
    let local = Local::new(cluster, member.node, member.incarnation);
    let limits = Limits::default();
    let mut listener =
        TcpListener::bind(config.listen.rpc, local, &credentials, limits.clone(), Arc::new(|_| Ok(()))).await?;
    let dialler = TcpDialler::new(local, &credentials, limits.clone())?;
    let addresses = Addresses {
        rpc: config.listen.rpc.to_string(),
        sql: config.listen.sql.map(|address| address.to_string()),
        http: Some(config.listen.http.to_string()),
    };
    let link_dialler = QuicDialler::new(local, limits.clone());
    let process = Process { dir, member, addresses, credentials, dialler, link_dialler, limits };
    let (fatal, mut failed) = mpsc::unbounded_channel();
    let region = match config.is(Role::Aggregator) {
        true => Some(start_aggregator(&config, &process).await?),
        false => None,
    };
    let leaf = match config.is(Role::Leaf) {
        true => Some(start_leaf(&config, &process, first_start, fatal)?),
        false => None,
    };
    let _front = match &region {
        Some(region) => Some(crate::front::start(&config, &process.credentials, region.clone()).await?),
        None => None,
    };
    let _http = crate::http::start(&config, region.clone(), leaf.clone()).await?;
    let _links = listen_for_links(&config, &process, local, region.clone(), leaf.clone()).await?;
    let service = region.as_ref().map(|region| {
        let Region { catalog, timestamps, detector, leaves, .. } = &**region;
        Arc::new(MasterService::new(catalog.clone(), timestamps.clone(), detector.clone(), leaves.clone()))
    });
    tracing::info!(name = config.name, %member, rpc = %config.listen.rpc, "started");
    tokio::pin!(stop);
    loop {
        tokio::select! {
            session = listener.accept() => dispatch(session, service.as_ref(), leaf.as_ref()),
            () = &mut stop => break,
            Some(reason) = failed.recv(), if leaf.is_some() => bail!("the leaf gives up: {reason}"),
        }
    }
    tracing::info!(name = config.name, "stopping");
    if let Some(leaf) = &leaf {
        leaf.stop().await;
    }
    Ok(())
}

/// Accepts sessions of other regions: at the SQL port's number those of aggregators, at the RPC port's those of leaves.
async fn listen_for_links(
    config: &Config,
    process: &Process,
    local: Local,
    region: Option<Arc<Region>>,
    leaf: Option<Leaf>,
) -> Result<Vec<AbortOnDropHandle<()>>> {
    let admit: Admit = Arc::new(|peer| match peer.role {
        SessionRole::Link => Ok(()),
        role => Err(format!("this port is for links between regions, not for {role} sessions")),
    });
    let bind =
        |address| QuicListener::bind(address, local, &process.credentials.node, process.limits.clone(), admit.clone());
    let mut listening = Vec::new();
    if let (Some(region), Some(sql)) = (region, config.listen.sql) {
        let (mut listener, service) = (bind(sql).await?, LinkService::new(region));
        listening.push(AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let (session, service) = (listener.accept().await, service.clone());
                tokio::spawn(async move { service.serve(session).await });
            }
        })));
    }
    if let Some(leaf) = leaf {
        let mut listener = bind(config.listen.rpc).await?;
        listening.push(AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let (session, leaf) = (listener.accept().await, leaf.clone());
                tokio::spawn(async move { leaf.serve_link(session).await });
            }
        })));
    }
    Ok(listening)
}

/// Hands a session to the part that it is for.
fn dispatch(session: Session, service: Option<&Arc<MasterService>>, leaf: Option<&Leaf>) {
    match (session.peer().role, service, leaf) {
        (SessionRole::Catalog, Some(service), _) => {
            let service = service.clone();
            tokio::spawn(async move {
                let (_control, incoming, ..) = session.split();
                transport::rpc::serve(incoming, service).await;
            });
        }
        (SessionRole::Calls, _, Some(leaf)) => {
            let leaf = leaf.clone();
            tokio::spawn(async move { leaf.serve_calls(session).await });
        }
        (SessionRole::Replication, _, Some(leaf)) => leaf.accept_peer(session),
        (role, ..) => session.close(&format!("this node has no role for {role} sessions")),
    }
}

async fn start_aggregator(config: &Config, process: &Process) -> Result<Arc<Region>> {
    let dir = process.dir.join("catalog");
    std::fs::create_dir_all(&dir).with_context(|| format!("directory {}", dir.display()))?;
    let catalog = Catalog::open(&dir, process.member.node.0, State::new(ClusterId(config.cluster.id)))?;
    let (node, incarnation, addresses) = (process.member.node, process.member.incarnation, process.addresses.clone());
    let roles = Roles { aggregator: true, leaf: config.is(Role::Leaf) };
    let identity = process.dir.identity;
    let register =
        Command::RegisterNode { number: Some(node), identity, addresses: addresses.clone(), roles, group: None };
    for command in [register, Command::NodeStarted { node, incarnation, addresses }] {
        if let Err(refusal) = catalog.propose(command).await? {
            bail!("the catalog does not take this aggregator: {refusal}");
        }
    }
    let timestamps = Arc::new(Timestamps::new(catalog.clone()));
    let options = DetectorOptions { failure_timeout: config.replication.failure_timeout.0 };
    let detector = Detector::new(catalog.clone(), options);
    tokio::spawn(detector.clone().run());
    let leaves = Leaves::new(catalog.clone(), process.dialler.clone(), config.mysql.partition_wait.0);
    let options = RegionOptions {
        lock_wait: config.mysql.lock_wait_timeout.0,
        partition_wait: config.mysql.partition_wait.0,
        partitions: config.cluster.partitions,
    };
    let peering = Peering {
        dialler: process.link_dialler.clone(),
        address: process.addresses.sql.clone().context("listen.sql is missing")?,
        fingerprint: process.credentials.node.fingerprint()?.0,
    };
    let region = Region::new(catalog, timestamps, detector, leaves, peering, options);
    tokio::spawn(region.fences.clone().run());
    let password = match &config.cluster.root_password_file {
        Some(path) => Some(std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?),
        None => None,
    };
    aggregator::gateway::make_root(&region, password.as_deref().map(str::trim_end)).await?;
    tokio::spawn(aggregator::dr::run(region.clone()));
    Ok(region)
}

fn start_leaf(
    config: &Config,
    process: &Process,
    first_start: bool,
    fatal: mpsc::UnboundedSender<String>,
) -> Result<Leaf> {
    let mut aggregators: Vec<String> = config.cluster.aggregators.iter().map(ToString::to_string).collect();
    if aggregators.is_empty() {
        aggregators.push(config.listen.rpc.to_string());
    }
    let log = LogOptions {
        segment_bytes: config.log.segment_size.0,
        flush_interval: config.log.flush_interval.0,
        uring: config.log.io_uring,
        ..LogOptions::default()
    };
    let state = StateConfig {
        cache_bytes: config.state.cache.0 as usize,
        memtable_bytes: config.state.write_buffer.0,
        ..StateConfig::default()
    };
    Ok(Leaf::start(
        LeafOptions {
            member: process.member,
            first_start,
            addresses: process.addresses.clone(),
            aggregators,
            identity: process.dir.identity,
            data_dir: process.dir.join("leaf"),
            replica: config.replica_options(),
            log,
            state,
            dialler: process.dialler.clone(),
            link_dialler: process.link_dialler.clone(),
            limits: process.limits.clone(),
        },
        fatal,
    )?)
}
