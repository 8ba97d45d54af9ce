//! How fast a leaf sends copies of state: clients of the same disk and network go first.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Shared by all copies that a leaf sends.
pub struct Throttle {
    turns: Mutex<Turns>,
    begun: Instant,
}

/// Gives everybody a turn, one behind the other.
struct Turns {
    bytes_per_second: u64,
    /// When the last turn is over.
    over: Duration,
}

impl Turns {
    /// When a sender of so many bytes may begin. What was not sent in the past is not made up for.
    fn next(&mut self, now: Duration, bytes: u64) -> Duration {
        if self.bytes_per_second == 0 {
            return now;
        }
        let begin = self.over.max(now);
        self.over = begin + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        begin
    }
}

impl Throttle {
    /// Lets so many bytes through in a second; zero: as fast as it goes.
    pub fn new(bytes_per_second: u64) -> Throttle {
        let turns = Mutex::new(Turns { bytes_per_second, over: Duration::ZERO });
        Throttle { turns, begun: Instant::now() }
    }

    /// Returns when so many bytes may be sent.
    pub async fn admit(&self, bytes: u64) {
        let now = self.begun.elapsed();
        let begin = self.turns.lock().next(now, bytes);
        if begin > now {
            sleep_until(self.begun + begin).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_senders_share_the_rate() {
        let ms = Duration::from_millis;
        let mut turns = Turns { bytes_per_second: 1_000_000, over: Duration::ZERO };
        assert_eq!(turns.next(ms(10), 100_000), ms(10));
        assert_eq!(turns.next(ms(10), 100_000), ms(110), "another sender, at the same time");
        assert_eq!(turns.next(ms(50), 100_000), ms(210));
        assert_eq!(turns.next(ms(5_000), 100_000), ms(5_000), "nobody saves turns up");
        assert_eq!(turns.next(ms(5_000), 100_000), ms(5_100));
        let mut free = Turns { bytes_per_second: 0, over: Duration::ZERO };
        assert_eq!([free.next(ms(7), u64::MAX), free.next(ms(7), u64::MAX)], [ms(7), ms(7)]);
    }
}
