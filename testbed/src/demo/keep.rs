//! What one can do with a lab that was left standing.

use crate::lab::{Lab, plan, programs};

/// Prints commands to play with, and the one that takes the lab down.
pub(super) fn explain(lab: &Lab) {
    let program =
        |name: &str| programs::find(name).map_or_else(|_| name.to_owned(), |path| path.display().to_string());
    let client = format!("ip netns exec {}", lab.client().name());
    let ctl = format!("{} --socket {}", program("directorctl"), lab.socket().display());
    let testbed = program("testbed");
    println!(
        "
The lab stands. As root:

  {client} curl -s http://{nat}/      # NAT, rr
  {client} curl -s http://{dr}/      # direct routing, wrr
  {client} curl -s --interface {source} http://{tun}/      # tunnel, mh by client address
  {client} {testbed} udp-client {nat}:53 --requests 9      # NAT, rr
  {ctl} service list
  {ctl} connection list
  {ctl} server edit tcp {nat}:80 {server}:{port} --weight 0
  {ctl} stats
  {ctl} latency
  ip netns exec {director} tcpdump -ni dtap0      # what is on the wire of port 0
  less {logs}/director-daemon.log

Configuration, logs and socket are in {logs}. To take it down:

  {testbed} reap --all
",
        nat = plan::VIP_NAT,
        dr = plan::VIP_DR,
        tun = plan::VIP_TUN,
        source = plan::client_address(7),
        server = plan::real_server(1),
        port = plan::WEB_NAT,
        director = lab.director().name(),
        logs = lab.directory().display(),
    );
}
