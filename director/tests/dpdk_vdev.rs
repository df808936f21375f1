//! The `dpdk` room on DPDK's virtual devices: as root, without hugepages and without a NIC.
#![cfg(feature = "dpdk")]

mod own_process;

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use director::dpdk::{
    BURST, Eal, EalOptions, HEADROOM, Mbuf, MbufPool, PoolConfig, Port, PortConfig, RxQueue, Spread, TxQueue,
    register_thread, tsc, tsc_hz,
};
use director::id::{LcoreId, PortId};
use director::packet::{PacketBuf, PacketPool};
use director::wire::vlan::{self, Tag, Tags};

use own_process::{allowed_cpus, options, own_process, run_again};

fn start() -> Eal {
    Eal::init(&options(1)).unwrap_or_else(|error| panic!("{error}"))
}

fn pool_of(eal: &Eal, mbufs: u32) -> MbufPool {
    MbufPool::new(eal, &PoolConfig { mbufs, ..Default::default() }).unwrap_or_else(|error| panic!("{error}"))
}

fn config() -> PortConfig {
    PortConfig { rx_descriptors: 128, tx_descriptors: 128, ..Default::default() }
}

fn open(eal: &Eal, device: &str, pool: &MbufPool) -> (Port, RxQueue, TxQueue) {
    let mut port =
        Port::open(eal, PortId(1), device, &config(), pool).unwrap_or_else(|error| panic!("{error}"));
    let rx = port.take_rx_queue(0).expect("a receive queue");
    let tx = port.take_tx_queue(0).expect("a transmit queue");
    (port, rx, tx)
}

fn open_error(eal: &Eal, device: &str, pool: &MbufPool) -> String {
    match Port::open(eal, PortId(1), device, &config(), pool) {
        Ok(_) => panic!("{device} opens"),
        Err(error) => error.to_string(),
    }
}

/// A frame whose bytes tell its number.
fn frame(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (number * 31 + i) as u8).collect()
}

fn packet(pool: &MbufPool, bytes: &[u8]) -> Mbuf {
    let mut mbuf = pool.alloc(bytes.len()).expect("a packet");
    mbuf.bytes_mut().copy_from_slice(bytes);
    mbuf
}

/// Sends frames, which the port must take.
fn send(pool: &MbufPool, tx: &mut TxQueue, frames: &[Vec<u8>]) {
    for frames in frames.chunks(BURST) {
        let mut burst: Vec<Mbuf> = frames.iter().map(|frame| packet(pool, frame)).collect();
        assert_eq!(tx.tx_burst(&mut burst), frames.len());
        assert!(burst.is_empty());
    }
}

/// Receives until `count` frames that `wanted` takes have come, or two seconds have passed.
fn receive(rx: &mut RxQueue, count: usize, wanted: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut burst = Vec::with_capacity(BURST);
    let deadline = Instant::now() + Duration::from_secs(2);
    while frames.len() < count && Instant::now() < deadline {
        rx.rx_burst(&mut burst);
        frames.extend(burst.iter().filter(|mbuf| wanted(mbuf.bytes())).map(|mbuf| mbuf.bytes().to_vec()));
        Mbuf::free(&mut burst);
    }
    frames
}

#[test]
fn eal_starts_with_pinned_workers_and_a_floating_main_lcore() {
    own_process("eal_starts_with_pinned_workers_and_a_floating_main_lcore", |_| {
        let before = allowed_cpus();
        let worker_cpus: Vec<u32> = (0..3).map(|i| before[i % before.len()]).collect();
        let eal =
            Eal::init(&EalOptions { worker_cpus: worker_cpus.clone(), ..options(0) }).expect("EAL starts");
        assert_eq!(allowed_cpus(), before, "the main lcore floats");
        assert!(!eal.hugepages() && eal.workers() == 3);
        assert!(Eal::version().starts_with("DPDK "), "{}", Eal::version());
        // More workers than CPUs, all at work at the same time: each waits for the others.
        let barrier = Arc::new(std::sync::Barrier::new(3));
        let running: Vec<_> = (0..3)
            .map(|i| {
                let barrier = barrier.clone();
                let work = move || {
                    barrier.wait();
                    allowed_cpus()
                };
                eal.launch(LcoreId(i), work).expect("launched")
            })
            .collect();
        for (i, running) in running.into_iter().enumerate() {
            assert_eq!(running.join().expect("no panic"), [worker_cpus[i]]);
            assert_eq!(eal.worker_cpu(LcoreId(i as u8)), Some(worker_cpus[i]));
        }
        let error = eal.launch(LcoreId(3), || ()).err().expect("there is none").to_string();
        assert!(error.contains("launching worker lcore 3: there are 3 workers"), "{error}");
    });
}

