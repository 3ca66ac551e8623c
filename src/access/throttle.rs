//! How often an address may guess.
//!
//! A count of failures for each address, which runs down with time; an address whose count is full
//! is not heard at all, right or wrong. What cannot be guessed is not judged here when it is right.
//! IPv6 addresses count by their first 64 bits, which one network hands out freely. The table is
//! bounded: when it is full, who has failed least is forgotten. The clock is the caller's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{LOGIN_FAILURE_FORGOTTEN, MAX_LOGIN_ADDRESSES, MAX_LOGIN_FAILURES};

/// Who is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Network {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Network {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let mut prefix = [0; 8];
                for (to, from) in prefix.iter_mut().zip(address.octets()) {
                    *to = from;
                }
                Self::V6(prefix)
            }
        }
    }
}

/// Failures of one network: the count is zero again at `clear_at`.
#[derive(Clone, Copy, Debug)]
struct Failures {
    clear_at: Instant,
}

/// The failures of all addresses.
#[derive(Debug, Default)]
pub struct Throttle {
    networks: HashMap<Network, Failures>,
}

impl Throttle {
    /// Whether what an address has tried counts, and counts it if it was wrong.
    ///
    /// # Errors
    /// It does not, right or wrong, for so long.
    pub fn judge(&mut self, address: IpAddr, right: bool, now: Instant) -> Result<(), Duration> {
        let network = Network::of(address);
        let full = LOGIN_FAILURE_FORGOTTEN * MAX_LOGIN_FAILURES;
        let clear_at = self.networks.get(&network).map_or(now, |it| it.clear_at);
        let after = clear_at.max(now) + LOGIN_FAILURE_FORGOTTEN;
        if after > now + full {
            return Err(after - (now + full));
        }
        if !right {
            if self.networks.len() >= MAX_LOGIN_ADDRESSES && !self.networks.contains_key(&network) {
                self.make_room(now);
            }
            self.networks.insert(network, Failures { clear_at: after });
        }
        Ok(())
    }

    fn make_room(&mut self, now: Instant) {
        self.networks.retain(|_, it| it.clear_at > now);
        if self.networks.len() >= MAX_LOGIN_ADDRESSES {
            let least = self.networks.iter().min_by_key(|(_, it)| it.clear_at);
            if let Some(network) = least.map(|(network, _)| *network) {
                self.networks.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_that_fails_too_often_is_not_heard_until_time_has_passed() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let (bad, good) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..MAX_LOGIN_FAILURES {
            throttle.judge(bad, false, now).unwrap();
            throttle.judge(good, true, now).unwrap();
        }
        // Also with a password that is right: nobody learns that he has found it.
        assert_eq!(throttle.judge(bad, true, now), Err(LOGIN_FAILURE_FORGOTTEN));
        assert_eq!(
            throttle.judge(bad, false, now),
            Err(LOGIN_FAILURE_FORGOTTEN)
        );
        let mapped = address("::ffff:192.0.2.1");
        assert!(throttle.judge(mapped, true, now).is_err());
        assert_eq!(throttle.judge(good, false, now), Ok(()));
        let later = now + LOGIN_FAILURE_FORGOTTEN;
        throttle.judge(bad, false, later).unwrap();
        assert!(throttle.judge(bad, false, later).is_err());
        let much_later = now + LOGIN_FAILURE_FORGOTTEN * (MAX_LOGIN_FAILURES + 1);
        for _ in 0..MAX_LOGIN_FAILURES {
            throttle.judge(bad, false, much_later).unwrap();
        }
        assert!(throttle.judge(bad, false, much_later).is_err());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for last in 0..MAX_LOGIN_FAILURES {
            let guess = address(&format!("2001:db8:1:2::{last:x}"));
            throttle.judge(guess, false, now).unwrap();
        }
        assert!(
            throttle
                .judge(address("2001:db8:1:2:f::1"), false, now)
                .is_err()
        );
        assert!(
            throttle
                .judge(address("2001:db8:1:3::1"), false, now)
                .is_ok()
        );
    }

    #[test]
    fn the_table_is_bounded_and_keeps_who_failed_most() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let bad = address("192.0.2.1");
        for _ in 0..MAX_LOGIN_FAILURES {
            throttle.judge(bad, false, now).unwrap();
        }
        for number in 0..2 * u32::try_from(MAX_LOGIN_ADDRESSES).unwrap() {
            let guess = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            throttle.judge(guess, false, now).unwrap();
            assert!(throttle.networks.len() <= MAX_LOGIN_ADDRESSES);
        }
        assert!(throttle.judge(bad, true, now).is_err());
    }
}
