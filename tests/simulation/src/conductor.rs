//! Makes the plan's faults happen at their moments, and everything whole again. Works between the steps of the simulation: what
//! it does to hosts and links, nobody in the simulation can see but by its effects.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use turmoil::Sim;

use crate::fault::Fault;
use crate::plan::{Action, Host, Role};
use crate::world::World;

/// What packets take between two hosts when nothing is wrong, at most.
pub const PACKET: Duration = Duration::from_millis(15);
/// How long a process that stopped by itself, or was told to, stays away.
const RESTART: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(4));
/// Between two processes of a role that are started anew.
const ROLL: Duration = Duration::from_secs(5);

/// What is wrong with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wrong {
    Held,
    Cut,
    /// From the first host of the pair to the second.
    Forth,
    /// From the second to the first.
    Back,
}

/// What ends at a moment.
#[derive(Debug)]
enum End {
    Start(Host),
    Link(Host, Host, Wrong),
    Slow(Host, Host),
    Loss(Host, Host),
    Open(Host),
    /// The next of a role is told to stop.
    Roll(VecDeque<Host>),
}

/// See the module.
pub struct Conductor {
    world: Arc<World>,
    plan: VecDeque<(Duration, Fault, Action)>,
    ends: Vec<(Duration, End)>,
    links: BTreeMap<(Host, Host), Vec<Wrong>>,
    gates: BTreeMap<Host, u32>,
    down: BTreeMap<Host, bool>,
}

impl Conductor {
    /// Nothing happened yet.
    pub fn new(world: &Arc<World>) -> Self {
        let plan = world.plan.schedule.iter().cloned().collect();
        Self { world: Arc::clone(world), plan, ends: Vec::new(), links: BTreeMap::new(), gates: BTreeMap::new(), down: BTreeMap::new() }
    }

