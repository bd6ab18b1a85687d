//! Packages that a project may want, from the names of the files in its folder.
//! Nothing in there is opened: the agent writes it (THREATS F5).

use std::fs;

use crate::image::{ImageChoice, has_package};
use crate::project::Project;

/// Names that are looked at, at most.
const MOST: usize = 5_000;

/// File, and packages of Debian's and Ubuntu's that work with it.
const KNOWN: &[(&str, &[&str])] = &[
    ("package.json", &["nodejs", "npm"]),
    ("go.mod", &["golang"]),
    ("Cargo.toml", &["cargo", "rustc"]),
    ("pyproject.toml", &["python3", "python3-pip", "python3-venv"]),
    ("requirements.txt", &["python3", "python3-pip", "python3-venv"]),
    ("pom.xml", &["default-jdk-headless", "maven"]),
    ("build.gradle", &["default-jdk-headless"]),
    ("build.gradle.kts", &["default-jdk-headless"]),
    ("composer.json", &["composer", "php-cli"]),
    ("Gemfile", &["bundler", "ruby-dev"]),
    ("mix.exs", &["elixir"]),
    ("CMakeLists.txt", &["build-essential", "cmake"]),
    ("meson.build", &["build-essential", "meson"]),
    ("Makefile", &["make"]),
];

/// What the image lacks, and because of which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Names as apt knows them.
    pub packages: Vec<String>,
    /// The file's name.
    pub because: &'static str,
}

/// What `project` may want beyond `image` and the packages that it has. Nothing
/// for an image of the person's own.
pub fn offers(project: &Project, image: &ImageChoice, has: &[String]) -> Vec<Offer> {
    if matches!(image, ImageChoice::Named(_)) {
        return Vec::new();
    }
    let entries = fs::read_dir(project.path()).into_iter().flatten().take(MOST);
    let names: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    let mut offered: Vec<String> = Vec::new();
    let mut offers = Vec::new();
    for (file, packages) in KNOWN {
        if !names.iter().any(|name| name == file) {
            continue;
        }
        // The tools for C bring make.
        let there = |package: &str| {
            has_package(image, package)
                || package == "make" && has_package(image, "build-essential")
                || has.iter().chain(&offered).any(|own| own == package)
        };
        let lacking: Vec<String> = packages
            .iter()
            .filter(|package| !there(package))
            .map(|package| (*package).to_string())
            .collect();
        if !lacking.is_empty() {
            offered.extend(lacking.iter().cloned());
            offers.push(Offer { packages: lacking, because: file });
        }
    }
    offers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f5_only_names_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::testing::host(dir.path());
        let folder = dir.path().join("code");
        fs::create_dir(&folder).unwrap();
        let project = Project::open(&folder, &host).unwrap();
        assert_eq!(offers(&project, &ImageChoice::Dev, &[]), []);
        for file in ["go.mod", "package.json", "requirements.txt", "pyproject.toml", "Makefile"] {
            // A pipe would hold up whoever opens it.
            nix::unistd::mkfifo(&folder.join(file), nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        let dev = offers(&project, &ImageChoice::Dev, &[]);
        assert_eq!(dev, [Offer { packages: vec!["golang".into()], because: "go.mod" }]);
        assert_eq!(offers(&project, &ImageChoice::Dev, &["golang".into()]), []);
        let small = offers(&project, &ImageChoice::Small, &[]);
        assert!(small.iter().any(|offer| offer.because == "package.json"));
        let python = small.iter().filter(|o| o.packages.iter().any(|p| p == "python3-pip"));
        assert_eq!(python.count(), 1);
        assert_eq!(offers(&project, &ImageChoice::Named("x".into()), &[]), []);
    }
}
