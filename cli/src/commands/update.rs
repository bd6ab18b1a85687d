//! `rcc update`.

use rcc_sandbox::claude::{self, Claude};
use rcc_sandbox::image::{self, Built};
use rcc_sandbox::{Cancel, Engine, Step};
use serde_json::{Value, json};

use super::Call;
use crate::arguments::{UpdateWhat, exit};
use crate::open::stop_on_interrupt;
use crate::show::{self, Lines};

/// Says what is newer, and changes nothing.
pub async fn look(call: &Call, what: Option<UpdateWhat>) -> anyhow::Result<u8> {
    let mut said = serde_json::Map::new();
    let mut newer = false;
    if what != Some(UpdateWhat::Image) {
        let there = claude::find(&call.host);
        // The person's own install is theirs to update, so nobody is asked about it.
        let newest = match &there {
            Some(own) if !own.fetched => None,
            _ => Some(claude::newest(&call.host, &Cancel::new()).await?),
        };
        let version = there.as_ref().and_then(|claude| claude.version.clone());
        newer |= newest
            .as_deref()
            .is_some_and(|newest| there.as_ref().is_none_or(|claude| claude.is_older_than(newest)));
        if !call.json {
            println!("{}", claude_words(there.as_ref(), newest.as_deref()));
        }
        let own = there.is_some_and(|claude| !claude.fetched);
        said.insert("claude".into(), json!({"version": version, "newest": newest, "own": own}));
    }
    if what != Some(UpdateWhat::Claude) {
        let images = image::built(&Engine::connect(&call.host).await?).await?;
        newer |= images.iter().any(Built::is_old);
        if !call.json {
            images.iter().for_each(|image| println!("{}, {}.", image.name, image.age()));
        }
        let images = images.iter().map(|image| json!({"name": image.name, "built": image.since}));
        said.insert("images".into(), images.collect());
    }
    if call.json {
        println!("{:#}", Value::Object(said));
    }
    Ok(exit::found(newer))
}

fn claude_words(there: Option<&Claude>, newest: Option<&str>) -> String {
    let version = |claude: &Claude| claude.version.clone().unwrap_or("of some version".into());
    match (there, newest) {
        (Some(own), None) => format!("Claude Code {} is your own install.", version(own)),
        (Some(old), Some(newest)) if old.is_older_than(newest) => {
            format!("Claude Code {newest} is there; you have {}.", version(old))
        }
        (Some(there), Some(_)) => format!("Claude Code {} is the newest.", version(there)),
        (None, newest) => {
            format!("Claude Code {} is there; you have none.", newest.unwrap_or_default())
        }
    }
}

pub async fn update(call: &Call, what: Option<UpdateWhat>) -> anyhow::Result<u8> {
    let engine = match what {
        Some(UpdateWhat::Claude) => None,
        _ => Some(Engine::connect(&call.host).await?),
    };
    let cancel = Cancel::new();
    let stop = stop_on_interrupt(&cancel);
    let (lines, report) = Lines::begin(call.json);
    let renewed = async {
        let Some(engine) = &engine else { return Ok(Vec::new()) };
        let mut renewed = Vec::new();
        for built in image::built(engine).await? {
            let renew = image::renew(&call.host, engine, &built.choice, &report, &cancel);
            renewed.push(report.step(Step::Image, renew).await?);
        }
        Ok::<_, rcc_sandbox::Error>(renewed)
    };
    let updated = async {
        if what == Some(UpdateWhat::Image) {
            return Ok(None);
        }
        let update = claude::update(&call.host, &report, &cancel);
        report.step(Step::Claude, update).await.map(Some)
    };
    // Side by side, and what the one could do stays when the other fails.
    let (renewed, updated) = tokio::join!(renewed, updated);
    drop(lines);
    stop.abort();
    if let Ok(Some(updated)) = &updated {
        show::note(&updated.words());
    }
    match renewed.as_deref() {
        Ok([]) if what == Some(UpdateWhat::Image) => {
            show::note("no image is built yet; `rcc init` builds it.");
        }
        Ok(images) => {
            for image in images {
                show::note(&format!("{image} is built again; new sessions use it."));
            }
        }
        Err(_) => {}
    }
    updated?;
    renewed?;
    Ok(0)
}
