//! `perennial playground`: regions on this machine, some aggregators and some leaves each, as processes of their own.
//!
//! The supervisor starts what does not run, tells how to connect, reaps a child that dies and says so, and stops
//! everything on Ctrl-C, also while it starts. `start-node`, `stop-node` and `add-node` work from another terminal, on the
//! files alone.

mod layout;
mod nodes;
mod registry;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::layout::{AGGREGATORS_MAX, Counts, LEAVES_MAX, Layout, Node};
use self::nodes::Started;
use self::registry::Registry;
use crate::config::Role;

/// Between two looks at what the other terminal did.
const LOOK: Duration = Duration::from_millis(200);

/// Run two regions on this machine, to try things out.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<NodeCommand>,
    /// Where all data goes; an existing directory goes on with its data. Default: a new one, deleted at the end.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Names of the regions.
    #[arg(long, value_delimiter = ',', default_value = "east,west")]
    regions: Vec<String>,
    /// Aggregators of each region: with three, the loss of one stops nothing.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(AGGREGATORS_MAX)))]
    aggregators: u16,
    /// Leaves of each region.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=i64::from(LEAVES_MAX)))]
    leaves: u16,
    /// Copies of each partition of a database that is created without redundancy. Default: 2, with one leaf 1.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=3))]
    redundancy: Option<u8>,
    /// Partitions of a database that is created without PARTITIONS.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096))]
    partitions: u32,
    /// Region r listens from here + 100 r.
    #[arg(long, default_value_t = 13300)]
    port_base: u16,
}

#[derive(Subcommand)]
enum NodeCommand {
    /// Start a node that does not run.
    #[command(name = "start-node")]
    Start(OneNode),
    /// Stop a node that runs.
    #[command(name = "stop-node")]
    Stop(OneNode),
    /// Start one process more in a region. It belongs to the region when ADD AGGREGATOR or ADD LEAF was said.
    #[command(name = "add-node")]
    Add(NewNode),
}

#[derive(Args)]
struct NewNode {
    /// The region.
    #[arg(long)]
    region: String,
    /// What it does.
    #[arg(long)]
    role: NewRole,
    /// The playground's directory.
    #[arg(long)]
    dir: PathBuf,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum NewRole {
    Leaf,
    Aggregator,
}

#[derive(Args)]
struct OneNode {
    /// Its name, as in `playground.json`.
    name: String,
    /// The playground's directory.
    #[arg(long)]
    dir: PathBuf,
}

/// Carries the command out.
pub fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Some(NodeCommand::Start(OneNode { name, dir })) => start_node(&name, &absolute(dir)?),
        Some(NodeCommand::Stop(OneNode { name, dir })) => stop_node(&name, &absolute(dir)?),
        Some(NodeCommand::Add(NewNode { region, role, dir })) => add_node(&region, role, &absolute(dir)?),
        None => supervise(arguments),
    }
}

fn add_node(region: &str, role: NewRole, dir: &Path) -> Result<()> {
    let mut layout = Layout::load(dir)?;
    let role = match role {
        NewRole::Leaf => Role::Leaf,
        NewRole::Aggregator => Role::Aggregator,
    };
    let node = layout.extend(region, role)?;
    start_node(&node.name, dir)?;
    match &node.sql {
        Some(sql) => println!("it belongs to the region after: ADD AGGREGATOR '{sql}'"),
        None => println!("it holds partitions after: ADD LEAF '{}'", node.rpc),
    }
    Ok(())
}

fn absolute(dir: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&dir).with_context(|| format!("directory {}", dir.display()))
}

fn start_node(name: &str, dir: &Path) -> Result<()> {
    let layout = Layout::load(dir)?;
    let node = layout.node(name)?;
    let registry = Registry::new(&layout);
    if registry.running(node).is_some() {
        println!("{name} runs already");
        return Ok(());
    }
    let mut started = nodes::start(node)?;
    registry.set(node, Some(started.pid()))?;
    nodes::wait_listening(node, &mut started)?;
    println!("{name} listens");
    Ok(())
}

fn stop_node(name: &str, dir: &Path) -> Result<()> {
    let layout = Layout::load(dir)?;
    let node = layout.node(name)?;
    let registry = Registry::new(&layout);
    match registry.running(node) {
        Some(pid) => nodes::stop(node, pid)?,
        None => println!("{name} does not run"),
    }
    registry.set(node, None)?;
    println!("{name} is stopped");
    Ok(())
}

fn supervise(arguments: Arguments) -> Result<()> {
    let (dir, temporary) = match &arguments.dir {
        Some(dir) => (absolute(dir.clone())?, false),
        None => (std::env::temp_dir().join(format!("perennial-playground-{}", std::process::id())), true),
    };
    let Arguments { aggregators, leaves, partitions, redundancy, .. } = arguments;
    let counts = Counts { aggregators, leaves, partitions, redundancy };
    let layout = match Layout::exists(&dir) {
        true => Layout::load(&dir)?,
        false => Layout::create(&dir, &arguments.regions, counts, arguments.port_base)?,
    };
    let registry = Registry::new(&layout);
    let _only = registry.supervise()?;
    // Before anything is started: whoever is interrupted stops what it has begun.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut interrupts = runtime.block_on(async { Interrupts::listen() })?;
    let played = play(&layout, &registry, &runtime, &mut interrupts);
    println!("stopping");
    // Nodes may have been added meanwhile.
    let layout = Layout::load(&dir)?;
    stop_all(&layout, &Registry::new(&layout))?;
    if temporary {
        std::fs::remove_dir_all(&dir).with_context(|| format!("deleting {}", dir.display()))?;
    }
    played
}

