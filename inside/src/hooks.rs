//! Claude Code's hooks: the settings that install them.

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
