//! The time zone of a session.

use std::str::FromStr;

use chrono::{DateTime, Offset, TimeZone};
use serde::{Deserialize, Serialize};
use types::value::{MINUTE, SECOND, Zone};

use crate::error::{Error, Result};

/// An offset or a named zone. Written as MySQL's `time_zone` variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SessionZone {
    /// So many minutes ahead of UTC.
    Fixed(i32),
    /// A zone of the tz database.
    Named(chrono_tz::Tz),
}

impl Default for SessionZone {
    fn default() -> SessionZone {
        SessionZone::Fixed(0)
    }
}

impl SessionZone {
    /// Reads `SYSTEM` (which is UTC), `+hh:mm` or a zone's name; 1298 for anything else.
    pub fn parse(text: &str) -> Result<SessionZone> {
        let unknown = || Error::new(1298, format!("Unknown or incorrect time zone: '{text}'"));
        if text.eq_ignore_ascii_case("SYSTEM") || text.eq_ignore_ascii_case("UTC") {
            return Ok(SessionZone::Fixed(0));
        }
        if let Some(sign) = text.strip_prefix('+').map(|_| 1).or_else(|| text.strip_prefix('-').map(|_| -1)) {
            let (hours, minutes) = text[1..].split_once(':').ok_or_else(unknown)?;
            let (hours, minutes): (i32, i32) =
                (hours.parse().map_err(|_| unknown())?, minutes.parse().map_err(|_| unknown())?);
            if !(0..=14).contains(&hours) || !(0..60).contains(&minutes) {
                return Err(unknown());
            }
            return Ok(SessionZone::Fixed(sign * (hours * 60 + minutes)));
        }
        named(text).map(SessionZone::Named).ok_or_else(unknown)
    }
}

/// A zone by its name in any case.
fn named(text: &str) -> Option<chrono_tz::Tz> {
    chrono_tz::TZ_VARIANTS.iter().copied().find(|zone| zone.name().eq_ignore_ascii_case(text))
}

impl TryFrom<String> for SessionZone {
    type Error = Error;

    fn try_from(text: String) -> Result<SessionZone> {
        SessionZone::parse(&text)
    }
}

impl From<SessionZone> for String {
    fn from(zone: SessionZone) -> String {
        match zone {
            SessionZone::Fixed(minutes) => {
                let sign = if minutes < 0 { '-' } else { '+' };
                format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
            }
            SessionZone::Named(zone) => zone.name().into(),
        }
    }
}

impl FromStr for SessionZone {
    type Err = Error;

    fn from_str(text: &str) -> Result<SessionZone> {
        SessionZone::parse(text)
    }
}

impl Zone for SessionZone {
    fn to_utc(&self, local: i64) -> Option<i64> {
        match self {
            SessionZone::Fixed(minutes) => local.checked_sub(i64::from(*minutes) * MINUTE),
            SessionZone::Named(zone) => {
                let naive = DateTime::from_timestamp_micros(local)?.naive_utc();
                let offset = zone.offset_from_local_datetime(&naive).earliest()?;
                Some(local - i64::from(offset.fix().local_minus_utc()) * SECOND)
            }
        }
    }

    fn to_local(&self, utc: i64) -> i64 {
        match self {
            SessionZone::Fixed(minutes) => utc + i64::from(*minutes) * MINUTE,
            SessionZone::Named(zone) => match DateTime::from_timestamp_micros(utc) {
                Some(instant) => {
                    let offset = zone.offset_from_utc_datetime(&instant.naive_utc());
                    utc + i64::from(offset.fix().local_minus_utc()) * SECOND
                }
                None => utc,
            },
        }
    }
}
