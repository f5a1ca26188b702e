//! The keys of a map that is being read.
//!
//! Purpose: whether a key is there already, in one step also in a map of a hundred thousand. Owner: the builder
//! of the tree. Invariant: it knows every entry that was noted; no key is copied.

use std::{collections::HashMap, hash::BuildHasher, hash::RandomState};

use crate::Entry;

/// Up to so many entries a look at each is quicker.
const FEW: usize = 12;

#[derive(Default)]
pub(crate) struct Keys {
    /// By hash the first entry that has it; empty as long as there are few.
    index: HashMap<u64, usize>,
    state: RandomState,
}

impl Keys {
    /// The entry of a key.
    pub(crate) fn find<'a>(&self, entries: &'a [Entry], key: &str) -> Option<&'a Entry> {
        if self.index.is_empty() {
            return entries.iter().find(|entry| entry.key.value == key);
        }
        let at = *self.index.get(&self.state.hash_one(key))?;
        match entries.get(at) {
            Some(entry) if entry.key.value == key => Some(entry),
            // two keys of one hash: next to never
            _ => entries.iter().find(|entry| entry.key.value == key),
        }
    }

    /// Notes the entry that was added last.
    pub(crate) fn note(&mut self, entries: &[Entry]) {
        if entries.len() <= FEW {
            return;
        }
        let first = if self.index.is_empty() { 0 } else { entries.len() - 1 };
        for (at, entry) in entries.iter().enumerate().skip(first) {
            self.index.entry(self.state.hash_one(&entry.key.value)).or_insert(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Node, Scalar, Span, Spanned, Style};

    #[test]
    fn few_and_many() {
        let (mut keys, mut entries) = (Keys::default(), Vec::new());
        for at in 0..1000 {
            let name = format!("k{at}");
            assert!(keys.find(&entries, &name).is_none(), "{name}");
            let value =
                Node { span: Span::default(), kind: Kind::Scalar(Scalar::yaml(String::new(), Style::Plain)) };
            entries.push(Entry { key: Spanned::new(name, Span::new(at, at)), value });
            keys.note(&entries);
            let found = keys.find(&entries, &format!("k{}", at / 2)).map(|entry| entry.key.span.start);
            assert_eq!(found, Some(at / 2));
        }
    }
}