#[test]
fn a_cpu_that_is_not_there_is_refused_and_a_good_start_follows() {
    own_process("a_cpu_that_is_not_there_is_refused_and_a_good_start_follows", |_| {
        let error = Eal::init(&EalOptions { worker_cpus: vec![999], ..options(0) }).err().expect("refused");
        assert!(error.to_string().contains("there is no CPU 999"), "{error}");
        // We give up all CPUs but one.
        let cpus = allowed_cpus();
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpus[0] as usize);
        rustix::thread::sched_setaffinity(None, &set).expect("fewer CPUs");
        if let Some(other) = cpus.get(1) {
            let error =
                Eal::init(&EalOptions { worker_cpus: vec![*other], ..options(0) }).err().expect("refused");
            assert!(error.to_string().contains("is not among those we may run on"), "{error}");
        }
        let eal = start();
        let error = Eal::init(&options(1)).err().expect("once only").to_string();
        assert!(error.contains("started before in this process"), "{error}");
        drop(eal);
    });
}

#[test]
fn eal_says_which_argument_is_bad() {
    own_process("eal_says_which_argument_is_bad", |_| {
        let bad = EalOptions { extra_args: vec!["--no-such-thing".to_owned()], ..options(1) };
        let error = Eal::init(&bad).err().expect("refused").to_string();
        assert!(error.contains("EAL does not accept its arguments, --no-such-thing among them"), "{error}");
        assert!(error.contains("correct eal_args"), "{error}");
    });
}

#[test]
fn memory_that_does_not_suffice_is_said() {
    own_process("memory_that_does_not_suffice_is_said", |_| {
        let eal = start();
        let config = PoolConfig { mbufs: 1 << 20, ..Default::default() };
        let error = MbufPool::new(&eal, &config).err().expect("too many").to_string();
        assert!(error.contains("mbuf pool director of 1048576 mbufs: Cannot allocate memory"), "{error}");
        assert!(error.contains("raise memory_mb"), "{error}");
        let _pool = pool_of(&eal, 1023);
        let error =
            MbufPool::new(&eal, &PoolConfig { mbufs: 63, ..Default::default() }).err().expect("same name");
        assert!(error.to_string().contains("give it a name of its own"), "{error}");
    });
}

#[test]
fn what_a_ring_is_sent_it_receives() {
    own_process("what_a_ring_is_sent_it_receives", |_| {
        let eal = start();
        let pool = pool_of(&eal, 1023);
        let (mut port, mut rx, mut tx) = open(&eal, "net_ring0", &pool);
        assert_eq!((port.driver(), port.rx_queues(), port.tx_queues()), ("net_ring", 1, 1));
        assert!(port.take_rx_queue(0).is_none() && port.take_tx_queue(1).is_none());
        let frames: Vec<_> = (0..1000).map(|i| frame(i, 60 + i)).collect();
        for frames in frames.chunks(100) {
            send(&pool, &mut tx, frames);
            assert_eq!(receive(&mut rx, frames.len(), |_| true), frames);
        }
        assert_eq!(rx.rx_burst(&mut Vec::with_capacity(BURST)), 0);
        assert_eq!((port.stats().rx_packets, port.stats().tx_packets), (1000, 1000));
        assert_eq!(pool.available(), 1023, "every mbuf is back");
    });
}

#[test]
fn what_a_port_does_not_take_stays_in_order() {
    own_process("what_a_port_does_not_take_stays_in_order", |_| {
        let eal = start();
        let pool = pool_of(&eal, 2047);
        let (port, mut rx, mut tx) = open(&eal, "net_ring0", &pool);
        let mut burst = Vec::new();
        let (mut sent, mut number) = (0, 0);
        while burst.is_empty() {
            // More than a burst: what is beyond it stays for the next.
            burst.extend((number..number + BURST + 5).map(|i| packet(&pool, &frame(i, 64))));
            number += BURST + 5;
            assert!(number < 2000, "a ring of 1024 must fill up");
            for most in [BURST, 5] {
                let took = tx.tx_burst(&mut burst);
                assert!(took <= most, "{took}");
                sent += took;
            }
        }
        let waiting = burst.len();
        assert_eq!(sent + waiting, number, "none is lost");
        assert_eq!(tx.tx_burst(&mut burst), 0, "still full");
        let received = receive(&mut rx, sent, |_| true);
        assert_eq!(received, (0..sent).map(|i| frame(i, 64)).collect::<Vec<_>>());
        // Now there is room for the rest, which goes on where it stopped.
        let took = tx.tx_burst(&mut burst) + tx.tx_burst(&mut burst);
        assert_eq!((took, burst.len(), tx.tx_burst(&mut burst)), (waiting, 0, 0));
        let received = receive(&mut rx, waiting, |_| true);
        assert_eq!(received, (sent..number).map(|i| frame(i, 64)).collect::<Vec<_>>());
        assert_eq!(pool.available(), 2047);
        assert_eq!(port.stats().tx_packets, number as u64);
    });
}

