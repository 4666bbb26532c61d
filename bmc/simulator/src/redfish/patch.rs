//! PATCH: what may be changed, and to what. All of a request is checked before anything of it is done.

use super::Body;
use super::actions::is_web;
use super::message::Message;
use super::resource::Resource;
use crate::hardware::Spec;
use crate::machine::{Enabled, Machine, Order, Override, Target};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The orders that `body` amounts to.
pub fn orders(resource: Resource, body: &Body, spec: &Spec, machine: &Machine) -> Result<Vec<Order>, Message> {
    let mut orders = Vec::new();
    for (name, value) in body {
        match (resource, name.as_str()) {
            (_, "LocationIndicatorActive") => {
                let on = value.as_bool().ok_or_else(|| Message::property_type(name))?;
                orders.push(Order::SetLocator(on));
            }
            (Resource::System, "Boot") => {
                let boot = value.as_object().ok_or_else(|| Message::property_type(name))?;
                if let Some(uri) = boot.get("HttpBootUri") {
                    orders.push(Order::SetHttpUri(http_uri(uri)?));
                }
                if boot.keys().any(|key| key.starts_with("BootSourceOverride")) || boot.is_empty() {
                    orders.push(Order::SetBoot(boot_override(boot, spec, machine.boot())?));
                } else if let Some(unknown) = boot.keys().find(|key| *key != "HttpBootUri") {
                    return Err(Message::property_unknown(unknown));
                }
            }
            // Annotations come along when a client sends back what it has read.
            (_, annotation) if annotation.starts_with("@odata.") => {}
            (_, known) if READ_ONLY.contains(&known) => return Err(Message::property_not_writable(known)),
            (_, unknown) => return Err(Message::property_unknown(unknown)),
        }
    }
    if orders.is_empty() { Err(Message::malformed_json()) } else { Ok(orders) }
}

/// Properties of systems and chassis that nobody can change.
const READ_ONLY: [&str; 9] =
    ["Id", "Name", "PowerState", "Status", "UUID", "SerialNumber", "Model", "Manufacturer", "Links"];

/// `null` takes the URL away.
fn http_uri(value: &Value) -> Result<Option<String>, Message> {
    match value {
        Value::Null => Ok(None),
        Value::String(uri) if is_web(uri) => Ok(Some(uri.clone())),
        Value::String(_) => Err(Message::property_not_in_list("a URL", "HttpBootUri")),
        _ => Err(Message::property_type("HttpBootUri")),
    }
}

fn boot_override(body: &Body, spec: &Spec, now: Override) -> Result<Override, Message> {
    let mut boot = now;
    for (name, value) in body {
        match name.as_str() {
            "BootSourceOverrideEnabled" => boot.enabled = one_of(name, value)?,
            "BootSourceOverrideTarget" => {
                boot.target = one_of(name, value)?;
                if !spec.boots(boot.target) {
                    return Err(Message::property_not_in_list(&plain(value), name));
                }
            }
            "HttpBootUri" => {}
            "BootSourceOverrideMode" if value == "UEFI" => {}
            "BootSourceOverrideMode" => return Err(Message::property_not_in_list(&plain(value), name)),
            unknown => return Err(Message::property_unknown(unknown)),
        }
    }
    // DSP0268: Disabled means that nothing is overridden, and None that there is nothing to override with.
    let overrides = boot.enabled != Enabled::Disabled && boot.target != Target::None;
    Ok(if overrides { boot } else { Override::default() })
}

fn one_of<T: DeserializeOwned>(name: &str, value: &Value) -> Result<T, Message> {
    if !value.is_string() {
        return Err(Message::property_type(name));
    }
    serde_json::from_value(value.clone()).map_err(|_| Message::property_not_in_list(&plain(value), name))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}
