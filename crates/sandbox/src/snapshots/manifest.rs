//! What a snapshot's directory says of itself: `manifest`, a line with a digest and then JSON with that digest.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use store::Digest;

use super::{key::Kind, memory::Extent};

/// A snapshot's own account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// What it depends on: its key follows from it.
    pub(crate) kind: Kind,
    pub(crate) made: SystemTime,
    pub(crate) state: Digest,
    pub(crate) memory: Vec<Extent>,
    /// None: its guest was saved before it was made ready.
    pub(crate) ready: Option<Ready>,
}

/// What is known of a guest that was made ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Its kernel's version.
    pub(crate) kernel: String,
    /// What its disk has.
    pub(crate) disk: Vec<Extent>,
}

impl Manifest {
    pub(crate) fn text(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).unwrap_or_default();
        let mut text = format!("{}\n", Digest::of(&json)).into_bytes();
        text.extend_from_slice(&json);
        text
    }

    /// `Err`: what is wrong with it, in words.
    pub(crate) fn parse(text: &[u8], key: &str) -> Result<Self, String> {
        let split = text.iter().position(|byte| *byte == b'\n').and_then(|end| text.split_at_checked(end));
        let (digest, json) = split.ok_or("its manifest is cut")?;
        let json = json.get(1..).unwrap_or_default();
        let digest = std::str::from_utf8(digest).ok().and_then(|digest| digest.parse::<Digest>().ok());
        if digest != Some(Digest::of(json)) {
            return Err("its manifest is not what was written".to_owned());
        }
        let manifest: Self =
            serde_json::from_slice(json).map_err(|_| "its manifest is of another version")?;
        if manifest.kind.key() == key {
            Ok(manifest)
        } else {
            Err("it is another snapshot than its name says".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::key, *};

    #[test]
    fn a_manifest_says_when_it_is_not_what_was_written() {
        let kind = key::for_tests("/r");
        let key = kind.key();
        let memory = vec![Extent { offset: 0, length: 4096, digest: Digest::of(b"m") }];
        let ready = Some(Ready { kernel: "6.1".to_owned(), disk: memory.clone() });
        let (made, state) = (SystemTime::UNIX_EPOCH, Digest::of(b"s"));
        let manifest = Manifest { kind, made, state, memory, ready };
        let text = manifest.text();
        assert_eq!(Manifest::parse(&text, &key), Ok(manifest));
        assert!(
            Manifest::parse(&text, &key::for_tests("/other").key()).unwrap_err().contains("another snapshot")
        );
        for cut in [0, 1, 70, 72, text.len() - 1] {
            assert!(Manifest::parse(&text[..cut], &key).is_err(), "{cut}");
        }
        for at in 0..text.len() {
            let mut flipped = text.clone();
            flipped[at] ^= 4;
            assert!(Manifest::parse(&flipped, &key).is_err(), "{at}");
        }
    }
}
