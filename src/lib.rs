//! `rehearsal` rehearses a Kubernetes cluster's bad days before they happen.

pub mod engine;
