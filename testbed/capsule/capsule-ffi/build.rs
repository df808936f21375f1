//! Binds the installed DPDK, and compiles the C shim against the same headers.

use std::env;
use std::path::PathBuf;

/// The shared libraries that hold what capsule calls. Drivers are loaded by EAL at run time.
const LIBRARIES: &[&str] = &["rte_ethdev", "rte_mbuf", "rte_mempool", "rte_ring", "rte_eal", "numa"];

/// Functions capsule calls that DPDK (and libnuma) still export under the name capsule knows.
const FUNCTIONS: &[&str] = &[
    "numa_node_of_cpu",
    "rte_eal_cleanup",
    "rte_eal_init",
    "rte_eth_allmulticast_disable",
    "rte_eth_allmulticast_enable",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_close",
    "rte_eth_dev_configure",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_disable",
    "rte_eth_promiscuous_enable",
    "rte_eth_rx_queue_setup",
    "rte_eth_stats_get",
    "rte_eth_tx_queue_setup",
    "rte_mempool_free",
    "rte_mempool_in_use_count",
    "rte_pktmbuf_pool_create",
    "rte_socket_count",
    "rte_socket_id",
    "rte_socket_id_by_idx",
    "rte_strerror",
    "rte_thread_set_affinity",
    // Not capsule's: for programs that want its threads known to DPDK.
    "rte_thread_register",
    // The shim's.
    "_rte_.*",
    "capsule_ffi_set_errno",
];

/// Types named by capsule that no function above mentions.
const TYPES: &[&str] = &["rte_eth_stats", "rte_ether_addr", "rte_cpuset_t"];

/// Constants, those of `wrapper.h` among them.
const CONSTANTS: &[&str] = &["RTE_MBUF_DEFAULT_BUF_SIZE", "ETH_RSS_.*", "DEV_TX_OFFLOAD_.*"];

fn main() {
    for file in ["build.rs", "wrapper.h", "shim.h", "shim.c"] {
        println!("cargo:rerun-if-changed={file}");
    }
    let dpdk = pkg_config::Config::new()
        .atleast_version("22.11")
        .cargo_metadata(false)
        .probe("libdpdk")
        .unwrap_or_else(|error| {
            panic!("pkg-config finds no DPDK of 22.11 or later (Debian: apt install libdpdk-dev): {error}")
        });

    // `-include rte_config.h` and `-march` are not among what the pkg-config crate parses.
    let cflags = cflags();
    let mut shim = cc::Build::new();
    shim.file("shim.c").define("_GNU_SOURCE", None).includes(&dpdk.include_paths);
    for flag in &cflags {
        shim.flag(flag);
    }
    shim.compile("capsule_ffi_shim");

    for path in &dpdk.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }
    for library in LIBRARIES {
        println!("cargo:rustc-link-lib=dylib={library}");
    }

    let mut bindings = bindgen::Builder::default()
        .header("wrapper.h")
        .header("shim.h")
        .clang_arg("-D_GNU_SOURCE")
        .clang_args(&cflags)
        .clang_args(dpdk.include_paths.iter().map(|path| format!("-I{}", path.display())))
        // Packed and aligned at once, which Rust refuses (E0588); capsule does not look inside.
        .opaque_type("rte_arp_hdr|rte_arp_ipv4")
        .default_enum_style(bindgen::EnumVariation::ModuleConsts)
        .derive_default(true)
        .derive_debug(false)
        .generate_comments(false)
        // Nobody reads it, and a formatter is one more thing to build.
        .formatter(bindgen::Formatter::None)
        .merge_extern_blocks(true);
    for function in FUNCTIONS {
        bindings = bindings.allowlist_function(function);
    }
    for name in TYPES {
        bindings = bindings.allowlist_type(name);
    }
    for constant in CONSTANTS {
        bindings = bindings.allowlist_var(constant);
    }
    let file = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("bindings.rs");
    bindings
        .generate()
        .expect("bindgen reads DPDK's headers (it needs libclang; Debian: apt install libclang-dev)")
        .write_to_file(&file)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
}

/// What `pkg-config --cflags-only-other` says of DPDK, flag by flag.
fn cflags() -> Vec<String> {
    let output = std::process::Command::new(env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into()))
        .args(["--cflags-only-other", "libdpdk"])
        .output()
        .expect("pkg-config runs: it did a moment ago");
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
}
