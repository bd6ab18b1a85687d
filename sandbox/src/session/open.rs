//! Opening a session: the seven steps, undone when one fails.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rcc_policy::Entry;

use super::rules::{DroppedRule, refresh};
use super::{NetworkState, OPENINGS_LOCK, Session, files};
use crate::claude::{self, Claude};
use crate::engine::{
    ContainerSpec, Engine, FileLabel, Found, HOME, MountSpec, WORKSPACE, label, name_end,
};
use crate::error::{Code, Error, Result};
use crate::host::Host;
use crate::image::{self, ImageChoice};
use crate::levels::Level;
use crate::link::{FirstProcess, Namespaces};
use crate::lock::Lock;
use crate::network::Network;
use crate::progress::{Cancel, Progress, Reporter, Step, or_cancelled};
use crate::project::Project;
use crate::registries::Registries;
use crate::secrets::Handed;
use crate::settings::Settings;
use crate::terminal::Client;
use crate::{guard, home, levels, review};

/// How long PID 1 may take until it answers.
const INSIDE_PATIENCE: Duration = Duration::from_secs(15);

/// What to open.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    /// The folder, through whatever path.
    pub folder: PathBuf,
    /// Overrides the project's setting.
    pub image: Option<ImageChoice>,
    /// Never connect. Without it a missing helper is an error.
    pub offline: bool,
    /// Claude Code must be in the sandbox.
    pub claude: bool,
    /// What follows is [`Session::start_piped`], which needs no terminals: they
    /// are not waited for.
    pub piped: bool,
    /// Only to seed the approval of an API key: nothing of it is in the container.
    pub handed: Handed,
}

/// Opens a session, or answers the one that runs. What was made is undone when a
/// step fails or `cancel` says stop: the container is removed, image and
/// download are kept.
///
/// To stop it use `cancel`; a future that is merely dropped leaves a container
/// behind, which the next call removes.
///
/// # Errors
/// Every code of the steps; see [`Step`].
pub async fn open(
    host: &Host,
    request: &OpenRequest,
    report: &Reporter,
    cancel: &Cancel,
) -> Result<Session> {
    let made = Mutex::new(None);
    let result = steps(host, request, report, cancel, &made).await;
    if result.is_err() {
        let undo = made.lock().ok().and_then(|mut made| made.take());
        if let Some(made) = undo {
            made.remove().await;
        }
    }
    result
}

/// The container of one opening. By its mark: its name may be another one's, which is why
/// the engine refused this one.
struct Own {
    engine: Engine,
    project: String,
    opening: String,
}

impl Own {
    async fn remove(self) {
        // The first error is the one to tell; the next call removes what is left.
        for found in self.engine.find(Some(&self.project)).await.unwrap_or_default() {
            if found.labels.get(label::OPENING) == Some(&self.opening) {
                let _ = self.engine.remove(&found.id, 0).await;
            }
        }
    }
}

type Made = Mutex<Option<Own>>;

