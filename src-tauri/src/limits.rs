//! What a project's sandbox uses, and what the person lets it use.

use std::collections::HashMap;
use std::time::Instant;

use rcc_sandbox::offers::offers;
use rcc_sandbox::session::{Usage, ran_out_of_memory};
use rcc_sandbox::{Error, ImageChoice, Session, Settings};

use crate::app::{App, again, locked};
use crate::wire::{Ending, LimitDefaults, PackageOffer, ProjectSettings, Resources};

/// The last look at each sandbox's time of computing: when, and microseconds.
pub type Looks = HashMap<String, (Instant, u64)>;

/// What the project's sandbox uses now.
pub async fn resources(app: &App, id: &str) -> Result<Resources, Error> {
    let host = app.host().map_err(again)?;
    let project = app.project(id)?;
    let engine = app.engine().await?;
    let settings = Settings::load(&project, host)?;
    let limits = engine.info().limits(&settings.limits());
    let mut shown =
        Resources { enforced: limits.note.is_none(), why: limits.note, ..Resources::default() };
    let Some(session) = Session::find(&engine, &project).await? else { return Ok(shown) };
    let usage = session.usage().await?;
    shown.cpu = cpu(&mut locked(&app.looks), id, &usage, Instant::now());
    shown.memory = usage.memory;
    shown.memory_limit = usage.memory_limit;
    shown.cores = usage.cores;
    shown.processes = usage.processes;
    shown.process_limit = usage.process_limit;
    Ok(shown)
}

/// Cores in use since the last look; the first look tells none.
fn cpu(looks: &mut Looks, id: &str, usage: &Usage, now: Instant) -> Option<f64> {
    let spent = usage.cpu_us?;
    let (then, before) = looks.insert(id.into(), (now, spent))?;
    let passed = now.saturating_duration_since(then).as_secs_f64();
    // A new sandbox began at nothing.
    let used = std::time::Duration::from_micros(spent.checked_sub(before)?).as_secs_f64();
    (passed > 0.0).then(|| used / passed)
}

/// Whether the sandbox ran out of memory, and what more it could have.
pub async fn ending(app: &App, id: &str) -> Result<Ending, Error> {
    let host = app.host().map_err(again)?;
    let project = app.project(id)?;
    let engine = app.engine().await?;
    let chosen = Settings::load(&project, host)?.memory_mib.map(|mib| mib << 20);
    let memory = chosen.unwrap_or(engine.info().default_limits().0);
    Ok(Ending {
        out_of_memory: ran_out_of_memory(&engine, &project).await?,
        memory,
        more: engine.info().more_memory(memory),
    })
}

pub async fn settings(app: &App, id: &str) -> Result<ProjectSettings, Error> {
    let host = app.host().map_err(again)?;
    let project = app.project(id)?;
    let settings = Settings::load(&project, host)?;
    let engine = app.engine().await?;
    let (memory, cores, processes) = engine.info().default_limits();
    let running = Session::find(&engine, &project).await?.is_some();
    let offered = match ImageChoice::parse(&settings.image) {
        Ok(image) => offers(&project, &image, &settings.packages),
        Err(_) => Vec::new(),
    };
    Ok(ProjectSettings {
        act_alone: settings.act_without_asking,
        own_login: settings.own_login,
        user_namespaces: settings.user_namespaces,
        image: settings.image,
        memory: settings.memory_mib.map(|mib| mib << 20),
        cores: settings.cores,
        processes: settings.processes,
        packages: settings.packages,
        offered: offered
            .into_iter()
            .map(|offer| PackageOffer { packages: offer.packages, because: offer.because.into() })
            .collect(),
        defaults: LimitDefaults { memory, cores, processes },
        running,
    })
}

/// Only what the person chose is taken; the rest of the page's value is told,
/// not asked.
pub async fn save(app: &App, id: &str, chosen: ProjectSettings) -> Result<(), Error> {
    let host = app.host().map_err(again)?;
    let project = app.project(id)?;
    let image = ImageChoice::parse(chosen.image.trim())?;
    let mut packages: Vec<String> =
        chosen.packages.iter().map(|name| name.trim().to_string()).collect();
    packages.retain(|name| !name.is_empty());
    packages.sort();
    packages.dedup();
    Settings::update(&project, host, |settings| {
        settings.act_without_asking = chosen.act_alone;
        settings.own_login = chosen.own_login;
        settings.user_namespaces = chosen.user_namespaces;
        settings.image = image.to_string();
        settings.memory_mib = chosen.memory.map(|bytes| bytes >> 20);
        settings.cores = chosen.cores;
        settings.processes = chosen.processes;
        settings.packages = packages;
    })
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn cores_in_use_are_time_over_time() {
        let mut looks = Looks::new();
        let at = |spent| Usage { cpu_us: Some(spent), ..Usage::default() };
        let begin = Instant::now();
        assert_eq!(cpu(&mut looks, "p", &at(1_000_000), begin), None);
        let later = begin + Duration::from_secs(2);
        let used = cpu(&mut looks, "p", &at(4_000_000), later).unwrap();
        assert!((used - 1.5).abs() < 1e-9, "{used}");
        // Another sandbox of the same project.
        assert_eq!(cpu(&mut looks, "p", &at(5), later + Duration::from_secs(1)), None);
        assert_eq!(cpu(&mut looks, "p", &Usage::default(), later), None);
    }
}