#[test]
fn a_mbuf_grows_in_front_and_is_cut_behind() {
    own_process("a_mbuf_grows_in_front_and_is_cut_behind", |_| {
        let eal = start();
        let mut pool = pool_of(&eal, 63);
        let mut mbuf = PacketPool::alloc(&mut pool, 100).expect("a packet");
        assert_eq!((mbuf.len(), mbuf.headroom(), mbuf.is_contiguous()), (100, usize::from(HEADROOM), true));
        assert_eq!(
            mbuf.headroom() + mbuf.len() + mbuf.tailroom(),
            usize::from(HEADROOM) + pool.longest_frame()
        );
        mbuf.bytes_mut().copy_from_slice(&frame(1, 100));

        assert!(mbuf.prepend(20));
        assert_eq!((mbuf.len(), mbuf.headroom()), (120, usize::from(HEADROOM) - 20));
        assert_eq!(&mbuf.bytes()[20..], frame(1, 100));
        mbuf.bytes_mut()[..20].fill(0xee);
        for too_much in [usize::from(HEADROOM) - 19, 65536, usize::MAX] {
            assert!(!mbuf.prepend(too_much));
        }
        assert!(mbuf.prepend(usize::from(HEADROOM) - 20), "all of the headroom");
        assert!(!mbuf.prepend(1) && mbuf.prepend(0));
        assert_eq!((mbuf.len(), mbuf.headroom()), (100 + usize::from(HEADROOM), 0));

        for no_cut in [mbuf.len(), mbuf.len() + 1, 1 << 20] {
            mbuf.truncate(no_cut);
            assert_eq!(mbuf.len(), 100 + usize::from(HEADROOM));
        }
        mbuf.truncate(usize::from(HEADROOM) + 50);
        assert_eq!(mbuf.bytes()[usize::from(HEADROOM)..], frame(1, 100)[..50]);
        assert_eq!(mbuf.bytes()[usize::from(HEADROOM) - 20..usize::from(HEADROOM)], [0xee; 20]);
        mbuf.truncate(0);
        assert!(mbuf.bytes().is_empty());

        // Both at once is one after the other.
        for (n, len) in [
            (20, 100),
            (20, 120),
            (20, 200),
            (0, 50),
            (usize::from(HEADROOM), 1),
            (usize::from(HEADROOM) + 1, 60),
        ] {
            let [mut at_once, mut in_turn] =
                [(); 2].map(|()| PacketPool::alloc(&mut pool, 100).expect("a packet"));
            let has_room = in_turn.prepend(n);
            if has_room {
                in_turn.truncate(len);
            }
            assert_eq!(at_once.reframe(n, len), has_room, "{n} {len}");
            assert_eq!((at_once.len(), at_once.headroom()), (in_turn.len(), in_turn.headroom()), "{n} {len}");
        }

        // What was done to one mbuf does not show in the next that comes from the same place.
        drop(mbuf);
        let longest = pool.longest_frame();
        for _ in 0..200 {
            let mbuf = pool.alloc(longest).expect("a packet");
            assert_eq!((mbuf.len(), mbuf.headroom(), mbuf.tailroom()), (longest, usize::from(HEADROOM), 0));
        }
        assert!(pool.alloc(longest + 1).is_none() && pool.alloc(70000).is_none());
        assert_eq!(pool.available(), 63);
        // A pointer that goes through foreign hands.
        let raw = pool.alloc(10).expect("a packet").into_raw();
        assert_eq!(pool.available(), 62);
        // SAFETY: from `into_raw`, once.
        drop(unsafe { Mbuf::from_raw(raw) });
        assert_eq!(pool.available(), 63);
    });
}

#[test]
fn a_mbuf_keeps_its_vlan_tags_beside_the_frame() {
    own_process("a_mbuf_keeps_its_vlan_tags_beside_the_frame", |_| {
        let eal = start();
        let pool = pool_of(&eal, 63);
        let [c, s] = [(vlan::CUSTOMER, 0xe064), (vlan::SERVICE, 7)].map(|(tpid, tci)| Tag { tpid, tci });
        let mut mbuf = packet(&pool, &frame(1, 100));
        assert!(mbuf.tags().is_empty());
        mbuf.set_note(0xdead_beef);
        for tags in [&[c][..], &[s], &[s, c], &[c, c], &[c, s], &[s, s], &[]] {
            let tags = Tags::new(tags).expect("two at most");
            mbuf.set_tags(tags);
            assert_eq!(mbuf.tags(), tags);
            assert!(vlan::restore(&mut mbuf) && mbuf.tags().is_empty());
            assert_eq!(vlan::read(mbuf.bytes(), Tags::NONE), tags);
            vlan::remove(&mut mbuf, tags.bytes());
            assert_eq!(mbuf.bytes(), frame(1, 100));
        }
        assert_eq!(mbuf.note(), 0xdead_beef, "the note is none of the tags' business");

        mbuf.trim_front(30);
        assert_eq!((mbuf.bytes(), mbuf.headroom()), (&frame(1, 100)[30..], usize::from(HEADROOM) + 30));
        mbuf.trim_front(1000);
        assert!(mbuf.bytes().is_empty());
        mbuf.set_tags(Tags::new(&[s, c]).expect("two"));
        drop(mbuf);
        for _ in 0..63 {
            assert!(pool.alloc(64).expect("a packet").tags().is_empty(), "of the packet before");
        }
    });
}

