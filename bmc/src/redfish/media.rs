//! The virtual CD drive: whichever slots of this machine take a CD (DSP0268 VirtualMedia).
//!
//! Slots hang under the system on new BMCs and under its managers on most; both are looked at, the system's first. All of them together
//! are "the drive": before an image goes in, every other one comes out, since the firmware would choose between them. The URL of an image
//! is a secret and never gets into an error.

use super::fault::Fault;
use super::machine::{Call, Known};
use super::slot::{holds, id, image, missing_field, most_telling, shown, takes_cd, without_url};
use super::value::{Resource, link, links, target};
use crate::Media;
use crate::error::Error;
use serde_json::json;
use tokio::time::Instant;

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
        Err(most_telling(INSERTING, refusals))
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

    /// The system's slots, then those of its managers. A manager's slot with the Id of one of the system's is the same slot by an older
    /// name (Lenovo shows all ten twice).
    async fn find_slots(&mut self) -> std::result::Result<Vec<Resource>, Fault> {
        let system = self.system().await?;
        let mut slots = match link(&system.body, "/VirtualMedia") {
            Some(collection) => self.cd_slots(collection).await?,
            None => Vec::new(),
        };
        let own = slots.len();
        for manager in self.managers(&system).await? {
            let Some(collection) = self
                .get_if_there(&manager)
                .await?
                .and_then(|manager| link(&manager.body, "/VirtualMedia").map(str::to_owned))
            else {
                continue;
            };
            for slot in self.cd_slots(&collection).await? {
                let is_own = slots[..own].iter().any(|known| id(known).is_some() && id(known) == id(&slot));
                if !is_own && !slots.iter().any(|known| known.uri == slot.uri) {
                    slots.push(slot);
                }
            }
        }
        Ok(slots)
    }

    /// The managers of a system; all there are when it does not say.
    async fn managers(&mut self, system: &Resource) -> std::result::Result<Vec<String>, Fault> {
        let managers: Vec<String> = links(&system.body, "/Links/ManagedBy").into_iter().map(str::to_owned).collect();
        if !managers.is_empty() {
            return Ok(managers);
        }
        let root = self.line.root().await?;
        match root.managers {
            Some(all) => self.line.members(&all).await,
            None => Ok(Vec::new()),
        }
    }

    async fn cd_slots(&mut self, collection: &str) -> std::result::Result<Vec<Resource>, Fault> {
        let members = match self.line.members(collection).await {
            Err(fault) if fault.is_gone() => Vec::new(),
            other => other?,
        };
        let mut slots = Vec::new();
        for uri in members {
            slots.extend(self.get_if_there(&uri).await?.filter(|slot| takes_cd(&slot.body)));
        }
        Ok(slots)
    }

    /// BMCs advertise links that lead nowhere.
    async fn get_if_there(&mut self, uri: &str) -> std::result::Result<Option<Resource>, Fault> {
        match self.line.get(uri).await {
            Err(fault) if fault.is_gone() => Ok(None),
            other => other.map(Some),
        }
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
