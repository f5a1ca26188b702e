//! What a snapshot of this QEMU depends on.

use std::fs;

use vm::BackendKey;

use super::{
    NAME, Version,
    argv::{self, Accelerator},
    tsc,
};

/// What of this host is in a key.
#[derive(Debug, Default)]
pub(super) struct Host {
    processor: String,
    khz: Option<u32>,
}

impl Host {
    pub(super) async fn look() -> Self {
        let look = tokio::task::spawn_blocking(|| {
            let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            Self { processor: processor(&text), khz: tsc::khz() }
        });
        look.await.unwrap_or_default()
    }

    /// How VMs are emulated here.
    pub(super) fn tcg(&self) -> Accelerator {
        Accelerator::Tcg { khz: self.khz }
    }

    /// Everything: a microvm's state has no version of its own, so any other QEMU, argument or processor is taken
    /// for one that cannot load it.
    pub(super) fn key(&self, version: Version, accelerator: Accelerator, card: bool) -> BackendKey {
        let processor = &self.processor;
        let khz = self.khz.map_or("unknown".to_owned(), |khz| khz.to_string());
        let words = argv::fingerprint(accelerator, card);
        BackendKey(format!("{NAME} {version}\nprocessor {processor}\ntsc {khz} kHz\n{words}"))
    }

    /// Those of all VMs that this QEMU can run here: who asks decides over accelerator and card.
    pub(super) fn keys(&self, version: Version) -> Vec<BackendKey> {
        let all = [self.tcg(), Accelerator::Kvm].into_iter();
        all.flat_map(|accelerator| [true, false].map(|card| self.key(version, accelerator, card))).collect()
    }
}

/// Model and features of the first processor.
fn processor(cpuinfo: &str) -> String {
    let first = cpuinfo.lines().take_while(|line| !line.is_empty());
    let known = ["vendor_id", "cpu family", "model", "model name", "stepping", "flags"];
    first
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim(), value.trim()))
        .filter(|(name, _)| known.contains(name))
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_is_its_model_and_features_and_not_its_speed_of_the_moment() {
        let text = "processor\t: 0\nvendor_id\t: A\nmodel name\t: X 1\ncpu MHz\t\t: 2000.1\nflags\t\t: fpu sse\n\n\
                    processor\t: 1\nvendor_id\t: B\n";
        assert_eq!(processor(text), "vendor_id=A;model name=X 1;flags=fpu sse");
    }

    #[test]
    fn the_keys_of_a_host_are_those_of_its_version_and_processor() {
        let host = |processor: &str| Host { processor: processor.to_owned(), khz: Some(2_000_000) };
        let (old, new) = (Version { major: 7, minor: 2, micro: 1 }, Version { major: 7, minor: 2, micro: 2 });
        let keys = host("X").keys(new);
        assert_eq!(keys.len(), 4);
        assert!(keys.iter().all(|key| key.backend() == NAME));
        for card in [true, false] {
            for accelerator in [host("X").tcg(), Accelerator::Kvm] {
                assert!(keys.contains(&host("X").key(new, accelerator, card)));
                assert!(!keys.contains(&host("X").key(old, accelerator, card)));
                assert!(!keys.contains(&host("Y").key(new, accelerator, card)));
            }
        }
    }
}
