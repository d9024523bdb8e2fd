//! The loop that drives a recording: open, hook, arm, wait, disarm, report. It owns time and the tokio runtime; everything it calls is handed both.

use std::time::{Duration, Instant};

use tokio::time::{Interval, MissedTickBehavior, interval, sleep_until};

use crate::cli::plan::{Engine, Plan};
use crate::cli::print;
use crate::drain::books;
use crate::drain::log::ProbeMessages;
use crate::error::{Context, Result};
use crate::heap::history::Histories;
use crate::heap::snapshot::{Books, Moment};
use crate::probe::attach::Links;
use crate::probe::load::{ProbeLog, Probes};
use crate::report::story::{Cost, Story};
use crate::report::{self, Format};

mod check;
mod code;
mod descriptors;
mod follow;
mod frames;
pub mod home;
mod hooked;
mod launch;
mod meter;
mod moments;
mod names;
mod price;
mod priority;
mod reader;
mod sampling;
mod signals;
mod story;
mod subject;
mod types;
mod watch;

use check::Check;
use follow::Company;
use frames::{Frames, Told};
use hooked::Hooked;
use meter::Meter;
use moments::{Armed, Closed, Ended};
use names::Names;
use reader::Reader;
use signals::Signals;
use subject::Subject;
use watch::Watch;

/// How often the sums are read: each reading is a point of the history that the verdict is made from.
const TICK: Duration = Duration::from_millis(250);
/// The same for short looks, so that they have a history too.
const SHORT_TICK: Duration = Duration::from_millis(50);
/// How long a recording without an end lasts: as long as a clock can add.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86400);
/// What a short look is.
const SHORT: Duration = Duration::from_secs(5);

/// Records, prints the short report and writes the file that was asked for.
///
/// # Errors
/// Whatever kept it from tracing or from writing.
pub fn record(plan: &Plan) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime")?;
    if plan.follow {
        return match plan.engine {
            Engine::Sample { budget, window } => {
                runtime.block_on(sampling::record_family(plan, sampling::Wish { budget, longest: window }))
            }
            Engine::Trace | Engine::Watch => runtime.block_on(follow::record(plan)),
        };
    }
    runtime.block_on(alone(plan))
}

/// One process: its children are none of our business.
async fn alone(plan: &Plan) -> Result<()> {
    // Before anything is hooked: from here on, a signal ends the recording and not the program.
    let mut signals = Signals::new()?;
    let before = descriptors::raise();
    let mut subject = Subject::open(&plan.whom, before)?;
    let mut company = Company::alone();
    let story = match plan.engine {
        Engine::Trace | Engine::Watch => traced(plan, &mut subject, &mut signals, &mut company).await?,
        Engine::Sample { budget, window } => {
            let wish = sampling::Wish { budget, longest: window };
            sampling::record(plan, wish, &mut subject, &mut signals, &mut company).await?
        }
    };
    publish(plan, &story)
}

/// Traces or watches a process to its end, or to that of the recording.
async fn traced(
    plan: &Plan,
    subject: &mut Subject,
    signals: &mut Signals,
    company: &mut Company,
) -> Result<Story> {
    company.look_out(plan, subject);
    // Whatever fails when the target has ended meanwhile fails because of that.
    let watches = plan.engine == Engine::Watch;
    let hooked = if watches {
        watch::hook(plan, subject, &company.shared).map(|(hooked, watch)| (hooked, Some(watch)))
    } else {
        Hooked::hook(plan, subject, &company.shared).map(|hooked| (hooked, None))
    };
    let (mut hooked, watch) = hooked.map_err(|error| subject.check().err().unwrap_or(error))?;
    let mut recording = Recording::new(plan, subject, &mut hooked.probes, company)?;
    let armed = hooked.arm(subject, plan.empty_probes)?;
    recording.meter = Meter::start();
    recording.check = Some(Check::begin(subject, &hooked.hooks, &mut hooked.probes)?);
    recording.watch = watch;
    if let Some(watch) = &mut recording.watch {
        watch.begin(subject, &mut hooked, &mut recording.meter)?;
    }
    subject.release()?;
    say_points(plan, &hooked);
    let headline = if watches { watch::headline(subject, &hooked.hooks) } else { hooked.headline(subject) };
    say(plan, &headline);
    company.armed(subject, armed, &hooked);
    let ended = recording.watch(subject, &mut hooked, signals, armed, company).await?;
    // One that has ended meanwhile was not interrupted.
    let ended = if subject.process.still_same() { ended } else { ended.of_one_that_is_gone() };
    signals.next_one_aborts();
    if !matches!(ended, Ended::Finalizing | Ended::Exec | Ended::Gone) {
        recording.last_check(subject, &mut hooked, armed)?;
    }
    hooked.probes.arm(false)?;
    let closed = Closed::now(ended, armed, subject);
    company.ended = Some(ended);
    say(plan, &format!("{}; taking the probes out and reading the books", ended.words()));
    recording.finish(subject, hooked, armed, closed)
}

