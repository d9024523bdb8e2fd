//! The processes of a story of several: a line each, worst first, and whose a site is.

use super::page::{Ink, Page};
use crate::report::kin::{Joined, Process};
use crate::report::story::{Site, Story};
use crate::report::{plain, units};

/// Processes in the table.
const ROWS: usize = 12;
/// Processes named with a site.
const SHARES: usize = 6;

/// The table; nothing where one process was recorded.
pub(super) fn table(page: &mut Page, story: &Story) {
    if story.processes.is_empty() {
        return;
    }
    let mut rows: Vec<&Process> = story.processes.iter().collect();
    rows.sort_by_key(|row| (row.exited, std::cmp::Reverse(row.totals.live_bytes)));
    let exited = rows.iter().filter(|row| row.exited).count();
    page.blank();
    page.heading(&format!("Processes ({}; {exited} of them exited before the end)", rows.len()));
    page.blank();
    for row in rows.iter().take(ROWS) {
        line(page, row);
    }
    if rows.len() > ROWS {
        page.words(&format!(
            "{} more are in the JSON report.",
            units::plural((rows.len() - ROWS) as u64, "process")
        ));
    }
}

fn line(page: &mut Page, row: &Process) {
    let joined = match (row.joined, row.parent, row.unseen_ms) {
        (Joined::Target, ..) => "the target".to_owned(),
        (Joined::Before, ..) => "there before".to_owned(),
        (Joined::Fork, Some(parent), Some(ms)) => format!("forked by {parent}, unseen for {ms:.0} ms"),
        (Joined::Fork, ..) => "forked".to_owned(),
        (Joined::Exec, _, Some(ms)) => format!("new program, unseen for {ms:.0} ms"),
        (Joined::Exec, ..) => "new program".to_owned(),
    };
    let what = if row.exited { "held at exit" } else { "live" };
    let totals = &row.totals;
    let figures = format!(
        "{:>7}  {:>10} {what:<12}  {:>10} allocated  {:<36}  ",
        row.pid,
        units::bytes(totals.live_bytes),
        units::bytes(totals.allocated_bytes),
        joined,
    );
    let command = if row.command.is_empty() { &row.executable } else { &row.command };
    let room = page.width.saturating_sub(plain::columns(&figures)).max(20);
    let ink = if row.exited { Ink::Dim } else { Ink::Plain };
    page.line(&[(ink, &figures), (ink, &plain::shorten(command, room))]);
}

/// Whose the live bytes of a site are, and who held some when it exited; nothing where one process was recorded.
pub(super) fn whose(site: &Site) -> Option<String> {
    let mut shares: Vec<_> = site.processes.iter().filter(|share| share.live_blocks > 0).collect();
    shares.sort_by_key(|share| (share.exited, std::cmp::Reverse(share.live_bytes)));
    let name = |pid: u32| if pid == 0 { "others".to_owned() } else { pid.to_string() };
    let mut words: Vec<String> = shares
        .iter()
        .take(SHARES)
        .map(|share| {
            let exited = if share.exited { " when it exited" } else { "" };
            format!("{} {}{exited}", name(share.pid), units::bytes(share.live_bytes))
        })
        .collect();
    if shares.len() > SHARES {
        words.push(format!("{} more", shares.len() - SHARES));
    }
    (!words.is_empty()).then(|| words.join(", "))
}
