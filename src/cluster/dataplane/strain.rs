//! Loads that faults put on containers and on nodes: threads that compute, memory that is kept.
//!
//! A load on a container is in its cgroup: it shares the container's CPU time and counts against its
//! quota and its memory limit. When the container ends, so does the load, and its successor has
//! none. A load on a node stands beside all pods, as the system's own services do.
//!
//! Threads that do not compute all the time do so for [`SLICE`] and then pause, all at once.
//! Memory is there from the first moment on.

use std::collections::BTreeMap;
use std::time::Duration;

use super::units::OUT_OF_MEMORY;
use super::{DataPlane, Event, Out};
use crate::engine::Time;
use crate::kubelet::ContainerId;
use crate::load::Key;
use crate::net::Place;

/// So long a thread computes before it pauses (`--cpu-load-slice 10` of stress-ng).
pub const SLICE: Duration = Duration::from_millis(10);

/// What stands beside the pods of a node weighs as much as one core (`cpu.shares` of 1024).
const BESIDE_MILLI: u64 = 1000;

/// What is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Threads that compute.
    pub workers: u32,
    /// How much of their time, in percent.
    pub percent: u32,
    /// Bytes.
    pub memory: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Unit(Key),
    Node(Place, Key),
}

/// A load in force.
#[derive(Debug)]
struct Strain {
    on: On,
    load: Load,
    /// Its threads compute now.
    busy: bool,
}

/// All loads in force, by their numbers.
#[derive(Debug, Default)]
pub struct Strains {
    all: BTreeMap<u32, Strain>,
}

impl Strains {
    /// Memory that is kept beside the pods of a node, in bytes.
    pub fn beside(&self, place: Place) -> u64 {
        let here = self.all.values().filter(|s| s.is_beside(place));
        here.map(|strain| strain.load.memory).sum()
    }

    /// The largest memory beside the pods of a node.
    pub fn largest_beside(&self, place: Place) -> Option<(u32, u64)> {
        let here = self.all.iter().filter(|(_, s)| s.is_beside(place));
        here.map(|(number, strain)| (*number, strain.load.memory))
            .max_by_key(|(_, memory)| *memory)
            .filter(|(_, memory)| *memory > 0)
    }

    /// The kernel ends the process that keeps a memory.
    pub fn end_memory(&mut self, number: u32) {
        if let Some(strain) = self.all.get_mut(&number) {
            strain.load.memory = 0;
        }
    }
}

impl Strain {
    fn is_beside(&self, place: Place) -> bool {
        matches!(self.on, On::Node(at, _) if at == place)
    }
}

impl DataPlane {
    /// Puts a load on a container that runs, under a number of the caller's.
    pub fn strain_container(
        &mut self,
        number: u32,
        id: ContainerId,
        load: Load,
        now: Time,
        out: &mut Out,
    ) {
        if let Some(unit) = self.unit_of(id) {
            self.strain(number, On::Unit(unit), load, now, out);
        }
    }

    /// Puts a load on a node, beside its pods.
    pub fn strain_node(&mut self, number: u32, node: &str, load: Load, now: Time, out: &mut Out) {
        let Some(place) = self.net.place(node) else {
            return;
        };
        if !self.dark.contains(&place) {
            let group = self.cpu.add_beside(place.0, BESIDE_MILLI);
            self.strain(number, On::Node(place, group), load, now, out);
        }
    }

    fn strain(&mut self, number: u32, on: On, load: Load, now: Time, out: &mut Out) {
        let busy = false;
        self.strains.all.insert(number, Strain { on, load, busy });
        if load.workers > 0 && load.percent > 0 {
            self.strain_turns(number, now, out);
        }
        self.weigh(on, now, out);
    }

    /// Takes a load away; one that is gone already is no error.
    pub fn relieve(&mut self, number: u32, now: Time, out: &mut Out) {
        let Some(strain) = self.strains.all.remove(&number) else {
            return;
        };
        self.compute(strain.on, now, out);
        self.weigh(strain.on, now, out);
        if let On::Node(_, group) = strain.on {
            self.cpu.remove(group, now, &mut self.wakes);
            self.push_wakes(out);
        }
    }

    /// The processes beside the pods of a node are gone.
    pub(super) fn end_strains_beside(&mut self, place: Place, now: Time) {
        let here = self.strains.all.iter().filter(|(_, s)| s.is_beside(place));
        let numbers: Vec<u32> = here.map(|(number, _)| *number).collect();
        for number in numbers {
            self.relieve(number, now, &mut Out::default());
        }
    }

    /// The threads of a load begin to compute, or pause.
    pub(super) fn strain_turns(&mut self, number: u32, now: Time, out: &mut Out) {
        let Some(strain) = self.strains.all.get_mut(&number) else {
            return;
        };
        if let On::Unit(unit) = strain.on
            && self.units.get(unit).is_none()
        {
            self.strains.all.remove(&number);
            return;
        }
        strain.busy = !strain.busy;
        let (on, busy, percent) = (strain.on, strain.busy, strain.load.percent.min(100));
        if percent < 100 {
            let span = match busy {
                true => SLICE,
                false => SLICE * (100 - percent) / percent,
            };
            out.at(now + span, Event::Strain(number));
        }
        self.compute(on, now, out);
    }

    /// Tells the CPU model how many threads compute in a group.
    fn compute(&mut self, on: On, now: Time, out: &mut Out) {
        let here = self.strains.all.values().filter(|s| s.on == on && s.busy);
        let threads = here.map(|strain| u64::from(strain.load.workers)).sum();
        let group = match on {
            On::Node(_, group) => group,
            On::Unit(unit) if self.units.get(unit).is_some() => self.group_of(unit),
            On::Unit(_) => return,
        };
        self.cpu.hog(group, threads, now, &mut self.wakes);
        self.push_wakes(out);
    }

    /// Counts the memory of all loads on a container, which the kernel may end for it.
    fn weigh(&mut self, on: On, now: Time, out: &mut Out) {
        let here = self.strains.all.values().filter(|s| s.on == on);
        let bytes = here.map(|strain| strain.load.memory).sum();
        match on {
            On::Node(place, _) => self.tell_tight(place, out),
            On::Unit(unit) if self.units.get(unit).is_some() => {
                self.set_ballast(unit, bytes, out);
                if self.units[unit].instance.out_of_memory(now) {
                    self.end_unit(unit, OUT_OF_MEMORY, now, out);
                }
            }
            On::Unit(_) => {}
        }
    }
}
