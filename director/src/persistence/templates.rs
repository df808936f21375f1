//! All templates.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::shard::Shard;
use super::template::{Name, Template};
use crate::ftp::Expectations;
use crate::service::ServerId;
use crate::time::Tick;

/// Locks: enough that two lcores seldom want the same one.
const SHARDS: u32 = 64;

/// There is no room for one more template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A template, as a connection names it. Stays valid until the connection has released it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TemplateId(u32);

impl TemplateId {
    /// No template.
    pub const NONE: TemplateId = TemplateId(u32::MAX);

    /// One that no table has.
    pub(super) const ELSEWHERE: TemplateId = TemplateId(u32::MAX - 1);

    pub(super) fn new(shard: u32, slot: u32) -> TemplateId {
        TemplateId(slot * SHARDS + shard)
    }

    /// There is one.
    #[inline]
    pub fn is_some(self) -> bool {
        self != TemplateId::NONE
    }
}

/// Every persistence template, shared by all lcores.
#[derive(Debug)]
pub struct Templates {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    capacity: usize,
    expectations: Expectations,
    /// How many there are, perhaps one or two off while lcores add some.
    len: AtomicUsize,
}

impl Default for Templates {
    fn default() -> Self {
        Templates::new(Templates::DEFAULT_CAPACITY)
    }
}

impl Templates {
    /// Room where nothing else is said.
    pub const DEFAULT_CAPACITY: usize = 65_536;

