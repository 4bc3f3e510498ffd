//! Bugs on purpose: a proof that finds none of these proves nothing.
//!
//! Code asks [`is`] where a known mistake could be made. Without the feature `planted-bugs` the answer is a
//! constant, and nothing of the mistake is compiled.

#[cfg(all(feature = "planted-bugs", not(debug_assertions)))]
compile_error!("planted bugs are for test builds: this is one without debug assertions");

/// The environment variable that names the bug of this process.
pub const VARIABLE: &str = "KV_PLANTED_BUG";

/// Whether this process is to have the bug of this name.
#[cfg(feature = "planted-bugs")]
#[must_use]
pub fn is(name: &str) -> bool {
    use std::sync::OnceLock;
    static BUG: OnceLock<Option<String>> = OnceLock::new();
    BUG.get_or_init(|| std::env::var(VARIABLE).ok()).as_deref() == Some(name)
}

/// Whether this process is to have the bug of this name: no.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
#[must_use]
pub const fn is(_name: &str) -> bool {
    false
}

/// Does this, unless leaving it out is the bug of this process.
///
/// # Errors
/// Those of what it does.
#[inline(always)]
pub fn unless<E>(name: &str, does: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    if is(name) { Ok(()) } else { does() }
}
