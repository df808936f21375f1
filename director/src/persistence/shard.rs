//! A part of the templates, behind a lock of its own.

use hashbrown::HashTable;

use super::call_ids::CallIds;
use super::template::{Name, Template};
use crate::service::ServerId;
use crate::time::Tick;

/// Slots that are looked at for templates that are over, each time one is added.
const SWEEP: usize = 4;

/// Templates in slots, so that connections can name theirs by number.
#[derive(Debug, Default)]
pub(super) struct Shard {
    slots: Vec<Slot>,
    /// Slots by the hash of their name. A table and not a map, since a name is in two places.
    by_name: HashTable<u32>,
    call_ids: CallIds,
    free: Vec<u32>,
    /// Where sweeping goes on.
    cursor: usize,
}

#[derive(Debug)]
struct Slot {
    template: Template,
    /// Of its name.
    hash: u64,
    /// Found by its name; a template that was replaced waits only for its connections to end.
    listed: bool,
    taken: bool,
}

impl Shard {
    /// With memory for so many templates.
    pub(super) fn with_capacity(templates: usize) -> Shard {
        Shard {
            slots: Vec::with_capacity(templates),
            by_name: HashTable::with_capacity(templates),
            call_ids: CallIds::with_capacity(templates),
            free: Vec::with_capacity(templates),
            cursor: 0,
        }
    }

    /// Slots that hold something.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The template of this name, unless it is over or `server_of` does not know its real server: then it is not found
    /// any more.
    pub(super) fn find(
        &mut self,
        hash: u64,
        name: &Name<'_>,
        now: Tick,
        server_of: impl FnOnce(&Template) -> Option<ServerId>,
    ) -> Option<u32> {
        let Shard { slots, by_name, call_ids, .. } = self;
        let is_it = |at: &u32| {
            slots[*at as usize].template.key == name.key && call_ids.get(*at as usize) == name.call_id
        };
        let at = *by_name.find(hash, is_it)?;
        let slot = &mut self.slots[at as usize];
        if !slot.template.is_over(now)
            && let Some(server) = server_of(&slot.template)
        {
            slot.template.server = server;
            return Some(at);
        }
        self.unlist(at);
        None
    }

    /// The template of this name and its slot, be it over or not.
    pub(super) fn peek(&self, hash: u64, name: &Name<'_>) -> Option<(u32, &Template)> {
        let is_it = |at: &u32| {
            self.slots[*at as usize].template.key == name.key
                && self.call_ids.get(*at as usize) == name.call_id
        };
        let at = *self.by_name.find(hash, is_it)?;
        Some((at, &self.slots[at as usize].template))
    }

    /// How many slots the next [`Shard::sweep`] will free, this one left out.
    pub(super) fn foresee_sweep(&self, now: Tick, but: Option<u32>) -> usize {
        let ahead = (1..=SWEEP.min(self.slots.len())).map(|step| (self.cursor + step) % self.slots.len());
        let is_freed = |at: &usize| {
            let slot = &self.slots[*at];
            slot.taken && slot.listed && slot.template.is_over(now) && but != Some(*at as u32)
        };
        ahead.filter(is_freed).count()
    }

    /// Adds a template under a name that no other one has.
    pub(super) fn insert(&mut self, hash: u64, template: Template, call_id: &[u8]) -> u32 {
        let slot = Slot { template, hash, listed: true, taken: true };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        };
        self.call_ids.set(at as usize, call_id);
        let Shard { slots, by_name, .. } = self;
        by_name.insert_unique(hash, at, |at| slots[*at as usize].hash);
        at
    }

    pub(super) fn template_mut(&mut self, at: u32) -> Option<&mut Template> {
        self.slots.get_mut(at as usize).filter(|slot| slot.taken).map(|slot| &mut slot.template)
    }

    /// Frees a slot that nobody finds and no connection names.
    pub(super) fn tidy(&mut self, at: u32) {
        let Some(slot) = self.slots.get_mut(at as usize) else { return };
        if slot.taken && !slot.listed && slot.template.controlled() == 0 {
            slot.taken = false;
            self.free.push(at);
        }
    }

    /// Frees some templates that are over.
    pub(super) fn sweep(&mut self, now: Tick) {
        for _ in 0..SWEEP.min(self.slots.len()) {
            self.cursor = (self.cursor + 1) % self.slots.len();
            self.end_if_over(self.cursor as u32, now);
        }
    }

    /// Frees all templates that are over.
    pub(super) fn sweep_all(&mut self, now: Tick) {
        for at in 0..self.slots.len() as u32 {
            self.end_if_over(at, now);
        }
    }

    fn end_if_over(&mut self, at: u32, now: Tick) {
        let slot = &self.slots[at as usize];
        if slot.taken && slot.listed && slot.template.is_over(now) {
            self.unlist(at);
        }
    }

    /// Nobody finds it any more.
    fn unlist(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        slot.listed = false;
        if let Ok(listed) = self.by_name.find_entry(slot.hash, |other| *other == at) {
            listed.remove();
        }
        self.tidy(at);
    }

    /// Shows those of at most `budget` slots from `from` on that are found by their names and not over, until one is
    /// not wanted. Returns where to go on.
    pub(super) fn walk(
        &self,
        from: u32,
        budget: u32,
        now: Tick,
        mut visit: impl FnMut(&Template) -> bool,
    ) -> Option<u32> {
        let all = self.slots.len() as u32;
        let end = all.min(from.saturating_add(budget));
        for at in from..end {
            let slot = &self.slots[at as usize];
            if slot.taken && slot.listed && !slot.template.is_over(now) && !visit(&slot.template) {
                return Some(at);
            }
        }
        (end < all).then_some(end)
    }

    /// Those that are found by their names.
    pub(super) fn listed(&self) -> impl Iterator<Item = &Template> {
        self.slots.iter().filter(|slot| slot.taken && slot.listed).map(|slot| &slot.template)
    }
}
