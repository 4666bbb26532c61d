//! Power and the locator light.

use super::fault::Fault;
use super::machine::{Call, power};
use super::value::{Resource, link, links, strings, target, text};
use crate::error::Error;
use crate::{Power, PowerTarget};
use serde_json::{Value, json};
use tokio::time::Instant;

/// The action that switches a ComputerSystem.
const RESET: &str = "#ComputerSystem.Reset";

impl Call<'_> {
    pub(super) async fn set_power(&mut self, wanted: PowerTarget) -> std::result::Result<(), Fault> {
        let (what, there) = match wanted {
            PowerTarget::On => ("switch the machine on", Power::On),
            PowerTarget::Off => ("switch the machine off", Power::Off),
        };
        let unsupported = || Fault::from(Error::Unsupported { what: what.into() });
        let system = self.system().await?;
        if is_there(&system.body, wanted) {
            return Ok(());
        }
        let action = target(&system.body, RESET).ok_or_else(unsupported)?.to_owned();
        let allowed = self.reset_values(&system).await?;
        let value = reset_value(allowed.as_deref(), wanted).ok_or_else(unsupported)?;
        // A 202 is not waited for: the order was taken, and the power state tells the rest.
        match self.line.post(what, &action, &json!({"ResetType": value})).await {
            Ok(_) => Ok(()),
            // Some refuse what is so already; it may have come to pass since we looked.
            Err(fault @ Fault::Refused(_)) => match self.system().await {
                Ok(system) if power(&system.body) == Some(there) => Ok(()),
                _ => Err(fault),
            },
            Err(fault) => Err(fault),
        }
    }

    /// The reset values that are allowed; `None` when the BMC does not say. They stand in the system or behind `@Redfish.ActionInfo`.
    pub(crate) async fn reset_values(&mut self, system: &Resource) -> std::result::Result<Option<Vec<String>>, Fault> {
        let action = system.body.get("Actions").and_then(|actions| actions.get(RESET)).cloned().unwrap_or_default();
        if let Some(values) = strings(&action, "/ResetType@Redfish.AllowableValues").filter(|values| !values.is_empty())
        {
            return Ok(Some(values));
        }
        let Some(info) = link(&action, "/@Redfish.ActionInfo") else { return Ok(None) };
        match self.line.get(info).await {
            Ok(info) => Ok(parameter_values(&info.body, "ResetType")),
            Err(fault) if fault.is_gone() => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    pub(super) async fn set_locator(&mut self, on: bool) -> std::result::Result<(), Fault> {
        let what = if on { "light its locator" } else { "put out its locator" };
        let Some(place) = self.locator_place().await? else {
            return Err(Error::Unsupported { what: what.into() }.into());
        };
        if is_lit(&place.body) == Some(on) {
            return Ok(());
        }
        let answer = self.line.patch(what, &place, &locator_order(&place.body, on)).await?;
        self.line.settle(what, answer).await?;
        let config = self.machine.client.config.clone();
        let give_up = Instant::now() + config.read_back;
        while is_lit(&self.line.get(&place.uri).await?.body) != Some(on) {
            if Instant::now() >= give_up || !self.line.pause(config.read_back_interval).await {
                let found = if on { "it dark" } else { "it lit" };
                return Err(Error::NotDone { what: what.into(), found: found.into() }.into());
            }
        }
        Ok(())
    }

    /// The system, or else the chassis around it, whichever has a light.
    pub(crate) async fn locator_place(&mut self) -> std::result::Result<Option<Resource>, Fault> {
        let system = self.system().await?;
        let chassis: Vec<String> = links(&system.body, "/Links/Chassis").into_iter().map(str::to_owned).collect();
        if is_lit(&system.body).is_some() {
            return Ok(Some(system));
        }
        for uri in chassis {
            match self.line.get(&uri).await {
                Ok(chassis) if is_lit(&chassis.body).is_some() => return Ok(Some(chassis)),
                Ok(_) => {}
                Err(fault) if fault.is_gone() => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(None)
    }
}

/// True when nothing is to be ordered. A machine that is still being switched off counts as on, but it is not on to stay.
fn is_there(body: &Value, wanted: PowerTarget) -> bool {
    match wanted {
        PowerTarget::Off => power(body) == Some(Power::Off),
        PowerTarget::On => power(body) == Some(Power::On) && text(body, "/PowerState") != Some("PoweringOff"),
    }
}

/// The reset value to send. Where the BMC does not say what it allows, the most common one.
pub(crate) fn reset_value(allowed: Option<&[String]>, wanted: PowerTarget) -> Option<&'static str> {
    let good: &[&'static str] = match wanted {
        PowerTarget::On => &["On", "ForceOn"],
        PowerTarget::Off => &["ForceOff"],
    };
    match allowed {
        None => good.first().copied(),
        Some(allowed) => good.iter().copied().find(|good| allowed.iter().any(|value| value == good)),
    }
}

fn parameter_values(info: &Value, name: &str) -> Option<Vec<String>> {
    let parameters = info.get("Parameters")?.as_array()?;
    let parameter = parameters.iter().find(|parameter| text(parameter, "/Name") == Some(name))?;
    strings(parameter, "/AllowableValues").filter(|values| !values.is_empty())
}

/// Whether the light is on; `None` when there is no light. `IndicatorLED` is the old name (deprecated in ComputerSystem 1.13).
fn is_lit(body: &Value) -> Option<bool> {
    let active = body.get("LocationIndicatorActive").and_then(Value::as_bool);
    active.or_else(|| text(body, "/IndicatorLED").map(|led| matches!(led, "Lit" | "Blinking")))
}

fn locator_order(body: &Value, on: bool) -> Value {
    if body.get("LocationIndicatorActive").is_some_and(Value::is_boolean) {
        return json!({"LocationIndicatorActive": on});
    }
    let allowed = strings(body, "/IndicatorLED@Redfish.AllowableValues").unwrap_or_default();
    let lit = if allowed.iter().any(|value| value == "Blinking") { "Blinking" } else { "Lit" };
    json!({"IndicatorLED": if on { lit } else { "Off" }})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| value.to_string()).collect()
    }

    #[test]
    fn the_reset_value_is_one_that_is_allowed() {
        let all = values(&["ForceOn", "On", "ForceOff", "GracefulShutdown"]);
        assert_eq!(reset_value(Some(&all), PowerTarget::On), Some("On"));
        assert_eq!(reset_value(Some(&all), PowerTarget::Off), Some("ForceOff"));
        assert_eq!(reset_value(Some(&values(&["ForceOn"])), PowerTarget::On), Some("ForceOn"));
        assert_eq!(reset_value(Some(&values(&["GracefulShutdown"])), PowerTarget::Off), None);
    }

    #[test]
    fn what_is_not_said_is_tried() {
        assert_eq!(reset_value(None, PowerTarget::Off), Some("ForceOff"));
    }

    #[test]
    fn action_info_is_read_by_parameter() {
        let info = json!({"Parameters": [{"Name": "Other", "AllowableValues": ["x"]},
            {"Name": "ResetType", "AllowableValues": ["On", "ForceOff"]}]});
        assert_eq!(parameter_values(&info, "ResetType"), Some(values(&["On", "ForceOff"])));
    }

    #[test]
    fn a_machine_on_its_way_down_is_not_on_to_stay() {
        let body = json!({"PowerState": "PoweringOff"});
        assert!(!is_there(&body, PowerTarget::On) && !is_there(&body, PowerTarget::Off));
    }

    #[test]
    fn the_new_light_is_preferred_to_the_old_one() {
        let both = json!({"LocationIndicatorActive": false, "IndicatorLED": "Lit"});
        assert_eq!(
            (is_lit(&both), locator_order(&both, true)),
            (Some(false), json!({"LocationIndicatorActive": true}))
        );
        let old = json!({"LocationIndicatorActive": null, "IndicatorLED": "Off"});
        assert_eq!((is_lit(&old), locator_order(&old, true)), (Some(false), json!({"IndicatorLED": "Lit"})));
        assert_eq!(is_lit(&json!({})), None);
    }
}
