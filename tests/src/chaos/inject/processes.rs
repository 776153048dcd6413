//! Faults of processes: killed, stopped, paused, with a wrong clock, without descriptors, over a bad cache disk.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use futures::future::join_all;
use rustix::process::{Resource, Rlimit, prlimit};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::{LASTS, Told, fired, missed};
use crate::chaos::deck::{Kind, Who};
use crate::chaos::world::{SWEEP, World, cache_of, failpoints};
use crate::clocks;
use crate::dice::Dice;
use crate::disk::flip_bits;
use crate::process::Process;

/// Within which a busy process passes a point as often as is asked for.
const FIRES: Duration = Duration::from_secs(10);
/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(5);
/// How long a dead process stays dead, at most, in milliseconds.
const DEAD_MS: u64 = 800;

async fn process(world: &World, who: Who, gateway: usize) -> Option<&Mutex<Process>> {
    match who {
        Who::Gateway => Some(&world.gateways[gateway]),
        Who::Owner => Some(&world.replicas[world.owner().await?]),
        Who::Other => Some(&world.replicas[1 - world.owner().await?]),
        Who::Compactor => Some(&world.compactor),
    }
}

async fn locked(world: &World, who: Who, gateway: usize) -> Option<MutexGuard<'_, Process>> {
    Some(process(world, who, gateway).await?.lock().await)
}

const NOBODY: &str = "nobody owns the shard at the moment";

pub(super) async fn kill(world: &World, kind: &Kind, who: Who, gateway: usize, dice: &mut Dice) -> Told {
    let Some(mut process) = locked(world, who, gateway).await else { return missed(NOBODY) };
    process.kill_nine();
    world.strike(kind);
    tokio::time::sleep(Duration::from_millis(dice.between(0, DEAD_MS))).await;
    world.revive(&mut process).await;
    fired(process.name())
}

pub(super) async fn point(world: &World, kind: &Kind, who: Who, point: &str, gateway: usize, dice: &mut Dice) -> Told {
    let Some(mut process) = locked(world, who, gateway).await else { return missed(NOBODY) };
    let file = failpoints(&world.cluster, &process);
    let most = match &point[..1] {
        "k" => 20,
        "l" => 5,
        _ => 2,
    };
    let nth = dice.between(1, most);
    std::fs::write(&file, format!("{point}=kill:{nth}")).unwrap();
    let status = died(&mut process, FIRES).await;
    std::fs::write(&file, "").unwrap();
    // It may have been a moment before its end.
    let Some(status) = (if status.is_some() { status } else { died(&mut process, LOOK * 50).await }) else {
        return missed(format!("{} did not pass {point} {nth} times", process.name()));
    };
    world.strike(kind);
    if status.signal() != Some(9) {
        world.found(format!("{} ended with {status} instead of dying at {point}:\n{}", process.name(), process.log()));
    }
    tokio::time::sleep(Duration::from_millis(dice.between(0, DEAD_MS))).await;
    world.revive(&mut process).await;
    fired(format!("{} at pass {nth}", process.name()))
}

async fn died(process: &mut Process, within: Duration) -> Option<std::process::ExitStatus> {
    let began = Instant::now();
    while began.elapsed() < within {
        if let Some(status) = process.ended() {
            return Some(status);
        }
        tokio::time::sleep(LOOK).await;
    }
    None
}

pub(super) async fn pause(world: &World, kind: &Kind, who: Who, gateway: usize, time: Duration) -> Told {
    let Some(process) = locked(world, who, gateway).await else { return missed(NOBODY) };
    process.pause();
    world.strike(kind);
    tokio::time::sleep(time).await;
    process.resume();
    fired(format!("{} for {time:?}", process.name()))
}

/// Whether the kernel says that a process is stopped.
fn is_stopped(process: &Process) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid().as_raw_nonzero())).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && line.contains("T (stopped)"))
}

pub(super) async fn zombie(world: &World, kind: &Kind, gateway: usize, dice: &mut Dice) -> Told {
    let process = world.gateways[gateway].lock().await;
    let file = failpoints(&world.cluster, &process);
    std::fs::write(&file, format!("k4=stop:{}", dice.between(1, 10))).unwrap();
    let began = Instant::now();
    while !is_stopped(&process) && began.elapsed() < FIRES {
        tokio::time::sleep(LOOK).await;
    }
    std::fs::write(&file, "").unwrap();
    if !is_stopped(&process) {
        return missed("it never committed");
    }
    world.strike(kind);
    let stored = world.cluster.segments();
    // Its segment becomes old enough, the next search begins, and goes through all folders.
    tokio::time::sleep(SWEEP.0 + SWEEP.1 + Duration::from_secs(5)).await;
    let left = world.cluster.segments();
    let swept = stored.iter().filter(|segment| !left.contains(segment)).count();
    process.resume();
    fired(format!("{}: {swept} segments were swept meanwhile", process.name()))
}

