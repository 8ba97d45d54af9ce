//! Seeds of both scales break no rule, and the same seed is the same history.

use perennial_sim::options::Scale;
use perennial_sim::run::{run_seed, run_seeds, scale_of};
use perennial_sim::script::from_words;
use perennial_sim::shrink::Play;

#[test]
fn six_hundred_seeds_break_no_rule() {
    let totals = run_seeds(0..600, scale_of, None, 1);
    let failed: Vec<_> = totals.failed.iter().map(|report| (report.seed, report.violation.clone())).collect();
    assert_eq!(failed, []);
    assert_eq!(totals.seeds, 600);
    assert!(totals.acknowledged > 10_000, "{} transactions acknowledged", totals.acknowledged);
    assert!(totals.lost > 0, "no announced loss was met");
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 0..6 {
        let (one, two) = (run_seed(seed, scale_of(seed), None, true), run_seed(seed, scale_of(seed), None, true));
        assert!(one.trace.len() > 500, "seed {seed} has a history of {} lines", one.trace.len());
        assert_eq!(one.trace, two.trace, "seed {seed}");
    }
}

fn holds(seed: u64, scale: Scale) {
    let report = run_seed(seed, scale, None, false);
    assert_eq!(report.violation, None, "seed {seed}");
}

/// By a script of its faults: what a seed draws has changed since.
fn holds_by(seed: u64, scale: Scale, script: &str) {
    let script = from_words(script).expect("a script has words");
    let report = Play { seed, scale, planted: None, focus: &|_| {} }.run(Some(&script), false);
    assert_eq!(report.violation, None, "seed {seed}");
}

/// A primary that was sealed for a hand-over, and heard no more of the catalog, went on showing what it had.
#[test]
fn a_primary_that_hands_over_shows_nothing() {
    holds(715_266, Scale::Region);
}

/// A secondary took a late mark of the reign before its region was promoted, and was named when the region followed
/// anew: the next promotion lost what had been acknowledged under a SYNC link.
#[test]
fn a_late_mark_takes_nothing_from_a_sync_link() {
    holds(900_265, Scale::Regions);
}

/// A move deleted a copy and another one made it anew. Its primary saw no view in between, and counted what the first had.
#[test]
fn a_copy_that_was_made_again_has_acknowledged_nothing() {
    holds(2_002_182, Scale::Region);
}

/// A damaged member took over a copy that ended below what it had acknowledged, lost power, and was named by the next
/// process's word: that it had to leave its set first was not known any more.
#[test]
fn a_member_takes_no_copy() {
    holds(2_012_543, Scale::Regions);
}

/// A log that had carried out a promotion of another history, and was not rewound yet, had the cut of an earlier one.
#[test]
fn a_promotion_of_another_history_lowers_the_cut() {
    holds(2_000_497, Scale::Regions);
}

/// A process stood still while a Lock waited. When it went on, the Rollback of the transaction was read first: locks
/// were held by nobody, and a move drained and gave up for ever.
#[test]
fn what_comes_after_its_rollback_locks_nothing() {
    for seed in [2_023_828, 2_007_436, 2_008_670] {
        holds(seed, Scale::Region);
    }
}

/// A primary stood still while its secondary was taken for alone, lost what both had held, and the loss was announced:
/// its client was told of a commit that had been lost meanwhile.
#[test]
fn an_answer_may_come_after_the_loss() {
    holds(2_029_842, Scale::Region);
}

/// A primary that a standing order had replaced committed a change of definitions that nobody was told of, and was named
/// again after a loss: the check did not know the definitions that held from then on.
#[test]
fn a_change_that_is_found_after_a_loss_holds() {
    holds(2_002_110, Scale::Region);
}

/// A standing order named a log that lacked an outcome below the cut of a recovery: the recovery aborted what was prepared
/// there, as was announced, and the check expected readers to see it.
#[test]
fn what_a_short_log_aborts_is_expected_of_no_reader() {
    holds(2_007_686, Scale::Region);
}

/// A partition had carried out a recovery that gave up a change of definitions, and was told of that change by a primary of
/// the meta partition that had not.
#[test]
fn definitions_that_a_cut_has_given_up_are_not_required() {
    holds(2_014_872, Scale::Region);
}

