//! kubectl verbs: parsed from their command lines, run against the API like any other client.
//!
//! [`parse()`] turns a line of a timeline into a [`Verb`] or says which word of it is wrong. A [`Run`]
//! carries a verb out: it reads the API server's current objects (kubectl's GETs are fresh), sends
//! writes one after the other, waits where kubectl waits, and ends with kubectl's own words.
//!
//! It knows controllers only for what kubectl itself computes (rollout history, rollout status).
//!
//! Read first: [`verb`], then [`run`]; [`words`] splits and checks command lines.

pub mod words;

pub mod verb;

pub mod parse;

pub mod run;

pub mod edit;

pub mod apply;

pub mod autoscale;

mod refusal;

pub mod resources;

mod selector;

pub mod rollout;

mod told;
pub mod wait;

pub use parse::parse;
pub use run::Run;
pub use verb::{ParseError, Verb};
