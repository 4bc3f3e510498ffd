//! Values travel beside the message that names them, so that neither end copies them.
//!
//! A value of at least [`BESIDE_BYTES_MIN`] is left out of the serialised message, which keeps its length
//! only; its bytes follow the message in the frame. The sender hands them to the socket from where they
//! are; the receiver gets a slice of the frame. Such a slice keeps its frame alive, which is why small
//! values are copied, and keys always: a key of an index must not hold a frame of 64 MiB.
//!
//! serde has no way to pass a [`Bytes`] through, so a thread-local carries the parts for the length of one
//! call of postcard. Outside of such a call (JSON, a log) a marked field is ordinary bytes.

use std::cell::RefCell;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

/// Values shorter than this are copied into the message.
pub const BESIDE_BYTES_MIN: usize = 4096;

/// What the call in progress on this thread does.
enum Parts {
    /// Collects what is left out.
    Out(Vec<Bytes>),
    /// Hands out what follows the message.
    In(Bytes),
}

thread_local! {
    static PARTS: RefCell<Option<Parts>> = const { RefCell::new(None) };
}

/// Where a value is.
#[derive(Serialize, Deserialize)]
enum Place {
    Here(Bytes),
    Beside(u32),
}

/// Puts back what was there before, also when the call panics.
struct Scope(Option<Parts>);

impl Scope {
    fn enter(parts: Parts) -> Self {
        Self(PARTS.replace(Some(parts)))
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        PARTS.set(self.0.take());
    }
}

/// Runs `serialize`; returns its result and the values it left out, in order.
pub(crate) fn collect<T>(serialize: impl FnOnce() -> T) -> (T, Vec<Bytes>) {
    let _scope = Scope::enter(Parts::Out(Vec::new()));
    let result = serialize();
    match PARTS.take() {
        Some(Parts::Out(parts)) => (result, parts),
        _ => (result, Vec::new()),
    }
}

/// Runs `deserialize` with the values that follow the message; returns its result and what it did not use.
pub(crate) fn supply<T>(beside: Bytes, deserialize: impl FnOnce() -> T) -> (T, Bytes) {
    let _scope = Scope::enter(Parts::In(beside));
    let result = deserialize();
    match PARTS.take() {
        Some(Parts::In(rest)) => (result, rest),
        _ => (result, Bytes::new()),
    }
}

/// For `#[serde(with = "crate::beside")]` on a value.
pub fn serialize<S: Serializer>(value: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    let place = PARTS.with_borrow_mut(|parts| match parts {
        Some(Parts::Out(parts)) if value.len() >= BESIDE_BYTES_MIN => {
            parts.push(value.clone());
            Some(u32::try_from(value.len()).map(Place::Beside))
        }
        Some(_) => Some(Ok(Place::Here(value.clone()))),
        None => None,
    });
    match place {
        Some(Ok(place)) => place.serialize(serializer),
        Some(Err(_)) => Err(ser::Error::custom("value of 4 GiB or more")),
        None => value.serialize(serializer),
    }
}

/// For `#[serde(with = "crate::beside")]` on a value.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    if PARTS.with_borrow(|parts| parts.is_none()) {
        return Bytes::deserialize(deserializer);
    }
    let bytes = match Place::deserialize(deserializer)? {
        Place::Here(value) => return Ok(value),
        Place::Beside(bytes) => usize::try_from(bytes).map_err(de::Error::custom)?,
    };
    PARTS.with_borrow_mut(|parts| match parts {
        Some(Parts::In(rest)) if rest.len() >= bytes => Ok(rest.split_to(bytes)),
        _ => Err(de::Error::custom("a value is longer than what follows the message")),
    })
}

/// The same for a value that may be absent: `#[serde(with = "crate::beside::option")]`.
pub mod option {
    use super::{Bytes, Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Value(#[serde(with = "super")] Bytes);

    /// See the module above.
    pub fn serialize<S: Serializer>(value: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
        value.clone().map(Value).serialize(serializer)
    }

    /// See the module above.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
        Ok(Option::<Value>::deserialize(deserializer)?.map(|Value(bytes)| bytes))
    }
}
