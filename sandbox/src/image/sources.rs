//! This computer's own package sources, asked from apt.

use std::fs;
use std::time::Duration;

use crate::programs;

/// apt reads its lists in well under a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// What mmdebstrap takes where there is no apt to ask: its own default mirror
/// of Debian's stable release.
const FALLBACK_SUITE: &str = "stable";

/// The distributions whose packages the recipes name.
const ORIGINS: [&str; 2] = ["Debian", "Ubuntu"];

/// What to give to mmdebstrap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sources {
    /// For instance a release's code name.
    pub(super) suite: String,
    /// One-line sources; none: mmdebstrap's default.
    pub(super) lines: Vec<String>,
    /// Lines of apt's configuration: proxies and certificates.
    pub(super) options: Vec<String>,
}

/// One line of `apt-get indextargets`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    site: String,
    release: String,
    codename: String,
    component: String,
    origin: String,
}

pub(super) async fn of_this_computer() -> Sources {
    let targets = targets().await;
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let mut sources = pick(&targets, &release);
    let options = ["dump", "--format", "%F \"%v\";%n", "Acquire::http", "Acquire::https"];
    sources.options = proxies(&ask("apt-config", &options).await.unwrap_or_default());
    sources
}

/// What of this computer decides the image's name: its release. Read from a file,
/// since it is asked at every start, and apt takes half a second.
pub(super) fn release() -> String {
    key(&fs::read_to_string("/etc/os-release").unwrap_or_default())
}

fn key(os_release: &str) -> String {
    NAMES
        .iter()
        .find_map(|name| value(os_release, name))
        .unwrap_or_else(|| FALLBACK_SUITE.to_string())
}

/// A derivative names its parent's release, and has its parent's sources.
const NAMES: [&str; 3] = ["UBUNTU_CODENAME", "DEBIAN_CODENAME", "VERSION_CODENAME"];

/// A value of os-release(5).
fn value(os_release: &str, key: &str) -> Option<String> {
    os_release
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .map(|value| value.trim_matches('"').to_string())
        .filter(|value| !value.is_empty())
}

async fn targets() -> Vec<Target> {
    let format = "$(SITE)|$(RELEASE)|$(CODENAME)|$(COMPONENT)|$(ORIGIN)";
    let list = ask("apt-get", &["indextargets", "--format", format, "Created-By: Packages"]).await;
    list.unwrap_or_default().lines().filter_map(parse).collect()
}

async fn ask(program: &str, arguments: &[&str]) -> Option<String> {
    let program = programs::find(program)?;
    let asked = crate::programs::command(&program)
        .args(arguments)
        .current_dir("/")
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).ok()).flatten()
}

fn parse(line: &str) -> Option<Target> {
    let mut fields = line.split('|').map(str::to_string);
    let target = Target {
        site: fields.next()?,
        release: fields.next()?,
        codename: fields.next()?,
        component: fields.next()?,
        origin: fields.next()?,
    };
    let plain = |text: &str| {
        !text.is_empty() && !text.contains(char::is_whitespace) && !text.contains("$(")
    };
    let fetchable = target.site.starts_with("http://") || target.site.starts_with("https://");
    (fetchable && plain(&target.site) && plain(&target.release) && plain(&target.component))
        .then_some(target)
}

/// The sources of the release that this computer runs: third parties' sources
/// have packages, and keys, that the image should not have.
fn pick(targets: &[Target], os_release: &str) -> Sources {
    let fallback = Sources { suite: FALLBACK_SUITE.into(), lines: Vec::new(), options: Vec::new() };
    // Without downloaded lists apt knows no origin.
    let origin_known = targets.iter().any(|target| ORIGINS.contains(&target.origin.as_str()));
    for suite in NAMES.iter().filter_map(|name| value(os_release, name)) {
        let of_release = |name: &str| {
            name == suite || name.strip_prefix(&suite).is_some_and(|rest| rest.starts_with('-'))
        };
        let mut lines: Vec<String> = targets
            .iter()
            .filter(|target| !origin_known || ORIGINS.contains(&target.origin.as_str()))
            .filter(|target| of_release(&target.release) || of_release(&target.codename))
            .map(|target| format!("deb {} {} {}", target.site, target.release, target.component))
            .collect();
        lines.sort();
        lines.dedup();
        if !lines.is_empty() {
            return Sources { suite, lines, ..fallback };
        }
    }
    fallback
}

