//! Takes chance out of this process: what the standard library, tokio and others draw at their start, and the clocks that
//! libraries read, come from the seed and from the simulation. Only this executable has it; nothing else in the workspace is
//! linked with it.
#![allow(
    unsafe_code,
    reason = "libc is asked for random bytes and for the time by libraries that take neither from us: its functions are stood in for"
)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use lakefall_simulation::time;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What stands in for libc is asked.
static ON: AtomicBool = AtomicBool::new(false);
static RANDOM: Mutex<Option<ChaCha8Rng>> = Mutex::new(None);

/// The monotonic clock at a simulation's beginning, in seconds: some libraries subtract from it.
const UPTIME: i64 = 1_000_000;

/// From here on nothing in this process is left to chance. Called first of all.
pub(crate) fn begin(seed: u64) {
    if let Ok(mut random) = RANDOM.lock() {
        *random = Some(ChaCha8Rng::seed_from_u64(seed));
    }
    ON.store(true, Ordering::SeqCst);
}

fn fill(bytes: &mut [u8]) -> bool {
    match RANDOM.lock() {
        Ok(mut random) => random.as_mut().map(|random| random.fill_bytes(bytes)).is_some(),
        Err(_) => false,
    }
}

/// Stands in for getrandom(2).
///
/// # Safety
/// As for the original: `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut libc::c_void, length: libc::size_t, flags: libc::c_uint) -> libc::ssize_t {
    if ON.load(Ordering::SeqCst) && !buffer.is_null() {
        // SAFETY: the caller promises the room.
        let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
        if fill(bytes) {
            return length as libc::ssize_t;
        }
    }
    // SAFETY: the same call with the same arguments, past this function.
    unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as libc::ssize_t }
}

/// Stands in for getentropy(3).
///
/// # Safety
/// As for the original: `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getentropy(buffer: *mut libc::c_void, length: libc::size_t) -> libc::c_int {
    // SAFETY: the caller promises the room.
    let filled = length <= 256 && unsafe { getrandom(buffer, length, 0) } == length as libc::ssize_t;
    if filled { 0 } else { -1 }
}

/// Stands in for clock_gettime(2): wall and monotonic clocks show simulated time; those of processor time do not.
///
/// # Safety
/// As for the original: `time` may be written to.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    let seconds = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => time::EPOCH_MS / 1_000,
        libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_RAW | libc::CLOCK_MONOTONIC_COARSE | libc::CLOCK_BOOTTIME => UPTIME,
        _ => -1,
    };
    if ON.load(Ordering::SeqCst) && seconds >= 0 && !time.is_null() {
        let now = time::step_nanos() as i64;
        let shown = libc::timespec { tv_sec: seconds + now / 1_000_000_000, tv_nsec: now % 1_000_000_000 };
        // SAFETY: the caller promises that it may be written to.
        unsafe { time.write(shown) };
        return 0;
    }
    // SAFETY: the same call with the same arguments, past this function.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as libc::c_int }
}
