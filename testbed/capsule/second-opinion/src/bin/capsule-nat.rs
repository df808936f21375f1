//! `capsule-nat`: the rewrite of a NAT director as a capsule pipeline, and how fast it goes.
//!
//! ```text
//! net_pcap (a capture, over and over) -> parse, rewrite, checksums -> net_null (frees)      a benchmark
//! net_pcap (a capture, once)          -> the same                  -> net_pcap (a capture)  with --input, --output
//! ```

use std::fs::File;
use std::io::BufWriter;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use capsule::Runtime;
use capsule::config::RuntimeConfig;
use clap::{Parser, ValueEnum};
use rustix::thread::{CpuSet, sched_getaffinity};
use rustix::time::{ClockId, clock_gettime};
use second_opinion::nat::{self, Plan, RealServer};
use second_opinion::pcap;

/// Between two looks at the counters.
const SAMPLE: Duration = Duration::from_millis(500);

/// Samples at the start that are not counted: caches and clocks settle.
const WARM_UP: usize = 2;

/// What the frames made here are sent to.
const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 1), 80);

/// The rewrite of a NAT director as a capsule pipeline between two DPDK ports.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// What the pipeline does with a packet
    #[arg(long, value_enum, default_value_t = Work::Nat)]
    work: Work,
    /// How long to run, in seconds; the first second is not counted
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Length of the frames made, in bytes without FCS
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(60..=1514))]
    frame_size: u16,
    /// How many clients the frames made come from
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=1024))]
    clients: u16,
    /// The CPU that EAL starts on [default: the first this process may run on]
    #[arg(long)]
    main_core: Option<usize>,
    /// The CPU that runs the pipeline [default: the last this process may run on]
    #[arg(long)]
    core: Option<usize>,
    /// Make the pipeline's thread known to DPDK, which capsule does not do: it then has a mempool cache
    #[arg(long)]
    register_thread: bool,
    /// Take memory from hugepages (there must be some free) instead of ordinary pages
    #[arg(long)]
    hugepages: bool,
    /// Rewrite the frames of this capture, once, instead of some made here
    #[arg(long, requires = "output")]
    input: Option<PathBuf>,
    /// Write what comes out to this capture
    #[arg(long, requires = "input")]
    output: Option<PathBuf>,
}

/// What a pipeline does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Work {
    /// Parse, rewrite to a real server, TTL, MACs, checksums
    Nat,
    /// Move packets untouched: the cost of ports and framework
    Forward,
}

/// Which CPU does what.
#[derive(Clone, Copy, Debug)]
struct Cores {
    /// Runs EAL and capsule's own timers.
    main: usize,
    /// Runs the pipeline. Where it is another, capsule's thread there does not also poll for signals.
    pipeline: usize,
}

impl Cores {
    /// As asked for, else the first and the last CPU that this process may run on.
    fn choose(options: &Options) -> Result<Self> {
        let allowed = sched_getaffinity(None).context("cannot ask which CPUs there are")?;
        let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        let first = cpus.next().context("no CPU to run on")?;
        let last = cpus.next_back().unwrap_or(first);
        Ok(Self { main: options.main_core.unwrap_or(first), pipeline: options.core.unwrap_or(last) })
    }
}

/// What the counters said at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    /// CPU time of the thread that runs the pipeline.
    cpu: Duration,
    /// Packets the output port has sent since it started.
    packets: u64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    let input = match &options.input {
        Some(input) => input.clone(),
        None => {
            let path = scratch.path().join("frames.pcap");
            let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
            let frames: Vec<_> = (0..options.clients).map(|n| frame(n, options.frame_size)).collect();
            pcap::write(BufWriter::new(file), frames.iter().map(Vec::as_slice))?;
            path
        }
    };
    let cores = Cores::choose(&options)?;
    let output = options.output.as_deref();
    let config = configuration(&options, cores, &input, output)?;

    let mut runtime = Runtime::build(config).context("capsule does not start")?;
    // What installs a pipeline runs on the pipeline's thread. EAL's own is known to DPDK already.
    let register = options.register_thread && cores.pipeline != cores.main;
    match options.work {
        Work::Nat => runtime.add_pipeline_to_core(cores.pipeline, move |q| {
            register_thread(register);
            plan().pipeline(q["in"].clone(), q["out"].clone())
        })?,
        Work::Forward => runtime.add_pipeline_to_core(cores.pipeline, move |q| {
            register_thread(register);
            nat::forward(q["in"].clone(), q["out"].clone())
        })?,
    };
    let samples = Arc::new(Mutex::new(Vec::new()));
    let port = port_number(output_device(output))?;
    let taken = Arc::clone(&samples);
    runtime.add_periodic_task_to_core(
        cores.pipeline,
        move || taken.lock().unwrap_or_else(PoisonError::into_inner).push(sample(port)),
        SAMPLE,
    )?;
    runtime.execute().context("capsule does not run")?;

    let packets = sample(port).packets;
    drop(runtime);
    if options.input.is_some() {
        println!("{packets} packets sent");
        return Ok(());
    }
    report(&options, cores, &samples.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The n-th client's frame: TCP to the service, every checksum left at zero as the rewrite computes them
/// anew.
fn frame(n: u16, len: u16) -> Vec<u8> {
    let mut frame = vec![0; usize::from(len)];
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 1, 1]);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    let ip = &mut frame[14..];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&(len - 14).to_be_bytes());
    ip[8] = 64;
    ip[9] = 6;
    ip[12..16].copy_from_slice(&[10, 0, (n >> 8) as u8, n as u8]);
    ip[16..20].copy_from_slice(&SERVICE.ip().octets());
    let tcp = &mut ip[20..];
    tcp[..2].copy_from_slice(&(1024 + n).to_be_bytes());
    tcp[2..4].copy_from_slice(&SERVICE.port().to_be_bytes());
    tcp[12] = 5 << 4;
    tcp[13] = 0x10;
    frame
}

