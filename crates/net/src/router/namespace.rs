//! One VM's namespace, as whoever has it sees it.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use super::client::refused as refused_by;
use super::{
    Limits, lock,
    make::shape,
    running::{Dropped, Shared, installed},
};
use crate::{
    Destinations, Error, Policy, Ports, Result, Target,
    helper::protocol::{Answer, Ask, Id, Place, Tool},
    ruleset::{gate, guest, host, refused},
};

/// One VM's network: its tap, and the rules behind it. Its drop removes it.
#[derive(Debug)]
pub struct Namespace {
    shared: Arc<Shared>,
    id: Id,
    link: u32,
    tap: Arc<OwnedFd>,
    /// The policy behind the gate, until the first is applied.
    prepared: Mutex<Option<Policy>>,
    /// The policy's number.
    number: AtomicU32,
    /// Addresses of names that are open, and until when at most.
    opened: Mutex<HashMap<(IpAddr, Ports), Instant>>,
}

/// The longest time for which an address of a name is opened, in seconds.
const LONGEST: u64 = 86_400;
/// How much longer than it must an address of a name is open: whoever asks again meanwhile costs nothing.
const GRACE: u64 = 15;
/// For how long after its time an address of a name may still be there.
const SLACK: Duration = Duration::from_secs(2);

impl Drop for Namespace {
    fn drop(&mut self) {
        lock(&self.shared.living).remove(&self.id);
        let _ = self.shared.dropped.send(Dropped { id: self.id, link: self.link });
    }
}

impl Namespace {
    /// `policy`: what it is prepared for.
    pub(super) fn new(
        shared: Arc<Shared>,
        id: Id,
        link: u32,
        tap: Option<OwnedFd>,
        policy: Policy,
    ) -> Result<Self> {
        let tap = Arc::new(tap.ok_or(Error::Unreadable("the network's helper"))?);
        let (prepared, number) = (Mutex::new(Some(policy)), AtomicU32::new(guest::FIRST));
        Ok(Self { shared, id, link, tap, prepared, number, opened: Mutex::default() })
    }

    pub(super) fn id(&self) -> Id {
        self.id
    }

    pub(super) fn link(&self) -> u32 {
        self.link
    }

    /// What is set when it is made: the rules, and the policy behind the gate.
    pub(super) fn rules(&self, limits: &Limits, hosts: &BTreeSet<IpAddr>) -> String {
        let prepared = lock(&self.prepared).as_ref().map(guest::prepare).unwrap_or_default();
        guest::base(limits, hosts) + &prepared
    }

    pub(super) fn is_prepared_for(&self, policy: &Policy) -> bool {
        lock(&self.prepared).as_ref() == Some(policy)
    }

    /// Whether it leads nowhere any more, because the helper ended that held it.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.shared.client.is_gone()
    }

    /// The guest's card: a tap that takes frames with a header of virtio in front. Whoever has it can send as the guest,
    /// and do nothing else.
    #[must_use]
    pub fn tap(&self) -> &Arc<OwnedFd> {
        &self.tap
    }

    /// From now on this policy, in place of the one before. Connections that it does not allow end.
    ///
    /// # Errors
    /// The rules cannot be set; those before hold then.
    pub async fn apply(&self, policy: &Policy) -> Result<()> {
        const WHAT: &str = "set the policy of a network namespace";
        self.open_host(policy);
        lock(&self.opened).clear();
        let prepared = lock(&self.prepared).take();
        if prepared.as_ref() == Some(policy) {
            let open = Ask::Netfilter { namespace: self.id, batch: gate::open() };
            return match self.shared.client.ask(open).await?.0 {
                Ok(Answer::Set) => Ok(()),
                answer => Err(refused_by(WHAT, answer)),
            };
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(guest::FIRST + 1);
        let script = guest::apply(policy, number);
        let set = self.shared.client.nft(WHAT, Place::In(self.id), script);
        set.await.map(drop)
    }

    /// Limits of its own, in place of the router's. To be called before the policy is applied.
    ///
    /// # Errors
    /// They cannot be set.
    pub async fn limit(&self, limits: &Limits) -> Result<()> {
        const WHAT: &str = "limit what a VM uses of the network";
        let Shared { client, limits: common, .. } = &*self.shared;
        let at = Place::In(self.id);
        if limits.connections != common.connections {
            client.nft(WHAT, at, guest::limit(limits.connections)).await?;
        }
        let shaped = shape(limits);
        if !shaped.is_empty() && (limits.upload, limits.download) != (common.upload, common.download) {
            installed(client, &[(Tool::Tc, "iproute2")]).await?;
            client.run(WHAT, at, Tool::Tc, &["-batch", "-"], shaped, Vec::new()).await?;
        }
        Ok(())
    }

    /// Opens addresses that the policy's names have, each for a time.
    ///
    /// # Errors
    /// They cannot be set.
    pub async fn allow(&self, addresses: &[(IpAddr, Ports, Duration)]) -> Result<()> {
        let opened = self.to_open(addresses);
        if opened.is_empty() {
            return Ok(());
        }
        let script = guest::allow(&opened);
        let set = self.shared.client.nft("open addresses of names", Place::In(self.id), script).await;
        if set.is_err() {
            lock(&self.opened).clear();
        }
        set.map(drop)
    }

    /// What of it is not open yet, or not for so long.
    fn to_open(&self, addresses: &[(IpAddr, Ports, Duration)]) -> Vec<guest::Open> {
        let now = Instant::now();
        let mut opened = lock(&self.opened);
        opened.retain(|_, until| *until + SLACK > now);
        let mut all = Vec::new();
        for (address, ports, time) in addresses {
            let seconds =
                u64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).clamp(1, LONGEST);
            let before = opened.get(&(*address, *ports)).copied();
            if before.is_some_and(|before| before >= now + Duration::from_secs(seconds)) {
                continue;
            }
            let seconds = seconds + GRACE;
            opened.insert((*address, *ports), now + Duration::from_secs(seconds));
            let longer = if before.is_some() { guest::Longer::Yes } else { guest::Longer::No };
            all.push(guest::Open { address: *address, ports: *ports, seconds, longer });
        }
        all
    }

    /// What it was refused so far, by destination. Each kind of destination is counted up to a number, and that there are
    /// more is said.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn refused(&self) -> Result<Destinations> {
        let asked = self.shared.client.run(
            "read what was refused",
            Place::In(self.id),
            Tool::Nft,
            &refused::QUESTION,
            String::new(),
            Vec::new(),
        );
        refused::read(&asked.await?).ok_or(Error::Unreadable("nft"))
    }

    /// What the policy allows of the host's own addresses has to be let in there, too.
    fn open_host(&self, policy: &Policy) {
        let Some(rules) = &self.shared.host_rules else { return };
        let hosts: Arc<BTreeSet<IpAddr>> = lock(&self.shared.hosts).clone();
        for rule in &policy.allow {
            let Target::Net(net) = &rule.target else { continue };
            for address in hosts.iter().filter(|address| net.contains(*address)) {
                rules.write(vec![host::open(rules.table(), *address, rule.ports)]);
            }
        }
    }
}
