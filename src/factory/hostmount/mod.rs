//! hostmount: shows a host directory live and strictly read-only.

use async_trait::async_trait;
use serde::Deserialize;

use super::{Config, Factory, OpenContext, OptionKind, OptionSpec};
use crate::entry::EntryType;
use crate::error::{Error, Result};
use crate::node::Node;

/// The factory.
#[derive(Debug)]
pub struct Hostmount;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostmountConfig {
    directory: String,
}

#[async_trait]
impl Factory for Hostmount {
    fn name(&self) -> &'static str {
        "hostmount"
    }

    fn description(&self) -> &'static str {
        "a host directory, live and read-only"
    }

    fn options(&self) -> &'static [OptionSpec] {
        &[OptionSpec {
            name: "directory",
            kind: OptionKind::HostDirectory,
            required: true,
            default: None,
            doc: "the host directory to show",
        }]
    }

    fn entry_type(&self, _config: &Config) -> EntryType {
        EntryType::Directory
    }

    async fn open(&self, config: &Config, _cx: &OpenContext) -> Result<Node> {
        let config: HostmountConfig = config.parse()?;
        Err(Error::not_found(config.directory))
    }
}
