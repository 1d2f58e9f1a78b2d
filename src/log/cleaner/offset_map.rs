//! The newest offset of each key in the dirty part of a log (class `SkimpyOffsetMap`).
//!
//! A slot is one number of 128 bits: 88 bits of a keyed hash of the key, and 40 bits of offset, counted from the first dirty
//! one. Keys themselves are not kept: the hash is keyed anew for every map, so that nobody can choose keys that collide.
//! Invariant: never more slots than the memory given, and never fuller than the load factor.

use std::hash::{BuildHasher, Hasher, RandomState};

pub const SLOT_BYTES: usize = size_of::<u128>();
/// However little memory is given, a pass must come forward.
const SLOTS_MIN: usize = 64;
const OFFSET_BITS: u32 = 40;
const OFFSET_MASK: u128 = (1 << OFFSET_BITS) - 1;

pub struct OffsetMap {
    slots: Vec<u128>,
    hashers: [RandomState; 2],
    used: usize,
    used_max: usize,
    first_offset: i64,
}

/// The map takes no further key, or no offset so far from the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// How many slots to take for at most `keys` keys, within `memory_bytes`.
fn slot_count(memory_bytes: i64, load_factor: f64, keys: u64) -> usize {
    let most = usize::try_from(memory_bytes.max(0)).unwrap_or(usize::MAX) / SLOT_BYTES;
    let wanted = keys as f64 / load_factor.min(0.7) + 1.0;
    (wanted as usize).min(most).max(SLOTS_MIN)
}

impl OffsetMap {
    /// For offsets from `first_offset` on, and at most `keys` keys.
    pub fn new(memory_bytes: i64, load_factor: f64, first_offset: i64, keys: u64) -> OffsetMap {
        let load_factor = if load_factor.is_finite() { load_factor.clamp(0.05, 0.95) } else { 0.9 };
        let count = slot_count(memory_bytes, load_factor, keys);
        OffsetMap {
            slots: vec![0; count],
            hashers: [RandomState::new(), RandomState::new()],
            used: 0,
            used_max: (count as f64 * load_factor) as usize,
            first_offset,
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
        let at = self.find(hash);
        if self.slots[at] == 0 {
            if self.used >= self.used_max {
                return Err(Full);
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
            [(1 << 20, 0.9, 1 << 40, 65_536), (1 << 20, 0.9, 0, 64), (1 << 20, 0.5, 1000, 2001), (0, 0.9, 99, 142)]
        {
            let slots = if memory == 0 { SLOTS_MIN } else { slots };
            assert_eq!(slot_count(memory, load_factor, keys), slots, "{memory} {load_factor} {keys}");
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
}
