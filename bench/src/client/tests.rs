//! The client against a server that says what a script says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::Duration;

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// One packet of a script: the server's, or one that the client has to send.
enum Say {
    Server(u8, Vec<u8>),
    Client(u8, Vec<u8>),
}

fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    [&[length[0], length[1], length[2], sequence], payload].concat()
}

/// Plays a login and then a script.
fn server(script: Vec<Say>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let play = move || {
        let (mut stream, _) = listener.accept().unwrap();
        let greeting =
            [&[10][..], b"8.0.36\0", &[1, 0, 0, 0], b"abcdefgh", &[0; 9], &[21], &[0; 10], b"ijklmnopqrst\0"].concat();
        stream.write_all(&packet(0, &greeting)).unwrap();
        let mut header = [0; 4];
        stream.read_exact(&mut header).unwrap();
        let mut answer = vec![0; header[0] as usize];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer[32..37], b"root\0");
        stream.write_all(&packet(2, &[0, 0, 0, 2, 0, 0, 0])).unwrap();
        for say in script {
            match say {
                Say::Server(sequence, payload) => stream.write_all(&packet(sequence, &payload)).unwrap(),
                Say::Client(sequence, payload) => {
                    let wanted = packet(sequence, &payload);
                    let mut got = vec![0; wanted.len()];
                    stream.read_exact(&mut got).unwrap();
                    assert_eq!(got, wanted);
                }
            }
        }
    };
    (address, std::thread::spawn(play))
}

fn connect(address: SocketAddr) -> Client {
    let login = Login { user: "root".into(), password: String::new() };
    Client::connect(address, &login, PATIENCE).unwrap()
}

fn query(text: &str) -> Say {
    Say::Client(0, [&[COM_QUERY], text.as_bytes()].concat())
}

fn column(name: &str) -> Vec<u8> {
    [&b"\x03def\0\0\0"[..], &[name.len() as u8], name.as_bytes(), &[0, 12], &[0; 12]].concat()
}

#[test]
fn rows_come_with_names_and_nulls() {
    let script = vec![
        query("SELECT a, b"),
        Say::Server(1, vec![2]),
        Say::Server(2, column("a")),
        Say::Server(3, column("b")),
        Say::Server(4, b"\x0217\xfb".to_vec()),
        Say::Server(5, b"\xfb\x00".to_vec()),
        Say::Server(6, vec![0xfe, 0, 0, 2, 0, 3, 0]),
    ];
    let (address, played) = server(script);
    let table = connect(address).table("SELECT a, b").unwrap();
    assert_eq!(table.columns, ["a", "b"]);
    assert_eq!(table.rows, [vec![Some("17".into()), None], vec![None, Some(String::new())]]);
    assert_eq!((table.number(0, "A"), table.get(0, "b"), table.get(0, "c")), (Some(17), None, None));
    played.join().unwrap();
}

#[test]
fn an_error_has_its_number_and_the_connection_goes_on() {
    let refused = [&[0xff, 0x0a, 0x05], &b"#HY000read only"[..]].concat();
    let script =
        vec![query("INSERT"), Say::Server(1, refused), query("SET x"), Say::Server(1, vec![0, 1, 0, 2, 0, 4, 0])];
    let (address, played) = server(script);
    let mut client = connect(address);
    let error = client.run("INSERT").unwrap_err();
    assert_eq!(error.code(), Some(1290));
    assert_eq!(error.to_string(), "error 1290 (HY000): read only");
    assert_eq!(client.run("SET x").unwrap(), Done { affected: 1, warnings: 4 });
    played.join().unwrap();
}

#[test]
fn a_file_is_sent_in_pieces_and_ends_with_an_empty_one() {
    let script = vec![
        query("LOAD"),
        Say::Server(1, b"\xfbf.csv".to_vec()),
        Say::Client(2, b"1,2\n3,4\n".to_vec()),
        Say::Client(3, vec![]),
        Say::Server(4, vec![0, 2, 0, 2, 0, 0, 0]),
    ];
    let (address, played) = server(script);
    let mut lines = ["1,2\n", "3,4\n"].into_iter();
    let mut contents = |piece: &mut Vec<u8>| match lines.next() {
        Some(line) => {
            piece.extend(line.as_bytes());
            true
        }
        None => false,
    };
    assert_eq!(connect(address).load("LOAD", &mut contents).unwrap().affected, 2);
    played.join().unwrap();
}

#[test]
fn a_file_that_nobody_offered_is_refused_by_sending_nothing() {
    let error = [&[0xff, 0x02, 0x00], &b"#HY000no file"[..]].concat();
    let script = vec![query("LOAD"), Say::Server(1, b"\xfb/x".to_vec()), Say::Client(2, vec![]), Say::Server(3, error)];
    let (address, played) = server(script);
    assert_eq!(connect(address).run("LOAD").unwrap_err().code(), Some(2));
    played.join().unwrap();
}

#[test]
fn what_is_no_answer_is_an_error_and_no_panic() {
    let column = column("a");
    for broken in [
        vec![Say::Server(1, vec![])],
        vec![Say::Server(2, vec![0, 0, 0, 0, 0, 0, 0])],
        vec![Say::Server(1, vec![0, 0])],
        vec![Say::Server(1, vec![0xfe, 0xff])],
        vec![Say::Server(1, vec![1]), Say::Server(2, b"\x03de".to_vec())],
        vec![Say::Server(1, vec![1]), Say::Server(2, column.clone()), Say::Server(3, b"\x09too short".to_vec())],
        vec![Say::Server(1, vec![1]), Say::Server(2, column.clone()), Say::Server(3, b"\x011\x012".to_vec())],
        vec![Say::Server(1, vec![1]), Say::Server(2, column)],
    ] {
        let (address, _) = server([vec![query("S")], broken].into_iter().flatten().collect());
        let error = connect(address).table("S").unwrap_err();
        assert_eq!(error.code(), None, "{error}");
    }
}
