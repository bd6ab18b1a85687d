//! What sessions leave: exit codes, changed files that the host executes, layers.

use std::fs;

use super::{good, inside, start};

#[test]
fn sessions_are_listed_stopped_and_pass_exit_codes_on() {
    let Some((workshop, project)) = start("api") else { return };
    let ended = inside(&workshop, &project, "exit 7");
    assert_eq!(ended.code, 7, "{ended:?}\n{}", workshop.lab.log());
    let list = workshop.rcc(&project, &["ls", "--json"]).expect("rcc ls");
    good(&workshop, &list);
    let list: serde_json::Value = serde_json::from_str(&list.out).expect("JSON");
    let sessions = list.as_array().expect("a list");
    assert_eq!(sessions.len(), 1, "{list:#}");
    assert_eq!(sessions[0]["path"], project.to_string_lossy().as_ref());
    assert_eq!(sessions[0]["network"], "connected", "{list:#}");

    let off = workshop.rcc(&project, &["net", "off"]).expect("rcc net");
    good(&workshop, &off);
    let reach = "timeout 5 bash -c 'exec 3<>/dev/tcp/api.anthropic.com/443' && echo reached";
    assert!(!inside(&workshop, &project, reach).out.contains("reached"));
    good(&workshop, &workshop.rcc(&project, &["net", "on"]).expect("rcc net"));
    assert!(inside(&workshop, &project, reach).out.contains("reached"));

    good(&workshop, &workshop.rcc(&project, &["stop"]).expect("rcc stop"));
    let list = workshop.rcc(&project, &["ls", "--json"]).expect("rcc ls");
    assert_eq!(list.out.trim(), "[]");
    let left = workshop.run(&project, "podman", &["ps", "--all", "--quiet"]).expect("podman");
    assert_eq!(left.out.trim(), "", "{left:?}");
    let shown = workshop.lab.on_host("/run/rcc-lab/bin/rcc-helper show").expect("show");
    assert!(shown.contains("No sandbox is attached."), "{shown}");
}

#[test]
fn f2_a_folder_that_got_another_name_is_not_opened_a_second_time() {
    let Some((workshop, project)) = start("renamed") else { return };
    let moved = project.with_file_name("moved");
    good(&workshop, &inside(&workshop, &project, "mkdir in"));
    fs::rename(&project, &moved).expect("rename");
    // Its agent could exchange what is mounted in the second one.
    for folder in [&moved, &moved.join("in")] {
        let refused = inside(&workshop, folder, "true");
        let told = refused.err.contains("under the name") && refused.err.contains("RCC-E102");
        assert!(refused.code == 125 && told, "{refused:?}");
    }
    // Nor does the sandbox that works there pass for one of what has the old name now.
    workshop.project("renamed").expect("the old name");
    let refused = inside(&workshop, &project, "true");
    assert!(refused.code == 125 && refused.err.contains("made anew"), "{refused:?}");
    fs::remove_dir(&project).expect("rmdir");

    let stop = |folder: &str| workshop.rcc(&moved, &["stop", folder]).expect("rcc stop");
    assert_eq!(stop("/nowhere").code, 125);
    good(&workshop, &stop(&project.to_string_lossy()));
    good(&workshop, &inside(&workshop, &moved, "rmdir in"));
    good(&workshop, &stop(&moved.to_string_lossy()));
}