/// A primary acknowledged a change of definitions after the catalog had named another, which had the record and had heard
/// that it was committed: the check did not know the definitions that held from then on.
#[test]
fn a_change_that_a_replaced_primary_acknowledges_holds() {
    holds(1_072, Scale::Regions);
}

/// Such a primary told of the change before the next reign had started, and what was planned with it was committed at once: the
/// check heard of the change by the next reign's start alone.
#[test]
fn a_change_that_was_told_holds_before_the_next_reign_has_started() {
    for seed in [5_006_688, 5_010_500] {
        holds(seed, Scale::Region);
    }
}

/// A reign did not know what the one before had shipped as safe, and added a candidate that did not have it on disk; all
/// lost power, and the candidate's log was the one that went on.
#[test]
fn what_has_left_the_region_in_an_earlier_reign_is_on_the_disk_of_who_joins() {
    for seed in [5_012_724, 5_072_668] {
        holds(seed, Scale::Region);
    }
}

/// A member had a mark from before its region was promoted, heard of the promotion from its primary alone, and was named
/// when the region followed anew: it served a cut below which its log's promotion had declared rows dead.
#[test]
fn a_sink_serves_nothing_that_its_log_has_declared_dead() {
    holds(5_032_131, Scale::Regions);
}

/// A sink's primary stood still while its stream was opened anew. When it went on, it read the end of the old stream after
/// the beginning of the new one, which no real task does, and followed nobody.
#[test]
fn what_has_waited_comes_first() {
    holds(5_065_357, Scale::Regions);
}

/// A leaf that was cut off led on in a reign that had ended. Its only secondary gave its copy away, forgot with it that
/// there was a later reign, got another copy, and granted the lease for reads again.
#[test]
fn who_gave_a_copy_away_grants_nothing_for_an_old_reign() {
    holds(3_004_328, Scale::Region);
}

/// A standing order went on from before a reign that had been cut off. Its primary came back with that reign's records, and
/// the next order named it for the epoch of them: another log lacked less of what had been shown since.
#[test]
fn a_branch_that_was_given_up_is_not_the_longest_log() {
    for seed in [5_006_906, 5_011_500] {
        holds(seed, Scale::Region);
    }
}

/// A process started, and the first that it heard of its primary was the answer to a question of the process before: it
/// asked for another one, and took it for proof that the rules were broken, for nothing had told it of the loss.
#[test]
fn a_comparison_waits_for_what_was_announced() {
    holds(5_055_688, Scale::Region);
}

/// The catalog's answer that a sink's state is complete was lost. The simulated host went by the answer before that one,
/// and began the next copy although the catalog did not know: somebody had joined the set meanwhile.
#[test]
fn the_catalog_knows_of_each_copy_of_a_source() {
    holds(5_063_441, Scale::Regions);
}

/// A heartbeat from before a replica was found to be damaged arrived after those that said so, and the leader took the
/// damage for healed: the simulated one did not know which report is the newest, as the real one does.
#[test]
fn a_late_heartbeat_heals_no_replica() {
    holds(6_006_076, Scale::Region);
}

/// A standing order named a process that had just ended. Its reign never started, but what others had led in since its log
/// parted from them was given up: the check knew the last log that lived when it was named, and expected that to go on.
#[test]
fn a_log_goes_on_whose_process_has_ended() {
    for seed in [5_013_098, 5_081_166] {
        holds(seed, Scale::Region);
    }
}

/// A standing order named a process that had just ended. The next one compared without what the first had given up; the proof
/// that nobody had been told arrived between its proposal and the decision, and the check asked for what the leader could not know.
#[test]
fn a_proof_after_the_proposal_comes_too_late() {
    holds(50_069_222, Scale::Region);
}

/// A primary of a sink was cut off, another one led and served, and when the cut had healed the old one compared its log with
/// the source and rewound: the check took what it undid for served.
#[test]
fn a_replaced_primary_of_a_sink_has_served_nothing() {
    holds(60_018_717, Scale::Regions);
}

