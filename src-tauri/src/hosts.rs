//! The lists of allowed hosts: read, changed, checked, and followed while
//! somebody else changes them.

use futures_util::StreamExt;
use rcc_sandbox::events::policy_changes;
use rcc_sandbox::hosts::{self, Change, Document, Fields, Which};
use rcc_sandbox::levels::{Level, Whose};
use rcc_sandbox::session::Follow;
use rcc_sandbox::{Code, Error, Network, Project, Session, display};

use crate::app::{App, Shared, again, locked};
use crate::projects;
use crate::wire::{
    Event, FieldProblem, HostFields, HostLine, HostsChange, HostsDocument, HostsLevel,
};

/// A level with its project looked up.
enum Place {
    Computer,
    AllProjects,
    Project(Box<Project>),
}

impl Place {
    fn find(app: &App, level: &HostsLevel) -> Result<Self, Error> {
        Ok(match level {
            HostsLevel::Computer => Self::Computer,
            HostsLevel::AllProjects => Self::AllProjects,
            HostsLevel::Project { project } => Self::Project(Box::new(app.project(project)?)),
        })
    }

    fn which(&self) -> Which<'_> {
        match self {
            Self::Computer => Which::Computer,
            Self::AllProjects => Which::Own(Level::All),
            Self::Project(project) => Which::Own(Level::Project(project)),
        }
    }
}

pub async fn read(app: &App, level: &HostsLevel) -> Result<HostsDocument, Error> {
    let host = app.host().map_err(again)?;
    let place = Place::find(app, level)?;
    let network = network_for(app, &place).await?;
    let document = hosts::read(host, place.which(), network.as_ref()).await?;
    Ok(shown(app, document, &place))
}

pub async fn change(
    app: &App,
    level: &HostsLevel,
    version: &str,
    change: HostsChange,
) -> Result<HostsDocument, Error> {
    let host = app.host().map_err(again)?;
    let place = Place::find(app, level)?;
    let network = network_for(app, &place).await?;
    let change = match change {
        HostsChange::Undo => Change::Back(back(app, level, version)?),
        change => checked(change)?,
    };
    let before = hosts::read(host, place.which(), network.as_ref()).await?;
    // Without an engine nothing runs that would have to hear of it.
    let engine = app.engine_if_known().await;
    let (document, _dropped) =
        hosts::change(host, engine.as_ref(), network.as_ref(), place.which(), version, &change)
            .await?;
    // What was read is what was changed: else its version would be another.
    *locked(&app.undo) =
        Some(Undo { level: level.clone(), version: document.version.clone(), text: before.text });
    Ok(shown(app, document, &place))
}

/// The last change of a list, while nobody has written it since.
pub struct Undo {
    level: HostsLevel,
    /// Of the list as it became.
    version: String,
    /// As it was.
    text: String,
}

fn back(app: &App, level: &HostsLevel, version: &str) -> Result<String, Error> {
    let undo = locked(&app.undo);
    let text = undo.as_ref().filter(|undo| undo.level == *level && undo.version == version);
    text.map(|undo| undo.text.clone())
        .ok_or_else(|| Error::new(Code::Changed, "Something else was changed since."))
}

/// The mistake in the form, if there is one. A form in which nothing stands yet
/// has none.
pub async fn check(
    app: &App,
    level: &HostsLevel,
    fields: HostFields,
) -> Result<Option<FieldProblem>, Error> {
    if fields.target.trim().is_empty() {
        return Ok(None);
    }
    let entry = match Fields::from(fields).entry() {
        Ok(entry) => entry,
        Err(mistake) => return Ok(Some(mistake.into())),
    };
    // The administrator is bound by nothing.
    if *level == HostsLevel::Computer {
        return Ok(None);
    }
    let Some(network) = projects::network(app).await else { return Ok(None) };
    let why = hosts::out_of_bounds(&network, &entry).await;
    Ok(why.map(|message| hosts::Mistake { field: hosts::Field::Target, message }.into()))
}

/// The computer's list is behind the firewall service; the person's own can be
/// edited without it.
async fn network_for(app: &App, place: &Place) -> Result<Option<Network>, Error> {
    match place {
        Place::Computer => app.network().await.map(Some),
        _ => Ok(projects::network(app).await),
    }
}

