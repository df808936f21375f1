//! ipvsadm with a running director: rules, traffic, what is listed of it, and rules that go away and come back.

use control::model::ForwardingMethod::Nat;
use control::model::Scheduler;
use testbed::ensure;
use testbed::error::Result;
use testbed::lab::config::Service;
use testbed::lab::{Lab, plan};
use testbed::traffic::curl;

/// Every feature that ipvsadm's own rules can say and Director has, sorted as `-S -n` sorts.
const RULES: &str = "\
-A -t 10.99.0.1:80 -s wrr -p 300 -M 255.255.255.0
-a -t 10.99.0.1:80 -r 10.0.2.11:8080 -m -w 3
-a -t 10.99.0.1:80 -r 10.0.2.12:8080 -m -w 0
-A -t 10.99.0.2:0 -s rr -p 60
-a -t 10.99.0.2:0 -r 10.0.2.11:0 -g -w 1
-A -t 10.99.0.2:443 -s sh -b sh-fallback,sh-port
-a -t 10.99.0.2:443 -r 10.0.2.11:443 -g -w 65535
-A -t 10.99.0.3:80 -s mh -b mh-port
-a -t 10.99.0.3:80 -r 10.0.2.11:80 -i -w 1 --tun-type ipip
-a -t 10.99.0.3:80 -r 10.0.2.12:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum
-a -t 10.99.0.3:80 -r 10.0.2.13:80 -i -w 1 --tun-type gre --tun-nocsum
-A -u 10.99.0.1:53 -s lc -o
-a -u 10.99.0.1:53 -r 10.0.2.11:53 -m -w 1
-A --sctp-service 10.99.0.1:9 -s sed
-A -t [2001:db8:99::1]:80 -s wlc -p 360 -M 64
-a -t [2001:db8:99::1]:80 -r [2001:db8:2::11]:8080 -m -w 1
-A -u [2001:db8:99::3]:53 -s nq
-a -u [2001:db8:99::3]:53 -r 10.0.2.11:53 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum
-A -f 1 -s wlc
-a -f 1 -r 10.0.2.11:0 -g -w 1
-A -f 1 -6 -s twos -p 360
-a -f 1 -6 -r [2001:db8:2::11]:8080 -m -w 2
";

#[test]
fn rules_are_saved_cleared_and_restored() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    let director = lab.start_director(&lab.config())?;
    let ipvsadm = director.ipvsadm();
    ipvsadm.shell(&format!("ipvsadm -R <<'END'\n{RULES}END"))?;
    let saved = ipvsadm.run("-S -n")?;
    ensure!(saved == RULES, "{saved}");

    // Its own output into itself, over what is there and over nothing.
    let again = ipvsadm.shell("saved=\"$(ipvsadm-save -n)\"; ipvsadm-restore <<<\"$saved\"; ipvsadm -Sn")?;
    ensure!(again == RULES, "{again}");
    ipvsadm.run("-C")?;
    ensure!(ipvsadm.run("-Sn")?.is_empty(), "it was cleared");
    ipvsadm.shell(&format!("ipvsadm-restore <<'END'\n# a comment\n{RULES}END"))?;
    let restored = ipvsadm.run("-Sn")?;
    ensure!(restored == RULES, "{restored}");
    director.stop()?;
    Ok(())
}

#[test]
fn traffic_is_listed_as_ipvsadm_lists_it() -> Result<()> {
    let lab = Lab::plan().real_servers(2).build()?;
    let web = Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Rr)
        .lab_servers(&lab, plan::WEB_NAT, Nat, &[1, 1])
        .persistent(300);
    let director = lab.start_director(&lab.config().with(web))?;
    let outcome = curl::ask(lab.client(), &curl::Plan::new("http://10.99.0.1/", 10), |_| ())?;
    ensure!(outcome.failed == 0, "{outcome:?}");
    let ipvsadm = director.ipvsadm();

    let list = ipvsadm.run("-Ln")?;
    let head = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.99.0.1:80 rr persistent 300
";
    ensure!(list.starts_with(head), "{list}");
    let connections = ipvsadm.run("-Lnc")?;
    let lines: Vec<&str> = connections.lines().collect();
    ensure!(lines.len() == 2 + 10 + 1, "ten connections and their template:\n{connections}");
    ensure!(lines[0] == "IPVS connection entries", "{connections}");
    let template = lines.iter().find(|line| line.contains("10.0.1.1:0 ")).copied().unwrap_or_default();
    ensure!(
        template.starts_with("TCP 04:5")
            && template.contains("  ASSURED     10.0.1.1:0         10.99.0.1:80       10.0.2.1"),
        "{connections}"
    );
    ensure!(connections.contains("TIME_WAIT   10.0.1.1:"), "{connections}");
    let persistent = ipvsadm.run("-Ln --persistent-conn")?;
    let held: Vec<&str> =
        persistent.lines().skip(4).filter_map(|line| line.split_whitespace().nth(3)).collect();
    ensure!(held.len() == 2 && held.contains(&"1") && held.contains(&"0"), "{persistent}");
    let stats = ipvsadm.run("-Ln --stats -t 10.99.0.1:80")?;
    ensure!(stats.contains("TCP  10.99.0.1:80                       10 "), "{stats}");
    ipvsadm.run("-Z")?;
    let stats = ipvsadm.run("-Ln --stats -t 10.99.0.1:80")?;
    ensure!(
        stats.contains("TCP  10.99.0.1:80                        0        0        0        0        0"),
        "{stats}"
    );
    director.stop()?;
    Ok(())
}
