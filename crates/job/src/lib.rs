//! A job: its steps, its files, its events; it knows no server.

pub mod event;

