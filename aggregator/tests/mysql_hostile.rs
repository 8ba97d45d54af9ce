//! Clients that do not follow the protocol, or follow it to the server's harm: the server answers with an error or
//! closes that one connection, lives, and keeps its memory within bounds.
//!
//! The client here is written by hand, so that it can be wrong in every way.

extern crate perennial_aggregator as aggregator;

#[path = "clients/toy.rs"]
#[allow(dead_code, reason = "each test file uses its part")]
mod toy;

#[path = "clients/raw.rs"]
#[allow(dead_code, reason = "each test file uses its part")]
mod raw;

use std::time::Duration;

use aggregator::mysql::constants::Capabilities;
use aggregator::mysql::session::ConnectionId;
use aggregator::mysql::{Options, error};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use raw::{Raw, frame};
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

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_the_place_of_a_login() {
    let server = ToyServer::start(impatient()).await;
    let mut random = StdRng::seed_from_u64(3);
    let mut samples: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        vec![0; 5000],
        vec![0xff; 5000],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        vec![1],
        vec![],
        frame(1, b""),
        frame(1, &[0xff; 31]),
    ];
    for _ in 0..200 {
        let length = random.random_range(0..300);
        let mut bytes: Vec<u8> = (0..length).map(|_| random.random()).collect();
        if random.random() {
            // A frame that is right, with garbage in it.
            bytes = frame(1, &bytes);
        }
        samples.push(bytes);
    }
    for bytes in samples {
        let mut client = Raw::connect(server.port()).await;
        client.read().await.expect("a greeting");
        client.send(&bytes).await;
        client.shut().await;
        let last = client.read_to_end().await.last().cloned();
        assert!(last.is_none_or(|packet| packet[0] == 0xff), "garbage was answered with something else than an error");
    }
    assert_serves(&server).await;
    assert_all_leave(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_sessions() {
    let server = ToyServer::start(impatient()).await;
    let mut random = StdRng::seed_from_u64(4);
    let commands: [&[u8]; 8] = [
        b"\x03SELECT * FROM types",
        b"\x16ECHO ? ?",
        b"\x17\x01\0\0\0\0\x01\0\0\0\0\x01\x08\0\xfd\0\x07\0\0\0\0\0\0\0\x03abc",
        b"\x18\x01\0\0\0\0\0some data",
        b"\x04types\0c_%",
        b"\x11root\0\0toy\0\x2e\0mysql_native_password\0\0",
        b"\x03LOAD DATA LOCAL INFILE 'x'",
        b"\x1b\0\0",
    ];
    for _ in 0..200 {
        let mut client = Raw::login(server.port()).await;
        let mut bytes = Vec::new();
        for _ in 0..4 {
            bytes.extend(frame(0, commands[random.random_range(0..commands.len())]));
        }
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..bytes.len());
            bytes[at] = random.random();
        }
        client.send(&bytes).await;
        client.shut().await;
        client.read_to_end().await;
    }
    assert_serves(&server).await;
    assert_all_leave(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_byte_is_answered() {
    let server = ToyServer::start(impatient()).await;
    let silent = [0x18, 0x19];
    let known = [0x02, 0x03, 0x04, 0x09, 0x0e, 0x11, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1f];
    let mut client = Raw::login(server.port()).await;
    for code in 0..=255u8 {
        if code == 0x01 || code == 0x11 {
            continue;
        }
        client.command(&[code, 9, 9, 9, 9, 9, 9]).await;
        if !silent.contains(&code) {
            let packet = client.read().await.expect("an answer");
            if !known.contains(&code) {
                assert_eq!(raw::error_code(&packet), Some(error::UNKNOWN_COM_ERROR), "command {code}");
            }
        }
        client.command(b"\x0e").await;
        assert_eq!(client.read().await.expect("an answer to a ping")[0], 0, "after command {code}");
    }
    client.command(b"").await;
    assert_eq!(raw::error_code(&client.read().await.unwrap()), Some(error::MALFORMED_PACKET));
    client.command(b"\x01").await;
    assert_eq!(client.read().await, None, "COM_QUIT closes without an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_over_the_limit_is_1153_under_the_right_sequence_number() {
    let server = ToyServer::start(impatient()).await;
    let mut client = Raw::login(server.port()).await;
    let mut query = b"\x03LENGTH ".to_vec();
    query.resize(18 << 20, b'x');
    client.send(&frame(0, &query[..0xff_ffff])).await;
    client.send(&frame(1, &query[0xff_ffff..])).await;
    let packet = client.read_with_sequence(2).await.unwrap();
    assert_eq!(raw::error_code(&packet), Some(error::NET_PACKET_TOO_LARGE));
    assert_eq!(client.read().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_sequence_number_is_1156() {
    let server = ToyServer::start(impatient()).await;
    let mut client = Raw::login(server.port()).await;
    client.send(&frame(5, b"\x0e")).await;
    let packet = client.read_with_sequence(0).await.unwrap();
    assert_eq!(raw::error_code(&packet), Some(error::NET_PACKETS_OUT_OF_ORDER));
    assert_eq!(client.read().await, None);
    assert_serves(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_within_its_file_or_its_rows() {
    let server = ToyServer::start(impatient()).await;
    for _ in 0..20 {
        let mut client = Raw::login(server.port()).await;
        client.command(b"\x03LOAD DATA LOCAL INFILE 'x'").await;
        assert_eq!(client.read().await.unwrap(), b"\xfbx");
        client.send(&frame(2, b"1,2\n")).await;
        drop(client);
        let mut client = Raw::login(server.port()).await;
        client.command(b"\x03SELECT * FROM numbers 100000000").await;
        client.read().await.unwrap();
        drop(client);
    }
    // A file of a client that has none, and one that is refused half way: the session goes on.
    let mut client = Raw::login(server.port()).await;
    client.command(b"\x03LOAD DATA LOCAL INFILE 'x' STOP 1").await;
    client.read().await.unwrap();
    client.send(&[frame(2, b"1\n"), frame(3, b"2\n"), frame(4, b"")].concat()).await;
    let packet = client.read_with_sequence(5).await.unwrap();
    assert_eq!(raw::error_code(&packet), Some(error::TRUNCATED_WRONG_VALUE_FOR_FIELD));
    client.command(b"\x03LOAD DATA LOCAL INFILE 'x'").await;
    client.read().await.unwrap();
    client.send(&frame(2, b"")).await;
    assert_eq!(client.read_with_sequence(3).await.unwrap()[..2], [0, 0]);
    drop(client);
    assert_all_leave(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_logs_in_is_closed() {
    let server = ToyServer::start(impatient()).await;
    let mut silent = Raw::connect(server.port()).await;
    silent.read().await.expect("a greeting");
    let mut half = Raw::connect(server.port()).await;
    half.read().await.expect("a greeting");
    half.send(&[40, 0, 0, 1, 0]).await;
    assert_eq!((silent.read().await, half.read().await), (None, None));
    assert_all_leave(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_client_is_4031() {
    let server = ToyServer::start(Options { idle_timeout: Duration::from_millis(200), ..impatient() }).await;
    let mut client = Raw::login(server.port()).await;
    let packet = client.read_with_sequence(0).await.unwrap();
    assert_eq!(raw::error_code(&packet), Some(error::CLIENT_INTERACTION_TIMEOUT));
    assert_eq!(client.read().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_that_cannot_be() {
    let server = ToyServer::start(impatient()).await;
    let all = raw::capabilities();
    let without = |bit: Capabilities| Capabilities(all.0 & !bit.0);
    for (capabilities, user, proof, plugin, code) in [
        (all, "native", &[7; 20][..], "mysql_native_password", error::ACCESS_DENIED),
        (all, "nobody", &[7; 20], "mysql_native_password", error::ACCESS_DENIED),
        (all, "native", b"", "mysql_native_password", error::ACCESS_DENIED),
        (all, "sha2", &[7; 32], "caching_sha2_password", error::ACCESS_DENIED),
        (all, "salted", &[7; 32], "caching_sha2_password", error::SECURE_TRANSPORT_REQUIRED),
        (without(Capabilities::PROTOCOL_41), "root", b"", "mysql_native_password", error::HANDSHAKE_ERROR),
        (without(Capabilities::PLUGIN_AUTH), "sha2", &[7; 20], "", error::NOT_SUPPORTED_AUTH_MODE),
    ] {
        let mut client = Raw::connect(server.port()).await;
        client.read().await.expect("a greeting");
        client.send(&frame(1, &raw::hello(capabilities, user, proof, plugin))).await;
        let packet = client.read().await.expect("an error");
        assert_eq!(raw::error_code(&packet), Some(code), "{user} with {plugin}");
        assert_eq!(client.read().await, None);
    }
    // A plugin that the server has not: it asks for the account's.
    let mut client = Raw::connect(server.port()).await;
    client.read().await.expect("a greeting");
    client.send(&frame(1, &raw::hello(all, "native", b"x", "dialog"))).await;
    let switch = client.read().await.unwrap();
    assert!(switch.starts_with(b"\xfemysql_native_password\0"));
    client.send(&frame(3, &[1; 20])).await;
    assert_eq!(raw::error_code(&client.read().await.unwrap()), Some(error::ACCESS_DENIED));
    assert_serves(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_text_behind_the_wish_for_tls_is_not_taken_for_encrypted() {
    let server = ToyServer::start(impatient()).await;
    let mut client = Raw::connect(server.port()).await;
    client.read().await.expect("a greeting");
    let wish = Capabilities(raw::capabilities().0 | Capabilities::SSL.0);
    let hello = raw::hello(wish, "root", b"", "mysql_native_password");
    client.send(&[frame(1, &hello[..32]), frame(2, &hello), frame(0, b"\x03SELECT TLS")].concat()).await;
    client.shut().await;
    let answered = client.read_bytes().await;
    assert!(!answered.windows(4).any(|window| window == b"true"), "{answered:?}");
    assert_serves(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_one_connection() {
    let server = ToyServer::start(impatient()).await;
    let mut other = Raw::login(server.port()).await;
    let mut client = Raw::login(server.port()).await;
    client.command(b"\x03PANIC").await;
    assert_eq!(client.read().await, None);
    other.command(b"\x0e").await;
    assert_eq!(other.read().await.unwrap()[0], 0);
    drop(other);
    assert_all_leave(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_ends_a_statement_and_an_idle_connection() {
    let server = ToyServer::start(impatient()).await;
    let mut client = Raw::login(server.port()).await;
    client.command(b"\x03SELECT CONNECTION").await;
    let id = client.answer().await[2].clone();
    let id = ConnectionId(std::str::from_utf8(&id[1..]).unwrap().parse().unwrap());
    client.command(b"\x03HANG").await;
    server.hanging.acquire().await.unwrap().forget();
    assert!(server.server.kill(id));
    assert_eq!(raw::error_code(&client.read().await.unwrap()), Some(error::QUERY_INTERRUPTED));
    assert_eq!(raw::error_code(&client.read_with_sequence(0).await.unwrap()), Some(error::QUERY_INTERRUPTED));
    assert_eq!(client.read().await, None);
    assert_all_leave(&server).await;
    assert!(!server.server.kill(id), "it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_tells_idle_clients_and_drops_what_hangs() {
    let server = ToyServer::start(impatient()).await;
    let port = server.port();
    let mut idle = Raw::login(port).await;
    let mut hanging = Raw::login(port).await;
    hanging.command(b"\x03HANG").await;
    server.hanging.acquire().await.unwrap().forget();
    server.server.stop().await;
    assert_eq!(raw::error_code(&idle.read_with_sequence(0).await.unwrap()), Some(error::SERVER_SHUTDOWN));
    assert_eq!(idle.read().await, None);
    assert_eq!(hanging.read().await, None);
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_the_session_in_both_forms_of_the_end() {
    let server = ToyServer::start(impatient()).await;
    for (capabilities, end) in [
        (raw::capabilities(), &b"\xfe\0\0\x02\0\0\0"[..]),
        (Capabilities(raw::capabilities().0 & !Capabilities::DEPRECATE_EOF.0), b"\xfe\0\0\x02\0"),
    ] {
        let mut client = Raw::login_with(server.port(), capabilities).await;
        client.command(b"\x04types\0c_d%").await;
        let columns = client.answer_of_columns().await;
        assert_eq!(columns.len(), 6);
        assert!(columns[..5].iter().all(|column| column.starts_with(b"\x03def\x03toy\x05types\x05types")));
        assert_eq!(columns[5], end);
        client.command(b"\x04nothing\0%").await;
        assert_eq!(raw::error_code(&client.read().await.unwrap()), Some(error::NO_SUCH_TABLE));

        client.command(b"\x03SELECT 1; SELECT 2").await;
        assert_eq!(raw::error_code(&client.read().await.unwrap()), Some(error::PARSE_ERROR));
        client.command(b"\x1b\0\0").await;
        assert_eq!(client.read().await.unwrap(), end);
        client.command(b"\x03BEGIN; COMMIT").await;
        assert_eq!(client.read().await.unwrap(), [0, 0, 0, 0x0b, 0, 0, 0], "in a transaction, more results");
        assert_eq!(client.read().await.unwrap(), [0, 0, 0, 0x02, 0, 0, 0]);
        client.command(b"\x1b\x01\0").await;
        assert_eq!(client.read().await.unwrap(), end);
        client.command(b"\x03SELECT 1; SELECT 2").await;
        assert_eq!(raw::error_code(&client.read().await.unwrap()), Some(error::PARSE_ERROR));

        client.command(b"\x03BEGIN").await;
        assert_eq!(client.read().await.unwrap()[3], 3);
        client.command(b"\x1f").await;
        assert_eq!(client.read().await.unwrap()[3], 2, "a reset connection is in no transaction");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_data_and_reset_of_a_statement() {
    let server = ToyServer::start(impatient()).await;
    let mut client = Raw::login(server.port()).await;
    client.command(b"\x16ECHO ?").await;
    let prepared = client.read().await.unwrap();
    assert_eq!(prepared, [0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    client.read().await.unwrap();
    let echo = b"\x17\x01\0\0\0\0\x01\0\0\0\0\x01\xfc\0";
    client.command(b"\x18\x01\0\0\0\0\0long ").await;
    client.command(b"\x18\x01\0\0\0\0\0data").await;
    client.command(echo).await;
    let answer = client.answer().await;
    assert!(answer[2].ends_with(b"\x09long data"), "{answer:?}");
    // Reset forgets what was sent; then the value must be in the packet.
    client.command(b"\x18\x01\0\0\0\0\0gone").await;
    client.command(b"\x1a\x01\0\0\0").await;
    assert_eq!(client.read().await.unwrap()[0], 0);
    client.command(&[&echo[..], b"\x04here"].concat()).await;
    assert!(client.answer().await[2].ends_with(b"\x04here"));
    // More than max_allowed_packet in pieces, then none too much.
    let piece = [&b"\x18\x01\0\0\0\0\0"[..], &[b'x'; 300_000]].concat();
    for _ in 0..4 {
        client.command(&piece).await;
    }
    client.command(echo).await;
    assert_eq!(raw::error_code(&client.read().await.unwrap()), Some(error::NET_PACKET_TOO_LARGE));
    client.command(b"\x19\x01\0\0\0").await;
    client.command(echo).await;
    assert_eq!(raw::error_code(&client.read().await.unwrap()), Some(error::UNKNOWN_STMT_HANDLER));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_breaks_the_seam_is_1105_and_never_a_wrong_answer() {
    let server = ToyServer::start(impatient()).await;
    let mut client = Raw::login(server.port()).await;
    for (word, packets_before) in
        [("nothing", 0), ("columns", 0), ("row", 0), ("end", 0), ("open", 2), ("wide", 2), ("twice", 2), ("more", 1)]
    {
        client.command(format!("\x03MISUSE {word}").as_bytes()).await;
        for _ in 0..packets_before {
            assert_eq!(raw::error_code(&client.read().await.unwrap()), None, "{word}");
        }
        assert_eq!(raw::error_code(&client.read().await.unwrap()), Some(error::UNKNOWN_ERROR), "{word}");
        client.command(b"\x0e").await;
        assert_eq!(client.read().await.unwrap()[0], 0, "after {word}");
    }
    // The client has its whole answer already: what comes now would be taken for that of the next command.
    client.command(b"\x03MISUSE after").await;
    assert_eq!(client.read().await.unwrap()[0], 0);
    assert_eq!(client.read().await, None);
}
