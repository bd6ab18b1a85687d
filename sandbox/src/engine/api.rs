//! The calls that rcc makes, with errors in its own form.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;

use bollard::container::LogOutput;
use bollard::errors::Error as ApiError;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters as query;
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use tokio::io::AsyncWrite;

use super::Engine;
use super::container::{ContainerSpec, label};
use super::service::tail;
use crate::error::{Code, Error, Result};

/// A container of rcc's, from its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The engine's id.
    pub id: String,
    /// See [`label`].
    pub labels: HashMap<String, String>,
    /// It runs now.
    pub running: bool,
    /// When it was started, seconds since 1970.
    pub created: i64,
}

/// An image in the user's storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptImage {
    /// One of its names.
    pub(crate) name: String,
    /// Bytes in its layers, from above.
    pub(crate) sizes: Vec<u64>,
    /// Hashes of its layers, from below.
    pub(crate) layers: Vec<String>,
}

/// What one image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageFacts {
    /// The engine's own name of it.
    pub(crate) id: String,
    /// Hashes of its layers, from below.
    pub(crate) layers: Vec<String>,
}

/// How images that were replaced are named while a sandbox runs with them.
const ASIDE: &str = "localhost/rcc-replaced:";

/// One line of Podman's list.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    labels: Option<HashMap<String, String>>,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    state: String,
    /// Seconds since 1970; far in the past for one that never started.
    #[serde(default)]
    started_at: i64,
}

impl Listed {
    /// A container has its image's labels too, so that they alone prove nothing;
    /// its name it has from who made it.
    fn is_ours(&self) -> bool {
        let Some(labels) = &self.labels else { return false };
        let (Some(project), Some(session)) =
            (labels.get(label::PROJECT), labels.get(label::SESSION))
        else {
            return false;
        };
        let named = self.names.iter().flatten().any(|name| name == session);
        named && session.starts_with("rcc-") && session.ends_with(&name_end(project))
    }
}

/// What the name of a project's container ends with.
pub(crate) fn name_end(project: &str) -> String {
    format!("-{}", project.get(..8).unwrap_or(project))
}

#[derive(Deserialize)]
struct Inspected {
    #[serde(rename = "State")]
    state: ContainerState,
}

/// The engine's view of one container at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ContainerState {
    pub(crate) running: bool,
    /// Of the first process, on the host; 0 when none runs.
    pub(crate) pid: i32,
    #[serde(rename = "OOMKilled", default)]
    pub(crate) out_of_memory: bool,
    pub(crate) exit_code: i64,
}

/// A program that was started in a container, with its three streams.
pub struct ExecPipes {
    /// For [`Engine::exec_exit_code`].
    pub id: String,
    /// What it writes: stdout and stderr, told apart.
    pub output: Pin<Box<dyn Stream<Item = std::result::Result<LogOutput, ApiError>> + Send>>,
    /// Its stdin; shut it down for the end of input.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
}

impl Engine {
    /// Containers with rcc's label, of one project or all.
    ///
    /// Asked from Podman's own API: the Docker-compatible list fails as a whole
    /// when one container is half made or half removed (measured with 4.3.1: a
    /// creation that is broken off leaves such a one for good).
    pub(crate) async fn find(&self, project: Option<&str>) -> Result<Vec<Found>> {
        let value = project
            .map_or_else(|| label::PROJECT.to_string(), |id| format!("{}={id}", label::PROJECT));
        // `{"label":["…"]}`; a label and an id have no character to be escaped.
        let filters = format!("%7B%22label%22%3A%5B%22{}%22%5D%7D", value.replace('=', "%3D"));
        let path = format!("/v4.0.0/libpod/containers/json?all=true&filters={filters}");
        let unanswered = |why: String| {
            Error::new(
                Code::EngineUnreachable,
                format!("Podman could not list the sandboxes: {why}."),
            )
        };
        let asked =
            tokio::time::timeout(super::CALL_TIMEOUT, super::info::get(self.socket(), &path));
        let answer = asked
            .await
            .map_err(|_| unanswered("it did not answer in time".into()))?
            .map_err(|e| unanswered(e.to_string()))?;
        let list: Option<Vec<Listed>> = serde_json::from_slice(&answer)
            .map_err(|e| unanswered(format!("its answer cannot be read: {e}")))?;
        let ours = list.unwrap_or_default().into_iter().filter(Listed::is_ours);
        let found = ours.map(|container| Found {
            id: container.id,
            labels: container.labels.unwrap_or_default(),
            running: container.state == "running",
            created: container.started_at,
        });
        Ok(found.collect())
    }

    pub(crate) async fn create(&self, name: &str, spec: &ContainerSpec) -> Result<String> {
        spec.check()?;
        let options = query::CreateContainerOptionsBuilder::default().name(name).build();
        let made = self
            .docker()
            .create_container(Some(options), spec.body())
            .await
            .map_err(|e| start_failed("made", &e))?;
        Ok(made.id)
    }

