//! While a command has a sandbox on its terminal or its pipes, the lists that the
//! person edits by hand hold in the sandboxes that run, as they do with the window.

use rcc_sandbox::session::{Edited, Follow};
use rcc_sandbox::{Engine, Error, Host, Network};
use tokio::task::JoinHandle;

use crate::show;

/// What a person should know of an edit.
pub enum Word {
    /// The list is not in force, or could not be brought.
    Error(Error),
    /// A part of it that the administrator's bounds do not let through.
    Note(String),
}

/// The lists are known as they were when this began.
pub struct Following(Option<(Host, Follow)>);

/// Follows for as long as it is there.
pub struct Followed(Option<JoinHandle<()>>);

impl Following {
    /// Begins to listen. It is a convenience: without it an edit holds with the next
    /// opening.
    pub async fn begin(host: &Host) -> Self {
        let own = host.clone();
        let begun = tokio::task::spawn_blocking(move || {
            let follow = Follow::begin(&own)?;
            Ok::<_, Error>((own, follow))
        });
        Self(begun.await.ok().and_then(Result::ok))
    }

    /// Brings edits to the sandboxes and says what came of it.
    pub fn say(self, say: impl Fn(Word) + Send + Sync + 'static) -> Followed {
        Followed(self.0.map(|(host, mut follow)| {
            tokio::spawn(async move {
                while let Some(edited) = follow.next().await {
                    for list in edited {
                        take(&host, &mut follow, list, &say).await;
                    }
                }
            })
        }))
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

async fn take(host: &Host, follow: &mut Follow, mut list: Edited, say: &impl Fn(Word)) {
    if let Some(mistake) = list.mistake.take() {
        return say(Word::Error(mistake));
    }
    let again = list.again;
    // Neither is asked before there is something to bring.
    let there = async { Ok::<_, Error>((Engine::connect(host).await?, Network::connect().await?)) };
    let brought = match there.await {
        Ok((engine, network)) => follow.bring(list, &engine, &network).await,
        Err(error) => {
            follow.keep(list);
            Err(error)
        }
    };
    match brought {
        Ok(dropped) => dropped.iter().for_each(|one| say(Word::Note(one.to_string()))),
        // It was said the first time.
        Err(_) if again => {}
        Err(error) => say(Word::Error(error)),
    }
}

impl Word {
    /// On standard error. A program that reads gets errors alone, as JSON.
    pub fn print(self, json: bool) {
        match self {
            Self::Error(error) if json => show::error(&error, true),
            Self::Note(_) if json => {}
            word => show::note(&word.line()),
        }
    }

    /// In one line.
    pub fn line(&self) -> String {
        match self {
            Self::Error(error) => {
                format!("{} {} {}", error.title(), error.body(), error.hint())
            }
            Self::Note(note) => note.clone(),
        }
    }
}
