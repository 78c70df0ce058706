//! Faults as data: what, where, from when until when.
