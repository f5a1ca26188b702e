//! Package managers in a VM with the internet, for as far as this host has it.
//!
//! What they ask is the real thing. A host behind a mirror may know it by an address that is none of the internet, and
//! by an authority of its own: the policy then names what this host resolves, and the VM gets the host's authorities.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, TcpStream, ToSocketAddrs},
    time::Duration,
};

use libtest_mimic::{Completion, Trial};
use vm_tests::{
    program::{On, Place},
    workflow::{project, steps},
};

/// Authorities of a Debian system.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// How long this host may take to connect.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        asking(
            "apt_get_updates_and_installs",
            &[("deb.debian.org", 80)],
            "apt-get update\n\
             apt-get install -y --no-install-recommends hello\n\
             hello",
            "Hello, world!",
        ),
        asking(
            "pip_installs",
            &[("pypi.org", 443), ("files.pythonhosted.org", 443)],
            "python3 -m pip --disable-pip-version-check install --no-deps --target /tmp/installed six\n\
             PYTHONPATH=/tmp/installed python3 -c 'import six; print(\"six is at\", six.__file__)'",
            "six is at /tmp/installed/six.py",
        ),
        asking(
            "npm_installs",
            &[("registry.npmjs.org", 443)],
            "mkdir /tmp/installed; cd /tmp/installed\n\
             npm install --no-audit --no-fund ms\n\
             node -e 'console.log(\"two hours are\", require(\"ms\")(\"2h\"))'",
            "two hours are 7200000",
        ),
    ]
}

/// A trial that is left out, and says so, where this host itself does not reach what it asks.
fn asking(
    name: &str,
    servers: &'static [(&'static str, u16)],
    script: &'static str,
    prints: &'static str,
) -> Trial {
    let root = rustix::process::getuid().is_root();
    Trial::ignorable_test(format!("qemu::{name}"), move || {
        let mut addresses = BTreeSet::new();
        for server in servers {
            match reached(server) {
                Some(found) => addresses.extend(found),
                None => {
                    return Ok(Completion::ignored_with(format!("this host does not reach {}", server.0)));
                }
            }
        }
        install(&addresses, script, prints);
        Ok(Completion::Completed)
    })
    // a plain user has /dev/net/tun only where the host opened it
    .with_ignored_flag(!root)
}

/// The addresses of a server that this host connects to.
fn reached(server: &(&str, u16)) -> Option<Vec<IpAddr>> {
    let all: Vec<_> = server.to_socket_addrs().ok()?.collect();
    let one = all.iter().any(|address| TcpStream::connect_timeout(address, PATIENCE).is_ok());
    one.then(|| all.iter().map(|address| address.ip()).collect())
}

fn install(addresses: &BTreeSet<IpAddr>, script: &str, prints: &str) {
    let place = Place::new(On::Qemu);
    let indented = script.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let dir = project(&steps(&format!(
        "
- run: |
    test ! -f authorities || cp authorities {AUTHORITIES}
- run: |
{indented}"
    )));
    if fs::exists(AUTHORITIES).expect("a look for the host's authorities") {
        fs::copy(AUTHORITIES, dir.path().join("authorities")).expect("the host's authorities");
    }
    let open = addresses.iter().map(|address| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    });
    let policy = format!("internet,allow={}", open.collect::<Vec<_>>().join(","));
    let env = ["PIP_CERT", "NODE_EXTRA_CA_CERTS"].map(|name| format!("{name}={AUTHORITIES}"));
    let words = ["--network", &policy, "--env", &env[0], "--env", &env[1]];
    let rows = place.exec(dir.path(), &words).expect(0).rows();
    assert!(rows.iter().any(|row| row.contains(prints)), "{prints:?} is not in {rows:#?}");
    place.assert_clean();
}
