//! What the peers of a node may spawn on it, by their roles.

use std::sync::Arc;

use orcapack_cluster::address::Role;
use orcapack_cluster::codec;
use orcapack_cluster::remote::{Class, Kinds, PortSender, Received, Spawned};
use tokio::task::JoinSet;

use crate::outbox::Outbox;
use crate::run_host::RunHost;
use crate::wire::{Attach, FromNode, RUN, ToNode};

/// A way to the host for a coordinator.
pub fn runs(kinds: Kinds, host: Arc<RunHost>) -> Kinds {
    kinds.on(RUN, &[Role::Coordinator], move |spawned| {
        let host = host.clone();
        async move { serve_run(&host, spawned).await }
    })
}

async fn serve_run(host: &Arc<RunHost>, spawned: Spawned) -> Result<(), String> {
    let Spawned { peer, args, mut port, .. } = spawned;
    let attach: Attach = codec::decode(&args, Class::Control.bytes_max())
        .map_err(|error| format!("the arguments of `{RUN}`: {error}"))?;
    // Its end is the end of whatever is still to be sent.
    let mut pump = JoinSet::new();
    let outbox = Outbox::new(port.sender(), &mut pump);
    let link = match host.attach(peer.node, attach, outbox).await {
        Ok(link) => Link { host: host.clone(), number: link },
        Err(why) => return answer(port.sender(), &FromNode::Refused(why)).await,
    };
    loop {
        let received = tokio::select! {
            biased;
            received = port.receive() => received,
            _ = pump.join_next() => return Err("the coordinator takes no more messages".into()),
        };
        match received {
            Received::Message(class, bytes) => {
                let message: ToNode = codec::decode(&bytes, class.bytes_max())
                    .map_err(|error| format!("a message of the coordinator: {error}"))?;
                host.said(link.number, message);
            }
            Received::Down(_) => return Ok(()),
        }
    }
}

/// A link that the host knows of. However it ends, the host hears of it.
struct Link {
    host: Arc<RunHost>,
    number: u64,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.host.link_gone(self.number);
    }
}

/// Says the one thing that there is to say.
async fn answer(port: PortSender, message: &FromNode) -> Result<(), String> {
    let class = Class::Control;
    let bytes = codec::encode(message, class.bytes_max()).map_err(|error| error.to_string())?;
    port.send(class, bytes).await.map_err(|error| error.to_string())
}
