//! Numbers that are none: JSON has no word for them, and a capture with `null` in it could not be read again.

use std::borrow::Cow;

use super::sampling::{Sampling, SiteErrors, SumErrors};
use super::story::{Site, Story};

/// What is written for an error without a bound. 0 would call the estimate exact.
const NO_BOUND: f64 = f64::MAX;

/// The story with 0 for what is not a number, and an error that covers everything for an error that is none.
pub(super) fn finite(story: &Story) -> Cow<'_, Story> {
    let site = |site: &Site| {
        let errors = site.errors.as_ref();
        site.growth_bytes_per_second.is_finite()
            && site.growth_at_least.is_none_or(f64::is_finite)
            && errors.is_none_or(|errors| sums(&errors.sums) && errors.growth_bytes_per_second.is_finite())
    };
    let ratios = [story.seconds, story.cost.target_cpu_fraction, story.cost.ns_per_hit];
    // A story is large: it is copied only when there is something to mend, and most of it are the sites.
    let whole = ratios.into_iter().all(f64::is_finite)
        && story.sampling.as_ref().is_none_or(measured)
        && story.totals.errors.as_ref().is_none_or(sums)
        && story.sites.iter().all(site);
    if whole { Cow::Borrowed(story) } else { Cow::Owned(mended(story.clone())) }
}

fn sums(errors: &SumErrors) -> bool {
    let mut errors = *errors;
    widths(&mut errors).into_iter().all(|width| width.is_finite())
}

fn measured(sampling: &Sampling) -> bool {
    let mut sampling = sampling.clone();
    measures(&mut sampling).into_iter().all(|measure| measure.is_finite())
}

fn mended(mut story: Story) -> Story {
    let cost = &mut story.cost;
    let ratios = [&mut story.seconds, &mut cost.target_cpu_fraction, &mut cost.ns_per_hit];
    let growths = story
        .sites
        .iter_mut()
        .flat_map(|site| std::iter::once(&mut site.growth_bytes_per_second).chain(&mut site.growth_at_least));
    let sampling = story.sampling.iter_mut().flat_map(measures);
    replace(ratios.into_iter().chain(growths).chain(sampling), 0.0);
    let of_sites = story.sites.iter_mut().filter_map(|site| site.errors.as_mut());
    let of_sites = of_sites.flat_map(|SiteErrors { sums, growth_bytes_per_second }| {
        widths(sums).into_iter().chain([growth_bytes_per_second])
    });
    replace(of_sites.chain(story.totals.errors.iter_mut().flat_map(widths)), NO_BOUND);
    story
}

fn replace<'a>(numbers: impl Iterator<Item = &'a mut f64>, by: f64) {
    numbers.filter(|number| !number.is_finite()).for_each(|number| *number = by);
}

fn widths(errors: &mut SumErrors) -> [&mut f64; 6] {
    let SumErrors { allocated_bytes, allocated_blocks, freed_bytes, freed_blocks, live_bytes, live_blocks } =
        errors;
    [allocated_bytes, allocated_blocks, freed_bytes, freed_blocks, live_bytes, live_blocks]
}

fn measures(sampling: &mut Sampling) -> [&mut f64; 11] {
    [
        &mut sampling.budget_percent,
        &mut sampling.open_seconds,
        &mut sampling.open_share,
        &mut sampling.longest_window_ms,
        &mut sampling.mean_interval_seconds,
        &mut sampling.attach_ms_p50,
        &mut sampling.attach_ms_max,
        &mut sampling.traps_in_ms_max,
        &mut sampling.own_cpu_seconds,
        &mut sampling.setup_cpu_seconds,
        &mut sampling.own_cpu_fraction,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Format, Style, archive, fixture, write};

    #[test]
    fn what_is_not_a_number_becomes_zero_or_covers_everything() {
        let mut story = fixture::story();
        assert!(matches!(finite(&story), Cow::Borrowed(_)));
        story.cost.ns_per_hit = f64::NAN;
        story.sites[0].growth_bytes_per_second = f64::INFINITY;
        story.sites[2].growth_at_least = Some(f64::NAN);
        let sums = SumErrors { live_bytes: f64::INFINITY, ..SumErrors::default() };
        story.sites[1].errors = Some(SiteErrors { sums, growth_bytes_per_second: f64::NAN });
        story.totals.errors = Some(sums);
        story.sampling = Some(Sampling { open_share: f64::NAN, ..Sampling::default() });
        let style = Style { color: false, width: 0, top: 0, hide_interpreter: false };
        let mut bytes = Vec::new();
        write(Format::Capture, &story, &style, &mut bytes).unwrap();
        let read = archive::read(&mut bytes.as_slice()).unwrap();
        assert_eq!((read.cost.ns_per_hit, read.sites[0].growth_bytes_per_second), (0.0, 0.0));
        assert_eq!(read.sites[2].growth_at_least, Some(0.0));
        let sums = SumErrors { live_bytes: f64::MAX, ..SumErrors::default() };
        assert_eq!(read.sites[1].errors, Some(SiteErrors { sums, growth_bytes_per_second: f64::MAX }));
        assert_eq!((read.totals.errors, read.sampling), (Some(sums), Some(Sampling::default())));
    }

    #[test]
    fn each_number_alone_is_noticed() {
        let sampled = || {
            let mut story = fixture::story();
            story.sampling = Some(Sampling::default());
            story.totals.errors = Some(SumErrors::default());
            story.sites[0].errors = Some(SiteErrors::default());
            story
        };
        assert!(matches!(finite(&sampled()), Cow::Borrowed(_)));
        for at in 0..11 {
            let mut story = sampled();
            *measures(story.sampling.as_mut().unwrap())[at] = f64::NAN;
            assert_eq!(finite(&story).sampling, Some(Sampling::default()), "{at}");
        }
        for at in 0..6 {
            let mut story = sampled();
            *widths(story.totals.errors.as_mut().unwrap())[at] = f64::NAN;
            *widths(&mut story.sites[0].errors.as_mut().unwrap().sums)[at] = f64::NAN;
            let mended = finite(&story);
            assert!(mended.totals.errors.is_some_and(|errors| sums(&errors)), "{at}");
            assert!(mended.sites[0].errors.is_some_and(|errors| sums(&errors.sums)), "{at}");
        }
    }
}
