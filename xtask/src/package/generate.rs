//! Files of the package that are made from what stands elsewhere: the command
//! line's own description, the licences of what it is built from, the preset.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::CommandFactory;
use clap_complete::Shell;
use serde::Deserialize;

use crate::workspace;

/// The command line's definition. It is a program of its own, so there is nothing
/// to depend on; whoever builds `xtask` builds no engine for it.
#[allow(dead_code, reason = "only the description of the arguments is used here")]
#[path = "../../../cli/src/arguments.rs"]
mod arguments;

/// The name on a computer.
const COMMAND: &str = "rcc-sandbox";

/// Where they go.
pub fn folder() -> PathBuf {
    workspace::outputs().with_file_name("generated")
}

/// Writes all of them.
pub fn write() -> anyhow::Result<()> {
    let folder = folder();
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))
    };
    put("rcc-sandbox.1", &manual()?)?;
    for (shell, name) in [
        (Shell::Bash, "rcc-sandbox.bash"),
        (Shell::Zsh, "_rcc-sandbox"),
        (Shell::Fish, "rcc-sandbox.fish"),
    ] {
        let mut bytes = Vec::new();
        clap_complete::generate(shell, &mut arguments::Arguments::command(), COMMAND, &mut bytes);
        let mut text = String::from_utf8(bytes)?;
        match shell {
            // The short name, where the package has it.
            Shell::Bash => {
                text += "\n[ \"$(readlink /usr/bin/rcc)\" = rcc-sandbox ] && complete -F _rcc-sandbox -o bashdefault -o default rcc\n"
            }
            Shell::Zsh => {
                text = text.replacen("#compdef rcc-sandbox", "#compdef rcc-sandbox rcc", 1)
            }
            _ => {}
        }
        put(name, text.as_bytes())?;
    }
    let copyright = fs::read_to_string(workspace::root().join("packaging/debian/copyright"))?;
    let mit = fs::read_to_string(workspace::root().join("LICENSE-MIT"))?;
    put("copyright", copyright.replace("@MIT@", &indented(&mit)).as_bytes())?;
    put("third-party-licences", licences()?.as_bytes())?;
    put("network-whitelist.yaml", rcc_policy::Preset::Balanced.document(&[]).as_bytes())
}

fn indented(text: &str) -> String {
    let line = |line: &str| if line.trim().is_empty() { " .".into() } else { format!(" {line}") };
    text.trim_end().lines().map(line).collect::<Vec<_>>().join("\n")
}

/// rcc(1): the whole command line on one page.
fn manual() -> anyhow::Result<Vec<u8>> {
    let command = arguments::Arguments::command();
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone().name(COMMAND))
        .section("1")
        .manual("User commands")
        .source(concat!("rcc ", env!("CARGO_PKG_VERSION")));
    man.render_title(&mut page)?;
    page.extend_from_slice(
        b".SH NAME\nrcc\\-sandbox, rcc \\- run Claude Code in a sandbox it cannot leave\n",
    );
    man.render_synopsis_section(&mut page)?;
    page.extend_from_slice(
        b".SH DESCRIPTION\n\
          Opens a project folder in a rootless container and starts Claude Code there. It can change\n\
          that folder and nothing else, and reach the hosts that are allowed and nothing else.\n\
          .PP\n\
          The command is called\n.B rcc\nwhere no other package has that name.\n",
    );
    man.render_options_section(&mut page)?;
    page.extend_from_slice(b".SH COMMANDS\n");
    for one in command.get_subcommands() {
        let mut usage = one.clone().bin_name(format!("rcc {}", one.get_name()));
        let usage = usage.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").replace('-', "\\-");
        let about = one.get_about().map(ToString::to_string).unwrap_or_default();
        writeln!(page_text(&mut page), ".TP\n.B {usage}\n{}.", roff(&about))?;
        for argument in one.get_arguments().filter(|one| !one.is_hide_set()) {
            let Some(help) = argument.get_help() else { continue };
            let name = match (argument.get_long(), argument.get_value_names()) {
                (Some(long), _) => format!("\\-\\-{}", long.replace('-', "\\-")),
                (None, Some([name, ..])) => name.to_string(),
                (None, _) => argument.get_id().to_string().to_uppercase(),
            };
            if !["json", "project", "help"].iter().any(|global| name.ends_with(global)) {
                writeln!(
                    page_text(&mut page),
                    ".RS\n.TP\n.I {name}\n{}.\n.RE",
                    roff(&help.to_string())
                )?;
            }
        }
    }
    writeln!(page_text(&mut page), ".SH EXIT STATUS\n{}. Else:", roff(arguments::exit::PROGRAMS))?;
    for (code, why) in arguments::exit::ALL {
        writeln!(page_text(&mut page), ".TP\n.B {code}\n{}", roff(why))?;
    }
    page.extend_from_slice(
        b".SH FILES\n\
          .TP\n.I ~/.config/rcc\nWhat you allow, and settings of projects.\n\
          .TP\n.I /etc/rcc/network\\-whitelist.yaml\nThe administrator's list, which bounds it.\n\
          .SH SEE ALSO\n.BR rcc\\-helper (8),\n.BR network\\-whitelist.yaml (5),\n.BR podman (1)\n",
    );
    Ok(page)
}

