//! What a run leaves behind: milestones, causes, metrics, journal, digest.
