//! Stories about real machines. Not part of a plain `cargo test`: `cargo xtask e2e-metal` runs them, each inside
//! namespaces of its own.

mod crashes;
mod faults;
mod installers;
mod lab;
mod machines;
mod networks;
mod nodes;
mod strangers;
mod victim;
mod wipes;
