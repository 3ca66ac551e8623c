//! What goes wrong in a simulation, and when: all from its seed.
//!
//! ```text
//!   power cut, kill, a cut in the middle of a write, a stop   the broker comes back after a while
//!   partition, one way or both, hold                          repaired after a while
//!   connections cut                                           at once
//!   a call of the disk fails, full disk, slow disk            once, or for a while
//!   the wall clock steps                                      for good
//! ```
//!
//! Its neighbours: [`Machine`] is what the broker runs on, [`run`](super::run) asks at every step.

use std::time::Duration;

use fastrand::Rng;
use turmoil::Sim;

use super::host::{self, Machine};
use super::{trace, wire};
use crate::storage::Disk;
use crate::storage::disk::Call;

/// The hosts, by number.
pub(super) const HOSTS: [&str; 4] = [host::NAME, "one", "two", "supervisor"];
/// A disk that fills up had this much room.
const ROOMY: u64 = 1 << 30;

/// Something that goes wrong, and how many milliseconds it lasts.
#[derive(Clone, Copy, Debug)]
enum Fault {
    PowerCut(u64),
    Kill(u64),
    /// The power goes off after so many more changes of the disk.
    CutWithin(u64, u64),
    Stop(u64),
    Partition(usize, u64),
    FromBroker(usize, u64),
    ToBroker(usize, u64),
    Hold(usize, u64),
    CutConnections(usize),
    FailNext(Call),
    /// So many bytes are left.
    Full(u64, u64),
    /// A write takes so many milliseconds at most.
    Slow(u64, u64),
    /// By so many seconds.
    StepWall(i64),
}

/// What ends a fault.
#[derive(Clone, Copy, Debug)]
enum Repair {
    Start,
    /// The power is off at the latest now.
    Cut(u64),
    /// The broker has stopped, or else it is killed.
    Stopped,
    Mend(usize),
    Release(usize),
    Room,
    Fast,
}

/// The storm of one simulation.
pub(super) struct Storm {
    dice: Rng,
    machine: Machine,
    next_at: Duration,
    left: u32,
    repairs: Vec<(Duration, Repair)>,
    /// The broker is down, or about to be.
    is_down: bool,
}

impl Storm {
    pub(super) fn new(mut dice: Rng, machine: Machine) -> Self {
        let left = dice.u32(3..9);
        Self {
            dice,
            machine,
            next_at: Duration::ZERO,
            left,
            repairs: Vec::new(),
            is_down: false,
        }
    }

    /// Lets happen what is due; whether more will come.
    pub(super) fn blow(&mut self, sim: &mut Sim<'_>) -> bool {
        self.repair(sim, sim.elapsed());
        if self.left > 0 && sim.elapsed() >= self.next_at {
            self.left -= 1;
            let first = self.next_at.is_zero();
            self.next_at = sim.elapsed() + Duration::from_millis(self.dice.u64(100..1_500));
            if !first {
                let fault = self.choose();
                self.strike(sim, fault);
            }
        }
        self.left > 0 || !self.repairs.is_empty()
    }

    fn choose(&mut self) -> Fault {
        let dice = &mut self.dice;
        let down = dice.u64(20..600);
        let lasts = dice.u64(50..2_500);
        let host = dice.usize(1..3);
        match dice.u8(..20) {
            _ if self.is_down => Fault::CutConnections(host),
            0..3 => Fault::PowerCut(down),
            3..5 => Fault::Kill(down),
            5..8 => Fault::CutWithin(dice.u64(1..40), down),
            8 => Fault::Stop(down),
            9 => Fault::Partition(host, lasts),
            10 => Fault::FromBroker(host, lasts),
            11 => Fault::ToBroker(host, lasts),
            12 => Fault::Hold(host, lasts),
            13 | 14 => Fault::CutConnections(host),
            15 | 16 => Fault::FailNext(
                dice.choice([
                    Call::Sync,
                    Call::Sync,
                    Call::WriteAt,
                    Call::SetLen,
                    Call::Create,
                    Call::Rename,
                    Call::SyncDir,
                    Call::Unlink,
                ])
                .unwrap(),
            ),
            17 => Fault::Full(dice.u64(..200_000), lasts),
            18 => Fault::Slow(dice.u64(10..800), lasts),
            _ => Fault::StepWall(dice.choice([-86_400, -3_600, 3_600, 86_400]).unwrap()),
        }
    }

