//! All that was measured: medians over the rounds, ratios, what each request cost, and the file that keeps it all.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::measured::{Load, Sample, Told};
use super::setting::Setting;

/// How the guest's time passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Time {
    /// With the host's clock.
    Wall,
    /// A nanosecond for each instruction.
    Instructions,
}

impl Time {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Wall => "wall",
            Self::Instructions => "icount",
        }
    }

    /// What a request took under this clock, in nanoseconds. Where the clock counts instructions it leaps when there is
    /// nothing to do, so that only work is counted.
    fn of(self, sample: &Sample) -> f64 {
        match self {
            Self::Wall => sample.nanoseconds(),
            Self::Instructions => sample.work(),
        }
    }

    /// What that is counted in.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Wall => "microseconds of the guest's time",
            Self::Instructions => "thousand instructions of guest and Bouncer",
        }
    }
}

/// One machine's life.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) setting: Setting,
    pub(crate) time: Time,
    pub(crate) told: Told,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Results {
    /// What the machine was: versions, sizes.
    pub(crate) machine: BTreeMap<String, String>,
    /// Lives with loads, in the order in which they were lived.
    pub(crate) runs: Vec<Run>,
    /// Bouncer's totals of a life without loads, by arrangement: what a boot alone costs.
    pub(crate) boots: BTreeMap<&'static str, BTreeMap<String, u64>>,
    /// Arrangements that could not be measured, and why.
    pub(crate) absent: Vec<(Setting, String)>,
    /// What failed.
    pub(crate) failures: Vec<String>,
}

impl Results {
    /// Arrangements with at least one life under this clock, in the order of their first.
    pub(crate) fn settings(&self, time: Time) -> Vec<Setting> {
        let mut settings: Vec<Setting> = Vec::new();
        for run in self.runs.iter().filter(|run| run.time == time) {
            if !settings.contains(&run.setting) {
                settings.push(run.setting);
            }
        }
        settings
    }

    /// Clocks that anything was measured under.
    pub(crate) fn times(&self) -> Vec<Time> {
        let is_there = |time: &Time| self.runs.iter().any(|run| run.time == *time);
        [Time::Wall, Time::Instructions]
            .into_iter()
            .filter(is_there)
            .collect()
    }

    /// Loads that anything was measured for.
    pub(crate) fn loads(&self) -> Vec<Load> {
        let mut loads: Vec<_> = self
            .runs
            .iter()
            .flat_map(|run| run.told.samples.keys().copied())
            .collect();
        loads.sort_unstable();
        loads.dedup();
        loads
    }

    fn samples(&self, setting: &str, time: Time, load: Load) -> impl Iterator<Item = &Sample> {
        let runs = self
            .runs
            .iter()
            .filter(move |run| run.setting.name == setting && run.time == time);
        runs.filter_map(move |run| run.told.samples.get(&load))
    }

    /// The median over the rounds of a request's time, in nanoseconds.
    pub(crate) fn time(&self, setting: &str, time: Time, load: Load) -> Option<f64> {
        median(
            self.samples(setting, time, load)
                .map(|sample| time.of(sample)),
        )
    }

    /// The median over the rounds of this arrangement's time for that of another in the same round.
    pub(crate) fn ratio(&self, setting: &str, to: &str, time: Time, load: Load) -> Option<f64> {
        let ours = self.samples(setting, time, load);
        let pairs = ours.zip(self.samples(to, time, load));
        median(pairs.map(|(ours, theirs)| time.of(ours) / time.of(theirs)))
    }

    /// Something counted, for each request of a load, over all rounds of the wall clock.
    pub(crate) fn per_request(
        &self,
        setting: &str,
        load: Load,
        count: impl Fn(&Sample) -> u64,
    ) -> Option<f64> {
        let (mut counted, mut requests) = (0, 0);
        for sample in self.samples(setting, Time::Wall, load) {
            counted += count(sample);
            requests += sample.requests;
        }
        (requests > 0).then(|| counted as f64 / requests as f64)
    }

