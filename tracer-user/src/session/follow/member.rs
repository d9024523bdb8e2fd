//! One of several processes: its recording, in a thread of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::sleep;

use super::{Company, News};
use crate::cli::plan::{Plan, Whom};
use crate::error::{Context, Error, Kind, Result};
use crate::probe::family::Family;
use crate::probe::load::Limits;
use crate::report::kin::Joined;
use crate::report::story::Story;
use crate::session::descriptors::Before;
use crate::session::moments::Ended;
use crate::session::subject::Subject;
use crate::session::{Signals, traced};

/// A child gets so small a part of the room for blocks: the table of its buckets takes memory before the first block does.
const PART_OF_BLOCKS: u32 = 4;
/// But no less, if there is so much.
const LEAST_BLOCKS: u32 = 1 << 16;

/// How long a program that was just started is given to become a CPython. Starting one takes 10 to 50 ms, and a busy machine a hundred times as long.
const BECOMING: Duration = Duration::from_secs(5);
/// How often it is looked at, at first and at most.
const LOOKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// What is to be done.
pub(super) struct Task {
    pub(super) plan: Plan,
    pub(super) joined: Joined,
    pub(super) before: Option<Before>,
    pub(super) family: Arc<Mutex<Family>>,
    pub(super) company: Company,
    pub(super) signals: Signals,
}

/// What has come of it.
pub(in crate::session) struct Done {
    pub(super) story: Story,
    /// The process has ended, or is another program now.
    pub(super) ended: bool,
}

/// The plan for a child: what its tracing costs was asked for its parent, and who leads does the talking.
pub(super) fn plan_for_child(plan: &Plan, pid: u32) -> Plan {
    let blocks = plan.limits.blocks;
    let blocks = (blocks / PART_OF_BLOCKS).max(blocks.min(LEAST_BLOCKS));
    Plan {
        whom: Whom::Pid(pid),
        max_slowdown: None,
        output: None,
        messages: false,
        limits: Limits { blocks, ..plan.limits },
        ..plan.clone()
    }
}

/// Starts the thread. Whatever becomes of it, its end is told.
pub(super) fn start(task: Task, number: u64, lead: UnboundedSender<(u64, News)>) -> Result<()> {
    let work = move || {
        let mut last = LastWord { number, lead, outcome: None };
        last.outcome = Some(record(task));
    };
    Builder::new().name("process".to_owned()).spawn(work).map(drop).context("a thread for a process")
}

/// Tells the end when it is dropped.
struct LastWord {
    number: u64,
    lead: UnboundedSender<(u64, News)>,
    outcome: Option<Result<Box<Done>>>,
}

impl Drop for LastWord {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| Err(Error::failed("its recording broke off")));
        // Nobody is left to hear it when the whole recording is given up.
        let _ = self.lead.send((self.number, News::Done(outcome)));
    }
}

fn record(task: Task) -> Result<Box<Done>> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime")?;
    runtime.block_on(async move {
        let Task { plan, joined, before, family, mut company, mut signals } = task;
        let mut subject = if joined == Joined::Exec {
            become_python(&plan.whom, &mut signals).await?
        } else {
            Subject::open(&plan.whom, before)?
        };
        if joined == Joined::Target {
            // Before its first trap is in, so that nobody inherits one unseen.
            family.lock().unwrap_or_else(PoisonError::into_inner).adopt(subject.process.pid())?;
        }
        let story = traced(&plan, &mut subject, &mut signals, &mut company).await?;
        let ended = matches!(company.ended, Some(Ended::Gone | Ended::Finalizing | Ended::Exec));
        Ok(Box::new(Done { story, ended }))
    })
}

/// Waits until a program that was just started is a CPython that has begun to run.
async fn become_python(whom: &Whom, signals: &mut Signals) -> Result<Subject> {
    let begin = Instant::now();
    let (mut pause, longest) = LOOKS;
    loop {
        let looked = Subject::open(whom, None);
        match looked {
            Ok(subject) if subject.python.has_begun(&subject.process) => return Ok(subject),
            Err(error) if begin.elapsed() > BECOMING => return Err(error),
            Ok(subject) if begin.elapsed() > BECOMING => {
                return Err(Error::new(
                    Kind::Target,
                    format!("{} does not begin to run Python", subject.name()),
                ));
            }
            _ => {}
        }
        tokio::select! {
            () = signals.any() => return Err(Error::new(Kind::Target, "it was not a CPython yet")),
            () = sleep(pause) => pause = (pause * 2).min(longest),
        }
    }
}
