//! Statements as deep as they may be: they end in an answer or an error, and the process goes on. Deeper ones are refused.

mod support;

use perennial_sql::parse::{STACK_BYTES, parse};
use support::Client;

const SETUP: &str = "CREATE TABLE t (id INT PRIMARY KEY, n INT); INSERT INTO t VALUES (1, 1), (2, 2)";

/// On a thread as the daemon's are.
fn on_a_thread(run: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(run).expect("a thread starts");
    thread.join().expect("it does not panic");
}

#[test]
fn long_chains_are_refused_and_shorter_ones_do_no_harm() {
    let statement = |piece: &str, count: usize, before: &str| format!("{before}{}", piece.repeat(count));
    let cases = [
        ("+1", "SELECT 1"),
        (" OR id = 3", "SELECT COUNT(*) FROM t WHERE id = 1"),
        (" AND id < 9", "SELECT COUNT(*) FROM t WHERE id = 1"),
        (" IS NULL", "SELECT 1"),
        (" = 1", "SELECT 1"),
        (" UNION ALL SELECT 1", "SELECT 1"),
        (" || n", "SELECT n FROM t WHERE n"),
        (" OR id = 3", "DELETE FROM t WHERE id = 3"),
        ("+1", "UPDATE t SET n = 1"),
        ("-1", "INSERT INTO t VALUES (3, 1), (4, 1)"),
    ];
    on_a_thread(move || {
        for (piece, before) in cases {
            let refused = parse(&statement(piece, 50_000, before)).expect_err("it is too deep");
            assert!([1436, 1064].contains(&refused.code), "{before}{piece}: {refused:?}");
            for count in [40, 200] {
                let mut client = Client::new(SETUP);
                let text = statement(piece, count, before);
                let answer = client.run(&text);
                if count == 40 && !before.starts_with("INSERT") {
                    assert!(answer.is_ok(), "{text}: {:?}", answer.err());
                }
            }
        }
    });
}