#[test]
fn an_empty_pool_gives_none_and_recovers() {
    own_process("an_empty_pool_gives_none_and_recovers", |_| {
        let eal = start();
        let pool = pool_of(&eal, 127);
        for _ in 0..3 {
            let mut taken: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc(60)).collect();
            assert_eq!((taken.len(), pool.available()), (127, 0));
            assert!(pool.alloc(60).is_none());
            // Together, with nothing left behind, and one by one.
            let room = taken.capacity();
            let kept = taken.split_off(100);
            Mbuf::free(&mut taken);
            assert_eq!((taken.len(), taken.capacity(), pool.available()), (0, room, 100));
            Mbuf::free(&mut taken);
            assert_eq!(pool.available(), 100);
            drop(kept);
        }
        assert_eq!(pool.available(), 127);
    });
}

#[test]
fn a_packet_outlives_its_pool_and_a_queue_its_port() {
    own_process("a_packet_outlives_its_pool_and_a_queue_its_port", |_| {
        let eal = start();
        let pool = pool_of(&eal, 127);
        let (port, mut rx, mut tx) = open(&eal, "net_ring0", &pool);
        drop(port);
        let mut mbuf = packet(&pool, &frame(3, 80));
        send(&pool, &mut tx, &[frame(4, 90)]);
        drop((pool, eal));
        assert_eq!(receive(&mut rx, 1, |_| true), [frame(4, 90)], "its queues keep the port open");
        drop((rx, tx));
        assert_eq!(mbuf.bytes(), frame(3, 80));
        mbuf.bytes_mut().fill(1);
        // EAL stays as well, so this process leaves its directory behind, as one that crashes does.
        drop(mbuf);
        let runtime = std::env::var("RUNTIME_DIRECTORY").expect("set by the parent");
        std::fs::remove_dir(Path::new(&runtime).join("dpdk/director")).expect("still there, and empty");
    });
}

#[test]
fn net_null_counts_what_it_swallows() {
    own_process("net_null_counts_what_it_swallows", |_| {
        let eal = start();
        let pool = pool_of(&eal, 511);
        let (port, mut rx, mut tx) = open(&eal, "net_null0,size=64,no-rx=1", &pool);
        send(&pool, &mut tx, &(0..500).map(|i| frame(i, 64)).collect::<Vec<_>>());
        assert_eq!(port.stats().tx_packets, 500);
        assert_eq!(rx.rx_burst(&mut Vec::with_capacity(BURST)), 0);
        assert!(port.link().up);
        assert_eq!(pool.available(), 511);
    });
}

/// A capture as `tcpdump -w` writes it: Ethernet, microseconds.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(0xa1b2_c3d4_u32.to_le_bytes());
    file.extend([2, 0, 4, 0]);
    file.extend([0; 8]);
    file.extend(65535_u32.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    for (i, frame) in frames.iter().enumerate() {
        let len = (frame.len() as u32).to_le_bytes();
        file.extend((i as u32).to_le_bytes());
        file.extend(0_u32.to_le_bytes());
        file.extend(len);
        file.extend(len);
        file.extend(frame);
    }
    file
}

/// The frames of such a capture.
fn read_pcap(file: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = file.get(24..).expect("a header");
    let mut frames = Vec::new();
    while let Some((header, behind)) = rest.split_at_checked(16) {
        let len = u32::from_le_bytes(header[8..12].try_into().expect("4 bytes")) as usize;
        frames.push(behind[..len].to_vec());
        rest = &behind[len..];
    }
    frames
}

#[test]
fn a_capture_is_read_and_another_written() {
    own_process("a_capture_is_read_and_another_written", |directory| {
        let eal = start();
        let pool = pool_of(&eal, 1023);
        let frames: Vec<_> = (0..100).map(|i| frame(i, 60 + 14 * i)).collect();
        let (input, output) = (directory.join("in.pcap"), directory.join("out.pcap"));
        std::fs::write(&input, pcap(&frames)).expect("written");
        let device = format!("net_pcap0,rx_pcap={},tx_pcap={}", input.display(), output.display());
        // Twice, as closing must make it possible to open again.
        for _ in 0..2 {
            let (port, mut rx, mut tx) = open(&eal, &device, &pool);
            let received = receive(&mut rx, 100, |_| true);
            assert_eq!(received, frames);
            send(&pool, &mut tx, &received);
            assert_eq!(port.stats().rx_packets, 100);
            drop((port, rx, tx));
            assert_eq!(read_pcap(&std::fs::read(&output).expect("written")), frames);
            assert_eq!(pool.available(), 1023);
        }
    });
}

