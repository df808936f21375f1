//! Finds the installed DPDK, generates its bindings and compiles the shim. What is missing is said in
//! one sentence that names the packages to install.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The releases this crate is known to fit: from the first to the last, year and month.
const FIRST: (u32, u32) = (22, 11);
const LAST: (u32, u32) = (24, 11);

const FUNCTIONS: &str = "dpdk_sys_.*|fopencookie\
    |rte_eal_init|rte_eal_cleanup|rte_eal_remote_launch|rte_eal_wait_lcore\
    |rte_eal_get_runtime_dir|rte_get_tsc_hz|rte_version|rte_strerror\
    |rte_openlog_stream|rte_log_cur_msg_loglevel|rte_lcore_to_socket_id|rte_thread_register\
    |rte_thread_unregister|rte_dev_probe|rte_dev_remove\
    |rte_mempool_free|rte_mempool_avail_count|rte_pktmbuf_pool_create\
    |rte_pktmbuf_free_bulk|rte_eth_dev_adjust_nb_rx_tx_desc|rte_eth_dev_close|rte_eth_dev_configure\
    |rte_eth_dev_default_mac_addr_set|rte_eth_dev_get_port_by_name|rte_eth_dev_info_get\
    |rte_eth_dev_set_mtu|rte_eth_dev_socket_id|rte_eth_dev_start|rte_eth_dev_stop|rte_eth_find_next_of\
    |rte_eth_macaddr_get|rte_eth_promiscuous_enable|rte_eth_promiscuous_disable\
    |rte_eth_rx_queue_setup|rte_eth_tx_queue_setup|rte_eth_stats_get|rte_eth_stats_reset\
    |rte_flow_validate|rte_flow_create|rte_flow_destroy";

const TYPES: &str = "dpdk_sys_.*|rte_mbuf|rte_mempool|rte_ether_addr|rte_eth_conf|rte_eth_dev_info|rte_eth_rxconf\
    |rte_eth_txconf|rte_eth_rss_conf|rte_eth_stats|rte_flow_attr|rte_flow_item|rte_flow_action|rte_flow_action_rss\
    |rte_flow_error|cookie_io_functions_t";

const CONSTANTS: &str = "DPDK_SYS_.*|RTE_MAX_LCORE|RTE_MAX_ETHPORTS|RTE_PKTMBUF_HEADROOM\
    |RTE_MEMPOOL_CACHE_MAX_SIZE|RTE_VER_.*|RTE_LOG_[A-Z]+\
    |LCORE_ID_ANY|SOCKET_ID_ANY";

/// The same for every thing that is missing: whoever misses one, often misses them all.
const INSTALL: &str = "install what this build needs: apt-get install libdpdk-dev libclang-14-dev clang pkg-config \
    (libclang-dev where the release has another LLVM)";

/// What decides where things are found.
const ENVIRONMENT: [&str; 8] = [
    "CC",
    "CFLAGS",
    "LIBCLANG_PATH",
    "LLVM_CONFIG_PATH",
    "PKG_CONFIG",
    "PKG_CONFIG_LIBDIR",
    "PKG_CONFIG_PATH",
    "PKG_CONFIG_SYSROOT_DIR",
];

