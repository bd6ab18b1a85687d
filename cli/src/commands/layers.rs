//! `rcc layers`.

use rcc_sandbox::image::{self, Layer};
use rcc_sandbox::{Code, Engine, Error};
use serde_json::{Value, json};

use super::Call;
use super::list::age;
use crate::arguments::LayersCommand;
use crate::show;

pub async fn layers(call: &Call, command: Option<LayersCommand>) -> anyhow::Result<u8> {
    let engine = Engine::connect(&call.host).await?;
    let all = image::layers(&call.host, &engine).await?;
    let Some(LayersCommand::Remove { which, unused, yes }) = command else {
        if call.json {
            println!("{:#}", Value::Array(all.iter().map(value).collect()));
        } else if all.is_empty() {
            println!("No layers are kept.");
        } else {
            all.iter().for_each(print);
        }
        return Ok(0);
    };
    let chosen = match unused {
        true => all.into_iter().filter(|layer| layer.projects.is_empty()).collect(),
        false => named(all, &which)?,
    };
    if chosen.is_empty() {
        show::note("every layer is used by a project; nothing is removed.");
        return Ok(0);
    }
    if !yes {
        let lines: Vec<_> = chosen.iter().map(words).collect();
        if !show::agreed(&lines, "Remove?", "`--yes` removes them without a question.")? {
            return Err(Error::cancelled().into());
        }
    }
    // One that is in use must not keep the others.
    let mut failed = None;
    for layer in &chosen {
        match image::remove_layer(&call.host, &engine, &layer.name).await {
            Ok(()) => show::note(&format!("{} is removed, {}.", layer.name, size(layer.size))),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(0), |error| Err(error.into()))
}

fn named(mut all: Vec<Layer>, which: &[String]) -> Result<Vec<Layer>, Error> {
    let mut chosen = Vec::new();
    for name in which {
        match all.iter().position(|layer| layer.name == *name) {
            Some(at) => chosen.push(all.remove(at)),
            None if chosen.iter().any(|layer: &Layer| layer.name == *name) => {}
            None => {
                let shown = rcc_sandbox::display::line(name, 80);
                return Err(Error::new(Code::Invalid, format!("There is no layer `{shown}`."))
                    .hint_is("`rcc layers` lists them."));
            }
        }
    }
    Ok(chosen)
}

fn words(layer: &Layer) -> String {
    let used = match layer.projects.is_empty() {
        true => "no project uses it".to_string(),
        false => format!("used by {}", folders(layer)),
    };
    format!("{}, {}, {used}", layer.name, size(layer.size))
}

fn print(layer: &Layer) {
    let used = match layer.used {
        Some(used) => match age(i64::try_from(used).unwrap_or(i64::MAX)).as_str() {
            "just now" => "used just now".into(),
            age => format!("used {age} ago"),
        },
        None => "last use not known".to_string(),
    };
    println!("{}  {}  {used}", layer.name, size(layer.size));
    if layer.projects.is_empty() {
        println!("  no project uses it");
    } else {
        println!("  {}", folders(layer));
    }
}

fn folders(layer: &Layer) -> String {
    rcc_sandbox::display::line(&layer.projects.join(", "), 1_000)
}

fn size(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

fn value(layer: &Layer) -> Value {
    json!({"name": layer.name, "size": layer.size, "used": layer.used, "projects": layer.projects})
}
