//! Reads user-data as cloud-init does: jinja first, when the first line asks for it, then `#cloud-config`.
//!
//! Pure: text in, the work of one boot out. Reads what a Kubernetes node needs (`write_files`, `bootcmd`, `runcmd`,
//! `hostname`) and leaves out the rest (`users`, `ntp`, `disk_setup`, ...) by name, so that the console can say so.
//! Stricter than cloud-init in one thing: a variable that meta-data does not have is an error here, where cloud-init
//! would write `CI_MISSING_JINJA_VAR` into the file and let the node fail later.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

const JINJA_HEADER: &str = "## template: jinja";
const CLOUD_CONFIG_HEADER: &str = "#cloud-config";

/// Keys that a cloud image would act on and a simulated one does not need to.
const LEFT_OUT: &[&str] = &[
    "apt",
    "ca_certs",
    "chpasswd",
    "disable_root",
    "disk_setup",
    "final_message",
    "fqdn",
    "fs_setup",
    "groups",
    "growpart",
    "locale",
    "manage_etc_hosts",
    "mounts",
    "ntp",
    "output",
    "package_update",
    "package_upgrade",
    "packages",
    "password",
    "power_state",
    "preserve_hostname",
    "resize_rootfs",
    "resolv_conf",
    "ssh",
    "ssh_authorized_keys",
    "ssh_deletekeys",
    "ssh_pwauth",
    "swap",
    "timezone",
    "users",
];

/// Why user-data or meta-data cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CloudConfigError {
    /// meta-data is no mapping.
    #[error("meta-data cannot be read: {0}")]
    MetaData(String),
    /// A template that does not render.
    #[error("the jinja template of the user-data does not render: {0}")]
    Template(String),
    /// A kind of user-data that is not understood.
    #[error(
        "user-data begins with {0:?}; only \"#cloud-config\" (after \"## template: jinja\" or alone) is understood"
    )]
    Kind(String),
    /// YAML that is no cloud-config.
    #[error("the cloud-config of the user-data cannot be read: {0}")]
    Yaml(String),
    /// One entry of `write_files` that cannot be written.
    #[error("write_files entry {path:?}: {why}")]
    File {
        /// Its `path`.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

/// What the config drive asks one boot to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudConfig {
    /// Host name: the user-data's own, else meta-data's.
    pub hostname: Option<String>,
    /// Files, in order.
    pub files: Vec<File>,
    /// Commands of every boot.
    pub bootcmd: Vec<Command>,
    /// Commands of the first boot.
    pub runcmd: Vec<Command>,
    /// Known keys of the cloud-config that a simulated machine does not act on.
    pub left_out: Vec<String>,
    /// Keys that cloud-init does not know either.
    pub unknown: Vec<String>,
}

/// One file of `write_files`, decoded.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Absolute path.
    pub path: String,
    /// Content.
    pub content: Vec<u8>,
    /// Mode bits; 0644 when not given.
    pub mode: u32,
    /// Whether the content goes to the end of what is there.
    pub append: bool,
}

// The content may be a private key.
impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes, mode {:04o}, append {})", self.path, self.content.len(), self.mode, self.append)
    }
}

/// One entry of `runcmd` or `bootcmd`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub enum Command {
    /// Given to the shell.
    Shell(String),
    /// Run as it is, no shell.
    Words(Vec<String>),
}

impl TryFrom<Value> for Command {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        const WRONG: &str = "a command must be a string or a list of strings";
        let scalar = |value: Value| match value {
            Value::String(text) => Ok(text),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(flag) => Ok(flag.to_string()),
            _ => Err(WRONG),
        };
        match value {
            Value::Array(words) => Ok(Self::Words(words.into_iter().map(scalar).collect::<Result<_, _>>()?)),
            other => scalar(other).map(Self::Shell),
        }
    }
}

/// Facts about this boot that jinja templates may use.
pub struct InstanceData {
    meta_data: Value,
}