pub(super) async fn stop(world: &World, kind: &Kind, who: Who, gateway: usize) -> Told {
    let Some(mut process) = locked(world, who, gateway).await else { return missed(NOBODY) };
    world.strike(kind);
    let began = Instant::now();
    process.stop().await;
    let took = began.elapsed();
    world.revive(&mut process).await;
    fired(format!("{} stopped in {took:.1?}", process.name()))
}

pub(super) async fn clock(world: &World, kind: &Kind, who: Who, gateway: usize, by: &str) -> Told {
    let Some(mut process) = locked(world, who, gateway).await else { return missed(NOBODY) };
    process.kill_nine();
    world.strike(kind);
    clocks::shift(&mut process, by);
    world.revive(&mut process).await;
    tokio::time::sleep(LASTS).await;
    process.kill_nine();
    clocks::restore(&mut process);
    world.revive(&mut process).await;
    fired(process.name())
}

pub(super) async fn descriptors(world: &World, kind: &Kind, gateway: usize) -> Told {
    let process = world.gateways[gateway].lock().await;
    let folder = format!("/proc/{}", process.pid().as_raw_nonzero());
    let open = std::fs::read_dir(format!("{folder}/fd")).map_or(0, |files| files.count() as u64);
    let limits = std::fs::read_to_string(format!("{folder}/limits")).unwrap_or_default();
    let hard = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().nth(1)?.parse::<u64>().ok());
    let limit = |current| Rlimit { current: Some(current), maximum: hard };
    let Ok(before) = prlimit(Some(process.pid()), Resource::Nofile, limit(open + 2)) else {
        return missed("limits of another process may not be set here");
    };
    world.strike(kind);
    tokio::time::sleep(LASTS).await;
    prlimit(Some(process.pid()), Resource::Nofile, before).unwrap();
    fired(format!("{} with {open} open", process.name()))
}

pub(super) async fn cache_bits(world: &World, kind: &Kind, gateway: usize) -> Told {
    let process = world.gateways[gateway].lock().await;
    let folder = world.cluster.file(&cache_of(gateway));
    let flipped = tokio::task::spawn_blocking(move || flip_bits(&folder)).await.unwrap();
    if flipped == 0 {
        return missed("nothing is on the disk yet");
    }
    world.strike(kind);
    fired(format!("{}: {flipped} bits", process.name()))
}

pub(super) async fn cache_full(world: &World, kind: &Kind, gateway: usize) -> Told {
    const DISK: &str = "LAKEFALL_CACHE__DISK_PATH";
    let Some(disk) = &world.full_disk else { return missed("no disk can be mounted here") };
    let mut process = world.gateways[gateway].lock().await;
    process.kill_nine();
    world.strike(kind);
    process.set_env(DISK, disk.path().display());
    world.revive(&mut process).await;
    tokio::time::sleep(LASTS).await;
    process.kill_nine();
    process.set_env(DISK, world.cluster.file(&cache_of(gateway)).display());
    world.revive(&mut process).await;
    fired(process.name())
}

pub(super) async fn rival(world: &World, kind: &Kind) -> Told {
    let mut rival = world.rival.lock().await;
    world.revive(&mut rival).await;
    world.strike(kind);
    tokio::time::sleep(LASTS * 2).await;
    rival.kill_nine();
    fired("")
}

pub(super) async fn zone(world: &World, kind: &Kind, gateways: &[usize]) -> Told {
    let Some(owner) = world.owner().await else { return missed(NOBODY) };
    let lost: Vec<&Mutex<Process>> =
        gateways.iter().map(|at| &world.gateways[*at]).chain([&world.replicas[owner], &world.compactor]).collect();
    let mut lost = join_all(lost.into_iter().map(|process| process.lock())).await;
    lost.iter_mut().for_each(|process| process.kill_nine());
    world.strike(kind);
    tokio::time::sleep(Duration::from_millis(DEAD_MS)).await;
    join_all(lost.iter_mut().map(|process| world.revive(process))).await;
    fired(lost.iter().map(|process| process.name()).collect::<Vec<_>>().join(", "))
}
