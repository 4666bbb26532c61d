//! simulator
pub mod os;
