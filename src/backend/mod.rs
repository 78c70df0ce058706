//! Who answers runtime requests.
//!
//! [`sim`] answers them from latency models. It is a function of the run so far, so nothing that it
//! says is journalled. [`linux`] is the only module allowed to read the wall clock, start threads or
//! use `unsafe`.

pub mod sim;

#[cfg(target_os = "linux")]
pub mod linux;
