//! When the messages of a block were leased first, to the second. Messages that were leased in the same second, one after
//! another, share eight bytes, so that it costs next to nothing where much is leased. Nothing but layout.

use super::block::BLOCK;

/// From a place on to before the next one: upper 16 bits the place, lower 48 the second since 1970, 0 where it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run(u64);

impl Run {
    fn new(place: u16, second: u64) -> Self {
        Self(u64::from(place) << 48 | second & 0xffff_ffff_ffff)
    }

    fn place(self) -> u16 {
        (self.0 >> 48) as u16
    }

    fn second(self) -> u64 {
        self.0 & 0xffff_ffff_ffff
    }
}

/// In the order of their places; no two neighbours of the same second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Firsts(Vec<Run>);

impl Firsts {
    /// When the message of a place was leased first, in milliseconds since 1970; nothing where that is not known.
    pub(super) fn get(&self, place: u16) -> Option<i64> {
        Some(self.second(place) as i64 * 1_000).filter(|at_ms| *at_ms > 0)
    }

    fn second(&self, place: u16) -> u64 {
        self.after(place).checked_sub(1).map_or(0, |run| self.0[run].second())
    }

    /// How many runs begin at `place` or before.
    fn after(&self, place: u16) -> usize {
        self.0.partition_point(|run| run.place() <= place)
    }

    /// The message of a place is leased for the first time.
    pub(super) fn set(&mut self, place: u16, now_ms: i64) {
        let (second, before) = ((now_ms / 1_000).max(0) as u64, self.second(place));
        if before == second {
            return;
        }
        let next = place + 1;
        if u64::from(next) < BLOCK && self.0.get(self.after(place)).is_none_or(|run| run.place() > next) {
            let at = self.after(place);
            self.0.insert(at, Run::new(next, before));
        }
        match self.after(place).checked_sub(1).filter(|run| self.0[*run].place() == place) {
            Some(run) => self.0[run] = Run::new(place, second),
            None => self.0.insert(self.after(place), Run::new(place, second)),
        }
        let run = self.after(place) - 1;
        if self.0.get(run + 1).is_some_and(|later| later.second() == second) {
            self.0.remove(run + 1);
        }
        if run.checked_sub(1).map_or(0, |earlier| self.0[earlier].second()) == second {
            self.0.remove(run);
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|run| run.0.to_le_bytes()).collect()
    }

    /// `None` if malformed. Empty: of rows from before this was kept.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (runs, rest) = bytes.as_chunks::<8>();
        let runs: Vec<Run> = runs.iter().map(|run| Run(u64::from_le_bytes(*run))).collect();
        let fits = runs.is_sorted_by(|a, b| a.place() < b.place()) && runs.last().is_none_or(|run| u64::from(run.place()) < BLOCK);
        (rest.is_empty() && fits).then_some(Self(runs))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<Run>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_keeps_its_second_in_whatever_order_they_come_and_neighbours_share() {
        let (mut firsts, mut model) = (Firsts::default(), [0_i64; 64]);
        let mut draw = 7_u64;
        for _ in 0..2_000 {
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (place, second) = ((draw >> 33) as u16 % 64, (draw >> 50) as i64 % 3 + 1);
            firsts.set(place, second * 1_000 + 999);
            model[usize::from(place)] = second * 1_000;
            for (place, at_ms) in (0..).zip(model) {
                assert_eq!(firsts.get(place).unwrap_or(0), at_ms);
            }
            assert!(firsts.0.windows(2).all(|pair| pair[0].place() < pair[1].place() && pair[0].second() != pair[1].second()));
            assert_eq!(Firsts::from_bytes(&firsts.to_bytes()), Some(firsts.clone()));
        }
        (0..4_096).for_each(|place| firsts.set(place, 9_000));
        assert_eq!(firsts, Firsts(vec![Run::new(0, 9)]));
    }
}