fn main() {
    for file in ["build.rs", "wrapper.h", "shim.c"] {
        println!("cargo::rerun-if-changed={file}");
    }
    for variable in ENVIRONMENT {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    // The build stops on such a line. Were this to fail as well, cargo would print all that was printed here,
    // and the sentence would drown.
    if let Err(sentence) = build() {
        println!("cargo::error={}", sentence.replace('\n', " "));
    }
}

fn build() -> Result<(), String> {
    let out =
        PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this build script by cargo")?);
    let dpdk = find_dpdk()?;
    check_version(&dpdk.version)?;
    find_libclang()?;
    generate_bindings(&dpdk, &out)?;
    compile_shim(&dpdk, &out)?;
    // After the shim, which needs them.
    for path in &dpdk.link_paths {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    // All of DPDK's, as pkg-config says: which library holds a function differs between releases, and the
    // linker leaves out what is not needed. Drivers are no part of this: EAL loads them at run time.
    for library in dpdk.libraries.iter().filter(|name| name.starts_with("rte_")) {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
    Ok(())
}

struct Dpdk {
    version: String,
    link_paths: Vec<PathBuf>,
    libraries: Vec<String>,
    /// As pkg-config prints them. They carry `-include rte_config.h` and the CPU that DPDK was built for,
    /// which the `pkg-config` crate drops.
    cflags: Vec<String>,
}

fn find_dpdk() -> Result<Dpdk, String> {
    let probe = pkg_config::Config::new().cargo_metadata(false).env_metadata(false).probe("libdpdk");
    let library = probe.map_err(|error| match error {
        pkg_config::Error::Command { .. } => {
            format!("pkg-config, which is to find DPDK, cannot be run; {INSTALL}")
        }
        _ => format!(
            "pkg-config does not find DPDK (libdpdk {}.{:02} or newer); {INSTALL}; for a DPDK in a place of its own \
             set PKG_CONFIG_PATH to the directory of its libdpdk.pc",
            FIRST.0, FIRST.1
        ),
    })?;
    let program = env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
    let output = Command::new(&program)
        .args(["--cflags", "libdpdk"])
        .output()
        .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    let cflags = String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect();
    Ok(Dpdk { version: library.version, link_paths: library.link_paths, libraries: library.libs, cflags })
}

fn check_version(version: &str) -> Result<(), String> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>());
    let (Some(Ok(year)), Some(Ok(month))) = (parts.next(), parts.next()) else {
        return Err(format!("cannot make sense of the version of DPDK that pkg-config names: {version}"));
    };
    if (year, month) < FIRST {
        return Err(format!(
            "DPDK {version} is too old, {}.{:02} or newer is needed; Debian 12 and later have it: apt-get install \
             libdpdk-dev",
            FIRST.0, FIRST.1
        ));
    }
    if (year, month) > LAST {
        println!(
            "cargo::warning=DPDK {version} is newer than {}.{:02}, the last release dpdk-sys is known to fit: run \
             `cargo test -p dpdk-sys`, which compares what the director assumes of it",
            LAST.0, LAST.1
        );
    }
    Ok(())
}

/// bindgen panics where it cannot load libclang, so it is asked for first. Panics become the sentence.
fn find_libclang() -> Result<(), String> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = std::panic::catch_unwind(bindgen::clang_version);
    std::panic::set_hook(hook);
    found.map(|_| ()).map_err(|_| {
        let path = env::var("LIBCLANG_PATH").map(|p| format!(" (LIBCLANG_PATH is {p})")).unwrap_or_default();
        format!("libclang, which is to read DPDK's headers, cannot be loaded{path}; {INSTALL}")
    })
}

fn generate_bindings(dpdk: &Dpdk, out: &Path) -> Result<(), String> {
    bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(&dpdk.cflags)
        .clang_arg("-D_GNU_SOURCE")
        .use_core()
        .allowlist_recursively(true)
        .allowlist_function(FUNCTIONS)
        .allowlist_type(TYPES)
        .allowlist_var(CONSTANTS)
        // Reached through pointers only: fields by offset (DPDK_SYS_MBUF_*), the rest by DPDK's own functions.
        .opaque_type("rte_mbuf|rte_mempool|rte_device|rte_mempool_.*")
        .blocklist_type("_IO_FILE|FILE")
        .raw_line("/// `FILE` of stdio, reached through pointers only.\n#[repr(C)]\npub struct FILE {\n    opaque: [u8; 0],\n}")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_default(true)
        .derive_debug(false)
        .layout_tests(false)
        .generate_comments(false)
        .generate()
        .map_err(|error| {
            let first = error.to_string().lines().next().unwrap_or_default().to_owned();
            format!("clang cannot read DPDK's headers ({first}); {INSTALL}")
        })?
        .write_to_file(out.join("bindings.rs"))
        .map_err(|error| format!("cannot write the bindings to {}: {error}", out.display()))
}

fn compile_shim(dpdk: &Dpdk, out: &Path) -> Result<(), String> {
    const NAME: &str = "dpdk_sys_shim";
    let mut shim = cc::Build::new();
    shim.cargo_metadata(false).cargo_warnings(false).warnings(false);
    shim.file("shim.c").include(".").define("_GNU_SOURCE", None).opt_level(3);
    for flag in &dpdk.cflags {
        shim.flag(flag);
    }
    shim.try_compile(NAME).map_err(|error| {
        let said = error.to_string();
        let first = said.lines().next().unwrap_or_default();
        format!(
            "the C compiler cannot compile dpdk-sys/shim.c ({first}); is one installed? apt-get install gcc"
        )
    })?;
    println!("cargo::rustc-link-search=native={}", out.display());
    println!("cargo::rustc-link-lib=static={NAME}");
    Ok(())
}
