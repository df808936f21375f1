//! Pages of a table: buckets, and places for connections, most of which are those that the buckets lead to.
//!
//! A lookup reads a bucket and a connection. Were these in two pages of memory, the processor would translate two addresses;
//! where memory comes in pages of 4 KiB, be it from the kernel or from a hypervisor beneath the guest's hugepages, a large
//! table makes both of them miss the TLB. Hence a page has its own buckets, and a connection lives where its first key's
//! bucket is, as long as there is a place.
#![allow(unsafe_code)]

use std::mem::offset_of;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::entry::{ConnId, Connection};
use super::index::{Bucket, Index, IndexMut};
use super::key::{Address, FlowHash};
use crate::memory::Arena;
use crate::prefetch::prefetch;

/// Size and alignment, in bytes.
const SIZE: usize = 4096;

/// How many numbers of buckets a page has.
const BUCKET_NUMBERS: usize = SIZE / size_of::<Bucket>();

/// Buckets and places of a page.
///
/// Places are numbered through the whole table by where they lie: a connection's address is its number times its size from
/// the first page on. The first numbers of each page have no place, since something else lies there.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(4096))]
pub struct Page<A, const BUCKETS: usize, const PLACES: usize> {
    /// One bit for each number in the page whose place is free.
    free: u64,
    buckets: [Bucket; BUCKETS],
    entries: [Connection<A>; PLACES],
}

/// A page of connections of IPv4, with four slots for each place: at the design load half of them are in use, with NAT.
pub(super) type PageV4 = Page<Ipv4Addr, 21, 42>;
/// A page of connections of IPv6.
pub(super) type PageV6 = Page<Ipv6Addr, 13, 24>;

/// What a table asks of its pages, whatever is in them.
pub trait TablePage<A: Address>: Copy {
    /// Without connections.
    const VACANT: Self;
    /// How many buckets it has.
    const BUCKETS: usize;
    /// Where those begin, in bytes.
    const BUCKETS_AT: usize;
    /// How many numbers it has.
    const NUMBERS: usize;
    /// How many of them have a place.
    const PLACES: usize;
    /// Which: one bit for each number.
    const ALL: u64;

    /// One bit for each number whose place is free.
    fn free(&self) -> u64;
    /// As [`TablePage::free`], to be changed.
    fn free_mut(&mut self) -> &mut u64;
    /// Its index.
    fn buckets(&self) -> &[Bucket];
    /// As [`TablePage::buckets`], to be changed.
    fn buckets_mut(&mut self) -> &mut [Bucket];
}

impl<A: Address, const BUCKETS: usize, const PLACES: usize> TablePage<A> for Page<A, BUCKETS, PLACES> {
    const VACANT: Self =
        Page { free: Self::ALL, buckets: [Bucket::EMPTY; BUCKETS], entries: [Connection::VACANT; PLACES] };
    const BUCKETS: usize = BUCKETS;
    const BUCKETS_AT: usize = offset_of!(Self, buckets);
    const NUMBERS: usize = SIZE / size_of::<Connection<A>>();
    const PLACES: usize = PLACES;
    const ALL: u64 = {
        let at = offset_of!(Self, entries);
        assert!(at.is_multiple_of(size_of::<Connection<A>>()) && size_of::<Self>() == SIZE);
        ((1 << PLACES) - 1) << (at / size_of::<Connection<A>>())
    };

    #[inline(always)]
    fn free(&self) -> u64 {
        self.free
    }

    #[inline(always)]
    fn free_mut(&mut self) -> &mut u64 {
        &mut self.free
    }

    #[inline(always)]
    fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    #[inline(always)]
    fn buckets_mut(&mut self) -> &mut [Bucket] {
        &mut self.buckets
    }
}

/// Where a bucket of a table lies, in its own size from the first page on. Of use to that table only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BucketAt(u32);

impl BucketAt {
    /// One that is in no table.
    pub(crate) const NONE: BucketAt = BucketAt(u32::MAX);
}

/// What is found looking for places that are taken.
pub(super) enum Taken {
    /// One.
    Place(u32),
    /// None in the rest of the page; the next one begins with this number.
    NoneTo(u32),
}

/// The pages of a table, and which of them have room.
pub(super) struct Pages<A: Address> {
    pages: Arena<A::Page>,
    /// Numbers of places and of buckets are below these.
    numbers: u32,
    buckets: u32,
    /// One bit for each page with a free place.
    with_room: Vec<u64>,
}

impl<A: Address> Pages<A> {
    /// Pages for so many connections, taking all their memory now. One place in twenty is to spare, so that whoever finds his
    /// own page full finds room nearby.
    pub(super) fn new(capacity: usize, hugepages: bool) -> std::io::Result<Pages<A>> {
        let pages = Pages::<A>::count(capacity);
        let mut with_room = vec![u64::MAX; pages.div_ceil(64)];
        // Those of the last word that there are.
        with_room.last_mut().into_iter().for_each(|last| *last >>= (64 - pages % 64) % 64);
        Ok(Pages {
            pages: Arena::filled(pages, A::Page::VACANT, hugepages)?,
            numbers: (pages * A::Page::NUMBERS) as u32,
            buckets: (pages * BUCKET_NUMBERS) as u32,
            with_room,
        })
    }

