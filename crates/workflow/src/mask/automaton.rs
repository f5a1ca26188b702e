//! Finds all values in one pass over a text (Aho and Corasick), and says how much of the text's end may
//! still become one.
//!
//! Purpose: the second question is why this is written here: automata of libraries do not tell the depth of
//! a state, and without it a stream would have to keep back as much as the longest value is long.
//! Owner: [`super::Masker`], one for each tier of values.
//!
//! Invariants: a state stands for the longest suffix of the text that begins a value. Node 0 is the root.
//! Time is linear in the text whatever the values are; memory is about 25 bytes per byte of the values.

use std::collections::VecDeque;

/// A state: an index into the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State(u32);

impl State {
    /// No value has begun.
    pub(super) const ROOT: Self = Self(0);
}

/// One node of the trie of all values.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// Longest proper suffix that is a node as well.
    fail: u32,
    /// Bytes from the root: at most 1 MiB.
    depth: u32,
    /// Length of the longest value that ends here, 0 if none does.
    ends: u32,
    /// Depth of the longest suffix that has a continuation: bytes that may still become a value.
    unfinished: u32,
    /// Its children are the nodes `first..first + count`, ascending by byte.
    first: u32,
    count: u16,
}

/// The automaton of a set of values.
#[derive(Clone)]
pub(super) struct Automaton {
    nodes: Vec<Node>,
    /// The byte that leads to each node; of the root, none.
    bytes: Vec<u8>,
    root: Box<[u32; 256]>,
}

impl Automaton {
    /// Builds it of ascending, distinct, non-empty values of fewer than 2^32 bytes together.
    pub(super) fn new<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let values: Vec<&[u8]> = values.collect();
        let mut automaton = Self { nodes: vec![Node::at(0)], bytes: vec![0], root: Box::new([0; 256]) };
        automaton.grow(&values);
        automaton.link();
        automaton
    }

    /// Makes the trie level by level: all children of a node then stand beside each other.
    fn grow(&mut self, values: &[&[u8]]) {
        // (node, the range of values that begin with its bytes)
        let mut queue = VecDeque::from([(0_usize, 0..values.len())]);
        while let Some((node, mut range)) = queue.pop_front() {
            let depth = self.nodes[node].depth;
            let at = depth as usize;
            if range.start < range.end && values[range.start].len() == at && at > 0 {
                self.nodes[node].ends = depth;
                range.start += 1;
            }
            self.nodes[node].first = index(self.nodes.len());
            let mut count = 0;
            while range.start < range.end {
                let byte = values[range.start][at];
                let same = values[range.clone()].partition_point(|value| value[at] == byte);
                let child = self.nodes.len();
                self.nodes.push(Node::at(depth + 1));
                self.bytes.push(byte);
                queue.push_back((child, range.start..range.start + same));
                range.start += same;
                count += 1;
            }
            self.nodes[node].count = count;
        }
    }

    /// Sets what a node knows of its suffixes. Nodes stand in order of depth, so those are already done.
    fn link(&mut self) {
        for child in self.nodes[0].children() {
            self.root[usize::from(self.bytes[child])] = index(child);
        }
        for node in 0..self.nodes.len() {
            for child in self.nodes[node].children() {
                let byte = self.bytes[child];
                let fail =
                    if node == 0 { State::ROOT } else { self.next(State(self.nodes[node].fail), byte) };
                let suffix = self.nodes[fail.0 as usize];
                let child = &mut self.nodes[child];
                child.fail = fail.0;
                child.ends = child.ends.max(suffix.ends);
                // its own children are not linked yet, but they are counted
                child.unfinished = if child.count > 0 { child.depth } else { suffix.unfinished };
            }
        }
    }

    /// The state after one more byte.
    pub(super) fn next(&self, State(mut node): State, byte: u8) -> State {
        while node != 0 {
            let known = &self.nodes[node as usize];
            let children = &self.bytes[known.children()];
            let found = match children {
                [] => None,
                [only] => (*only == byte).then_some(0),
                few if few.len() <= 8 => few.iter().position(|known| *known == byte),
                many => many.binary_search(&byte).ok(),
            };
            if let Some(at) = found {
                return State(known.first + index(at));
            }
            node = known.fail;
        }
        State(self.root[usize::from(byte)])
    }

    /// How many nodes it has.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.nodes.len()
    }

    /// Whether a value begins with this byte.
    pub(super) fn begins(&self, byte: u8) -> bool {
        self.root[usize::from(byte)] != 0
    }

    /// Length of the longest value that ends with the last byte, 0 if none does.
    pub(super) fn longest_match(&self, state: State) -> usize {
        self.nodes[state.0 as usize].ends as usize
    }

    /// How many bytes of the text's end may be the beginning of a longer value.
    pub(super) fn unfinished(&self, state: State) -> usize {
        self.nodes[state.0 as usize].unfinished as usize
    }
}

impl Node {
    fn at(depth: u32) -> Self {
        Self { fail: 0, depth, ends: 0, unfinished: 0, first: 0, count: 0 }
    }

    fn children(&self) -> std::ops::Range<usize> {
        self.first as usize..self.first as usize + usize::from(self.count)
    }
}

/// The masker's caps keep every index far below 2^32.
fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
