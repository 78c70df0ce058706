//! What a container takes on from its image: command, arguments, environment, user, working
//! folder, with what the pod says put over it.
//!
//! As the kubelet (`pkg/kubelet/container/helpers.go :: ExpandContainerCommandAndArgs`,
//! `pkg/kubelet/kuberuntime/security_context_others.go`) and the container runtime below it do
//! (containerd, `WithProcessArgs`, `WithUser`, `WithAdditionalGIDs`).

use std::collections::BTreeMap;

use serde_json::Value;

use super::env;
use super::images::Taken;
use crate::backend::linux::cell::child::DEFAULT_PATH;
use crate::backend::linux::image::manifest::Config;
use crate::backend::linux::protocol::{Program, Rights, Root};

fn words(json: &Value, key: &str, known: &BTreeMap<String, String>) -> Vec<String> {
    let list = json
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    list.filter_map(Value::as_str)
        .map(|word| env::expand(word, known))
        .collect()
}

/// `command` takes the place of the image's entry point and makes its arguments void; `args` take
/// the place of the image's arguments.
///
/// # Errors
/// Neither says what to run.
pub fn program(
    root: Root,
    config: &Config,
    json: &Value,
    own: &[(String, String)],
) -> Result<Program, String> {
    let known: BTreeMap<String, String> = own.iter().cloned().collect();
    let (command, mut args) = (words(json, "command", &known), words(json, "args", &known));
    let mut argv = command;
    if argv.is_empty() {
        argv = config.entrypoint.clone();
        if args.is_empty() {
            args = config.cmd.clone();
        }
    }
    argv.extend(args);
    if argv.is_empty() {
        return Err("no command specified".to_owned());
    }
    let folder = json.get("workingDir").and_then(Value::as_str);
    let folder = folder.filter(|folder| !folder.is_empty());
    let cwd = folder.unwrap_or(&config.working_dir);
    // A relative one counts from the root.
    let cwd = format!("/{}", cwd.trim_start_matches('/'));
    Ok(Program::Exec { root, argv, cwd })
}

/// The image's environment, with the container's own over it.
pub fn environment(
    config: &Config,
    hostname: &str,
    home: &str,
    own: Vec<(String, String)>,
) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = vec![
        ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
        ("HOSTNAME".to_owned(), hostname.to_owned()),
    ];
    let image = config.env.iter().filter_map(|entry| entry.split_once('='));
    let image = image.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for (name, value) in image.chain(own) {
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => all.push((name, value)),
        }
    }
    if !all.iter().any(|(name, _)| name == "HOME") {
        all.push(("HOME".to_owned(), home.to_owned()));
    }
    all
}

