//! Rules of ipvsadm: each line is carried out, on paper.

use super::Imported;
use crate::cli::ipvsadm::{Command, SystemNames, meaning, parse, restore};
use crate::model::{Edit, ForwardingMethod};

/// Carries out every line. ipvsadm-restore's comments are left out.
pub(super) fn import(text: &str) -> Imported {
    let mut imported = Imported::default();
    for (number, line) in (1..).zip(text.lines()) {
        if line.starts_with('#') {
            continue;
        }
        let line = format!("{line}\n");
        // Memory can always be read.
        let words = restore::next_line(&mut line.as_bytes()).ok().flatten().unwrap_or_default();
        if words.is_empty() {
            continue;
        }
        match parse("ipvsadm", &words, &SystemNames::default()) {
            Err(complaint) => imported.lose(number, complaint.text.trim_end()),
            Ok(command) => carry_out(&mut imported, number, &command),
        }
    }
    imported
}

fn carry_out(imported: &mut Imported, number: usize, command: &Command) {
    match command {
        // Timeouts are no rules.
        Command::Clear => {
            *imported = Imported { settings: std::mem::take(&mut imported.settings), ..Imported::default() };
        }
        Command::SetTimeouts { tcp, tcp_fin, udp } => {
            let timeouts = [("tcp", tcp), ("tcp_fin", tcp_fin), ("udp", udp)];
            let before = std::mem::take(&mut imported.settings);
            let lines = timeouts.iter().filter_map(|(name, seconds)| {
                let beginning = format!("{name} = ");
                match seconds {
                    0 => before.iter().find(|line| line.starts_with(&beginning)).cloned(),
                    seconds => Some(format!("{beginning}{seconds}")),
                }
            });
            imported.settings = lines.collect();
            if !imported.settings.is_empty() {
                imported.settings.insert(0, "[timeouts]".to_owned());
            }
        }
        Command::StartDaemon(_) | Command::StopDaemon(_) => {
            imported.lose(number, "Director has no synchronisation daemon");
        }
        command => match meaning::edit(command) {
            Some(Ok(edit)) => make(imported, number, &edit),
            Some(Err(unable)) => imported.lose(number, unable),
            None => imported.lose(number, "this command changes no rule"),
        },
    }
}

fn make(imported: &mut Imported, number: usize, edit: &Edit) {
    if let Err(error) = imported.make(edit) {
        imported.lose(number, error);
        return;
    }
    match edit {
        Edit::AddService { key, .. } if key.is_mark() => {
            imported.note(
                *key,
                "Which packets have this mark was for netfilter to say; here rules say it: [[mark]].",
            );
        }
        Edit::AddServer { service, server } if server.method == ForwardingMethod::Nat => {
            imported.note(*service, "By NAT, real servers need the director as their gateway, as before.");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_rule_set_becomes_services() {
        let imported = import(
            "\
# saved on Monday
-A -t 10.0.0.1:80 -s wrr -p 300 -M 255.255.255.0
-a -t 10.0.0.1:80 -r 10.0.0.11:8080 -m -w 2 -x 100
ipvsadm -A -f 1 -6 -s sh -b sh-port
-a -f 1 -6 -r [2001:db8::11]:0 -g -w 1
--set 3600 0 60
",
        );
        assert_eq!(imported.lost(), [""; 0]);
        assert_eq!(
            imported.toml(),
            r#"[timeouts]
tcp = 3600
udp = 60

# By NAT, real servers need the director as their gateway, as before.
[[service]]
protocol = "tcp"
address = "10.0.0.1:80"
scheduler = "wrr"
persistence_timeout = 300
persistence_granularity = 24

  [[service.server]]
  address = "10.0.0.11:8080"
  method = "nat"
  weight = 2
  upper_threshold = 100

# Which packets have this mark was for netfilter to say; here rules say it: [[mark]].
[[service]]
mark = 1
family = "ipv6"
scheduler = "sh"
hash_port = true

  [[service.server]]
  address = "[2001:db8::11]:0"
  method = "dr"
  weight = 1
"#
        );
    }

    #[test]
    fn timeouts_add_up_and_survive_the_clearing_of_rules() {
        let imported = import("--set 0 0 0\n");
        assert_eq!(imported.toml(), "");
        let imported = import("--set 3600 0 60\n-A -t 10.0.0.1:80\n-C\n--set 0 120 90\n");
        assert_eq!(imported.toml(), "[timeouts]\ntcp = 3600\ntcp_fin = 120\nudp = 90\n");
    }

    #[test]
    fn what_cannot_be_carried_over_is_said_with_its_line() {
        let imported = import(
            "-A -t 10.0.0.1:80 -s nosuch\n-A -t 10.0.0.2:80 -p -M 255.0.255.0\n-A -t 10.0.0.3\n\
             --start-daemon master\n-A -t 10.0.0.4:80\n-a -t 10.0.0.5:80 -r 10.0.0.11\n-Ln\n",
        );
        let reasons = [
            "line 1: not carried over: there is no scheduler nosuch",
            "line 2: not carried over: of the netmask 255.0.255.0 not the first bits are set, but others",
            "line 3: not carried over: Zero port specified for non-persistent service",
            "line 4: not carried over: Director has no synchronisation daemon",
            "line 6: not carried over: there is no virtual service tcp 10.0.0.5:80",
            "line 7: not carried over: this command changes no rule",
        ];
        assert_eq!(imported.lost(), reasons);
        let toml = imported.toml();
        assert!(toml.starts_with("# line 1: not carried over") && toml.contains("10.0.0.4:80"), "{toml}");
    }
}