    pub(crate) async fn start(&self, container: &str) -> Result<()> {
        self.docker()
            .start_container(container, None::<query::StartContainerOptions>)
            .await
            .map_err(|e| start_failed("started", &e))
    }

    pub(crate) async fn state(&self, container: &str) -> Result<ContainerState> {
        // From Podman's own API: on its way from `running` to `exited` a container is
        // `stopped`, a word that the Docker-compatible one does not have.
        let path = format!("/v4.0.0/libpod/containers/{container}/json");
        let unanswered = |code, why: String| {
            Error::new(code, format!("Podman could not look at the sandbox: {why}."))
        };
        let asked =
            tokio::time::timeout(super::CALL_TIMEOUT, super::info::get(self.socket(), &path));
        let answer = asked
            .await
            .map_err(|_| unanswered(Code::EngineUnreachable, "it did not answer in time".into()))?
            .map_err(|e| match e.kind() {
                io::ErrorKind::Other => unanswered(Code::Engine, e.to_string()),
                _ => unanswered(Code::EngineUnreachable, e.to_string()),
            })?;
        let answer: Inspected = serde_json::from_slice(&answer).map_err(|e| {
            unanswered(Code::EngineUnreachable, format!("its answer cannot be read: {e}"))
        })?;
        Ok(answer.state)
    }

    /// What its first process wrote, at most the last 2,000 characters.
    pub(crate) async fn log_tail(&self, container: &str) -> String {
        let options =
            query::LogsOptionsBuilder::default().stdout(true).stderr(true).tail("50").build();
        let mut lines = self.docker().logs(container, Some(options));
        let mut text = String::new();
        while let Some(Ok(line)) = lines.next().await {
            text.push_str(&String::from_utf8_lossy(&line.into_bytes()));
        }
        tail(&text, 2000)
    }

