//! What a snapshot of this QEMU depends on.

use std::fs;

use vm::BackendKey;

use super::{
    Version,
    argv::{self, Accelerator},
    tsc,
};

/// Everything: a microvm's state has no version of its own, so any other QEMU, argument or processor is taken
/// for one that cannot load it.
pub(super) async fn of(version: Version, accelerator: Accelerator, card: bool) -> BackendKey {
    let host = tokio::task::spawn_blocking(|| {
        let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        (processor(&text), tsc::khz())
    });
    let (processor, khz) = host.await.unwrap_or_default();
    let khz = khz.map_or("unknown".to_owned(), |khz| khz.to_string());
    let words = argv::fingerprint(accelerator, card);
    BackendKey(format!("qemu {version}\nprocessor {processor}\ntsc {khz} kHz\n{words}"))
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
}
