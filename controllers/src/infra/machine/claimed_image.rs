//! The image of a claim: everything that an OSImage refers to, resolved, so that a later edit touches no running host.

use super::view::{AnswersSeen, MachineView};
use rackwright_api::OSImage;
use rackwright_api::host::ClaimedImage;
use rackwright_api::installer::{ANSWERS_MAX, Installer};
use rackwright_bootstrap::installer::{Kickstart, Preseed, Wanted, check_template};

/// What the claim holds of `image`; a sentence when no host can be claimed for it yet.
pub(super) fn resolve(view: &MachineView, image: &OSImage) -> Result<ClaimedImage, String> {
    let (spec, name) = (&image.spec, &view.spec.image.name);
    let (url, digest, format, installer) = match (&spec.disk, &spec.installer) {
        (Some(disk), None) => (disk.url.clone(), disk.digest.clone(), disk.format, None),
        (None, Some(installer)) => {
            let template = template(installer, &view.answers).map_err(|why| format!("OSImage {name}: {why}"))?;
            let kernel = installer.kernel.clone();
            (kernel.url, kernel.digest, Default::default(), Some(installer.resolved(template)))
        }
        // An object stored under older rules gets here too.
        _ => return Err(format!("OSImage {name}: set exactly one of spec.disk and spec.installer")),
    };
    Ok(ClaimedImage {
        name: name.clone(),
        url,
        digest,
        format,
        config_drive: spec.config_drive,
        final_boot: if installer.is_some() { Default::default() } else { spec.final_boot },
        installer,
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
