//! Tests of the module `replica_set`.
