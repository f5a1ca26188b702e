//! Leases of VMs, their journal, and the agent's client
