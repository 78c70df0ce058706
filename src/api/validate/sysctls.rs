//! Parameters of the kernel that a pod asks for (`validateSysctls`, and `GetNamespace` of the
//! kubelet's list).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodSecurityContext, PodSpec};

use super::field::{At, Errors};

/// Parameters of communication between processes.
const IPC: [&str; 10] = [
    "kernel.shm",
    "kernel.msg",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
];

/// `validateSysctls`: parameters of the kernel, and that they are the pod's own.
pub(super) fn sysctls(
    context: &PodSecurityContext,
    spec: &PodSpec,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let mut names = BTreeSet::new();
    for (i, parameter) in context.sysctls.iter().flatten().enumerate() {
        let name = parameter.name.as_str();
        let item = at.item(i);
        let at = item.field("name");
        if name.is_empty() {
            errors.required(&at, "");
        } else if name.len() > 253 || !is_sysctl(name) {
            let detail = "must have at most 253 characters and match regex \
                          ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.invalid(&at, name, detail);
        } else if !names.insert(name) {
            errors.duplicate(&at, name);
        }
        let dotted = dotted(name);
        let of_ipc = IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.");
        if spec.host_network == Some(true) && dotted.starts_with("net.") {
            errors.invalid(&at, name, "may not be specified when 'hostNetwork' is true");
        } else if spec.host_ipc == Some(true) && of_ipc {
            errors.invalid(&at, name, "may not be specified when 'hostIPC' is true");
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    name.split(['.', '/']).all(|part| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = part.as_bytes();
        let ends = [bytes.first(), bytes.last()];
        ends.iter().all(|end| end.is_some_and(|b| plain(*b)))
            && bytes.iter().all(|b| plain(*b) || matches!(b, b'-' | b'_'))
    })
}

/// A name with slashes for separators, with dots instead (`ConvertSysctlVariableToDotsSeparator`).
fn dotted(name: &str) -> String {
    let slashes = name
        .find(['.', '/'])
        .is_some_and(|at| name[at..].starts_with('/'));
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    match slashes {
        true => name.chars().map(swap).collect(),
        false => name.to_owned(),
    }
}
