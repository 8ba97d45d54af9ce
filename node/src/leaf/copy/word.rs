//! What the catalog is told of a sink's primary: whether its state is complete.
//!
//! A word is told until the catalog has answered, and only the newest that is wanted is told next: two of them are never
//! under way at once. One that the catalog refuses, because another reign has begun, is told again until another one is
//! wanted.
//!
//! A call that was given up may still be under way, and arrive after the word that followed it. Where the catalog believes
//! it the set has another version from then on. So a word is told again with each version of the set.

use std::time::Duration;

use aggregator::protocol::{MasterAnswer, MasterRequest};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use types::{PartitionId, Reign, SetVersion};

use crate::leaf::master::MasterClient;

/// Before a word that was refused is told again.
const AGAIN: Duration = Duration::from_millis(500);

/// What a primary says in its reign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// The reign.
    pub reign: Reign,
    /// The version of the set that is known when it is said.
    pub version: SetVersion,
    /// A copy is on its way; the state is good for nothing before it is there.
    pub incomplete: bool,
}

/// Tells the catalog the words of one partition.
pub struct Words {
    wanted: watch::Sender<Option<Word>>,
    told: watch::Receiver<Option<Word>>,
    task: JoinHandle<()>,
}

impl Words {
    /// Nothing is said yet.
    pub fn new(master: MasterClient, partition: PartitionId) -> Words {
        let (wanted, words) = watch::channel(None);
        let (answered, told) = watch::channel(None);
        Words { wanted, told, task: tokio::spawn(tell(master, partition, words, answered)) }
    }

    /// From now on this is what the catalog shall know.
    pub fn want(&self, word: Word) {
        self.wanted.send_if_modified(|wanted| wanted.replace(word) != Some(word));
    }

    /// What the catalog knows; nothing while that is about to change.
    pub fn told(&self) -> watch::Receiver<Option<Word>> {
        self.told.clone()
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn tell(
    master: MasterClient,
    partition: PartitionId,
    mut words: watch::Receiver<Option<Word>>,
    answered: watch::Sender<Option<Word>>,
) {
    loop {
        let word = *words.borrow_and_update();
        let refused = match word {
            Some(word) if *answered.borrow() != Some(word) => {
                answered.send_replace(None);
                let Word { reign, incomplete, .. } = word;
                match master.insist(&MasterRequest::MarkIncomplete { partition, reign, incomplete }).await {
                    MasterAnswer::Refused(refusal) => {
                        tracing::debug!(%partition, %refusal, "the catalog does not take a word");
                        true
                    }
                    _ => {
                        answered.send_replace(Some(word));
                        false
                    }
                }
            }
            _ => false,
        };
        let changed = words.changed();
        let over = if refused {
            tokio::time::timeout(AGAIN, changed).await.is_ok_and(|end| end.is_err())
        } else {
            changed.await.is_err()
        };
        if over {
            return;
        }
    }
}
