//! Layers of projects' own packages that the engine keeps: what they take, and who
//! uses them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::{ImageChoice, Recipe, layer, sources};
use crate::engine::{Engine, KeptImage};
use crate::error::{Code, Error, Result};
use crate::host::{Host, write_atomically};
use crate::settings::Settings;

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The name of the image that it makes.
    pub name: String,
    /// What it takes beside the image below, in bytes.
    pub size: u64,
    /// When a sandbox was opened with it last, seconds since 1970; none: not since this
    /// is written down.
    pub used: Option<u64>,
    /// Folders of the projects whose settings ask for its packages.
    pub projects: Vec<String>,
}

/// All layers that the engine has, by name.
///
/// # Errors
/// [`Code::Engine`], [`Code::Io`].
pub async fn layers(host: &Host, engine: &Engine) -> Result<Vec<Layer>> {
    let images = engine.images("localhost/rcc-").await?;
    let wanted = wanted(&Settings::all(host)?, &sources::release());
    let mut layers: Vec<Layer> = images
        .iter()
        .filter(|image| layer::is_name(&image.name))
        .map(|image| Layer {
            name: image.name.clone(),
            size: own_size(image, &images),
            used: used(host, &image.name),
            projects: wanted
                .iter()
                .filter(|(_, name)| *name == image.name)
                .map(|(path, _)| path.clone())
                .collect(),
        })
        .collect();
    layers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(layers)
}

/// Removes a layer; a project that wants it again has it built again.
///
/// # Errors
/// [`Code::Invalid`] for another image, [`Code::Engine`] also while a sandbox runs with it.
pub async fn remove_layer(host: &Host, engine: &Engine, name: &str) -> Result<()> {
    if !layer::is_name(name) {
        let shown = crate::display::line(name, 80);
        return Err(Error::new(Code::Invalid, format!("`{shown}` is not a layer of rcc's."))
            .hint_is("`rcc layers` lists them."));
    }
    let hint = "One that a sandbox runs with stays: stop that session and try again.";
    engine.remove_image(name).await.map_err(|error| error.hint_is(hint))?;
    let _ = fs::remove_file(note(host, name));
    Ok(())
}

/// A sandbox is opened with it now. It is a note: nothing depends on it.
pub(crate) fn note_use(host: &Host, name: &str) {
    if layer::is_name(name) {
        let _ = write_atomically(&note(host, name), b"");
    }
}

/// The layers that projects ask for: folder and name.
fn wanted(all: &[Settings], release: &str) -> Vec<(String, String)> {
    all.iter()
        .filter_map(|settings| {
            let choice = ImageChoice::parse(&settings.image).ok()?;
            let recipe = Recipe::of(&choice, &settings.packages).ok()??;
            Some((settings.path.clone(), recipe.reference(release)))
        })
        .collect()
}

/// Without what the engine keeps once for it and the image below.
fn own_size(image: &KeptImage, all: &[KeptImage]) -> u64 {
    let below = all
        .iter()
        .filter(|other| !layer::is_name(&other.name) && image.layers.starts_with(&other.layers))
        .map(|other| other.layers.len())
        .max();
    image.sizes.iter().take(image.layers.len() - below.unwrap_or(0)).sum()
}

fn note(host: &Host, name: &str) -> PathBuf {
    let name = name.rsplit(['/', ':']).next().unwrap_or(name);
    host.state.join("layers").join(Path::new(name).file_name().unwrap_or_default())
}

fn used(host: &Host, name: &str) -> Option<u64> {
    let modified = fs::metadata(note(host, name)).ok()?.modified().ok()?;
    Some(modified.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, sizes: &[u64], layers: &[&str]) -> KeptImage {
        let layers = layers.iter().map(|layer| (*layer).to_string()).collect();
        KeptImage { name: name.into(), sizes: sizes.into(), layers }
    }

    #[test]
    fn a_layer_takes_what_the_image_below_does_not() {
        let base = image("localhost/rcc-small:aa", &[100], &["1"]);
        let layer = image("localhost/rcc-small-with:bbbbbbbbbbbb", &[40, 100], &["1", "2"]);
        let all = [base, layer.clone(), image("localhost/rcc-dev:cc", &[120], &["3"])];
        assert_eq!(own_size(&layer, &all), 40);
        // Of an image that is gone all of it counts.
        assert_eq!(own_size(&layer, &all[2..]), 140);
    }

    #[test]
    fn a_project_uses_the_layer_of_its_packages_and_release() {
        let settings = |path: &str, packages: &[&str]| Settings {
            path: path.into(),
            image: "small".into(),
            packages: packages.iter().map(|name| (*name).to_string()).collect(),
            ..Settings::default()
        };
        let all = [settings("/a", &["ffmpeg"]), settings("/b", &["git"]), settings("/c", &[])];
        let wanted = wanted(&all, "x");
        assert!(layer::is_name(&wanted[0].1), "{wanted:?}");
        // What the image has anyway makes no layer.
        assert_eq!(wanted[1].1, wanted[2].1);
        assert!(!layer::is_name(&wanted[1].1), "{wanted:?}");
        let later = super::wanted(&all, "y");
        assert_ne!(later[0].1, wanted[0].1);
    }

    #[test]
    fn the_last_use_is_written_down_for_layers_alone() {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::testing::host(dir.path());
        note_use(&host, "localhost/rcc-small:aabb");
        note_use(&host, "localhost/rcc-small-with:../../x");
        assert!(!host.state.join("layers").exists());
        let name = "localhost/rcc-small-with:aabbccddeeff";
        assert_eq!(used(&host, name), None);
        note_use(&host, name);
        assert!(used(&host, name).unwrap() > 1_700_000_000);
    }
}
