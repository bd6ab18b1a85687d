//! `rcc review`.

use rcc_sandbox::review::{self, Change, DiffLine, Review};
use rcc_sandbox::{Code, Engine, Error, Session};
use serde_json::{Value, json};

use super::Call;
use crate::arguments::{ReviewCommand, exit};
use crate::show;

/// Digits of an id that a person is shown and may type while nobody else writes.
const SHORT: usize = 12;

/// Lists what changed, or does what was asked; 1 when something is to be looked at.
pub async fn review(
    call: &Call,
    command: Option<ReviewCommand>,
    with_diff: bool,
) -> anyhow::Result<u8> {
    let project = call.project()?;
    let host = &call.host;
    match command {
        None => return list(call, with_diff).await,
        Some(ReviewCommand::Keep { which, all }) => {
            let ids = if all { all_at_rest(call).await? } else { named(call, &which).await? };
            review::keep(&project, host, &ids, may_run(call).await).await?;
            show::note(&format!("{} kept as they are.", files(ids.len())));
        }
        Some(ReviewCommand::PutBack { which, all }) => {
            let ids = if all { every(call, true).await? } else { named(call, &which).await? };
            review::put_back(&project, host, &ids).await?;
            let count = files(ids.len());
            show::note(&format!("{count} are as they were; `rcc review undo` takes that back."));
        }
        Some(ReviewCommand::Undo) => {
            review::undo(&project, host).await?;
            show::note("what was put back last is undone.");
        }
    }
    let left = review::look(&project, host).await?;
    if let Some(line) = left.line() {
        show::note(&line);
    }
    Ok(0)
}

/// One line when something in the folder is to be looked at. It must not hide how
/// a session went: what fails here is told by `rcc review`.
pub async fn remind(call: &Call, project: &rcc_sandbox::Project) {
    if let Ok(review) = review::look(project, &call.host).await
        && let Some(line) = review.line()
    {
        show::note(&line);
    }
}

fn files(count: usize) -> String {
    if count == 1 { "1 file".into() } else { format!("{count} files") }
}

async fn list(call: &Call, with_diff: bool) -> anyhow::Result<u8> {
    let project = call.project()?;
    let looked = review::look_with_differences(&project, &call.host).await?;
    let found = &looked.review;
    // Whoever writes the files could make two changes whose ids begin alike.
    let digits = if !found.changes.is_empty() && may_run(call).await { 64 } else { SHORT };
    let mut values = Vec::new();
    for change in &found.changes {
        let diff = with_diff.then(|| looked.diff(&change.id));
        if call.json {
            values.push(value(change, diff));
        } else {
            print(change, &change.id[..digits], diff);
        }
    }
    if call.json {
        println!("{:#}", json!({"changes": values, "notes": found.notes}));
    } else {
        for note in &found.notes {
            show::note(note);
        }
        say_what_can_be_done(found);
    }
    Ok(exit::found(!found.changes.is_empty()))
}

fn say_what_can_be_done(found: &Review) {
    if found.changes.is_empty() {
        show::note("nothing that this computer would run changed.");
    } else {
        show::note("`rcc review keep ID` accepts one, `rcc review put-back ID` takes it back.");
    }
}

/// The difference, where it was asked for.
type Difference = Option<Result<Option<Vec<DiffLine>>, Error>>;

fn print(change: &Change, id: &str, diff: Difference) {
    println!("{:<8} {:<12} {}", change.what.word(), id, change.path);
    println!("{:21} {}", "", change.why);
    diff.map(lines).into_iter().flatten().for_each(|line| println!("{:21} {line}", ""));
}

/// One that changed while it was read hides none of the others.
fn lines(diff: Result<Option<Vec<DiffLine>>, Error>) -> Vec<String> {
    match diff {
        Ok(Some(lines)) => lines.iter().map(written).collect(),
        Ok(None) => vec!["(its content is no text, too large, or was not kept)".into()],
        Err(_) => vec!["(it changed while it was read: run this again)".into()],
    }
}

fn written(line: &DiffLine) -> String {
    match line {
        DiffLine::Same(text) => format!("  {text}"),
        DiffLine::Old(text) => format!("- {text}"),
        DiffLine::New(text) => format!("+ {text}"),
        DiffLine::Gap => "  …".into(),
        DiffLine::Executable(true) => "  … it can be executed now".into(),
        DiffLine::Executable(false) => "  … it cannot be executed any more".into(),
        DiffLine::More(left) => format!("  … {left} more lines changed that are not shown"),
    }
}

