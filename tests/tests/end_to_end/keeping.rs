//! What rcc keeps of a person's: brought up to date, and taken away.

use std::fs;
use std::path::Path;

use rcc_tests::Workshop;

use super::{good, inside, start};

/// Ids and names of ann's images.
fn images(workshop: &Workshop, project: &Path) -> Vec<(String, String)> {
    let list = ["images", "--format", "{{.Id}} {{.Repository}}:{{.Tag}}"];
    let said = workshop.run(project, "podman", &list).expect("podman");
    good(workshop, &said);
    let lines = said.out.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(id, name)| (id.to_owned(), name.to_owned())).collect()
}

#[test]
fn an_image_is_built_again_and_the_old_one_goes_with_its_last_sandbox() {
    let Some((workshop, project)) = start("renewed") else { return };
    let podman = |arguments: &[&str]| {
        let ended = workshop.run(&project, "podman", arguments).expect("podman");
        good(&workshop, &ended);
    };
    let small = |images: &[(String, String)]| {
        let small = images.iter().find(|(_, name)| name.starts_with("localhost/rcc-small:"));
        small.unwrap_or_else(|| panic!("{images:?}")).clone()
    };
    let at_first = images(&workshop, &project);
    let before = small(&at_first);
    let looked = workshop.rcc(&project, &["--json", "update", "--check", "image"]).expect("look");
    good(&workshop, &looked);
    assert!(looked.out.contains(&before.1) && !looked.out.contains("claude"), "{looked:?}");

    // Something that runs with it. Not a sandbox: the lab ends those before it builds.
    let temporary = || {
        let names = fs::read_dir("/var/tmp").expect("a folder").flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.contains(".tar")).collect::<Vec<_>>()
    };
    let there = temporary();
    podman(&["create", "--quiet", "--name", "holder", &before.1, "true"]);
    let outside = workshop.rcc_outside(&project, &["update", "image"]).expect("update");
    good(&workshop, &outside);
    assert!(outside.err.contains("is built again"), "{outside:?}");
    let left: Vec<_> = temporary().into_iter().filter(|name| !there.contains(name)).collect();
    assert!(left.is_empty(), "copies of the archive: {left:?}");
    let now = images(&workshop, &project);
    let after = small(&now);
    assert!(after.1 == before.1 && after.0 != before.0, "{before:?} {after:?}");
    let aside = |images: &[(String, String)]| {
        images.iter().filter(|(_, name)| name.contains("rcc-replaced")).cloned().collect::<Vec<_>>()
    };
    let kept = aside(&now);
    assert!(kept.len() == 1 && kept[0].0 == before.0, "{now:?}");
    podman(&["rm", "holder"]);
    // The next end of a session takes it away.
    good(&workshop, &inside(&workshop, &project, "true"));
    good(&workshop, &workshop.rcc(&project, &["stop"]).expect("stop"));
    let now = images(&workshop, &project);
    assert_eq!(aside(&now), [], "nobody uses it any more");
    // The lab keeps its images from run to run; one without a name may be of another's.
    let new = now.iter().filter(|one| !at_first.contains(one));
    assert!(new.clone().all(|(_, name)| !name.contains("<none>")), "{at_first:?} {now:?}");
    assert!(now.iter().all(|(id, _)| *id != before.0), "{now:?}");
}

#[test]
fn everything_of_a_person_is_listed_and_goes_and_projects_stay() {
    let Some((workshop, project)) = start("kept") else { return };
    fs::write(project.join("mine"), "mine").expect("write");
    // A storage and folders of its own: what other tests need stays where it is.
    let world = workshop.home().join("projects/world");
    let rcc = |arguments: &[&str]| {
        let program = rcc_tests::Lab::program("rcc");
        let mut command = workshop.ann(&project, &program.to_string_lossy(), arguments);
        for (variable, name) in
            [("DATA", "data"), ("CONFIG", "config"), ("STATE", "state"), ("CACHE", "cache")]
        {
            command.env(format!("XDG_{variable}_HOME"), world.join(name));
        }
        workshop.finish(&mut command).expect("rcc")
    };
    let prepare = format!(
        "set -e; mkdir -p {0}/data {0}/config/containers && cp ~/.config/containers/* {0}/config/containers; \
         name=$(podman images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' | grep '^localhost/rcc-small:'); \
         podman save -q -o {0}/image.tar $name; \
         XDG_DATA_HOME={0}/data XDG_CONFIG_HOME={0}/config podman load -q -i {0}/image.tar",
        world.display()
    );
    good(&workshop, &workshop.run(&project, "sh", &["-c", &prepare]).expect("sh"));
    good(&workshop, &rcc(&["run", "--yes", "--image", "small", "--", "true"]));
    good(&workshop, &rcc(&["allow", "kept.example"]));

    let listed = rcc(&["--json", "uninstall", "--mine"]);
    good(&workshop, &listed);
    let kept: serde_json::Value = serde_json::from_str(&listed.out).expect("JSON");
    let kinds: Vec<_> = kept.as_array().expect("a list").iter().collect();
    let kind = |name: &str| {
        let found = kinds.iter().find(|one| one["kind"] == name);
        found.unwrap_or_else(|| panic!("{name}: {listed:?}"))
    };
    for name in ["sandboxes", "homes", "images", "settings"] {
        assert_eq!(kind(name)["names"].as_array().map(Vec::len), Some(1), "{listed:?}");
    }
    assert!(kind("images")["size"].as_u64().expect("a size") > 50_000_000, "{listed:?}");
    // Nobody can be asked here, and it is asked for by its whole name.
    for refused in [vec!["uninstall", "--mine"], vec!["uninstall", "--yes"]] {
        assert_ne!(rcc(&refused).code, 0, "{refused:?}");
    }
    assert!(rcc(&["ls"]).out.contains("kept"), "the sandbox runs");

    good(&workshop, &rcc(&["uninstall", "--mine", "--yes"]));
    let after = rcc(&["--json", "uninstall", "--mine"]);
    assert_eq!(after.out.trim(), "[]", "{after:?}");
    let left = format!(
        "export XDG_DATA_HOME={0}/data XDG_CONFIG_HOME={0}/config; podman ps -aq; podman volume ls -q; podman images -q",
        world.display()
    );
    let left = workshop.run(&project, "sh", &["-c", &left]).expect("podman");
    assert_eq!((left.code, left.out.as_str()), (0, ""), "{left:?}");
    for name in ["data", "config", "state"] {
        assert!(!world.join(name).join("rcc").exists(), "{name}");
    }
    assert_eq!(fs::read_to_string(project.join("mine")).expect("read"), "mine");
}
