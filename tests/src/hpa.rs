//! A HorizontalPodAutoscaler of Kubernetes and a scaler of KEDA, as their documents say that they decide, over metrics that a test
//! reads from real processes. Time is what the caller says it is. Must never start or stop anything.

use crate::chart::Chart;

/// How often Kubernetes looks (`--horizontal-pod-autoscaler-sync-period`), in seconds.
pub const SYNC_SECONDS: f64 = 15.0;
/// What a metric may be off its target without consequence (`--horizontal-pod-autoscaler-tolerance`).
const TOLERANCE: f64 = 0.1;

/// What a metric is on average of all pods, and what it should be.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Average of the pods.
    pub average: f64,
    /// Its target.
    pub target: f64,
}

/// How fast it may go in one direction.
#[derive(Clone, Debug)]
struct Direction {
    window_seconds: f64,
    policies: Vec<Policy>,
}

#[derive(Clone, Copy, Debug)]
struct Policy {
    percent: bool,
    value: f64,
    period_seconds: f64,
}

impl Direction {
    fn of(chart: &Chart, path: &str) -> Self {
        let policy = |fields: Vec<(String, String)>| {
            let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap();
            let number = |name: &str| field(name).parse().unwrap();
            Policy { percent: field("type") == "Percent", value: number("value"), period_seconds: number("periodSeconds") }
        };
        Self {
            window_seconds: chart.number(&format!("{path}.stabilizationWindowSeconds")),
            policies: chart.items(&format!("{path}.policies")).into_iter().map(policy).collect(),
        }
    }
}

/// The autoscaler.
#[derive(Clone, Debug)]
pub struct Hpa {
    min: u32,
    max: u32,
    up: Direction,
    down: Direction,
    /// What the metrics alone asked for, and when.
    wanted: Vec<(f64, u32)>,
    /// By how many pods it changed, and when.
    changes: Vec<(f64, i64)>,
}

