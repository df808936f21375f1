//! How snapshots reach lcores, and how they come back to be freed.
//!
//! The publisher puts a snapshot into each lcore's mailbox; an lcore takes it between two bursts and
//! sends the one it had back through a ring. Nothing is freed on an lcore, no lcore waits, and a
//! snapshot that nobody had time to take is simply replaced. Taking the new one *is* the quiescent
//! point. (crossbeam-epoch would run other threads' destructors inside an lcore's `pin`.)

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::atomic::AtomicCell;

use super::Snapshot;

/// Snapshots on their way back; more than one can be only when the publisher is slow to collect.
const RETIRED: usize = 8;

/// Between the publisher and one lcore. Written by both, seldom.
pub struct Mailbox {
    fresh: AtomicCell<Option<Arc<Snapshot>>>,
    /// Version of the newest snapshot, for an lcore to see cheaply that there is one.
    newest: AtomicU64,
    /// Version of the snapshot that the lcore uses.
    in_use: AtomicU64,
}

/// The control thread's end.
pub struct Publisher {
    lcores: Vec<(Arc<Mailbox>, rtrb::Consumer<Arc<Snapshot>>)>,
    current: Arc<Snapshot>,
}

/// An lcore's end.
pub struct Reader {
    mailbox: Arc<Mailbox>,
    current: Arc<Snapshot>,
    retired: rtrb::Producer<Arc<Snapshot>>,
}

impl Publisher {
    /// A publisher for so many lcores, all of which start with `first`.
    pub fn new(lcores: usize, first: Snapshot) -> (Publisher, Vec<Reader>) {
        let current = Arc::new(first);
        let mut readers = Vec::new();
        let lcores = (0..lcores)
            .map(|_| {
                let mailbox = Arc::new(Mailbox {
                    fresh: AtomicCell::new(None),
                    newest: AtomicU64::new(current.version),
                    in_use: AtomicU64::new(current.version),
                });
                let (retired, collect) = rtrb::RingBuffer::new(RETIRED);
                readers.push(Reader { mailbox: mailbox.clone(), current: current.clone(), retired });
                (mailbox, collect)
            })
            .collect();
        (Publisher { lcores, current }, readers)
    }

    /// The snapshot published last.
    pub fn current(&self) -> &Arc<Snapshot> {
        &self.current
    }

    /// Publishes. Its version must be greater than the last one's.
    pub fn publish(&mut self, snapshot: Snapshot) {
        debug_assert!(snapshot.version > self.current.version);
        self.current = Arc::new(snapshot);
        for (mailbox, _) in &self.lcores {
            // What an lcore has not taken yet is replaced, and dropped here.
            mailbox.fresh.swap(Some(self.current.clone()));
            mailbox.newest.store(self.current.version, Ordering::Release);
        }
        self.collect();
    }

    /// Frees what lcores have sent back.
    pub fn collect(&mut self) {
        for (_, retired) in &mut self.lcores {
            while retired.pop().is_ok() {}
        }
    }

    /// The oldest version that an lcore still uses.
    pub fn quiescent(&self) -> u64 {
        let versions = self.lcores.iter().map(|(mailbox, _)| mailbox.in_use.load(Ordering::Acquire));
        versions.min().unwrap_or(self.current.version)
    }
}

impl Reader {
    /// The snapshot to decide by until the next [`Reader::refresh`].
    #[inline]
    pub fn current(&self) -> &Snapshot {
        &self.current
    }

    /// Goes on to the newest snapshot, if there is a newer one. True when it did. Call between bursts.
    #[inline]
    pub fn refresh(&mut self) -> bool {
        self.mailbox.newest.load(Ordering::Relaxed) != self.current.version && self.take()
    }

    #[cold]
    fn take(&mut self) -> bool {
        if self.retired.is_full() {
            return false;
        }
        let Some(fresh) = self.mailbox.fresh.take() else { return false };
        let old = std::mem::replace(&mut self.current, fresh);
        // There is room: nobody else pushes.
        let _ = self.retired.push(old);
        self.mailbox.in_use.store(self.current.version, Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Compiler;

    #[test]
    fn the_mailbox_takes_no_lock() {
        assert!(AtomicCell::<Option<Arc<Snapshot>>>::is_lock_free());
    }

    #[test]
    fn lcores_go_on_at_their_own_pace_and_everything_is_freed() {
        let (mut publisher, mut readers) = Publisher::new(2, Compiler::empty_snapshot(1));
        let first = Arc::downgrade(publisher.current());
        for version in 2..=20 {
            publisher.publish(Compiler::empty_snapshot(version));
            assert!(readers[0].refresh());
            assert!(!readers[0].refresh());
            assert_eq!(readers[0].current().version, version);
            assert_eq!(publisher.quiescent(), 1);
        }
        assert!(first.upgrade().is_some(), "the second lcore still uses it");
        assert!(readers[1].refresh());
        assert_eq!((readers[1].current().version, publisher.quiescent()), (20, 20));
        publisher.collect();
        assert!(first.upgrade().is_none(), "nobody uses it any more");
    }

    #[test]
    fn an_lcore_never_frees_even_when_the_publisher_does_not_collect() {
        let (mut publisher, mut readers) = Publisher::new(1, Compiler::empty_snapshot(1));
        // Fill the way back without giving the publisher a chance to collect.
        let reader = &mut readers[0];
        for _ in 0..RETIRED {
            let again = reader.current.clone();
            reader.retired.push(again).unwrap();
        }
        let (mailbox, _) = &publisher.lcores[0];
        mailbox.fresh.swap(Some(Arc::new(Compiler::empty_snapshot(2))));
        mailbox.newest.store(2, Ordering::Release);
        assert!(!reader.refresh(), "it keeps the old one rather than free it");
        assert_eq!(reader.current().version, 1);
        publisher.collect();
        assert!(reader.refresh());
    }

    #[test]
    fn across_threads() {
        let (mut publisher, readers) = Publisher::new(2, Compiler::empty_snapshot(1));
        let threads: Vec<_> = readers
            .into_iter()
            .map(|mut reader| {
                std::thread::spawn(move || {
                    let mut last = 1;
                    while last < 2000 {
                        reader.refresh();
                        assert!(reader.current().version >= last);
                        last = reader.current().version;
                        std::hint::spin_loop();
                    }
                })
            })
            .collect();
        for version in 2..=2000 {
            publisher.publish(Compiler::empty_snapshot(version));
        }
        while publisher.quiescent() < 2000 {
            publisher.collect();
            std::thread::yield_now();
        }
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
