//! Helpers of the tests: the fake backend, a real Gitea.
//!
//! Purpose: what several test harnesses share. Owner: the harnesses; nothing that is released imports it.

pub mod fake;
pub mod gitea;
