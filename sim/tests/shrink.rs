//! A failing history is shortened: fewer faults, and the same check notices.

use perennial_sim::options::{Fault, Options, Planted, Scale};
use perennial_sim::script::{from_words, in_words};
use perennial_sim::shrink::Play;
use replication::Planted as Rule;

/// A rule that faults alone bring to light: a primary that the catalog and its peers lose sight of.
fn focus(options: &mut Options) {
    options.faults = [Fault::Deaf, Fault::Catalog, Fault::Isolate].map(|fault| (fault, 1)).to_vec();
}

fn play(seed: u64) -> Play<'static> {
    Play { seed, scale: Scale::Region, planted: Some(Planted::Replica(Rule::OrderAlone)), focus: &focus }
}

#[test]
fn a_shortened_script_fails_by_the_same_check() {
    let fails = |seed: &u64| play(*seed).run(None, false).violation.is_some_and(|v| v.check == "reads_are_fresh");
    let seed = (0..1500).find(fails).expect("the bug is noticed");
    let shrunk = play(seed).shrink().expect("it fails");
    println!(
        "seed {seed}: {} faults of {}, {} tries: {}",
        shrunk.script.len(),
        shrunk.before,
        shrunk.tries,
        in_words(&shrunk.script)
    );
    assert!(shrunk.script.len() * 2 <= shrunk.before, "{} faults of {}", shrunk.script.len(), shrunk.before);
    assert_eq!(shrunk.report.violation.map(|violation| violation.check), Some("reads_are_fresh"));

    // Its words are the whole of it: whoever types them sees the same.
    let script = from_words(&in_words(&shrunk.script)).expect("a script has words");
    let again = play(seed).run(Some(&script), true);
    assert_eq!(again.violation.map(|violation| violation.check), Some("reads_are_fresh"));
    // No single fault can be left out.
    for at in 0..script.len() {
        let mut less = script.clone();
        less.remove(at);
        let less = play(seed).run(Some(&less), false);
        assert_ne!(less.violation.map(|violation| violation.check), Some("reads_are_fresh"), "without fault {at}");
    }
}

#[test]
fn a_history_that_holds_is_not_shortened() {
    let seed = 0;
    assert!(Play { planted: None, ..play(seed) }.shrink().is_none());
}
