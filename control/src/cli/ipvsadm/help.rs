//! What `-h` and `-v` say. The version's line is ipvsadm's own, which programs read; the help has our words for its
//! grammar.

/// The answer to `-v`.
pub(super) const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n";

/// The answer to `-h`, of a program called so.
pub(super) fn help(program: &str) -> String {
    let usage: String = USAGE.iter().map(|line| format!("  {program} {line}\n")).collect();
    format!("{VERSION}This ipvsadm drives Director.\nUsage:\n{usage}\n{WORDS}")
}

const USAGE: [&str; 13] = [
    "-A|E SERVICE [-s SCHEDULER] [-p [SECONDS]] [-M NETMASK] [--pe ENGINE] [-b FLAGS] [-o]",
    "-D SERVICE",
    "-C",
    "-R",
    "-S [-n]",
    "-a|e SERVICE -r SERVER [options]",
    "-d SERVICE -r SERVER",
    "-L|l [SERVICE] [options]",
    "-Z [SERVICE]",
    "--set TCP TCPFIN UDP",
    "--start-daemon master|backup [daemon options]",
    "--stop-daemon master|backup",
    "-h",
];

const WORDS: &str = "\
Commands, which come first:
  -A --add-service             a new virtual service
  -E --edit-service            describe a virtual service anew
  -D --delete-service          delete a virtual service and its real servers
  -C --clear                   delete all virtual services
  -R --restore                 carry out the lines of standard input
  -S --save                    print lines for -R
  -a --add-server              a new real server
  -e --edit-server             describe a real server anew
  -d --delete-server           take a real server out
  -L -l --list                 list virtual services and real servers
  -Z --zero                    let counters begin at zero
     --set                     timeouts in seconds; 0 leaves one as it is
     --start-daemon            (Director has no such daemon)
     --stop-daemon             (Director has no such daemon)
  -v --version                 the version
  -h --help                    this

SERVICE is one of:
  -t --tcp-service HOST[:PORT]
  -u --udp-service HOST[:PORT]
     --sctp-service HOST[:PORT]
  -f --fwmark-service MARK     with -6 or --ipv6 behind it for packets of IPv6

Of a virtual service:
  -s --scheduler NAME          rr wrr lc wlc lblc lblcr dh sh mh sed nq fo ovf twos; without it wlc
  -p --persistent [SECONDS]    clients come back to their real server; 360 without a number
  -M --netmask NETMASK         clients that agree in it are one; of IPv6 a prefix length
     --pe ENGINE               what else tells clients apart
  -b --sched-flags FLAGS       sh-fallback,sh-port or mh-fallback,mh-port
  -o --ops                     one-packet scheduling

Of a real server:
  -r --real-server HOST[:PORT]
  -g --gatewaying              direct routing, the default
  -i --ipip                    tunnel
  -m --masquerading            network address translation
  -w --weight WEIGHT           0 to 65535; without it 1
  -x --u-threshold NUMBER      no new connections from so many on
  -y --l-threshold NUMBER      new ones again below so many
     --tun-type TYPE           ipip, gue or gre; without it ipip
     --tun-port PORT           the UDP port of gue
     --tun-nocsum --tun-csum --tun-remcsum

Of lists:
  -n --numeric                 addresses and ports as numbers
  -c --connection              connections
     --timeout                 timeouts
     --daemon                  daemons
     --stats                   counters
     --rate                    rates per second
  -X --exact                   numbers with all their digits
     --thresholds              thresholds
     --persistent-conn         persistence templates
     --tun-info                kinds of tunnel
     --nosort                  as they come
     --sort                    sorted, as without it

Of daemons:
     --syncid --sync-maxlen --mcast-interface --mcast-group --mcast-port --mcast-ttl
";

#[cfg(test)]
mod tests {
    use super::super::options::WRITTEN;
    use super::*;

    #[test]
    fn the_help_has_every_option() {
        let help = help("ipvsadm");
        for written in WRITTEN {
            assert!(help.contains(&format!("--{}", written.long)), "--{} is not explained", written.long);
            if let Some(short) = written.short {
                let short = char::from(short);
                assert!(help.contains(&format!("-{short} ")), "-{short} is not explained");
            }
        }
    }
}
