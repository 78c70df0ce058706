//! The network of a real run: the kernel's, in namespaces of its own.
//!
//! What it does not know: pods, kubelets, the API. It is told addresses, rules and arrivals, and
//! answers with what happened and when.
