//! Randomness that a failed run can be repeated with.

/// The seed of this run: `KV_SEED`, or a random one. It is printed, which libtest shows when a test fails.
#[must_use]
pub fn seed() -> u64 {
    let seed = number_from_env("KV_SEED", rand::random());
    eprintln!("the seed is {seed}; repeat the run with KV_SEED={seed}");
    seed
}

/// A number from the environment.
#[must_use]
pub fn number_from_env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")),
        Err(_) => default,
    }
}
