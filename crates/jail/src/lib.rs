//! The shim and its jail: namespaces, identities, seccomp
