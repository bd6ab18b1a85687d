//! A project's packages as a layer, with the computer's own package sources.

use std::fs;

use rcc_policy::Preset;
use rcc_tests::{Workshop, skip};

#[test]
fn packages_are_a_layer_on_the_image_and_a_wrong_name_is_said() {
    let started = Workshop::start(&Preset::Locked.document(&[])).expect("a lab with containers");
    let workshop = match started {
        Ok(workshop) => workshop,
        Err(reason) => {
            skip(&reason);
            return;
        }
    };
    let project = workshop.project("with-tree").expect("a project");
    let init = ["init", "--yes", "--image", "small"];
    let ready = workshop.rcc(&project, &init).expect("rcc init");
    assert_eq!(ready.code, 0, "{ready:?}");
    let images = || -> Vec<String> {
        let format = "{{.Repository}}:{{.Tag}}";
        let said = workshop.run(&project, "podman", &["images", "--format", format]);
        let said = said.expect("podman images").out;
        said.lines().filter(|line| line.contains("/rcc-")).map(Into::into).collect()
    };
    let is_layer = |name: &&String| name.contains("/rcc-small-with:");
    for old in images().iter().filter(is_layer) {
        workshop.run(&project, "podman", &["rmi", "--force", old]).expect("podman rmi");
    }
    let base = images();
    assert!(base.iter().any(|name| name.contains("/rcc-small:")), "{base:?}");

    let folder = workshop.home().join(".config/rcc/projects");
    let settings = fs::read_dir(folder).expect("settings").flatten().find_map(|entry| {
        let text = fs::read_to_string(entry.path()).ok()?;
        text.contains("with-tree").then(|| (entry.path(), text))
    });
    let (file, before) = settings.expect("the project's settings");
    let with = |package: &str| format!("packages = [\"{package}\"]\n{before}");

    fs::write(&file, with("no-such-package-anywhere")).expect("write");
    let wrong = workshop.rcc_outside(&project, &init).expect("rcc init");
    let unreachable = ["Could not resolve", "Failed to fetch", "Temporary failure"];
    if unreachable.iter().any(|words| wrong.err.contains(words)) {
        return skip(&rcc_tests::Skip("the package sources cannot be reached".into()));
    }
    assert_ne!(wrong.code, 0, "{wrong:?}");
    let why = "Unable to locate package no-such-package-anywhere";
    assert!(wrong.err.contains(why), "{}", wrong.err);
    assert_eq!(images(), base, "something half made was left behind");

    fs::write(&file, with("tree")).expect("write");
    let made = workshop.rcc_outside(&project, &init).expect("rcc init");
    assert_eq!(made.code, 0, "{made:?}");
    let now = images();
    let layers: Vec<_> = now.iter().filter(is_layer).collect();
    assert!(layers.len() == 1 && now.len() == base.len() + 1, "{now:?}");
    // What both have in common is kept once.
    let parents = |image: &str| {
        let format = "{{range .RootFS.Layers}}{{.}} {{end}}";
        let said = workshop.run(&project, "podman", &["inspect", "--format", format, image]);
        said.expect("podman inspect")
            .out
            .split_whitespace()
            .map(Into::into)
            .collect::<Vec<String>>()
    };
    let small = base.iter().find(|name| name.contains("/rcc-small:")).expect("small");
    let (below, above) = (parents(small), parents(layers[0]));
    assert!(above.len() == below.len() + 1 && above.starts_with(&below), "{below:?} {above:?}");
    let found = workshop.rcc(&project, &["run", "--", "tree", "--version"]).expect("rcc run");
    assert!(found.code == 0 && found.out.contains("tree v"), "{found:?}");
}
