//! The way of a job's VM to its forge.
//!
//! Purpose: the names by which a job calls the forge, as forwards of its VM, beside those that are configured.
//! Owner: [`crate::task`], for each job. Invariant: whatever a server says, they lead to the instance that this runner is
//! registered with: a forge that was taken over opens no way to another machine of the runner's network.

use std::net::{Ipv4Addr, Ipv6Addr};

use forgejo::Instance;
use sandbox::{Destination, Forward};

/// Forwards for the instance's own address, and for the one that its server gives to jobs; and what is to be told.
pub(crate) fn to_forge(instance: &str, server: &str) -> (Vec<Forward>, Vec<String>) {
    let Ok(ours) = Instance::parse(instance) else { return (Vec::new(), Vec::new()) };
    let to = Destination::Tcp { host: bare(ours.host()).to_owned(), port: ours.port() };
    let (mut forwards, mut warnings) = (Vec::new(), Vec::new());
    let mut add = |called: &Instance| match name(called.host()) {
        Some(name) => {
            let forward = Forward { name, port: called.port(), to: to.clone() };
            if !forwards.contains(&forward) {
                forwards.push(forward);
            }
        }
        None => warnings.push(format!(
            "##[warning]the job's way to {called} is its network alone: an IPv6 address is not forwarded"
        )),
    };
    add(&ours);
    match Instance::parse(server) {
        // the same address, or another of the same server, which speaks the same there
        Ok(theirs) if theirs.is_https() == ours.is_https() => add(&theirs),
        Ok(theirs) => warnings.push(format!(
            "##[warning]the job's way to {theirs} is its network alone: this runner knows the server as {ours}"
        )),
        Err(_) => {}
    }
    (forwards, warnings)
}

/// All ways of a job's VM: those that are listed, and those to its forge. Where both have a name and port the listed one
/// is meant, so that nothing that a server says leads away from there.
pub(crate) fn of_job(listed: &[Forward], to_forge: Vec<Forward>) -> Vec<Forward> {
    let is_new = |way: &Forward| !listed.iter().any(|one| (&one.name, one.port) == (&way.name, way.port));
    listed.iter().cloned().chain(to_forge.into_iter().filter(is_new)).collect()
}

/// What a guest has to resolve, or to connect to, so that it comes here.
fn name(host: &str) -> Option<String> {
    let host = host.strip_suffix('.').unwrap_or(host);
    // a guest resolves it itself, to its own loopback
    if host == "localhost" || host.ends_with(".localhost") {
        return Some(Ipv4Addr::LOCALHOST.to_string());
    }
    bare(host).parse::<Ipv6Addr>().is_err().then(|| host.to_ascii_lowercase())
}

/// An IPv6 address without its brackets.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(instance: &str, server: &str) -> (Vec<String>, usize) {
        let (forwards, warnings) = to_forge(instance, server);
        (forwards.iter().map(ToString::to_string).collect(), warnings.len())
    }

    #[test]
    fn a_forge_is_reached_by_each_of_its_names() {
        for (instance, server, expected) in [
            ("https://git.example", "https://git.example/", vec!["git.example:443=git.example:443"]),
            ("http://10.1.2.3:3000", "http://10.1.2.3:3000", vec!["10.1.2.3:3000=10.1.2.3:3000"]),
            ("http://localhost:3000", "http://localhost:3000", vec!["127.0.0.1:3000=localhost:3000"]),
            (
                "http://forgejo:3000/",
                "http://Git.Example/",
                vec!["forgejo:3000=forgejo:3000", "git.example:80=forgejo:3000"],
            ),
        ] {
            assert_eq!(said(instance, server), (expected.iter().map(ToString::to_string).collect(), 0));
        }
    }

    #[test]
    fn what_is_listed_goes_before_what_a_server_says() {
        let listed =
            [Forward::to_service("c.internal:80", "controller").unwrap(), "a:1=b:2".parse().unwrap()];
        let (to_forge, _) = to_forge("http://forgejo:3000", "http://c.internal");
        let all: Vec<_> = of_job(&listed, to_forge).iter().map(ToString::to_string).collect();
        assert_eq!(all, ["c.internal:80=service controller", "a:1=b:2", "forgejo:3000=forgejo:3000"]);
    }

    #[test]
    fn a_server_names_no_way_to_others() {
        for server in ["http://10.0.0.1:22", "http://169.254.169.254", "http://router.lan"] {
            for forward in to_forge("http://forgejo:3000", server).0 {
                assert_eq!(forward.to, Destination::Tcp { host: "forgejo".to_owned(), port: 3000 });
            }
        }
        assert_eq!(
            said("http://forgejo:3000", "https://git.example"),
            (vec!["forgejo:3000=forgejo:3000".to_owned()], 1)
        );
        assert_eq!(said("http://[2001:db8::1]:3000", "nonsense"), (Vec::new(), 1));
    }
}