fn value(change: &Change, diff: Difference) -> Value {
    let mut value = json!({
        "id": change.id, "path": change.path, "what": change.what.word(), "why": change.why,
        "runs_by_itself": change.runs_by_itself, "leads_out": change.leads_out,
        "can_put_back": change.can_put_back,
    });
    match diff {
        None => {}
        Some(Ok(lines)) => {
            let lines = lines.map(|lines| lines.iter().map(written).collect::<Vec<_>>());
            value["diff"] = json!(lines);
        }
        Some(Err(_)) => {
            value["diff"] = Value::Null;
            value["changed_meanwhile"] = json!(true);
        }
    }
    value
}

/// What a person names: the whole id, or while nobody can change what is there between
/// the look and the choice its beginning, or a path.
async fn named(call: &Call, which: &[String]) -> anyhow::Result<Vec<String>> {
    let found = review::look(&call.project()?, &call.host).await?.changes;
    let mut ids = Vec::new();
    for word in which {
        let id = meant(&found, word);
        if id.is_some_and(|id| id != word) {
            nobody_works_there(call).await?;
        }
        // One that is none is refused in words.
        ids.push(id.unwrap_or(word).to_string());
    }
    Ok(ids)
}

/// The id of the one change that `word` names.
fn meant<'a>(found: &'a [Change], word: &str) -> Option<&'a str> {
    if let Some(change) = found.iter().find(|change| change.id == word) {
        return Some(&change.id);
    }
    let begins = |change: &&Change| word.len() >= SHORT && change.id.starts_with(word);
    let mut named = found.iter().filter(|change| change.path == word || begins(change));
    match (named.next(), named.next()) {
        (Some(one), None) => Some(&one.id),
        _ => None,
    }
}

async fn all_at_rest(call: &Call) -> anyhow::Result<Vec<String>> {
    nobody_works_there(call).await?;
    every(call, false).await
}

async fn every(call: &Call, that_can_be_put_back: bool) -> anyhow::Result<Vec<String>> {
    let found = review::look(&call.project()?, &call.host).await?.changes;
    let wanted = |change: &Change| change.can_put_back || !that_can_be_put_back;
    Ok(found.into_iter().filter(wanted).map(|change| change.id).collect())
}

/// Whether a sandbox may be writing the files; yes where nobody can say.
async fn may_run(call: &Call) -> bool {
    let found = async {
        let engine = Engine::connect(&call.host).await?;
        anyhow::Ok(Session::find(&engine, &call.project()?).await?.is_some())
    };
    found.await.unwrap_or(true)
}

async fn nobody_works_there(call: &Call) -> anyhow::Result<()> {
    if !may_run(call).await {
        return Ok(());
    }
    Err(Error::new(
        Code::Review,
        "The sandbox runs, as far as is known: what is there may be another content than what you saw.",
    )
    .hint_is(
        "Name the changes by their whole ids, as `rcc review` shows them, or run `rcc stop` first.",
    )
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_changed_while_it_was_read_says_so() {
        let gone = || Err(Error::new(Code::Review, "There is no change."));
        assert_eq!(lines(gone()), ["(it changed while it was read: run this again)"]);
        let mode = || Ok(Some(vec![DiffLine::Executable(true)]));
        assert_eq!(lines(mode()), ["  … it can be executed now"]);
        let change = Change {
            id: String::new(),
            path: String::new(),
            what: review::What::New,
            runs_by_itself: true,
            leads_out: false,
            why: String::new(),
            can_put_back: true,
        };
        assert_eq!(value(&change, Some(gone()))["changed_meanwhile"], true);
        let shown = value(&change, Some(mode()));
        assert_eq!(
            (&shown["diff"][0], shown.get("changed_meanwhile")),
            (&json!(lines(mode())[0]), None)
        );
        assert_eq!(value(&change, None).get("diff"), None);
    }

    #[test]
    fn the_beginning_of_an_id_names_a_change_only_when_it_is_the_only_one() {
        let change = |id: String, path: &str| Change {
            id,
            path: path.into(),
            what: review::What::New,
            runs_by_itself: true,
            leads_out: false,
            why: String::new(),
            can_put_back: true,
        };
        let (one, two) = (format!("{:0<64}", "abcdef012345"), format!("{:1<64}", "abcdef012345"));
        let other = format!("{:2<64}", "f");
        let found = [
            change(one.clone(), ".envrc"),
            change(two, "Makefile"),
            change(other.clone(), ".mcp.json"),
        ];
        assert_eq!(meant(&found, &one), Some(&*one));
        assert_eq!(meant(&found, ".envrc"), Some(&*one));
        assert_eq!(meant(&found, "abcdef012345"), None);
        assert_eq!(meant(&found, "abcdef0123450"), Some(&*one));
        assert_eq!(meant(&found, &other[..SHORT]), Some(&*other));
        assert_eq!(meant(&found, &other[..SHORT - 1]), None);
    }
}
