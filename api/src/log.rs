//! The log that a host keeps of its last operation: a ConfigMap beside the Host, written once by the boot service.

/// Ending of its name: the log of host `a01-u07` is the ConfigMap `a01-u07-log`.
pub const LOG_SUFFIX: &str = "-log";
/// Its one key, in `binaryData`: lines of text, packed with gzip.
pub const LOG_KEY: &str = "log.gz";
/// Label of every such ConfigMap, with the value `agent`.
pub const LOG_LABEL: &str = "rackwright.dev/log";
/// Annotation: identifier of the operation.
pub const LOG_OPERATION: &str = "rackwright.dev/operation";
/// Annotation: what the operation was, for example `Deploy`.
pub const LOG_OPERATION_TYPE: &str = "rackwright.dev/operation-type";
/// Annotation: how it ended: `Done`, the reason of its failure, or `Replaced`.
pub const LOG_OUTCOME: &str = "rackwright.dev/outcome";
/// Annotation: when it ended.
pub const LOG_TIME: &str = "rackwright.dev/ended-at";

/// Name of the ConfigMap with the log of the host `name`.
pub fn config_map_name(name: &str) -> String {
    format!("{name}{LOG_SUFFIX}")
}