fn checked(change: HostsChange) -> Result<Change, Error> {
    let entry = |fields: HostFields| Fields::from(fields).entry().map_err(Error::from);
    Ok(match change {
        HostsChange::Add { host } => Change::Add(entry(host)?),
        HostsChange::Replace { old, host } => {
            let old = entry(old)?;
            let (target, protocol) = (old.target().clone(), old.protocol());
            Change::Replace { target, protocol, entry: entry(host)? }
        }
        HostsChange::Remove { host } => {
            let old = entry(host)?;
            Change::Remove { target: old.target().clone(), protocol: old.protocol() }
        }
        HostsChange::Preset { preset } => Change::Preset(preset.into()),
        HostsChange::Undo => return Err(Error::new(Code::Changed, "There is nothing to undo.")),
    })
}

fn shown(app: &App, document: Document, place: &Place) -> HostsDocument {
    let path = match app.host() {
        Ok(host) => projects::shown(host, &document.path),
        Err(_) => document.path.display().to_string(),
    };
    let bounds = document.bounds;
    HostsDocument {
        version: document.version,
        path,
        hosts: document
            .entries
            .into_iter()
            .map(|(entry, comment)| HostLine {
                target: display::host(&entry.target().to_string()),
                ports: entry.ports().to_vec(),
                protocol: entry.protocol().into(),
                private: entry.private(),
                comment,
                tunnel: entry.tunnel_possible(),
            })
            .collect(),
        editable: true,
        prompts: matches!(place, Place::Computer),
        users_may_add: bounds.map(|bounds| bounds.users_may_add.into()),
        allow_public: bounds.map(|bounds| bounds.allow_public),
        block_private: bounds.map(|bounds| bounds.block_private),
        preset: bounds.and_then(|bounds| bounds.preset).map(Into::into),
    }
}

/// Brings edits by others to the sandboxes that run, and tells the page of
/// them, for as long as the app runs.
pub async fn follow(app: Shared) {
    tokio::join!(follow_files(&app), follow_computer(&app));
}

async fn follow_files(app: &App) {
    let Ok(host) = app.host() else { return };
    // Without a watch the page sees an edit when it asks the next time.
    let Ok(mut follow) = Follow::begin(host) else { return };
    while let Some(edited) = follow.next().await {
        for mut list in edited {
            let level = match &list.whose {
                Whose::Computer => "computer".into(),
                Whose::AllProjects => "allProjects".into(),
                Whose::Project(id) => id.clone(),
            };
            let again = list.again;
            let mut refused = list.mistake.take();
            let engine = app.engine_if_known().await;
            // What the window itself has heard of is not asked: a sandbox may be silent.
            let sessions = match &engine {
                Some(engine) => Session::all(engine).await.ok(),
                None => None,
            };
            match (engine, sessions) {
                // Where nothing runs there is nobody to bring it to.
                (_, Some(sessions)) if sessions.is_empty() => {}
                (Some(engine), Some(_)) => match projects::network(app).await {
                    Some(network) => {
                        refused = refused.or(follow.bring(list, &engine, &network).await.err());
                    }
                    None => follow.keep(list),
                },
                _ => follow.keep(list),
            }
            if let Some(error) = refused.filter(|_| !again) {
                app.tell(Event::Refused(error.into()));
            }
            if !again {
                app.tell(Event::Hosts { level });
            }
        }
    }
}

async fn follow_computer(app: &App) {
    // Does not wake a service that nobody needed so far: whoever reads the list does.
    while app.network_if_known().await.is_none() {
        tokio::time::sleep(crate::watching::PATIENCE).await;
    }
    let Some(network) = app.network_if_known().await else { return };
    let Ok(changes) = policy_changes(&network).await else { return };
    let mut changes = std::pin::pin!(changes);
    while changes.next().await.is_some() {
        app.tell(Event::Hosts { level: "computer".into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hosts::ProtocolWord;

    fn fields(target: &str) -> HostFields {
        HostFields {
            target: target.into(),
            ports: "443".into(),
            protocol: ProtocolWord::Tcp,
            private: false,
        }
    }

    #[test]
    fn what_is_no_entry_is_refused_before_anything_is_read() {
        let error = checked(HostsChange::Add { host: fields("127.0.0.1") }).unwrap_err();
        assert_eq!(error.code(), Code::Rule);
        let replace = HostsChange::Replace { old: fields("a.example"), host: fields("b.example") };
        let Change::Replace { target, entry, .. } = checked(replace).unwrap() else { panic!() };
        assert_eq!(target.to_string(), "a.example");
        assert_eq!(entry.target().to_string(), "b.example");
    }
}
