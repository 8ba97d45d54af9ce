//! The job that gets a replica its copy: tries until it has one, from whoever is said to have it.

use std::time::Duration;

use catalog::event::Severity;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use types::{LinkId, Member};

use super::{Copies, Copy, CopyError, Target, Word, fetch};
use crate::leaf::partition::Event;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);
/// The same where the disk has no room: whoever is asked flushes its state for every attempt.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(10);

/// Who has the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The primary of the region.
    Primary(Member),
    /// The primary of the source.
    Link(LinkId),
}

/// A job under way.
pub struct Job {
    origin: watch::Sender<Origin>,
    task: JoinHandle<()>,
}

impl Job {
    /// Begins. `told` is what the catalog knows of this partition; the copy is told to `own`.
    pub fn start(
        copies: Copies,
        target: Target,
        origin: Origin,
        told: watch::Receiver<Option<Word>>,
        own: mpsc::WeakSender<Event>,
    ) -> Job {
        let (sender, receiver) = watch::channel(origin);
        Job { origin: sender, task: tokio::spawn(run(copies, target, receiver, told, own)) }
    }

    /// Another one has the state. False if the job has ended, with a copy that is still to be taken over.
    pub fn turn_to(&self, origin: Origin) -> bool {
        self.origin.send(origin).is_ok()
    }

    /// Whether the copy comes from another region.
    pub fn is_from_link(&self) -> bool {
        matches!(*self.origin.borrow(), Origin::Link(_))
    }

    /// Ends it: nothing is written any more when this returns.
    pub async fn stop(self) {
        self.task.abort();
        // An error says that it was ended.
        let _ = self.task.await;
    }
}

async fn run(
    copies: Copies,
    target: Target,
    mut origin: watch::Receiver<Origin>,
    mut told: watch::Receiver<Option<Word>>,
    own: mpsc::WeakSender<Event>,
) {
    let (mut said, mut told_of_room) = (String::new(), false);
    loop {
        let from = *origin.borrow_and_update();
        let tried = tokio::select! {
            tried = attempt(&copies, &target, from, &mut told) => tried,
            changed = origin.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let no_room = matches!(tried, Err(CopyError::NoRoom { .. }));
        match tried {
            Ok(copy) => {
                if let Some(own) = own.upgrade() {
                    // The task has ended: its next life finds the directory, and the log tells whether it fits.
                    let _ = own.send(Event::Copied(copy)).await;
                }
                return;
            }
            Err(error) => {
                let text = error.to_string();
                if no_room && !std::mem::replace(&mut told_of_room, true) {
                    let text = format!("a copy does not come in: {text}");
                    copies.shared.events.tell(Severity::Error, "disk", Some(target.partition), text);
                } else if text != said {
                    tracing::warn!(partition = %target.partition, ?from, error = text, "no copy yet, it is tried again");
                }
                said = text;
            }
        }
        // An origin that has changed is seen above.
        let pause = if no_room { NO_ROOM_PAUSE } else { PAUSE };
        let _ = tokio::time::timeout(pause, origin.changed()).await;
    }
}

async fn attempt(
    copies: &Copies,
    target: &Target,
    from: Origin,
    told: &mut watch::Receiver<Option<Word>>,
) -> Result<Copy, CopyError> {
    if matches!(from, Origin::Link(_)) {
        // The catalog must know before anything is replaced: nobody else may be named then.
        let knows = told.wait_for(|word| word.is_some_and(|word| word.incomplete)).await;
        knows.map_err(|_| CopyError::Gone)?;
    }
    let _turn = copies.shared.taking.acquire().await.expect("the semaphore is never closed");
    match from {
        Origin::Primary(member) => {
            let (_session, mut stream) = copies.ask_primary(member, target.partition, target.life).await?;
            fetch(&mut stream, target).await
        }
        Origin::Link(link) => {
            let links = &copies.shared.links;
            let mut stream = links.open_copy(link, target.partition).await?;
            let fetched = fetch(&mut stream, target).await;
            links.count_copy(link, target.partition, stream.receiver.bytes_received());
            fetched
        }
    }
}
