//! Keeping a session with one peer: dial, hand it over, dial again at once when it ends, wait longer after each failure.
//!
//! The protocol's rules about a peer that may be dead need facts in their order, so each failed attempt says when it
//! began and which incarnation was known then: a refusal proves exactly that one gone, not one that has started since.
//!
//! - One attempt at a time. A session that ends is followed by an attempt without any wait, unless it was short lived
//!   again and again.
//! - Events wait in a short queue; while it is full nothing is dialled.
//! - Dropping the [`Redialler`] ends the attempts, not the sessions that it has handed over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use types::Incarnation;

use crate::error::{Closed, DialError};
use crate::identity::Peer;
use crate::limits::Limits;
use crate::session::Session;

/// Events that wait to be taken.
const EVENTS_MAX: usize = 4;

/// What happens between this node and the peer.
#[derive(Debug)]
pub enum Event {
    /// The peer is reached.
    Reached(Session),
    /// The session is over; an attempt follows.
    Lost {
        /// Who was there.
        peer: Peer,
        /// Why it is over.
        reason: Closed,
    },
    /// An attempt failed; another follows after a while.
    Failed {
        /// Why.
        error: DialError,
        /// When the attempt began.
        began: Instant,
        /// The newest incarnation of the peer that was known when the attempt began: gone, if the error is a refusal
        /// and the peer is still at the same host.
        known: Option<Incarnation>,
    },
}

/// Keeps a session with one peer.
#[derive(Debug)]
pub struct Redialler {
    events: mpsc::Receiver<Event>,
    known: Arc<AtomicU64>,
    now: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Redialler {
    /// Begins at once. `dial` makes one attempt; it is asked for the address each time, so the peer may move.
    pub fn start<D, F>(limits: &Limits, dial: D) -> Redialler
    where
        D: Fn() -> F + Send + 'static,
        F: Future<Output = Result<Session, DialError>> + Send,
    {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let (known, now) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
        let attempts =
            Attempts { sender, known: known.clone(), now: now.clone(), min: limits.retry_min, max: limits.retry_max };
        let task = tokio::spawn(async move {
            // Ends with an error when nobody takes events any more.
            let _ = attempts.run(dial).await;
        });
        Redialler { events, known, now, task }
    }

    /// The next event. May be cancelled: no event is lost.
    pub async fn next(&mut self) -> Event {
        self.events.recv().await.expect("the task of a redialler lives as long as it does")
    }

    /// An incarnation of the peer that became known by other means, such as a session that it dialled.
    pub fn learn(&self, incarnation: Incarnation) {
        self.known.fetch_max(incarnation.0, Ordering::AcqRel);
    }

    /// Ends the wait between two attempts.
    pub fn probe_now(&self) {
        self.now.notify_one();
    }
}

impl Drop for Redialler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Attempts {
    sender: mpsc::Sender<Event>,
    /// The newest incarnation; 0 is none, for they are counted from 1.
    known: Arc<AtomicU64>,
    now: Arc<Notify>,
    min: Duration,
    max: Duration,
}

impl Attempts {
    async fn run<D, F>(&self, dial: D) -> Result<(), mpsc::error::SendError<Event>>
    where
        D: Fn() -> F,
        F: Future<Output = Result<Session, DialError>>,
    {
        let mut failures = 0u32;
        let mut short_lived = 0u32;
        loop {
            if let Some(wait) = self.wait_after(failures) {
                tokio::select! {
                    () = sleep(wait) => {}
                    () = self.now.notified() => {}
                }
            }
            let began = Instant::now();
            let known = Some(self.known.load(Ordering::Acquire)).filter(|known| *known > 0).map(Incarnation);
            match dial().await {
                Ok(session) => {
                    let lived = self.hand_over(session).await?;
                    // The attempt after a session is immediate; but a peer that hangs up each time is not dialled in a
                    // tight loop.
                    short_lived = if lived < self.max { short_lived.saturating_add(1) } else { 0 };
                    failures = short_lived.saturating_sub(1);
                }
                Err(error) => {
                    self.sender.send(Event::Failed { error, began, known }).await?;
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    /// Returns how long the session lived.
    async fn hand_over(&self, session: Session) -> Result<Duration, mpsc::error::SendError<Event>> {
        let (began, peer, closed) = (Instant::now(), session.peer().clone(), session.control().watch_closed());
        self.known.fetch_max(peer.incarnation.0, Ordering::AcqRel);
        self.sender.send(Event::Reached(session)).await?;
        let reason = closed.await;
        self.sender.send(Event::Lost { peer, reason }).await?;
        Ok(began.elapsed())
    }

    fn wait_after(&self, failures: u32) -> Option<Duration> {
        let doublings = failures.checked_sub(1)?;
        Some(self.min.saturating_mul(2u32.saturating_pow(doublings)).min(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let attempts = Attempts {
            sender: mpsc::channel(1).0,
            known: Arc::default(),
            now: Arc::default(),
            min: Duration::from_millis(20),
            max: Duration::from_millis(100),
        };
        let waits: Vec<_> = [0, 1, 2, 3, 4, 40, u32::MAX].map(|failures| attempts.wait_after(failures)).into();
        let millis = |n| Some(Duration::from_millis(n));
        assert_eq!(waits, [None, millis(20), millis(40), millis(80), millis(100), millis(100), millis(100)]);
    }
}
