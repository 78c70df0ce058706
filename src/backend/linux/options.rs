//! How a real run is set up.

use std::path::PathBuf;

use super::plan::images::Images;

/// How a real run is set up.
#[derive(Clone, Debug)]
pub struct LinuxOptions {
    /// The program that is started as the cell: this one.
    pub program: PathBuf,
    /// Where logs of containers go; none keeps no logs.
    pub logs: Option<PathBuf>,
    /// What image names stand for.
    pub images: Images,
    /// What part of a core's time a core of the scenario has, in thousandths; none fits the
    /// scenario's nodes into the host.
    pub cpu_permille: Option<u32>,
    /// How many times faster than the wall's the clock goes while nothing real goes on.
    pub speed: u32,
    /// Who is told at once what cannot be done as asked: nobody need wait for the end of a run to
    /// learn why it does not go on.
    pub tell: fn(&str),
}

impl Default for LinuxOptions {
    fn default() -> Self {
        LinuxOptions {
            program: super::spawn::own_program(),
            logs: None,
            images: Images::default(),
            cpu_permille: None,
            speed: 1,
            tell: |_| (),
        }
    }
}
