//! Actions: reset, insert, eject.

use super::message::Message;
use super::{Body, Reply, Service};
use crate::machine::{Order, Reset};
use serde_json::Value;

const RESET: &str = "ComputerSystem.Reset";
const INSERT: &str = "VirtualMedia.InsertMedia";
const EJECT: &str = "VirtualMedia.EjectMedia";

impl Service<'_> {
    pub(super) fn reset(&mut self, body: &Body) -> Result<Reply, Message> {
        refuse_unknown(RESET, body, &["ResetType"])?;
        let value = body.get("ResetType").ok_or_else(|| Message::parameter_missing(RESET, "ResetType"))?;
        let reset: Reset =
            serde_json::from_value(value.clone()).map_err(|_| Message::parameter_value(RESET, "ResetType"))?;
        self.order(Order::Reset(reset))?;
        Ok(Reply::done())
    }

    pub(super) fn insert_media(&mut self, body: &Body) -> Result<Reply, Message> {
        let known = ["Image", "Inserted", "WriteProtected", "TransferMethod", "TransferProtocolType"];
        refuse_unknown(INSERT, body, &known)?;
        let image = body.get("Image").ok_or_else(|| Message::parameter_missing(INSERT, "Image"))?;
        let image = image.as_str().filter(|image| is_web(image));
        let image = image.ok_or_else(|| Message::parameter_value(INSERT, "Image"))?;
        for must_be_true in ["Inserted", "WriteProtected"] {
            if body.get(must_be_true).is_some_and(|value| *value != Value::Bool(true)) {
                return Err(Message::parameter_value(INSERT, must_be_true));
            }
        }
        if self.machine.media().is_some() {
            return Err(Message::drive_occupied());
        }
        self.order(Order::Insert(image.into()))?;
        Ok(Reply::done())
    }

    pub(super) fn eject_media(&mut self, body: &Body) -> Result<Reply, Message> {
        refuse_unknown(EJECT, body, &[])?;
        self.order(Order::Eject)?;
        Ok(Reply::done())
    }
}

fn refuse_unknown(action: &str, body: &Body, known: &[&str]) -> Result<(), Message> {
    match body.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(Message::parameter_unknown(action, name)),
        None => Ok(()),
    }
}

pub(super) fn is_web(image: &str) -> bool {
    url::Url::parse(image).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}
