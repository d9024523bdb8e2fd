//! What a workload says of one phase.

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Durations of single units of work, in milliseconds by the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// One phase.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Phase {
    /// Units of work, above 0.
    pub(crate) units: f64,
    /// CPU of the process, above 0.
    pub(crate) cpu_seconds: f64,
    pub(crate) wall_seconds: f64,
    /// The CPU of all units over what they would have taken had each been like the median of its neighbours; `None` where single units' CPU is
    /// not known. 1.05: five percent were paid by few.
    pub(crate) unevenness: Option<f64>,
    pub(crate) latency: Latency,
}

impl Phase {
    /// Reads a workload's answer.
    pub(crate) fn parse(line: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(line).with_context(|| format!("it answered {line:?}"))?;
        let number = |path: &str| value.pointer(path).and_then(Value::as_f64);
        let positive = |path: &str| {
            number(path)
                .filter(|number| *number > 0.0)
                .with_context(|| format!("its answer has no {path}: {line}"))
        };
        let ms = |name: &str| positive(&format!("/wall_ms/{name}"));
        Ok(Self {
            units: positive("/units")?,
            cpu_seconds: positive("/cpu_seconds")?,
            wall_seconds: positive("/wall_seconds")?,
            unevenness: number("/unit_cpu_seconds")
                .zip(number("/steady_cpu_seconds"))
                .map(|(all, even)| all / even),
            latency: Latency { p50: ms("p50")?, p99: ms("p99")?, p999: ms("p999")?, max: ms("max")? },
        })
    }

    /// Units of work for a second of CPU.
    pub(crate) fn rate(&self) -> f64 {
        self.units / self.cpu_seconds
    }

    /// The processors that it kept busy; 1: one.
    pub(crate) fn busy(&self) -> f64 {
        self.cpu_seconds / self.wall_seconds
    }

    /// For the file of results.
    pub(crate) fn json(&self) -> Value {
        let Latency { p50, p99, p999, max } = self.latency;
        json!({
            "units": self.units, "cpu_seconds": self.cpu_seconds, "wall_seconds": self.wall_seconds, "unevenness": self.unevenness,
            "latency_ms": {"p50": p50, "p99": p99, "p999": p999, "max": max},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_half_an_answer_is_not() {
        let line = r#"{"units":100,"cpu_seconds":0.5,"wall_seconds":1.0,"unit_cpu_seconds":0.42,"steady_cpu_seconds":0.4,
            "wall_ms":{"p50":1,"p99":2,"p999":3,"max":4}}"#;
        let phase = Phase::parse(line).expect("a whole answer");
        assert!((phase.rate() - 200.0).abs() < 1e-9 && (phase.busy() - 0.5).abs() < 1e-9);
        assert!(phase.unevenness.is_some_and(|it| (it - 1.05).abs() < 1e-9));
        assert!((phase.latency.p999 - 3.0).abs() < 1e-9);
        assert!(Phase::parse(&line.replace("\"units\":100", "\"units\":0")).is_err());
        assert!(Phase::parse("READY").is_err());
        let without = Phase::parse(&line.replace("steady", "other")).expect("a server's answer");
        assert_eq!(without.unevenness, None);
    }
}