#[test]
fn f2_a_hook_of_the_agents_is_told_shown_and_put_back() {
    let Some((workshop, project)) = start("review") else { return };
    let rcc = |arguments: &[&str]| workshop.rcc(&project, arguments).expect("rcc");
    assert_eq!(rcc(&["review"]).code, 0, "nothing ran in it yet");
    let attack = "git init -q . && echo evil > .git/hooks/pre-commit && echo '{}' > package.json";
    let ended = inside(&workshop, &project, attack);
    good(&workshop, &ended);
    assert!(ended.err.contains("that this computer would run changed"), "{ended:?}");
    let list = rcc(&["--json", "review", "--diff"]);
    assert_eq!(list.code, 1, "{list:?}");
    let found: serde_json::Value = serde_json::from_str(&list.out).expect("JSON");
    let changes = found["changes"].as_array().expect("changes");
    let of = |path: &str| {
        let change = changes.iter().find(|one| one["path"] == path).expect(path);
        (change["id"].as_str().expect("an id").to_owned(), change)
    };
    let (hook, shown) = of(".git/hooks/pre-commit");
    assert_eq!(shown["diff"], serde_json::json!(["+ evil"]));
    assert_eq!(shown["why"], "Git would run this at the next commit.");
    assert_eq!(of("package.json").1["runs_by_itself"], false);
    // While the agent works there, a name could stand for another content.
    let refused = rcc(&["review", "keep", ".git/hooks/pre-commit"]);
    assert!(refused.code == 125 && refused.err.contains("The sandbox runs"), "{refused:?}");
    good(&workshop, &inside(&workshop, &project, "echo worse >> .git/hooks/pre-commit"));
    let refused = rcc(&["review", "keep", &hook]);
    assert!(refused.code == 125 && refused.err.contains("RCC-E105"), "{refused:?}");
    let stopped = rcc(&["stop"]);
    assert!(stopped.err.contains("`rcc review` shows them"), "{stopped:?}");
    good(&workshop, &rcc(&["review", "put-back", ".git/hooks/pre-commit"]));
    assert!(!project.join(".git/hooks/pre-commit").exists());
    good(&workshop, &rcc(&["review", "undo"]));
    assert_eq!(
        fs::read_to_string(project.join(".git/hooks/pre-commit")).expect("read"),
        "evil\nworse\n"
    );
    good(&workshop, &rcc(&["review", "keep", "--all"]));
    assert_eq!(rcc(&["review"]).code, 0);
}

#[test]
fn layers_are_listed_and_those_that_no_project_uses_are_removed() {
    let Some((workshop, project)) = start("layers") else { return };
    let rcc = |arguments: &[&str]| workshop.rcc(&project, arguments).expect("rcc");
    let podman = |arguments: &[&str]| workshop.run(&project, "podman", arguments).expect("podman");
    good(&workshop, &rcc(&["init", "--yes", "--image", "small"]));
    // Ann's storage is kept between runs, with what other tests left there.
    good(&workshop, &rcc(&["layers", "remove", "--unused", "--yes"]));
    assert_eq!(rcc(&["--json", "layers"]).out.trim(), "[]");
    let images = podman(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let small = images.out.lines().find(|name| name.starts_with("localhost/rcc-small:"));
    let small = small.unwrap_or_else(|| panic!("{images:?}")).to_owned();
    // As an opening makes them, without the network that packages come over.
    let context = workshop.home().join("projects/layer");
    fs::create_dir(&context).expect("mkdir");
    let recipe = format!("FROM {small}\nRUN head -c 5000000 /dev/urandom > /opt/more\n");
    fs::write(context.join("Containerfile"), recipe).expect("write");
    let (one, other) =
        ("localhost/rcc-small-with:aaaaaaaaaaaa", "localhost/rcc-small-with:bbbbbbbbbbbb");
    let folder = context.to_string_lossy().into_owned();
    good(&workshop, &podman(&["build", "--network", "none", "--tag", one, &folder]));
    good(&workshop, &podman(&["tag", one, other]));
    let listed = rcc(&["--json", "layers"]);
    let layers: serde_json::Value = serde_json::from_str(&listed.out).expect("JSON");
    assert_eq!(layers[0]["name"], one, "{listed:?}");
    assert_eq!(layers[1]["projects"], serde_json::json!([]), "{listed:?}");
    let size = layers[0]["size"].as_u64().expect("a size");
    assert!((5_000_000..8_000_000).contains(&size), "without the image below: {size}");
    assert!(rcc(&["layers"]).out.contains("no project uses it"));

    // Nobody can be asked, no such layer, no layer at all.
    for refused in [
        vec!["layers", "remove", "--unused"],
        vec!["layers", "remove", "--yes", "nonsense"],
        vec!["layers", "remove", "--yes", &small],
    ] {
        assert_eq!(rcc(&refused).code, 125, "{refused:?}");
    }
    good(&workshop, &rcc(&["layers", "remove", "--yes", one]));
    let left = podman(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).out;
    assert!(!left.contains(one) && left.contains(other) && left.contains(&small), "{left}");
    // One that a sandbox runs with stays, whatever settings say.
    good(&workshop, &rcc(&["run", "--image", other, "--", "true"]));
    let refused = rcc(&["layers", "remove", "--unused", "--yes"]);
    assert!(refused.code == 125 && refused.err.contains("could not remove"), "{refused:?}");
    good(&workshop, &rcc(&["stop"]));
    let used = rcc(&["layers"]).out;
    assert!(used.contains("used just now"), "{used}");
    good(&workshop, &rcc(&["layers", "remove", "--unused", "--yes"]));
    assert_eq!(rcc(&["layers"]).out, "No layers are kept.\n");
    assert!(podman(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).out.contains(&small));
}