/// The short report to stdout, and the file that was asked for.
fn publish(plan: &Plan, story: &Story) -> Result<()> {
    let mut text = Vec::new();
    report::write(Format::Text, story, &plan.style, &mut text)?;
    print(&String::from_utf8_lossy(&text))?;
    if let Some(output) = &plan.output {
        let style = report::Style { color: false, ..plan.style };
        output.save(story, &style)?;
        say(plan, &format!("wrote {}", report::plain::clean(&output.path().display().to_string())));
    }
    Ok(())
}

/// A message on stderr, unless `-q`.
fn say(plan: &Plan, message: &str) {
    if plan.messages {
        eprintln!("{message}");
    }
}

/// Every probe point, with `-v`.
fn say_points(plan: &Plan, hooked: &Hooked) {
    if plan.details {
        hooked.hooks.points.iter().for_each(|point| say(plan, &format!("probe point: {point}")));
    }
}

/// What a recording gathers while it runs.
struct Recording<'p> {
    plan: &'p Plan,
    reader: Reader,
    names: Names,
    histories: Histories,
    messages: Option<ProbeMessages>,
    meter: Meter,
    last_rss_bytes: u64,
    /// Begins when counting does.
    check: Option<Check>,
    /// The same, if slow paths only are watched.
    watch: Option<Watch>,
}

impl<'p> Recording<'p> {
    fn new(plan: &'p Plan, subject: &Subject, probes: &mut Probes, company: &Company) -> Result<Self> {
        let frames = Frames::new(subject, company.shared.codes.clone());
        let reader = Reader::start(probes.take_ring()?, frames)?;
        let messages = match plan.probe_log {
            ProbeLog::Off => None,
            ProbeLog::Debug => Some(ProbeMessages::open(probes)?),
        };
        Ok(Self {
            plan,
            reader,
            names: Names::new(subject, &plan.debug_dirs, false)?,
            histories: Histories::default(),
            messages,
            meter: Meter::idle(),
            last_rss_bytes: 0,
            check: None,
            watch: None,
        })
    }

    /// Waits for the end, reading names as they come and sums at every tick.
    async fn watch(
        &mut self,
        subject: &Subject,
        hooked: &mut Hooked,
        signals: &mut Signals,
        armed: Armed,
        company: &mut Company,
    ) -> Result<Ended> {
        let target = subject.end()?;
        let mut ticks = self.ticks();
        let deadline = company.until.unwrap_or(armed.instant + self.plan.duration.unwrap_or(FOREVER));
        loop {
            tokio::select! {
                biased;
                // Its last words may still be in the ring: one that is another program by now was not interrupted.
                () = signals.any() => {
                    return Ok(self.last_words(subject, hooked).await?.unwrap_or(Ended::Interrupted));
                }
                told = self.reader.next() => {
                    if let Some(ended) = self.take(told?, subject, hooked)? {
                        return Ok(ended);
                    }
                }
                ended = target.come() => {
                    ended?;
                    return Ok(self.last_words(subject, hooked).await?.unwrap_or(Ended::Gone));
                }
                () = sleep_until(deadline.into()) => {
                    return Ok(self.last_words(subject, hooked).await?.unwrap_or(Ended::TimeUp));
                }
                () = company.children_come() => company.sweep()?,
                _ = ticks.tick() => self.tick(subject, hooked, armed)?,
            }
        }
    }

