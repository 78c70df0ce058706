//! What the tests of the network have in common: a namespace of their own, and a count of what
//! they leave behind.
//!
//! Nothing of the host is touched: every test works in a thread that has moved to a fresh network
//! namespace. Without root a test says why it did not run; with `REHEARSAL_ROOT_TESTS` set that is a
//! failure.

use std::time::Duration;

use super::sys;

/// Proof that the test may make namespaces.
pub struct Root(());

/// Whether this process may make network namespaces and links in them; otherwise says why not.
pub fn root(test: &str) -> Option<Root> {
    let why = match sys::new_netns(|| Ok(())) {
        Err(error) => format!("cannot make a network namespace: {error}"),
        Ok(_) => match sys::tun_device() {
            Err(error) => format!("cannot open /dev/net/tun: {error}"),
            Ok(_) => return Some(Root(())),
        },
    };
    let must = std::env::var_os("REHEARSAL_ROOT_TESTS").is_some();
    assert!(!must, "{test}: {why}");
    println!("{test}: skipped: {why}");
    None
}

/// Links of the calling thread's network namespace.
fn links() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").expect("/proc");
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, _)| name.trim().to_owned()).collect()
}

/// Runs a test in a thread with a network namespace of its own, for at most a minute, and fails
/// when a link of the namespace that it came from has come or gone.
pub fn in_scratch(test: impl FnOnce() + Send + 'static) {
    let before = links();
    let (done, end) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let home = sys::current_netns().expect("a namespace");
        let (_scratch, ()) = sys::new_netns(|| {
            test();
            Ok(())
        })
        .expect("a scratch namespace");
        drop(home);
        let _ = done.send(());
    });
    match end.recv_timeout(Duration::from_secs(60)) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("the test takes too long"),
        _ => thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
    assert_eq!(links(), before, "nothing outside of the scratch namespace");
}

/// What a program prints, if it is installed.
pub fn run(program: &str, words: &[&str]) -> Option<String> {
    let output = std::process::Command::new(program).args(words).output();
    let output = output.ok()?;
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}
