//! kvnode.
fn main() {}
