//! What a first run needs, line by line, and the doing of it. The command line's
//! `doctor` says more; this is what a newcomer sees.

use std::fs;
use std::time::Duration;

use crate::claude;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::host::Host;
use crate::hosts::{self, Bounds, Change, Which};
use crate::image::{self, ImageChoice};
use crate::network::Network;
use crate::programs;
use crate::progress::{Cancel, Reporter, Step, or_cancelled};
use crate::registries::Registries;

pub use rcc_policy::Preset;

/// The firewall service answers in milliseconds, or is being started.
const PATIENCE: Duration = Duration::from_secs(5);

/// One thing that is needed, in the order of a first run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Podman.
    Engine,
    /// The person's range of subordinate ids.
    Ids,
    /// The helper.
    Firewall,
    /// The image `dev`, or `small`.
    Image,
    /// Claude Code.
    Claude,
    /// The administrator's list.
    Preset,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// There.
    Good,
    /// Not there, and nothing goes without it.
    Missing,
    /// Not there, and not needed.
    Optional,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Which thing.
    pub part: Part,
    /// How it stands.
    pub standing: Standing,
    /// A sentence.
    pub why: String,
    /// What [`mend`] does about it, in a word or two; none: it can do nothing.
    pub doing: Option<&'static str>,
    /// The command that does what rcc may not.
    pub command: Option<String>,
}

impl Part {
    /// As the person reads it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Engine => "Container engine",
            Self::Ids => "Your user's id range",
            Self::Firewall => "Firewall service",
            Self::Image => "Base image",
            Self::Claude => "Claude Code",
            Self::Preset => "Network preset",
        }
    }
}

impl Line {
    fn good(part: Part, why: impl Into<String>) -> Self {
        Self { part, standing: Standing::Good, why: why.into(), doing: None, command: None }
    }

    fn missing(part: Part, why: impl Into<String>) -> Self {
        Self { standing: Standing::Missing, ..Self::good(part, why) }
    }

    fn doing(self, doing: &'static str) -> Self {
        Self { doing: Some(doing), ..self }
    }

    fn command(self, command: Option<String>) -> Self {
        Self { command, ..self }
    }
}

/// Looks at everything; changes nothing, but starts the engine.
pub async fn look(host: &Host) -> Vec<Line> {
    let (engine, firewall) =
        tokio::join!(Engine::connect(host), tokio::time::timeout(PATIENCE, Network::connect()),);
    let firewall = firewall.unwrap_or_else(|_| {
        Err(Error::new(Code::HelperMissing, "It was asked and said nothing for 5 seconds."))
    });
    vec![
        engine_line(&engine),
        ids_line(host, &engine),
        firewall_line(&firewall).await,
        image_line(&engine).await,
        claude_line(host),
        preset_line(host, firewall.ok().as_ref()).await,
    ]
}

fn engine_line(engine: &Result<Engine>) -> Line {
    match engine {
        Ok(engine) => {
            let layers = engine.info().hardening().join(", ");
            let version = engine.info().version();
            Line::good(Part::Engine, format!("Podman {version}, rootless; {layers}."))
        }
        Err(error) if error.code() == Code::NoSubordinateIds => {
            Line::good(Part::Engine, "Podman is installed.")
        }
        Err(error) if error.code() == Code::EngineMissing => {
            Line::missing(Part::Engine, "Podman is not installed. rcc runs each sandbox with it.")
                .command(install(&["podman", "uidmap"]))
                .doing("Look Again")
        }
        Err(error) => Line::missing(Part::Engine, error.to_string()).doing("Try Again"),
    }
}

fn ids_line(host: &Host, engine: &Result<Engine>) -> Line {
    let range = |file: &str| has_range(&fs::read_to_string(file).unwrap_or_default(), host);
    if engine.is_ok() || range("/etc/subuid") && range("/etc/subgid") {
        return Line::good(Part::Ids, "Each sandbox has ids of its own.");
    }
    let why = "Your user has no range of ids for sandboxes; an administrator adds one.";
    Line::missing(Part::Ids, why)
        .command(Some(format!(
            "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {} && podman system migrate",
            host.user
        )))
        .doing("Look Again")
}

/// subuid(5): `name-or-id:first:count`.
fn has_range(file: &str, host: &Host) -> bool {
    let id = host.uid.to_string();
    file.lines().any(|line| {
        let mut fields = line.split(':');
        let owner = fields.next().unwrap_or_default();
        let count = fields.nth(1).and_then(|count| count.trim().parse::<u64>().ok());
        (owner == host.user || owner == id) && count.is_some_and(|count| count >= 1_000)
    })
}

