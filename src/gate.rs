//! The gate: who may come in, decided for each connection as it is accepted.
//!
//! ```text
//!  accept --> paced, in all --> room in all? --> room for its address? --> silent --> served
//!                                    no | no            |                    | one more than fit:
//!                                       v               v                    v the oldest
//!                                     closed          closed               closed
//! ```
//!
//! Owns the counts and the pace, nothing else: no socket, no clock, no log. A connection is silent
//! until it drops the receiver that it was given here. Its neighbour: the server accepts and asks.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::limits::{
    ACCEPT_BURST, ACCEPTS_PER_SECOND, ADDRESS_ACCEPTS_PER_SECOND, ADDRESS_BURST, Admission,
    MAX_SILENT, REFUSAL_LOG_INTERVAL,
};

/// Addresses that are remembered beyond those that are here, before they are looked through.
const SPARE_ADDRESSES: usize = 1_024;

/// A burst, then a pace: each that passes moves the moment at which the burst is whole again.
#[derive(Clone, Copy, Debug)]
struct Pacer {
    whole_at: Instant,
}

impl Pacer {
    /// One more passes; when it is its turn, which may be now.
    fn pass(&mut self, burst: u32, per_second: u32, now: Instant) -> Instant {
        let step = Duration::from_secs(1) / per_second;
        self.whole_at = self.whole_at.max(now) + step;
        let turn = self.whole_at.checked_sub(step * burst);
        turn.unwrap_or(now).max(now)
    }

    /// Whether it is as if nobody had ever passed.
    fn is_whole(&self, now: Instant) -> bool {
        self.whole_at <= now
    }
}

/// One address, or one network of them.
#[derive(Debug)]
struct Origin {
    open: usize,
    pacer: Pacer,
}

/// Why a connection is closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There are as many connections as may be.
    Full,
    /// There are as many of its address as may be.
    AddressFull,
}

/// A connection that may come in.
#[derive(Debug)]
pub struct Entered {
    /// When it is its turn to be served.
    pub turn: Instant,
    /// Resolves when it must make room; to be dropped when it has said something.
    pub make_room: oneshot::Receiver<()>,
    /// Whether an older one that was silent makes room for it.
    pub in_place_of_silent: bool,
}

/// Who is in, and who may come in.
#[derive(Debug)]
pub struct Gate {
    limits: Admission,
    open: usize,
    pacer: Pacer,
    origins: HashMap<IpAddr, Origin>,
    /// Those that may not have said anything yet, the oldest first.
    silent: VecDeque<oneshot::Sender<()>>,
    /// When refusals were told last, and how many there were since.
    told: (Option<Instant>, u64),
}

impl Gate {
    /// Nobody is in.
    pub fn new(limits: Admission, now: Instant) -> Self {
        Self {
            limits,
            open: 0,
            pacer: Pacer { whole_at: now },
            origins: HashMap::new(),
            silent: VecDeque::new(),
            told: (None, 0),
        }
    }

    /// Counts a connection that is to be accepted; when that may be, which may be now.
    pub fn pace(&mut self, now: Instant) -> Instant {
        self.pacer.pass(ACCEPT_BURST, ACCEPTS_PER_SECOND, now)
    }

    /// Lets a connection in.
    ///
    /// # Errors
    /// It is to be closed, and does not [leave](Self::leave).
    pub fn enter(&mut self, peer: IpAddr, now: Instant) -> Result<Entered, Refusal> {
        if self.open >= self.limits.connections {
            return Err(Refusal::Full);
        }
        self.forget_origins(now);
        let is_own = peer.to_canonical().is_loopback();
        let limit = match self.limits.per_address {
            None if is_own => self.limits.connections,
            _ => self.limits.of_address(),
        };
        let origin = self.origins.entry(origin_of(peer)).or_insert(Origin {
            open: 0,
            pacer: Pacer { whole_at: now },
        });
        if origin.open >= limit {
            return Err(Refusal::AddressFull);
        }
        origin.open += 1;
        self.open += 1;
        let turn = if is_own {
            now
        } else {
            let (burst, rate) = (ADDRESS_BURST, ADDRESS_ACCEPTS_PER_SECOND);
            origin.pacer.pass(burst, rate, now)
        };
        let in_place_of_silent = self.make_room();
        let (ask, make_room) = oneshot::channel();
        self.silent.push_back(ask);
        Ok(Entered {
            turn,
            make_room,
            in_place_of_silent,
        })
    }

    /// A connection that was let in has ended.
    pub fn leave(&mut self, peer: IpAddr) {
        self.open = self.open.saturating_sub(1);
        if let Some(origin) = self.origins.get_mut(&origin_of(peer)) {
            origin.open = origin.open.saturating_sub(1);
        }
    }

    /// Counts a refusal; how many there were since they were told last, if they are to be told now.
    pub fn refused(&mut self, now: Instant) -> Option<u64> {
        let (at, count) = &mut self.told;
        *count += 1;
        let is_due = at.is_none_or(|at| now - at >= REFUSAL_LOG_INTERVAL);
        is_due.then(|| {
            *at = Some(now);
            std::mem::take(count)
        })
    }

    /// Lets the oldest one that is silent go if there are too many; whether there were.
    fn make_room(&mut self) -> bool {
        let speaks = |it: &oneshot::Sender<()>| it.is_closed();
        while self.silent.pop_front_if(|it| speaks(it)).is_some() {}
        if self.silent.len() >= MAX_SILENT {
            self.silent.retain(|it| !speaks(it));
        }
        let too_many = self.silent.len() >= MAX_SILENT;
        if let Some(oldest) = self.silent.pop_front_if(|_| too_many) {
            // One that spoke this very moment stays.
            let _ = oldest.send(());
        }
        too_many
    }