    fn ticks(&self) -> Interval {
        let short = self.plan.duration.is_some_and(|duration| duration <= SHORT);
        let mut ticks = interval(if short { SHORT_TICK } else { TICK });
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    /// What the ring holds at the end of the recording, or of the target.
    async fn last_words(&mut self, subject: &Subject, hooked: &mut Hooked) -> Result<Option<Ended>> {
        let rest = self.reader.rest().await?;
        learn(&mut self.names, rest, subject, hooked)
    }

    /// Takes something new, and what has come after it; a milestone of the target ends the recording.
    fn take(&mut self, first: Told, subject: &Subject, hooked: &mut Hooked) -> Result<Option<Ended>> {
        let mut told = vec![first];
        // What has come meanwhile is taken with it, so that one look at what is mapped does for all.
        told.extend(std::iter::from_fn(|| self.reader.more()));
        learn(&mut self.names, told, subject, hooked)
    }

    fn tick(&mut self, subject: &Subject, hooked: &mut Hooked, armed: Armed) -> Result<()> {
        if let Some(rss_bytes) = subject.process.rss_bytes() {
            self.last_rss_bytes = rss_bytes;
        }
        let passed = armed.instant.elapsed();
        if let Some(watch) = &mut self.watch {
            let moment = watch.tick(subject, hooked, &mut self.meter, passed, self.last_rss_bytes)?;
            moment.iter().for_each(|moment| self.histories.observe(moment));
        } else {
            self.histories.observe(&self.moment(&hooked.probes, passed.as_secs_f64())?);
            self.meter.tick(&hooked.method, &mut hooked.probes);
        }
        if let Some(code) = &mut hooked.code {
            code.refresh(subject, &mut hooked.probes)?;
        }
        if let Some(check) = &mut self.check {
            let refused = check.tick(subject, &mut hooked.probes, armed.instant.elapsed());
            self.accept(refused)?;
        }
        if let Some(messages) = &mut self.messages {
            messages.print();
        }
        Ok(())
    }

    /// The check before counting ends.
    fn last_check(&mut self, subject: &Subject, hooked: &mut Hooked, armed: Armed) -> Result<()> {
        if let Some(watch) = &mut self.watch {
            watch.end(subject, hooked, &mut self.meter, armed.instant.elapsed())?;
        }
        let Some(check) = &mut self.check else { return Ok(()) };
        let refused = check.end(subject, &mut hooked.probes, armed.instant.elapsed());
        self.accept(refused)
    }

    /// A refusal of the check, unless `--incomplete` was typed: then the report says it.
    fn accept(&self, refused: Result<()>) -> Result<()> {
        if self.plan.incomplete { Ok(()) } else { refused }
    }

    fn moment(&self, probes: &Probes, seconds: f64) -> Result<Moment> {
        books::moment(probes, seconds, self.last_rss_bytes)
    }

    /// Takes the traps out, reads the books and joins everything into a story.
    fn finish(
        mut self,
        subject: &Subject,
        mut hooked: Hooked,
        armed: Armed,
        closed: Closed,
    ) -> Result<Story> {
        // The ring is read to its end: a stack may have come after the last wake-up.
        let (rest, frames) = self.reader.end()?;
        learn(&mut self.names, rest, subject, &mut hooked)?;
        let Hooked { mut probes, method, links, trap, hooks, code, attach_ms, .. } = hooked;
        self.meter.stop(&method, &mut probes);
        // An interpreter that is ending frees what is to be looked at: then it is read first, and the traps wait.
        let mut links = Some(links);
        let mut detach_ms = 0.0;
        let mut detach = |links: &mut Option<Links>| {
            let begin = Instant::now();
            if links.take().is_some() {
                detach_ms = begin.elapsed().as_secs_f64() * 1e3;
            }
        };
        if closed.ended != Ended::Finalizing {
            detach(&mut links);
        }
        let books = self.books(&mut probes, closed)?;
        let mut facts = story::facts(self.plan, &books, &self.histories, &closed);
        if let Some(watch) = &self.watch {
            watch.complete(&mut facts, &books);
            self.plan.sort.sort(&mut facts);
        }
        let names = self.names.finish(frames);
        let (types, types_unread) = types::of_survivors(subject, &facts);
        detach(&mut links);
        let hits = books::hits(&mut probes)?;
        let spent_ns = self.meter.spent_ns(hits, trap);
        let cost = Cost {
            hits: books.hits,
            target_cpu_fraction: spent_ns / 1e9 / closed.seconds.max(1e-9),
            ns_per_hit: spent_ns / (books.hits.max(1) as f64),
            kernel_bytes: books::kernel_bytes(&probes),
        };
        let check = self.check.take().unwrap_or_default();
        let frame = story::Frame {
            plan: self.plan,
            subject,
            armed,
            closed,
            hooks: &hooks,
            check: &check,
            times_ms: (attach_ms, detach_ms),
            cost,
            names: &names,
            code: code.as_ref(),
        };
        let mut ledger = story::ledger(&frame, &books, &facts, types_unread);
        ledger.watch = self.watch.as_ref().map(Watch::told);
        if ledger.watch.is_some() {
            ledger.engine = "watch";
        }
        Ok(story::tell(&frame, ledger, facts, types))
    }

    /// The books at the end, which are also the last point of the history.
    fn books(&mut self, probes: &mut Probes, closed: Closed) -> Result<Books> {
        let mut books = books::books(probes, self.moment(probes, closed.seconds)?)?;
        if let Some(watch) = &mut self.watch {
            watch.close(&mut books);
        }
        self.histories.observe(&books.last);
        Ok(books)
    }
}

/// Takes what was told. Code that was mapped a moment ago is taken up before the stacks that go through it: more of them come as long as it is not known.
fn learn(
    names: &mut Names,
    told: Vec<Told>,
    subject: &Subject,
    hooked: &mut Hooked,
) -> Result<Option<Ended>> {
    let Hooked { probes, code, .. } = hooked;
    if let Some(code) = code.as_mut() {
        code.answer(subject, probes)?;
        code.refresh_if_old(subject, probes)?;
    }
    let mut ended = None;
    for told in told {
        ended = names.take(told, code.as_ref()).or(ended);
    }
    Ok(ended)
}