async fn steps(
    host: &Host,
    request: &OpenRequest,
    report: &Reporter,
    cancel: &Cancel,
    made: &Made,
) -> Result<Session> {
    if Registries::known(host)?.is_none() {
        // Once on this computer; `rcc init` asks again.
        or_cancelled(cancel, Registries::learn(host)).await?;
    }
    let folder = report.step(Step::CheckFolder, async { check_folder(host, request) }).await?;
    let engine = report.step(Step::Engine, or_cancelled(cancel, Engine::connect(host))).await?;
    let lock = host.runtime.join(format!("{}.lock", folder.project.id()));
    let opening = host.runtime.join(format!("{}.opening", folder.project.id()));
    let _lock = or_cancelled(cancel, Lock::take(&lock)).await?;
    if let Some(session) = or_cancelled(cancel, running(&engine, &folder.project, &opening)).await?
    {
        is_still_there(&session, &folder.project)?;
        if request.offline {
            or_cancelled(cancel, is_cut_off(&engine, &session)).await?;
        } else {
            let finished = or_cancelled(cancel, finish(&engine, &session, &folder.rules));
            for dropped in finished.await? {
                report.report(Progress::Note(dropped.to_string()));
            }
        }
        return Ok(session);
    }
    // Before anything slow: whoever wants a network learns at once that there is none.
    let network = async {
        if request.offline {
            return Ok(None);
        }
        let connected = Network::connect().await;
        connected.map(Some).inspect_err(|_| report.report(Progress::Failed(Step::ConnectNetwork)))
    };
    let neighbours = check_neighbours(&engine, &folder.project);
    let ((), network) =
        or_cancelled(cancel, async { tokio::try_join!(neighbours, network) }).await?;
    let choice = match &request.image {
        Some(choice) => choice.clone(),
        None => ImageChoice::parse(&folder.settings.image)?,
    };
    let packages = &folder.settings.packages;
    let (image, claude) =
        side_by_side(host, &engine, &choice, packages, request.claude, report, cancel).await?;
    image::note_use(host, &image);
    // One opening at a time, from the look at the neighbours until the mounts are verified.
    let _all = or_cancelled(cancel, Lock::take(&host.runtime.join(OPENINGS_LOCK))).await?;
    let (session, process) = report
        .step(Step::StartSandbox, async {
            or_cancelled(cancel, check_neighbours(&engine, &folder.project)).await?;
            // Only now: while an older sandbox ran, its agent could change everything in here.
            let guard = guard::plan(folder.project.path())?;
            for note in &guard.notes {
                report.report(Progress::Note(note.clone()));
            }
            let claude = claude.as_ref();
            let mut spec =
                describe(host, &engine, request, &folder, &guard, &choice, image, claude, report)
                    .await?;
            let mark = mark()?;
            spec.labels.insert(label::OPENING.to_string(), mark.clone());
            fs::write(&opening, "").map_err(|e| Error::io("make", &opening, e))?;
            let recorded = review::begin(&folder.project, host, &mark);
            let session = start(&engine, &folder.project, spec, recorded, made, cancel).await?;
            // Before anything runs in there: the engine mounted what the plan was made from.
            let process = FirstProcess::of(&engine, &session.found.id);
            let process = or_cancelled(cancel, process).await?;
            guard::verify(&guard, &process.workspace)?;
            fs::remove_file(&opening).map_err(|e| Error::io("remove", &opening, e))?;
            Ok((session, process))
        })
        .await?;
    let answers = async {
        if !request.piped {
            session.keep(until_it_answers(&engine, &session.found.id).await?);
        }
        Ok(())
    };
    let link = async {
        let Some(network) = &network else { return Ok(Vec::new()) };
        report
            .step(Step::ConnectNetwork, async {
                // Anew: an image may have been built since, and a host taken out.
                let rules = levels::of_project(&folder.project, host)?;
                let mut dropped = plug_in(&process.namespaces, network, &rules).await?;
                // Who edits a list tells the sandboxes that have a network; this one had none.
                if levels::of_project(&folder.project, host).is_ok_and(|now| now != rules) {
                    let level = Level::Project(&folder.project);
                    dropped.extend(refresh(host, &engine, network, level, &rules).await?);
                }
                Ok(dropped)
            })
            .await
    };
    let ((), dropped) = or_cancelled(cancel, async { tokio::try_join!(answers, link) }).await?;
    for dropped in dropped {
        report.report(Progress::Note(dropped.to_string()));
    }
    if let Ok(mut made) = made.lock() {
        *made = None;
    }
    Ok(session)
}

struct Folder {
    project: Project,
    settings: Settings,
    rules: Vec<Entry>,
}

fn check_folder(host: &Host, request: &OpenRequest) -> Result<Folder> {
    let project = Project::open(&request.folder, host)?;
    let settings = Settings::load(&project, host)?;
    let rules = levels::of_project(&project, host)?;
    crate::programs::remember(project.path(), project.id(), host)?;
    Ok(Folder { project, settings, rules })
}

