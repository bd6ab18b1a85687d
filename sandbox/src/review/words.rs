//! What a changed file would do, in words for a person.

use std::path::Path;

use super::below;
use super::look::Entry;
use super::roles::Role;

/// Who would run it, and when.
pub(super) fn why(path: &Path, role: Role, now: Option<&Entry>) -> String {
    let text = path.to_string_lossy();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match now {
        None if role == Role::Link => return "It led out of the project.".into(),
        Some(Entry::Link { .. }) if role == Role::Link => {
            return "It leads out of the project: what a program writes or deletes there is yours."
                .into();
        }
        Some(Entry::Link { .. }) => {
            let reader = reader(&text, &name, role);
            return format!("It is a link now, and leads elsewhere. {reader}");
        }
        Some(Entry::Crowd) => {
            return "It has more files than rcc compares, or cannot be listed: look at the folder yourself."
                .into();
        }
        _ => {}
    }
    reader(&text, &name, role)
}

fn reader(path: &str, name: &str, role: Role) -> String {
    if role == Role::Built {
        return built(name, path).into();
    }
    let parts = || Path::new(path).iter();
    let path = below::from_guarded_name(Path::new(path)).to_str().unwrap_or(path);
    match path {
        _ if parts().any(|part| part == "hooks") => hook(name),
        _ if name == "git-rebase-todo" => {
            "Git would run its `exec` lines at `git rebase --continue`.".into()
        }
        ".git" => "Git would take its settings and hooks from where this leads.".into(),
        _ if name == "commondir" => {
            "Git would take its settings and hooks from the folder that this names.".into()
        }
        _ if name == "attributes" => {
            "Git would use it to choose programs that change files as they are checked out.".into()
        }
        _ if path.starts_with(".git/") || name.starts_with("config") => {
            "Git reads it at every command; it can name programs that Git then runs.".into()
        }
        _ if path.starts_with(".husky") => "Git would run it through husky, at a commit.".into(),
        ".envrc" => "direnv would run it when you enter the folder.".into(),
        ".mcp.json" => "Claude Code on this computer would start the servers that it names.".into(),
        _ if path.starts_with(".claude") => {
            "Claude Code on this computer would run the hooks that it names, or follow it.".into()
        }
        ".hg/hgrc" => "Mercurial reads it at every command; it can name programs to run.".into(),
        _ if path.starts_with(".devcontainer") => {
            "An editor would build and start the container that it describes.".into()
        }
        ".exrc" | ".nvimrc" | ".nvim.lua" | ".vimrc" => "Vim would run it in this folder.".into(),
        ".dir-locals.el" => "Emacs would read it in this folder.".into(),
        _ if is_an_editors(path) => {
            "An editor reads it when the folder is opened; it can name programs to run.".into()
        }
        _ => "The project's settings of Git name it: Git would read or run it.".into(),
    }
}

fn is_an_editors(path: &str) -> bool {
    let folders = [".vscode", ".idea", ".zed", ".fleet", ".cursor"];
    path.ends_with(".code-workspace") || folders.iter().any(|name| path.starts_with(name))
}

/// githooks(5).
fn hook(name: &str) -> String {
    let when = match name {
        "pre-commit" | "prepare-commit-msg" | "commit-msg" | "post-commit" => "at the next commit",
        "pre-push" => "at the next push",
        "post-checkout" => "when a branch is checked out",
        "pre-merge-commit" | "post-merge" => "at the next merge or pull",
        "pre-rebase" | "post-rewrite" => "at the next rebase",
        "fsmonitor-watchman" => "at every command",
        "pre-auto-gc" => "when it tidies up",
        _ => return "A hook of Git's would run it, or Git itself.".into(),
    };
    format!("Git would run this {when}.")
}

fn built(name: &str, path: &str) -> &'static str {
    match name {
        _ if path.starts_with(".github") || path.starts_with(".circleci") => {
            "Your project's build server runs it, with what it may do there."
        }
        ".gitlab-ci.yml" | ".travis.yml" | "Jenkinsfile" | "azure-pipelines.yml" => {
            "Your project's build server runs it, with what it may do there."
        }
        "package.json" => "npm runs its scripts, some of them at every install.",
        _ => "What it names is run when you build, test or install.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_says_who_would_run_it() {
        let why = |path: &str| super::why(Path::new(path), Role::Runs, None);
        let built = |path: &str| super::why(Path::new(path), Role::Built, None);
        assert_eq!(why(".git/hooks/pre-commit"), "Git would run this at the next commit.");
        assert!(why("libs/thing/.git/hooks/pre-push").contains("at the next push"));
        assert!(why("libs/thing/.envrc").contains("direnv"));
        assert!(why("libs/bare/config").contains("at every command"));
        assert!(why("hooks/pre-push").contains("at the next push"));
        assert!(why(".git/modules/lib/hooks/pre-push").contains("at the next push"));
        assert!(why(".git/config").contains("at every command"));
        assert!(why(".git/rebase-merge/git-rebase-todo").contains("git rebase --continue"));
        assert!(why(".envrc").contains("direnv"));
        assert!(why(".vscode/tasks.json").contains("An editor"));
        assert!(why("sub/x.code-workspace").contains("An editor"));
        assert!(why(".claude/skills/a/SKILL.md").contains("Claude Code"));
        assert!(why(".claude/worktrees/a/.envrc").contains("direnv"));
        assert!(why("tools/extra").contains("settings of Git"));
        assert!(built("package.json").contains("npm"));
        assert!(built(".github/workflows/ci.yml").contains("build server"));
        // The same file, where Git's settings name it.
        assert!(why("gradlew").contains("settings of Git"));
        let link = Entry::Link { to: b"/tmp".to_vec() };
        let why = |path: &str, role| super::why(Path::new(path), role, Some(&link));
        assert!(why(".git", Role::Runs).starts_with("It is a link now"));
        assert!(why("ci", Role::Runs).contains("settings of Git"));
        assert!(why("ci", Role::Link).starts_with("It leads out of the project"));
    }
}