/// Four real servers behind [`SERVICE`].
fn plan() -> Plan {
    let real_servers = (11..15)
        .map(|n| RealServer {
            address: SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, n), 8080),
            mac: [2, 0, 0, 0, 2, n],
        })
        .collect();
    Plan { service: SERVICE, real_servers, own_mac: [2, 0, 0, 0, 0, 2] }
}

/// Makes the calling thread an lcore of DPDK's, if it is to be one.
fn register_thread(register: bool) {
    if register {
        // SAFETY: EAL has been started, and it allots nothing but an lcore's number.
        let answer = unsafe { capsule_ffi::rte_thread_register() };
        assert_eq!(answer, 0, "DPDK has no lcore left for the pipeline's thread");
    }
}

/// DPDK's name of the port that packets leave by.
fn output_device(output: Option<&Path>) -> &'static str {
    if output.is_some() { "net_pcap1" } else { "net_null0" }
}

/// capsule reads its configuration from TOML only, so that is what is made here.
fn configuration(
    options: &Options,
    cores: Cores,
    input: &Path,
    output: Option<&Path>,
) -> Result<RuntimeConfig> {
    let argument = |path: &Path| -> Result<String> {
        let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
        ensure!(!text.contains([',', ' ', '"', '\\']), "DPDK cannot be given the path {text}");
        Ok(text.to_owned())
    };
    let rx = match output {
        Some(_) => format!("rx_pcap={}", argument(input)?),
        None => format!("rx_pcap={},infinite_rx=1", argument(input)?),
    };
    let tx = output.map(|path| Ok::<_, anyhow::Error>(format!("args = \"tx_pcap={}\"", argument(path)?)));
    let tx = tx.transpose()?.unwrap_or_default();
    // Either way nothing is shared with another process, so that two may run at a time. EAL takes no
    // `--in-memory` together with `--no-huge`.
    let memory = if options.hugepages { "-m 128 --in-memory" } else { "-m 128 --no-huge --no-shconf" };
    let text = format!(
        "
        app_name = 'capsule-nat'
        master_core = {main}
        duration = {seconds}
        dpdk_args = '{memory} --no-pci --no-telemetry --iova-mode=va --log-level=error'
        [mempool]
        capacity = 8191
        cache_size = 256
        [[ports]]
        name = 'in'
        device = 'net_pcap0'
        args = \"{rx}\"
        cores = [{core}]
        [[ports]]
        name = 'out'
        device = '{out}'
        {tx}
        cores = [{core}]
        ",
        main = cores.main,
        core = cores.pipeline,
        seconds = options.seconds,
        out = output_device(output),
    );
    toml::from_str(&text).context("capsule does not take its configuration")
}

/// DPDK's number of a port, by its device's name.
fn port_number(device: &str) -> Result<u16> {
    let name = std::ffi::CString::new(device)?;
    let mut port = 0;
    // SAFETY: the name ends in NUL, and `port` outlives the call.
    let answer = unsafe { capsule_ffi::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut port) };
    ensure!(answer == 0, "DPDK has no port {device}: error {answer}");
    Ok(port)
}

/// Now. CPU time is that of the calling thread.
fn sample(port: u16) -> Sample {
    let mut stats = capsule_ffi::rte_eth_stats::default();
    // SAFETY: DPDK checks the port's number; `stats` outlives the call. A failure leaves zeros.
    unsafe { capsule_ffi::rte_eth_stats_get(port, &mut stats) };
    let cpu = clock_gettime(ClockId::ThreadCPUTime);
    let cpu = Duration::new(cpu.tv_sec.unsigned_abs(), u32::try_from(cpu.tv_nsec).unwrap_or(0));
    Sample { at: Instant::now(), cpu, packets: stats.opackets }
}

/// Prints the rate over each interval and over all of them.
fn report(options: &Options, cores: Cores, samples: &[Sample]) -> Result<()> {
    let counted = samples.get(WARM_UP..).unwrap_or_default();
    let (Some(first), Some(last)) = (counted.first(), counted.last()) else {
        bail!("too short to count anything: use --seconds 3 or more");
    };
    let mut rates: Vec<f64> = counted
        .windows(2)
        .map(|pair| (pair[1].packets - pair[0].packets) as f64 / (pair[1].at - pair[0].at).as_secs_f64())
        .collect();
    ensure!(!rates.is_empty(), "too short to count anything: use --seconds 3 or more");
    rates.sort_by(f64::total_cmp);
    let packets = last.packets - first.packets;
    ensure!(packets > 0, "no packet came out");
    let wall = (last.at - first.at).as_secs_f64();
    let cpu = (last.cpu - first.cpu).as_secs_f64();
    println!(
        "work={:?} frame={} clients={} main-core={} core={} registered={} memory={}",
        options.work,
        options.frame_size,
        options.clients,
        cores.main,
        cores.pipeline,
        options.register_thread,
        if options.hugepages { "hugepages" } else { "ordinary pages" }
    );
    println!("{packets} packets in {wall:.2} s; the pipeline's thread had the CPU for {cpu:.2} s of them");
    println!(
        "{:.3} Mpps over all, {:.3} median, {:.3} least, {:.3} most of {} intervals",
        packets as f64 / wall / 1e6,
        rates[rates.len() / 2] / 1e6,
        rates[0] / 1e6,
        rates[rates.len() - 1] / 1e6,
        rates.len()
    );
    println!("{:.1} ns of CPU time per packet", cpu / packets as f64 * 1e9);
    Ok(())
}
