//! `rcc uninstall --mine`.

use rcc_sandbox::belongings::{self, Belonging, Kind};
use rcc_sandbox::{Engine, Error};
use serde_json::{Value, json};

use super::Call;
use crate::show;

pub async fn uninstall(call: &Call, yes: bool) -> anyhow::Result<u8> {
    // Whoever has removed Podman already must get rid of the rest.
    let engine = match Engine::connect(&call.host).await {
        Ok(engine) => Some(engine),
        Err(error) => {
            show::note(&format!("{} What it keeps stays.", error.title()));
            None
        }
    };
    let found = belongings::find(&call.host, engine.as_ref()).await?;
    if call.json && !yes {
        println!("{:#}", Value::Array(found.iter().map(value).collect()));
        return Ok(0);
    }
    if found.is_empty() {
        if engine.is_some() {
            show::note("nothing of yours is kept.");
        }
        return Ok(0);
    }
    if !yes {
        let lines: Vec<_> = found.iter().map(words).collect();
        let question = "Remove all of this for good? Projects' folders stay.";
        let otherwise = "`--yes` removes everything without a question, `--json` lists it.";
        if !show::agreed(&lines, question, otherwise)? {
            return Err(Error::cancelled().into());
        }
    }
    // One that cannot be removed must not keep the others.
    let mut failed = None;
    for belonging in &found {
        match belongings::remove(&call.host, engine.as_ref(), belonging).await {
            Ok(()) => show::note(&format!("removed: {}.", words(belonging))),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(0), |error| Err(error.into()))
}

fn words(belonging: &Belonging) -> String {
    let title = belonging.kind.title();
    let count = match belonging.kind {
        Kind::Images => format!(": {}", belonging.names.join(", ")),
        Kind::Sandboxes | Kind::Homes => format!(": {}", belonging.names.len()),
        _ => String::new(),
    };
    match belonging.size {
        0 => format!("{title}{count}"),
        size => format!("{title}{count}, {} MB", size.div_ceil(1_000_000)),
    }
}

fn value(belonging: &Belonging) -> Value {
    json!({"kind": belonging.kind.key(), "names": belonging.names, "size": belonging.size})
}
