//! The newest offset of each key in the dirty part of a log (class `SkimpyOffsetMap`).
//!
//! A slot is one number of 128 bits: 88 bits of a keyed hash of the key, and 40 bits of offset, counted from the first dirty
//! one. Keys themselves are not kept: the hash is keyed anew for every map, so that nobody can choose keys that collide.
//! Invariant: never more memory than given, and never fuller than the load factor.
//!
//! The map begins small and grows fourfold: most dirty parts have far fewer keys than records, and a map that fits the caches
//! takes a quarter of the time of one that does not. While it grows the old slots stand beside the new ones, so a fifth of the
//! memory is kept for them.

use std::hash::{BuildHasher, Hasher, RandomState};

pub const SLOT_BYTES: usize = size_of::<u128>();
/// However little memory is given, a pass must come forward.
const SLOTS_MIN: usize = 64;
/// A map of so many slots is not worth growing into.
const SLOTS_AT_ONCE: usize = 4096;
const GROWTH: usize = 4;
const OFFSET_BITS: u32 = 40;
const OFFSET_MASK: u128 = (1 << OFFSET_BITS) - 1;

pub struct OffsetMap {
    slots: Vec<u128>,
    /// Never more slots than these.
    slots_max: usize,
    load_factor: f64,
    hashers: [RandomState; 2],
    used: usize,
    /// Of the slots there are now.
    used_max: usize,
    first_offset: i64,
}

/// The map takes no further key, or no offset so far from the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// The most slots for at most `keys` keys, within `memory_bytes`.
fn slots_max(memory_bytes: i64, load_factor: f64, keys: u64) -> usize {
    let all = usize::try_from(memory_bytes.max(0)).unwrap_or(usize::MAX) / SLOT_BYTES;
    let most = if all <= SLOTS_AT_ONCE { all } else { all / (GROWTH + 1) * GROWTH };
    let wanted = keys as f64 / load_factor.min(0.7) + 1.0;
    (wanted as usize).min(most).max(SLOTS_MIN)
}

/// How many slots to begin with, so that growth ends at the most.
fn slots_at_first(most: usize) -> usize {
    let mut count = most;
    while count > SLOTS_AT_ONCE {
        count = count.div_ceil(GROWTH);
    }
    count
}

impl OffsetMap {
    /// For offsets from `first_offset` on, and at most `keys` keys.
    pub fn new(memory_bytes: i64, load_factor: f64, first_offset: i64, keys: u64) -> OffsetMap {
        let load_factor = if load_factor.is_finite() { load_factor.clamp(0.05, 0.95) } else { 0.9 };
        let slots_max = slots_max(memory_bytes, load_factor, keys);
        let mut map = OffsetMap {
            slots: Vec::new(),
            slots_max,
            load_factor,
            hashers: [RandomState::new(), RandomState::new()],
            used: 0,
            used_max: 0,
            first_offset,
        };
        map.resize(slots_at_first(slots_max));
        map
    }

    fn resize(&mut self, count: usize) {
        let old = std::mem::replace(&mut self.slots, vec![0; count]);
        self.used_max = (count as f64 * self.load_factor) as usize;
        for slot in old.into_iter().filter(|&slot| slot != 0) {
            let at = self.find(slot);
            self.slots[at] = slot;
        }
    }

