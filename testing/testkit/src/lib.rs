//! Helpers of the tests, with the fake backend and the test forge.
//!
//! Purpose: what several test harnesses share. Owner: the harnesses; nothing that is released imports it.

pub mod fake;
pub mod forge;
