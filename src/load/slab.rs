//! Storage for things that come and go: places are used again, keys never.

/// A place and its generation; a key of something that is gone finds nothing.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Key {
    /// The place.
    pub slot: u32,
    /// How many were there before.
    pub generation: u32,
}

impl Key {
    /// Never finds anything.
    pub const NONE: Key = Key {
        slot: u32::MAX,
        generation: u32::MAX,
    };
}

/// A growing vector of places with a list of free ones.
#[derive(Clone, Debug)]
pub struct Slab<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// Puts something in.
    #[inline]
    pub fn insert(&mut self, value: T) -> Key {
        if let Some(slot) = self.free.pop() {
            let (generation, place) = &mut self.slots[slot as usize];
            *place = Some(value);
            let generation = *generation;
            return Key { slot, generation };
        }
        let slot = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        assert!(slot < u32::MAX, "a slab holds fewer than 2^32 things");
        self.slots.push((0, Some(value)));
        Key {
            slot,
            generation: 0,
        }
    }

    /// What has this key.
    #[inline]
    pub fn get(&self, key: Key) -> Option<&T> {
        let (generation, value) = self.slots.get(key.slot as usize)?;
        match *generation == key.generation {
            true => value.as_ref(),
            false => None,
        }
    }

    /// What has this key, to change.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (generation, value) = self.slots.get_mut(key.slot as usize)?;
        match *generation == key.generation {
            true => value.as_mut(),
            false => None,
        }
    }

    /// Takes something out.
    #[inline]
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let (generation, place) = self.slots.get_mut(key.slot as usize)?;
        if *generation != key.generation {
            return None;
        }
        let value = place.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(key.slot);
        Some(value)
    }

    /// The key of what is in this place.
    #[inline]
    pub fn key_at(&self, slot: u32) -> Option<Key> {
        let (generation, value) = self.slots.get(slot as usize)?;
        let generation = *generation;
        value.as_ref().map(|_| Key { slot, generation })
    }

    /// The keys of all things, in the order of their places.
    pub fn keys(&self) -> Vec<Key> {
        let slots = 0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        slots.filter_map(|slot| self.key_at(slot)).collect()
    }

    /// How many things there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many places there are, used or free: what the memory is proportional to.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }
}

impl<T> std::ops::Index<Key> for Slab<T> {
    type Output = T;
    fn index(&self, key: Key) -> &T {
        self.get(key).expect("a key in use")
    }
}

impl<T> std::ops::IndexMut<Key> for Slab<T> {
    fn index_mut(&mut self, key: Key) -> &mut T {
        self.get_mut(key).expect("a key in use")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again_and_keys_are_not() {
        let mut slab = Slab::default();
        let a = slab.insert("a");
        let b = slab.insert("b");
        assert_eq!(slab.remove(a), Some("a"));
        assert_eq!(slab.remove(a), None);
        let c = slab.insert("c");
        assert_eq!((c.slot, c.generation), (a.slot, 1));
        assert_eq!(slab.get(a), None);
        assert_eq!((slab[b], slab[c]), ("b", "c"));
        assert_eq!((slab.len(), slab.capacity()), (2, 2));
        assert_eq!(slab.get(Key::NONE), None);
    }
}
