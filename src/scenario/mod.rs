//! Scenario input: parsed, validated, every value located.
