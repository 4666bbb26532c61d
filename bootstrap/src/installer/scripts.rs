//! The shell scripts that end an installation, alike for every installer: they leave the user-data for cloud-init and
//! tell the boot service.
//!
//! What a person or a cluster put into the user-data stands in them as base64, whose letters mean nothing to a shell, a
//! kickstart or a preseed, and among which neither a `%end` nor the mark of the disk can be.

use super::words::shell_quoted;
use super::{Install, Report};
use base64::{Engine, engine::general_purpose::STANDARD};

/// Letters of base64 in one line.
const WIDTH: usize = 76;
/// Ends a here-document: its dash is no letter of base64.
const END: &str = "RACKWRIGHT-END";

/// Run inside the new system: the folder that cloud-init's NoCloud looks at, and word that it need not look elsewhere.
pub(super) fn seed(install: &Install) -> String {
    format!(
        "set -eu\n\
         umask 077\n\
         mkdir -p /var/lib/cloud/seed/nocloud /etc/cloud/cloud.cfg.d\n\
         {}{}\
         printf 'datasource_list: [NoCloud, None]\\n' > /etc/cloud/cloud.cfg.d/90-rackwright.cfg\n\
         chmod 0755 /etc/cloud /etc/cloud/cloud.cfg.d\n\
         chmod 0644 /etc/cloud/cloud.cfg.d/90-rackwright.cfg\n\
         if command -v restorecon > /dev/null; then restorecon -R /var/lib/cloud /etc/cloud || :; fi\n",
        decoded("/var/lib/cloud/seed/nocloud/user-data", &install.user_data),
        decoded("/var/lib/cloud/seed/nocloud/meta-data", &install.meta_data),
    )
}

/// Tells the boot service that it is done.
pub(super) fn done(report: &Report) -> String {
    tell(report, &report.done)
}

/// Tells the boot service that it failed.
pub(super) fn failed(report: &Report) -> String {
    tell(report, &report.failed)
}

/// Neither token nor body stand among the arguments of a process. The body is not base64: the agent writes the path of
/// the disk into it.
fn tell(report: &Report, body: &str) -> String {
    format!(
        "set -eu\n\
         umask 077\n\
         folder=$(mktemp -d)\n\
         trap 'rm -rf \"$folder\"' EXIT\n\
         {}{}\
         printf '%s' {} > \"$folder/body\"\n\
         curl --fail --silent --show-error --connect-timeout 10 --max-time 60 --retry 20 --retry-delay 3 \
         --retry-connrefused --cacert \"$folder/ca.pem\" --header \"@$folder/header\" \
         --header 'Content-Type: application/json' --data-binary \"@$folder/body\" {}\n",
        decoded("$folder/ca.pem", &report.ca_pem),
        decoded("$folder/header", &format!("Authorization: Bearer {}\n", report.token)),
        shell_quoted(body),
        shell_quoted(&report.url),
    )
}

/// Writes `content`, byte for byte, to `path`.
fn decoded(path: &str, content: &str) -> String {
    let encoded = STANDARD.encode(content);
    let mut text = format!("base64 -d > \"{path}\" <<'{END}'\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(WIDTH));
        text += line;
        text.push('\n');
        rest = after;
    }
    text + END + "\n"
}