    /// Ends and removes a container; one that is not there is no error.
    pub(crate) async fn remove(&self, container: &str, patience_s: i32) -> Result<()> {
        let stop = query::StopContainerOptionsBuilder::default().t(patience_s).build();
        // Whatever stopping says, removing by force is what counts.
        let _ = self.docker().stop_container(container, Some(stop)).await;
        let options = query::RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match self.docker().remove_container(container, Some(options)).await {
            Ok(()) => Ok(()),
            Err(ApiError::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(e) => Err(failed("remove the sandbox", &e)),
        }
    }

    /// Starts a program. `env` does not show in `inspect` of the container.
    pub(crate) async fn exec(
        &self,
        container: &str,
        argv: &[String],
        env: &[(String, String)],
        cwd: Option<&str>,
    ) -> Result<ExecPipes> {
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(false),
            env: Some(env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            cmd: Some(argv.to_vec()),
            working_dir: cwd.map(str::to_string),
            ..CreateExecOptions::default()
        };
        let what = "start a program in the sandbox";
        let exec =
            self.docker().create_exec(container, options).await.map_err(|e| failed(what, &e))?;
        let start =
            StartExecOptions { detach: false, tty: false, output_capacity: Some(256 << 10) };
        match self.docker().start_exec(&exec.id, Some(start)).await.map_err(|e| failed(what, &e))? {
            StartExecResults::Attached { output, input } => {
                Ok(ExecPipes { id: exec.id, output, input })
            }
            StartExecResults::Detached => {
                Err(Error::new(Code::Engine, "The engine started the program without its streams."))
            }
        }
    }

    /// Exit code of a program that has ended.
    pub(crate) async fn exec_exit_code(&self, exec: &str) -> Result<Option<i64>> {
        let answer = self
            .docker()
            .inspect_exec(exec)
            .await
            .map_err(|e| failed("ask how the program ended", &e))?;
        Ok(if answer.running == Some(true) { None } else { answer.exit_code })
    }

    /// Sends a signal to a program that [`Engine::exec`] started. It runs with the
    /// person's own id, so no engine is needed for it; but only a process that
    /// is in the container is signalled.
    pub(crate) async fn exec_signal(&self, container: &str, exec: &str, signal: i32) -> Result<()> {
        let what = "send a signal to the program";
        let answer = self.docker().inspect_exec(exec).await.map_err(|e| failed(what, &e))?;
        let pid = answer
            .pid
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(rustix::process::Pid::from_raw);
        let (Some(pid), Some(true)) = (pid, answer.running) else {
            return Ok(());
        };
        let gone = |e| Error::new(Code::Engine, format!("Could not {what}: {e}."));
        // Held before it is looked at, so that its number cannot become another's.
        let Ok(held) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        else {
            return Ok(());
        };
        let namespace = crate::network::netns_inode(pid.as_raw_nonzero().get());
        let containers = crate::network::netns_inode(self.state(container).await?.pid);
        let signal =
            if signal == 2 { rustix::process::Signal::INT } else { rustix::process::Signal::TERM };
        if namespace.is_some() && namespace == containers {
            rustix::process::pidfd_send_signal(held, signal).map_err(gone)?;
        }
        Ok(())
    }

    /// The environment that image and rcc gave to the container, `NAME=value`.
    pub(crate) async fn environment(&self, container: &str) -> Result<Vec<String>> {
        let answer = self
            .docker()
            .inspect_container(container, None::<query::InspectContainerOptions>)
            .await
            .map_err(|e| failed("look at the sandbox", &e))?;
        Ok(answer.config.and_then(|config| config.env).unwrap_or_default())
    }

    /// The folder of a volume on this computer, if there is one of that name.
    pub(crate) async fn find_volume(&self, name: &str) -> Option<PathBuf> {
        let volume = self.docker().inspect_volume(name).await.ok()?;
        Some(PathBuf::from(volume.mountpoint))
    }

    /// Makes the volume unless it is there; answers its folder on this computer.
    pub(crate) async fn volume(&self, name: &str, project: &str) -> Result<PathBuf> {
        if let Some(folder) = self.find_volume(name).await {
            return Ok(folder);
        }
        let request = VolumeCreateRequest {
            name: Some(name.to_string()),
            labels: Some(HashMap::from([(label::PROJECT.to_string(), project.to_string())])),
            ..VolumeCreateRequest::default()
        };
        let volume = self
            .docker()
            .create_volume(request)
            .await
            .map_err(|e| failed("make the volume for the agent's home", &e))?;
        Ok(PathBuf::from(volume.mountpoint))
    }

    /// The homes of agents: names of volumes, and their folders on this computer.
    pub(crate) async fn homes(&self) -> Result<Vec<(String, PathBuf)>> {
        let filters = HashMap::from([("label", vec![label::PROJECT])]);
        let options = query::ListVolumesOptionsBuilder::default().filters(&filters).build();
        let list = self
            .docker()
            .list_volumes(Some(options))
            .await
            .map_err(|e| failed("list the homes of agents", &e))?;
        let ours = list.volumes.into_iter().flatten().filter(|volume| {
            let project = volume.labels.get(label::PROJECT);
            project.is_some_and(|project| volume.name == crate::home::volume(project))
        });
        Ok(ours.map(|volume| (volume.name, PathBuf::from(volume.mountpoint))).collect())
    }

    /// Removes a volume that no container uses; one that is not there is no error.
    pub(crate) async fn remove_volume(&self, name: &str) -> Result<()> {
        match self.docker().remove_volume(name, None::<query::RemoveVolumeOptions>).await {
            Ok(()) | Err(ApiError::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(e) => Err(failed("remove the home of an agent", &e)),
        }
    }

    /// Whether the image is in the user's storage.
    pub(crate) async fn has_image(&self, reference: &str) -> Result<bool> {
        Ok(self.image(reference).await?.is_some())
    }

    /// The image of a name, if the user's storage has one.
    pub(crate) async fn image(&self, reference: &str) -> Result<Option<ImageFacts>> {
        match self.docker().inspect_image(reference).await {
            Ok(image) => Ok(Some(ImageFacts {
                id: image.id.unwrap_or_default(),
                layers: image.root_fs.and_then(|root| root.layers).unwrap_or_default(),
            })),
            Err(ApiError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(e) => Err(failed("look for the image", &e)),
        }
    }

    /// When the image of a name was made, seconds since 1970.
    pub(crate) async fn image_made(&self, reference: &str) -> Result<Option<i64>> {
        let list = self
            .docker()
            .list_images(None::<query::ListImagesOptions>)
            .await
            .map_err(|e| failed("list the images", &e))?;
        let has_it = |names: &[String]| names.iter().any(|name| name == reference);
        Ok(list.iter().find(|image| has_it(&image.repo_tags)).map(|image| image.created))
    }

    /// The images whose names begin so.
    pub(crate) async fn images(&self, prefix: &str) -> Result<Vec<KeptImage>> {
        let list = self
            .docker()
            .list_images(None::<query::ListImagesOptions>)
            .await
            .map_err(|e| failed("list the images", &e))?;
        let names = list.into_iter().flat_map(|image| image.repo_tags);
        let mut images = Vec::new();
        for name in names.filter(|name| name.starts_with(prefix)) {
            let image = match self.docker().inspect_image(&name).await {
                Ok(image) => image,
                // Removed meanwhile.
                Err(ApiError::DockerResponseServerError { status_code: 404, .. }) => continue,
                Err(e) => return Err(failed("look at an image", &e)),
            };
            // Podman 4.3 counts an image that was imported twice; its history is right.
            let history = self
                .docker()
                .image_history(&name)
                .await
                .map_err(|e| failed("look at an image", &e))?;
            let sizes = history.iter().filter_map(|step| u64::try_from(step.size).ok());
            images.push(KeptImage {
                name,
                sizes: sizes.filter(|size| *size > 0).collect(),
                layers: image.root_fs.and_then(|root| root.layers).unwrap_or_default(),
            });
        }
        Ok(images)
    }

    /// Takes a name away from an image, and the image if that was its last. Not
    /// while a container uses it.
    pub(crate) async fn remove_image(&self, reference: &str) -> Result<()> {
        self.docker()
            .remove_image(reference, None::<query::RemoveImageOptions>, None)
            .await
            .map(drop)
            .map_err(|e| failed(&format!("remove {reference}"), &e))
    }

    /// Gives an image its name, and takes the one that it had. Another image that had
    /// this name is removed, or kept aside as long as a sandbox runs with it.
    pub(crate) async fn rename_image(&self, from: &str, to: &str) -> Result<()> {
        if let Some(before) = self.image(to).await? {
            let id = before.id.trim_start_matches("sha256:");
            self.name_image(to, &format!("{ASIDE}{}", id.get(..12).unwrap_or(id))).await?;
        }
        self.name_image(from, to).await?;
        self.forget_image(from).await;
        self.forget_images_aside().await;
        Ok(())
    }

    async fn name_image(&self, image: &str, name: &str) -> Result<()> {
        let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
        let options = query::TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
        self.docker()
            .tag_image(image, Some(options))
            .await
            .map_err(|e| failed("name the image", &e))
    }

    /// Removes what [`Self::rename_image`] kept aside and no sandbox runs with any more.
    pub(crate) async fn forget_images_aside(&self) {
        let Ok(list) = self.docker().list_images(None::<query::ListImagesOptions>).await else {
            return;
        };
        let names = list.into_iter().flat_map(|image| image.repo_tags);
        for name in names.filter(|name| name.starts_with(ASIDE)) {
            self.forget_image(&name).await;
        }
    }

    /// Takes a name away from an image, and the image if that was its last.
    pub(crate) async fn forget_image(&self, reference: &str) {
        // It costs only disk space if this fails.
        let _ =
            self.docker().remove_image(reference, None::<query::RemoveImageOptions>, None).await;
    }
}

pub(crate) fn failed(what: &str, error: &ApiError) -> Error {
    let code = match error {
        ApiError::DockerResponseServerError { .. } | ApiError::DockerStreamError { .. } => {
            Code::Engine
        }
        _ => Code::EngineUnreachable,
    };
    Error::new(code, format!("Podman could not {what}: {}.", words(error)))
        .with_detail(error.to_string())
}

fn start_failed(what: &str, error: &ApiError) -> Error {
    let text = error.to_string();
    let code = if text.contains("cgroups in hybrid mode") || text.contains("cgroup v1") {
        Code::Cgroups
    } else if text.contains("no such image") || text.contains("No such image") {
        Code::ImageMissing
    } else {
        Code::SandboxStart
    };
    Error::new(code, format!("The container could not be {what}: {}.", words(error)))
        .with_detail(text)
}

/// The engine's sentence, on one line and without a full stop at the end.
fn words(error: &ApiError) -> String {
    let text = match error {
        ApiError::DockerResponseServerError { message, .. } => message.clone(),
        other => other.to_string(),
    };
    crate::display::line(text.trim().trim_end_matches('.'), 300)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moment_between_running_and_exited_is_understood() {
        let said = r#"{"Id": "a", "State": {"Status": "stopped", "Running": false, "Paused": false,
            "OOMKilled": true, "Pid": 0, "ExitCode": 137, "Error": ""}}"#;
        let answer: Inspected = serde_json::from_str(said).unwrap();
        let expected =
            ContainerState { running: false, pid: 0, out_of_memory: true, exit_code: 137 };
        assert_eq!(answer.state, expected);
    }

    #[test]
    fn an_images_labels_make_no_session() {
        let listed = |name: &str| -> Listed {
            serde_json::from_value(serde_json::json!({
                "Id": "1", "State": "running", "Names": [name], "Labels": {
                    label::PROJECT: "0123456789abcdef", label::SESSION: "rcc-web-01234567",
                },
            }))
            .unwrap()
        };
        assert!(listed("rcc-web-01234567").is_ours());
        assert!(!listed("happy_hopper").is_ours());
        let mut of_another = listed("rcc-web-01234567");
        let labels = of_another.labels.as_mut().unwrap();
        labels.insert(label::PROJECT.into(), "fedcba9876543210".into());
        assert!(!of_another.is_ours());
    }
}
