//! Many clients that do harm: the memory of the process stays within bounds.
//!
//! These tests measure the whole process, so they have one of their own and run one after the other.

extern crate perennial_aggregator as aggregator;

#[path = "clients/toy.rs"]
#[allow(dead_code, reason = "each test file uses its part")]
mod toy;

#[path = "clients/raw.rs"]
#[allow(dead_code, reason = "each test file uses its part")]
mod raw;

use std::time::Duration;

use aggregator::mysql::{Options, error};
use raw::Raw;
use toy::ToyServer;

/// Short limits, so that what is waited for comes soon.
fn impatient() -> Options {
    Options {
        connections_max: 200,
        packet_bytes_max: 1 << 20,
        connect_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(30),
        read_timeout: Duration::from_secs(1),
        write_timeout: Duration::from_secs(1),
        stop_timeout: Duration::from_secs(1),
    }
}

/// A client that behaves is served.
async fn assert_serves(server: &ToyServer) {
    let mut client = Raw::login(server.port()).await;
    client.command(b"\x03SELECT USER").await;
    let answer = client.answer().await;
    assert!(answer.iter().any(|packet| packet.ends_with(b"root@localhost")), "{answer:?}");
}

/// Waits until no client is left.
async fn assert_all_leave(server: &ToyServer) {
    while server.server.connection_count() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Memory of this process in bytes.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Held by the test that runs.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn huge_lengths_are_refused_and_reserve_nothing() {
    let _turn = TURN.lock().await;
    let server = ToyServer::start(impatient()).await;
    let before = resident_bytes();
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = Raw::connect(server.port()).await;
        client.read().await.expect("a greeting");
        client.send(b"\xff\xff\xff\x01half").await;
        assert_eq!(raw::error_code(&client.read().await.unwrap()), Some(error::NET_PACKET_TOO_LARGE));
        clients.push(client);
    }
    drop(clients);
    let mut clients = Vec::new();
    for _ in 0..100 {
        // Within the limit, but nothing of it comes.
        let mut client = Raw::login(server.port()).await;
        client.send(b"\xff\xff\x0f\x00\x03half").await;
        clients.push(client);
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for 200 clients that sent a few bytes each");
    for client in &mut clients {
        assert_eq!(client.read().await, None, "a half packet is given up after read_timeout");
    }
    assert_serves(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_reading_holds_no_memory_and_is_closed() {
    let _turn = TURN.lock().await;
    let server = ToyServer::start(impatient()).await;
    let before = resident_bytes();
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Raw::login(server.port()).await;
        client.command(b"\x03SELECT * FROM numbers 100000000").await;
        clients.push(client);
    }
    assert_all_leave(&server).await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for rows that nobody reads");
    assert_serves(&server).await;
    drop(clients);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_connections_are_1040_and_thousands_come_and_go() {
    let _turn = TURN.lock().await;
    let server = ToyServer::start(Options { connections_max: 50, ..impatient() }).await;
    let mut held = Vec::new();
    for _ in 0..50 {
        held.push(Raw::login(server.port()).await);
    }
    for _ in 0..2000 {
        let mut refused = Raw::connect(server.port()).await;
        let packet = refused.read_with_sequence(0).await.expect("an error instead of a greeting");
        assert_eq!(raw::error_code(&packet), Some(error::CON_COUNT_ERROR));
    }
    held.clear();
    assert_all_leave(&server).await;
    let before = resident_bytes();
    for _ in 0..2000 {
        // Some leave before the greeting, some after it, some after their login.
        let mut client = Raw::connect(server.port()).await;
        client.read().await.expect("a greeting or 1040");
    }
    assert_all_leave(&server).await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes are left of clients that are gone");
    assert_serves(&server).await;
}
