//! Authorities that a job's VM trusts beside those of its image.
//!
//! Purpose: a forge whose certificate is of an own authority is reached by every program of the VM, as it is by the
//! runner. Owner: the caller has them as text; [`install`] puts them into the VM before the first step.
//!
//! Invariants
//! - They are public: certificates alone leave this host, whatever else the file holds.
//! - Nothing of the host is changed where the "VM" is a directory of it.
//! - What an image cannot do costs a warning, not the job.

use crate::{
    environ::Vars,
    files::Archive,
    guest::{Fault, Guest, OWN_DIR},
};

/// Certificates of authorities, each as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities(Vec<String>);

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// All of them, below [`OWN_DIR`].
const BUNDLE: &str = "authorities.pem";
/// Each for itself: tools that look a certificate up by a hash of it take the first of a file.
const EACH: &str = "authorities";

/// Puts them where the image's own tool takes them from (Debian and Alpine; Fedora and Arch), makes the system trust them,
/// and prints the bundle in which they are then.
///
/// Debian's tool makes everything anew, which takes half a minute in an emulated VM. So what it does is done for these
/// alone where nothing else listens to it: it finds that when it is next called.
const INSTALL: &str = r#"
set -e
bring() { mkdir -p "$to"; for one in "$1"/*; do cp "$one" "$to/ampoule-${one##*/}"; done; }
dir=/etc/ssl/certs
if command -v update-ca-certificates > /dev/null; then
  to=/usr/local/share/ca-certificates; bring "$1"
  hooks=$(ls /etc/ca-certificates/update.d 2> /dev/null || true)
  if [ -s "$dir/ca-certificates.crt" ] && [ -z "$hooks" ] && command -v openssl > /dev/null; then
    for one in "$to"/ampoule-*; do
      name=${one##*/}; name=${name%.crt}.pem
      hash=$(openssl x509 -hash -noout -in "$one")
      n=0; while [ -e "$dir/$hash.$n" ]; do n=$((n + 1)); done
      ln -sf "$one" "$dir/$name"
      ln -sf "$name" "$dir/$hash.$n"
      cat "$one" >> "$dir/ca-certificates.crt"
    done
  else
    update-ca-certificates > /dev/null
  fi
elif command -v update-ca-trust > /dev/null; then
  to=/etc/pki/ca-trust/source/anchors; [ -d "$to" ] || to=/etc/ca-certificates/trust-source/anchors
  bring "$1"
  update-ca-trust > /dev/null
else
  echo 'the image has neither update-ca-certificates nor update-ca-trust' >&2; exit 1
fi
for bundle in "$dir/ca-certificates.crt" /etc/pki/tls/certs/ca-bundle.crt; do
  if [ -s "$bundle" ]; then printf %s "$bundle"; break; fi
done
"#;

impl Authorities {
    /// The certificates of a file; `None` where there are none. What stands between them is left out.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let mut found = Vec::new();
        let mut rest = text;
        while let Some((_, after)) = rest.split_once(BEGIN) {
            let (body, after) = after.split_once(END)?;
            // a private key that follows is behind its own line, and no part of a body
            if body.contains("-----") {
                return None;
            }
            found.push(format!("{BEGIN}{body}{END}\n"));
            rest = after;
        }
        (!found.is_empty()).then_some(Self(found))
    }

    /// As files of the runner's own directory.
    pub(crate) fn add_to(&self, archive: &mut Archive) {
        archive.add(BUNDLE, 0o644, self.0.concat().as_bytes());
        for (index, one) in self.0.iter().enumerate() {
            archive.add(&format!("{EACH}/{index}.crt"), 0o644, one.as_bytes());
        }
    }
}

/// Makes the system trust what [`Authorities::add_to`] brought, and names it to those programs that do not ask the
/// system. The warning says why something of that could not be done.
pub(crate) async fn install(guest: &Guest, vars: &mut Vars) -> Result<Option<String>, Fault> {
    vars.set("NODE_EXTRA_CA_CERTS", guest.seen(&format!("{OWN_DIR}/{BUNDLE}")));
    if !guest.sandbox.info().root_prefix.is_empty() {
        return Ok(Some("this is no VM: its system does not trust the runner's `ca_file`".to_owned()));
    }
    let each = format!("{OWN_DIR}/{EACH}");
    match guest.ask(&["sh", "-c", INSTALL, "sh", &each], Vec::new(), 4096).await {
        Ok(bundle) if bundle.is_empty() => Ok(None),
        Ok(bundle) => {
            // what brings authorities of its own along would not see them
            vars.set("REQUESTS_CA_BUNDLE", String::from_utf8_lossy(&bundle).into_owned());
            Ok(None)
        }
        Err(Fault::Step(why)) => {
            Ok(Some(format!("the VM's system does not trust the runner's `ca_file`: {why}")))
        }
        Err(fault) => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

    #[test]
    fn certificates_alone_are_taken() {
        let two = ONE.replace("MIIB", "MIIC");
        let key = "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----\n";
        let found = Authorities::of(&format!("# ours\n{key}{ONE}subject=x\n{two}{key}")).unwrap();
        assert_eq!(found.0, [ONE, &two]);
        for none in ["", "text", key, "-----BEGIN CERTIFICATE-----\nMIIB\n"] {
            assert_eq!(Authorities::of(none), None, "{none:?}");
        }
        // one that was cut, before a key
        assert_eq!(Authorities::of(&format!("-----BEGIN CERTIFICATE-----\nMIIB\n{key}{ONE}")), None);
    }
}
