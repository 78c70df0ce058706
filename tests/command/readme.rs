//! What the README shows is what the program prints.

use std::process::Command;

/// Commands whose output the README shows whole. `validate` is shown on a file that is not here,
/// `search` is compared in `search`.
const SHOWN: [&[&str]; 3] = [
    &[
        "audit",
        "scenarios/shop",
        "--only",
        "drain,rollout,bad-image",
    ],
    &["run", "scenarios/node-loss-during-rollout.yaml"],
    &["explain", "results/sample/self-healing", "--at", "05:44"],
];

#[test]
fn the_readme_shows_what_is_printed() {
    let root = env!("CARGO_MANIFEST_DIR");
    let readme = std::fs::read_to_string(format!("{root}/README.md")).expect("the README");
    for arguments in SHOWN {
        let command = format!("$ rehearsal {}\n", arguments.join(" "));
        let shown = readme.split(command.as_str()).nth(1);
        let shown = shown.unwrap_or_else(|| panic!("the README shows {command}"));
        let shown = shown.split("```").next().expect("an end");
        // A results folder would be named below.
        let more: &[&str] = if arguments[0] == "run" {
            &["--no-out"]
        } else {
            &[]
        };
        let ran = Command::new(env!("CARGO_BIN_EXE_rehearsal"))
            .args(arguments)
            .args(more)
            .current_dir(root)
            .output()
            .expect("the program runs");
        assert_eq!(String::from_utf8_lossy(&ran.stdout), shown, "{command}");
    }
}
