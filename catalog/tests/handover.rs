//! Two catalogs and the letters between them: the right to write is on one side at most, at every instant.
//!
//! Letters are lost, doubled and late; nobody uses FORCE but to follow the side that has accepted.

mod support;

use catalog::command::{Command, CreateSink, Follow, HandoverAnswer, LinkTerms, OpenLink, Promote};
use catalog::database::{Database, Finals, Holder, Side};
use catalog::link::{Credentials, LinkOptions, OnSilence, SourceAddress};
use catalog::outcome::{Answer, Outcome};
use catalog::state::State;
use catalog::user::Account;
use perennial_catalog as catalog;
use proptest::prelude::*;
use types::{ClusterId, DatabaseId, Fence, LinkId, Lsn, Promotion, PromotionId, Revision, Timestamp};

const DB: DatabaseId = DatabaseId(1);

/// What travels between the regions.
#[derive(Clone, Debug)]
enum Letter {
    Offer { token: u128, link: LinkId, promotions: Vec<Promotion>, time: Timestamp },
    Answer { token: u128, answer: HandoverAnswer },
}

struct Pair {
    sides: [State; 2],
    /// To side 0 and to side 1. Nothing is ever taken out: any letter may arrive again.
    letters: [Vec<Letter>; 2],
    drawn: u128,
    moves: u32,
}

impl Pair {
    fn new() -> Pair {
        let mut sides = [support::cluster(1), support::cluster(1)];
        for (index, side) in sides.iter_mut().enumerate() {
            side.cluster = ClusterId(index as u64 + 1);
        }
        support::create(&mut sides[0], "db", support::SYNC, &[1]);
        let mut pair = Pair { sides, letters: [vec![], vec![]], drawn: 100, moves: 0 };
        let nodes = vec![vec![types::NodeId(1)]; 2];
        let terms = pair.log_in(1, 0);
        let create = support::creating("db", support::SYNC, nodes);
        support::done(&mut pair.sides[1], &Command::CreateSink(CreateSink { create, terms }));
        pair
    }

    fn draw(&mut self) -> u128 {
        self.drawn += 1;
        self.drawn
    }

    fn database(&self, side: usize) -> &Database {
        &self.sides[side].databases[&DB]
    }

    fn log_in(&mut self, sink: usize, source: usize) -> LinkTerms {
        let open = OpenLink {
            link: LinkId(self.draw()),
            database: DB,
            user: Account { name: "repl".into(), host: "%".into() },
            token_hash: [0; 32],
            peer_cluster: self.sides[sink].cluster,
            peer_database: "db".into(),
            peer_address: None,
            peer_fingerprint: None,
            sync: false,
            on_silence: OnSilence::Degrade,
        };
        let Answer::Link(link) = support::done(&mut self.sides[source], &Command::OpenLink(open)) else {
            panic!("a login answers a link")
        };
        let theirs = &self.sides[source].databases[&DB];
        LinkTerms {
            link,
            source: SourceAddress { database: "db".into(), ..SourceAddress::default() },
            source_cluster: self.sides[source].cluster,
            credentials: Credentials::default(),
            options: LinkOptions::default(),
            promotions: theirs.promotions.clone(),
            relay: theirs.is_sink(),
            upstream: vec![],
        }
    }

    fn apply(&mut self, side: usize, command: &Command) -> Option<Outcome> {
        support::apply(&mut self.sides[side], command).ok()
    }

    fn since(&self, side: usize) -> Revision {
        match self.database(side).fenced.fence {
            Fence::Draining(since) | Fence::Sealed(since) => since,
            Fence::None => Revision(0),
        }
    }

    fn step(&mut self, kind: u8, side: usize, pick: usize) {
        let since = self.since(side);
        let database = DB;
        match kind {
            0 => {
                let holder = if pick & 1 == 0 { Holder::User } else { Holder::Token };
                self.apply(side, &Command::Fence { database, holder });
            }
            1 => drop(self.apply(side, &Command::Seal { database, draining: since })),
            2 => {
                let positions = self.database(side).ordinals().map(|ordinal| (ordinal, Lsn(5))).collect();
                let time = Timestamp(1000 + u64::from(self.moves));
                let finals = Finals { positions, time };
                self.apply(side, &Command::ReportFinals { database, sealed: since, finals });
            }
            3 => self.offer(side),
            4 => drop(self.apply(side, &Command::Unfence { database, holder: Holder::User, force: false })),
            5 => drop(self.apply(side, &Command::Unfence { database, holder: Holder::Token, force: false })),
            6 => self.follow(side),
            _ => self.read(side, pick),
        }
    }

