//! The image of a sandbox: built on this computer by rootless `mmdebstrap` with
//! its own package sources, taken in by the engine, and found again by the hash
//! of its recipe. A project's own packages are a layer on top.

mod build;
mod layer;
mod layers;
mod sources;

pub(crate) use layers::note_use;
pub use layers::{Layer, layers, remove_layer};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::engine::{Engine, ImageFacts};
use crate::error::{Code, Error, Result};
use crate::host::Host;
use crate::lock::Lock;
use crate::progress::{Cancel, Reporter, or_cancelled};

/// Days after which an image should be built again: Debian mends holes every few days.
const OLD_DAYS: u64 = 30;

/// Raised when something outside the recipe changes the result.
const FORMAT: u32 = 1;

const DEV: &str = include_str!("../../packaging/image/dev.toml");
const SMALL: &str = include_str!("../../packaging/image/small.toml");

/// Which image a project uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageChoice {
    /// Languages and build tools.
    Dev,
    /// A shell, git and little else.
    Small,
    /// A name that the engine knows.
    Named(String),
}

impl ImageChoice {
    /// Reads `dev`, `small` or a reference.
    ///
    /// # Errors
    /// [`Code::Invalid`] for a text that is no image reference.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "dev" => Ok(Self::Dev),
            "small" => Ok(Self::Small),
            name if is_reference(name) => Ok(Self::Named(name.to_string())),
            other => Err(Error::new(
                Code::Invalid,
                format!("`{}` is not the name of an image.", crate::display::line(other, 80)),
            )
            .hint_is("Write dev, small, or a name such as localhost/mine:1.")),
        }
    }

    fn recipe(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Dev => Some(("dev", DEV)),
            Self::Small => Some(("small", SMALL)),
            Self::Named(_) => None,
        }
    }
}

impl std::fmt::Display for ImageChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dev => "dev",
            Self::Small => "small",
            Self::Named(name) => name,
        })
    }
}

/// Part of a URL of the engine's API, so only what a reference may have.
fn is_reference(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.len() <= 255
        && text.chars().all(allowed)
        && !text.split('/').any(|part| part == "..")
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    /// Where it came from, for the image's name.
    #[serde(skip)]
    name: &'static str,
    #[serde(skip)]
    text: &'static str,
    /// The packages that a project has besides, sorted, none twice.
    #[serde(skip)]
    more: Vec<String>,
    size: u64,
    packages: Vec<String>,
}

impl Recipe {
    /// The recipe of a built image with what a project has besides; none for an
    /// image of the person's own.
    fn of(choice: &ImageChoice, more: &[String]) -> Result<Option<Self>> {
        let Some((name, text)) = choice.recipe() else { return Ok(None) };
        let recipe = read(name, text)?;
        let mut more: Vec<String> =
            more.iter().filter(|package| !recipe.packages.contains(package)).cloned().collect();
        more.sort();
        more.dedup();
        Ok(Some(Self { name, text, more, ..recipe }))
    }

    /// The name of what it makes: with the project's packages, or without any.
    fn reference(&self, release: &str) -> String {
        let base = self.tag(release);
        if self.more.is_empty() { base } else { layer::tag(&base, &self.more) }
    }

    /// The name of the image below: another recipe or release is another image.
    fn tag(&self, release: &str) -> String {
        let text = format!("{FORMAT}\n{release}\n{}\n{}", std::env::consts::ARCH, self.text);
        let hash: String =
            Sha256::digest(text).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        format!("localhost/rcc-{}:{hash}", self.name)
    }
}

/// Whether a built image has a package without being asked.
pub fn has_package(choice: &ImageChoice, package: &str) -> bool {
    Recipe::of(choice, &[])
        .ok()
        .flatten()
        .is_some_and(|recipe| recipe.packages.iter().any(|there| there == package))
}

/// The image's reference if the engine has it.
///
/// # Errors
/// [`Code::Engine`].
pub async fn find(
    engine: &Engine,
    choice: &ImageChoice,
    packages: &[String],
) -> Result<Option<String>> {
    let Some(recipe) = Recipe::of(choice, packages)? else {
        let reference = choice.to_string();
        return Ok(engine.has_image(&reference).await?.then_some(reference));
    };
    let release = sources::release();
    let (base, reference) = (recipe.tag(&release), recipe.reference(&release));
    let Some(image) = engine.image(&reference).await? else { return Ok(None) };
    let stands =
        reference == base || engine.image(&base).await?.is_none_or(|base| is_on(&image, &base));
    Ok(stands.then_some(reference))
}

/// Whether a layer is on this image. On one that was built again since it has the old
/// packages.
fn is_on(layer: &ImageFacts, base: &ImageFacts) -> bool {
    layer.layers.starts_with(&base.layers)
}

/// One of the images that rcc built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// `dev` or `small`.
    pub choice: ImageChoice,
    /// The engine's name of it.
    pub name: String,
    /// When, seconds since 1970.
    pub since: i64,
}

impl Built {
    /// In whole days, now.
    pub fn days(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        now.saturating_sub(u64::try_from(self.since).unwrap_or(0)) / 86_400
    }

    /// Whether the distribution has mended things since that matter.
    pub fn is_old(&self) -> bool {
        self.days() >= OLD_DAYS
    }

    /// How long ago, for a person.
    pub fn age(&self) -> String {
        match self.days() {
            0 => "built today".into(),
            1 => "built yesterday".into(),
            days => format!("built {days} days ago"),
        }
    }
}

/// The images `dev` and `small`, as far as the engine has them.
///
/// # Errors
/// [`Code::Engine`].
pub async fn built(engine: &Engine) -> Result<Vec<Built>> {
    let mut built = Vec::new();
    for choice in [ImageChoice::Dev, ImageChoice::Small] {
        if let Some(name) = find(engine, &choice, &[]).await?
            && let Some(since) = engine.image_made(&name).await?
        {
            built.push(Built { choice, name, since });
        }
    }
    Ok(built)
}