/// The session that runs; what is left of one that ended is removed, and so is
/// one whose mounts nobody looked at any more: `opening` is there from before a
/// container is made until that was done.
async fn running(engine: &Engine, project: &Project, opening: &Path) -> Result<Option<Session>> {
    let mut running = None;
    for found in engine.find(Some(project.id())).await? {
        if !found.running || opening.exists() {
            engine.remove(&found.id, 0).await?;
        } else if running.is_none() {
            // One that does not answer may only be busy: whether to end it is the
            // person's to say, who will be told by what is done next.
            running = Some(Session::of(engine, found));
        }
    }
    Ok(running)
}

/// Connects a session whose opening was killed before its link was in: it was
/// not asked to be offline, and no terminal was ever started in it. Any other
/// session without a link stays offline until the person says otherwise.
async fn finish(engine: &Engine, session: &Session, rules: &[Entry]) -> Result<Vec<DroppedRule>> {
    let pid = engine.state(&session.found.id).await?.pid;
    let unfinished = session.label(label::OFFLINE) == "0" && !crate::link::is_configured(pid);
    if !unfinished || !session.terminals().await?.is_empty() {
        return Ok(Vec::new());
    }
    let network = Network::connect().await?;
    if let Some(attachment) = session.attachment(&network).await? {
        // Killed between the helper's half and ours: both anew.
        network.detach(attachment.id).await?;
    }
    plug_in(&Namespaces::of(engine, &session.found.id).await?, &network, rules).await
}

/// Whoever asks for a sandbox without a network must not get one that has it.
async fn is_cut_off(engine: &Engine, session: &Session) -> Result<()> {
    let pid = engine.state(&session.found.id).await?.pid;
    if crate::link::has_none(pid) {
        return Ok(());
    }
    // There is a link; only the helper knows whether it is switched off.
    let network = Network::connect().await?;
    match session.network_state(Some(&network)).await {
        NetworkState::Disconnected => Ok(()),
        _ => Err(Error::new(
            Code::Invalid,
            "The sandbox of this folder runs already and has a network.",
        )
        .title_is("It cannot start offline.")
        .hint_is("Cut it with `rcc net off`, or end it with `rcc stop` first.")),
    }
}

/// The two slow ones at once; the first error ends both, and both tidy up.
async fn side_by_side(
    host: &Host,
    engine: &Engine,
    choice: &ImageChoice,
    packages: &[String],
    wants_claude: bool,
    report: &Reporter,
    cancel: &Cancel,
) -> Result<(String, Option<Claude>)> {
    let both = cancel.child_token();
    let image = async {
        let image = report
            .step(Step::Image, image::find_or_build(host, engine, choice, packages, report, &both))
            .await;
        image.inspect_err(|_| both.cancel())
    };
    let claude = async {
        if !wants_claude {
            return Ok(claude::find(host));
        }
        let claude = report.step(Step::Claude, claude::find_or_fetch(host, report, &both)).await;
        claude.map(Some).inspect_err(|_| both.cancel())
    };
    let (image, claude) = tokio::join!(image, claude);
    match (image, claude) {
        (Ok(image), Ok(claude)) => Ok((image, claude)),
        // The other one was cancelled because of it.
        (Err(e), Ok(_)) | (Ok(_), Err(e)) => Err(e),
        (Err(a), Err(b)) => Err(if a.code() == Code::Cancelled { b } else { a }),
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "the results of all steps so far come together here, once"
)]
async fn describe(
    host: &Host,
    engine: &Engine,
    request: &OpenRequest,
    folder: &Folder,
    guard: &guard::Plan,
    choice: &ImageChoice,
    image: String,
    claude: Option<&Claude>,
    report: &Reporter,
) -> Result<ContainerSpec> {
    let project = &folder.project;
    let volume = home::volume(project.id());
    let (home, files) =
        tokio::try_join!(engine.volume(&volume, project.id()), files::mounts(host, project))?;
    home::seed(&home, request.handed.api_key())?;
    let relabel = engine.info().selinux();
    let source = files::source(host, project, relabel)?;
    let mut mounts = vec![
        MountSpec::writable(files::text(&source)?, WORKSPACE).label(FileLabel::Own),
        MountSpec::volume(volume, HOME).label(FileLabel::Own),
        files::inside(host, relabel)?,
    ];
    for guard in &guard.mounts {
        mounts.push(MountSpec {
            source: files::text(&source.join(&guard.path))?,
            target: format!("{WORKSPACE}/{}", files::text(&guard.path)?),
            read_only: guard.read_only,
            volume: false,
            // With the folder that it is in.
            label: FileLabel::Kept,
        });
    }
    if let Some(claude) = claude {
        mounts.push(files::claude(host, claude)?);
    }
    mounts.extend(files);
    let wanted = folder.settings.limits();
    let limits = engine.info().limits(&wanted);
    if let Some(note) = &limits.note {
        report.report(Progress::Note(note.clone()));
    }
    let claude_version =
        claude.map(|claude| claude.version.clone().unwrap_or_else(|| "installed".into()));
    let labels = HashMap::from([
        (label::PROJECT.to_string(), project.id().to_string()),
        (label::SESSION.to_string(), container_name(project)),
        (label::PATH.to_string(), project.path().to_string_lossy().into_owned()),
        (label::FOLDER.to_string(), identity(project.path()).map(written).unwrap_or_default()),
        (label::IMAGE.to_string(), choice.to_string()),
        (label::CLAUDE.to_string(), claude_version.unwrap_or_default()),
        (label::OFFLINE.to_string(), flag(request.offline)),
        (label::USER_NAMESPACES.to_string(), flag(folder.settings.user_namespaces)),
    ]);
    Ok(ContainerSpec {
        image,
        hostname: project.slug(),
        uid: host.uid,
        gid: host.gid,
        mounts,
        limits,
        labels,
        relabel,
        filter: files::text(&files::filter(host, project, folder.settings.user_namespaces)?)?,
    })
}

