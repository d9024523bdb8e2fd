//! Who reads the ring of a trace: a thread of its own, so that names are read at once, whatever else the recording is doing. The rows of a library that was just loaded take up to a second to make, and a
//! worker that has leaked may have ended by then, with its code objects.

use std::thread::{Builder, JoinHandle};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::frames::{Frames, Told};
use super::priority::go_first;
use crate::drain::ring::{Event, Ring, Unwatched};
use crate::error::{Context, Error, Result};

/// Records between two looks at what is asked of us.
const BATCH: usize = 64;
/// Stacks that wait at most, some MiB; others wait in the ring.
const MOST: usize = 4096;

/// What is heard of the thread.
enum Word {
    Told(Told),
    /// All that was in the ring when this was asked for has been told.
    Drained,
}

/// The thread.
pub(super) struct Reader {
    words: UnboundedReceiver<Word>,
    /// Each asks for what there is; when it is dropped, the thread ends.
    orders: Option<UnboundedSender<()>>,
    thread: Option<JoinHandle<Result<Frames>>>,
}

impl Reader {
    /// Begins to read.
    pub(super) fn start(ring: Unwatched, frames: Frames) -> Result<Self> {
        let (teller, words) = unbounded_channel();
        let (orders, told) = unbounded_channel();
        let work = move || {
            // A name that is read late may be gone, and reading one takes some 20 µs.
            go_first();
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime")?;
            runtime.block_on(async move { read(Ring::new(ring)?, frames, told, &teller).await })
        };
        let thread = Builder::new().name("names".to_owned()).spawn(work).context("a thread for names")?;
        Ok(Self { words, orders: Some(orders), thread: Some(thread) })
    }

    /// Waits until there is something new.
    pub(super) async fn next(&mut self) -> Result<Told> {
        loop {
            match self.words.recv().await {
                Some(Word::Told(told)) => return Ok(told),
                Some(Word::Drained) => {}
                None => return Err(broken()),
            }
        }
    }

    /// What is there already.
    pub(super) fn more(&mut self) -> Option<Told> {
        match self.words.try_recv() {
            Ok(Word::Told(told)) => Some(told),
            Ok(Word::Drained) | Err(_) => None,
        }
    }

    /// All that the ring holds now.
    pub(super) async fn rest(&mut self) -> Result<Vec<Told>> {
        self.orders.as_ref().and_then(|orders| orders.send(()).ok()).ok_or_else(broken)?;
        let mut rest = Vec::new();
        loop {
            match self.words.recv().await {
                Some(Word::Told(told)) => rest.push(told),
                Some(Word::Drained) => return Ok(rest),
                None => return Err(broken()),
            }
        }
    }

    /// Reads the ring to its end; the last that it holds, and all frames. There is one end.
    pub(super) fn end(&mut self) -> Result<(Vec<Told>, Frames)> {
        self.orders = None;
        let frames = self.thread.take().and_then(|thread| thread.join().ok()).ok_or_else(broken)??;
        let mut rest = Vec::new();
        while let Ok(word) = self.words.try_recv() {
            if let Word::Told(told) = word {
                rest.push(told);
            }
        }
        Ok((rest, frames))
    }
}

fn broken() -> Error {
    Error::failed("the thread that reads names has broken off")
}

async fn read(
    mut ring: Ring,
    mut frames: Frames,
    mut orders: UnboundedReceiver<()>,
    teller: &UnboundedSender<Word>,
) -> Result<Frames> {
    // Who does not listen any more has given up the recording.
    let tell = |told: Option<Told>| drop(told.map(|told| teller.send(Word::Told(told))));
    let mut backlog = Backlog::default();
    let mut pass = |ring: &mut Ring| {
        loop {
            while backlog.stacks.len() < MOST && ring.drain(BATCH, |event| tell(backlog.take(event))) {}
            let Some((native, stack)) = backlog.stacks.pop() else { return };
            tell(native.and_then(|event| frames.told(event)));
            tell(frames.told(stack));
        }
    };
    loop {
        tokio::select! {
            biased;
            order = orders.recv() => {
                pass(&mut ring);
                match order {
                    Some(()) => drop(teller.send(Word::Drained)),
                    None => return Ok(frames),
                }
            }
            ready = ring.ready() => {
                ready?;
                pass(&mut ring);
            }
        }
    }
}

/// Stacks that wait to be named. The newest comes first: a program that begins brings thousands within a moment, of code that will live as long as it does, and the one that is asked for may be the last before its end.
#[derive(Default)]
struct Backlog {
    /// Each with the C frames that came before it.
    stacks: Vec<(Option<Event>, Event)>,
    native: Option<Event>,
}

impl Backlog {
    /// Keeps a stack; what needs no names is told at once.
    fn take(&mut self, event: Event) -> Option<Told> {
        match event {
            Event::Native { .. } => self.native = Some(event),
            Event::Stack { .. } => self.stacks.push((self.native.take(), event)),
            other => return Told::without_frames(&other),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::native::NativeEnd;
    use tracer_common::walk::WalkEnd;

    use super::*;
    use crate::session::Ended;

    fn native(site: u64) -> Event {
        Event::Native { site, end: NativeEnd::Outermost, frames: Vec::new() }
    }

    fn stack(site: u64) -> Event {
        Event::Stack { site, domain: None, end: WalkEnd::Complete, caller: 0, frames: Vec::new() }
    }

    #[test]
    fn the_newest_is_first_with_its_own_c_frames_and_milestones_do_not_wait() {
        let mut backlog = Backlog::default();
        for event in [native(1), stack(1), stack(2), native(3)] {
            assert!(backlog.take(event).is_none());
        }
        assert!(matches!(backlog.take(Event::Exec), Some(Told::Ended(Ended::Exec))));
        assert!(backlog.take(stack(3)).is_none() && backlog.take(Event::Closed).is_none());
        let order: Vec<_> = std::iter::from_fn(|| backlog.stacks.pop()).collect();
        assert_eq!(order, [(Some(native(3)), stack(3)), (None, stack(2)), (Some(native(1)), stack(1))]);
    }
}
