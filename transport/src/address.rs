//! An address as a person writes it: `host:port`, where host is a name, an IPv4 address or an IPv6 address in brackets.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::error::DialCause;

/// Every address that the name has now, at least one. Asked anew at each attempt: a node may have moved.
pub(crate) async fn resolve(address: &str, limit: Duration) -> Result<Vec<SocketAddr>, DialCause> {
    let found: Vec<SocketAddr> = match timeout(limit, lookup_host(address)).await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => return Err(DialCause::Unreachable(error.to_string())),
        Err(_) => return Err(DialCause::TimedOut { stage: "looking up the name", time: limit }),
    };
    if found.is_empty() { Err(DialCause::Unreachable("the name has no address".into())) } else { Ok(found) }
}

/// The host of `host:port`, without brackets.
pub(crate) fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (address, host) in [("db:1", "db"), ("[::1]:2", "::1"), ("127.0.0.1:3", "127.0.0.1"), ("db", "db")] {
            assert_eq!(host_of(address), host);
        }
    }

    #[tokio::test]
    async fn an_address_without_meaning_is_unreachable() {
        let error = resolve("no port here", Duration::from_secs(60)).await.unwrap_err();
        assert!(matches!(error, DialCause::Unreachable(_)), "{error}");
        let loopback = resolve("127.0.0.1:7", Duration::from_secs(60)).await.unwrap();
        assert_eq!(loopback, ["127.0.0.1:7".parse().unwrap()]);
    }
}
