//! A person's own kickstart or preseed: a minijinja template over a fixed set of names.
//!
//! A name that is not there is refused, not left empty, and every value is one that means nothing to the reader of the
//! result. A template can neither run for long nor grow without end: it is rendered by a service that other hosts need.

use super::{Install, words};
use crate::RenderError;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Longest result, bytes.
const RESULT_MAX: usize = 512 * 1024;
/// Instructions that a template may take.
const FUEL: u64 = 100_000;

/// Facts that the caller knows of a host, as a template names them, and what they are.
pub(super) const FACTS: [(&str, &str); 6] = [
    ("host", "name of the Host"),
    ("unit", "its rack unit; empty when it has none"),
    ("rack", "name of its Rack"),
    ("datacenter", "name of its Datacenter"),
    ("region", "region of that"),
    ("provider_id", "provider ID of the node"),
];

/// Every name that a template may use, and what it is.
pub const VARIABLES: [(&str, &str); 11] = [
    ("disk", "path of the disk to install to, as the root-device hints resolved"),
    ("hostname", "host name of the node"),
    ("boot_mac", "MAC address of the interface to use"),
    ("address", "its static address with the prefix length; empty: DHCP"),
    ("gateway", "its router; empty when there is none"),
    FACTS[0],
    FACTS[1],
    FACTS[2],
    FACTS[3],
    FACTS[4],
    FACTS[5],
];

/// What `template` says for this host. `field` is what an error names.
pub(super) fn render(field: &str, template: &str, install: &Install) -> Result<String, RenderError> {
    if let Some(c) = template.chars().find(|c| words::breaks_lines(*c) && !matches!(c, '\n' | '\t')) {
        let what = if c == '\r' { "Windows line ends".to_owned() } else { format!("the character {c:?}") };
        return Err(RenderError::new(
            field,
            format!("holds {what}; lines end with \\n, and nothing else but tabs is allowed"),
        ));
    }
    let refused = |error: minijinja::Error| RenderError::new(field, explained(&error));
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
    environment.set_syntax(syntax.map_err(refused)?);
    environment.set_fuel(Some(FUEL));
    add_filters(&mut environment);
    let parsed = environment.template_from_str(template).map_err(refused)?;
    let mut result = Bounded(Vec::new());
    parsed.render_captured_to(variables(install)?, &mut result).map_err(refused)?;
    String::from_utf8(result.0).map_err(|_| RenderError::new(field, "does not render to text"))
}

fn add_filters(environment: &mut Environment<'_>) {
    environment.add_filter("lower", minijinja::filters::lower);
    environment.add_filter("replace", minijinja::filters::replace);
    environment.add_filter("upper", minijinja::filters::upper);
}

fn variables(install: &Install) -> Result<BTreeMap<String, String>, RenderError> {
    let address = install.address.as_ref();
    let mut all = install.facts.clone();
    all.insert("disk".into(), install.disk.clone());
    all.insert("hostname".into(), install.hostname.clone());
    all.insert("boot_mac".into(), install.boot_mac.clone());
    all.insert("address".into(), address.map(|address| address.address.clone()).unwrap_or_default());
    all.insert("gateway".into(), address.and_then(|address| address.gateway.clone()).unwrap_or_default());
    for (name, value) in &all {
        words::inert(name, value)?;
    }
    Ok(all)
}

/// In words for whoever wrote the template; holds nothing of it but names and lines.
fn explained(error: &minijinja::Error) -> String {
    let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    let detail = error.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    match error.kind() {
        minijinja::ErrorKind::UndefinedError => {
            let names: Vec<_> = VARIABLES.iter().map(|(name, _)| *name).collect();
            format!("{line}names what is not known; known are {}", names.join(", "))
        }
        minijinja::ErrorKind::OutOfFuel => format!("{line}takes too many steps"),
        minijinja::ErrorKind::WriteFailure => format!("renders to more than {RESULT_MAX} bytes"),
        kind => format!("{line}{kind}{detail}"),
    }
}

struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > RESULT_MAX {
            return Err(io::Error::other("too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
