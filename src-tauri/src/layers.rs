//! Layers of projects' own packages that are kept, for the page of images.

use std::path::Path;

use rcc_sandbox::image;
use rcc_sandbox::{Error, display};

use crate::app::{App, again};
use crate::projects::shown;
use crate::wire::Layer;

pub async fn layers(app: &App) -> Result<Vec<Layer>, Error> {
    let host = app.host().map_err(again)?;
    let layers = image::layers(host, &app.engine().await?).await?;
    Ok(layers
        .into_iter()
        .map(|layer| Layer {
            name: display::line(&layer.name, 200),
            size: layer.size,
            used: layer.used,
            projects: layer.projects.iter().map(|path| shown(host, Path::new(path))).collect(),
        })
        .collect())
}

/// Answers those that are left.
pub async fn remove(app: &App, name: &str) -> Result<Vec<Layer>, Error> {
    image::remove_layer(app.host().map_err(again)?, &app.engine().await?, name).await?;
    layers(app).await
}
