//! The `rackwright` command.
fn main() {}
