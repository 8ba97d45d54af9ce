//! The stream between the regions, as its statements show it: REPLICATE's result and SHOW REPLICATION STATUS.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::console::{Console, Session};
use super::tables::DATABASE;
use crate::client::Table;

/// A sink that does not catch up within this has failed.
const PATIENCE: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(100);

/// What a REPLICATE did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shipped {
    /// `log`, `state` or `full`.
    pub tier: Option<String>,
    /// Records that were sent.
    pub records: Option<u64>,
    /// Bytes that were sent.
    pub bytes: Option<u64>,
    /// Bytes of a full copy, by the database's own estimate.
    pub full_copy_bytes: Option<u64>,
    /// Records that this side alone had.
    pub set_aside: Option<u64>,
}

impl Shipped {
    /// From the statement's result.
    pub fn from_result(result: &Table) -> Result<Shipped> {
        let tier = result.get(0, "tier").context("REPLICATE answers without a tier")?;
        Ok(Shipped {
            tier: Some(tier.to_string()),
            records: result.number(0, "shipped_records"),
            bytes: result.number(0, "shipped_bytes"),
            full_copy_bytes: result.number(0, "full_copy_bytes"),
            set_aside: result.number(0, "set_aside_records"),
        })
    }
}

/// Waits until the sink has caught up; with `until`, also until it holds everything up to that time. Gives its cut.
pub fn caught_up(console: Console, sink: &mut Session, until: Option<&str>) -> Result<String> {
    let begun = Instant::now();
    loop {
        let status = sink.quiet(&format!("SHOW REPLICATION STATUS FOR {DATABASE}"))?;
        let row = (0..status.rows.len()).find(|row| status.get(*row, "role") == Some("sink"));
        let of = |column: &str| row.and_then(|row| status.get(row, column));
        let (state, cut) = (of("state").unwrap_or("no link"), of("cut").unwrap_or(""));
        if state == "caught up" && has_reached(cut, until) {
            return Ok(cut.to_string());
        }
        let lag = of("lag_records").unwrap_or("?");
        console
            .progress(&format!("{state}, {lag} records behind, {} bytes so far", of("shipped_bytes").unwrap_or("0")));
        if begun.elapsed() > PATIENCE {
            let error = of("last_error").unwrap_or("none");
            let advice = of("advice").unwrap_or("none");
            bail!(
                "the sink has not caught up within {} s: state {state}, cut {cut:?}, last error: {error}, advice: {advice}",
                PATIENCE.as_secs()
            );
        }
        std::thread::sleep(LOOK);
    }
}

/// Times of one format and zone are in order as texts; a fraction has no zeros at its end, or any number of them.
fn has_reached(cut: &str, until: Option<&str>) -> bool {
    let parts = |time: &str| {
        let (second, fraction) = time.split_once('.').unwrap_or((time, ""));
        (second.to_string(), fraction.trim_end_matches('0').to_string())
    };
    !cut.is_empty() && until.is_none_or(|until| parts(cut) >= parts(until))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_compared_with_a_time() {
        let cut = "2026-11-24 10:00:00.5";
        assert!(has_reached(cut, None));
        for reached in ["2026-11-24 10:00:00.500000", "2026-11-24 09:59:59.9", "2026-11-24 10:00:00"] {
            assert!(has_reached(cut, Some(reached)), "{reached}");
        }
        for later in ["2026-11-24 10:00:00.500001", "2026-11-24 10:00:01"] {
            assert!(!has_reached(cut, Some(later)), "{later}");
        }
        assert!(has_reached("2026-11-24 10:00:10", Some("2026-11-24 10:00:10.000000")));
        assert!(!has_reached("", None));
    }

    #[test]
    fn a_result_is_read_by_the_names_of_its_columns() {
        let columns = ["database", "tier", "shipped_records", "shipped_bytes", "full_copy_bytes", "set_aside_records"];
        let values = ["tpch", "log", "12", "3400", "99000000", "0"];
        let table = Table {
            columns: columns.map(String::from).to_vec(),
            rows: vec![values.map(|value| Some(value.to_string())).to_vec()],
        };
        let shipped = Shipped::from_result(&table).unwrap();
        assert_eq!(shipped.tier.as_deref(), Some("log"));
        assert_eq!((shipped.records, shipped.bytes), (Some(12), Some(3400)));
        assert_eq!((shipped.full_copy_bytes, shipped.set_aside), (Some(99_000_000), Some(0)));
        assert!(Shipped::from_result(&Table::default()).is_err());
    }
}
