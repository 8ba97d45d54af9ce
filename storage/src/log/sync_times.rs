//! How long the disk takes to make a batch durable, of late.

use std::time::Duration;

/// Syncs that are remembered.
const REMEMBERED: usize = 1000;

/// The last syncs' times, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct SyncTimes {
    times: Vec<u32>,
    next: usize,
}

impl SyncTimes {
    /// One more; the oldest is forgotten.
    pub fn add(&mut self, took: Duration) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        match self.times.get_mut(self.next) {
            Some(oldest) => *oldest = took,
            None => self.times.push(took),
        }
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// 99 of 100 took no longer; `None` before the first.
    pub fn p99(&self) -> Option<Duration> {
        let mut rising = self.times.clone();
        rising.sort_unstable();
        let place = (rising.len() * 99).div_ceil(100).checked_sub(1)?;
        Some(Duration::from_micros(u64::from(rising[place])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_thousand_count() {
        let mut times = SyncTimes::default();
        assert_eq!(times.p99(), None);
        times.add(Duration::from_micros(7));
        assert_eq!(times.p99(), Some(Duration::from_micros(7)));
        for took in (0..3000).rev() {
            times.add(Duration::from_micros(took));
        }
        assert_eq!(times.p99(), Some(Duration::from_micros(989)), "of 0 to 999");
        times.add(Duration::from_secs(86_400));
        assert_eq!(times.p99(), Some(Duration::from_micros(989)), "the slowest of a hundred is left out");
    }
}