    fn strike(&mut self, sim: &mut Sim<'_>, fault: Fault) {
        trace::note(&format!("{fault:?}"), 0, &[]);
        let now = sim.elapsed();
        let mut later = |millis, repair| {
            self.repairs
                .push((now + Duration::from_millis(millis), repair));
        };
        match fault {
            Fault::PowerCut(down) => {
                later(down, Repair::Start);
                self.cut(sim);
            }
            Fault::Kill(down) => {
                later(down, Repair::Start);
                self.is_down = true;
                let left = self.machine.disk().kill();
                sim.crash(host::NAME);
                self.machine.set_disk(left);
            }
            Fault::CutWithin(changes, down) => {
                later(300, Repair::Cut(down));
                self.is_down = true;
                let disk = self.machine.disk();
                disk.cut_after(disk.changes() + changes);
            }
            Fault::Stop(down) => {
                later(down, Repair::Stopped);
                self.is_down = true;
                self.machine.stop();
            }
            Fault::Partition(host, lasts) => {
                later(lasts, Repair::Mend(host));
                sim.partition(host::NAME, HOSTS[host]);
            }
            Fault::FromBroker(host, lasts) => {
                later(lasts, Repair::Mend(host));
                sim.partition_oneway(host::NAME, HOSTS[host]);
            }
            Fault::ToBroker(host, lasts) => {
                later(lasts, Repair::Mend(host));
                sim.partition_oneway(HOSTS[host], host::NAME);
            }
            Fault::Hold(host, lasts) => {
                later(lasts, Repair::Release(host));
                sim.hold(host::NAME, HOSTS[host]);
            }
            Fault::CutConnections(host) => wire::cut(host),
            Fault::FailNext(call) => self.machine.disk().fail_next(call),
            Fault::Full(room, lasts) => {
                later(lasts, Repair::Room);
                let disk = self.machine.disk();
                disk.set_capacity(Some(ROOMY));
                if let Ok(free) = disk.free_space() {
                    disk.set_capacity(Some(ROOMY - free + room));
                }
            }
            Fault::Slow(most, lasts) => {
                later(lasts, Repair::Fast);
                host::set_slowest_write(most);
            }
            Fault::StepWall(seconds) => trace::step_wall(seconds),
        }
    }

    /// Cuts the power: what follows writes nothing any more, not even what ends with the process.
    fn cut(&mut self, sim: &mut Sim<'_>) {
        self.is_down = true;
        let left = self.machine.disk().power_cut();
        sim.crash(host::NAME);
        self.machine.set_disk(left);
    }

    fn repair(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let (due, left) = self.repairs.iter().partition(|(at, _)| *at <= now);
        self.repairs = left;
        let due: Vec<(Duration, Repair)> = due;
        for (_, repair) in due {
            trace::note(&format!("{repair:?}"), 0, &[]);
            match repair {
                Repair::Cut(down) => {
                    self.cut(sim);
                    self.repairs
                        .push((now + Duration::from_millis(down), Repair::Start));
                }
                Repair::Stopped if sim.is_host_running(host::NAME) => {
                    // One that had not begun to listen for it has not heard the first.
                    self.machine.stop();
                    self.repairs
                        .push((now + Duration::from_millis(20), Repair::Stopped));
                }
                Repair::Start | Repair::Stopped => {
                    self.is_down = false;
                    sim.bounce(host::NAME);
                }
                Repair::Mend(host) => sim.repair(host::NAME, HOSTS[host]),
                Repair::Release(host) => sim.release(host::NAME, HOSTS[host]),
                Repair::Room => self.machine.disk().set_capacity(None),
                Repair::Fast => host::set_slowest_write(2),
            }
        }
    }
}
