//! From what a metric asks for to what is done: stabilization, rates, bounds.
//!
//! What was recommended and done lately lives in the memory of the process, as upstream: a
//! controller manager that starts again has forgotten it.

use std::time::Duration;

use crate::api::autoscaling::{Behavior, ScalingRules, SelectPolicy};
use crate::api::selector::LabelSelector;
use crate::engine::Time;

/// A reason and a message.
type Said = (&'static str, &'static str);

const WITHIN: Said = (
    "DesiredWithinRange",
    "the desired count is within the acceptable range",
);
const READY: Said = ("ReadyForNewScale", "recommended size matches current size");
const DOWN_STABILIZED: Said = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent \
     recommendation",
);
const UP_STABILIZED: Said = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const UP_LIMIT: Said = (
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
);
const DOWN_LIMIT: Said = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);
const TOO_MANY: Said = (
    "TooManyReplicas",
    "the desired replica count is more than the maximum replica count",
);
const TOO_FEW: Said = (
    "TooFewReplicas",
    "the desired replica count is less than the minimum replica count",
);

/// What the process remembers of an autoscaler.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Of its target's scale; nothing before the first sync.
    pub selector: LabelSelector,
    /// Recommendations before stabilization.
    recommendations: Vec<(i32, Time)>,
    ups: Vec<Scaling>,
    downs: Vec<Scaling>,
}

impl Default for Memory {
    fn default() -> Self {
        Memory {
            selector: LabelSelector::nothing(),
            recommendations: Vec::new(),
            ups: Vec::new(),
            downs: Vec::new(),
        }
    }
}

/// `timestampedScaleEvent`.
#[derive(Clone, Copy, Debug)]
struct Scaling {
    /// Replicas that came or went.
    change: i32,
    at: Time,
    outdated: bool,
}

/// What metrics ask for, and within which bounds.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Replicas now.
    pub current: i32,
    /// Replicas that the metrics ask for.
    pub proposed: i32,
    /// `minReplicas`.
    pub least: i32,
    /// `maxReplicas`.
    pub most: i32,
}

/// What becomes of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normalized {
    /// Replicas after all.
    pub desired: i32,
    /// Replicas after stabilization, before rates and bounds.
    pub stabilized: i32,
    /// Reason and message of the condition `AbleToScale`.
    pub able: Said,
    /// Reason and message of the condition `ScalingLimited`.
    pub limited: Said,
}

fn seconds(n: i32) -> Duration {
    Duration::from_secs(u64::try_from(n).unwrap_or(0))
}

/// Whether `at` is within the `window` that ends `now` (`time.After(cutoff)`).
fn within(at: Time, window: Duration, now: Time) -> bool {
    at + window > now
}

/// `time.Before(cutoff)`.
fn before(at: Time, window: Duration, now: Time) -> bool {
    at + window < now
}

impl Memory {
    /// `recordInitialRecommendation`.
    pub fn record_initial(&mut self, replicas: i32, now: Time) {
        if self.recommendations.is_empty() {
            self.recommendations.push((replicas, now));
        }
    }

    /// Puts a recommendation in the place of an old one, or beside the others.
    fn recommend(&mut self, old: Option<usize>, replicas: i32, now: Time) {
        match old {
            Some(at) => self.recommendations[at] = (replicas, now),
            None => self.recommendations.push((replicas, now)),
        }
    }

    /// `normalizeDesiredReplicas`: the most that was recommended within the window, at most twice
    /// the replicas or four.
    pub fn normalize(&mut self, wish: Wish, window: Duration, now: Time) -> Normalized {
        let (mut stabilized, mut old) = (wish.proposed, None);
        for (i, (replicas, at)) in self.recommendations.iter().enumerate() {
            if before(*at, window, now) {
                old = Some(i);
            } else {
                stabilized = stabilized.max(*replicas);
            }
        }
        self.recommend(old, wish.proposed, now);
        let (desired, limited) = bounded(wish, stabilized);
        Normalized {
            desired,
            stabilized,
            able: match stabilized == wish.proposed {
                true => READY,
                false => DOWN_STABILIZED,
            },
            limited,
        }
    }

    /// `normalizeDesiredReplicasWithBehaviors`; `window` is that of scaling down where the
    /// behaviour names none.
    pub fn normalize_with(
        &mut self,
        wish: Wish,
        behavior: &Behavior,
        window: Duration,
        now: Time,
    ) -> Normalized {
        let up = behavior.up.window_s.map_or(Duration::ZERO, seconds);
        let down = behavior.down.window_s.map_or(window, seconds);
        let stabilized = self.stabilize(wish, up, down, now);
        let able = if stabilized == wish.proposed {
            READY
        } else if wish.proposed >= wish.current {
            UP_STABILIZED
        } else {
            DOWN_STABILIZED
        };
        let (desired, limited) = self.rated(wish, stabilized, behavior, now);
        Normalized {
            desired,
            stabilized,
            able,
            limited,
        }
    }