    fn hash(&self, key: &[u8]) -> u128 {
        let [high, low] = &self.hashers;
        let part = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            hasher.write(key);
            u128::from(hasher.finish())
        };
        (part(high) << 64) | part(low)
    }

    /// The slot of the key, or the empty one where it belongs.
    fn find(&self, hash: u128) -> usize {
        let count = self.slots.len();
        // The high 64 bits spread over the slots without a division.
        let mut at = (((hash >> 64) * count as u128) >> 64) as usize;
        loop {
            let slot = self.slots[at];
            if slot == 0 || slot & !OFFSET_MASK == hash & !OFFSET_MASK {
                return at;
            }
            at += 1;
            if at == count {
                at = 0;
            }
        }
    }

    /// Notes that the key has a record there. Offsets come in rising order.
    pub fn put(&mut self, key: &[u8], offset: i64) -> Result<(), Full> {
        // 0 is an empty slot.
        let relative = offset.checked_sub(self.first_offset).and_then(|n| u128::try_from(n).ok()).ok_or(Full)? + 1;
        if relative > OFFSET_MASK {
            return Err(Full);
        }
        let hash = self.hash(key);
        let mut at = self.find(hash);
        if self.slots[at] == 0 {
            if self.used >= self.used_max {
                if self.slots.len() >= self.slots_max {
                    return Err(Full);
                }
                self.resize((self.slots.len() * GROWTH).min(self.slots_max));
                at = self.find(hash);
            }
            self.used += 1;
        }
        self.slots[at] = hash & !OFFSET_MASK | relative;
        Ok(())
    }

    /// The newest offset of the key, if it has a record in the dirty part.
    pub fn get(&self, key: &[u8]) -> Option<i64> {
        match self.slots[self.find(self.hash(key))] & OFFSET_MASK {
            0 => None,
            relative => Some(self.first_offset + relative as i64 - 1),
        }
    }

    pub fn len(&self) -> usize {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn the_last_offset_of_each_key_wins() {
        let mut map = OffsetMap::new(1 << 20, 0.9, 1000, 5000);
        let mut expected = HashMap::new();
        for n in 0..5000i64 {
            let key = format!("key {}", (n * n * 31) % 1777);
            map.put(key.as_bytes(), 1000 + n).unwrap();
            expected.insert(key, 1000 + n);
        }
        assert_eq!(map.len(), expected.len());
        for (key, offset) in expected {
            assert_eq!(map.get(key.as_bytes()), Some(offset), "{key}");
        }
        assert_eq!(map.get(b"another"), None);
        map.put(b"", 6001).unwrap();
        assert_eq!(map.get(b""), Some(6001), "an empty key is a key");
    }

    #[test]
    fn memory_is_bounded_and_only_as_much_as_needed() {
        // (memory, load factor, keys, slots)
        for (memory, load_factor, keys, slots) in
            [(1 << 20, 0.9, 1 << 40, 52_428), (1 << 20, 0.9, 0, 64), (1 << 20, 0.5, 1000, 2001), (0, 0.9, 99, 64)]
        {
            let most = slots_max(memory, load_factor, keys);
            assert_eq!(most, slots, "{memory} {load_factor} {keys}");
            assert!(slots_at_first(most) <= most.min(SLOTS_AT_ONCE), "{most}");
        }
        let mut map = OffsetMap::new(100 * SLOT_BYTES as i64, 0.9, 0, 1 << 40);
        for n in 0..90i64 {
            map.put(&n.to_be_bytes(), n).unwrap();
        }
        assert_eq!(map.put(b"one more", 90), Err(Full));
        map.put(&7i64.to_be_bytes(), 91).unwrap();
        assert_eq!(map.get(&7i64.to_be_bytes()), Some(91), "a known key needs no room");
        assert_eq!(map.put(b"x", -1), Err(Full));
        assert_eq!(map.put(&7i64.to_be_bytes(), 1 << 40), Err(Full));
    }

    #[test]
    fn a_map_grows_with_its_keys_and_loses_none() {
        let mut map = OffsetMap::new(8 << 20, 0.9, 5, 1 << 40);
        assert!(map.slots.len() <= SLOTS_AT_ONCE);
        let most = map.slots_max as i64 * 9 / 10;
        for n in 0..most {
            map.put(&n.to_be_bytes(), 5 + n).unwrap();
        }
        assert_eq!(map.put(b"one more", most), Err(Full));
        assert_eq!(map.slots.len(), map.slots_max);
        for n in 0..most {
            assert_eq!(map.get(&n.to_be_bytes()), Some(5 + n), "{n}");
        }
    }
}
