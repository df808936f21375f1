//! The connections of one lcore: fixed memory, no locks, no sharing.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use control::model::ForwardingMethod;

use super::entry::{ConnId, Connection, NONE};
use super::key::{Address, Direction, FlowHash, FlowKey, HashSeed};
use super::page::{BucketAt, Pages, Taken};
use super::state::State;
use super::wheel::{TURN, Wheel};
use crate::persistence::TemplateId;
use crate::service::ServerId;
use crate::time::Tick;
use crate::wire::usual::Usual;

/// So many have a number for each place: with what else lies there, no more than three for each.
const MAX_CAPACITY: u32 = NONE / 3;
/// No more new connections than this wait for the index.
const UNINDEXED: usize = 4;
/// Connections whose time is over that are removed in one go.
const EXPIRED_TOGETHER: usize = 32;

/// The table is full: the connection is refused, and those that are in it stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The connection that a bucket most likely leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guess(u32);

impl Guess {
    /// No idea.
    pub const NONE: Guess = Guess(NONE);
}

/// What a connection starts with.
#[derive(Clone, Copy, Debug)]
pub struct NewConnection<A> {
    /// The key of the packet that opens it, from the client.
    pub key: FlowKey<A>,
    /// The real server's address; that of no host where it is of the other version of IP.
    pub server_address: A,
    /// The real server's port.
    pub server_port: u16,
    /// The persistence template that it belongs to, if any.
    pub template: TemplateId,
    /// The real server.
    pub server: ServerId,
    /// How packets reach the real server. With NAT replies cross the director, and the connection is
    /// found by the real server's side too.
    pub method: ForwardingMethod,
    /// Whether its packets say something to the director itself: FTP's control connections.
    pub read_along: bool,
    /// State after the packet that opens it.
    pub state: State,
    /// How long it lives after that packet, in milliseconds.
    pub timeout: u32,
}

/// The connections of one address family on one lcore.
pub struct ConnectionTable<A: Address> {
    seed: HashSeed,
    pages: Pages<A>,
    capacity: usize,
    /// Places that are in use, no more than `limit`.
    taken: usize,
    limit: usize,
    live: usize,
    wheel: Wheel,
    /// New connections by NAT whose replies are not yet in the index: their buckets are being fetched while others are
    /// opened. A search looks at them first.
    unindexed: VecDeque<(FlowHash, ConnId)>,
}

impl ConnectionTable<Ipv4Addr> {
    /// As [`ConnectionTable::hash`], of the key of a usual packet.
    #[inline(always)]
    pub fn hash_usual(&self, usual: &Usual) -> FlowHash {
        FlowHash::of_usual(usual, &self.seed)
    }
}

impl<A: Address> ConnectionTable<A> {
    /// A table for `capacity` connections, taking all its memory now.
    ///
    /// # Errors
    /// What the kernel says when there is not enough memory.
    pub fn new(
        capacity: u32,
        seed: HashSeed,
        hugepages: bool,
        now: Tick,
    ) -> std::io::Result<ConnectionTable<A>> {
        let capacity = capacity.clamp(1, MAX_CAPACITY) as usize;
        Ok(ConnectionTable {
            seed,
            pages: Pages::new(capacity, hugepages)?,
            capacity,
            taken: 0,
            limit: capacity,
            live: 0,
            wheel: Wheel::new(capacity, hugepages, now)?,
            unindexed: VecDeque::with_capacity(UNINDEXED),
        })
    }

    /// Memory of a table of this capacity, in bytes, but for what fills up hugepages.
    pub(super) fn bytes(capacity: u32) -> u64 {
        let capacity = capacity.clamp(1, MAX_CAPACITY) as usize;
        (Pages::<A>::bytes(capacity) + Wheel::bytes(capacity)) as u64
    }

    /// How many connections it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many connections it holds, those included whose time is over but which the wheel has not
    /// yet met.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Holds none.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Its memory, in bytes.
    pub fn mapped_bytes(&self) -> usize {
        self.pages.mapped_bytes() + self.wheel.mapped_bytes()
    }

    /// Whether it lies in reserved hugepages.
    pub fn is_huge(&self) -> bool {
        self.pages.is_huge()
    }

    /// Hash of a key, for all the functions below.
    #[inline]
    pub fn hash(&self, key: &FlowKey<A>) -> FlowHash {
        key.hash(&self.seed)
    }

