//! `rcc verify`.

use rcc_sandbox::Network;
use rcc_sandbox::session::{Row, Verdict};
use serde_json::{Value, json};

use super::Call;
use crate::arguments::exit;
use crate::show;

/// Tries the walls of the project's sandbox; 1 when one is open.
pub async fn verify(call: &Call) -> anyhow::Result<u8> {
    let (_, project, session) = call.session().await?;
    let network = Network::connect().await.ok();
    let rows = session.verify(&project, &call.host, network.as_ref()).await?;
    let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    let (held, open) = (count(Verdict::Holds), count(Verdict::Open));
    let unfinished = count(Verdict::Unfinished);
    if call.json {
        let value = |row: &Row| {
            json!({"id": row.id, "what": row.what, "tried": row.tried, "seen": row.seen,
                   "verdict": row.verdict.word()})
        };
        println!("{:#}", Value::Array(rows.iter().map(value).collect()));
    } else {
        for row in &rows {
            println!("{:<9}  {:<10}  {}", row.verdict.word(), row.id, row.what);
            let why = if row.tried.is_empty() { String::new() } else { format!("{}: ", row.tried) };
            println!("{:23}  {why}{}", "", row.seen);
        }
        let left = count(Verdict::NotTried) + unfinished;
        show::note(&format!("{held} walls hold, {open} are open, {left} were not tried."));
        if unfinished > 0 {
            show::note("The computer was busy: try again in a moment.");
        }
    }
    if open == 0 && unfinished > 0 {
        return Ok(exit::UNFINISHED);
    }
    Ok(exit::found(open > 0))
}
