//! The host-guest protocol, sans-I/O