/// Text of a page, which is bytes.
struct Page<'a>(&'a mut Vec<u8>);

impl Write for Page<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn page_text(page: &mut Vec<u8>) -> Page<'_> {
    Page(page)
}

fn roff(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('…', "...").replace('\n', " ")
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Lock {
    packages: BTreeMap<String, Locked>,
}

#[derive(Deserialize)]
struct Locked {
    #[serde(default)]
    version: String,
    #[serde(default)]
    dev: bool,
    #[serde(default)]
    license: Option<String>,
}

/// What the programs and the page are built from, and the texts of the licences.
fn licences() -> anyhow::Result<String> {
    let triple = workspace::host_triple().context("rustc does not say what this machine is")?;
    let mut cargo = workspace::cargo();
    cargo.args(["metadata", "--format-version=1", "--locked", "--filter-platform", &triple]);
    let output = cargo.output().context("start cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    let mut list = String::from("Parts of rcc that others wrote, with their licences.\n\n");
    // Each text once, with the parts that it came with.
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in metadata.packages.iter().filter(|package| package.source.is_some()) {
        let licence = package.license.as_deref().unwrap_or("see its text");
        let name = format!("{} {}", package.name, package.version);
        writeln!(list, "{name}: {licence}")?;
        let folder = package.manifest_path.parent().unwrap_or(Path::new("/"));
        for text in own_texts(folder)? {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    let modules = workspace::root().join("ui/node_modules");
    let lock: Lock =
        serde_json::from_slice(&fs::read(workspace::root().join("ui/package-lock.json"))?)?;
    for (path, locked) in
        lock.packages.iter().filter(|(path, locked)| !path.is_empty() && !locked.dev)
    {
        let short = path.trim_start_matches("node_modules/");
        let name = format!("{short} {}", locked.version);
        writeln!(list, "{name}: {}", locked.license.as_deref().unwrap_or("see its text"))?;
        for text in own_texts(&modules.join(short)).unwrap_or_default() {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    for (text, names) in texts {
        write!(list, "\n\n{}\n{}\n\n{text}\n", "=".repeat(72), names.join(", "))?;
    }
    Ok(list)
}

fn own_texts(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        let is_one = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT", "UNLICENSE"]
            .iter()
            .any(|start| name.starts_with(start));
        if is_one && path.is_file() {
            texts.push(String::from_utf8_lossy(&fs::read(&path)?).trim().to_owned());
        }
    }
    texts.sort();
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_names_every_command() {
        let page = String::from_utf8(manual().expect("a page")).expect("text");
        for command in arguments::Arguments::command().get_subcommands() {
            assert!(
                page.contains(&format!(".B rcc {}", command.get_name())),
                "{}",
                command.get_name()
            );
        }
        assert!(page.starts_with(".ie") || page.contains(".TH"), "{page}");
    }

    #[test]
    fn a_paragraph_of_a_copyright_file_has_dots_for_empty_lines() {
        assert_eq!(indented("a\n\n b\n"), " a\n .\n  b");
    }
}
