//! One virtual media slot: what it holds, what it takes, and what its refusals ask for (DSP0268 VirtualMedia). No requests here.

use super::fault::{Fault, Refusal, scrub};
use super::value::{Resource, strings, text};
use crate::error::Error;
use serde_json::{Value, json};
use url::Url;

pub(super) fn id(slot: &Resource) -> Option<&str> {
    text(&slot.body, "/Id")
}

/// True for a slot that takes a CD or a DVD, or does not say what it takes.
pub(super) fn takes_cd(body: &Value) -> bool {
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
pub(super) fn holds(body: &Value, url: &str) -> bool {
    image(body).is_some_and(|image| is_same_image(&image, url))
}

/// True when what is shown is `url`, whole or by its file name.
pub(super) fn is_same_image(shown: &str, url: &str) -> bool {
    shown == url || file_name(shown).is_some_and(|name| file_name(url) == Some(name))
}

/// The last part of the path: for our media it is the secret, so no two are alike.
fn file_name(url: &str) -> Option<String> {
    let parsed = Url::parse(url).ok();
    let path = parsed.as_ref().map_or(url, Url::path);
    path.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// The field that a refusal asks for and that is not in the order yet. What each stands for: DSP0268 VirtualMedia `InsertMedia`.
pub(super) fn missing_field(refusal: &Refusal, order: &Value, url: &str) -> Option<(&'static str, Value)> {
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
pub(super) fn most_telling(what: &str, refusals: Vec<Refusal>) -> Fault {
    let about_slot = |refusal: &Refusal| matches!(refusal.status.as_u16(), 404 | 405 | 410 | 501);
    match refusals.into_iter().min_by_key(about_slot) {
        Some(refusal) => Fault::Refused(refusal),
        None => Error::Unsupported { what: what.into() }.into(),
    }
}

pub(super) fn without_url(fault: Fault, url: &str) -> Fault {
    let Fault::Refused(refusal) = fault else { return fault };
    let name = file_name(url).unwrap_or_default();
    let path = Url::parse(url).map(|url| url.path().to_owned()).unwrap_or_default();
    let path = path.trim_matches('/');
    // The whole path first: what is left of it then is not part of a word.
    Fault::Refused(refusal.hide(&[path, &name]))
}

/// What is in a slot, for errors.
pub(super) fn shown(body: &Value) -> String {
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
        let refusal = Refusal::read("insert the image", &Method::POST, StatusCode::BAD_REQUEST, body.as_bytes());
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
        let refusal = Refusal::read("insert the image", &Method::POST, StatusCode::BAD_REQUEST, body.as_bytes());
        let error: Error = without_url(Fault::Refused(refusal), url).into();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn what_is_shown_of_another_image_is_only_its_origin() {
        assert_eq!(shown(&json!({"Image": "https://h/m/s.img", "Inserted": true})), "another image, https://h/…");
    }
}
