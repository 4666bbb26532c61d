//! The real client against a scripted BMC over loopback: one claim about the wire in each test.

mod boot;
mod fake;
mod login;
mod media;
mod power;
mod probe;
mod reads;
mod story;
mod tls;
