//! kvadmin.
fn main() {}