impl InstanceData {
    /// Reads `meta-data` (JSON or YAML; empty is allowed).
    pub fn parse(meta_data: &str) -> Result<Self, CloudConfigError> {
        if meta_data.trim().is_empty() {
            return Ok(Self { meta_data: json!({}) });
        }
        let meta_data: Value =
            serde_saphyr::from_str(meta_data).map_err(|error| CloudConfigError::MetaData(error.to_string()))?;
        if !meta_data.is_object() {
            return Err(CloudConfigError::MetaData("it is not a mapping".into()));
        }
        Ok(Self { meta_data })
    }

    /// `local-hostname`, else `hostname`.
    pub fn hostname(&self) -> Option<&str> {
        ["local-hostname", "local_hostname", "hostname"].iter().find_map(|key| self.text(key))
    }

    /// `instance-id`: a new one means a first boot.
    pub fn instance_id(&self) -> &str {
        ["instance-id", "instance_id", "uuid"].iter().find_map(|key| self.text(key)).unwrap_or("nocloud")
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.meta_data.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// The names a template sees: `ds.meta_data.*`, `v1.*`, and the keys of `v1` once more at the top, as cloud-init's
    /// standardized instance-data has them.
    fn context(&self) -> Value {
        let v1 = json!({
            "availability_zone": self.text("rack"),
            "cloud_name": "nocloud",
            "distro": "debian",
            "instance_id": self.instance_id(),
            "local_hostname": self.hostname().unwrap_or("localhost"),
            "platform": "nocloud",
            "region": self.text("region"),
            "system_platform": "linux",
        });
        let mut context = json!({ "ds": { "meta_data": with_underscores(&self.meta_data) }, "v1": v1 });
        if let (Some(top), Value::Object(v1)) = (context.as_object_mut(), v1) {
            top.extend(v1);
        }
        context
    }
}

/// Keys with hyphens are repeated with underscores: jinja cannot write the former.
fn with_underscores(value: &Value) -> Value {
    let Value::Object(map) = value else { return value.clone() };
    let mut out = Map::new();
    for (key, value) in map {
        let value = with_underscores(value);
        if key.contains('-') {
            out.insert(key.replace('-', "_"), value.clone());
        }
        out.insert(key.clone(), value);
    }
    Value::Object(out)
}

#[derive(Deserialize)]
struct Raw {
    hostname: Option<String>,
    #[serde(default)]
    write_files: Option<Vec<RawFile>>,
    #[serde(default)]
    bootcmd: Option<Vec<Command>>,
    #[serde(default)]
    runcmd: Option<Vec<Command>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct RawFile {
    path: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    encoding: Option<String>,
    #[serde(default)]
    permissions: Option<Value>,
    #[serde(default)]
    append: bool,
    #[serde(default)]
    source: Option<Value>,
}

/// Reads user-data with the facts of `instance`.
pub fn read(user_data: &str, instance: &InstanceData) -> Result<CloudConfig, CloudConfigError> {
    let text = render(user_data, instance)?;
    let first = text.lines().next().unwrap_or_default().trim_end();
    if first != CLOUD_CONFIG_HEADER {
        // Only a header-like line is shown: user-data may be anything, also a secret.
        let shown =
            if first.starts_with('#') { first.chars().take(40).collect() } else { String::from("something else") };
        return Err(CloudConfigError::Kind(shown));
    }
    let raw: Raw = parse(&text)?;
    let files = raw.write_files.unwrap_or_default().into_iter().map(file).collect::<Result<_, _>>()?;
    let (left_out, unknown) =
        raw.rest.into_iter().map(|(key, _)| key).partition(|key| LEFT_OUT.contains(&key.as_str()));
    Ok(CloudConfig {
        hostname: raw.hostname.or_else(|| instance.hostname().map(String::from)),
        files,
        bootcmd: raw.bootcmd.unwrap_or_default(),
        runcmd: raw.runcmd.unwrap_or_default(),
        left_out,
        unknown,
    })
}

fn render(user_data: &str, instance: &InstanceData) -> Result<String, CloudConfigError> {
    let Some((first, rest)) = user_data.split_once('\n') else { return Ok(user_data.into()) };
    if !first.trim_end().eq_ignore_ascii_case(JINJA_HEADER) {
        return Ok(user_data.into());
    }
    let mut jinja = minijinja::Environment::new();
    jinja.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    // As cloud-init sets up its own jinja.
    let syntax = minijinja::syntax::SyntaxConfig::builder().trim_blocks(true).keep_trailing_newline(true).build();
    jinja.set_syntax(syntax.map_err(|error| CloudConfigError::Template(error.to_string()))?);
    jinja.render_named_str("user-data", rest, minijinja::value::Serde(instance.context())).map_err(|error| {
        // Never the error's own rendering: it may quote the template, which holds keys.
        let line = error.line().map(|line| format!(" in line {}", line + 1)).unwrap_or_default();
        CloudConfigError::Template(format!("{}{line}", error.kind()))
    })
}

fn parse(text: &str) -> Result<Raw, CloudConfigError> {
    // A cloud-config with nothing but its header asks for nothing.
    if text.lines().all(|line| line.trim().is_empty() || line.starts_with('#')) {
        return Ok(Raw { hostname: None, write_files: None, bootcmd: None, runcmd: None, rest: Map::new() });
    }
    let options = serde_saphyr::options! { with_snippet: false, leading_zero_numbers_as_strings: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| CloudConfigError::Yaml(error.to_string()))
}

fn file(raw: RawFile) -> Result<File, CloudConfigError> {
    let wrong = |why: String| CloudConfigError::File { path: raw.path.clone(), why };
    if !raw.path.starts_with('/') || raw.path.split('/').any(|part| part == "..") {
        return Err(wrong("the path must be absolute and without \"..\"".into()));
    }
    if raw.source.is_some() {
        return Err(wrong("\"source\" is not supported: give the content".into()));
    }
    let content = decode(&raw.content, raw.encoding.as_deref().unwrap_or_default()).map_err(wrong)?;
    let mode = mode(raw.permissions.as_ref()).map_err(wrong)?;
    Ok(File { content, mode, append: raw.append, path: raw.path })
}

fn decode(content: &str, encoding: &str) -> Result<Vec<u8>, String> {
    let base64 = || {
        let compact: String = content.split_ascii_whitespace().collect();
        STANDARD.decode(compact).map_err(|error| format!("content is not base64: {error}"))
    };
    match encoding {
        "" | "text/plain" => Ok(content.as_bytes().to_vec()),
        "b64" | "base64" => base64(),
        "gz+b64" | "gzip+b64" | "gz+base64" | "gzip+base64" => {
            let mut out = Vec::new();
            let packed = base64()?;
            let mut reader = flate2::read::MultiGzDecoder::new(packed.as_slice());
            reader.read_to_end(&mut out).map_err(|error| format!("content is not gzip: {error}"))?;
            Ok(out)
        }
        other => Err(format!("encoding {other:?} is not known (base64, gz+b64 or none)")),
    }
}

fn mode(permissions: Option<&Value>) -> Result<u32, String> {
    match permissions {
        None | Some(Value::Null) => Ok(0o644),
        Some(Value::String(text)) => {
            let digits = text.trim_start_matches("0o");
            u32::from_str_radix(digits, 8).map_err(|_| format!("permissions {text:?} are not octal digits"))
        }
        // YAML has already read it, so 0o644 arrives as 420.
        Some(Value::Number(number)) => number
            .as_u64()
            .and_then(|bits| u32::try_from(bits).ok())
            .ok_or_else(|| format!("permissions {number} are no file mode")),
        Some(_) => Err("permissions must be a string such as \"0644\"".into()),
    }
}

#[cfg(test)]
#[path = "cloud_config_tests.rs"]
mod tests;