/// A primary stood still while its region followed another one and was promoted. When it went on it found that its member had
/// had a record on disk, and sent it on in the stream to a sink: the check took for a fork what might have been under way.
#[test]
fn a_record_may_be_shipped_after_its_region_has_parted() {
    holds(5_061_033, Scale::Regions);
}

/// A sink waited for a copy of its source, which was ordered to follow a region that was behind, and gave what it had copied
/// from there: the sink took it over under the promotions of its own history, and lost what it had served.
#[test]
fn a_copy_is_of_the_history_that_was_compared() {
    holds(33_001_981, Scale::Regions);
}

/// The last reign, which was to carry out a recovery, had not started when all logs were alike: the check took the world for one
/// at rest.
#[test]
fn a_recovery_is_carried_out_before_the_end() {
    holds(41_011_367, Scale::Region);
}

/// A partition had carried out a recovery that gave up the decision of a transaction. Another one, which had not heard of the
/// recovery, asked for the decision, aborted its part, and was expected to show it.
#[test]
fn what_its_first_participant_has_given_up_is_expected_of_no_reader() {
    holds(43_007_618, Scale::Region);
}

/// A partition that had not heard of a recovery yet asked for a decision that was given up by it, and aborted its part: what it had
/// acknowledged of the transaction was not set aside.
#[test]
fn what_was_given_up_is_set_aside_where_nobody_has_heard_of_it_yet() {
    let script = "50:Sever:0:8c9fe9477229672f,60:Deaf:1:c27514c2fb35b4b7,121:Power:2:5da8c887ae9a44ac,273:Power:2:df63e09a8dd541fd,\
        394:Close:3:45688ceac013552b,445:Stale:4:6e5cd743a63e62f5,496:Power:4:6e7b8dc0a46e94f4,506:Kill:0:7311bb33fc892bf8,\
        617:Sever:4:e3194c7ec4124546,927:Sever:4:8948b663cccc66f0,937:Power:1:a809c94b5c28351,1237:Sever:1:4f53f49901981c19,\
        1537:Kill:4:97631f004214a0f8,1847:Pause:4:afba5dc565b07663,1857:Rot:3:d0b1341cbba33230,1867:Full:2:e9eaad9e099fcc33,\
        2238:Kill:3:a51835c07b50d33e,2248:Stale:1:404ccf12b3a235e3,2309:Power:2:f719a4e3e693a98f";
    holds_by(70_010_331, Scale::Regions, script);
}

/// A sink's primary took over a copy and ended before it knew. What had been read of it was forgotten, and taken away without a
/// word when the source had lost it.
#[test]
fn a_copy_keeps_what_was_read() {
    let script = "50:Sever:3:a28cb8c4cf27a754,60:Deaf:4:5786082c91b505f7,70:Kill:2:cc5a40ceb80b3027,370:Pause:3:c611860a2d1cc647,\
        421:Sever:1:c3d71b8b6e30faba,472:Sever:0:4fa1b7674a2c1226,1072:Sever:0:8c1c1b50c4538a6b,1173:SyncFails:0:e12563e3fba26462,\
        1473:Kill:2:6ac8ac806bde4306,1773:Kill:3:c08d806c7de372ba,2083:Rot:0:b8c706e11f5bbfba,2093:Sever:2:2bf69a44d472446d,\
        2444:Deaf:1:5eb9fbc2c6fd6b25,2744:Kill:2:20ef11ef1112310c";
    holds_by(70_097_387, Scale::Regions, script);
}

/// A database was changed to ASYNC REPLICATION while a candidate was waited for that nobody had proposed yet, and was waited for
/// without end when that died.
#[test]
fn a_candidate_is_let_go_when_nobody_is_to_be_waited_for() {
    for seed in [70_000_392, 70_002_972] {
        holds(seed, Scale::Region);
    }
}

/// ASYNC REPLICATION: a partition was handed over to a copy that held all that was there when all was quiet. Before it heard of
/// that its primary forgot a decision under the seal, by a record that was safe, and that the next reign did not have.
#[test]
fn nothing_is_forgotten_while_a_partition_is_handed_over() {
    for seed in [6_048_488, 6_090_734] {
        holds(seed, Scale::Region);
    }
}