    fn count(capacity: usize) -> usize {
        capacity.div_ceil(A::Page::PLACES * 20 / 21)
    }

    /// Memory for so many connections, in bytes.
    pub(super) fn bytes(capacity: usize) -> usize {
        Pages::<A>::count(capacity) * SIZE
    }

    pub(super) fn mapped_bytes(&self) -> usize {
        self.pages.mapped_bytes()
    }

    pub(super) fn is_huge(&self) -> bool {
        self.pages.is_huge()
    }

    /// Numbers of places are below this; not all are there.
    #[inline(always)]
    pub(super) fn numbers(&self) -> u32 {
        self.numbers
    }

    /// Whether a place has this number.
    pub(super) fn is_place(&self, number: u32) -> bool {
        number < self.numbers && A::Page::ALL >> Self::within(number).1 & 1 != 0
    }

    /// The first place from a number on that is taken, within its page; `None` of a number beyond all.
    pub(super) fn taken(&self, number: u32) -> Option<Taken> {
        let (page, from) = Self::within(number);
        let taken = !self.pages.get(page)?.free() & A::Page::ALL & u64::MAX << from;
        let start = page * A::Page::NUMBERS;
        Some(match taken {
            0 => Taken::NoneTo((start + A::Page::NUMBERS) as u32),
            some => Taken::Place((start + some.trailing_zeros() as usize) as u32),
        })
    }

    /// Where a place lies, or would.
    #[inline(always)]
    fn entry(&self, place: u32) -> *const Connection<A> {
        self.pages.as_ptr().cast::<Connection<A>>().wrapping_add(place as usize)
    }

    /// The connection in a place that [`Pages::take`] gave out once, whatever that is now. `None` of a number beyond all.
    #[inline(always)]
    pub(super) fn get(&self, place: u32) -> Option<&Connection<A>> {
        if place >= self.numbers {
            return None;
        }
        debug_assert!(self.is_place(place));
        // SAFETY: numbers are given out of places only, and those that are below all lie in the pages, where a connection
        // always is.
        Some(unsafe { &*self.entry(place) })
    }

    /// As [`Pages::get`], to be changed.
    #[inline(always)]
    pub(super) fn get_mut(&mut self, place: u32) -> Option<&mut Connection<A>> {
        if place >= self.numbers {
            return None;
        }
        debug_assert!(self.is_place(place));
        let entry = self.pages.as_mut_ptr().cast::<Connection<A>>().wrapping_add(place as usize);
        // SAFETY: as for `get`, and nobody else refers to it while the pages are borrowed to be changed.
        Some(unsafe { &mut *entry })
    }

    /// The page of a key.
    #[inline(always)]
    fn home(&self, hash: FlowHash) -> usize {
        hash.page(self.pages.len())
    }

    /// The page of a place, and its number there.
    #[inline(always)]
    fn within(place: u32) -> (usize, usize) {
        (place as usize / A::Page::NUMBERS, place as usize % A::Page::NUMBERS)
    }

    /// The bucket that a lookup examines first.
    #[inline(always)]
    pub(super) fn bucket(&self, hash: FlowHash) -> BucketAt {
        let first = A::Page::BUCKETS_AT / size_of::<Bucket>() + hash.first(A::Page::BUCKETS);
        BucketAt((self.home(hash) * BUCKET_NUMBERS + first) as u32)
    }

    /// Fetches a bucket.
    #[inline(always)]
    pub(super) fn prefetch_bucket(&self, at: BucketAt) {
        prefetch(self.pages.as_ptr().cast::<Bucket>().wrapping_add(at.0 as usize));
    }

    /// Fetches what says which places are free in a bucket's page.
    #[inline(always)]
    pub(super) fn prefetch_free(&self, at: BucketAt) {
        prefetch(self.pages.as_ptr().wrapping_add(at.0 as usize / BUCKET_NUMBERS));
    }

    /// The first free place in a bucket's page.
    pub(super) fn first_free(&self, at: BucketAt) -> Option<u32> {
        let page = at.0 as usize / BUCKET_NUMBERS;
        let free = self.pages.get(page)?.free();
        (free != 0).then(|| (page * A::Page::NUMBERS) as u32 + free.trailing_zeros())
    }

    /// As [`Pages::prefetch_free`], in a place's page.
    #[inline(always)]
    pub(super) fn prefetch_free_of(&self, place: u32) {
        prefetch(self.pages.as_ptr().wrapping_add(Self::within(place).0));
    }

    /// Fetches a connection.
    #[inline(always)]
    pub(super) fn prefetch_entry(&self, place: u32) {
        prefetch(self.entry(place));
    }

