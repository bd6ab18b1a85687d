//! Permissions for the page's commands, and a clear word when the page is missing.

use std::path::Path;

include!("src/commands/names.rs");

const PAGE: &str = "../ui/dist/index.html";

fn main() {
    println!("cargo::rerun-if-changed={PAGE}");
    println!("cargo::rerun-if-changed=../ui/dist");
    println!("cargo::rerun-if-changed=src/commands/names.rs");
    if !Path::new(PAGE).exists() {
        println!(
            "cargo::error=The page of the window is not built: run `npm ci && npm run build` in ui/."
        );
        std::process::exit(1);
    }
    let attributes = tauri_build::Attributes::new()
        .app_manifest(tauri_build::AppManifest::new().commands(NAMES));
    if let Err(error) = tauri_build::try_build(attributes) {
        println!("cargo::error={error:#}");
        std::process::exit(1);
    }
}