    /// `stabilizeRecommendationWithBehaviors`.
    fn stabilize(&mut self, wish: Wish, up: Duration, down: Duration, now: Time) -> i32 {
        let (mut lowest, mut highest) = (wish.proposed, wish.proposed);
        let mut old = None;
        for (i, (replicas, at)) in self.recommendations.iter().enumerate() {
            if within(*at, up, now) {
                lowest = lowest.min(*replicas);
            }
            if within(*at, down, now) {
                highest = highest.max(*replicas);
            }
            if before(*at, up, now) && before(*at, down, now) {
                old = Some(i);
            }
        }
        self.recommend(old, wish.proposed, now);
        wish.current.max(lowest).min(highest)
    }

    /// `convertDesiredReplicasWithBehaviorRate`.
    fn rated(&self, wish: Wish, desired: i32, behavior: &Behavior, now: Time) -> (i32, Said) {
        if desired > wish.current {
            let limit = self.up_limit(wish.current, &behavior.up, now);
            let limit = limit.max(wish.current);
            let (most, why) = match wish.most > limit {
                true => (limit, UP_LIMIT),
                false => (wish.most, TOO_MANY),
            };
            if desired > most {
                return (most, why);
            }
        } else if desired < wish.current {
            let limit = self.down_limit(wish.current, &behavior.down, now);
            let limit = limit.min(wish.current);
            let (least, why) = match wish.least < limit {
                true => (limit, DOWN_LIMIT),
                false => (wish.least, TOO_FEW),
            };
            if desired < least {
                return (least, why);
            }
        }
        (desired, WITHIN)
    }

    /// Replicas at the beginning of a policy's period.
    fn at_start(&self, current: i32, period_s: i32, now: Time) -> i32 {
        let changed = |scalings: &[Scaling]| -> i32 {
            let recent = scalings
                .iter()
                .filter(|s| within(s.at, seconds(period_s), now));
            recent.map(|scaling| scaling.change).sum()
        };
        current - changed(&self.ups) + changed(&self.downs)
    }

    /// `calculateScaleUpLimitWithScalingRules`.
    fn up_limit(&self, current: i32, rules: &ScalingRules, now: Time) -> i32 {
        let limits = rules.policies.iter().map(|policy| {
            let start = self.at_start(current, policy.period_s, now);
            match policy.percent {
                false => start.saturating_add(policy.value),
                // Rounded up: otherwise one replica would stay one for ever.
                true => {
                    let factor = 1.0 + f64::from(policy.value) / 100.0;
                    (f64::from(start) * factor).ceil() as i32
                }
            }
        });
        match rules.select {
            SelectPolicy::Disabled => current,
            SelectPolicy::Min => limits.min().unwrap_or(i32::MAX),
            SelectPolicy::Max => limits.max().unwrap_or(i32::MIN),
        }
    }

    /// `calculateScaleDownLimitWithBehaviors`.
    fn down_limit(&self, current: i32, rules: &ScalingRules, now: Time) -> i32 {
        let limits = rules.policies.iter().map(|policy| {
            let start = self.at_start(current, policy.period_s, now);
            match policy.percent {
                false => start.saturating_sub(policy.value),
                true => {
                    let factor = 1.0 - f64::from(policy.value) / 100.0;
                    (f64::from(start) * factor) as i32
                }
            }
        });
        match rules.select {
            SelectPolicy::Disabled => current,
            // The least change leaves the most.
            SelectPolicy::Min => limits.max().unwrap_or(i32::MIN),
            SelectPolicy::Max => limits.min().unwrap_or(i32::MAX),
        }
    }

    /// `storeScaleEvent`: in the place of one that no policy looks at any more, or beside the
    /// others.
    pub fn record_scaling(&mut self, before: i32, after: i32, behavior: &Behavior, now: Time) {
        let (scalings, rules) = match after > before {
            true => (&mut self.ups, &behavior.up),
            false => (&mut self.downs, &behavior.down),
        };
        let longest = rules.policies.iter().map(|policy| policy.period_s).max();
        let longest = seconds(longest.unwrap_or(0));
        for scaling in scalings.iter_mut() {
            scaling.outdated |= self::before(scaling.at, longest, now);
        }
        let new = Scaling {
            change: (after - before).abs(),
            at: now,
            outdated: false,
        };
        match scalings.iter().rposition(|scaling| scaling.outdated) {
            Some(at) => scalings[at] = new,
            None => scalings.push(new),
        }
    }
}

/// `convertDesiredReplicasWithRules`.
fn bounded(wish: Wish, desired: i32) -> (i32, Said) {
    // `calculateScaleUpLimit`.
    let limit = wish.current.saturating_mul(2).max(4);
    let (most, why) = match wish.most > limit {
        true => (limit, UP_LIMIT),
        false => (wish.most, TOO_MANY),
    };
    if desired < wish.least {
        (wish.least, TOO_FEW)
    } else if desired > most {
        (most, why)
    } else {
        (desired, WITHIN)
    }
}

#[cfg(test)]
mod tests;
