//! kubectl verbs: parsed from their command lines, run as plans against a view.
