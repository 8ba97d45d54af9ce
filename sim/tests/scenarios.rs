//! Every named scenario holds with its rule, whatever the seed, and fails without it.

use perennial_sim::scenarios::all;

const SEEDS: u64 = 12;

#[test]
fn scenarios_hold_with_their_rule() {
    for scenario in all() {
        for seed in 0..SEEDS {
            let report = scenario.run(seed, false);
            assert_eq!(report.violation, None, "{}, seed {seed}", scenario.name);
            assert!(report.acknowledged > 0, "{}, seed {seed}: nothing was acknowledged", scenario.name);
        }
    }
}

#[test]
fn scenarios_fail_without_their_rule() {
    let (mut held, mut unexplained) = (vec![], vec![]);
    for scenario in all().into_iter().filter(|scenario| scenario.rule.is_some()) {
        let caught =
            (0..SEEDS * 50).find_map(|seed| scenario.run(seed, true).violation.map(|violation| (seed, violation)));
        match caught {
            Some((seed, violation)) => {
                println!("{}: seed {seed}: {}", scenario.name, violation.check);
                if !scenario.explains(&violation) {
                    unexplained.push(format!("{}, seed {seed}: {violation:?}", scenario.name));
                }
            }
            None => held.push(scenario.name),
        }
    }
    assert_eq!(held, [""; 0], "these hold without their rule");
    assert!(unexplained.is_empty(), "other checks notice these:\n{}", unexplained.join("\n"));
}
