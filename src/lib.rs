//! `rehearsal` rehearses a Kubernetes cluster's bad days before they happen.

pub mod engine;

pub mod api;

pub mod store;

pub mod client;

pub mod control;

pub mod sched;

pub mod kubelet;

pub mod net;

pub mod load;

pub mod fault;

pub mod kubectl;

pub mod scenario;

pub mod cluster;

pub mod backend;

pub mod record;

pub mod check;

pub mod report;

pub mod cli;
