//! Reading YAML as kubectl does.