/// The lines that say how to get out to the mirrors.
fn proxies(dump: &str) -> Vec<String> {
    let wanted = |line: &&str| {
        let name = line.split(' ').next().unwrap_or_default().to_lowercase();
        let set = !line.ends_with("\"\";") && line.ends_with(';');
        set && (name.contains("::proxy") && !name.contains("detect") || name.ends_with("::cainfo"))
    };
    dump.lines().map(str::trim).filter(wanted).map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OS: &str = "ID=debian\nVERSION_CODENAME=bookworm\n";

    fn targets(text: &str) -> Vec<Target> {
        text.lines().filter_map(parse).collect()
    }

    #[test]
    fn only_the_distributions_own_sources_are_taken() {
        let list = targets(
            "http://mirror.example/debian|bookworm|bookworm|main|Debian\n\
             http://mirror.example/debian|bookworm|bookworm|main|Debian\n\
             http://mirror.example/debian-security|bookworm-security|bookworm-security|main|Debian\n\
             http://other.example/x|bookworm|bookworm|stable|SomeVendor\n\
             cdrom:[Disc]|bookworm|bookworm|main|Debian\n\
             http://mirror.example/debian|trixie|trixie|main|Debian",
        );
        let sources = pick(&list, OS);
        assert_eq!(sources.suite, "bookworm");
        assert_eq!(
            sources.lines,
            [
                "deb http://mirror.example/debian bookworm main",
                "deb http://mirror.example/debian-security bookworm-security main"
            ]
        );
    }

    #[test]
    fn a_suite_named_by_its_age_and_lists_never_fetched_work_too() {
        let stable = targets("http://m.example/debian|stable|bookworm|main|Debian");
        assert_eq!(pick(&stable, OS).lines, ["deb http://m.example/debian stable main"]);
        let fresh = targets("http://m.example/debian|bookworm|$(CODENAME)|main|$(ORIGIN)");
        assert_eq!(pick(&fresh, OS).lines, ["deb http://m.example/debian bookworm main"]);
    }

    #[test]
    fn a_derivative_takes_its_parents_release() {
        let os = "ID=linuxmint\nVERSION_CODENAME=wilma\nUBUNTU_CODENAME=noble\n";
        let list = targets(
            "http://m.example/mint|wilma|wilma|main|linuxmint\nhttp://m.example/ubuntu|noble|noble|main|Ubuntu",
        );
        let sources = pick(&list, os);
        assert_eq!((sources.suite.as_str(), sources.lines.len()), ("noble", 1));
        assert_eq!(key(os), "noble");
    }

    #[test]
    fn without_apt_it_is_mmdebstraps_default() {
        let sources = pick(&[], "ID=fedora\nVERSION_CODENAME=\"\"\n");
        assert_eq!((sources.suite.as_str(), sources.lines.len()), ("stable", 0));
        assert_eq!(key("ID=arch\n"), "stable");
    }

    #[test]
    fn only_proxies_and_certificates_are_handed_on() {
        let dump = "Acquire::http::Proxy \"http://proxy.example:3128\";\nAcquire::http::Proxy::mirror.example \"DIRECT\";\n\
                    Acquire::http::Proxy-Auto-Detect \"/usr/bin/x\";\nAcquire::https::CAInfo \"/etc/ca.pem\";\n\
                    Acquire::http::Timeout \"3\";\nAcquire::https::Proxy \"\";\n";
        let options = proxies(dump);
        assert_eq!(options.len(), 3, "{options:?}");
        assert!(!options.iter().any(|line| line.contains("Detect") || line.contains("Timeout")));
    }
}
