//! Expectations, invariants, comparisons: reads, never steers.
