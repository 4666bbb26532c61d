//! What the BMC says when it does not do what was asked: messages of the DMTF Base registry in a Redfish error body
//! (DSP0266 "Error responses"). No message holds a password, a token or the URL of an image.

use axum::http::StatusCode;
use serde_json::{Value, json};

/// The registry that the messages are from.
const REGISTRY: &str = "Base.1.14";

/// One message and the status that it comes with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub status: StatusCode,
    id: &'static str,
    text: String,
    args: Vec<String>,
    resolution: &'static str,
}

impl Message {
    fn new(status: StatusCode, id: &'static str, text: String, args: &[&str], resolution: &'static str) -> Message {
        Message { status, id, text, args: args.iter().map(ToString::to_string).collect(), resolution }
    }

    /// The whole body of an error answer.
    pub fn body(&self) -> Value {
        json!({"error": {
            "code": format!("{REGISTRY}.{}", self.id),
            "message": self.text,
            "@Message.ExtendedInfo": [{
                "@odata.type": "#Message.v1_1_2.Message",
                "MessageId": format!("{REGISTRY}.{}", self.id),
                "Message": self.text,
                "MessageArgs": self.args,
                "MessageSeverity": "Critical",
                "Resolution": self.resolution,
            }],
        }})
    }

    pub fn no_valid_session() -> Message {
        let text = "There is no valid session established with the implementation.".into();
        Message::new(StatusCode::UNAUTHORIZED, "NoValidSession", text, &[], "Establish a session before this request.")
    }

    pub fn wrong_account() -> Message {
        let text = "The user name or password is wrong.".into();
        let resolution = "Correct the user name or password.";
        Message::new(StatusCode::UNAUTHORIZED, "ResourceAtUriUnauthorized", text, &[], resolution)
    }

    pub fn session_limit() -> Message {
        let text = "The session establishment failed due to the number of simultaneous sessions.".into();
        let resolution = "Reduce the number of other sessions before trying to establish this one.";
        Message::new(StatusCode::SERVICE_UNAVAILABLE, "SessionLimitExceeded", text, &[], resolution)
    }

    pub fn unavailable() -> Message {
        let text = "The service is temporarily unavailable. Retry in 1 seconds.".into();
        let resolution = "Wait for the time indicated and try again.";
        Message::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceTemporarilyUnavailable", text, &["1"], resolution)
    }

    pub fn missing(uri: &str) -> Message {
        let text = format!("The resource at the URI '{uri}' was not found.");
        Message::new(StatusCode::NOT_FOUND, "ResourceMissingAtURI", text, &[uri], "Correct the URI.")
    }

    pub fn method_not_allowed() -> Message {
        let text = "The request method is not allowed for this resource.".into();
        let resolution = "Use one of the methods in the Allow header.";
        Message::new(StatusCode::METHOD_NOT_ALLOWED, "OperationNotAllowed", text, &[], resolution)
    }

    pub fn query_not_supported() -> Message {
        let text = "Querying is not supported by the implementation.".into();
        let resolution = "Remove the query parameters.";
        Message::new(StatusCode::NOT_IMPLEMENTED, "QueryNotSupported", text, &[], resolution)
    }

    pub fn odata_version() -> Message {
        let text = "The OData-Version in the request is not supported.".into();
        Message::new(StatusCode::PRECONDITION_FAILED, "HeaderInvalid", text, &["OData-Version"], "Ask for version 4.0.")
    }

    pub fn precondition_failed() -> Message {
        let text = "The ETag supplied did not match the ETag required to change this resource.".into();
        let resolution = "Read the resource again and use its current ETag.";
        Message::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", text, &[], resolution)
    }

    pub fn not_json() -> Message {
        let text = "The body is not of type application/json.".into();
        Message::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "HeaderInvalid", text, &["Content-Type"], "Send JSON.")
    }

    pub fn malformed_json() -> Message {
        let text = "The request body contained malformed JSON, or no JSON object.".into();
        Message::new(StatusCode::BAD_REQUEST, "MalformedJSON", text, &[], "Correct the request body.")
    }

    pub fn property_unknown(name: &str) -> Message {
        let text = format!("The property {name} is not in the list of valid properties for the resource.");
        Message::new(StatusCode::BAD_REQUEST, "PropertyUnknown", text, &[name], "Remove the unknown property.")
    }

    pub fn property_not_writable(name: &str) -> Message {
        let text = format!("The property {name} is a read-only property and cannot be assigned a value.");
        Message::new(StatusCode::FORBIDDEN, "PropertyNotWritable", text, &[name], "Remove the property.")
    }

    pub fn property_type(name: &str) -> Message {
        let text = format!("The value for the property {name} is not a type that the property can accept.");
        Message::new(StatusCode::BAD_REQUEST, "PropertyValueTypeError", text, &[name], "Correct the value.")
    }

    pub fn property_not_in_list(value: &str, name: &str) -> Message {
        let text = format!("The value '{value}' for the property {name} is not in the list of acceptable values.");
        let resolution = "Choose a value from the enumeration list.";
        Message::new(StatusCode::BAD_REQUEST, "PropertyValueNotInList", text, &[value, name], resolution)
    }

    pub fn parameter_missing(action: &str, name: &str) -> Message {
        let text = format!("The action {action} requires the parameter {name} to be present in the request body.");
        let resolution = "Supply the action with the required parameter.";
        Message::new(StatusCode::BAD_REQUEST, "ActionParameterMissing", text, &[action, name], resolution)
    }

    pub fn parameter_unknown(action: &str, name: &str) -> Message {
        let text = format!("The action {action} was submitted with the invalid parameter {name}.");
        let resolution = "Correct the invalid parameter.";
        Message::new(StatusCode::BAD_REQUEST, "ActionParameterUnknown", text, &[action, name], resolution)
    }

    pub fn parameter_value(action: &str, name: &str) -> Message {
        let text = format!("Invalid value was supplied for the action parameter {name} of {action}.");
        let resolution = "Correct the value for the action parameter.";
        Message::new(StatusCode::BAD_REQUEST, "ActionParameterValueError", text, &[name, action], resolution)
    }

    pub fn drive_occupied() -> Message {
        let text = "There is an image in the drive already.".into();
        Message::new(StatusCode::BAD_REQUEST, "ResourceAlreadyExists", text, &[], "Eject it first.")
    }

    pub fn busy(why: &str) -> Message {
        let text = format!("The change could not be made because the resource is in use or in transition: {why}.");
        Message::new(StatusCode::CONFLICT, "ResourceInUse", text, &[], "Try again when it is not.")
    }

    pub fn failed(why: &str) -> Message {
        let text = format!("The operation failed: {why}.");
        Message::new(StatusCode::INTERNAL_SERVER_ERROR, "OperationFailed", text, &[], "Look at the machine.")
    }
}