fn mark() -> Result<String> {
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::new(Code::Environment, format!("The kernel gives no number: {e}.")))?;
    Ok(format!("{:016x}", u64::from_ne_bytes(random)))
}

fn flag(set: bool) -> String {
    if set { "1" } else { "0" }.to_string()
}

fn container_name(project: &Project) -> String {
    format!("rcc-{}{}", project.slug(), name_end(project.id()))
}

/// Makes the container while `recorded` looks at the project, and starts it when
/// both are done.
async fn start(
    engine: &Engine,
    project: &Project,
    spec: ContainerSpec,
    recorded: impl Future<Output = Result<()>>,
    made: &Made,
    cancel: &Cancel,
) -> Result<Session> {
    let name = container_name(project);
    let labels = spec.labels.clone();
    // Before the call: it may fail after the engine made the container.
    if let Ok(mut made) = made.lock() {
        let opening = labels.get(label::OPENING).cloned().unwrap_or_default();
        *made = Some(Own { engine: engine.clone(), project: project.id().into(), opening });
    }
    // These two are waited for, also when the person says stop: the engine goes on
    // with a request that is broken off, and what it then makes nobody removes.
    let (id, recorded) = tokio::join!(engine.create(&name, &spec), recorded);
    let id = id?;
    recorded?;
    if !cancel.is_cancelled() {
        engine.start(&id).await?;
    }
    let created = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    let found = Found { id, labels, running: true, created };
    Ok(Session { new: true, ..Session::of(engine, found) })
}

