//! Who answers runtime requests.
//!
//! [`sim`] answers them from latency models. It is a function of the run so far, so nothing that it
//! says is journalled. The only module allowed to read the wall clock, start threads or use `unsafe`
//! would be the Linux backend beside it.

pub mod sim;
