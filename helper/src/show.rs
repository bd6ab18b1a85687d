//! `rcc-helper show`: what stands in the kernel, in words. Read-only.

use std::io::Write;

use rcc_dbus::AttachmentInfo;

use crate::attachments::Attachments;
use crate::clock::now;
use crate::netlink::Rtnl;
use crate::policy_file::InForce;
use crate::rules::link_name;
use crate::uplink::Uplink;
use crate::{gate, netns};

/// Writes a line to standard output; a reader that went away is no error.
pub fn line(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// Says it, or writes it as JSON.
pub fn show(json: bool) -> anyhow::Result<()> {
    let whole = gate::is_whole(&mut Rtnl::new()?);
    let policy = InForce::read();
    let links = match netns::gate() {
        Ok(namespace) => {
            let gate = netns::Room::in_namespace("gate", namespace)?;
            gate.run_blocking(|| Rtnl::new()?.links())??
        }
        Err(_) => Vec::new(),
    };
    let uplink = Uplink::in_force();
    let leaving = uplink.state(&mut Rtnl::new()?)?;
    let attachments: Vec<AttachmentInfo> =
        Attachments::read()?.all.values().map(|one| one.info(now())).collect();
    let stands = |id: u32| links.iter().any(|link| link.name == link_name(id) && link.up);
    if json {
        let attached: Vec<_> = attachments
            .iter()
            .map(|one| serde_json::json!({ "attachment": one, "link_up": stands(one.id) }))
            .collect();
        let version = policy.as_ref().map(|policy| policy.version.clone()).ok();
        let uplink = match &uplink {
            Uplink::Only(interface) => Some(interface.as_str()),
            Uplink::Any | Uplink::Nowhere => None,
        };
        let leaving = leaving.map(|(state, text)| serde_json::json!({ "interface": uplink, "state": state, "text": text }));
        let all = serde_json::json!({ "gate": whole, "policy": version, "uplink": leaving, "attachments": attached });
        return line(&serde_json::to_string_pretty(&all)?);
    }
    line(if whole {
        "The firewall stands."
    } else {
        "The firewall does not stand; nothing is connected."
    })?;
    match policy {
        Ok(policy) => {
            let defaults = &policy.policy.defaults;
            let public = if defaults.allow_public { "open" } else { "closed but for the list" };
            let private = if defaults.block_rfc1918 { "blocked" } else { "open where listed" };
            line(&format!("Public internet: {public}. Private ranges: {private}."))?;
            for entry in &policy.policy.entries {
                let note = if entry.tunnel_possible() { "  (tunnel possible)" } else { "" };
                line(&format!("  everyone: {entry}{note}"))?;
            }
        }
        Err(error) => line(&format!("The list of allowed hosts cannot be used: {error}"))?,
    }
    if let Some((_, text)) = leaving {
        line(&text)?;
    }
    if attachments.is_empty() {
        line("No sandbox is attached.")?;
    }
    for one in attachments {
        let state = match (stands(one.id), one.connected) {
            (false, _) => "its link is gone",
            (true, true) => "connected",
            (true, false) => "disconnected",
        };
        line(&format!("Sandbox {} of uid {} at {}: {state}", one.id, one.uid, one.address4))?;
        for standing in one.rules {
            let rule = standing.rule;
            let ports: Vec<_> = rule.ports.iter().map(u16::to_string).collect();
            let end = if standing.expires_in > 0 {
                format!(", {} s left", standing.expires_in)
            } else {
                String::new()
            };
            line(&format!("  {} {}/{}{end}", rule.target, rule.protocol, ports.join(",")))?;
        }
    }
    Ok(())
}