/// PID 1 opens its socket a moment after it started.
async fn until_it_answers(engine: &Engine, container: &str) -> Result<Client> {
    let deadline = std::time::Instant::now() + INSIDE_PATIENCE;
    loop {
        let error = match Client::connect(engine, container).await {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        let running = engine.state(container).await?.running;
        if !running || std::time::Instant::now() > deadline {
            let log = engine.log_tail(container).await;
            let why = if running {
                "Its first program does not answer."
            } else {
                "Its first program ended at once."
            };
            let said = error.detail().unwrap_or_default().to_string();
            return Err(
                Error::new(Code::SandboxStart, why).with_detail(format!("{log}\n{error}\n{said}"))
            );
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

/// Refuses a folder that shares files with one whose sandbox runs: the agent there
/// could exchange what is being mounted here, and change what is guarded here.
async fn check_neighbours(engine: &Engine, project: &Project) -> Result<()> {
    for found in engine.find(None).await? {
        let other = Session::of(engine, found);
        if !other.found.running || other.project_id() == project.id() {
            continue;
        }
        let name = crate::display::line(&other.path().to_string_lossy(), 200);
        let (why, hint) = if overlap(project.path(), &other.path()) {
            (
                format!("A sandbox runs for {name}, and one of the two folders is in the other."),
                "End the other one with `rcc stop` in its folder first.".into(),
            )
        } else if was_mounted(project.path(), other.label(label::FOLDER)) {
            (
                format!("A sandbox runs for it, or for a folder around it, under the name {name}."),
                format!("End that one first: `rcc stop {name}`."),
            )
        } else {
            continue;
        };
        let title = format!("Cannot open {}.", project.path().display());
        return Err(Error::new(Code::FolderRefused, why).title_is(title).hint_is(hint));
    }
    Ok(())
}

/// Whether the folder that a sandbox has, by its label, is `path` or around it, whatever
/// name it had when it was mounted.
fn was_mounted(path: &Path, folder: &str) -> bool {
    path.ancestors().filter_map(identity).any(|above| written(above) == folder)
}

/// The sandbox of a path keeps the folder that was there when it was opened.
fn is_still_there(session: &Session, project: &Project) -> Result<()> {
    let folder = session.label(label::FOLDER);
    if folder.is_empty() || was_mounted(project.path(), folder) {
        return Ok(());
    }
    Err(Error::new(
        Code::FolderRefused,
        "Its sandbox runs with the folder that had this name before: it was moved, or made anew.",
    )
    .title_is(format!("Cannot open {}.", project.path().display()))
    .hint_is("End that one with `rcc stop` here, then open it again."))
}

/// Whether one folder is, or lies in, the other, by name or by inode.
fn overlap(one: &Path, two: &Path) -> bool {
    let lies_in = |inner: &Path, outer: &Path| {
        let wanted = identity(outer);
        inner.starts_with(outer)
            || wanted.is_some() && inner.ancestors().any(|above| identity(above) == wanted)
    };
    lies_in(one, two) || lies_in(two, one)
}

/// Device and inode: a folder keeps them when it gets another name.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

fn written((device, inode): (u64, u64)) -> String {
    format!("{device}:{inode}")
}

/// Plugs the link in and sets up the sandbox's end. When that fails the link is
/// taken away again.
pub(super) async fn plug_in(
    namespaces: &Namespaces,
    network: &Network,
    rules: &[Entry],
) -> Result<Vec<DroppedRule>> {
    let attachment = network.attach(namespaces, rules).await?;
    if let Err(error) = namespaces.configure(&attachment).await {
        // It would be a link that does not work; the first error says why.
        let _ = network.detach(attachment.id).await;
        return Err(error);
    }
    Ok(super::rules::dropped(&crate::network::wire(rules)?, &attachment.dropped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_in_each_other_overlap_and_neighbours_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("one-more"));
        let inner = one.join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::create_dir(&two).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&one, &link).unwrap();
        assert!(overlap(&one, &inner) && overlap(&inner, &one) && overlap(&one, &one));
        assert!(overlap(&inner, &link) && overlap(&link, &inner));
        assert!(!overlap(&one, &two) && !overlap(&inner, &two));
    }

    #[test]
    fn a_folder_is_known_by_another_name() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        fs::create_dir_all(old.join("in")).unwrap();
        let folder = written(identity(&old).unwrap());
        fs::rename(&old, &new).unwrap();
        fs::create_dir(&old).unwrap();
        assert!(was_mounted(&new, &folder) && was_mounted(&new.join("in"), &folder));
        assert!(!was_mounted(&old, &folder) && !was_mounted(dir.path(), &folder));
        assert!(!was_mounted(&new, ""), "a session of an older release");
    }
}