    /// First step of a lookup over a burst: fetches the bucket, and says which one that is.
    #[inline(always)]
    pub(crate) fn fetch_bucket(&self, hash: FlowHash) -> BucketAt {
        let bucket = self.pages.bucket(hash);
        self.pages.prefetch_bucket(bucket);
        bucket
    }

    /// As `fetch_bucket`.
    #[inline]
    pub fn prefetch_bucket(&self, hash: FlowHash) {
        let _ = self.fetch_bucket(hash);
    }

    /// Second step: reads the bucket, fetches the connection that it most likely leads to, and says which one
    /// that is.
    #[inline]
    pub fn prefetch_connection(&self, hash: FlowHash) -> Guess {
        self.fetch_connection(hash, self.pages.bucket(hash)).unwrap_or(Guess::NONE)
    }

    /// As [`ConnectionTable::prefetch_connection`], with the bucket known that this table's `fetch_bucket` has fetched.
    #[inline(always)]
    pub(crate) fn fetch_connection(&self, hash: FlowHash, bucket: BucketAt) -> Option<Guess> {
        let first = self.pages.read(bucket)?;
        let candidate = first.candidate(hash).or_else(|| {
            // Waiting for the second bucket here, other packets' lookups go on; in the last step they would wait too.
            if first.has_overflowed() { self.pages.index(hash).candidate_in_second(hash) } else { None }
        });
        let Some(place) = candidate else {
            // It may be a new one, which asks for a place.
            self.pages.prefetch_free(bucket);
            return None;
        };
        self.pages.prefetch_entry(place.0);
        Some(Guess(place.0))
    }

    /// Fetches the place that a new connection in this bucket's page would get.
    pub(crate) fn fetch_place(&self, bucket: BucketAt) {
        if let Some(place) = self.pages.first_free(bucket) {
            self.pages.prefetch_entry(place);
        }
    }

    /// Third step: waits for the connections. A prefetch is only a wish: on a virtual machine it often ends where the
    /// processor would have to walk page tables. Loads in a row, which depend on nothing, wait together, and the
    /// steps behind find everything in the cache.
    #[inline(always)]
    pub fn touch(&self, guesses: impl Iterator<Item = Guess>) {
        let timeout = |guess: Guess| self.pages.get(guess.0).map_or(0, |entry| entry.timeout);
        std::hint::black_box(guesses.fold(0, |sum, guess| sum ^ timeout(guess)));
    }

    /// Last step: the connection with this key and the way its packet goes. What was guessed before other
    /// connections came and went is at worst not it: a connection itself says what it is.
    #[inline(always)]
    pub fn find(&self, hash: FlowHash, key: &FlowKey<A>, guess: Guess) -> Option<(ConnId, Direction)> {
        if let Some(entry) = self.pages.get(guess.0)
            && let Some(direction) = entry.direction_of(key)
            // A newer connection may have the same replies.
            && (direction == Direction::Request || self.has_indexed_replies())
        {
            return Some((ConnId(guess.0), direction));
        }
        self.search(hash, *key)
    }

    /// Whether the index tells of all replies.
    #[inline(always)]
    pub(crate) fn has_indexed_replies(&self) -> bool {
        self.unindexed.is_empty()
    }

    /// Puts all replies into the index.
    fn index_replies(&mut self) {
        while !self.unindexed.is_empty() {
            self.index_one_reply();
        }
    }

    /// Puts the replies of the connection that waits longest for that into the index.
    fn index_one_reply(&mut self) {
        let Some((hash, place)) = self.unindexed.pop_front() else { return };
        let key = self.entry(place.0).reply_key();
        // One client port at two virtual addresses can lead to one and the same four-tuple at a
        // real server. Nothing tells the replies apart; they go to the newer connection.
        if let Some((older, Direction::Reply)) = self.search_index(hash, &key) {
            self.pages.index_mut(hash).remove(hash, older);
            self.entry_mut(older.0).set_reply_indexed(false);
        }
        // A page has twice the slots that it needs. Were there none, the real server would be heard no longer.
        let indexed = self.index_insert(hash, place);
        self.entry_mut(place.0).set_reply_indexed(indexed);
    }

    /// The key comes by value: by reference, every lookup would have to put it into memory first.
    #[inline(never)]
    fn search(&self, hash: FlowHash, key: FlowKey<A>) -> Option<(ConnId, Direction)> {
        let waits = |&&(other, place): &&(FlowHash, ConnId)| {
            other == hash && self.entry(place.0).reply_key().is(&key)
        };
        match self.unindexed.iter().rev().find(waits) {
            Some((_, place)) => Some((*place, Direction::Reply)),
            None => self.search_index(hash, &key),
        }
    }