    /// Reasons and counters that Bouncer told of in any life of `setting`.
    pub(crate) fn counters(&self, setting: &str) -> Vec<String> {
        let runs = self.runs.iter().filter(|run| run.setting.name == setting);
        let mut names: Vec<_> = runs
            .flat_map(|run| run.told.samples.values())
            .flat_map(|sample| sample.counts.keys().cloned())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Bouncer's totals for each request over all lives under the wall clock, without what a boot alone costs. The
    /// requests are those of the loads and of their warming up.
    pub(crate) fn totals_per_request(&self, setting: &str) -> BTreeMap<String, f64> {
        let Some(boot) = self.boots.get(setting) else {
            return BTreeMap::new();
        };
        let runs = self.runs.iter();
        let runs = runs.filter(|run| run.setting.name == setting && run.time == Time::Wall);
        let (mut totals, mut requests) = (BTreeMap::<String, i128>::new(), 0);
        for run in runs {
            for (key, number) in &run.told.totals {
                let of_boot = boot.get(key).copied().unwrap_or(0);
                *totals.entry(key.clone()).or_insert(0) +=
                    i128::from(*number) - i128::from(of_boot);
            }
            let counted = run.told.samples.values();
            requests += counted
                .map(|sample| sample.requests + super::WARMING)
                .sum::<u64>();
        }
        let each = |(key, total): (String, i128)| (key, total as f64 / requests.max(1) as f64);
        totals.into_iter().map(each).collect()
    }

    /// Everything, for programs.
    pub(crate) fn json(&self) -> Value {
        let runs: Vec<_> = self
            .runs
            .iter()
            .map(|run| {
                let loads: Vec<_> = run
                    .told
                    .samples
                    .iter()
                    .map(|(load, sample)| sample.json(*load))
                    .collect();
                json!({
                    "setting": run.setting.name, "clock": run.time.name(),
                    "place": run.told.place, "loads": loads, "totals": run.told.totals,
                })
            })
            .collect();
        let absent: BTreeMap<_, _> = self
            .absent
            .iter()
            .map(|(setting, why)| (setting.name, why))
            .collect();
        let totals: BTreeMap<_, _> = self
            .boots
            .keys()
            .map(|setting| (*setting, self.totals_per_request(setting)))
            .collect();
        json!({
            "machine": self.machine, "runs": runs, "absent": absent, "failures": self.failures,
            "boots": self.boots, "totals_per_request": totals,
        })
    }
}

/// The middle, or the mean of the two middles.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench::setting;

    pub(crate) const READ: Load = Load {
        block: 4096,
        is_write: false,
        depth: 32,
    };

    pub(crate) fn run(name: &str, milliseconds: u64, exits: u64, invalidations: u64) -> Run {
        let sample = Sample {
            requests: 1000,
            milliseconds,
            busy_nanoseconds: milliseconds * 1000,
            busy_requests: 100,
            interrupts: 900,
            counts: BTreeMap::from([("nested".to_owned(), exits)]),
        };
        Run {
            setting: setting::by_name(name).unwrap(),
            time: Time::Wall,
            told: Told {
                samples: BTreeMap::from([(READ, sample)]),
                totals: BTreeMap::from([("invalidations".to_owned(), invalidations)]),
                place: "internal".into(),
            },
        }
    }

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0].into_iter()), Some(2.5));
        assert_eq!(median([].into_iter()), None);
    }

    #[test]
    fn ratios_are_of_one_round_and_counts_of_all() {
        let mut results = Results::default();
        // The second round is slower for both: the ratio does not see it.
        for (native, copy) in [(100, 150), (300, 450)] {
            results.runs.push(run("native", native, 0, 0));
            results.runs.push(run("copy", copy, 500, 77));
        }
        let time = Time::Wall;
        assert_eq!(results.ratio("copy", "native", time, READ), Some(1.5));
        assert_eq!(results.time("copy", time, READ), Some(300_000.0));
        let exits = results.per_request("copy", READ, |sample| sample.counts["nested"]);
        assert_eq!(exits, Some(0.5));
        assert_eq!(results.counters("copy"), ["nested"]);
        assert_eq!(results.settings(time).len(), 2);
        assert_eq!(results.settings(Time::Instructions), []);
    }

    #[test]
    fn what_a_boot_alone_costs_is_no_requests_cost() {
        let mut results = Results::default();
        results.runs.push(run("copy", 100, 0, 77));
        assert!(results.totals_per_request("copy").is_empty());
        let boot = BTreeMap::from([("invalidations".to_owned(), 77)]);
        results.boots.insert("copy", boot);
        assert_eq!(results.totals_per_request("copy")["invalidations"], 0.0);
    }
}
