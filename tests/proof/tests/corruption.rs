//! Damaged files: the share that fits a continuous integration run.

use kv_proof::corruption::{Share, sweep};

#[test]
fn damage_is_an_error_that_names_it_and_never_another_value() {
    let t = std::time::Instant::now();
    let tally = sweep(Share { every: 401 });
    eprintln!("{tally} {:?}", t.elapsed());
    let failures = tally.failures.len();
    assert!(tally.failures.is_empty(), "{failures} failures:\n{}", tally.failures.join("\n"));
}