/// Settles who the container runs as; the home folder.
///
/// # Errors
/// `runAsNonRoot` forbids it (`verifyRunAsNonRoot`), or the image names a user that it does not
/// have.
pub fn user(
    taken: &Taken,
    pod: &Value,
    container: &Value,
    rights: &mut Rights,
) -> Result<String, String> {
    let contexts = [container.get("securityContext"), pod.get("securityContext")];
    let of = |key: &str| contexts.iter().flatten().find_map(|c| c.get(key));
    let run_as = of("runAsUser").and_then(Value::as_u64);
    let written = &taken.config.user;
    if of("runAsNonRoot").and_then(Value::as_bool) == Some(true) {
        let name = written.split(':').next().unwrap_or_default();
        let why = match (run_as, name.parse::<u32>()) {
            (Some(0), _) => "container's runAsUser breaks non-root policy".to_owned(),
            (Some(_), _) => String::new(),
            (None, Err(_)) if !name.is_empty() => format!(
                "container has runAsNonRoot and image has non-numeric user ({name}), cannot \
                 verify user is non-root"
            ),
            (None, Ok(number)) if number != 0 => String::new(),
            (None, _) => "container has runAsNonRoot and image will run as root".to_owned(),
        };
        if !why.is_empty() {
            return Err(why);
        }
    }
    let text = run_as.map_or_else(|| written.clone(), |user| user.to_string());
    let found = taken.users.find(&text)?;
    let group = of("runAsGroup").and_then(Value::as_u64);
    let group = group.and_then(|group| u32::try_from(group).ok());
    rights.user = (found.user, group.unwrap_or(found.group));
    for group in found.groups {
        if !rights.groups.contains(&group) {
            rights.groups.push(group);
        }
    }
    Ok(found.home)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::linux::image::users::Users;
    use serde_json::json;

    fn config() -> Config {
        Config {
            entrypoint: vec!["/entry".to_owned()],
            cmd: vec!["a".to_owned(), "b".to_owned()],
            env: vec![
                "PATH=/opt".to_owned(),
                "A=image".to_owned(),
                "C=c".to_owned(),
            ],
            working_dir: "/srv".to_owned(),
            user: "web".to_owned(),
            stop_signal: String::new(),
        }
    }

    #[test]
    fn commands_and_arguments_are_the_containers_or_the_images() {
        let own = [("B".to_owned(), "own".to_owned())];
        // The image's variables are not known to the kubelet, so $(C) stays as it is.
        let table = [
            (json!({}), "/entry a b", "/srv"),
            (json!({"args": ["$(B)", "$(C)"]}), "/entry own $(C)", "/srv"),
            (json!({"command": ["/x"]}), "/x", "/srv"),
            (json!({"command": ["/x"], "args": ["y"]}), "/x y", "/srv"),
            (json!({"workingDir": "/w"}), "/entry a b", "/w"),
        ];
        for (json, expected, folder) in table {
            let program = program(Root::Host, &config(), &json, &own).expect("a program");
            let Program::Exec { argv, cwd, .. } = program else {
                panic!("another program");
            };
            assert_eq!((argv.join(" ").as_str(), cwd.as_str()), (expected, folder));
        }
        let nothing = program(Root::Host, &Config::default(), &json!({}), &own);
        assert_eq!(nothing.expect_err("nothing to run"), "no command specified");
    }

    #[test]
    fn the_containers_environment_lies_over_the_images() {
        let own = [("A", "own"), ("HOME", "/here")];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let all = |config: &Config, own: &[(String, String)]| {
            let all = environment(config, "pod", "/root", own.to_vec());
            let all: Vec<String> = all.iter().map(|(n, v)| format!("{n}={v}")).collect();
            all.join(" ")
        };
        assert_eq!(
            all(&config(), &own),
            "PATH=/opt HOSTNAME=pod A=own C=c HOME=/here"
        );
        assert_eq!(
            all(&Config::default(), &[]),
            format!("PATH={DEFAULT_PATH} HOSTNAME=pod HOME=/root")
        );
    }

    #[test]
    fn the_user_is_the_pods_or_the_images() {
        let taken = |user: &str| Taken {
            config: Config {
                user: user.to_owned(),
                ..Config::default()
            },
            users: Users::parse("web:x:101:102::/srv:/bin/sh", "logs:x:7:web"),
        };
        let context = |json: Value| json!({"securityContext": json});
        let non_root = || context(json!({"runAsNonRoot": true}));
        let root = "container has runAsNonRoot and image will run as root";
        let named = "container has runAsNonRoot and image has non-numeric user (web), cannot \
                     verify user is non-root";
        // image's user, pod, container; user and groups
        let table = [
            ("", json!({}), json!({}), Ok((0, 0))),
            ("web", json!({}), json!({}), Ok((101, 102))),
            (
                "web",
                context(json!({"runAsUser": 9})),
                json!({}),
                Ok((9, 0)),
            ),
            (
                "web",
                context(json!({"runAsUser": 9})),
                context(json!({"runAsUser": 101, "runAsGroup": 5})),
                Ok((101, 5)),
            ),
            ("", non_root(), json!({}), Err(root)),
            ("0", non_root(), json!({}), Err(root)),
            ("web", non_root(), json!({}), Err(named)),
            ("101", non_root(), json!({}), Ok((101, 102))),
            (
                "",
                non_root(),
                context(json!({"runAsUser": 0})),
                Err("container's runAsUser breaks non-root policy"),
            ),
            (
                "who",
                json!({}),
                json!({}),
                Err("its /etc/passwd has no user \"who\""),
            ),
        ];
        for (image, pod, container, expected) in table {
            let mut rights = Rights::default();
            let found = user(&taken(image), &pod, &container, &mut rights);
            let found = found.map(|_| rights.user);
            assert_eq!(
                found,
                expected.map_err(str::to_owned),
                "{image} {pod} {container}"
            );
        }
    }
}