    #[inline(always)]
    fn search_index(&self, hash: FlowHash, key: &FlowKey<A>) -> Option<(ConnId, Direction)> {
        self.pages.index(hash).find(hash, |place| self.entry(place.0).direction_of(key))
    }

    /// The connection that a guess leads to, whatever that is: to be compared, then to note a packet, as by
    /// [`ConnectionTable::get_mut`].
    #[inline(always)]
    pub fn guessed_mut(&mut self, guess: Guess) -> Option<&mut Connection<A>> {
        self.pages.get_mut(guess.0)
    }

    /// A connection.
    #[inline]
    pub fn get(&self, id: ConnId) -> &Connection<A> {
        self.entry(id.0)
    }

    /// A connection, to note a packet. Its addresses and ports must stay as they are.
    #[inline]
    pub fn get_mut(&mut self, id: ConnId) -> &mut Connection<A> {
        self.entry_mut(id.0)
    }

    /// Adds a connection. The caller has looked for its key and not found it.
    ///
    /// # Errors
    /// [`Full`], and nothing changed.
    pub fn insert(&mut self, new: &NewConnection<A>, now: Tick) -> Result<ConnId, Full> {
        let hash = self.hash(&new.key);
        let mut entry = Connection::VACANT;
        entry.client = new.key.source;
        entry.virtual_address = new.key.destination;
        entry.server_address = new.server_address;
        entry.client_port = new.key.source_port;
        entry.virtual_port = new.key.destination_port;
        entry.server_port = new.server_port;
        entry.protocol = new.key.protocol;
        entry.state = new.state;
        entry.template = new.template;
        entry.server = new.server;
        entry.method = new.method;
        entry.last_seen = now;
        entry.timeout = new.timeout;
        let replies_cross = new.method == ForwardingMethod::Nat;
        entry.set_live(!replies_cross, new.read_along);
        let reply_hash = self.hash(&entry.reply_key());
        if replies_cross {
            self.prefetch_bucket(reply_hash);
        }
        let place = self.settle(entry, hash, now).ok_or(Full)?;
        if replies_cross {
            if self.unindexed.len() == UNINDEXED {
                self.index_one_reply();
            }
            self.unindexed.push_back((reply_hash, place));
        }
        Ok(place)
    }

    /// Gives a connection a place, and finds it there by its requests' hash. `None`, and nothing changed, without room.
    #[inline(always)]
    fn settle(&mut self, connection: Connection<A>, hash: FlowHash, now: Tick) -> Option<ConnId> {
        let place = self.take_place(hash)?;
        *self.entry_mut(place.0) = connection;
        if !self.index_insert(hash, place) {
            self.give_back(place);
            return None;
        }
        self.hang_up(place, now);
        self.live += 1;
        Some(place)
    }

    /// Whether there is a place for one more connection.
    pub fn has_room(&self) -> bool {
        self.taken < self.limit
    }

    /// A connection, for another table to take up.
    pub(crate) fn copy(&self, id: ConnId) -> Connection<A> {
        let mut copy = *self.get(id);
        copy.set_reply_indexed(
            copy.is_reply_indexed() || self.unindexed.iter().any(|(_, place)| *place == id),
        );
        copy
    }

    /// Takes up a connection as it is in another table. Without room, it is not there.
    pub(crate) fn adopt(&mut self, connection: &Connection<A>, now: Tick) {
        let (request, reply) = (self.hash(&connection.request_key()), self.hash(&connection.reply_key()));
        let Some(place) = self.settle(*connection, request, now) else { return };
        if connection.is_reply_indexed() {
            let indexed = self.index_insert(reply, place);
            self.entry_mut(place.0).set_reply_indexed(indexed);
        }
    }

    /// Has no room any more.
    pub(crate) fn close(&mut self) {
        self.limit = 0;
    }

    /// Removes a connection: no packet finds it any more. Its place is used again once the wheel has
    /// come by, within [one turn](TURN).
    pub fn remove(&mut self, id: ConnId) {
        self.index_replies();
        let entry = *self.entry(id.0);
        if !entry.is_live() {
            return;
        }
        let request = self.hash(&entry.request_key());
        self.pages.index_mut(request).remove(request, id);
        if entry.is_reply_indexed() {
            let reply = self.hash(&entry.reply_key());
            self.pages.index_mut(reply).remove(reply, id);
        }
        let entry = self.entry_mut(id.0);
        entry.set_dead();
        entry.set_reply_indexed(false);
        self.live -= 1;
    }

