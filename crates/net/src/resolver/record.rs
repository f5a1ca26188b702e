//! What a VM was refused by name, and which names it has of an address.
//!
//! Invariants: both are bounded; what no longer fits is counted, and addresses that were not seen for longest go first.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    net::IpAddr,
};

use serde::{Deserialize, Serialize};

use super::message::MAX_RECORDS;

/// Most different refusals that are told apart.
const MAX_REFUSED: usize = 1024;
/// Most addresses whose names are known.
const MAX_ADDRESSES: usize = 4096;
/// Most names of one address.
const MAX_NAMES: usize = 4;

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The policy does not have it.
    NotInPolicy,
    /// It has an address of a denied range, by the range's name; that was taken out of the answer.
    Denied {
        /// The address.
        address: IpAddr,
        /// Of [`RANGES`](crate::RANGES).
        range: String,
    },
    /// The same, of names that no longer fitted: of several addresses, perhaps of several ranges.
    DeniedAny,
    /// Questions of this type are not answered.
    Type,
    /// There were too many questions.
    Rate,
    /// No name server of the host answered.
    NoAnswer,
    /// A name server answered more records than an answer may have.
    TooLong,
    /// A name server answered what makes no sense.
    Senseless,
    /// Its addresses could not be opened.
    NotOpened,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInPolicy => f.write_str("not in the policy"),
            Self::Denied { address, range } => write!(f, "{address} is denied ({range})"),
            Self::DeniedAny => f.write_str("their addresses are denied"),
            Self::Type => f.write_str("type not answered"),
            Self::Rate => f.write_str("too many questions"),
            Self::NoAnswer => f.write_str("no name server answered"),
            Self::TooLong => write!(f, "the answer has more than {MAX_RECORDS} records"),
            Self::Senseless => f.write_str("the answer makes no sense"),
            Self::NotOpened => f.write_str("the way to it could not be opened"),
        }
    }
}

/// Something that was refused by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRefused {
    /// What was asked for, in lower case; the root is `.`, a label that is a star alone `\*`; `*` ([`NameRefused::OTHERS`]) stands for all that no longer fitted.
    pub name: String,
    /// The type's number: 1 is A, 28 AAAA; 0 where it is of several.
    pub kind: u16,
    /// Why.
    pub why: Why,
    /// How often.
    pub count: u64,
}

impl NameRefused {
    /// What stands for all names that no longer fitted.
    pub const OTHERS: &str = "*";
}

/// The record of one VM.
#[derive(Debug, Default)]
pub(super) struct Log {
    refused: BTreeMap<(String, u16, Why), u64>,
    others: BTreeMap<Why, u64>,
    names: HashMap<IpAddr, Vec<String>>,
    order: VecDeque<IpAddr>,
}

impl Log {
    pub(super) fn refuse(&mut self, name: &str, kind: u16, why: Why) {
        let key = (name.to_owned(), kind, why);
        if let Some(count) = self.refused.get_mut(&key) {
            *count += 1;
        } else if self.refused.len() < MAX_REFUSED {
            self.refused.insert(key, 1);
        } else {
            // neither the type nor an address may grow this: both are the guest's choice
            let why = match key.2 {
                Why::Denied { .. } => Why::DeniedAny,
                why => why,
            };
            *self.others.entry(why).or_default() += 1;
        }
    }

    pub(super) fn refused(&self) -> Vec<NameRefused> {
        let told = self.refused.iter().map(|((name, kind, why), count)| NameRefused {
            name: shown(name),
            kind: *kind,
            why: why.clone(),
            count: *count,
        });
        let others = self.others.iter().map(|(why, count)| NameRefused {
            name: NameRefused::OTHERS.to_owned(),
            kind: 0,
            why: why.clone(),
            count: *count,
        });
        told.chain(others).collect()
    }

    pub(super) fn saw(&mut self, address: IpAddr, name: &str) {
        let address = address.to_canonical();
        let names = self.names.entry(address).or_default();
        if names.is_empty() {
            self.order.push_back(address);
        }
        if !names.iter().any(|known| known == name) {
            if names.len() >= MAX_NAMES {
                names.remove(0);
            }
            names.push(name.to_owned());
        }
        if self.order.len() > MAX_ADDRESSES
            && let Some(oldest) = self.order.pop_front()
        {
            self.names.remove(&oldest);
        }
    }

    pub(super) fn names_of(&self, address: IpAddr) -> Vec<String> {
        self.names.get(&address.to_canonical()).cloned().unwrap_or_default()
    }
}

/// A name of its own, whatever it is: not nothing, and not [`NameRefused::OTHERS`].
fn shown(name: &str) -> String {
    match name {
        "" => ".".to_owned(),
        NameRefused::OTHERS => format!(r"\{name}"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_and_bounded() {
        let mut log = Log::default();
        for round in 0..3_u32 {
            for number in 0..2000_u32 {
                let address = IpAddr::V4((0x0a00_0000 + round).into());
                log.refuse("same", 1, Why::NotInPolicy);
                log.refuse(&format!("{number}.example"), 1, Why::Denied { address, range: "private".into() });
            }
        }
        let refused = log.refused();
        assert!(refused.len() <= MAX_REFUSED + 8, "{}", refused.len());
        assert_eq!(refused.iter().map(|refused| refused.count).sum::<u64>(), 12_000);
        let same = refused.iter().find(|refused| refused.name == "same").unwrap();
        assert_eq!((same.count, &same.why), (6000, &Why::NotInPolicy));
        let others: Vec<_> = refused.iter().filter(|refused| refused.name == NameRefused::OTHERS).collect();
        assert!(matches!(others[..], [NameRefused { kind: 0, why: Why::DeniedAny, .. }]), "{others:?}");
    }

    #[test]
    fn the_root_and_a_star_are_names_too() {
        let mut log = Log::default();
        for name in ["", "*", "*.a"] {
            log.refuse(name, 1, Why::NotInPolicy);
        }
        let names: Vec<String> = log.refused().into_iter().map(|refused| refused.name).collect();
        assert_eq!(names, [".", r"\*", "*.a"]);
    }

    #[test]
    fn an_address_knows_its_last_names() {
        let mut log = Log::default();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        for name in ["a", "b", "a", "c", "d", "e"] {
            log.saw(address, name);
        }
        assert_eq!(log.names_of("::ffff:192.0.2.1".parse().unwrap()), ["b", "c", "d", "e"]);
        for number in 0..10_000_u32 {
            log.saw(IpAddr::from(number.to_be_bytes()), "x");
        }
        assert!(log.names.len() <= MAX_ADDRESSES && log.order.len() <= MAX_ADDRESSES);
        assert!(log.names_of(address).is_empty());
    }
}