impl Hpa {
    /// That of the chart's gateways, with the bounds of their HorizontalPodAutoscaler or of their ScaledObject.
    pub fn of_gateways(chart: &Chart, bounds: &str) -> Self {
        let bound = |name: &str| chart.number(&format!("gateway.{bounds}.{name}")) as u32;
        Self {
            min: bound("minReplicas"),
            max: bound("maxReplicas"),
            up: Direction::of(chart, "gateway.autoscaling.behavior.scaleUp"),
            down: Direction::of(chart, "gateway.autoscaling.behavior.scaleDown"),
            wanted: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// The same with room for fewer, as a machine of tests has.
    pub fn at_most(mut self, max: u32) -> Self {
        self.max = self.max.min(max);
        self
    }

    /// Fewest pods.
    pub fn min(&self) -> u32 {
        self.min
    }

    /// How many pods there should be at `now`, in seconds, when there are `current`.
    pub fn decide(&mut self, now: f64, current: u32, readings: &[Reading]) -> u32 {
        let of = |reading: &Reading| {
            let ratio = reading.average / reading.target;
            if (ratio - 1.0).abs() <= TOLERANCE { current } else { (f64::from(current) * ratio).ceil() as u32 }
        };
        // The metric that wants most decides.
        let wanted = readings.iter().map(of).max().unwrap_or(current).clamp(self.min, self.max);
        self.wanted.push((now, wanted));
        let within = |seconds: f64| self.wanted.iter().filter(move |(at, _)| *at >= now - seconds).map(|(_, wanted)| *wanted);
        let stabilized = if wanted > current {
            within(self.up.window_seconds).min().unwrap_or(wanted).max(current)
        } else {
            within(self.down.window_seconds).max().unwrap_or(wanted).min(current)
        };
        let next = self.paced(now, current, stabilized).clamp(self.min, self.max);
        if next != current {
            self.changes.push((now, i64::from(next) - i64::from(current)));
        }
        next
    }

    /// No faster than the policies allow; where there are several, the one that allows most. They count from what their period began
    /// with, which all changes in it tell, in both directions (`calculateScaleUpLimitWithScalingRules` and its counterpart).
    fn paced(&self, now: f64, current: u32, wanted: u32) -> u32 {
        let grows = wanted > current;
        let changed = |policy: &Policy| -> i64 {
            let in_period = self.changes.iter().filter(|(at, _)| *at > now - policy.period_seconds);
            in_period.map(|(_, by)| *by).sum()
        };
        let bound = |policy: &Policy| {
            let start = (i64::from(current) - changed(policy)) as f64;
            let by = if policy.percent { start * policy.value / 100.0 } else { policy.value };
            if grows { (start + by).ceil() } else { (start - by).floor().max(0.0) }
        };
        if wanted == current {
            current
        } else if grows {
            wanted.min((self.up.policies.iter().map(bound).fold(0.0, f64::max) as u32).max(current))
        } else {
            wanted.max((self.down.policies.iter().map(bound).fold(f64::INFINITY, f64::min) as u32).min(current))
        }
    }

    /// How often it turned from growing to shrinking, or back.
    pub fn turns(&self) -> usize {
        self.changes.windows(2).filter(|pair| (pair[0].1 > 0) != (pair[1].1 > 0)).count()
    }
}

/// KEDA's ScaledObject of the compactors.
#[derive(Clone, Debug)]
pub struct Keda {
    min: u32,
    max: u32,
    backlog_bytes: f64,
    wake_bytes: f64,
    /// How far back what was produced counts, in seconds.
    pub window_seconds: f64,
    cooldown_seconds: f64,
    active_at: Option<f64>,
}

impl Keda {
    /// That of the chart.
    pub fn of_compactors(chart: &Chart) -> Self {
        let number = |name: &str| chart.number(&format!("compactor.keda.{name}"));
        let window = chart.text("compactor.keda.window");
        let unit = if window.ends_with('h') { 3_600.0 } else { 60.0 };
        Self {
            min: number("minReplicas") as u32,
            max: number("maxReplicas") as u32,
            backlog_bytes: number("backlogBytes"),
            wake_bytes: number("wakeBytes"),
            window_seconds: window.trim_end_matches(['m', 'h']).parse::<f64>().unwrap() * unit,
            cooldown_seconds: number("cooldownSeconds"),
            active_at: None,
        }
    }

    /// How many compactors there should be at `now`, by the largest backlog that one tells (0 while none runs) and by what was
    /// produced in the window.
    pub fn decide(&mut self, now: f64, current: u32, backlog: f64, produced: f64) -> u32 {
        if backlog > 0.0 || produced > self.wake_bytes - 1.0 {
            self.active_at = Some(now);
            return ((backlog / self.backlog_bytes).ceil() as u32).clamp(self.min.max(1), self.max);
        }
        let cools = self.active_at.is_some_and(|active| now - active < self.cooldown_seconds);
        if cools { current } else { self.min }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hpa() -> Hpa {
        Hpa::of_gateways(&Chart::read(), "autoscaling")
    }

    fn reading(average: f64) -> Reading {
        Reading { average, target: 100.0 }
    }

    #[test]
    fn it_grows_by_the_formula_and_at_the_pace_of_the_policy() {
        let mut hpa = hpa();
        assert_eq!(hpa.decide(0.0, 2, &[reading(109.0)]), 2, "within the tolerance");
        assert_eq!(hpa.decide(15.0, 2, &[reading(30.0), reading(140.0)]), 3, "the metric that wants most decides");
        // At most twice as many in 30 s: from 2.
        assert_eq!(hpa.decide(30.0, 3, &[reading(400.0)]), 4);
        assert_eq!(hpa.decide(61.0, 4, &[reading(400.0)]), 8);
        assert_eq!(hpa.decide(100.0, 8, &[reading(400.0)]), 10, "the most there may be");
        assert_eq!(hpa.turns(), 0);
    }

    #[test]
    fn it_shrinks_one_by_one_and_only_when_nothing_else_was_wanted_for_long() {
        let mut hpa = hpa();
        assert_eq!(hpa.decide(0.0, 4, &[reading(100.0)]), 4);
        let mut current = 4;
        let mut when = Vec::new();
        for tick in 1..60 {
            let now = f64::from(tick) * SYNC_SECONDS;
            let next = hpa.decide(now, current, &[reading(1.0)]);
            if next != current {
                assert_eq!(next, current - 1);
                when.push(now);
                current = next;
            }
        }
        assert_eq!(current, 2);
        assert!(when[0] > 300.0 && when[1] - when[0] >= 60.0, "{when:?}");
        assert_eq!(hpa.decide(1_000.0, 2, &[reading(150.0)]), 3);
        assert_eq!(hpa.turns(), 1);
    }

    #[test]
    fn a_policy_counts_from_what_its_period_began_with_in_both_directions() {
        let changed = |changes: &[(f64, i64)]| Hpa { changes: changes.to_vec(), ..hpa() };
        // One went: another goes when a minute is over, and growth counts from the four that there were.
        let shrunk = changed(&[(0.0, -1)]);
        assert_eq!((shrunk.paced(59.0, 3, 1), shrunk.paced(60.0, 3, 1)), (3, 2));
        assert_eq!((shrunk.paced(29.0, 3, 10), shrunk.paced(30.0, 3, 10)), (8, 6));
        // Two came: they may go at once, and one more.
        let grown = changed(&[(0.0, 2)]);
        assert_eq!((grown.paced(59.0, 4, 0), grown.paced(60.0, 4, 0)), (1, 3));
        assert_eq!((grown.paced(29.0, 4, 10), grown.paced(30.0, 4, 10)), (4, 8));
        // Up and down again is nothing.
        assert_eq!(changed(&[(0.0, 2), (15.0, -2)]).paced(29.0, 2, 10), 4);
    }

    #[test]
    fn compactors_go_to_none_after_the_cooldown_and_come_back_when_something_is_produced() {
        let mut keda = Keda::of_compactors(&Chart::read());
        assert_eq!(keda.decide(0.0, 0, 0.0, 0.0), 0);
        assert_eq!(keda.decide(30.0, 0, 0.0, 1.0), 1, "something was produced");
        assert_eq!(keda.decide(60.0, 1, 2.5 * 1_073_741_824.0, 1.0), 3);
        assert_eq!(keda.decide(90.0, 3, 0.0, 0.0), 3, "it cools down");
        assert_eq!(keda.decide(60.0 + 900.0, 3, 0.0, 0.0), 0);
    }
}
