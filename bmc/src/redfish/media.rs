//! The virtual CD drive: whichever slots of this machine take a CD (DSP0268 VirtualMedia).
//!
//! Slots hang under the system on new BMCs and under its managers on most; both are looked at, the system's first. All of them together
//! are "the drive": before an image goes in, every other one comes out, since the firmware would choose between them. The URL of an image
//! is a secret and never gets into an error.

use super::fault::{Fault, Refusal, scrub};
use super::machine::{Call, Known};
use super::value::{Resource, link, links, strings, target, text};
use crate::Media;
use crate::error::Error;
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

const INSERT: &str = "#VirtualMedia.InsertMedia";
const EJECT: &str = "#VirtualMedia.EjectMedia";
const INSERTING: &str = "insert the image";
const EJECTING: &str = "eject the image";
/// How often an insertion is ordered again after "not now"; the slot is read before each.
const MOST_INSERTIONS: usize = 3;

impl Call<'_> {
    pub(super) async fn media(&mut self) -> std::result::Result<Media, Fault> {
        let slots = self.slots().await?;
        Ok(Media { url: slots.iter().find_map(|slot| image(&slot.body)) })
    }

    pub(super) async fn insert(&mut self, url: &str) -> std::result::Result<(), Fault> {
        let slots = self.slots().await?;
        if slots.iter().any(|slot| holds(&slot.body, url)) {
            return Ok(());
        }
        for slot in &slots {
            self.empty(slot).await?;
        }
        let mut refusals = Vec::new();
        for slot in &slots {
            match self.insert_into(slot, url).await {
                // Slots for a person's own console take no URL (OpenBMC, Cisco): 400, 405 or no such action.
                Err(Fault::Refused(refusal)) if refusal.is_about_the_way() => refusals.push(refusal),
                other => return other,
            }
        }
        Err(most_telling(refusals))
    }

    pub(super) async fn eject(&mut self) -> std::result::Result<(), Fault> {
        for slot in self.slots().await? {
            self.empty(&slot).await?;
        }
        Ok(())
    }

    /// All slots that take a CD, freshly read.
    pub(crate) async fn slots(&mut self) -> std::result::Result<Vec<Resource>, Fault> {
        let known = self.machine.known().slots.clone();
        if let Some(links) = known {
            match self.read_all(&links).await {
                Err(fault) if fault.is_gone() => *self.machine.known() = Known::default(),
                other => return other,
            }
        }
        let slots = self.find_slots().await?;
        if slots.is_empty() {
            return Err(Error::Unsupported { what: "insert a virtual CD: no slot takes one".into() }.into());
        }
        self.machine.known().slots = Some(slots.iter().map(|slot| slot.uri.clone()).collect());
        Ok(slots)
    }

    async fn read_all(&mut self, links: &[String]) -> std::result::Result<Vec<Resource>, Fault> {
        let mut found = Vec::new();
        for uri in links {
            found.push(self.line.get(uri).await?);
        }
        Ok(found)
    }

    async fn find_slots(&mut self) -> std::result::Result<Vec<Resource>, Fault> {
        let mut seen: Vec<String> = Vec::new();
        let mut slots = Vec::new();
        for collection in self.media_collections().await? {
            let members = match self.line.members(&collection).await {
                Err(fault) if fault.is_gone() => continue,
                other => other?,
            };
            for uri in members {
                if seen.contains(&uri) {
                    continue;
                }
                seen.push(uri.clone());
                match self.line.get(&uri).await {
                    Ok(slot) if takes_cd(&slot.body) => slots.push(slot),
                    Ok(_) => {}
                    Err(fault) if fault.is_gone() => {}
                    Err(fault) => return Err(fault),
                }
            }
        }
        Ok(slots)
    }

    /// The system's own collection and those of the managers that manage it.
    async fn media_collections(&mut self) -> std::result::Result<Vec<String>, Fault> {
        let system = self.system().await?;
        let mut collections: Vec<String> = link(&system.body, "/VirtualMedia").map(str::to_owned).into_iter().collect();
        let mut managers: Vec<String> =
            links(&system.body, "/Links/ManagedBy").into_iter().map(str::to_owned).collect();
        if managers.is_empty() {
            let root = self.line.root().await?;
            if let Some(all) = link(&root.body, "/Managers") {
                managers = self.line.members(all).await?;
            }
        }
        for manager in managers {
            let manager = match self.line.get(&manager).await {
                Err(fault) if fault.is_gone() => continue,
                other => other?,
            };
            collections.extend(link(&manager.body, "/VirtualMedia").map(str::to_owned));
        }
        collections.dedup();
        Ok(collections)
    }

    /// Orders the insertion into one slot and reads it back.
    async fn insert_into(&mut self, slot: &Resource, url: &str) -> std::result::Result<(), Fault> {
        let config = self.machine.client.config.clone();
        for turn in 1.. {
            let fault = match self.order_insertion(slot, url).await {
                Ok(()) => break,
                Err(fault) => without_url(fault, url),
            };
            // After an ejection some (Dell) need a moment. The slot is read first, so this does not repeat blindly.
            let not_now = matches!(&fault, Fault::Refused(refusal) if refusal.is_busy() || fault.is_passing());
            if !not_now || turn >= MOST_INSERTIONS || !self.line.pause(config.read_back_interval).await {
                return Err(fault);
            }
            if holds(&self.line.get(&slot.uri).await?.body, url) {
                return Ok(());
            }
        }
        let give_up = Instant::now() + config.read_back;
        loop {
            let body = self.line.get(&slot.uri).await?.body;
            if holds(&body, url) {
                return Ok(());
            }
            if Instant::now() >= give_up || !self.line.pause(config.read_back_interval).await {
                return Err(Error::NotDone { what: INSERTING.into(), found: shown(&body) }.into());
            }
        }
    }

    /// By the action, or by PATCH where there is none (Lenovo). Starts with the least and adds what the BMC asks for.
    async fn order_insertion(&mut self, slot: &Resource, url: &str) -> std::result::Result<(), Fault> {
        let Some(action) = target(&slot.body, INSERT) else {
            let order = json!({"Image": url, "Inserted": true, "WriteProtected": true});
            let answer = self.line.patch(INSERTING, slot, &order).await?;
            return self.line.settle(INSERTING, answer).await;
        };
        let mut order = json!({"Image": url});
        loop {
            match self.line.post(INSERTING, action, &order).await {
                Ok(answer) => return self.line.settle(INSERTING, answer).await,
                Err(Fault::Refused(refusal)) => match missing_field(&refusal, &order, url) {
                    Some((name, value)) => order[name] = value,
                    None => return Err(Fault::Refused(refusal)),
                },
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Takes out what is in a slot and reads back that it is empty.
    async fn empty(&mut self, slot: &Resource) -> std::result::Result<(), Fault> {
        // An earlier slot may be the same drive by another name, and some show the action only when there is something to eject.
        if image(&slot.body).is_none() {
            return Ok(());
        }
        let slot = self.line.get(&slot.uri).await?;
        if image(&slot.body).is_none() {
            return Ok(());
        }
        let order = match target(&slot.body, EJECT) {
            // HPE wants a body.
            Some(action) => self.line.post(EJECTING, action, &json!({})).await,
            None => self.line.patch(EJECTING, &slot, &json!({"Image": null, "Inserted": false})).await,
        };
        let refused = match order {
            Ok(answer) => self.line.settle(EJECTING, answer).await.err(),
            Err(fault @ Fault::Refused(_)) => Some(fault),
            Err(fault) => return Err(fault),
        };
        let config = self.machine.client.config.clone();
        let give_up = Instant::now() + config.read_back;
        loop {
            let body = self.line.get(&slot.uri).await?.body;
            if image(&body).is_none() {
                return Ok(());
            }
            if let Some(refused) = refused {
                return Err(refused);
            }
            if Instant::now() >= give_up || !self.line.pause(config.read_back_interval).await {
                return Err(Error::NotDone { what: EJECTING.into(), found: shown(&body) }.into());
            }
        }
    }
}

/// True for a slot that takes a CD or a DVD, or does not say what it takes.
fn takes_cd(body: &Value) -> bool {
    match strings(body, "/MediaTypes") {
        None => true,
        Some(types) => types.iter().any(|kind| kind.eq_ignore_ascii_case("CD") || kind.eq_ignore_ascii_case("DVD")),
    }
}

/// The image in a slot; `None` when it is empty. An image without a name is still an image.
pub(crate) fn image(body: &Value) -> Option<String> {
    let name = text(body, "/Image").or_else(|| text(body, "/ImageName"));
    match body.get("Inserted").and_then(Value::as_bool) {
        Some(false) => None,
        Some(true) => Some(name.unwrap_or("an image without a name").to_owned()),
        // Without the property, an image that is named is in, unless nothing is connected.
        None if text(body, "/ConnectedVia") == Some("NotConnected") => None,
        None => name.map(str::to_owned),
    }
}

/// True when the slot holds this very image. Some tell it decoded, without its account, or only by its file name.
fn holds(body: &Value, url: &str) -> bool {
    let Some(image) = image(body) else { return false };
    image == url || file_name(&image).is_some_and(|name| file_name(url) == Some(name))
}

/// The last part of the path: for our media it is the secret, so no two are alike.
fn file_name(url: &str) -> Option<String> {
    let parsed = Url::parse(url).ok();
    let path = parsed.as_ref().map_or(url, Url::path);
    path.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// The field that a refusal asks for and that is not in the order yet. What each stands for: DSP0268 VirtualMedia `InsertMedia`.
fn missing_field(refusal: &Refusal, order: &Value, url: &str) -> Option<(&'static str, Value)> {
    if refusal.status.as_u16() != 400 {
        return None;
    }
    let protocol = if url.starts_with("https:") { "HTTPS" } else { "HTTP" };
    let fields = [
        ("TransferProtocolType", json!(protocol)),
        ("TransferMethod", json!("Stream")),
        ("Inserted", json!(true)),
        ("WriteProtected", json!(true)),
        // NVIDIA DGX wants an account even where the server wants none.
        ("UserName", json!("none")),
        ("Password", json!("none")),
    ];
    fields.into_iter().find(|(name, _)| order.get(name).is_none() && refusal.names(name))
}

/// Of all refusals the one that a person learns most from: about the image rather than about the slot.
fn most_telling(refusals: Vec<Refusal>) -> Fault {
    let about_slot = |refusal: &Refusal| matches!(refusal.status.as_u16(), 404 | 405 | 410 | 501);
    match refusals.into_iter().min_by_key(about_slot) {
        Some(refusal) => Fault::Refused(refusal),
        None => Error::Unsupported { what: INSERTING.into() }.into(),
    }
}

fn without_url(fault: Fault, url: &str) -> Fault {
    let Fault::Refused(refusal) = fault else { return fault };
    let name = file_name(url).unwrap_or_default();
    let path = Url::parse(url).map(|url| url.path().to_owned()).unwrap_or_default();
    let path = path.trim_matches('/');
    // The whole path first: what is left of it then is not part of a word.
    Fault::Refused(refusal.hide(&[path, &name]))
}

/// What is in a slot, for errors.
fn shown(body: &Value) -> String {
    match image(body) {
        Some(image) => format!("another image, {}", scrub(image.rsplit_once('/').map_or("", |(place, _)| place))),
        None => "an empty slot".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::{Method, StatusCode};

    #[test]
    fn dvd_will_do_and_an_unsaid_type_too() {
        assert!(takes_cd(&json!({"MediaTypes": ["DVD"]})) && takes_cd(&json!({"MediaTypes": null})));
        assert!(!takes_cd(&json!({"MediaTypes": ["USBStick", "Floppy"]})));
    }

    #[test]
    fn an_empty_slot_is_empty_in_every_dialect() {
        for empty in [
            json!({"Image": null, "Inserted": false}),
            json!({"Image": "", "Inserted": false, "ConnectedVia": "NotConnected"}),
            json!({"Image": "https://a/b.img", "Inserted": false}),
            json!({"Image": "https://a/b.img", "ConnectedVia": "NotConnected"}),
            json!({"Image": ""}),
        ] {
            assert_eq!(image(&empty), None, "{empty}");
        }
    }

    #[test]
    fn an_image_is_known_by_its_url_or_its_file_name() {
        let url = "https://10.0.0.1:8443/media/ns/host/op/secret.img";
        for body in [
            json!({"Image": url, "Inserted": true}),
            json!({"Image": "https://10.0.0.1/secret.img", "Inserted": true}),
            json!({"Image": null, "ImageName": "secret.img", "Inserted": true}),
        ] {
            assert!(holds(&body, url), "{body}");
        }
        assert!(!holds(&json!({"Image": "https://10.0.0.1/other.img", "Inserted": true}), url));
        assert!(!holds(&json!({"Image": url, "Inserted": false}), url));
    }

    #[test]
    fn fields_are_added_one_by_one_as_the_bmc_asks() {
        let body = r#"{"error": {"message": "The action requires TransferProtocolType and Inserted"}}"#;
        let refusal = Refusal::read(INSERTING, &Method::POST, StatusCode::BAD_REQUEST, body.as_bytes());
        let first = missing_field(&refusal, &json!({"Image": "x"}), "https://x");
        assert_eq!(first, Some(("TransferProtocolType", json!("HTTPS"))));
        let second = missing_field(&refusal, &json!({"Image": "x", "TransferProtocolType": "HTTPS"}), "https://x");
        assert_eq!(second, Some(("Inserted", json!(true))));
        let all = json!({"Image": "x", "TransferProtocolType": "HTTPS", "Inserted": true});
        assert_eq!(missing_field(&refusal, &all, "https://x"), None);
    }

    #[test]
    fn a_refusal_does_not_tell_the_url() {
        let url = "https://10.0.0.1/media/ns/host/op/secret.img";
        let body = format!(
            r#"{{"error": {{"message": "cannot mount {url}: no secret.img at /media/ns/host/op/secret.img"}}}}"#
        );
        let refusal = Refusal::read(INSERTING, &Method::POST, StatusCode::BAD_REQUEST, body.as_bytes());
        let error: Error = without_url(Fault::Refused(refusal), url).into();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn what_is_shown_of_another_image_is_only_its_origin() {
        assert_eq!(shown(&json!({"Image": "https://h/m/s.img", "Inserted": true})), "another image, https://h/…");
    }
}
