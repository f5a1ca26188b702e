//! Helpers of the tests: the fake backend, a forge with Forgejo's rules, a real Gitea, an authority, a bed for
//! networks.
//!
//! Purpose: what several test harnesses share. Owner: the harnesses; nothing that is released imports it.

pub mod authority;
pub mod bed;
pub mod fake;
pub mod forge;
pub mod gitea;