    /// Reads a bucket of this table; `None` where it is none.
    #[inline(always)]
    pub(super) fn read(&self, at: BucketAt) -> Option<&Bucket> {
        if at.0 >= self.buckets {
            return None;
        }
        let bucket = self.pages.as_ptr().cast::<Bucket>().wrapping_add(at.0 as usize);
        // SAFETY: within the pages, as that was checked, and a bucket, since such numbers come from `bucket`.
        Some(unsafe { &*bucket })
    }

    /// The index in which a key is, if it is there.
    #[inline(always)]
    pub(super) fn index(&self, hash: FlowHash) -> Index<'_> {
        Index(self.pages[self.home(hash)].buckets())
    }

    /// As [`Pages::index`], to be changed.
    #[inline(always)]
    pub(super) fn index_mut(&mut self, hash: FlowHash) -> IndexMut<'_> {
        let page = self.home(hash);
        IndexMut(self.pages[page].buckets_mut())
    }

    /// As [`IndexMut::put_moving`], by the keys of the connections that are in the way.
    #[cold]
    pub(super) fn put_moving(
        &mut self,
        hash: FlowHash,
        place: ConnId,
        rehash: impl Fn(&Connection<A>) -> [Option<FlowHash>; 2],
    ) -> bool {
        let page = self.home(hash);
        // On a copy: those connections may be in any page, this one included.
        let mut copy = self.pages[page];
        let hashes = |other: ConnId| self.get(other.0).map_or([None; 2], &rehash);
        let has_room = IndexMut(copy.buckets_mut()).put_moving(hash, place, hashes);
        if has_room {
            self.pages[page].buckets_mut().copy_from_slice(copy.buckets());
        }
        has_room
    }

    /// Takes a free place: in the page of a hash, or in the next one that has room.
    pub(super) fn take(&mut self, hash: FlowHash) -> Option<ConnId> {
        let home = self.home(hash);
        let page = if self.pages[home].free() != 0 { home } else { self.next_with_room(home)? };
        let free = self.pages[page].free_mut();
        let number = free.trailing_zeros() as usize;
        *free &= *free - 1;
        if *free == 0 {
            self.with_room[page / 64] &= !(1 << (page % 64));
        }
        Some(ConnId((page * A::Page::NUMBERS + number) as u32))
    }

    /// Makes a place free.
    pub(super) fn give_back(&mut self, place: ConnId) {
        let (page, number) = Self::within(place.0);
        *self.pages[page].free_mut() |= 1 << number;
        self.with_room[page / 64] |= 1 << (page % 64);
    }

    /// The first page with room behind this one, going round at the end.
    fn next_with_room(&self, page: usize) -> Option<usize> {
        let (word, bit) = (page / 64, page % 64);
        let words = self.with_room.len();
        // Those behind it in its own word come first, the others of that word last.
        let behind = self.with_room[word] & (u64::MAX << bit);
        let rest = (1..=words).map(|n| (word + n) % words).map(|at| (at, self.with_room[at]));
        let (at, bits) = std::iter::once((word, behind)).chain(rest).find(|(_, bits)| *bits != 0)?;
        Some(at * 64 + bits.trailing_zeros() as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn gives_out_each_place_once<A: Address>(capacity: usize) {
        let mut pages = Pages::<A>::new(capacity, false).unwrap();
        let hash = |n: usize| FlowHash((n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut taken = HashSet::new();
        let mut n = 0;
        while let Some(ConnId(place)) = pages.take(hash(n)) {
            assert!(pages.is_place(place) && taken.insert(place), "{place}");
            assert!(pages.get(place).is_some_and(|entry| !entry.is_live()));
            n += 1;
        }
        assert!(n >= capacity, "{n} of {capacity}");
        assert_eq!(n, (0..pages.numbers()).filter(|&number| pages.is_place(number)).count());
        let some: Vec<u32> = taken.iter().copied().filter(|place| place % 7 == 0).collect();
        some.iter().for_each(|&place| pages.give_back(ConnId(place)));
        let again: HashSet<u32> =
            std::iter::from_fn(|| pages.take(hash(1))).map(|ConnId(place)| place).collect();
        assert_eq!(again, some.into_iter().collect());
        assert!(pages.get(pages.numbers()).is_none());
    }

    #[test]
    fn each_place_is_given_out_once() {
        for capacity in [1, 40, 41, 64 * 40, 10_000] {
            gives_out_each_place_once::<Ipv4Addr>(capacity);
            gives_out_each_place_once::<Ipv6Addr>(capacity);
        }
    }

    #[test]
    fn a_connection_lives_in_the_page_of_its_bucket() {
        let mut pages = Pages::<Ipv4Addr>::new(4000, false).unwrap();
        for n in 0..100u64 {
            let hash = FlowHash(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let ConnId(place) = pages.take(hash).unwrap();
            let address = |at: *const u8| at as usize / SIZE;
            let bucket = std::ptr::from_ref(pages.read(pages.bucket(hash)).unwrap()).cast();
            assert_eq!(address(pages.entry(place).cast()), address(bucket));
            // What the buckets of a lookup are is told in two ways.
            assert!(pages.index(hash).0.as_ptr_range().contains(&bucket.cast()));
        }
    }
}
