//! Lenient reading of Redfish JSON: everything is optional, `null` is absent, and nothing panics on the unexpected.
//!
//! Paths are JSON pointers (RFC 6901), for example `/Status/Health`.

use serde_json::Value;

/// One resource as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    /// The link it was read from.
    pub uri: String,
    /// Its version, from the header or from `@odata.etag`.
    pub etag: Option<String>,
    /// What it says.
    pub body: Value,
}

/// A string that says something: absent, `null` and blank are all `None`.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
}

/// A link to another resource: `{"@odata.id": "…"}`, or the bare string that some send.
pub(crate) fn link<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(as_link)
}

/// The links in an array. `null`, an absent array and members without a link (AMI) give nothing.
pub(crate) fn links<'a>(value: &'a Value, pointer: &str) -> Vec<&'a str> {
    match value.pointer(pointer) {
        Some(Value::Array(items)) => items.iter().filter_map(as_link).collect(),
        _ => Vec::new(),
    }
}

/// The strings in an array; `None` when there is no array, which means "not said" and not "none".
pub(crate) fn strings(value: &Value, pointer: &str) -> Option<Vec<String>> {
    let items = value.pointer(pointer)?.as_array()?;
    Some(items.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// Where an action is posted to, for example `target(body, "#VirtualMedia.InsertMedia")`.
pub(crate) fn target<'a>(value: &'a Value, action: &str) -> Option<&'a str> {
    let target = value.get("Actions")?.get(action)?.get("target")?.as_str()?.trim();
    (!target.is_empty()).then_some(target)
}

fn as_link(value: &Value) -> Option<&str> {
    let link = value.as_str().or_else(|| value.get("@odata.id").and_then(Value::as_str))?.trim();
    (!link.is_empty()).then_some(link)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_may_be_null_or_hold_things_that_are_no_links() {
        let odd = json!({"Members": [{"@odata.id": "/redfish/v1/Systems/1"}, {}, null, {"@odata.id": null}]});
        assert_eq!(links(&odd, "/Members"), ["/redfish/v1/Systems/1"]);
        assert!(links(&json!({"Members": null}), "/Members").is_empty());
    }

    #[test]
    fn an_absent_list_differs_from_an_empty_one() {
        assert_eq!(strings(&json!({}), "/Allowed"), None);
        assert_eq!(strings(&json!({"Allowed": []}), "/Allowed"), Some(vec![]));
    }

    #[test]
    fn blank_and_null_text_is_absent() {
        let body = json!({"Image": "  ", "Name": null, "Model": " R750 "});
        assert_eq!((text(&body, "/Image"), text(&body, "/Name"), text(&body, "/Model")), (None, None, Some("R750")));
    }

    #[test]
    fn an_action_is_found_by_its_name() {
        let body = json!({"Actions": {"#VirtualMedia.EjectMedia": {"target": "/x"}, "Oem": {}}});
        assert_eq!(target(&body, "#VirtualMedia.EjectMedia"), Some("/x"));
        assert_eq!(target(&body, "#VirtualMedia.InsertMedia"), None);
    }
}
