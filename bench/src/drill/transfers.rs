//! Transfers between accounts, and people who add all accounts up: the sum never changes, in no read and in no step.

use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::app::App;

/// How many accounts there are.
pub const ACCOUNTS: i64 = 40;
/// What each begins with.
pub const BALANCE: i64 = 1000;
const PAUSE: Duration = Duration::from_millis(4);
const AUDIT_PAUSE: Duration = Duration::from_millis(50);
/// All accounts, read by one statement.
pub const SUM: &str = "SELECT SUM(balance) AS total, COUNT(*) AS accounts FROM accounts";

/// Transfers until told to stop.
pub fn transfer(mut app: App, mut random: ChaCha8Rng) {
    while !app.shared.stopped() {
        let (from, step) = (random.random_range(0..ACCOUNTS), random.random_range(1..ACCOUNTS));
        let (to, amount) = ((from + step) % ACCOUNTS, random.random_range(1..50));
        // Whatever comes of it: the sum tells.
        app.transact(&[
            "BEGIN".into(),
            format!("UPDATE accounts SET balance = balance - {amount} WHERE id = {from}"),
            format!("UPDATE accounts SET balance = balance + {amount} WHERE id = {to}"),
            "COMMIT".into(),
        ]);
        std::thread::sleep(PAUSE);
    }
}

/// Adds up until told to stop.
pub fn add_up(mut app: App) {
    while !app.shared.stopped() {
        if let Some(table) = app.read(SUM) {
            let (total, accounts) = (table.get(0, "total"), table.get(0, "accounts"));
            if let Some(finding) = wrong(total, accounts) {
                app.shared.find(finding);
            }
        }
        std::thread::sleep(AUDIT_PAUSE);
    }
}

/// What is wrong with a sum.
pub fn wrong(total: Option<&str>, accounts: Option<&str>) -> Option<String> {
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let (total, accounts) = (number(total), number(accounts));
    let right = total == Some(ACCOUNTS * BALANCE) && accounts == Some(ACCOUNTS);
    let wanted = ACCOUNTS * BALANCE;
    (!right).then(|| format!("{ACCOUNTS} accounts hold {wanted}, and {accounts:?} were read that hold {total:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_other_sum_is_wrong() {
        assert_eq!(wrong(Some("40000"), Some("40")), None);
        assert!(wrong(Some("39999"), Some("40")).is_some());
        assert!(wrong(Some("40000"), Some("39")).is_some());
        assert!(wrong(None, Some("0")).is_some());
    }
}
