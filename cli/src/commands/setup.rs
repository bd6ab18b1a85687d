//! `rcc init`, `doctor` and `setup`.

use std::io::{BufRead, IsTerminal, Write};

use rcc_sandbox::doctor::{self, Health};
use rcc_sandbox::{
    Cancel, Engine, ImageChoice, Network, Registries, Settings, Step, claude, image,
};
use serde_json::{Value, json};

use super::Call;
use crate::arguments::{Opening, exit};
use crate::open::stop_on_interrupt;
use crate::show::{self, Lines};

/// Everything that is slow the first time, so that `rcc claude` is fast.
pub async fn init(call: &Call, opening: &Opening) -> anyhow::Result<u8> {
    let project = call.project()?;
    let mut settings = Settings::load(&project, &call.host)?;
    if let Some(image) = &opening.image {
        settings.image = ImageChoice::parse(image)?.to_string();
    }
    let choice = ImageChoice::parse(&settings.image)?;
    let engine = Engine::connect(&call.host).await?;
    let build = image::find(&engine, &choice, &settings.packages).await?.is_none()
        && !matches!(choice, ImageChoice::Named(_));
    let fetch = claude::find(&call.host).is_none();
    if (build || fetch) && !opening.yes && !agreed(build, fetch)? {
        return Err(rcc_sandbox::Error::cancelled().into());
    }
    let cancel = Cancel::new();
    let stop = stop_on_interrupt(&cancel);
    let (lines, report) = Lines::begin(call.json);
    let (image, claude) = tokio::join!(
        report.step(
            Step::Image,
            image::find_or_build(
                &call.host,
                &engine,
                &choice,
                &settings.packages,
                &report,
                &cancel
            )
        ),
        report.step(Step::Claude, claude::find_or_fetch(&call.host, &report, &cancel)),
    );
    drop(lines);
    stop.abort();
    image?;
    claude?;
    let registries = Registries::learn(&call.host).await?;
    for entry in registries.entries() {
        show::note(&format!(
            "{entry} is allowed for all your projects: this computer's package managers use it."
        ));
    }
    settings.save(&project, &call.host)?;
    show::note(&format!("{} is ready; `rcc claude` opens it.", project.name()));
    Ok(0)
}

/// Asks once; without a terminal nobody can be asked, and nothing outside the
/// person's own folders is changed.
fn agreed(build: bool, fetch: bool) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(true);
    }
    if build {
        eprintln!("The sandbox image is built once, in about two minutes (about 1 GB).");
    }
    if fetch {
        eprintln!("Claude Code is fetched once (about 180 MB) from your npm registry.");
    }
    eprint!("Go on? [Y/n] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "" | "y" | "Y" | "yes"))
}

/// Where the report goes when the person agrees.
const REPORT: &str = "rcc-report.txt";

pub async fn doctor(call: &Call, report: bool) -> anyhow::Result<u8> {
    let lines = doctor::examine(&call.host).await;
    let bad = lines.iter().any(|line| line.health == Health::Bad);
    if report {
        let text = doctor::report(&call.host, &lines);
        print!("{text}");
        // Shown first; without a terminal it is only shown.
        if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
            eprint!("\nWrite this to {REPORT} in this folder? Nothing is sent anywhere. [y/N] ");
            std::io::stderr().flush()?;
            let mut answer = String::new();
            std::io::stdin().lock().read_line(&mut answer)?;
            if matches!(answer.trim(), "y" | "Y" | "yes") {
                std::fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .open(REPORT)
                    .and_then(|mut file| file.write_all(text.as_bytes()))
                    .map_err(|error| {
                        rcc_sandbox::Error::io("write", std::path::Path::new(REPORT), error)
                    })?;
            }
        }
    } else if call.json {
        let lines = lines.iter().map(|line| {
            json!({"name": line.name, "state": line.health.word(), "text": line.text, "hint": line.hint})
        });
        println!("{:#}", Value::Array(lines.collect()));
    } else {
        for line in &lines {
            println!("{:<4}  {:<10} {}", line.health.word(), line.name, line.text);
            if let Some(hint) = &line.hint {
                println!("      {:<10} {hint}", "");
            }
        }
    }
    Ok(exit::found(bad))
}

/// Asks for an administrator's password, once for all steps.
pub async fn setup(steps: &[String]) -> anyhow::Result<u8> {
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    Network::connect().await?.setup(&steps).await?;
    show::note(&format!("done: {}.", steps.join(", ")));
    Ok(0)
}