    /// Does what is due.
    pub fn step(&mut self, sim: &mut Sim<'_>, now: Duration) {
        self.clear(sim, now);
        let mut due = Vec::new();
        self.ends.retain_mut(|(at, end)| {
            let is_due = *at <= now;
            if is_due {
                due.push(std::mem::replace(end, End::Roll(VecDeque::new())));
            }
            !is_due
        });
        for end in due {
            self.end(end, sim, now);
        }
        while self.plan.front().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, fault, action)) = self.plan.pop_front() else { return };
            self.begin(fault, action, sim, now);
        }
    }

    /// Ends all that is wrong, at once.
    pub fn heal(&mut self, sim: &mut Sim<'_>, now: Duration) {
        self.plan.clear();
        for (_, end) in std::mem::take(&mut self.ends) {
            match end {
                End::Roll(_) => {}
                end => self.end(end, sim, now),
            }
        }
        for host in self.world.plan.hosts() {
            self.world.control(host).clock().step(0);
        }
        // Nothing of the storm comes into the calm.
        self.world.late.arrive(Duration::MAX);
    }

    /// Starts a host's process anew, at once.
    pub fn renew(&mut self, host: Host, sim: &mut Sim<'_>) {
        if sim.is_host_running(host.name()) {
            sim.crash(host.name());
        }
        sim.bounce(host.name());
        self.down.insert(host, false);
    }

    /// Hosts whose process has stopped by itself: the system closes its sockets, and starts another before long.
    fn clear(&mut self, sim: &mut Sim<'_>, now: Duration) {
        for host in self.world.plan.hosts() {
            if self.world.control(host).has_ended() && !self.is_down(host) {
                sim.crash(host.name());
                self.down.insert(host, true);
                let after = self.world.weather.time(RESTART.0, RESTART.1);
                self.ends.push((now + after, End::Start(host)));
            }
        }
    }

    fn is_down(&self, host: Host) -> bool {
        self.down.get(&host).copied().unwrap_or_default()
    }

    /// The host of the replica that wrote last, if it is up.
    fn owner(&self) -> Option<Host> {
        let last = self.world.weather.last_append();
        let owner = self.world.plan.hosts().into_iter().find(|host| last.as_deref() == Some(&host.name()));
        owner.filter(|owner| !self.is_down(*owner))
    }

    fn begin(&mut self, fault: Fault, action: Action, sim: &mut Sim<'_>, now: Duration) {
        let told = format!("{action:?}");
        match action {
            Action::Crash(host, down) => {
                if self.is_down(host) {
                    return;
                }
                sim.crash(host.name());
                self.down.insert(host, true);
                self.ends.push((now + down, End::Start(host)));
            }
            Action::Pause(host, time) => {
                if self.is_down(host) {
                    return;
                }
                self.pause(host, time, sim, now);
            }
            Action::Usurp(time) => {
                let Some(owner) = self.owner() else { return };
                self.pause(owner, time, sim, now);
            }
            Action::Roll(role) => {
                let mut hosts: VecDeque<Host> = self.world.plan.hosts().into_iter().filter(|host| host.role == role).collect();
                if let Some(first) = hosts.pop_front() {
                    self.world.control(first).stop();
                }
                self.ends.push((now + ROLL, End::Roll(hosts)));
            }
            Action::Partition(one, other, time) => self.spoil(one, other, Wrong::Cut, time, sim, now),
            Action::Strand(gateway, time) => {
                for replica in self.world.plan.hosts().into_iter().filter(|host| host.role == Role::Metadata) {
                    self.spoil(gateway, replica, Wrong::Cut, time, sim, now);
                }
            }
            Action::OneWay(from, to, time) => self.spoil(from, to, Wrong::Forth, time, sim, now),
            Action::Hold(one, other, time) => self.spoil(one, other, Wrong::Held, time, sim, now),
            Action::Slow(one, other, time, most) => {
                sim.set_link_max_message_latency(one.name(), other.name(), most);
                self.ends.push((now + time, End::Slow(one, other)));
            }
            Action::Lose(one, other, of, time) => {
                sim.set_link_fail_rate(one.name(), other.name(), 1.0 / of as f64);
                self.ends.push((now + time, End::Loss(one, other)));
            }
            Action::Clock(host, off) => self.world.control(host).clock().step(off),
            Action::Away(host, time) => {
                self.close(host);
                self.ends.push((now + time, End::Open(host)));
            }
            Action::Withhold(time) => {
                let Some(owner) = self.owner() else { return };
                self.world.control(owner).hold_until(now + time);
            }
        }
        self.world.weather.fired(fault, format_args!("{told}"));
    }

    fn end(&mut self, end: End, sim: &mut Sim<'_>, now: Duration) {
        self.world.trace.line("plan", format_args!("over: {end:?}"));
        match end {
            End::Start(host) => {
                sim.bounce(host.name());
                self.down.insert(host, false);
            }
            End::Link(one, other, wrong) => {
                let known = self.links.entry((one, other)).or_default();
                if let Some(at) = known.iter().position(|known| *known == wrong) {
                    known.remove(at);
                }
                self.set_link(one, other, sim);
            }
            End::Slow(one, other) => sim.set_link_max_message_latency(one.name(), other.name(), PACKET),
            End::Loss(one, other) => {
                sim.set_link_fail_rate(one.name(), other.name(), 0.0);
                self.set_link(one, other, sim);
            }
            End::Open(host) => {
                let closed = self.gates.entry(host).or_default();
                *closed = closed.saturating_sub(1);
                if *closed == 0 {
                    self.world.control(host).gate().set(true);
                }
            }
            End::Roll(mut hosts) => {
                if let Some(next) = hosts.pop_front() {
                    self.world.control(next).stop();
                    self.ends.push((now + ROLL, End::Roll(hosts)));
                }
            }
        }
    }

    /// Stops a process: to itself it is as if time jumped, to others as if it were silent for so long.
    fn pause(&mut self, host: Host, time: Duration, sim: &mut Sim<'_>, now: Duration) {
        for other in self.world.plan.hosts().into_iter().filter(|other| *other != host) {
            self.spoil(host, other, Wrong::Held, time, sim, now);
        }
        self.close(host);
        self.ends.push((now + time, End::Open(host)));
        self.world.control(host).pause(now, time);
    }

    fn close(&mut self, host: Host) {
        *self.gates.entry(host).or_default() += 1;
        self.world.control(host).gate().set(false);
    }

    fn spoil(&mut self, one: Host, other: Host, wrong: Wrong, time: Duration, sim: &mut Sim<'_>, now: Duration) {
        let (one, other, wrong) = match wrong {
            Wrong::Forth if other < one => (other, one, Wrong::Back),
            wrong if other < one => (other, one, wrong),
            wrong => (one, other, wrong),
        };
        self.links.entry((one, other)).or_default().push(wrong);
        self.set_link(one, other, sim);
        self.ends.push((now + time, End::Link(one, other, wrong)));
    }

    /// Brings a link into the state that is the worst of what is wrong with it.
    fn set_link(&self, one: Host, other: Host, sim: &mut Sim<'_>) {
        let (one, other) = (one.min(other), one.max(other));
        let wrong = self.links.get(&(one, other)).map(Vec::as_slice).unwrap_or_default();
        let (a, b) = (one.name(), other.name());
        if wrong.contains(&Wrong::Held) {
            sim.hold(a, b);
        } else if wrong.contains(&Wrong::Cut) || wrong.contains(&Wrong::Forth) && wrong.contains(&Wrong::Back) {
            sim.partition(a, b);
        } else {
            sim.release(a.as_str(), b.as_str());
            if wrong.contains(&Wrong::Forth) {
                sim.partition_oneway(a, b);
            } else if wrong.contains(&Wrong::Back) {
                sim.partition_oneway(b, a);
            }
        }
    }
}

/// A gateway, whose caches are empty after it was started anew.
pub fn fresh_gateway() -> Host {
    Host { role: Role::Gateway, index: 0 }
}
