//! Helpers of the tests, with the fake backend.
//!
//! Purpose: what several test harnesses share. Owner: the harnesses; nothing that is released imports it.

pub mod fake;
