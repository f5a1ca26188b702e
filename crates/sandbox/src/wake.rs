//! From standing by to leased.
//!
//! Owner: the owner task of the lease, which destroys a VM that cannot go on.

use std::sync::Arc;

use tokio::time::Instant;
use wire::message::Body;

use crate::{
    Error, LeaseSpec, Origin, Result, boot, local::Inner, network, owner::Up, pool::Standby, ways::Ways,
};

/// Lets a VM that stood by go on, as the one of `spec`.
pub(crate) async fn wake(
    engine: &Arc<Inner>,
    mut standby: Standby,
    spec: &LeaseSpec,
    began: Instant,
) -> Result<Up> {
    let woken = async {
        let identity = boot::identity(&spec.bind)?;
        standby.booted.machine.unpark().await?;
        let connection = &standby.booted.opened.connection;
        let network = standby.held.network();
        let names = network::names(network, &spec.bind.network);
        connection.ways(Ways::of(&spec.bind, names)).await?;
        // the answer of the guest is not waited for, and no command of the lease comes before this
        let (binding, ()) =
            tokio::try_join!(connection.ask(Body::Bind(identity)), network::apply(network, &spec.bind))?;
        Ok::<_, Error>(binding)
    };
    match woken.await {
        Ok(binding) => {
            let Standby { held, mut booted, clock, admission, .. } = standby;
            booted.info.origin = Origin::Pooled;
            booted.info.boot = began.elapsed();
            Ok(Up { held, booted, clock, admission, binding: Some(binding) })
        }
        Err(error) => {
            standby.destroy(engine).await;
            Err(error)
        }
    }
}