/// Builds `dev` or `small` again, from the packages that the distribution has now.
/// Layers on it are built again when they are wanted next; sandboxes that run keep theirs.
///
/// # Errors
/// As [`find_or_build`]; what was there stays then.
pub async fn renew(
    host: &Host,
    engine: &Engine,
    choice: &ImageChoice,
    report: &Reporter,
    cancel: &Cancel,
) -> Result<String> {
    let Some(recipe) = Recipe::of(choice, &[])? else {
        let hint = "It is yours: build or pull it as you did.";
        return Err(Error::new(Code::Invalid, format!("rcc did not build {choice}.")).hint_is(hint));
    };
    let _lock = or_cancelled(cancel, Lock::take(&host.runtime.join("image.lock"))).await?;
    let sources = or_cancelled(cancel, async { Ok(sources::of_this_computer().await) }).await?;
    let reference = recipe.tag(&sources::release());
    build::run(engine, &reference, &recipe, &sources, report, cancel).await?;
    Ok(reference)
}

/// Answers the image's reference; builds `dev` and `small`, and a layer with
/// `packages` on top of them, when the engine does not have them. An image of the person's own is
/// theirs to change: `packages` do not count for it.
///
/// # Errors
/// [`Code::ImageMissing`], [`Code::ImageTool`], [`Code::ImageBuild`],
/// [`Code::Cancelled`]; nothing half made is left behind.
pub async fn find_or_build(
    host: &Host,
    engine: &Engine,
    choice: &ImageChoice,
    packages: &[String],
    report: &Reporter,
    cancel: &Cancel,
) -> Result<String> {
    if let Some(reference) = or_cancelled(cancel, find(engine, choice, packages)).await? {
        return Ok(reference);
    }
    let Some(recipe) = Recipe::of(choice, packages)? else {
        return Err(Error::new(Code::ImageMissing, format!("The engine has no image {choice}.")));
    };
    // Two projects that are opened at once need one image.
    let _lock = or_cancelled(cancel, Lock::take(&host.runtime.join("image.lock"))).await?;
    if let Some(reference) = or_cancelled(cancel, find(engine, choice, packages)).await? {
        return Ok(reference);
    }
    let base = recipe.tag(&sources::release());
    if !or_cancelled(cancel, engine.has_image(&base)).await? {
        let sources = or_cancelled(cancel, async { Ok(sources::of_this_computer().await) }).await?;
        build::run(engine, &base, &recipe, &sources, report, cancel).await?;
    }
    let reference = recipe.reference(&sources::release());
    if reference != base {
        layer::run(engine, &base, &reference, &recipe.more, report, cancel).await?;
    }
    Ok(reference)
}

fn read(name: &str, text: &str) -> Result<Recipe> {
    toml::from_str(text).map_err(|e| {
        Error::new(Code::ImageBuild, format!("The recipe {name} is not valid."))
            .with_detail(e.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_are_valid_and_small_is_contained_in_dev() {
        let dev = read("dev", DEV).unwrap();
        let small = read("small", SMALL).unwrap();
        for package in &small.packages {
            assert!(dev.packages.contains(package), "{package}");
        }
        for package in &dev.packages {
            assert!(
                package
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))
            );
        }
    }

    #[test]
    fn a_recipe_or_another_suite_makes_another_image() {
        let tag = |choice: ImageChoice, more: &[&str], release: &str| {
            let more: Vec<String> = more.iter().map(|name| (*name).to_string()).collect();
            Recipe::of(&choice, &more).unwrap().unwrap().reference(release)
        };
        let one = tag(ImageChoice::Dev, &[], "x");
        assert!(one.starts_with("localhost/rcc-dev:"));
        assert_ne!(one, tag(ImageChoice::Small, &[], "x"));
        assert_ne!(one, tag(ImageChoice::Dev, &[], "y"));
        let more = tag(ImageChoice::Dev, &["golang", "cargo"], "x");
        assert_ne!(one, more);
        assert_eq!(more, tag(ImageChoice::Dev, &["cargo", "golang", "git"], "x"));
        assert!(Recipe::of(&ImageChoice::Named("a".into()), &[]).unwrap().is_none());
        assert!(has_package(&ImageChoice::Dev, "nodejs"));
        assert!(!has_package(&ImageChoice::Small, "nodejs"));
    }

    #[test]
    fn a_layer_on_an_image_that_was_built_again_is_not_taken() {
        let image = |layers: &[&str]| ImageFacts {
            id: String::new(),
            layers: layers.iter().map(|layer| (*layer).to_string()).collect(),
        };
        let layer = image(&["sha256:1", "sha256:2", "sha256:more"]);
        assert!(is_on(&layer, &image(&["sha256:1", "sha256:2"])));
        assert!(!is_on(&layer, &image(&["sha256:1", "sha256:3"])));
        assert!(!is_on(&layer, &image(&["sha256:2"])));
    }

    #[test]
    fn names_of_images_cannot_leave_their_place_in_the_api() {
        assert_eq!(ImageChoice::parse("small").unwrap(), ImageChoice::Small);
        for good in ["debian", "localhost/a_b/c:1.2", "host.example:5000/x@sha256:ab"] {
            assert_eq!(ImageChoice::parse(good).unwrap(), ImageChoice::Named(good.into()));
        }
        for bad in ["", "-x", "/x", "a b", "a?b", "a#b", "a/../b", "ä", "a\n"] {
            assert_eq!(ImageChoice::parse(bad).unwrap_err().code(), Code::Invalid, "{bad}");
        }
    }
}