#[test]
fn a_device_that_is_missing_is_named_with_a_remedy() {
    own_process("a_device_that_is_missing_is_named_with_a_remedy", |directory| {
        let eal = start();
        let pool = pool_of(&eal, 1023);
        let missing = directory.join("missing.pcap").display().to_string();
        let cases = [
            (
                "net_af_packet0,iface=nope".to_owned(),
                "there is no interface nope in this network namespace; correct iface, or make it first"
                    .to_owned(),
            ),
            ("net_af_xdp0,iface=nope".to_owned(), "there is no interface nope".to_owned()),
            ("net_af_packet0".to_owned(), "write device = \"net_af_packet0,iface=NAME\"".to_owned()),
            (
                format!("net_pcap0,rx_pcap={missing}"),
                format!("cannot open {missing}: No such file or directory; correct rx_pcap"),
            ),
            (
                format!("net_pcap0,tx_pcap={missing}/x"),
                format!("cannot write {missing}/x; does its directory exist"),
            ),
            (
                "net_pcap0".to_owned(),
                "it says neither what to read nor what to write; add rx_pcap".to_owned(),
            ),
            (
                "net_tap0,iface=a_name_that_is_long".to_owned(),
                "cannot be the name of an interface".to_owned(),
            ),
            ("net_tap0,iface=lo".to_owned(), "lo exists and is no multi-queue tap interface".to_owned()),
            ("net_nosuch0".to_owned(), "DPDK has no driver for net_nosuch0; check the spelling".to_owned()),
            ("net_null0,nosuch=1".to_owned(), "net_null does not accept the device string".to_owned()),
            ("".to_owned(), "DPDK has no driver for".to_owned()),
            ("0000:ff:1f.7".to_owned(), "there is no PCI device 0000:ff:1f.7; lspci".to_owned()),
        ];
        for (device, text) in cases {
            // Twice: a failure leaves nothing behind that changes the next.
            for _ in 0..2 {
                let error = open_error(&eal, &device, &pool);
                assert!(error.starts_with(&format!("port 1 ({device}): ")), "{error}");
                assert!(error.contains(&text), "{error}");
            }
        }
        // And the same name is good for another device.
        let (port, ..) = open(&eal, "net_pcap0,tx_pcap=/dev/null", &pool);
        let error = open_error(&eal, "net_pcap0,tx_pcap=/dev/null", &pool);
        assert!(error.contains("device net_pcap0 is used by another port; give each"), "{error}");
        drop(port);

        let more = PortConfig { tx_queues: 3, ..config() };
        let error =
            Port::open(&eal, PortId(0), "net_pcap0,tx_pcap=/dev/null", &more, &pool).err().expect("3 queues");
        assert!(
            error.to_string().contains("net_pcap has 1 transmit queues here, and 3 are needed"),
            "{error}"
        );
        let jumbo = PortConfig { mtu: 9000, ..config() };
        let error = Port::open(&eal, PortId(0), "net_tap0", &jumbo, &pool).err().expect("no jumbo frames");
        assert!(error.to_string().contains("net_tap takes an MTU from 46 to 1504, not 9000"), "{error}");
        assert_eq!(pool.available(), 1023, "failures leak nothing");
    });
}

#[test]
fn ports_can_be_closed_and_opened_again() {
    own_process("ports_can_be_closed_and_opened_again", |_| {
        let eal = start();
        let pool = pool_of(&eal, 1023);
        for round in 0..3 {
            let (ring, mut rx, mut tx) = open(&eal, "net_ring0", &pool);
            let (null, ..) = open(&eal, "net_null0", &pool);
            send(&pool, &mut tx, &[frame(round, 70)]);
            assert_eq!(receive(&mut rx, 1, |_| true), [frame(round, 70)]);
            assert_eq!((ring.stats().rx_packets, null.stats().rx_packets), (1, 0));
            drop((null, ring, rx, tx));
            assert_eq!(pool.available(), 1023);
        }
    });
}

#[test]
fn queues_in_pairs_are_all_set_up() {
    own_process("queues_in_pairs_are_all_set_up", |_| {
        let eal = start();
        let pool = pool_of(&eal, 1023);
        // Each of three lcores sends on a ring of its own, and each ring is received from.
        let wanted = PortConfig { rx_queues: 1, tx_queues: 3, ..config() };
        let mut port = Port::open(&eal, PortId(0), "net_ring0", &wanted, &pool).expect("opens");
        assert_eq!((port.rx_queues(), port.tx_queues()), (3, 3));
        for queue in 0..3 {
            let mut tx = port.take_tx_queue(queue).expect("a queue");
            send(&pool, &mut tx, &[frame(usize::from(queue), 60)]);
        }
        for queue in 0..3 {
            let mut rx = port.take_rx_queue(queue).expect("a queue");
            assert_eq!(receive(&mut rx, 1, |_| true), [frame(usize::from(queue), 60)]);
        }
        // A driver with RSS says what was set.
        let wanted = PortConfig { rx_queues: 2, tx_queues: 2, ..config() };
        let port = Port::open(&eal, PortId(0), "net_null0", &wanted, &pool).expect("opens");
        let rss = port.rss().expect("net_null has RSS");
        assert!(rss.key_len == 40 && rss.functions != 0, "{rss:?}");
    });
}