    /// Forgets addresses of which nobody is here and whose burst is whole, now and then.
    fn forget_origins(&mut self, now: Instant) {
        if self.origins.len() > 2 * self.open + SPARE_ADDRESSES {
            self.origins
                .retain(|_, origin| origin.open > 0 || !origin.pacer.is_whole(now));
        }
    }
}

/// What is counted as one address: an IPv6 host usually has 64 bits to choose from.
fn origin_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(connections: usize, per_address: Option<usize>) -> (Gate, Instant) {
        let now = Instant::now();
        let limits = Admission {
            connections,
            per_address,
            ..Admission::default()
        };
        (Gate::new(limits, now), now)
    }

    /// Each address comes in or is refused, in turn.
    fn check(gate: &mut Gate, now: Instant, peers: &[&str], expected: &str) {
        let got = peers.iter().map(|peer| {
            let entered = gate.enter(peer.parse().unwrap(), now);
            entered.map_or_else(|it| format!("{it:?}"), |_| "in".to_owned())
        });
        assert_eq!(got.collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn an_address_has_its_share_and_all_have_theirs() {
        let (mut gate, now) = gate(5, Some(2));
        let peers = ["10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2", "127.0.0.1"];
        check(&mut gate, now, &peers, "in in AddressFull in in");
        let peers = ["::ffff:10.0.0.1", "::1", "10.0.0.3"];
        check(&mut gate, now, &peers, "AddressFull in Full");
        gate.leave("10.0.0.1".parse().unwrap());
        let peers = ["10.0.0.1", "10.0.0.3"];
        check(&mut gate, now, &peers, "in Full");
    }

    #[test]
    fn this_machine_may_have_all_unless_it_is_told_otherwise() {
        let (mut all, now) = gate(3, None);
        let own = ["127.0.0.1"; 4];
        check(&mut all, now, &own, "in in in Full");
        let (mut two, now) = gate(3, Some(2));
        check(&mut two, now, &own, "in in AddressFull AddressFull");
    }

    #[test]
    fn hosts_of_one_ipv6_network_are_one_address() {
        let (mut gate, now) = gate(9, Some(1));
        let peers = ["2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1"];
        check(&mut gate, now, &peers, "in AddressFull in");
    }

    #[test]
    fn the_oldest_that_is_silent_makes_room_and_nobody_who_has_spoken() {
        let (mut gate, now) = gate(MAX_SILENT * 3, None);
        let own: IpAddr = "127.0.0.1".parse().unwrap();
        let mut enter = || gate.enter(own, now).unwrap();
        let mut silent: Vec<_> = (0..MAX_SILENT).map(|_| enter().make_room).collect();
        // Who has spoken needs no room: the next finds a place.
        drop(silent.remove(1));
        let next = enter();
        assert!(!next.in_place_of_silent);
        silent.push(next.make_room);
        let next = enter();
        assert!(next.in_place_of_silent);
        silent.push(next.make_room);
        assert_eq!(silent[0].try_recv(), Ok(()), "the oldest goes");
        for other in &mut silent[1..] {
            assert!(other.try_recv().is_err(), "the others stay");
        }
        assert!(gate.silent.len() <= MAX_SILENT);
    }

    #[test]
    fn after_a_burst_there_is_a_pace_and_after_a_while_a_burst_again() {
        let (mut gate, now) = gate(MAX_SILENT, None);
        for _ in 0..ACCEPT_BURST {
            assert_eq!(gate.pace(now), now);
        }
        let step = Duration::from_secs(1) / ACCEPTS_PER_SECOND;
        assert_eq!(gate.pace(now), now + step);
        assert_eq!(
            gate.pace(now + step * 5),
            now + step * 5,
            "five have gone by"
        );
        let later = now + Duration::from_mins(1);
        for _ in 0..ACCEPT_BURST {
            assert_eq!(gate.pace(later), later);
        }
        assert!(gate.pace(later) > later);
    }

    #[test]
    fn an_address_that_comes_too_fast_is_served_later_and_no_other() {
        let (mut gate, now) = gate(MAX_SILENT, Some(MAX_SILENT));
        let hasty: IpAddr = "10.0.0.1".parse().unwrap();
        for _ in 0..ADDRESS_BURST {
            assert_eq!(gate.enter(hasty, now).unwrap().turn, now);
        }
        assert!(gate.enter(hasty, now).unwrap().turn > now);
        let other = "10.0.0.2".parse().unwrap();
        assert_eq!(gate.enter(other, now).unwrap().turn, now);
        let own = "127.0.0.1".parse().unwrap();
        assert_eq!(gate.enter(own, now).unwrap().turn, now);
    }

    #[test]
    fn addresses_that_are_gone_are_forgotten() {
        let (mut gate, now) = gate(10, None);
        for number in 0..50_000_u32 {
            let peer = IpAddr::from(number.to_be_bytes());
            let at = now + Duration::from_millis(u64::from(number) * 10);
            gate.enter(peer, at).unwrap();
            gate.leave(peer);
        }
        assert!(gate.origins.len() <= SPARE_ADDRESSES + 2);
        assert!(gate.silent.len() <= MAX_SILENT);
    }

    #[test]
    fn refusals_are_told_now_and_then_with_their_number() {
        let (mut gate, now) = gate(1, None);
        assert_eq!(gate.refused(now), Some(1));
        assert_eq!(gate.refused(now), None);
        assert_eq!(gate.refused(now + REFUSAL_LOG_INTERVAL), Some(2));
    }
}
