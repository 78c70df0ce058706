//! Shared immutable strings.
//!
//! Names, labels and reasons are cloned into many rows; [`Text`] makes a clone a counter increment
//! and compares by address first. It is an ordinary string otherwise: ordering and hashing are
//! those of its characters, never of its address, so no output can depend on memory layout.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use arcstr::ArcStr;
use rustc_hash::FxHashMap;

/// An immutable string of one word that is cheap to clone. An empty one is not allocated.
#[derive(Clone, Default)]
pub struct Text(ArcStr);

impl Text {
    /// The characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A text of the program itself (a reason, a source), made once on each thread. Where it stands
    /// in the program as such, `text!` makes nothing at all.
    pub fn literal(s: &'static str) -> Text {
        thread_local! {
            static MADE: RefCell<FxHashMap<(usize, usize), Text>> = RefCell::default();
        }
        // A literal stays where it is: its place and length tell it from all others.
        let key = (s.as_ptr() as usize, s.len());
        MADE.with_borrow_mut(|made| made.entry(key).or_insert_with(|| Text::from(s)).clone())
    }
}

/// A [`Text`] from a constant string: neither allocated nor counted.
macro_rules! text {
    ($s:expr) => {
        $crate::api::text::constant(arcstr::literal!($s))
    };
}
pub(crate) use text;

/// What `text!` comes to.
#[inline]
pub(crate) const fn constant(s: ArcStr) -> Text {
    Text(s)
}

impl Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(s: &str) -> Self {
        Text(ArcStr::from(s))
    }
}

impl From<String> for Text {
    fn from(s: String) -> Self {
        Text(ArcStr::from(s))
    }
}

impl From<&String> for Text {
    fn from(s: &String) -> Self {
        Text(ArcStr::from(s.as_str()))
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        ArcStr::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl serde::Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = std::borrow::Cow::<'de, str>::deserialize(d)?;
        Ok(Text::from(&*s))
    }
}
