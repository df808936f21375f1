//! The connections of one lcore: fixed memory, no locks, no sharing.

use std::net::Ipv4Addr;

use control::model::ForwardingMethod;

use super::entry::{ConnId, Connection, NONE};
use super::index::Index;
use super::key::{Address, Direction, FlowHash, FlowKey, HashSeed};
use super::state::State;
use super::wheel::{TURN, Wheel};
use crate::memory::Arena;
use crate::persistence::TemplateId;
use crate::prefetch::prefetch_at;
use crate::service::ServerId;
use crate::time::Tick;
use crate::wire::usual::Usual;

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
    index: Index,
    entries: Arena<Connection<A>>,
    /// Head of the list of places that were in use and are free again.
    free: u32,
    /// Places from here on have never been in use.
    fresh: u32,
    live: usize,
    wheel: Wheel,
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
        let capacity = capacity.clamp(1, NONE - 1) as usize;
        Ok(ConnectionTable {
            seed,
            // With NAT a connection takes two slots.
            index: Index::new(capacity * 2, hugepages)?,
            entries: Arena::filled(capacity, Connection::VACANT, hugepages)?,
            free: NONE,
            fresh: 0,
            live: 0,
            wheel: Wheel::new(now, NONE),
        })
    }

    /// How many connections it can hold.
    pub fn capacity(&self) -> usize {
        self.entries.len()
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

    /// Memory of index and entries, in bytes.
    pub fn mapped_bytes(&self) -> usize {
        self.index.mapped_bytes() + self.entries.mapped_bytes()
    }

    /// Whether the entries lie in reserved hugepages.
    pub fn is_huge(&self) -> bool {
        self.entries.is_huge()
    }

    /// Hash of a key, for all the functions below.
    #[inline]
    pub fn hash(&self, key: &FlowKey<A>) -> FlowHash {
        key.hash(&self.seed)
    }

    /// First step of a lookup over a burst: fetches the bucket.
    #[inline]
    pub fn prefetch_bucket(&self, hash: FlowHash) {
        self.index.prefetch(hash);
    }

    /// Second step: reads the bucket, fetches the connection that it most likely leads to, and says which one
    /// that is.
    #[inline(always)]
    pub fn prefetch_connection(&self, hash: FlowHash) -> Guess {
        match self.index.candidate(hash) {
            Some(place) => {
                prefetch_at(&self.entries, place.0 as usize);
                Guess(place.0)
            }
            None => Guess::NONE,
        }
    }

    /// Third step: waits for the connections. A prefetch is only a wish: on a virtual machine it often ends where the
    /// processor would have to walk page tables. Loads in a row, which depend on nothing, wait together, and the
    /// steps behind find everything in the cache.
    #[inline(always)]
    pub fn touch(&self, guesses: impl Iterator<Item = Guess>) {
        let timeout = |guess: Guess| self.entries.get(guess.0 as usize).map_or(0, |entry| entry.timeout);
        std::hint::black_box(guesses.fold(0, |sum, guess| sum ^ timeout(guess)));
    }

    /// Last step: the connection with this key and the way its packet goes. What was guessed before other
    /// connections came and went is at worst not it: a connection itself says what it is.
    #[inline(always)]
    pub fn find(&self, hash: FlowHash, key: &FlowKey<A>, guess: Guess) -> Option<(ConnId, Direction)> {
        if let Some(entry) = self.entries.get(guess.0 as usize)
            && let Some(direction) = entry.direction_of(key)
        {
            return Some((ConnId(guess.0), direction));
        }
        self.search(hash, *key)
    }

    /// The key comes by value: by reference, every lookup would have to put it into memory first.
    #[inline(never)]
    fn search(&self, hash: FlowHash, key: FlowKey<A>) -> Option<(ConnId, Direction)> {
        self.index.find(hash, |place| self.entries[place.0 as usize].direction_of(&key))
    }

    /// The connection that a guess leads to, whatever that is: to be compared, then to note a packet, as by
    /// [`ConnectionTable::get_mut`].
    #[inline(always)]
    pub fn guessed_mut(&mut self, guess: Guess) -> Option<&mut Connection<A>> {
        self.entries.get_mut(guess.0 as usize)
    }

    /// A connection.
    #[inline]
    pub fn get(&self, id: ConnId) -> &Connection<A> {
        &self.entries[id.0 as usize]
    }

    /// A connection, to note a packet. Its addresses and ports must stay as they are.
    #[inline]
    pub fn get_mut(&mut self, id: ConnId) -> &mut Connection<A> {
        &mut self.entries[id.0 as usize]
    }

    /// Adds a connection. The caller has looked for its key and not found it.
    ///
    /// # Errors
    /// [`Full`], and nothing changed.
    pub fn insert(&mut self, new: &NewConnection<A>, now: Tick) -> Result<ConnId, Full> {
        let place = self.take_place().ok_or(Full)?;
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
        let reply_key = entry.reply_key();
        let reply_hash = self.hash(&reply_key);
        if replies_cross {
            self.index.prefetch(reply_hash);
        }
        self.entries[place.0 as usize] = entry;
        let hash = self.hash(&new.key);
        if !self.index_insert(hash, place) {
            self.give_back(place);
            return Err(Full);
        }
        if replies_cross {
            // One client port at two virtual addresses can lead to one and the same four-tuple at a
            // real server. Nothing tells the replies apart; they go to the newer connection.
            if let Some((older, Direction::Reply)) = self.search(reply_hash, reply_key) {
                self.index.remove(reply_hash, older);
                self.entries[older.0 as usize].set_reply_indexed(false);
            }
            if !self.index_insert(reply_hash, place) {
                self.index.remove(hash, place);
                self.give_back(place);
                return Err(Full);
            }
            self.entries[place.0 as usize].set_reply_indexed(true);
        }
        self.hang_up(place, now);
        self.live += 1;
        Ok(place)
    }

    /// Whether there is a place for one more connection.
    pub fn has_room(&self) -> bool {
        self.free != NONE || (self.fresh as usize) < self.entries.len()
    }

    /// Takes up a connection as it is in another table. Without room, it is not there.
    pub(crate) fn adopt(&mut self, connection: &Connection<A>, now: Tick) {
        let Some(place) = self.take_place() else { return };
        self.entries[place.0 as usize] = *connection;
        let (request, reply) = (self.hash(&connection.request_key()), self.hash(&connection.reply_key()));
        self.index_insert(request, place);
        if connection.is_reply_indexed() {
            self.index_insert(reply, place);
        }
        self.hang_up(place, now);
        self.live += 1;
    }

    /// Has no room any more.
    pub(crate) fn close(&mut self) {
        (self.free, self.fresh) = (NONE, self.entries.len() as u32);
    }

    /// Removes a connection: no packet finds it any more. Its place is used again once the wheel has
    /// come by, within [one turn](TURN).
    pub fn remove(&mut self, id: ConnId) {
        let entry = self.entries[id.0 as usize];
        if !entry.is_live() {
            return;
        }
        let request = self.hash(&entry.request_key());
        self.index.remove(request, id);
        if entry.is_reply_indexed() {
            let reply = self.hash(&entry.reply_key());
            self.index.remove(reply, id);
        }
        let entry = &mut self.entries[id.0 as usize];
        entry.set_dead();
        entry.set_reply_indexed(false);
        self.live -= 1;
    }

    /// Removes connections whose time is over, looking at no more than `budget` places and slots.
    /// `ended` is told of each before it goes; one whose time it prolongs stays.
    pub fn expire(&mut self, now: Tick, mut budget: usize, mut ended: impl FnMut(&mut Connection<A>)) {
        // First which ones, then away with them: so that their buckets, which no order helps to foresee, are
        // fetched together.
        let mut over = [NONE; EXPIRED_TOGETHER];
        while budget > 0 {
            let mut found = 0;
            while found < over.len()
                && budget > 0
                && let Some(head) = self.wheel.due(now, NONE, &mut budget)
            {
                let place = *head;
                *head = self.entries[place as usize].next;
                if *head != NONE {
                    prefetch_at(&self.entries, *head as usize);
                }
                budget = budget.saturating_sub(1);
                let entry = &self.entries[place as usize];
                if entry.is_live() && !entry.is_expired(now) {
                    self.hang_up(ConnId(place), now);
                    continue;
                }
                if entry.is_live() {
                    self.index.prefetch(entry.request_key().hash(&self.seed));
                    if entry.is_reply_indexed() {
                        self.index.prefetch(entry.reply_key().hash(&self.seed));
                    }
                }
                over[found] = place;
                found += 1;
            }
            if found == 0 {
                return;
            }
            for &place in &over[..found] {
                let entry = &mut self.entries[place as usize];
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

    /// Places from 0 on that have been in use; all connections are there.
    pub fn places_used(&self) -> u32 {
        self.fresh
    }

    /// The connection in a place, if there is one.
    pub fn live_at(&self, place: u32) -> Option<(ConnId, &Connection<A>)> {
        let entry = self.entries.get(place as usize).filter(|entry| entry.is_live())?;
        Some((ConnId(place), entry))
    }

    /// Shows live connections from `cursor` on, looking at no more than `budget` places, until
    /// `visit` says false (that connection is then shown again). Returns where to go on, or `None`
    /// at the end.
    pub fn walk(
        &self,
        cursor: u32,
        budget: u32,
        now: Tick,
        mut visit: impl FnMut(&Connection<A>) -> bool,
    ) -> Option<u32> {
        let end = self.fresh.min(cursor.saturating_add(budget));
        for place in cursor..end {
            let entry = &self.entries[place as usize];
            if entry.is_live() && !entry.is_expired(now) && !visit(entry) {
                return Some(place);
            }
        }
        (end < self.fresh).then_some(end)
    }

    fn index_insert(&mut self, hash: FlowHash, place: ConnId) -> bool {
        let (entries, seed) = (&self.entries, &self.seed);
        self.index.insert(hash, place, |other| {
            let entry = &entries[other.0 as usize];
            [
                Some(entry.request_key().hash(seed)),
                entry.is_reply_indexed().then(|| entry.reply_key().hash(seed)),
            ]
        })
    }

    fn take_place(&mut self) -> Option<ConnId> {
        if self.free != NONE {
            let place = self.free;
            self.free = self.entries[place as usize].next;
            return Some(ConnId(place));
        }
        let place = self.fresh;
        if place as usize == self.entries.len() {
            return None;
        }
        self.fresh += 1;
        Some(ConnId(place))
    }

    fn give_back(&mut self, place: ConnId) {
        let entry = &mut self.entries[place.0 as usize];
        entry.set_dead();
        entry.next = self.free;
        self.free = place.0;
    }

    fn hang_up(&mut self, place: ConnId, now: Tick) {
        let entry = &mut self.entries[place.0 as usize];
        let head = self.wheel.head_for(now, entry.expires_in(now).min(TURN));
        entry.next = *head;
        *head = place.0;
    }
}
