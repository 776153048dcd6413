//! The two streams of bytes of a connection. Must never hold more than [`PIECES`] of [`PIECE`] bytes a direction.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::replies::{Loss, Replies};
use super::{Direction, State, until};

/// How much is read at once, at most.
const PIECE: usize = 16 * 1024;
/// How many pieces wait for their time; when full, reading pauses and TCP tells the sender.
const PIECES: usize = 64;
/// How often a limited direction passes something on.
const TICK: Duration = Duration::from_millis(20);

/// What goes from the reading to the writing side of a direction.
enum Piece {
    Bytes(Instant, Bytes),
    Reset,
}

/// Pumps both ways until both ended in order (a half that closed is closed at the other side), or one broke.
pub(super) async fn both(state: &State, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let requests = pump(state, Direction::ToServer, from_client, to_server);
    let answers = pump(state, Direction::ToClient, from_server, to_client);
    tokio::try_join!(requests, answers).map(|_| ())
}

async fn pump(state: &State, direction: Direction, from: ReadHalf<'_>, to: WriteHalf<'_>) -> io::Result<()> {
    let (pieces, received) = mpsc::channel(PIECES);
    tokio::try_join!(read(state, direction, from, pieces), write(state, direction, to, received)).map(|_| ())
}

async fn read(state: &State, direction: Direction, mut from: ReadHalf<'_>, pieces: mpsc::Sender<Piece>) -> io::Result<()> {
    let mut replies = (state.is_postgres && direction == Direction::ToClient).then(Replies::default);
    loop {
        let mut bytes = BytesMut::with_capacity(PIECE);
        if from.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        let way = state.rules.borrow().ways[direction as usize];
        let due = Instant::now() + way.latency + state.dice.pause(way.jitter);
        let (bytes, loss) = match &mut replies {
            None => (bytes.freeze(), None),
            Some(replies) => replies.pass(&bytes, |tag| state.losses.lock().unwrap().meets(tag)),
        };
        // The writing side ends only with an error, which ends both.
        let _ = pieces.send(Piece::Bytes(due, bytes)).await;
        match loss {
            None => {}
            Some(Loss::Reset) => {
                let _ = pieces.send(Piece::Reset).await;
            }
            Some(Loss::Silence) => {
                // The end of the connection is noticed all the same, or it would stay for ever.
                while from.read_buf(&mut BytesMut::with_capacity(PIECE)).await? > 0 {}
                return Ok(());
            }
        }
    }
}

async fn write(state: &State, direction: Direction, mut to: WriteHalf<'_>, mut pieces: mpsc::Receiver<Piece>) -> io::Result<()> {
    let mut rules = state.rules.subscribe();
    while let Some(piece) = pieces.recv().await {
        let Piece::Bytes(due, mut bytes) = piece else { return Err(io::ErrorKind::ConnectionReset.into()) };
        tokio::time::sleep_until(due).await;
        while bytes.has_remaining() {
            until(&mut rules, |rules| !rules.ways[direction as usize].silent).await;
            let limit = rules.borrow().ways[direction as usize].bytes_per_second;
            let mut next = bytes.len();
            if let Some(limit) = limit {
                tokio::time::sleep(TICK).await;
                next = next.min(usize::try_from(limit * TICK.as_millis() as u64 / 1000).unwrap().max(1));
            }
            let (allowed, is_cut) = until_cut(state, direction, next);
            to.write_all(&bytes.split_to(allowed)).await?;
            state.bytes[direction as usize].fetch_add(allowed as u64, Ordering::Relaxed);
            if is_cut {
                state.cut.fetch_add(1, Ordering::Relaxed);
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
    }
    until(&mut rules, |rules| !rules.ways[direction as usize].silent).await;
    to.shutdown().await
}

/// How many of the next bytes may go, and whether the connection is cut then.
fn until_cut(state: &State, direction: Direction, bytes: usize) -> (usize, bool) {
    let mut cut = state.cuts[direction as usize].lock().unwrap();
    match *cut {
        Some(left) if left < bytes as u64 => {
            *cut = None;
            (left as usize, true)
        }
        Some(left) => {
            *cut = Some(left - bytes as u64);
            (bytes, false)
        }
        None => (bytes, false),
    }
}
