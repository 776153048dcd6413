//! Loopback ports that nobody else takes between a server's stop and its next start. Must never give one out that lies
//! where the kernel picks ports for outgoing connections: one of those could sit on it at the wrong moment.

use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Where ports are looked for, below the range of outgoing connections (32768 and up on Linux).
const FIRST: u16 = 14_000;
const COUNT: u16 = 16_000;

/// A reserved port of 127.0.0.1; free for others when it is dropped or the process ends.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Its lock is the reservation among the tests of this machine.
    _lock: File,
}

impl Port {
    /// Reserves a port on which nobody listens.
    pub fn reserve() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let folder = std::env::temp_dir().join(format!("lakefall-ports-{}", rustix::process::geteuid().as_raw()));
        std::fs::create_dir_all(&folder).unwrap();
        // Processes begin at different places, so that they seldom meet.
        let start = (std::process::id().wrapping_mul(61) % u32::from(COUNT)) as u16;
        for _ in 0..COUNT {
            let number = FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
            let lock = File::options().create(true).truncate(false).write(true).open(folder.join(number.to_string())).unwrap();
            match lock.try_lock() {
                Ok(()) if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() => return Self { number, _lock: lock },
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => panic!("{} cannot be locked: {error}", folder.display()),
            }
        }
        panic!("none of the ports from {FIRST} to {} is free", FIRST + COUNT);
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1` with the number.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}