    fn offer(&mut self, side: usize) {
        let token = self.draw();
        let Some((link, _)) = self.sides[side].sources.iter().find(|(_, link)| link.ended.is_none()) else { return };
        let link = *link;
        let issue = Command::IssueToken { database: DB, token, link };
        if let Some(Outcome { answer: Answer::Token(token), .. }) = self.apply(side, &issue) {
            let here = self.database(side);
            let time = here.fenced.finals.as_ref().expect("a token needs them").time;
            let letter = Letter::Offer { token, link, promotions: here.promotions.clone(), time };
            self.letters[1 - side].push(letter);
        }
    }

    /// Becomes a sink of the other side, once that has accepted.
    fn follow(&mut self, side: usize) {
        let accepted = self.database(side).handover.and_then(|handover| handover.answer).is_some();
        if !accepted {
            return;
        }
        let terms = self.log_in(side, 1 - side);
        let identity = self.database(1 - side).identity;
        let follow = Follow { database: DB, identity, partitions: 1, terms, forced: true, served: Timestamp::ZERO };
        self.apply(side, &Command::Follow(follow)).expect("what was handed over may follow");
        self.apply(side, &Command::Joined { database: DB, link: self.link(side) });
    }

    fn link(&self, side: usize) -> LinkId {
        match self.database(side).side {
            Side::Sink { link } => link,
            Side::Writable => LinkId(0),
        }
    }

    fn read(&mut self, side: usize, pick: usize) {
        if self.letters[side].is_empty() {
            return;
        }
        let letter = self.letters[side][pick % self.letters[side].len()].clone();
        match letter {
            Letter::Offer { token, link, promotions, time } if pick & 3 != 0 => {
                let promotion = PromotionId(self.draw());
                let promote = Promote {
                    database: DB,
                    link,
                    promotion,
                    promotions,
                    cut: time,
                    nonce: 1,
                    start_above: time,
                    received_epoch: 0,
                    token: Some(token),
                    copy: None,
                    address: "here".into(),
                };
                let outcome = self.apply(side, &Command::Promote(promote));
                if let Some(Outcome { answer: Answer::Promoted(promotion), already, .. }) = outcome {
                    self.moves += u32::from(!already);
                    let answer = HandoverAnswer::Accepted(promotion.id);
                    self.letters[1 - side].push(Letter::Answer { token, answer });
                }
            }
            Letter::Offer { token, .. } => {
                let refuse = Command::RefuseToken { database: DB, token };
                if let Some(Outcome { answer: Answer::Handover(answer), .. }) = self.apply(side, &refuse) {
                    self.letters[1 - side].push(Letter::Answer { token, answer });
                }
            }
            Letter::Answer { token, answer } => {
                self.apply(side, &Command::HandoverAnswered { database: DB, token, answer });
            }
        }
    }

    fn may_write(&self, side: usize) -> bool {
        let here = self.database(side);
        !here.is_sink() && !matches!(here.fenced.fence, Fence::Sealed(_))
    }
}

fn steps() -> impl Strategy<Value = Vec<(u8, usize, usize)>> {
    prop::collection::vec((0..14u8, 0..2usize, any::<u16>().prop_map(usize::from)), 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn at_most_one_side_may_write(steps in steps()) {
        let mut pair = Pair::new();
        for (kind, side, pick) in steps {
            pair.step(kind, side, pick);
            prop_assert!(!(pair.may_write(0) && pair.may_write(1)), "after {kind} on {side}");
            let (mine, theirs) = (&pair.database(0).promotions, &pair.database(1).promotions);
            prop_assert!(mine.starts_with(theirs) || theirs.starts_with(mine), "a fork: {mine:?} {theirs:?}");
        }
    }
}

#[test]
fn the_right_moves_often_in_random_exchanges() {
    let (mut moves, mut seed) = (0, 7u64);
    for _ in 0..50 {
        let mut pair = Pair::new();
        for _ in 0..2000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let [.., kind, side, low, high] = seed.rotate_left(17).to_le_bytes();
            pair.step(kind % 14, usize::from(side & 1), usize::from(low) | usize::from(high) << 8);
            assert!(!(pair.may_write(0) && pair.may_write(1)));
        }
        moves += pair.moves;
    }
    assert!(moves > 100, "the right to write has moved {moves} times: too few to show anything");
}
