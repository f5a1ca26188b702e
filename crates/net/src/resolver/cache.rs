//! What one VM was told, for as long as it holds.
//!
//! Invariants: at most [`MAX_ENTRIES`] answers of [`MAX_WEIGHT`] bytes in all, the oldest goes first; per VM, so that
//! none sees by the time of an answer what another asked.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tokio::time::Instant;

use super::message::{Code, Note, Record, Said, weight};

const MAX_ENTRIES: usize = 1024;
const MAX_WEIGHT: usize = 1024 * 1024;
/// Of one answer that is kept.
const MAX_ONE: usize = 64 * 1024;

/// A name and a type.
pub(super) type Key = (String, u16);

/// An answer, whoever asks.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) code: Code,
    pub(super) records: Vec<Record>,
    pub(super) soa: Option<Record>,
    pub(super) note: Option<Note>,
    /// Seconds from `since` on.
    pub(super) ttl: u32,
    pub(super) since: Instant,
}

impl Outcome {
    /// Nothing but a code.
    pub(super) fn bare(code: Code, note: Note, ttl: u32) -> Self {
        Self { code, records: Vec::new(), soa: None, note: Some(note), ttl, since: Instant::now() }
    }

    /// Its rest at this time.
    pub(super) fn said(&self, now: Instant) -> Said<'_> {
        let gone = u32::try_from(now.saturating_duration_since(self.since).as_secs()).unwrap_or(u32::MAX);
        Said {
            code: self.code,
            records: &self.records,
            soa: self.soa.as_ref(),
            note: self.note,
            ttl: self.ttl.saturating_sub(gone),
        }
    }

    fn holds(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since).as_secs() < u64::from(self.ttl)
    }

    fn weight(&self) -> usize {
        512 + weight(&self.records) + self.soa.as_ref().map_or(0, |soa| weight(std::slice::from_ref(soa)))
    }
}

/// The answers.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Key, (u64, Arc<Outcome>)>,
    /// Oldest first, with the number of the entry: a key that was taken again stands here twice.
    order: VecDeque<(u64, Key, usize)>,
    weight: usize,
    number: u64,
}

impl Cache {
    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<Arc<Outcome>> {
        self.entries.get(key).map(|(_, outcome)| outcome).filter(|outcome| outcome.holds(now)).cloned()
    }

    pub(super) fn put(&mut self, key: Key, outcome: Arc<Outcome>) {
        let weight = outcome.weight();
        if outcome.ttl == 0 || weight > MAX_ONE {
            self.entries.remove(&key);
            return;
        }
        self.number += 1;
        self.entries.insert(key.clone(), (self.number, outcome));
        self.order.push_back((self.number, key, weight));
        self.weight += weight;
        while self.order.len() > MAX_ENTRIES || self.weight > MAX_WEIGHT {
            let Some((number, key, weight)) = self.order.pop_front() else { break };
            self.weight -= weight;
            if self.entries.get(&key).is_some_and(|(current, _)| *current == number) {
                self.entries.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn outcome(ttl: u32) -> Arc<Outcome> {
        Arc::new(Outcome::bare(Code::NxDomain, Note::Blocked, ttl))
    }

    #[test]
    fn an_answer_is_held_for_its_time_and_ages() {
        let mut cache = Cache::default();
        let key = ("a.example".to_owned(), 1);
        let answer = outcome(10);
        cache.put(key.clone(), answer.clone());
        let later = |seconds| answer.since + Duration::from_secs(seconds);
        assert_eq!(cache.get(&key, later(3)).unwrap().said(later(3)).ttl, 7);
        assert!(cache.get(&key, later(9)).is_some() && cache.get(&key, later(10)).is_none());
        assert!(cache.get(&("a.example".to_owned(), 28), later(0)).is_none());
    }

    #[test]
    fn the_oldest_go_and_nothing_grows() {
        let mut cache = Cache::default();
        for number in 0..10 * MAX_ENTRIES {
            cache.put((number.to_string(), 1), outcome(60));
            cache.put(("same".to_owned(), 1), outcome(60));
        }
        assert!(cache.entries.len() <= MAX_ENTRIES && cache.order.len() <= MAX_ENTRIES);
        assert!(cache.weight <= MAX_WEIGHT);
        let now = Instant::now();
        assert!(cache.get(&("same".to_owned(), 1), now).is_some(), "the newest is gone");
        assert!(cache.get(&("0".to_owned(), 1), now).is_none(), "the oldest is there");
    }
}
