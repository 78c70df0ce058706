//! Load: arrivals, clients, and what a request costs inside a container.

pub mod model;

pub use model::{AppModel, Traffic};