/// What is logged, from here on.
fn logged() -> impl Fn() -> String {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = lines.clone();
    let writer = move || Sink(sink.clone());
    tracing_subscriber::fmt().with_ansi(false).with_writer(writer).init();
    move || String::from_utf8_lossy(&lines.lock().expect("no panic")).into_owned()
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn two_queues(spread: Spread) -> PortConfig {
    PortConfig { rx_queues: 2, tx_queues: 2, spread, ..config() }
}

#[test]
fn a_driver_that_cannot_spread_by_one_side_says_why_and_goes_on() {
    own_process("a_driver_that_cannot_spread_by_one_side_says_why_and_goes_on", |_| {
        own_network();
        ip("link add here type veth peer name there");
        let log = logged();
        let eal = start();
        let pool = pool_of(&eal, 4095);
        for (device, instead) in [
            ("net_ring0", None),
            ("net_null0", Some(Spread::Symmetric)),
            ("net_af_packet0,iface=here,qpairs=2", None),
        ] {
            for spread in [Spread::Source, Spread::Destination] {
                let port = Port::open(&eal, PortId(1), device, &two_queues(spread), &pool).expect("opens");
                assert_eq!(port.rss().map(|rss| rss.spread), instead, "{device}");
                let said = format!(
                    "port 1 ({device}): the driver does not take rss = \"{}\" (Function not implemented): RSS is \
                     {}, and",
                    spread.word(),
                    instead.map_or("none", Spread::word)
                );
                assert!(log().contains(&said), "{said}\n{}", log());
            }
        }
        // Nobody asks where nothing is wanted, or nothing can be spread.
        let before = log();
        let (port, ..) = open(&eal, "net_ring0", &pool);
        let wanted = PortConfig { spread: Spread::Source, ..config() };
        let null = Port::open(&eal, PortId(0), "net_null0", &wanted, &pool).expect("opens");
        assert_eq!((port.rss(), null.rss(), log()), (None, None, before));
        assert_eq!(pool.available(), 4095);
    });
}

#[test]
fn a_tap_that_refuses_to_spread_by_one_side_works_on() {
    own_process("a_tap_that_refuses_to_spread_by_one_side_works_on", |_| {
        own_network();
        let log = logged();
        let eal = start();
        let pool = pool_of(&eal, 1023);
        for round in 0..2 {
            // Which of its reasons comes first, depends on what the kernel has of tc; it never hashes one side.
            let wanted = two_queues(Spread::Source);
            let mut port =
                Port::open(&eal, PortId(0), "net_tap0,iface=dtap0", &wanted, &pool).expect("opens");
            assert_eq!(port.rss(), None);
            let said = "port 0 (net_tap0,iface=dtap0): the driver does not take rss = \"source\" (";
            assert_eq!(log().matches(said).count(), round + 1, "{}", log());
            let mut queues: Vec<_> = (0..2).map(|i| port.take_rx_queue(i).expect("a queue")).collect();
            ip("link set dtap0 up");
            RawSocket::on("dtap0").send(&experiment(round));
            let (mut received, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(2));
            while received.is_empty() && Instant::now() < deadline {
                received.extend(queues.iter_mut().flat_map(receive_now));
            }
            assert_eq!(received, [experiment(round)]);
            drop((port, queues));
            assert!(!ip("link show").contains("dtap0"));
            assert_eq!(pool.available(), 1023);
        }
    });
}

#[test]
fn a_driver_that_spreads_by_one_side_is_told_to_and_loses_its_rules_with_the_port() {
    own_process("a_driver_that_spreads_by_one_side_is_told_to_and_loses_its_rules_with_the_port", |_| {
        let log = logged();
        let eal = start();
        let pool = pool_of(&eal, 1023);
        // It takes whatever all the devices behind it take, and there are none.
        let device = "net_failsafe0,exec(true)";
        for spread in [Spread::Source, Spread::Destination, Spread::Symmetric] {
            let port = Port::open(&eal, PortId(0), device, &two_queues(spread), &pool).expect("opens");
            let rss = port.rss().expect("the driver offers it");
            assert_eq!((rss.spread, rss.key_len), (spread, 255), "as long as the driver says");
            drop(port);
            // A rule that was lost, or taken back twice, would be complained of.
            assert_eq!(log(), "");
        }
        assert_eq!(pool.available(), 1023);
    });
}

#[test]
fn a_panic_on_a_worker_is_reported_and_the_worker_works_on() {
    own_process("a_panic_on_a_worker_is_reported_and_the_worker_works_on", |_| {
        let eal = start();
        let pool = pool_of(&eal, 127);
        let held = pool.alloc(60).expect("a packet");
        let running = eal
            .launch(LcoreId(0), move || {
                let held = held;
                assert_eq!(held.len(), 61, "this lcore is upset");
            })
            .expect("launched");
        let panic = running.join().expect_err("it panicked");
        assert_eq!(panic.worker, LcoreId(0));
        assert!(panic.to_string().starts_with("worker lcore 0 panicked: "), "{panic}");
        assert!(panic.message.contains("this lcore is upset"), "{panic}");
        assert_eq!(pool.available(), 127, "what it held was dropped");

        let (go, wait) = std::sync::mpsc::channel::<()>();
        let running = eal.launch(LcoreId(0), move || wait.recv().map(|()| 42)).expect("launched again");
        let error = eal.launch(LcoreId(0), || ()).err().expect("busy").to_string();
        assert!(error.contains("launching worker lcore 0: ") && error.contains("join it first"), "{error}");
        assert!(!running.is_finished());
        go.send(()).expect("it waits");
        assert_eq!(running.join().expect("no panic"), Ok(42));
    });
}

#[test]
fn other_threads_share_a_pool_with_workers() {
    own_process("other_threads_share_a_pool_with_workers", |_| {
        let eal = start();
        let pool = pool_of(&eal, 1023);
        let churn = |pool: MbufPool| {
            for i in 0..20_000 {
                let mut mbuf = pool.alloc(64).expect("enough for all");
                mbuf.bytes_mut()[0] = i as u8;
            }
        };
        let running = eal
            .launch(LcoreId(0), {
                let pool = pool.clone();
                move || churn(pool)
            })
            .expect("launched");
        let threads: Vec<_> = (0..2)
            .map(|i| {
                let (eal, pool) = (eal.clone(), pool.clone());
                std::thread::spawn(move || {
                    // One is known to DPDK, one is not.
                    let _known = (i == 0).then(|| register_thread(&eal).expect("a number is left"));
                    churn(pool);
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        running.join().expect("no panic");
        assert_eq!(pool.available(), 1023);
        // More registrations in turn than DPDK has numbers: each gives its own back.
        for _ in 0..200 {
            let eal = eal.clone();
            std::thread::spawn(move || drop(register_thread(&eal).expect("a number")))
                .join()
                .expect("no panic");
        }
        drop(register_thread(&eal).expect("the main lcore is known already"));
    });
}

#[test]
fn the_clock_runs_at_its_rate() {
    own_process("the_clock_runs_at_its_rate", |_| {
        let _eal = start();
        let (start, now) = (tsc(), Instant::now());
        std::thread::sleep(Duration::from_millis(50));
        let (ticks, passed) = ((tsc() - start) as f64, now.elapsed().as_secs_f64());
        let seconds = ticks / tsc_hz() as f64;
        assert!(
            (seconds / passed - 1.0).abs() < 0.05,
            "{seconds} s by the counter, {passed} s by the kernel"
        );
    });
}

/// A network namespace of this process's own: it vanishes with the process.
fn own_network() {
    // SAFETY: has no precondition.
    let code = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(code, 0, "{}", std::io::Error::last_os_error());
    // No router solicitations and the like.
    for scope in ["all", "default"] {
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "1");
    }
}

fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A frame of an EtherType for experiments, to everybody.
fn experiment(number: usize) -> Vec<u8> {
    let mut frame = frame(number, 100);
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

fn is_experiment(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x88, 0xb5])
}

/// The kernel's own way to send and receive on an interface.
struct RawSocket(std::os::fd::OwnedFd);

impl RawSocket {
    fn on(interface: &str) -> Self {
        use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: makes a socket.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(protocol)) };
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: new, and ours.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let name = std::ffi::CString::new(interface).expect("no NUL");
        // SAFETY: all zeroes is an address.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        // SAFETY: a C string.
        address.sll_ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) } as i32;
        let size = size_of::<libc::sockaddr_ll>() as u32;
        // SAFETY: an address of that size.
        let code = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size) };
        assert_eq!(code, 0, "{}", std::io::Error::last_os_error());
        Self(fd)
    }

    fn send(&self, frame: &[u8]) {
        assert_eq!(rustix::io::write(&self.0, frame), Ok(frame.len()));
    }

    /// The next frame that `wanted` takes, within two seconds.
    fn receive(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let deadline = Instant::now() + Duration::from_secs(2);
        let mut buffer = [0; 2048];
        while Instant::now() < deadline {
            match rustix::net::recv(&self.0, &mut buffer, rustix::net::RecvFlags::DONTWAIT) {
                Ok((len, _)) if wanted(&buffer[..len]) => return buffer[..len].to_vec(),
                Ok(_) => {}
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        panic!("nothing came");
    }
}

#[test]
fn a_tap_port_talks_to_the_kernel_and_takes_its_interface_away() {
    own_process("a_tap_port_talks_to_the_kernel_and_takes_its_interface_away", |_| {
        own_network();
        let eal = start();
        let pool = pool_of(&eal, 1023);
        for round in 0..2 {
            let config = PortConfig { mtu: 1400, ..config() };
            let mut port =
                Port::open(&eal, PortId(0), "net_tap0,iface=dtap0", &config, &pool).expect("opens");
            let mut rx = port.take_rx_queue(0).expect("a queue");
            let mut tx = port.take_tx_queue(0).expect("a queue");
            let link = ip("link show dtap0");
            assert!(link.contains("mtu 1400") && link.contains(&port.mac().to_string()), "{link}");
            ip("link set dtap0 up");
            let kernel = RawSocket::on("dtap0");
            kernel.send(&experiment(round));
            assert_eq!(receive(&mut rx, 1, is_experiment), [experiment(round)]);
            send(&pool, &mut tx, &[experiment(round + 10)]);
            assert_eq!(kernel.receive(|frame| frame == experiment(round + 10)), experiment(round + 10));

            let mac = director::nexthop::MacAddr([2, 0, 0, 0, 0, 7]);
            port.set_mac(mac).expect("net_tap can");
            assert_eq!(port.mac(), mac);
            let error = port.set_mac(director::nexthop::MacAddr([0; 6])).expect_err("none of a station");
            assert!(error.to_string().contains("setting its address to 00:00:00:00:00:00"), "{error}");
            drop((port, rx, tx));
            assert!(!ip("link show").contains("dtap0"));
            assert_eq!(pool.available(), 1023);
        }
    });
}

#[test]
fn a_packet_socket_port_receives_what_comes_and_not_what_this_host_sends() {
    own_process("a_packet_socket_port_receives_what_comes_and_not_what_this_host_sends", |_| {
        own_network();
        ip("link add here type veth peer name there");
        ip("link set here up");
        ip("link set there up");
        let eal = Eal::init(&options(2)).expect("EAL starts");
        let pool = pool_of(&eal, 1023);
        // Two queue pairs, as for two lcores: the kernel spreads over their sockets.
        let config = PortConfig { rx_queues: 2, tx_queues: 2, promiscuous: true, ..config() };
        let mut port =
            Port::open(&eal, PortId(0), "net_af_packet0,iface=here", &config, &pool).expect("opens");
        assert_eq!((port.rx_queues(), port.tx_queues()), (2, 2));
        assert!(ip("link show here").contains("PROMISC"));
        let mut queues: Vec<_> = (0..2).map(|i| port.take_rx_queue(i).expect("a queue")).collect();
        let mut tx = port.take_tx_queue(1).expect("a queue");

        let (here, there) = (RawSocket::on("here"), RawSocket::on("there"));
        here.send(&experiment(1));
        assert_eq!(there.receive(is_experiment), experiment(1), "it went out");
        there.send(&experiment(2));
        send(&pool, &mut tx, &[experiment(3)]);
        assert_eq!(there.receive(|frame| frame == experiment(3)), experiment(3));

        let mut received = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(2);
        while received.is_empty() && Instant::now() < deadline {
            received.extend(queues.iter_mut().flat_map(receive_now));
        }
        // What else there is has come by now, as it was sent before.
        received.extend(queues.iter_mut().flat_map(receive_now));
        assert_eq!(received, [experiment(2)], "neither what the kernel sent nor what we did");
        drop((port, queues, tx));
        assert!(!ip("link show here").contains("PROMISC"), "the interface is left as it was");
    });
}

fn receive_now(rx: &mut RxQueue) -> Vec<Vec<u8>> {
    let mut burst = Vec::with_capacity(BURST);
    rx.rx_burst(&mut burst);
    burst.iter().map(|mbuf| mbuf.bytes().to_vec()).filter(|frame| is_experiment(frame)).collect()
}

#[test]
fn a_tap_interface_in_use_is_said() {
    own_process("a_tap_interface_in_use_is_said", |_| {
        own_network();
        ip("tuntap add dev taken mode tap");
        let eal = start();
        let pool = pool_of(&eal, 1023);
        let error = open_error(&eal, "net_tap0,iface=taken", &pool);
        assert!(error.contains("taken exists and is no multi-queue tap interface"), "{error}");
        let (port, ..) = open(&eal, "net_tap0,iface=dtap0", &pool);
        assert_eq!(port.device(), "net_tap0,iface=dtap0");
    });
}

/// The body of a process that starts EAL, uses it and stops, run by the next test.
#[test]
fn one_start() {
    own_process("one_start", |_| {
        let eal = start();
        let pool = pool_of(&eal, 127);
        let (_port, mut rx, mut tx) = open(&eal, "net_ring0", &pool);
        send(&pool, &mut tx, &[frame(1, 60)]);
        assert_eq!(receive(&mut rx, 1, |_| true), [frame(1, 60)]);
    });
}

#[test]
fn a_second_process_starts_right_after_the_first_and_beside_it() {
    // In one directory, as on one machine.
    let directory = tempfile::tempdir().expect("a directory");
    for _ in 0..3 {
        let output = run_again("one_start", directory.path());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!directory.path().join("dpdk/director").exists(), "left behind");
    }
    std::thread::scope(|scope| {
        for output in [0; 3].map(|_| scope.spawn(|| run_again("one_start", directory.path()))) {
            let output = output.join().expect("no panic");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    });
}