async fn firewall_line(network: &Result<Network>) -> Line {
    let network = match network {
        Ok(network) => network,
        Err(error) => {
            let installed =
                ["/usr/lib/systemd/system", "/lib/systemd/system"].iter().any(|folder| {
                    fs::exists(format!("{folder}/rcc-firewall.service")).unwrap_or(false)
                });
            let start = "sudo systemctl enable --now rcc-firewall.service";
            let why = format!("{} Sandboxes can start offline only.", error.body());
            return Line::missing(Part::Firewall, why)
                .command(installed.then(|| start.into()))
                .doing("Look Again");
        }
    };
    match network.diagnose().await {
        Ok(checks) => standing(&checks),
        Err(error) => Line::missing(Part::Firewall, error.to_string()).doing("Look Again"),
    }
}

/// How the firewall's checks stand. A name server that is silent just now is told, and holds
/// nobody up: it is not this computer that is to be set up.
fn standing(checks: &[rcc_dbus::Check]) -> Line {
    const FINE: &str = "It answers, and its rules stand.";
    let (elsewhere, own): (Vec<_>, Vec<_>) = checks
        .iter()
        .filter(|check| check.state == "bad")
        .partition(|check| check.name == "upstream");
    let words = |check: &rcc_dbus::Check| crate::display::line(&check.text, 300);
    match (own.first(), elsewhere.first()) {
        (Some(bad), _) => Line::missing(Part::Firewall, words(bad)).doing("Look Again"),
        (None, Some(bad)) => Line::good(Part::Firewall, format!("{FINE} {}", words(bad))),
        (None, None) => Line::good(Part::Firewall, FINE),
    }
}

async fn image_line(engine: &Result<Engine>) -> Line {
    let Ok(engine) = engine else {
        return Line::missing(Part::Image, "It is built once the container engine works.");
    };
    let built = image::built(engine).await.unwrap_or_default();
    let tool = programs::find("mmdebstrap");
    if let Some(dev) = built.iter().find(|built| built.choice == ImageChoice::Dev) {
        let line = Line::good(Part::Image, format!("{}, {}.", dev.name, dev.age()));
        return if tool.is_some() { line.doing("Build Again") } else { line };
    }
    let line = match tool {
        Some(_) => {
            let why = "It is built on this computer, once: about two minutes, 1 GB.";
            Line::missing(Part::Image, why).doing("Build")
        }
        None => {
            let why = "rcc builds it with mmdebstrap, which is not installed.";
            Line::missing(Part::Image, why).command(install(&["mmdebstrap"])).doing("Look Again")
        }
    };
    if built.is_empty() { line } else { Line { standing: Standing::Optional, ..line } }
}

fn claude_line(host: &Host) -> Line {
    match claude::find(host) {
        Some(claude) => {
            let version = claude.version.map_or_else(String::new, |version| format!(" {version}"));
            let from = if claude.fetched { "fetched by rcc" } else { "your own install" };
            let line = Line::good(Part::Claude, format!("Claude Code{version}, {from}."));
            if claude.fetched { line.doing("Look for a Newer One") } else { line }
        }
        None => {
            let why = "It is fetched from your npm registry: about 180 MB.";
            Line::missing(Part::Claude, why).doing("Download")
        }
    }
}

async fn preset_line(host: &Host, network: Option<&Network>) -> Line {
    let Some(network) = network else {
        let why = "The firewall service keeps it.";
        return Line { standing: Standing::Optional, ..Line::good(Part::Preset, why) };
    };
    match hosts::read(host, Which::Computer, Some(network)).await {
        Ok(list) => match list.bounds {
            Some(Bounds { preset: Some(preset), .. }) => {
                Line::good(Part::Preset, words(preset)).doing("Change")
            }
            Some(Bounds { allow_public: false, .. }) if list.entries.is_empty() => {
                let why = "No host is allowed yet, so Claude cannot answer.";
                Line::missing(Part::Preset, why).doing("Use Balanced")
            }
            _ => {
                let why = format!("A list of its own, with {} entries.", list.entries.len());
                Line::good(Part::Preset, why).doing("Change")
            }
        },
        Err(error) => Line::missing(Part::Preset, error.to_string()).doing("Look Again"),
    }
}

fn words(preset: Preset) -> &'static str {
    match preset {
        Preset::Open => "Open: the whole public internet.",
        Preset::Balanced => "Balanced: Claude, GitHub and your package registries.",
        Preset::Locked => "Locked: Claude alone.",
    }
}

/// The command that installs packages here; none on a distribution that rcc
/// does not know.
fn install(packages: &[&str]) -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    install_on(&release, packages)
}

fn install_on(release: &str, packages: &[&str]) -> Option<String> {
    let value = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim_matches('"').to_string())
    };
    let ids =
        format!("{} {}", value("ID=").unwrap_or_default(), value("ID_LIKE=").unwrap_or_default());
    let is = |name: &str| ids.split_whitespace().any(|id| id == name);
    let (manager, uidmap) = if is("debian") || is("ubuntu") {
        ("sudo apt-get install", "uidmap")
    } else if is("fedora") || is("rhel") {
        ("sudo dnf install", "shadow-utils")
    } else if is("arch") {
        ("sudo pacman -S --needed", "shadow")
    } else {
        return None;
    };
    // The tools of the id ranges are named by who packs them.
    let names = packages.iter().map(|name| if *name == "uidmap" { uidmap } else { *name });
    Some(format!("{manager} {}", names.collect::<Vec<_>>().join(" ")))
}

