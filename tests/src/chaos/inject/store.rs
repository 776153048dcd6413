//! Faults of the store: what it answers, and the server itself.

use std::time::Duration;

use lakefall_servers::HttpFaults;
use lakefall_servers::http_faults::{Fault, Rule};
use reqwest::Method;
use tokio::time::Instant;

use super::{LASTS, Told, fired, missed};
use crate::chaos::deck::{Kind, Lie};
use crate::chaos::world::{SWEEP, World};

/// How late a slow store is.
const LATE: Duration = Duration::from_millis(1_500);

/// Answers that are damaged are those about objects whose keys begin with `prefix`.
fn rule(lie: Lie, prefix: &str) -> (Fault, Rule) {
    let fault = match lie {
        Lie::SlowDown => Fault::SlowDown,
        Lie::InternalError => Fault::InternalError,
        Lie::ResetBefore => Fault::ResetBefore,
        Lie::CutUpload => Fault::CutUpload(500),
        Lie::ErrorAfter => Fault::ErrorAfter,
        Lie::ResetAfter => Fault::ResetAfter,
        Lie::Conflict => Fault::Conflict,
        Lie::PreconditionFailed => Fault::PreconditionFailed,
        Lie::FlipBit => Fault::FlipBit,
        Lie::Truncate => Fault::Truncate(5_000),
        Lie::CutDownload => Fault::CutDownload(5_000),
        Lie::WrongBytes => Fault::WrongBytes,
        Lie::WrongRange => Fault::WrongRange,
        Lie::NoSuchKey => Fault::NoSuchKey,
        Lie::AccessDenied => Fault::AccessDenied,
        Lie::ExpiredToken => Fault::ExpiredToken,
        Lie::DelayBefore => Fault::DelayBefore(LATE),
        Lie::DelayAfter => Fault::DelayAfter(LATE),
    };
    let rule = Rule::new(fault);
    let rule = match lie {
        Lie::SlowDown | Lie::AccessDenied | Lie::ExpiredToken => rule,
        Lie::InternalError | Lie::ResetBefore | Lie::DelayBefore | Lie::DelayAfter => rule.probability(0.4),
        Lie::CutUpload | Lie::ErrorAfter | Lie::ResetAfter | Lie::Conflict | Lie::PreconditionFailed => {
            rule.method(Method::PUT).probability(0.4)
        }
        Lie::FlipBit | Lie::Truncate | Lie::CutDownload | Lie::WrongBytes | Lie::WrongRange => {
            rule.method(Method::GET).prefix(prefix).probability(0.4)
        }
        Lie::NoSuchKey => rule.method(Method::GET).prefix(prefix),
    };
    (fault, rule)
}

/// As gateways see it.
pub(super) async fn of_gateways(world: &World, kind: &Kind, lie: Lie) -> Told {
    harm(world, kind, world.cluster.store_proxy(), rule(lie, "lake/")).await
}

/// As compactors see it. The collector's own mark is left alone: one that cannot be read halts it, which is another story.
pub(super) async fn of_compactors(world: &World, kind: &Kind, lie: Lie) -> Told {
    harm(world, kind, &world.back, rule(lie, "lake/seg")).await
}

async fn harm(world: &World, kind: &Kind, proxy: &HttpFaults, (fault, rule): (Fault, Rule)) -> Told {
    proxy.forget();
    let id = proxy.add(rule);
    let happened = || proxy.count_where(|request| request.faults.contains(&fault));
    let began = Instant::now();
    // A compactor asks in bursts.
    while happened() == 0 && began.elapsed() < LASTS * 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if happened() > 0 {
        world.strike(kind);
        tokio::time::sleep(LASTS).await;
    }
    proxy.remove(id);
    let times = happened();
    if times > 0 { fired(format!("{times} times")) } else { missed("nobody asked the store") }
}

pub(super) async fn server(world: &World, kind: &Kind, paused: bool) -> Told {
    let s3 = &world.cluster.s3;
    world.strike(kind);
    if paused {
        s3.pause().await;
        tokio::time::sleep(LASTS).await;
        s3.resume().await;
    } else {
        s3.restart().await;
    }
    fired("")
}

/// Two searches for orphans: the second is told what the first was.
pub(super) async fn stale(world: &World, kind: &Kind) -> Told {
    let proxy = &world.back;
    proxy.forget();
    let id = proxy.add(Rule::new(Fault::StaleList).method(Method::GET));
    let happened = || proxy.count_where(|request| request.faults.contains(&Fault::StaleList));
    let began = Instant::now();
    // A search that failed is taken up again half a minute later.
    while happened() == 0 && began.elapsed() < SWEEP.1 * 5 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if happened() > 0 {
        world.strike(kind);
        tokio::time::sleep(LASTS).await;
    }
    proxy.remove(id);
    let times = happened();
    if times > 0 { fired(format!("{times} listings")) } else { missed("nothing was listed twice") }
}