    /// Removes connections whose time is over, looking at no more than `budget` places and slots.
    /// `ended` is told of each before it goes; one whose time it prolongs stays.
    pub fn expire(&mut self, now: Tick, mut budget: usize, mut ended: impl FnMut(&mut Connection<A>)) {
        // First what is due, then which of that is over, then away with it: so that what no order helps to foresee,
        // connections, buckets and what says which places are free, is fetched together.
        let mut due = [NONE; EXPIRED_TOGETHER];
        self.index_replies();
        loop {
            let count = self.wheel.take_due(now, &mut budget, &mut due);
            if count == 0 {
                return;
            }
            for &place in &due[..count] {
                self.pages.prefetch_entry(place);
                self.pages.prefetch_free_of(place);
            }
            let mut over = 0;
            for at in 0..count {
                let place = due[at];
                let entry = self.entry(place);
                if entry.is_live() && !entry.is_expired(now) {
                    self.hang_up(ConnId(place), now);
                    continue;
                }
                if entry.is_live() {
                    self.prefetch_bucket(entry.request_key().hash(&self.seed));
                    if entry.is_reply_indexed() {
                        self.prefetch_bucket(entry.reply_key().hash(&self.seed));
                    }
                }
                due[over] = place;
                over += 1;
            }
            for &place in &due[..over] {
                let entry = self.entry_mut(place);
                if entry.is_live() {
                    ended(entry);
                    if !entry.is_expired(now) {
                        self.hang_up(ConnId(place), now);
                        continue;
                    }
                    self.remove(ConnId(place));
                }
                self.give_back(ConnId(place));
            }
        }
    }

    /// All connections are in places below this one; not every number has a place.
    pub fn places(&self) -> u32 {
        self.pages.numbers()
    }

    /// The connection in a place, if there is one.
    pub fn live_at(&self, place: u32) -> Option<(ConnId, &Connection<A>)> {
        if !self.pages.is_place(place) {
            return None;
        }
        let entry = self.pages.get(place).filter(|entry| entry.is_live())?;
        Some((ConnId(place), entry))
    }

    /// Shows live connections from `cursor` on, looking at no more than `budget` places and ends of pages, until
    /// `visit` says false (that connection is then shown again). Returns where to go on, or `None`
    /// at the end.
    pub fn walk(
        &self,
        cursor: u32,
        budget: u32,
        now: Tick,
        mut visit: impl FnMut(&Connection<A>) -> bool,
    ) -> Option<u32> {
        let mut at = cursor;
        for _ in 0..budget {
            at = match self.pages.taken(at)? {
                Taken::Place(place) => {
                    let entry = self.entry(place);
                    if entry.is_live() && !entry.is_expired(now) && !visit(entry) {
                        return Some(place);
                    }
                    place + 1
                }
                Taken::NoneTo(next) => next,
            };
        }
        (at < self.places()).then_some(at)
    }

    /// A place that is there.
    #[inline(always)]
    fn entry(&self, place: u32) -> &Connection<A> {
        self.pages.get(place).expect("a place that the table gave out")
    }

    /// As [`ConnectionTable::entry`], to be changed.
    #[inline(always)]
    fn entry_mut(&mut self, place: u32) -> &mut Connection<A> {
        self.pages.get_mut(place).expect("a place that the table gave out")
    }

    fn index_insert(&mut self, hash: FlowHash, place: ConnId) -> bool {
        let seed = self.seed;
        self.pages.index_mut(hash).put_vacant(hash, place)
            || self.pages.put_moving(hash, place, |entry| {
                [
                    Some(entry.request_key().hash(&seed)),
                    entry.is_reply_indexed().then(|| entry.reply_key().hash(&seed)),
                ]
            })
    }

    fn take_place(&mut self, hash: FlowHash) -> Option<ConnId> {
        let place = if self.has_room() { self.pages.take(hash) } else { None }?;
        self.taken += 1;
        Some(place)
    }

    fn give_back(&mut self, place: ConnId) {
        self.entry_mut(place.0).set_dead();
        self.pages.give_back(place);
        self.taken -= 1;
    }

    fn hang_up(&mut self, place: ConnId, now: Tick) {
        let delay = self.entry(place.0).expires_in(now).min(TURN);
        self.wheel.hang_up(place.0, now, delay);
    }
}
