//! kube-scheduler 1.36: which node a pod goes to.
//!
//! What it is: the scheduling queue, the framework with the in-tree plugins, the cache of nodes,
//! one cycle at a time, binding and preemption, as upstream decides them and in the same order
//! (`pkg/scheduler`). Scores are integers; floats appear only where upstream has them. What it does
//! not know: who creates pods, what runs on nodes, how long a request takes. It reads a lagging
//! view and asks for writes; it holds no clock.
//!
//! Left out of the reference version, whose defaults have them on: resource claims, and opportunistic
//! batching, which only profiles without default spread constraints ever do. Pod groups and waiting
//! for a group are off by default there.
//!
//! Read first: [`scheduler`] (the component), [`cycle`] (one attempt), [`framework`] and [`plugin`]
//! (what plugins are), [`plugins`] (what they do). Then [`queue`], [`cache`], [`preempt`]; [`equal_pods`]
//! makes cycles cheap.
//! [`explain`](explain::explain) answers "why there?" without changing anything.

pub mod scheduler;

pub mod cycle;

pub mod framework;

pub mod plugin;

pub mod plugins;

pub mod events;

pub mod queue;

pub mod cache;

pub mod node_info;

pub mod node_tree;

pub mod template;

pub mod equal_pods;

pub mod ranking;

pub mod refusals;

pub mod preempt;

pub mod config;

pub mod explain;

pub use config::SchedulerConfig;
pub use events::concerns;
pub use explain::{Explanation, explain};
pub use scheduler::{Event, Moment, Scheduler};

#[cfg(test)]
mod tests;
