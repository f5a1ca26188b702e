//! A client's lease, and its handle of a VM that it has no lease of.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vm::SlotId;

use super::{Service, operation::Serve};
use crate::{
    Error, Gone, Lease, Result, Sandbox,
    remote::{
        forward::Offers,
        message::{Order, Say},
    },
    ways::Offer,
};

pub(super) struct Leasing<'a> {
    pub(super) shared: &'a Arc<Service>,
}

impl Leasing<'_> {
    /// Waits for a lease, which `cancel` gives up, and serves it.
    pub(super) async fn lease(
        &self,
        lease: impl Future<Output = Result<Lease>>,
        cancel: &CancellationToken,
        offered: mpsc::Receiver<Offer>,
        serve: Serve<'_>,
    ) -> Result<()> {
        let Serve { reader, writer } = serve;
        let mut waiting = self.shared.engine.waiting();
        waiting.mark_changed();
        tokio::pin!(lease);
        let mut here = true;
        let mut told = None;
        let lease = loop {
            tokio::select! {
                biased;
                lease = &mut lease => break lease?,
                order = reader.message::<Order>(), if here => {
                    // an order to destroy, a client that went, or nonsense: it does not want it
                    here = matches!(order, Ok(Some(_)));
                    cancel.cancel();
                }
                Ok(()) = waiting.changed(), if here => {
                    let why = waiting.borrow_and_update().clone();
                    if why != told {
                        told.clone_from(&why);
                        writer.message(&Say::Waiting(why)).await?;
                    }
                }
            }
        };
        if cancel.is_cancelled() {
            lease.destroy().await?;
            return writer.message(&Say::Ended).await;
        }
        self.leased(lease, offered, Serve { reader, writer }).await
    }

    /// Takes a VM over that is kept.
    pub(super) async fn adopt(&self, id: SlotId, mut serve: Serve<'_>) -> Result<()> {
        let lease = serve.wanted(self.shared.engine.adopt(id)).await?;
        // what the VM's forwards lead to this process connects, as far as it can
        let (_, offered) = mpsc::channel(1);
        self.leased(lease, offered, serve).await
    }

    /// Serves a lease until its end; when the client goes or the engine ends, it ends, or is left where its VM is to
    /// be kept.
    async fn leased(&self, lease: Lease, mut offered: mpsc::Receiver<Offer>, serve: Serve<'_>) -> Result<()> {
        let Serve { reader, writer } = serve;
        let given_up = self.shared.leases.token();
        let sandbox = lease.sandbox();
        writer.message(&Say::Ready { id: sandbox.id(), info: sandbox.info().clone() }).await?;
        let mut gone = sandbox.gone();
        gone.mark_changed();
        let mut offers = Offers::new(&self.shared.asked);
        let order = loop {
            tokio::select! {
                biased;
                order = reader.message::<Order>() => break order?,
                Ok(()) = gone.changed() => {
                    let why = gone.borrow_and_update().clone();
                    if let Some(why) = why {
                        writer.message(&Say::Gone(why)).await?;
                    }
                }
                Some(offer) = offered.recv() => {
                    let said = offers.put(offer);
                    writer.message(&said).await?;
                }
                () = offers.expire() => {}
                () = self.shared.ending.cancelled() => {
                    if !self.shared.engine.is_kept(sandbox.id()) {
                        break Some(Order::Destroy);
                    }
                    // to the next engine, and the client hears so
                    lease.leave().await?;
                    drop(given_up);
                    let why = gone.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
                    writer.message(&Say::Gone(why.unwrap_or(Gone::Left))).await?;
                    return writer.message(&Say::Ended).await;
                }
            }
        };
        drop((offered, offers));
        match order {
            Some(Order::Leave) => {
                lease.leave().await?;
                writer.message(&Say::Left).await?;
                self.attached(&sandbox, Serve { reader, writer }).await
            }
            Some(Order::Destroy) => {
                let destroyed = lease.destroy().await;
                let why = gone.borrow_and_update().clone();
                if let Some(why) = why {
                    writer.message(&Say::Gone(why)).await?;
                }
                destroyed?;
                writer.message(&Say::Ended).await
            }
            None => {
                // as where an owner dies: one that is to be kept waits for the next
                let slot = sandbox.id();
                match lease.leave().await {
                    Ok(()) => tracing::info!(%slot, "a client went; its VM is kept"),
                    Err(Error::NotToKeep) => tracing::info!(%slot, "a client went; its VM ends"),
                    Err(error) => tracing::debug!(%slot, %error, "a client went, and its VM before it"),
                }
                Ok(())
            }
        }
    }

    /// A handle.
    pub(super) async fn attach(&self, id: SlotId, mut serve: Serve<'_>) -> Result<()> {
        let sandbox = serve.wanted(self.shared.engine.attach(id)).await?;
        let Serve { reader, writer } = serve;
        writer.message(&Say::Ready { id: sandbox.id(), info: sandbox.info().clone() }).await?;
        self.attached(&sandbox, Serve { reader, writer }).await
    }

    async fn attached(&self, sandbox: &Sandbox, serve: Serve<'_>) -> Result<()> {
        let Serve { reader, writer } = serve;
        let mut gone = sandbox.gone();
        gone.mark_changed();
        loop {
            tokio::select! {
                biased;
                order = reader.message::<Order>() => match order? {
                    // it was left, or never leased: what was said before that was heard has no meaning
                    Some(_) => {}
                    None => return Ok(()),
                },
                Ok(()) = gone.changed() => {
                    let why = gone.borrow_and_update().clone();
                    if let Some(why) = why {
                        writer.message(&Say::Gone(why.clone())).await?;
                        return Err(Error::Gone(why));
                    }
                }
            }
        }
    }
}
