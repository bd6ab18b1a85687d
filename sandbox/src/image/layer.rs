//! A project's own packages, as a layer on top of a built image: the engine keeps
//! what both have in common once.

use bollard::query_parameters::BuildImageOptionsBuilder;
use bytes::Bytes;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};

use crate::engine::{Engine, tail};
use crate::error::{Code, Error, Result};
use crate::progress::{Cancel, Progress, Reporter, Step, or_cancelled};

/// Raised when something outside the list of packages changes the result.
const FORMAT: u32 = 1;

/// Where apt finds a proxy, besides its own configuration.
const PROXIES: [&str; 6] =
    ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];

/// The layer's name: another base or package is another one.
pub(super) fn tag(base: &str, packages: &[String]) -> String {
    let text = format!("{FORMAT}\n{base}\n{}", packages.join(","));
    let hash: String =
        Sha256::digest(text).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let name = base.rsplit_once(':').map_or(base, |(name, _)| name);
    format!("{name}-with:{hash}")
}

/// Whether a name is one that [`tag`] makes.
pub(super) fn is_name(name: &str) -> bool {
    name.strip_prefix("localhost/rcc-").and_then(|rest| rest.split_once("-with:")).is_some_and(
        |(base, hash)| {
            base.bytes().all(|byte| byte.is_ascii_lowercase())
                && hash.len() == 12
                && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
        },
    )
}

/// Installs `packages` on top of `base`; they were checked to be names of packages.
///
/// The engine runs apt with the computer's network, as mmdebstrap does, and with
/// the sources that the base was built from. Nothing of a project is in there.
pub(super) async fn run(
    engine: &Engine,
    base: &str,
    reference: &str,
    packages: &[String],
    report: &Reporter,
    cancel: &Cancel,
) -> Result<()> {
    let context = context(&recipe(base, packages))
        .map_err(|e| Error::new(Code::ImageBuild, format!("Its recipe cannot be packed: {e}.")))?;
    let unfinished = format!("localhost/rcc-unfinished-layer:{}", std::process::id());
    let arguments: std::collections::HashMap<String, String> = PROXIES
        .iter()
        .filter_map(|name| Some(((*name).to_string(), std::env::var(name).ok()?)))
        .collect();
    let options = BuildImageOptionsBuilder::default()
        .t(&unfinished)
        .networkmode("host")
        .buildargs(&arguments)
        .rm(true)
        .forcerm(true)
        .build();
    let patient = engine.patient()?;
    let mut log = String::new();
    let build = async {
        let body = bollard::body_full(Bytes::from(context));
        let mut answers = std::pin::pin!(patient.build_image(options, None, Some(body)));
        while let Some(answer) = answers.next().await {
            let said = answer.map_err(|e| explain(&log, &e.to_string()))?;
            let text = said.stream.or(said.status).unwrap_or_default();
            for line in text.lines().map(|line| crate::display::line(line, 200)) {
                if let Some(doing) = doing(&line) {
                    report.report(Progress::Doing(Step::Image, doing));
                }
                log = tail(&format!("{log}{line}\n"), 4000);
            }
            if let Some(error) = said.error_detail.and_then(|error| error.message) {
                return Err(explain(&log, &error));
            }
        }
        engine.rename_image(&unfinished, reference).await
    };
    // Podman ends the build of a client that goes away.
    let built = or_cancelled(cancel, build).await;
    if built.is_err() {
        engine.forget_image(&unfinished).await;
    }
    built
}

fn recipe(base: &str, packages: &[String]) -> String {
    format!(
        "FROM {base}\nRUN export DEBIAN_FRONTEND=noninteractive && apt-get update && \
         apt-get install --yes --no-install-recommends -- {} && \
         apt-get clean && rm -rf /var/lib/apt/lists/*\n",
        packages.join(" ")
    )
}

/// The archive that the engine takes a recipe from.
fn context(recipe: &str) -> std::io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_size(recipe.len() as u64);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, "Dockerfile", recipe.as_bytes())?;
    archive.into_inner()
}

/// The lines of apt and dpkg that a person can do something with.
fn doing(line: &str) -> Option<String> {
    let shown = ["Get:", "Unpacking ", "Setting up ", "Need to get "];
    let line = line.trim();
    shown.iter().any(|start| line.starts_with(start)).then(|| line.to_string())
}

/// The lines of the log that say what went wrong.
fn explain(log: &str, error: &str) -> Error {
    let why = log.lines().rev().find_map(|line| line.trim().strip_prefix("E: ")).unwrap_or(error);
    let why = crate::display::line(why.trim().trim_end_matches('.'), 300);
    let error = Error::new(Code::ImageBuild, format!("Installing the packages failed: {why}."))
        .with_detail(log);
    if why.starts_with("Unable to locate package") || why.contains("has no installation candidate")
    {
        return error.hint_is("Correct the name, or take it out of the project's packages.");
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_base_or_package_is_another_layer() {
        let tag = |base: &str, packages: &[&str]| {
            let packages: Vec<String> = packages.iter().map(|name| (*name).to_string()).collect();
            super::tag(base, &packages)
        };
        let one = tag("localhost/rcc-dev:0123", &["golang"]);
        assert!(one.starts_with("localhost/rcc-dev-with:"), "{one}");
        assert_ne!(one, tag("localhost/rcc-dev:4567", &["golang"]));
        assert_ne!(one, tag("localhost/rcc-dev:0123", &["cargo", "golang"]));
    }

    #[test]
    fn the_reason_is_apts_own() {
        let log = "Reading package lists...\nE: Unable to locate package golangg\n";
        let error = explain(log, "building at STEP: exit status 100");
        assert_eq!(
            error.body(),
            "Installing the packages failed: Unable to locate package golangg."
        );
        assert!(error.hint().starts_with("Correct the name"));
        assert_eq!(explain("", "no space").body(), "Installing the packages failed: no space.");
    }

    #[test]
    fn the_context_is_one_file() {
        let bytes = context(&recipe("localhost/rcc-dev:1", &["golang".into()])).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some("Dockerfile"));
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
        assert!(text.starts_with("FROM localhost/rcc-dev:1\n") && text.contains("-- golang "));
    }
}
