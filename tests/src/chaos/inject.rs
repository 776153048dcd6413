//! Does the harm of one fault and mends it. Must never leave anything broken when it returns, and never say that a fault happened
//! that did not.

mod clients;
mod order;
mod processes;
mod store;

use std::time::Duration;

use super::deck::{Harm, Kind};
use super::world::World;
use crate::dice::Dice;

/// How long harm lasts that could last for ever.
pub(super) const LASTS: Duration = Duration::from_millis(3_000);

/// What came of a try.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// Whether it happened.
    pub(super) fired: bool,
    /// What there is to say.
    pub(super) note: String,
}

/// It happened.
pub(super) fn fired(note: impl Into<String>) -> Told {
    Told { fired: true, note: note.into() }
}

/// It did not.
pub(super) fn missed(note: impl Into<String>) -> Told {
    Told { fired: false, note: note.into() }
}

/// Injects a fault, if it is a gateway's at these gateways.
pub(super) async fn inject(world: &World, kind: &Kind, gateways: &[usize], mut dice: Dice) -> Told {
    let dice = &mut dice;
    let gateway = gateways.first().copied().unwrap_or_default();
    let told = match kind.harm {
        Harm::Kill(who) => processes::kill(world, kind, who, gateway, dice).await,
        Harm::Point(who, point) => processes::point(world, kind, who, point, gateway, dice).await,
        Harm::Pause(who, time) => processes::pause(world, kind, who, gateway, Duration::from_millis(time)).await,
        Harm::Zombie => processes::zombie(world, kind, gateway, dice).await,
        Harm::Stop(who) => processes::stop(world, kind, who, gateway).await,
        Harm::Clock(who, by) => processes::clock(world, kind, who, gateway, by).await,
        Harm::Descriptors => processes::descriptors(world, kind, gateway).await,
        Harm::CacheBits => processes::cache_bits(world, kind, gateway).await,
        Harm::CacheFull => processes::cache_full(world, kind, gateway).await,
        Harm::Rival => processes::rival(world, kind).await,
        Harm::Zone => processes::zone(world, kind, gateways).await,
        Harm::Disconnects => clients::disconnects(world, kind, dice).await,
        Harm::Duplicates => clients::duplicates(world, kind, dice).await,
        Harm::SlowClients => clients::slow(world, kind).await,
        Harm::Rpc(network) => order::rpc(world, kind, network, dice).await,
        Harm::Postgres(network) => order::cut_off(world, kind, network, dice).await,
        Harm::LostReply { silent } => order::lost_reply(world, kind, silent, dice).await,
        Harm::Restart(how) => order::restart(world, kind, how).await,
        Harm::Failover => order::failover(world, kind, dice).await,
        Harm::Refuse(refusal) => order::refuse(world, kind, refusal).await,
        Harm::Store(lie) => store::of_gateways(world, kind, lie).await,
        Harm::CompactorStore(lie) => store::of_compactors(world, kind, lie).await,
        Harm::StoreServer { paused } => store::server(world, kind, paused).await,
        Harm::StaleList => store::stale(world, kind).await,
    };
    if told.fired {
        world.mended(kind, &told.note);
    }
    told
}
