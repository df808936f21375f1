//! What the director assumes of DPDK when it touches mbufs from Rust: offsets and sizes as libclang told
//! them to bindgen are those of the C compiler that made the shim, and of the width that Rust reads.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::mem::{align_of, size_of};

use dpdk_sys::*;

/// Name to (offset or alignment, width or size), as the C compiler has them.
fn table(mut row: *const dpdk_sys_field) -> BTreeMap<String, (u32, u32)> {
    let mut table = BTreeMap::new();
    loop {
        // SAFETY: the table is static and ends with the row whose name is null, where this stops.
        let field = unsafe { &*row };
        if field.name.is_null() {
            return table;
        }
        // SAFETY: a name is a string literal of the shim.
        let name = unsafe { CStr::from_ptr(field.name) };
        table.insert(name.to_str().expect("names are ASCII").to_owned(), (field.offset, field.width));
        // SAFETY: the last row was not reached, so there is one more.
        row = unsafe { row.add(1) };
    }
}

#[test]
fn mbuf_fields_are_where_the_c_compiler_puts_them() {
    // SAFETY: returns the address of a static table.
    let in_c = table(unsafe { dpdk_sys_mbuf_fields() });
    // The width is that of the type by which the director reads the field.
    let in_rust = [
        ("buf_addr", DPDK_SYS_MBUF_BUF_ADDR, size_of::<*mut u8>()),
        ("data_off", DPDK_SYS_MBUF_DATA_OFF, size_of::<u16>()),
        ("refcnt", DPDK_SYS_MBUF_REFCNT, size_of::<u16>()),
        ("nb_segs", DPDK_SYS_MBUF_NB_SEGS, size_of::<u16>()),
        ("port", DPDK_SYS_MBUF_PORT, size_of::<u16>()),
        ("ol_flags", DPDK_SYS_MBUF_OL_FLAGS, size_of::<u64>()),
        ("packet_type", DPDK_SYS_MBUF_PACKET_TYPE, size_of::<u32>()),
        ("pkt_len", DPDK_SYS_MBUF_PKT_LEN, size_of::<u32>()),
        ("data_len", DPDK_SYS_MBUF_DATA_LEN, size_of::<u16>()),
        ("vlan_tci", DPDK_SYS_MBUF_VLAN_TCI, size_of::<u16>()),
        ("vlan_tci_outer", DPDK_SYS_MBUF_VLAN_TCI_OUTER, size_of::<u16>()),
        ("hash.rss", DPDK_SYS_MBUF_RSS_HASH, size_of::<u32>()),
        ("buf_len", DPDK_SYS_MBUF_BUF_LEN, size_of::<u16>()),
        ("pool", DPDK_SYS_MBUF_POOL, size_of::<*mut u8>()),
        ("next", DPDK_SYS_MBUF_NEXT, size_of::<*mut u8>()),
    ];
    let in_rust: BTreeMap<String, (u32, u32)> = in_rust
        .into_iter()
        .map(|(name, offset, width)| (name.to_owned(), (offset, u32::try_from(width).expect("small"))))
        .collect();
    assert_eq!(in_rust, in_c);
}

#[test]
fn structs_have_the_c_compilers_size_and_alignment() {
    // SAFETY: returns the address of a static table.
    let in_c = table(unsafe { dpdk_sys_structs() });
    macro_rules! layouts {
        ($($name:ident),*) => {
            [$((stringify!($name).to_owned(), (align_of::<$name>(), size_of::<$name>()))),*]
        };
    }
    let in_rust: BTreeMap<String, (u32, u32)> = layouts!(
        rte_mbuf,
        rte_ether_addr,
        rte_eth_conf,
        rte_eth_rxconf,
        rte_eth_txconf,
        rte_eth_rss_conf,
        rte_eth_dev_info,
        rte_eth_stats,
        rte_flow_attr,
        rte_flow_item,
        rte_flow_action,
        rte_flow_action_rss,
        rte_flow_error,
        dpdk_sys_link
    )
    .into_iter()
    .map(|(name, (align, size))| {
        (name, (u32::try_from(align).expect("small"), u32::try_from(size).expect("small")))
    })
    .collect();
    assert_eq!(in_rust, in_c);
}

#[test]
fn an_mbuf_is_two_cache_lines_and_a_mac_six_bytes() {
    assert_eq!((DPDK_SYS_MBUF_SIZE, DPDK_SYS_MBUF_ALIGN), (128, 64));
    assert_eq!(size_of::<rte_mbuf>(), 128);
    assert_eq!(size_of::<rte_ether_addr>(), 6);
    // The first cache line holds all that the data path reads.
    const { assert!(DPDK_SYS_MBUF_BUF_LEN + 2 <= 64 && DPDK_SYS_MBUF_POOL + 8 <= 64) };
    // Room for an outer IPv6 header in front.
    const { assert!(RTE_PKTMBUF_HEADROOM >= 128) };
}

#[test]
fn headers_shim_and_library_are_of_one_release() {
    // SAFETY: returns a constant.
    let shim = unsafe { dpdk_sys_version() };
    assert_eq!(DPDK_SYS_VERSION, shim);
    const { assert!(DPDK_SYS_VERSION >= DPDK_SYS_VERSION_22_11) };
    // SAFETY: has no precondition.
    let library = unsafe { rte_version() };
    // SAFETY: a string that lives for ever.
    let library = unsafe { CStr::from_ptr(library) }.to_str().expect("ASCII").to_owned();
    let headers = format!("DPDK {RTE_VER_YEAR}.{RTE_VER_MONTH:02}.");
    assert!(library.starts_with(&headers), "headers of {headers}, a library of {library}");
}

#[test]
fn errno_is_the_calling_threads() {
    // SAFETY: reads a thread-local variable.
    let before = unsafe { dpdk_sys_errno() };
    // SAFETY: refused before EAL is started, which sets rte_errno.
    let registered = unsafe { rte_thread_register() };
    // SAFETY: as above.
    let here = unsafe { dpdk_sys_errno() };
    // SAFETY: as above.
    let elsewhere = std::thread::spawn(|| unsafe { dpdk_sys_errno() }).join().expect("no panic");
    assert_eq!((registered, before, elsewhere), (-1, 0, 0));
    assert_eq!(here, 22, "EINVAL");
}
