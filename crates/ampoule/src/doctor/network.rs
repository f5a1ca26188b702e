//! Whether VMs can have a network: by making one and ending it.

use std::ffi::OsString;

use net::{Checked, Error, Note};

use super::{Finding, kernel::as_root};
use crate::host::is_root;

pub(super) const NAME: &str = "VMs' network";

/// Makes one.
pub(super) fn look() -> Finding {
    let helper: Vec<OsString> = vec!["/proc/self/exe".into(), "net-helper".into()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => finding(runtime.block_on(net::check(helper)), is_root()),
        Err(error) => Finding::note(NAME, format!("could not be tried: {error}")),
    }
}

/// A VM without a network is one all the same: nothing of it is worse than a note.
fn finding(checked: Result<Checked, Error>, root: bool) -> Finding {
    let without = "VMs have no network card";
    let checked = match checked {
        Ok(checked) => checked,
        Err(Error::Missing { program, package }) => {
            return Finding::note(NAME, format!("{program} is not installed: {without}"))
                .mend(as_root(&format!("apt-get install --no-install-recommends {package}")))
                .mend("or: ampoule setup");
        }
        Err(error) => {
            let found = Finding::note(NAME, format!("{error}: {without}"));
            return match error {
                Error::Refused { answer, .. } if answer.contains("tun") && !root => {
                    found.mend("sudo chmod 666 /dev/net/tun   (as systemd has it by itself)")
                }
                Error::Refused { answer, .. } if answer.contains("tun") => found.mend("modprobe tun"),
                _ => found,
            };
        }
    };
    let by = if checked.root { "over a link to the host" } else { "through pasta" };
    let mut seen = vec![format!("can be made, {by}")];
    let mut mend = Vec::new();
    let tried = [4, 6].into_iter().any(|family| {
        ![Note::NotForwarded { family }, Note::NoRoute { family }].iter().any(|no| checked.notes.contains(no))
    });
    if checked.root && tried {
        // the packet that is sent goes no further than the host, so nothing answers it
        seen.push("whether a firewall of the host lets answers back to amp-* was not tried".to_owned());
    }
    for note in &checked.notes {
        seen.push(match note {
            Note::ForwardsV4 if checked.root => {
                "the first engine sets net.ipv4.ip_forward, which is 0".to_owned()
            }
            Note::ForwardsV6 if checked.root => {
                "the first engine sets net.ipv6.conf.all.forwarding, which is 0".to_owned()
            }
            Note::Advertised(interface) => {
                mend.push(as_root(&format!("sysctl -w net.ipv6.conf.{interface}.accept_ra=2")));
                note.to_string()
            }
            Note::NotForwarded { family } => {
                let program = if *family == 4 { "iptables" } else { "ip6tables" };
                mend.push(as_root(&format!("{program} -I FORWARD -i amp-+ -j ACCEPT")));
                let answers = "-o amp-+ -m conntrack --ctstate RELATED,ESTABLISHED";
                mend.push(as_root(&format!("{program} -I FORWARD {answers} -j ACCEPT")));
                note.to_string()
            }
            Note::NoPings => {
                mend.push(as_root("sysctl -w net.ipv4.ping_group_range=\"0 2147483647\""));
                note.to_string()
            }
            Note::ForwardsV4 | Note::ForwardsV6 | Note::NoRoute { .. } | Note::Route { .. } => {
                note.to_string()
            }
        });
    }
    let seen = seen.join("; ");
    if mend.is_empty() {
        return Finding::ok(NAME, seen);
    }
    mend.into_iter().fold(Finding::note(NAME, seen), Finding::mend)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    fn refused(answer: &str) -> Error {
        Error::Refused { what: "make a network namespace", answer: answer.to_owned() }
    }

    #[test]
    fn what_lacks_is_named_with_what_mends_it() {
        let missing = Error::Missing { program: "pasta", package: "passt" };
        let tun = || refused("cannot make a tap (/dev/net/tun): Permission denied (os error 13)");
        let cases = [
            (Err(missing), false, "pasta is not installed", "apt-get install --no-install-recommends passt"),
            (Err(tun()), false, "Permission denied", "sudo chmod 666 /dev/net/tun"),
            // pasta's words
            (Err(refused("Failed to open tun socket in namespace")), false, "tun socket", "sudo chmod 666"),
            (Err(tun()), true, "Permission denied", "modprobe tun"),
            (
                Ok(Checked { root: true, notes: vec![Note::Advertised("eth0".to_owned())] }),
                true,
                "VMs have no IPv6: eth0 listens",
                "sysctl -w net.ipv6.conf.eth0.accept_ra=2",
            ),
        ];
        let dropped = Checked { root: true, notes: vec![Note::NotForwarded { family: 6 }] };
        let deaf = Checked { root: false, notes: vec![Note::NoPings] };
        let more = [
            (
                Ok(dropped),
                true,
                "VMs reach nothing by IPv6: a firewall",
                "ip6tables -I FORWARD -i amp-+ -j ACCEPT",
            ),
            (Ok(deaf), false, "VMs' pings get no answer", "sysctl -w net.ipv4.ping_group_range="),
        ];
        for (checked, root, seen, mend) in cases.into_iter().chain(more) {
            let found = finding(checked, root);
            assert_eq!(found.state, State::Note);
            assert!(found.seen.contains(seen), "{}", found.seen);
            assert!(found.mend.iter().any(|command| command.contains(mend)), "{:?}", found.mend);
        }
    }

    #[test]
    fn what_can_be_made_is_ok_whatever_there_is_to_know() {
        let notes = vec![Note::ForwardsV4, Note::NoRoute { family: 6 }];
        let found = finding(Ok(Checked { root: true, notes }), true);
        assert_eq!(found.state, State::Ok);
        assert_eq!(
            found.seen,
            "can be made, over a link to the host; whether a firewall of the host lets answers back to amp-* was not \
             tried; the first engine sets net.ipv4.ip_forward, which is 0; \
             VMs reach nothing by IPv6: the host has no default route of it"
        );
        assert!(found.mend.is_empty());
        // as a plain user there is none in between, and nothing to answer where nothing goes out
        let nowhere = vec![Note::NoRoute { family: 4 }, Note::NotForwarded { family: 6 }];
        for checked in [Checked { root: false, notes: Vec::new() }, Checked { root: true, notes: nowhere }] {
            let seen = finding(Ok(checked), true).seen;
            assert!(!seen.contains("answers"), "{seen}");
        }
    }
}
