//! The words behind a verb, where a verb takes many: flags with a value, flags without, and nothing else.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};

/// The flags that were given.
#[derive(Debug, Default)]
pub(crate) struct Flags(HashMap<&'static str, String>);

impl Flags {
    /// Reads `--name VALUE` for each of `valued` and `--name` for each of `bare`; anything else is an error that tells what there is.
    pub(crate) fn parse(args: &[String], valued: &[&'static str], bare: &[&'static str]) -> Result<Self> {
        let mut found = HashMap::new();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let word = arg.strip_prefix("--").unwrap_or_default();
            let known = |names: &[&'static str]| names.iter().copied().find(|name| *name == word);
            if let Some(name) = known(valued) {
                let value = args.next().with_context(|| format!("--{name} takes a value"))?;
                found.insert(name, value.clone());
            } else if let Some(name) = known(bare) {
                found.insert(name, String::new());
            } else {
                bail!("{arg:?} is no flag here; there are --{}", [valued, bare].concat().join(", --"));
            }
        }
        Ok(Self(found))
    }

    /// Whether a flag without a value was given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The value of a flag.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A number above zero, or what stands for it when the flag was not given.
    pub(crate) fn number(&self, name: &str, otherwise: f64) -> Result<f64> {
        let Some(text) = self.text(name) else { return Ok(otherwise) };
        let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
        number.with_context(|| format!("--{name} takes a number above zero, not {text:?}"))
    }

    /// A count of at least one.
    pub(crate) fn count(&self, name: &str, otherwise: usize) -> Result<usize> {
        let Some(text) = self.text(name) else { return Ok(otherwise) };
        let count = text.parse().ok().filter(|count| *count > 0);
        count.with_context(|| format!("--{name} takes a count, not {text:?}"))
    }

    /// The members of `all` whose names a list names, in the order of `all`; all of them when the flag was not given.
    pub(crate) fn chosen<T: Copy>(
        &self,
        name: &str,
        all: &[T],
        name_of: fn(&T) -> &'static str,
    ) -> Result<Vec<T>> {
        let Some(text) = self.text(name) else { return Ok(all.to_vec()) };
        let wanted: Vec<&str> = text.split(',').collect();
        if let Some(unknown) = wanted.iter().find(|word| !all.iter().any(|one| name_of(one) == **word)) {
            let names: Vec<&str> = all.iter().map(name_of).collect();
            bail!("--{name}: there is no {unknown:?}; there are {}", names.join(", "));
        }
        Ok(all.iter().filter(|one| wanted.contains(&name_of(one))).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Flags> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Flags::parse(&words, &["seconds", "only", "rounds"], &["quick"])
    }

    #[test]
    fn flags_have_values_or_none() {
        let flags = of("--seconds 2.5 --quick --rounds 3").expect("known flags");
        assert!(flags.has("quick") && !flags.has("only"));
        assert_eq!(flags.number("seconds", 1.0).ok(), Some(2.5));
        assert_eq!((flags.count("rounds", 1).ok(), flags.count("only", 7).ok()), (Some(3), Some(7)));
    }

    #[test]
    fn a_choice_keeps_the_order_of_the_table() {
        let all = ["json", "class", "http"];
        let flags = of("--only http,json").expect("a known flag");
        assert_eq!(flags.chosen("only", &all, |name| name).ok(), Some(vec!["json", "http"]));
        assert!(of("--only http,tea").expect("a known flag").chosen("only", &all, |name| name).is_err());
        assert_eq!(of("").expect("nothing").chosen("only", &all, |name| name).ok(), Some(all.to_vec()));
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["quick", "--slow", "--seconds", "-quick"] {
            assert!(of(line).is_err(), "{line} was taken");
        }
        for line in ["--seconds 0", "--seconds many", "--seconds inf"] {
            assert!(of(line).expect("a known flag").number("seconds", 1.0).is_err(), "{line} was taken");
        }
    }
}
