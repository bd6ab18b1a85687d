//! Claude Code's hooks: the settings that install them, and what is read from their input.

mod input;

pub use input::{MAX_INPUT, parse};

/// The managed settings that make Claude Code call `inside hook`, as JSON.
///
/// Meant for a root-owned, read-only `/etc/claude-code/managed-settings.json`: from there hooks run without a dialog
/// and a project's `disableAllHooks` does not switch them off.
#[must_use]
pub fn managed_settings() -> String {
    const COMMAND: &str = crate::PROGRAM;
    let hook = |asynchronous: bool, timeout: u32| {
        let mut hook = serde_json::json!({
            "type": "command", "command": COMMAND, "args": ["hook"], "timeout": timeout
        });
        if asynchronous {
            hook["async"] = true.into();
        }
        hook
    };
    let always = || serde_json::json!([{ "hooks": [hook(true, 5)] }]);
    let matching =
        |matcher: &str| serde_json::json!([{ "matcher": matcher, "hooks": [hook(true, 5)] }]);
    let settings = serde_json::json!({ "hooks": {
        "SessionStart": matching("startup|resume|clear"),
        "UserPromptSubmit": always(),
        "PermissionRequest": always(),
        "PostToolUse": matching("AskUserQuestion|ExitPlanMode|Bash|Edit|Write|MultiEdit|NotebookEdit"),
        "PostToolUseFailure": always(),
        "Notification": matching("permission_prompt|elicitation_dialog|elicitation_url_dialog|idle_prompt"),
        "Stop": always(),
        "StopFailure": always(),
        // The session waits for its last hook, so that the program is not gone before it was told.
        "SessionEnd": [{ "hooks": [hook(false, 1)] }],
    } });
    format!("{settings:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hook_calls_the_program_without_a_shell() {
        let settings: serde_json::Value = serde_json::from_str(&managed_settings()).unwrap();
        let hooks = settings["hooks"].as_object().unwrap();
        assert_eq!(hooks.len(), 9);
        for (name, groups) in hooks {
            let hook = &groups[0]["hooks"][0];
            assert_eq!(hook["type"], "command");
            assert_eq!(hook["command"], "/run/rcc/inside");
            assert_eq!(hook["args"], serde_json::json!(["hook"]));
            let last = name == "SessionEnd";
            assert_eq!(hook["timeout"], if last { 1 } else { 5 }, "{name}");
            assert_eq!(hook.get("async").is_some(), !last, "{name}");
        }
        assert_eq!(hooks["SessionStart"][0]["matcher"], "startup|resume|clear");
        assert!(hooks["Stop"][0].get("matcher").is_none());
    }
}
