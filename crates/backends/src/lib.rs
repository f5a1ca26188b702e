//! QEMU and the other machines behind the contract
