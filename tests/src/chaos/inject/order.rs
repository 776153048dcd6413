//! Faults of what keeps order: the way to the owner, the owner's way to Postgres, Postgres itself.

use std::time::Duration;

use lakefall_servers::Proxy;
use lakefall_servers::proxy::{Direction, Loss};
use tokio::time::Instant;

use super::{LASTS, Told, fired, missed};
use crate::chaos::deck::{Kind, Network, Refusal, Stop};
use crate::chaos::world::World;
use crate::dice::Dice;

/// Within which a busy connection carries what is waited for.
const FIRES: Duration = Duration::from_secs(6);
const LOOK: Duration = Duration::from_millis(5);
/// Longest part of an answer that comes before a cut.
const CUT: u64 = 20_000;
const NOBODY: &str = "nobody owns the shard at the moment";
const GONE: &str = "Postgres does not answer at the moment";

pub(super) async fn rpc(world: &World, kind: &Kind, network: Network, dice: &mut Dice) -> Told {
    let Some(owner) = world.owner().await else { return missed(NOBODY) };
    harm(world, kind, &[&world.cluster.rpc_proxies[owner]], network, dice).await
}

pub(super) async fn cut_off(world: &World, kind: &Kind, network: Network, dice: &mut Dice) -> Told {
    let Some(owner) = world.owner().await else { return missed(NOBODY) };
    let all: Vec<&Proxy> = world.cluster.postgres_proxies.iter().collect();
    // A slow Postgres is slow for everybody.
    let harmed = if network == Network::Slow { &all[..] } else { &all[owner..=owner] };
    harm(world, kind, harmed, network, dice).await
}

async fn harm(world: &World, kind: &Kind, proxies: &[&Proxy], network: Network, dice: &mut Dice) -> Told {
    match network {
        Network::Reset => {
            proxies.iter().for_each(|proxy| proxy.reset_all());
            world.strike(kind);
            return fired("");
        }
        Network::Cut => {
            let (proxy, bytes) = (proxies[0], dice.between(1, CUT));
            let before = proxy.counts().cuts;
            proxy.cut_after(Direction::ToClient, bytes);
            let cut = until(FIRES, || proxy.counts().cuts > before).await;
            if !cut {
                proxy.heal().await;
                return missed("not so many bytes went through");
            }
            world.strike(kind);
            return fired(format!("after {bytes} bytes"));
        }
        Network::SilentToServer => proxies.iter().for_each(|proxy| proxy.blackhole(Direction::ToServer, true)),
        Network::SilentToClient => proxies.iter().for_each(|proxy| proxy.blackhole(Direction::ToClient, true)),
        Network::Slow => {
            let (least, jitter) = (Duration::from_millis(200), Duration::from_millis(300));
            proxies.iter().for_each(|proxy| proxy.latency(Direction::ToClient, least, jitter));
        }
    }
    world.strike(kind);
    tokio::time::sleep(LASTS).await;
    for proxy in proxies {
        proxy.heal().await;
    }
    fired(format!("for {LASTS:?}"))
}

async fn until(within: Duration, mut is: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !is() {
        if began.elapsed() > within {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

pub(super) async fn lost_reply(world: &World, kind: &Kind, silent: bool, dice: &mut Dice) -> Told {
    let Some(owner) = world.owner().await else { return missed(NOBODY) };
    let proxy = &world.cluster.postgres_proxies[owner];
    let (before, nth) = (proxy.counts().replies_lost, dice.between(1, 10));
    // An append answers one row; hardly anything else of a busy owner does.
    proxy.lose_reply("SELECT 1", nth, if silent { Loss::Silence } else { Loss::Reset });
    let lost = until(FIRES, || proxy.counts().replies_lost > before).await;
    if lost {
        world.strike(kind);
    }
    proxy.heal().await;
    if lost { fired(format!("the {nth}. from there")) } else { missed("not so many replies came") }
}

pub(super) async fn restart(world: &World, kind: &Kind, how: Stop) -> Told {
    let postgres = world.postgres();
    world.strike(kind);
    let began = Instant::now();
    match how {
        Stop::Immediate => postgres.restart_immediate().await,
        Stop::Fast => postgres.restart_fast().await,
        Stop::Kill => {
            postgres.kill_nine().await;
            postgres.start_again().await;
        }
        Stop::Pause => {
            postgres.pause().await;
            tokio::time::sleep(LASTS).await;
            postgres.resume().await;
        }
    }
    fired(format!("took connections again after {:.1?}", began.elapsed()))
}

pub(super) async fn failover(world: &World, kind: &Kind, dice: &mut Dice) -> Told {
    let Some(owner) = world.owner().await else { return missed(NOBODY) };
    let Some(standby) = world.standby.lock().await.take() else { return missed("there is no standby") };
    let proxies = &world.cluster.postgres_proxies;
    world.strike(kind);
    let began = Instant::now();
    standby.promote().await;
    let promoted = began.elapsed();
    // One replica is sent to the new primary, the owner stays with the old one for a while, which acknowledges nothing more: it
    // waits for a standby that is gone.
    proxies[1 - owner].retarget(standby.address());
    proxies[1 - owner].reset_all();
    let old = world.replace_postgres(standby);
    tokio::time::sleep(Duration::from_millis(dice.between(0, 2_500))).await;
    let postgres = world.postgres();
    proxies[owner].retarget(postgres.address());
    proxies[owner].reset_all();
    old.stop_immediate().await;
    // What an operator does then: another standby, and a word to the collector, which halts at another timeline.
    postgres.set("synchronous_standby_names", "").await;
    let next = postgres.standby().await;
    postgres.set("synchronous_standby_names", "*").await;
    *world.standby.lock().await = Some(next);
    let (accepted, told) = world.cluster.run_over(&postgres, &["recover", "--accept", "--discard"]).await;
    if !accepted {
        world.found(format!("`lakefall recover` was refused after a failover to a synchronous standby: {told}"));
    }
    fired(format!("promoted after {promoted:.1?}"))
}

pub(super) async fn refuse(world: &World, kind: &Kind, refusal: Refusal) -> Told {
    const END: &str = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'lakefall'";
    let (harm, mend) = match refusal {
        Refusal::ReadOnly => (
            format!("alter role lakefall set default_transaction_read_only = on; {END}"),
            Some("alter role lakefall reset default_transaction_read_only"),
        ),
        Refusal::Connections => (format!("alter role lakefall connection limit 0; {END}"), Some("alter role lakefall connection limit -1")),
        Refusal::Terminated => (END.to_owned(), None),
        // Longer than the lock timeout of an append.
        Refusal::Locks => {
            let hold = "begin; select * from shards for update; select * from leases for update; select pg_sleep(2.5); commit";
            let postgres = world.postgres();
            world.strike(kind);
            let held = postgres.try_sql(&world.cluster.database, hold).await;
            return fired(if held.is_some() { "for 2.5 s" } else { "and was thrown out" });
        }
    };
    if world.try_sql(&harm).await.is_none() {
        return missed(GONE);
    }
    world.strike(kind);
    let Some(mend) = mend else { return fired("") };
    tokio::time::sleep(LASTS).await;
    let began = Instant::now();
    while world.try_sql(mend).await.is_none() {
        assert!(began.elapsed() < FIRES * 5, "Postgres does not take back what it was told");
        tokio::time::sleep(LOOK).await;
    }
    fired(format!("for {LASTS:?}"))
}