/// Does what the line's `doing` says. Where rcc can do nothing it only looks
/// whether it is done.
///
/// # Errors
/// As the thing itself; nothing half made is left behind.
pub async fn mend(host: &Host, part: Part, report: &Reporter, cancel: &Cancel) -> Result<()> {
    match part {
        Part::Engine | Part::Ids => {
            or_cancelled(cancel, Engine::connect(host)).await?;
        }
        Part::Firewall => {
            or_cancelled(cancel, Network::connect()).await?;
        }
        Part::Image => {
            let engine = or_cancelled(cancel, Engine::connect(host)).await?;
            let image = image::find_or_build(host, &engine, &ImageChoice::Dev, &[], report, cancel);
            report.step(Step::Image, image).await?;
        }
        Part::Claude => {
            report.step(Step::Claude, claude::find_or_fetch(host, report, cancel)).await?;
        }
        Part::Preset => {
            if Registries::known(host)?.is_none() {
                or_cancelled(cancel, Registries::learn(host)).await?;
            }
            let network = or_cancelled(cancel, Network::connect()).await?;
            let list = hosts::read(host, Which::Computer, Some(&network)).await?;
            let balanced = Change::Preset(Preset::Balanced);
            let (network, version) = (Some(&network), list.version.as_str());
            let changed = hosts::change(host, None, network, Which::Computer, version, &balanced);
            or_cancelled(cancel, changed).await?;
        }
    }
    Ok(())
}

/// Brings what is there up to date: the image, or Claude Code. Answers what came of
/// it, in a sentence; sessions that run keep what they have.
///
/// # Errors
/// As the thing itself; what was there stays then.
pub async fn renew(host: &Host, part: Part, report: &Reporter, cancel: &Cancel) -> Result<String> {
    match part {
        Part::Image => {
            let engine = or_cancelled(cancel, Engine::connect(host)).await?;
            let image = image::renew(host, &engine, &ImageChoice::Dev, report, cancel);
            report.step(Step::Image, image).await?;
            Ok("The image is built again; new sessions use it.".into())
        }
        Part::Claude => {
            let update = claude::update(host, report, cancel);
            Ok(report.step(Step::Claude, update).await?.words())
        }
        Part::Engine | Part::Ids | Part::Firewall | Part::Preset => Err(Error::new(
            Code::Invalid,
            format!("{} is nothing that rcc brings up to date.", part.title()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_the_persons_by_name_or_number_and_large_enough() {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::testing::host(dir.path());
        assert!(has_range("bob:1:65536\nann:100000:65536\n", &host));
        assert!(has_range("1000:100000:65536", &host));
        for bad in ["", "ann:100000:10", "annette:100000:65536", "ann", "ann:x:y"] {
            assert!(!has_range(bad, &host), "{bad}");
        }
    }

    #[test]
    fn the_command_is_the_distributions() {
        let on = |release| install_on(release, &["podman", "uidmap"]);
        let debian = on("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n").unwrap();
        assert_eq!(debian, "sudo apt-get install podman uidmap");
        assert_eq!(on("ID=fedora\n").unwrap(), "sudo dnf install podman shadow-utils");
        assert_eq!(on("ID=arch\n").unwrap(), "sudo pacman -S --needed podman shadow");
        assert_eq!(on("ID=other\n"), None);
    }

    #[test]
    fn a_silent_name_server_is_told_and_holds_nobody_up() {
        let check = |name: &str, state: &str| rcc_dbus::Check {
            name: name.into(),
            state: state.into(),
            text: format!("{name} is {state}."),
        };
        let gate = check("gate", "ok");
        let line = standing(&[gate.clone(), check("policy", "note")]);
        assert_eq!(
            (line.standing, line.why.as_str()),
            (Standing::Good, "It answers, and its rules stand.")
        );
        let line = standing(&[gate, check("upstream", "bad")]);
        assert!(
            line.standing == Standing::Good && line.why.ends_with("upstream is bad."),
            "{line:?}"
        );
        let line = standing(&[check("upstream", "bad"), check("gate", "bad")]);
        assert_eq!((line.standing, line.why.as_str()), (Standing::Missing, "gate is bad."));
    }

    #[test]
    fn a_missing_engine_is_said_with_the_way_to_it() {
        let missing = engine_line(&Err(Error::new(Code::EngineMissing, "No.")));
        assert_eq!((missing.standing, missing.doing), (Standing::Missing, Some("Look Again")));
        let ids = engine_line(&Err(Error::new(Code::NoSubordinateIds, "No.")));
        assert_eq!(ids.standing, Standing::Good);
    }
}
