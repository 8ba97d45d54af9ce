//! What the control plane of a region costs depends on what happens, not on how much there is: counts, never times.

use perennial_sim::scale::{Wanted, run};

fn of(leaves: u64, partitions: u32) -> Wanted {
    Wanted { leaves, partitions, lost: 20, ..Wanted::default() }
}

#[test]
fn at_rest_a_heartbeat_says_nothing_of_partitions_and_peers() {
    let (few, many) = (run(of(20, 400), &|| 0), run(of(20, 4000), &|| 0));
    for found in [&few, &many] {
        assert_eq!(found.rest.reports.messages, 200);
        assert_eq!(found.rest.orders.messages, 200);
        assert_eq!(found.rest.replicas_told, 0);
        assert_eq!(found.rest.views.messages, 0);
        assert_eq!(found.rest.peers_told, 0);
        assert_eq!(found.rest.entries.messages, 0);
        assert_eq!(found.judged_at_rest, 0, "a look at rest judges no partition");
    }
    assert_eq!(few.rest.reports.bytes, many.rest.reports.bytes);
}

#[test]
fn a_lost_leaf_costs_what_it_held() {
    for refused in [true, false] {
        let found = run(Wanted { refused, ..of(30, 3000) }, &|| 0);
        let (led, followed) = found.lost;
        assert!(led >= 20 && followed >= 20, "{led} and {followed}");
        // One command names a primary, one takes a member out; each is a view at the copy that is left.
        assert_eq!(found.failover.entries.messages, (led + followed) as u64);
        assert_eq!(found.refused, 0);
        assert!(found.failover.views.messages <= (led + followed) as u64);
        // What is new of replicas: those that are led from now on.
        assert!(found.failover.replicas_told <= 2 * (led + followed) as u64, "{}", found.failover.replicas_told);
        // All names are one write of the log; the proposals of others come with their heartbeats.
        assert!(found.failover.appends <= 60, "{} writes", found.failover.appends);
    }
}

#[test]
fn a_process_that_is_proved_gone_is_replaced_before_it_would_be_silent_for_long() {
    let gone = run(of(30, 3000), &|| 0);
    let silent = run(Wanted { refused: false, ..of(30, 3000) }, &|| 0);
    let millis = 1_000_000;
    assert!(gone.named_after < 150 * millis, "{} ns", gone.named_after);
    assert!((1400 * millis..1650 * millis).contains(&silent.named_after), "{} ns", silent.named_after);
}
