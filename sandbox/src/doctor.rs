//! What rcc needs and what is there: each line with a state, a reason and what
//! to do. Changes nothing.

mod computer;
mod report;

pub use report::report;

use crate::claude;
use crate::engine::{Engine, LimitsWanted};
use crate::error::Error;
use crate::host::Host;
use crate::image::{self, Built};
use crate::network::Network;
use crate::programs;
use crate::selinux;

/// How a line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Works.
    Good,
    /// Works, with something to know, or will be made when it is needed.
    Note,
    /// Does not work.
    Bad,
}

impl Health {
    /// A word for people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Bad => "bad",
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// A stable word.
    pub name: String,
    /// How it stands.
    pub health: Health,
    /// Why, as a sentence.
    pub text: String,
    /// What to do, when there is something.
    pub hint: Option<String>,
}

impl Line {
    fn new(name: &str, health: Health, text: impl Into<String>) -> Self {
        Self { name: name.into(), health, text: text.into(), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    fn bad(name: &str, error: &Error) -> Self {
        Self {
            name: name.into(),
            health: Health::Bad,
            text: format!("{} ({})", error, error.code().as_str()),
            hint: Some(error.hint().to_string()),
        }
    }
}

/// Looks at everything.
pub async fn examine(host: &Host) -> Vec<Line> {
    let mut lines = Vec::new();
    match Engine::connect(host).await {
        Ok(engine) => {
            let info = engine.info();
            let layers = info.hardening();
            let layers = if layers.is_empty() { "no seccomp".into() } else { layers.join(", ") };
            let health =
                if info.hardening().contains(&"seccomp") { Health::Good } else { Health::Note };
            lines.push(Line::new(
                "engine",
                health,
                format!("Podman {}, rootless; {layers}.", info.version()),
            ));
            let limits = info.limits(&LimitsWanted::default());
            lines.push(match limits.note {
                None => Line::new(
                    "limits",
                    Health::Good,
                    "Memory, processes and CPU time of a sandbox are limited.",
                ),
                Some(note) => Line::new("limits", Health::Note, note).hint(
                    "Boot with unified control groups, and log in through systemd; see docs/troubleshooting.md.",
                ),
            });
            lines.extend(computer::labels(selinux::mode(), info.selinux()));
            lines.push(computer::storage(info.storage_driver()));
            lines.push(match image::built(&engine).await.map(oldest) {
                Ok(Some(image)) if image.is_old() => {
                    Line::new("image", Health::Note, format!("{}, {}.", image.name, image.age()))
                        .hint("`rcc update image` builds it again, from the packages of today.")
                }
                Ok(Some(image)) => {
                    Line::new("image", Health::Good, format!("{}, {}.", image.name, image.age()))
                }
                Ok(None) if programs::find("mmdebstrap").is_some() => Line::new(
                    "image",
                    Health::Note,
                    "It is built when the first sandbox starts, in about two minutes.",
                )
                .hint("`rcc init` builds it now."),
                Ok(None) => {
                    let missing = Error::new(crate::Code::ImageTool, "There is no image yet.");
                    Line::bad("image", &missing)
                }
                Err(error) => Line::bad("image", &error),
            });
        }
        Err(error) => lines.push(Line::bad("engine", &error)),
    }
    lines.push(computer::ids(host));
    lines.push(computer::user_namespaces());
    lines.push(match programs::inside() {
        Ok(path) => Line::new("inside", Health::Good, format!("{}.", path.display())),
        Err(error) => Line::bad("inside", &error),
    });
    lines.push(match claude::find(host) {
        Some(claude) => {
            let version = claude.version.map_or_else(String::new, |version| format!(" {version}"));
            Line::new(
                "claude",
                Health::Good,
                format!("Claude Code{version} at {}.", claude.path.display()),
            )
        }
        None => Line::new(
            "claude",
            Health::Note,
            "It is fetched when the first sandbox starts, about 180 MB.",
        ),
    });
    firewall(&mut lines).await;
    lines.push(computer::boot());
    lines.push(computer::lingering(host));
    lines.push(computer::tray().await);
    lines.push(computer::disk(host));
    lines.push(computer::short_name());
    lines
}

fn oldest(images: Vec<Built>) -> Option<Built> {
    images.into_iter().min_by_key(|image| image.since)
}

/// What mends a check of the firewall service's that says it is bad; what its text names
/// already is not said twice.
fn mending(check: &str) -> Option<&'static str> {
    Some(match check {
        "gate" | "host-table" => "Run `sudo systemctl restart rcc-firewall.service`.",
        "resolver" => "Run `sudo systemd-sysusers && sudo systemctl restart rcc-helper.service`.",
        "upstream" => {
            "Name a server that answers in /etc/resolv.conf, or see to what writes that file."
        }
        "policy" => "Correct /etc/rcc/network-whitelist.yaml; `rcc policy check` reads it.",
        "uplink" => {
            "Bring the interface up, or change `uplink` in /etc/rcc/network-whitelist.yaml."
        }
        _ => return None,
    })
}

async fn firewall(lines: &mut Vec<Line>) {
    let network = match Network::connect().await {
        Ok(network) => network,
        Err(error) => return lines.push(Line::bad("firewall", &error)),
    };
    if let Ok((protocol, release)) = network.version().await {
        let (own, release) = (env!("CARGO_PKG_VERSION"), crate::display::line(&release, 20));
        let text = format!("rcc {own}, firewall service {release}, protocol {protocol}.");
        let line = Line::new("versions", Health::Good, text);
        lines.push(if own == release {
            line
        } else {
            Line { health: Health::Note, ..line }
                .hint("They work together. Log in again to have both of one release.")
        });
    }
    match network.diagnose().await {
        Ok(checks) => lines.extend(checks.iter().map(told)),
        Err(error) => lines.push(Line::bad("firewall", &error)),
    }
}

/// A check of the firewall service's as a line.
fn told(check: &rcc_dbus::Check) -> Line {
    let health = match check.state.as_str() {
        "ok" => Health::Good,
        "note" => Health::Note,
        _ => Health::Bad,
    };
    let hint = mending(&check.name).filter(|_| health == Health::Bad);
    Line {
        name: format!("firewall: {}", crate::display::line(&check.name, 40)),
        health,
        text: crate::display::line(&check.text, 300),
        hint: hint.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mends_a_check_is_said_when_it_is_bad_and_not_before() {
        let told = |name: &str, state: &str| {
            let (name, state) = (name.to_owned(), state.to_owned());
            told(&rcc_dbus::Check { name, state, text: "Something.".into() })
        };
        let mended = ["gate", "host-table", "resolver", "upstream", "policy", "uplink"];
        for name in mended.into_iter().chain(["host-firewall", "of-a-later-release"]) {
            for (state, health) in
                [("ok", Health::Good), ("note", Health::Note), ("bad", Health::Bad)]
            {
                let line = told(name, state);
                assert_eq!((line.name, line.health), (format!("firewall: {name}"), health));
                let wanted = health == Health::Bad && mended.contains(&name);
                assert_eq!(line.hint.is_some(), wanted, "{name} {state}: {:?}", line.hint);
            }
        }
        assert_eq!(told("gate", "of a later release").health, Health::Bad);
    }
}
