//! Tables, CSV, plots, stories: a pure function of a results folder.