/// Starts what does not run, and watches it until Ctrl-C.
fn play(
    layout: &Layout,
    registry: &Registry<'_>,
    runtime: &tokio::runtime::Runtime,
    interrupts: &mut Interrupts,
) -> Result<()> {
    let interrupted = AtomicBool::new(false);
    let started = std::thread::scope(|scope| {
        let starting = scope.spawn(|| start_all(layout, registry, &interrupted));
        while !starting.is_finished() {
            if runtime.block_on(interrupts.within(LOOK)) {
                interrupted.store(true, Ordering::Relaxed);
            }
            if interrupted.load(Ordering::Relaxed) {
                // What it waits for ends.
                running(layout, registry).for_each(|(_, pid)| nodes::terminate(pid));
            }
        }
        starting.join().expect("the thread that starts nodes does not panic")
    });
    if interrupted.into_inner() {
        return Ok(());
    }
    let mut children = started?;
    registry.ready()?;
    greet(layout);
    runtime.block_on(watch(layout.dir(), &mut children, interrupts))
}

fn start_all(layout: &Layout, registry: &Registry<'_>, interrupted: &AtomicBool) -> Result<Vec<(Node, Started)>> {
    let mut children: Vec<(Node, Started)> = Vec::new();
    for node in layout.nodes() {
        if registry.running(node).is_none() && !interrupted.load(Ordering::Relaxed) {
            let started = nodes::start(node).with_context(|| format!("starting {}", node.name))?;
            registry.set(node, Some(started.pid()))?;
            children.push((node.clone(), started));
        }
    }
    for (node, started) in &mut children {
        nodes::wait_listening(node, started)?;
    }
    for region in layout.regions() {
        nodes::wait_joined(region, interrupted)?;
    }
    Ok(children)
}

fn running<'a>(layout: &'a Layout, registry: &'a Registry<'_>) -> impl Iterator<Item = (&'a Node, u32)> {
    layout.nodes().filter_map(|node| Some((node, registry.running(node)?)))
}

fn stop_all(layout: &Layout, registry: &Registry<'_>) -> Result<()> {
    running(layout, registry).for_each(|(_, pid)| nodes::terminate(pid));
    for (node, pid) in running(layout, registry) {
        nodes::stop(node, pid)?;
    }
    layout.nodes().try_for_each(|node| registry.set(node, None))
}

/// Ctrl-C, and its like from other programs.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn listen() -> Result<Interrupts> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Interrupts { interrupt, terminate })
    }

    /// Whether one comes within this time.
    async fn within(&mut self, time: Duration) -> bool {
        tokio::select! {
            _ = self.interrupt.recv() => true,
            _ = self.terminate.recv() => true,
            () = tokio::time::sleep(time) => false,
        }
    }
}

/// Until Ctrl-C: reaps children that die, and notices others that do.
async fn watch(dir: &Path, children: &mut Vec<(Node, Started)>, interrupts: &mut Interrupts) -> Result<()> {
    while !interrupts.within(LOOK).await {
        let layout = Layout::load(dir)?;
        let registry = Registry::new(&layout);
        let mut living = Vec::new();
        for (node, mut started) in children.drain(..) {
            match started.exited()? {
                None => living.push((node, started)),
                Some(how) => ended(&registry, &node, started.pid(), &format!(" ({how})"))?,
            }
        }
        *children = living;
        // Those that start-node began are children of nobody here.
        for node in layout.nodes() {
            if let Some(pid) = registry.dead(node) {
                ended(&registry, node, pid, "")?;
            }
        }
    }
    Ok(())
}

fn ended(registry: &Registry<'_>, node: &Node, pid: u32, how: &str) -> Result<()> {
    let (name, dir) = (&node.name, registry.dir().display());
    println!("{name} has ended{how}; start it again with: perennial playground start-node {name} --dir {dir}");
    registry.clear(node, pid)
}

fn greet(layout: &Layout) {
    println!("playground in {}", layout.dir().display());
    for region in layout.regions() {
        for sql in region.aggregators.iter().filter_map(|node| node.sql.as_ref()) {
            let (host, port) = sql.rsplit_once(':').unwrap_or((sql, ""));
            println!("  {}: mariadb --host {host} --port {port} --user root", region.name);
        }
    }
    println!("nodes and addresses: {}", layout.dir().join(registry::FILE).display());
    println!("Ctrl-C stops everything");
}

/// Refuses a name that is not in the layout, and tells which are.
fn unknown(name: &str, layout: &Layout) -> anyhow::Error {
    let known: Vec<&str> = layout.nodes().map(|node| &*node.name).collect();
    anyhow::anyhow!("no node is called {name}; there are {}", known.join(", "))
}
