//! `memoize_stampede` for other languages: of all who miss a key, one is told to compute it, and the others wait.
//!
//! The library's future computes by awaiting what the caller sends; the shell keeps it between the two requests. Dropping
//! it gives the turn back.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use alluvium_disk_kv_cache::{KeyBuf, MemoCache, MemoError, Stampede};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;

use super::operations::{Operation, op};
use super::request::Fields;
use super::session::Session;
use super::wait::wait;
use crate::kv::codec::bytes_to_json;
use crate::kv::fault::Fault;
use crate::kv::target::with_cache;

/// All of them.
pub const OPERATIONS: &[Operation] = &[
    op("stampede.begin", &["key", "ttl", "beta?", "tags?", "timeout?", "in?"], begin),
    op("stampede.finish", &["turn", "value"], |session, fields| {
        let (number, value) = (fields.count("turn")?, fields.bytes("value")?);
        let Some(turn) = session.turns.held.remove(&number) else { return Err(unknown(fields)) };
        // The other end is in the future that is awaited next.
        let _ = turn.value.send(value);
        session.turns.runtime()?.block_on(turn.answer)?;
        Ok(Value::Null)
    }),
    op("stampede.cancel", &["turn"], |session, fields| {
        let number = fields.count("turn")?;
        session.turns.held.remove(&number).map(|_| Value::Null).ok_or_else(|| unknown(fields))
    }),
];

/// The turns to compute that the shell has, by number.
#[derive(Default)]
pub struct Turns {
    held: HashMap<u64, Turn>,
    given: u64,
    runtime: Option<Runtime>,
}

/// A turn to compute a value.
struct Turn {
    value: oneshot::Sender<Vec<u8>>,
    answer: Answer,
}

/// What is found, or what was computed once it is stored.
type Answer = Pin<Box<dyn Future<Output = Result<Vec<u8>, Fault>>>>;

impl Turns {
    fn keep(&mut self, turn: Turn) -> u64 {
        self.given += 1;
        self.held.insert(self.given, turn);
        self.given
    }

    /// What futures are awaited on; most shells never need it.
    fn runtime(&mut self) -> io::Result<&Runtime> {
        if self.runtime.is_none() {
            self.runtime = Some(tokio::runtime::Builder::new_current_thread().enable_time().build()?);
        }
        self.runtime.as_ref().ok_or_else(|| io::ErrorKind::Other.into())
    }
}

/// How a `begin` goes on.
enum Arrival {
    Found(Result<Vec<u8>, Fault>),
    Turn,
}

fn begin(session: &mut Session, fields: &Fields<'_>) -> Result<Value, Fault> {
    let (key, ttl, timeout) = (fields.key("key")?, fields.seconds("ttl")?, fields.timeout()?);
    let beta = fields.get("beta").map(|_| fields.number("beta")).transpose()?;
    let tags = fields.texts("tags")?;
    let (value, computed) = oneshot::channel();
    let (told, mut turn) = oneshot::channel();
    let mut answer = with_cache!(session.cache(fields)?, cache => {
        let mut stampede = Stampede::new(cache, ttl)?.with_beta(beta.unwrap_or(1.0));
        stampede = tags.into_iter().fold(stampede, Stampede::with_tag);
        answer(stampede, key, told, computed)
    });
    let runtime = session.turns.runtime()?;
    let arrived = wait(timeout, |slice| Ok(runtime.block_on(arrival(&mut answer, &mut turn, slice))))?;
    Ok(match arrived {
        None => Value::Null,
        Some(Arrival::Found(value)) => json!({ "value": bytes_to_json(value?) }),
        Some(Arrival::Turn) => json!({ "turn": session.turns.keep(Turn { value, answer }) }),
    })
}

/// The library's own answer: `told` hears when it is the shell's turn, `computed` is then awaited.
fn answer<C: MemoCache>(
    stampede: Stampede<C>,
    key: KeyBuf,
    told: oneshot::Sender<()>,
    computed: oneshot::Receiver<Vec<u8>>,
) -> Answer {
    Box::pin(async move {
        let compute = async move || {
            // Whoever began has not stopped waiting: it would have dropped this future.
            let _ = told.send(());
            computed.await
        };
        stampede.get_async(&key, compute).await.map_err(|error: MemoError<RecvError>| Fault::from_memo(&error))
    })
}

/// What comes first, within a time: `None` if nothing does.
async fn arrival(answer: &mut Answer, turn: &mut oneshot::Receiver<()>, patience: Duration) -> Option<Arrival> {
    let first = async {
        tokio::select! {
            biased;
            found = answer => Arrival::Found(found),
            Ok(()) = turn => Arrival::Turn,
        }
    };
    tokio::time::timeout(patience, first).await.ok()
}

fn unknown(fields: &Fields<'_>) -> Fault {
    fields.wrong("turn", "is not a turn of this shell, or was finished or cancelled")
}