    /// Room for so many.
    pub fn new(capacity: usize) -> Templates {
        // Names spread unevenly; a shard that got twice its share would have to ask for more memory.
        let each = capacity.div_ceil(SHARDS as usize) * 2;
        Templates {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::with_capacity(each))).collect(),
            hasher: RandomState::new(),
            capacity,
            expectations: Expectations::default(),
            len: AtomicUsize::new(0),
        }
    }

    /// The same table with these expectations.
    pub(crate) fn expecting(self, expectations: Expectations) -> Templates {
        Templates { expectations, ..self }
    }

    /// Data connections that FTP has announced, which may come to any lcore as well.
    pub fn expectations(&self) -> &Expectations {
        &self.expectations
    }

    /// The template of this name with one connection more, and its real server, whose number `server_of` tells; none
    /// where that may not be used.
    pub fn join(
        &self,
        name: &Name<'_>,
        now: Tick,
        server_of: impl FnOnce(&Template) -> Option<ServerId>,
    ) -> Option<(TemplateId, ServerId)> {
        let (hash, shard) = self.hash_of(name);
        self.with(shard, |templates| {
            let at = templates.find(hash, name, now, server_of)?;
            join(templates, shard, at, now)
        })
    }

    /// Adds a template by this Call-ID, if any, with one connection, unless another lcore was faster: then its template gets the connection.
    ///
    /// # Errors
    /// [`Full`], and nothing changed.
    pub fn create(
        &self,
        template: Template,
        call_id: &[u8],
        now: Tick,
        server_of: impl FnOnce(&Template) -> Option<ServerId>,
    ) -> Result<(TemplateId, ServerId), Full> {
        let name = Name { key: template.key, call_id };
        let (hash, shard) = self.hash_of(&name);
        self.with(shard, |templates| {
            let before = templates.len();
            templates.sweep(now);
            // What was freed is counted for all when this is over.
            let freed = before - templates.len();
            let at = match templates.find(hash, &name, now, server_of) {
                Some(at) => at,
                None if self.len.load(Ordering::Relaxed).saturating_sub(freed) >= self.capacity => {
                    templates.sweep_all(now);
                    return Err(Full);
                }
                None => templates.insert(hash, template, call_id),
            };
            join(templates, shard, at, now).ok_or(Full)
        })
    }

    /// A connection has ended, at this moment.
    pub fn release(&self, id: TemplateId, ended: Tick) {
        self.change(id, |templates, at| {
            if let Some(template) = templates.template_mut(at) {
                template.release(ended);
            }
            templates.tidy(at);
        });
    }

    /// A connection is established.
    pub fn assure(&self, id: TemplateId) {
        self.change(id, |templates, at| {
            if let Some(template) = templates.template_mut(at) {
                template.assured = true;
            }
        });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// For how many there is room.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All templates, in no order. For the control thread: each lock is held only while its part is copied.
    pub fn list(&self, now: Tick) -> Vec<Template> {
        let mut all = Vec::new();
        for shard in 0..SHARDS {
            self.with(shard, |templates| {
                templates.sweep_all(now);
                all.extend(templates.listed().copied());
            });
        }
        all
    }

    /// Shows templates of at most `budget` slots from `cursor` on, 0 at first, until one is not wanted. Returns where to
    /// go on. For the control thread: the lock that is held meanwhile is that of one part, and an lcore may wait for it.
    pub fn walk(
        &self,
        cursor: u64,
        budget: u32,
        now: Tick,
        visit: impl FnMut(&Template) -> bool,
    ) -> Option<u64> {
        let (shard, from) = ((cursor >> 32) as u32, cursor as u32);
        if shard >= SHARDS {
            return None;
        }
        let place = |shard: u32, slot: u32| u64::from(shard) << 32 | u64::from(slot);
        match self.lock(shard).walk(from, budget, now, visit) {
            Some(slot) => Some(place(shard, slot)),
            None => (shard + 1 < SHARDS).then(|| place(shard + 1, 0)),
        }
    }

    fn change(&self, id: TemplateId, change: impl FnOnce(&mut Shard, u32)) {
        if id.is_some() {
            self.with(id.0 % SHARDS, |templates| change(templates, id.0 / SHARDS));
        }
    }

    /// Hash and shard of a name.
    pub(super) fn hash_of(&self, name: &Name<'_>) -> (u64, u32) {
        let hash = self.hasher.hash_one(name);
        (hash, (hash >> 32) as u32 % SHARDS)
    }

    /// Works on a shard, and counts what it holds more or less afterwards.
    pub(super) fn with<R>(&self, shard: u32, work: impl FnOnce(&mut Shard) -> R) -> R {
        let mut templates = self.lock(shard);
        let before = templates.len();
        let result = work(&mut templates);
        let after = templates.len();
        self.len.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        result
    }

    pub(super) fn lock(&self, shard: u32) -> MutexGuard<'_, Shard> {
        self.shards[shard as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn join(templates: &mut Shard, shard: u32, at: u32, now: Tick) -> Option<(TemplateId, ServerId)> {
    let template = templates.template_mut(at)?;
    template.add(now);
    Some((TemplateId::new(shard, at), template.server))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::TemplateKey;
    use std::net::Ipv4Addr;

    fn name(n: u32) -> Name<'static> {
        Name { key: key(n), call_id: &[] }
    }

    fn key(n: u32) -> TemplateKey {
        TemplateKey {
            client: Ipv4Addr::from(n).into(),
            virtual_address: Ipv4Addr::LOCALHOST.into(),
            virtual_port: 80,
            protocol: 6,
        }
    }

    const ANY: fn(&Template) -> Option<ServerId> = |template| Some(template.server);

    fn template(n: u32, server: u32, now: Tick) -> Template {
        Template::new(key(n), (ServerId(server), (Ipv4Addr::LOCALHOST, 80).into()), 1000, now)
    }

    #[test]
    fn room_that_was_swept_free_is_used_at_once() {
        let templates = Templates::new(1);
        let part = |n: &u32| templates.hash_of(&name(*n)).1;
        let neighbour = (2..).find(|n| part(n) == part(&1)).unwrap();
        let (id, _) = templates.create(template(1, 7, Tick(0)), &[], Tick(0), ANY).unwrap();
        templates.release(id, Tick(0));
        let later = Tick(0).after(1000);
        assert!(templates.create(template(neighbour, 8, later), &[], later, ANY).is_ok());
    }

    #[test]
    fn whoever_comes_second_joins_the_first() {
        let templates = Templates::new(10);
        let now = Tick(0);
        assert_eq!(templates.join(&name(1), now, ANY), None);
        let (first, server) = templates.create(template(1, 7, now), &[], now, ANY).unwrap();
        assert_eq!(server, ServerId(7));
        assert_eq!(templates.create(template(1, 8, now), &[], now, ANY), Ok((first, ServerId(7))));
        assert_eq!(templates.join(&name(1), now, ANY), Some((first, ServerId(7))));
        assert_eq!(templates.list(now)[0].controlled(), 3);
    }

    #[test]
    fn a_server_that_is_not_usable_is_chosen_anew_and_the_old_template_waits_for_its_connections() {
        let templates = Templates::new(10);
        let now = Tick(0);
        let (old, _) = templates.create(template(1, 7, now), &[], now, ANY).unwrap();
        assert_eq!(templates.join(&name(1), now, |_| None), None);
        let (new, _) = templates.create(template(1, 8, now), &[], now, ANY).unwrap();
        assert_ne!(old, new);
        assert_eq!(templates.len(), 2);
        templates.release(old, now);
        assert_eq!(templates.len(), 1);
        assert_eq!(templates.join(&name(1), now, ANY), Some((new, ServerId(8))));
    }

    #[test]
    fn a_full_table_takes_one_more_once_another_is_over() {
        let templates = Templates::new(2);
        for n in 0..2 {
            let (id, _) = templates.create(template(n, 0, Tick(0)), &[], Tick(0), ANY).unwrap();
            templates.release(id, Tick(0));
        }
        assert_eq!(templates.create(template(9, 0, Tick(0)), &[], Tick(0), ANY), Err(Full));
        assert_eq!(templates.list(Tick(1000)), []);
        assert!(templates.create(template(9, 0, Tick(1000)), &[], Tick(1000), ANY).is_ok());
    }

    #[test]
    fn all_are_seen_in_pages_while_others_come() {
        let templates = Templates::new(1000);
        for n in 0..500 {
            templates.create(template(n, 0, Tick(0)), &[], Tick(0), ANY).unwrap();
        }
        let (mut seen, mut cursor, mut pages) = (Vec::new(), Some(0), 0);
        while let Some(from) = cursor {
            let mut room = 7;
            cursor = templates.walk(from, 3, Tick(1), |template| {
                if room > 0 {
                    seen.push(template.key.client);
                }
                room -= 1;
                room >= 0
            });
            pages += 1;
            if pages == 20 {
                templates.create(template(1000, 0, Tick(0)), &[], Tick(0), ANY).unwrap();
            }
        }
        seen.sort();
        seen.dedup();
        assert!((500..=501).contains(&seen.len()), "{}", seen.len());
        assert_eq!(templates.walk(u64::MAX, 3, Tick(1), |_| true), None, "a cursor of nobody's");
    }

    #[test]
    fn lcores_share_them() {
        let templates = Templates::new(1000);
        std::thread::scope(|scope| {
            for lcore in 0..4 {
                let templates = &templates;
                scope.spawn(move || {
                    for n in 0..5000 {
                        let now = Tick(n / 10);
                        let (id, _) = match templates.join(&name(n % 100), now, ANY) {
                            Some(joined) => joined,
                            None => templates.create(template(n % 100, lcore, now), &[], now, ANY).unwrap(),
                        };
                        templates.assure(id);
                        templates.release(id, now);
                    }
                });
            }
        });
        let all = templates.list(Tick(500));
        assert_eq!(all.len(), 100);
        assert!(all.iter().all(|template| template.controlled() == 0 && template.assured));
    }
}
