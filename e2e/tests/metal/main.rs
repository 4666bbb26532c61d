//! Stories about real machines. Not part of a plain `cargo test`: `cargo xtask e2e-metal` runs them, each inside
//! namespaces of its own.

mod faults;
mod lab;
mod machines;
mod nodes;
