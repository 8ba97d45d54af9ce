//! What does not wait for its turn. Heartbeats and ticks come at intervals; somebody's clients wait for what a proof that
//! a process is gone, or an answer about a set, leads to.

use tokio::sync::Notify;

/// Wakes the heartbeat and the ticks of a leaf before their time. What comes while they are busy is not forgotten.
#[derive(Debug, Default)]
pub struct Hurry {
    beat: Notify,
    tick: Notify,
}

impl Hurry {
    /// A process is proved gone: replicas let it go, and the master names others in its place.
    pub fn gone(&self) {
        self.tick.notify_one();
        self.beat.notify_one();
    }

    /// This leaf has obeyed something new, or another one that a reign waits for has: it is told, and the reign may begin.
    pub fn obeyed(&self) {
        self.tick.notify_one();
    }

    /// The master has decided something that only its next word to this leaf tells.
    pub fn decided(&self) {
        self.beat.notify_one();
    }

    /// A new master counts this process as not heard before it has told all.
    pub fn asked(&self) {
        self.beat.notify_one();
    }

    /// Returns when the master is to be told, and asked, at once.
    pub async fn beat(&self) {
        self.beat.notified().await;
    }

    /// Returns when replicas are to look around at once.
    pub async fn tick(&self) {
        self.tick.notified().await;
    }
}
