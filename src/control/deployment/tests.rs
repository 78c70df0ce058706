//! Tests of the module `deployment`.
