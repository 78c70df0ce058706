//! Users and groups of the cell's user namespace, where there is no root.
//!
//! The user who runs the program is root in it. With a range of subordinate ids (`/etc/subuid`,
//! `/etc/subgid`) and the programs that hand them out (`newuidmap`, `newgidmap`) there are others;
//! without, containers have one user, whatever they ask for.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::libc;

/// Where programs that hand out ids are looked for.
const FOLDERS: [&str; 3] = ["/usr/bin", "/bin", "/usr/local/bin"];

/// A range of ids of the host, as ids 1 and up of the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u32,
    count: u32,
}

/// Whom a user namespace has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Users {
    user: u32,
    group: u32,
    /// Further users and groups, and the programs that hand them out.
    more: Option<[(PathBuf, Range); 2]>,
}

impl Users {
    /// Those that this process's user may have.
    pub fn of_this_process() -> Users {
        let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let name = nix::unistd::User::from_uid(user).ok().flatten();
        let name = name.map(|user| user.name).unwrap_or_default();
        let handed = |program: &str, table: &str| {
            let program = FOLDERS.iter().map(|f| PathBuf::from(f).join(program));
            let program = program.into_iter().find(|path| path.exists())?;
            let table = std::fs::read_to_string(table).ok()?;
            Some((program, range(&table, &name, user.as_raw())?))
        };
        let users = handed("newuidmap", "/etc/subuid");
        let groups = handed("newgidmap", "/etc/subgid");
        Users {
            user: user.as_raw(),
            group: group.as_raw(),
            more: users.zip(groups).map(|(users, groups)| [users, groups]),
        }
    }

    /// Whether it has this user and group.
    pub fn has(&self, user: u32, group: u32) -> bool {
        let within = |id: u32, range: Option<Range>| id <= range.map_or(0, |range| range.count);
        let [users, groups] = match &self.more {
            Some([(_, users), (_, groups)]) => [Some(*users), Some(*groups)],
            None => [None, None],
        };
        within(user, users) && within(group, groups)
    }

    /// Gives a new process, which waits in its user namespace, its users.
    ///
    /// # Errors
    /// The kernel's, or a helper's that refuses.
    pub fn map(&self, pid: libc::pid_t) -> io::Result<()> {
        let own = |id: u32| format!("0 {id} 1");
        match &self.more {
            Some([users, groups]) => {
                hand_out(users, pid, self.user)?;
                hand_out(groups, pid, self.group)
            }
            None => {
                std::fs::write(format!("/proc/{pid}/uid_map"), own(self.user))?;
                // Groups may deny something to their members, who must not leave them.
                std::fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
                std::fs::write(format!("/proc/{pid}/gid_map"), own(self.group))
            }
        }
    }

    /// What a run in a user namespace does not have.
    pub fn lost(&self) -> String {
        let user = self.user;
        let users = match &self.more {
            Some([(_, range), _]) => format!("containers have {} other users", range.count),
            None => "containers have no other user: runAsUser and owners of files are ignored \
                     (/etc/subuid with newuidmap gives more)"
                .to_owned(),
        };
        format!("without root, in a user namespace: user {user} is root there, {users}")
    }
}

/// The first range of a user in a table of subordinate ids.
fn range(table: &str, name: &str, user: u32) -> Option<Range> {
    let number = user.to_string();
    let mut ranges = table.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let own = (!name.is_empty() && owner == name) || owner == number;
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        own.then_some(Range { first, count })
    });
    ranges.find(|range| range.count > 0)
}

fn hand_out(by: &(PathBuf, Range), pid: libc::pid_t, own: u32) -> io::Result<()> {
    let (program, Range { first, count }) = by;
    let numbers = [0, own, 1, 1, *first, *count].map(|n| n.to_string());
    let mut command = Command::new(program);
    command
        .arg(pid.to_string())
        .args(numbers)
        .stdin(Stdio::null());
    let output = command.output()?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(io::Error::other(format!("{}: {why}", program.display())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_belong_to_names_or_numbers() {
        let table = "root:1:2\nann:100000:65536\n1001:200000:10\nbroken\nann:300000:1\nbob:x:1\n";
        let found = |first, count| Some(Range { first, count });
        let cases = [
            ("ann", 1000, found(100_000, 65536)),
            ("eve", 1001, found(200_000, 10)),
            ("", 1001, found(200_000, 10)),
            ("bob", 1002, None),
            ("", 1003, None),
        ];
        for (name, user, expected) in cases {
            assert_eq!(range(table, name, user), expected, "{name} {user}");
        }
    }

    #[test]
    fn a_namespace_has_its_root_and_what_was_handed_out() {
        let alone = Users {
            user: 1000,
            group: 1000,
            more: None,
        };
        let of = |count| {
            (
                PathBuf::new(),
                Range {
                    first: 100_000,
                    count,
                },
            )
        };
        let several = Users {
            more: Some([of(10), of(5)]),
            ..alone.clone()
        };
        // user, group, in the namespace of one, in that of several
        let cases = [
            (0, 0, true, true),
            (1, 0, false, true),
            (10, 5, false, true),
            (10, 6, false, false),
        ];
        for (user, group, one, more) in cases {
            assert_eq!(
                (alone.has(user, group), several.has(user, group)),
                (one, more)
            );
        }
    }
}
