//! Who an image's program runs as: names from its own `/etc/passwd` and `/etc/group`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use nix::fcntl::OFlag;

use super::tree::Tree;

/// The largest table that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// A user with groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub user: u32,
    /// The first group.
    pub group: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// The home folder; the root for those that have none.
    pub home: String,
}

/// The tables of users and groups in a root file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    users: Vec<(String, u32, u32, String)>,
    groups: Vec<(String, u32, Vec<String>)>,
}

impl Users {
    /// Of a root file system; without tables there are no names.
    pub fn of(root: &Path) -> Users {
        let read = |path: &str| -> Option<String> {
            let tree = Tree::open(root).ok()?;
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
            let file = File::from(tree.open_at(Path::new(path), flags).ok()?);
            let mut bytes = Vec::new();
            file.take(LARGEST).read_to_end(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        let table = |path: &str| read(path).unwrap_or_default();
        Users::parse(&table("etc/passwd"), &table("etc/group"))
    }

    /// From the tables' texts.
    pub fn parse(passwd: &str, group: &str) -> Users {
        let user = |line: &str| {
            let fields: Vec<&str> = line.split(':').collect();
            let home = fields.get(5).copied().unwrap_or_default().to_owned();
            let number = |n: usize| fields.get(n)?.parse().ok();
            Some((fields[0].to_owned(), number(2)?, number(3)?, home))
        };
        let group_of = |line: &str| {
            let fields: Vec<&str> = line.split(':').collect();
            let members = fields.get(3).copied().unwrap_or_default();
            let members = members.split(',').map(|m| m.trim().to_owned()).collect();
            Some((fields[0].to_owned(), fields.get(2)?.parse().ok()?, members))
        };
        Users {
            users: passwd.lines().filter_map(user).collect(),
            groups: group.lines().filter_map(group_of).collect(),
        }
    }

    /// `user[:group]`, each a name or a number; a number needs no entry.
    ///
    /// # Errors
    /// A name that is in no table.
    pub fn find(&self, text: &str) -> Result<User, String> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let number = user.parse::<u32>().ok();
        let entry = self.users.iter();
        let mut entry = entry.filter(|(name, id, ..)| name == user || number == Some(*id));
        let entry = entry.next();
        let id = match (entry, number) {
            (Some((_, id, ..)), _) => *id,
            (None, Some(number)) => number,
            (None, None) => return Err(format!("its /etc/passwd has no user {user:?}")),
        };
        let group = match group.filter(|group| !group.is_empty()) {
            None => entry.map_or(0, |(_, _, group, _)| *group),
            Some(group) => self.group(group)?,
        };
        let name = entry.map(|(name, ..)| name);
        let groups = self.groups.iter();
        let groups = groups.filter(|(.., members)| name.is_some_and(|n| members.contains(n)));
        let groups = groups.map(|(_, id, _)| *id).collect();
        let home = entry.map(|(.., home)| home.clone()).unwrap_or_default();
        Ok(User {
            user: id,
            group,
            groups,
            home: if home.is_empty() {
                "/".to_owned()
            } else {
                home
            },
        })
    }

    fn group(&self, text: &str) -> Result<u32, String> {
        let known = self.groups.iter().find(|(name, ..)| name == text);
        match (known, text.parse()) {
            (Some((_, id, _)), _) => Ok(*id),
            (None, Ok(number)) => Ok(number),
            (None, Err(_)) => Err(format!("its /etc/group has no group {text:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_names_or_numbers_of_the_images_tables() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/srv/web:/bin/false\nbroken\n";
        let group = "root:x:0:\nweb:x:102:\nlogs:x:7:web, root\n";
        let users = Users::parse(passwd, group);
        let user = |user, group, groups: &[u32], home: &str| {
            let (groups, home) = (groups.to_vec(), home.to_owned());
            Ok(User {
                user,
                group,
                groups,
                home,
            })
        };
        let missing = |text: &str| Err(text.to_owned());
        let table = [
            ("", user(0, 0, &[7], "/root")),
            ("web", user(101, 102, &[7], "/srv/web")),
            ("101", user(101, 102, &[7], "/srv/web")),
            ("web:logs", user(101, 7, &[7], "/srv/web")),
            ("web:9", user(101, 9, &[7], "/srv/web")),
            ("1000", user(1000, 0, &[], "/")),
            ("1000:1000", user(1000, 1000, &[], "/")),
            ("who", missing("its /etc/passwd has no user \"who\"")),
            ("web:who", missing("its /etc/group has no group \"who\"")),
        ];
        for (text, expected) in table {
            assert_eq!(users.find(text), expected, "{text:?}");
        }
    }
}
