//! The one row of what a cache knows of itself: its settings and counters, under a checksum.

use twox_hash::XxHash3_64;

use crate::cache::row::RowError;
use crate::{CacheSettings, Eviction};

const VERSION: u8 = 1;
const COVERED: usize = 1 + 8;
const BYTES: usize = COVERED + 1 + 1 + 4 + 8 * 7;

/// Settings and counters. Every write transaction reads this row first and, if it changed something, writes it last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct State {
    pub(crate) settings: CacheSettings,
    /// The next id or sequence number.
    pub(crate) next: u64,
    /// The sum of all entries' volumes.
    pub(crate) volume: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// Reads that found an entry damaged.
    pub(crate) damaged: u64,
}

impl State {
    /// Draws a number that was never drawn before.
    pub(crate) fn draw(&mut self) -> u64 {
        let drawn = self.next;
        self.next += 1;
        drawn
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<State, RowError> {
        match bytes.first() {
            Some(&VERSION) if bytes.len() == BYTES => {}
            Some(&newer) if newer > VERSION => return Err(RowError::Newer(newer)),
            _ => return Err(RowError::Damaged),
        }
        let (head, mut rest) = bytes.split_at(COVERED);
        if head[1..] != XxHash3_64::oneshot(rest).to_be_bytes() {
            return Err(RowError::Damaged);
        }
        State::parse(&mut rest).ok_or(RowError::Damaged)
    }

    fn parse(rest: &mut &[u8]) -> Option<State> {
        fn number(rest: &mut &[u8]) -> Option<u64> {
            Some(u64::from_be_bytes(rest.split_off(..8)?.try_into().ok()?))
        }
        let eviction = Eviction::from_code(*rest.split_off_first()?)?;
        let statistics = *rest.split_off_first()? != 0;
        let cull_limit = u32::from_be_bytes(rest.split_off(..4)?.try_into().ok()?);
        let settings = CacheSettings {
            eviction,
            statistics,
            cull_limit,
            size_limit_bytes: number(rest)?,
            min_file_size_bytes: number(rest)?,
        };
        Some(State {
            settings,
            next: number(rest)?,
            volume: number(rest)?,
            hits: number(rest)?,
            misses: number(rest)?,
            damaged: number(rest)?,
        })
    }

    pub(crate) fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[0] = VERSION;
        let covered = &mut bytes[COVERED..];
        covered[0] = self.settings.eviction.code();
        covered[1] = u8::from(self.settings.statistics);
        covered[2..6].copy_from_slice(&self.settings.cull_limit.to_be_bytes());
        let numbers = [
            self.settings.size_limit_bytes,
            self.settings.min_file_size_bytes,
            self.next,
            self.volume,
            self.hits,
            self.misses,
            self.damaged,
        ];
        for (slot, number) in covered[6..].chunks_exact_mut(8).zip(numbers) {
            slot.copy_from_slice(&number.to_be_bytes());
        }
        let sum = XxHash3_64::oneshot(covered);
        bytes[1..COVERED].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_comes_back_and_any_changed_byte_is_found() {
        let settings = CacheSettings {
            eviction: Eviction::LeastFrequentlyUsed,
            statistics: true,
            cull_limit: 1,
            size_limit_bytes: 2,
            min_file_size_bytes: 3,
        };
        let state = State { settings, next: 4, volume: 5, hits: 6, misses: 7, damaged: 8 };
        let bytes = state.to_bytes();
        assert_eq!(State::read(&bytes), Ok(state));
        for at in 0..bytes.len() {
            let mut changed = bytes;
            changed[at] ^= 1;
            assert!(State::read(&changed).is_err(), "{at}");
            assert!(State::read(&bytes[..at]).is_err());
        }
        let mut newer = bytes;
        newer[0] = VERSION + 1;
        assert_eq!(State::read(&newer), Err(RowError::Newer(2)));
    }
}
