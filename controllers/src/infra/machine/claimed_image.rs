//! The image of a claim: everything that an OSImage refers to, resolved, so that a later edit touches no running host.

use super::view::{AnswersSeen, MachineView};
use rackwright_api::OSImage;
use rackwright_api::host::ClaimedImage;
use rackwright_api::installer::{ANSWERS_MAX, Installer};
use rackwright_bootstrap::installer::{Kickstart, Preseed, Wanted, check_template};

/// What the claim holds of `image`; a sentence when no host can be claimed for it yet.
pub(super) fn resolve(view: &MachineView, image: &OSImage) -> Result<ClaimedImage, String> {
    let (spec, name) = (&image.spec, &view.spec.image.name);
    match (of_disk(name, image), &spec.disk, &spec.installer) {
        (Some(image), ..) => Ok(image),
        (None, None, Some(installer)) => {
            let template = template(installer, &view.answers).map_err(|why| format!("OSImage {name}: {why}"))?;
            let kernel = installer.kernel.clone();
            Ok(ClaimedImage {
                name: name.clone(),
                url: kernel.url,
                digest: kernel.digest,
                format: Default::default(),
                config_drive: spec.config_drive,
                final_boot: Default::default(),
                installer: Some(installer.resolved(template)),
            })
        }
        // An object stored under older rules gets here too.
        _ => Err(format!("OSImage {name}: set exactly one of spec.disk and spec.installer")),
    }
}

/// `image` of that name, when the agent is to write it: a disk image, and no installer.
pub(crate) fn of_disk(name: &str, image: &OSImage) -> Option<ClaimedImage> {
    let spec = &image.spec;
    let disk = spec.disk.as_ref().filter(|_| spec.installer.is_none())?;
    Some(ClaimedImage {
        name: name.into(),
        url: disk.url.clone(),
        digest: disk.digest.clone(),
        format: disk.format,
        config_drive: spec.config_drive,
        final_boot: spec.final_boot,
        installer: None,
    })
}

/// The person's own answers, when there are some and they can be used.
fn template<'a>(installer: &Installer, answers: &'a AnswersSeen) -> Result<Option<&'a str>, String> {
    let Some(reference) = installer.config_map_ref() else { return Ok(None) };
    let text = match answers {
        AnswersSeen::Text(text) => text,
        AnswersSeen::Missing(why) => return Err(why.clone()),
        AnswersSeen::None => return Err(format!("ConfigMap {} was not read yet", reference.name)),
    };
    let from = format!("ConfigMap {}, key {}", reference.name, reference.key);
    if text.len() > ANSWERS_MAX {
        return Err(format!("{from}: has {} bytes; {ANSWERS_MAX} are allowed", text.len()));
    }
    let wanted = match installer.kickstart {
        Some(_) => Wanted::Kickstart(Kickstart::Own(text.clone())),
        None => Wanted::Preseed(Preseed::Own(text.clone())),
    };
    check_template(&wanted).map_err(|why| format!("{from}: {}", why.why))?;
    Ok(Some(text))
}
