//! The operating system of a pod: what a Linux pod and a Windows pod may not ask for, and the
//! options of Windows itself.
//!
//! `validateOS`, `validateLinux`, `validateWindows`, `validateWindowsHostProcessPod` and
//! `validateWindowsSecurityContextOptions` of `pkg/apis/core/validation/validation.go`.

use k8s_openapi::api::core::v1::{PodSpec, SecurityContext, WindowsSecurityContextOptions};
use serde_json::{Value, json};

use super::field::{At, Errors};
use super::names::dns_subdomain;

const NOT_ON_WINDOWS: &str = "cannot be set for a windows pod";
const NOT_ON_LINUX: &str = "windows options cannot be set for a linux pod";

/// Fields of a pod that Windows does not know, as they are written, in the order of the checks.
const POD_FIELDS: [&str; 15] = [
    "securityContext.appArmorProfile",
    "securityContext.seLinuxOptions",
    "hostUsers",
    "hostPID",
    "hostIPC",
    "securityContext.seccompProfile",
    "securityContext.fsGroup",
    "securityContext.fsGroupChangePolicy",
    "securityContext.sysctls",
    "shareProcessNamespace",
    "securityContext.runAsUser",
    "securityContext.runAsGroup",
    "securityContext.supplementalGroups",
    "securityContext.supplementalGroupsPolicy",
    "securityContext.seLinuxChangePolicy",
];

/// Fields of a container's security context that Windows does not know.
const CONTAINER_FIELDS: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// The security contexts of all containers, each with its list and place.
fn contexts(spec: &PodSpec) -> Vec<(&'static str, usize, Option<&SecurityContext>)> {
    let of_container = |list: &'static str| move |(i, context)| (list, i, context);
    let init = spec.init_containers.iter().flatten();
    let init = init.map(|c| c.security_context.as_ref()).enumerate();
    let regular = spec.containers.iter();
    let regular = regular.map(|c| c.security_context.as_ref()).enumerate();
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let ephemeral = ephemeral.map(|c| c.security_context.as_ref()).enumerate();
    init.map(of_container("initContainers"))
        .chain(regular.map(of_container("containers")))
        .chain(ephemeral.map(of_container("ephemeralContainers")))
        .collect()
}

/// Calls `check` with the place of each security context that there is.
fn each_context(spec: &PodSpec, at: &At<'_>, mut check: impl FnMut(&SecurityContext, &At<'_>)) {
    for (list, i, context) in contexts(spec) {
        if let Some(context) = context {
            let list = at.field(list);
            let item = list.item(i);
            check(context, &item.field("securityContext"));
        }
    }
}

/// `validateOS` and what follows from the system.
pub(super) fn operating_system(spec: &PodSpec, at: &At<'_>, errors: &mut Errors) {
    let Some(os) = &spec.os else {
        return;
    };
    let os_at = at.field("os");
    match os.name.as_str() {
        "" => errors.required(&os_at.field("name"), ""),
        "linux" => linux(spec, at, errors),
        "windows" => windows(spec, at, errors),
        other => errors.not_supported(&os_at, other, &["linux", "windows"]),
    }
}

fn linux(spec: &PodSpec, at: &At<'_>, errors: &mut Errors) {
    let of_pod = spec.security_context.as_ref();
    if of_pod.is_some_and(|context| context.windows_options.is_some()) {
        errors.forbidden(&at.field("securityContext.windowsOptions"), NOT_ON_LINUX);
    }
    each_context(spec, at, |context, at| {
        if context.windows_options.is_some() {
            errors.forbidden(&at.field("windowsOptions"), NOT_ON_LINUX);
        }
    });
}

fn windows(spec: &PodSpec, at: &At<'_>, errors: &mut Errors) {
    let context = json!(spec.security_context);
    let own = json!({
        "hostUsers": spec.host_users,
        "hostPID": spec.host_pid.filter(|on| *on),
        "hostIPC": spec.host_ipc.filter(|on| *on),
        "shareProcessNamespace": spec.share_process_namespace,
    });
    for field in POD_FIELDS {
        let value = match field.strip_prefix("securityContext.") {
            Some(inner) => &context[inner],
            None => &own[field],
        };
        let empty = field == "securityContext.sysctls" && value == &json!([]);
        if !value.is_null() && !empty {
            errors.forbidden(&at.field(field), NOT_ON_WINDOWS);
        }
    }
    each_context(spec, at, |context, at| {
        let context = json!(context);
        for field in CONTAINER_FIELDS {
            if !context[field].is_null() {
                errors.forbidden(&at.field(field), NOT_ON_WINDOWS);
            }
        }
    });
}

/// `validateWindowsHostProcessPod`.
pub(super) fn host_processes(spec: &PodSpec, at: &At<'_>, errors: &mut Errors) {
    let host = |options: Option<&WindowsSecurityContextOptions>| options?.host_process;
    let of_pod = spec.security_context.as_ref();
    let of_pod = host(of_pod.and_then(|context| context.windows_options.as_ref()));
    let contexts = contexts(spec);
    let mut on_host = 0;
    for (list, i, context) in &contexts {
        let own = host(context.and_then(|context| context.windows_options.as_ref()));
        if let (Some(pod), Some(own)) = (of_pod, own)
            && pod != own
        {
            let list = at.field(list);
            let item = list.item(*i);
            let detail =
                format!("pod hostProcess value must be identical if both are specified, was {pod}");
            let at = item.field("securityContext.windowsOptions.hostProcess");
            errors.invalid(&at, &Value::from(own), &detail);
        }
        on_host += usize::from(own.or(of_pod) == Some(true));
    }
    if on_host == 0 {
        return;
    }
    if on_host != contexts.len() {
        let detail = "If pod contains any hostProcess containers then all containers must be \
                      HostProcess containers";
        errors.invalid(at, "", detail);
    }
    if spec.host_network != Some(true) {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.invalid(&at.field("hostNetwork"), &Value::from(false), detail);
    }
}

/// `validateWindowsSecurityContextOptions`.
pub(super) fn options(
    options: &Option<WindowsSecurityContextOptions>,
    at: &At<'_>,
    errors: &mut Errors,
) {
    const LONGEST: usize = 64 << 10;
    let Some(options) = options else {
        return;
    };
    if let Some(name) = &options.gmsa_credential_spec_name {
        let at = at.field("gmsaCredentialSpecName");
        errors.invalid_each(&at, name, dns_subdomain(name));
    }
    if let Some(text) = &options.gmsa_credential_spec {
        let at = at.field("gmsaCredentialSpec");
        if text.is_empty() {
            errors.invalid(&at, text, "gmsaCredentialSpec cannot be an empty string");
        } else if text.len() > LONGEST {
            errors.invalid(&at, text, "gmsaCredentialSpec size must be under 64 KiB");
        }
    }
    if let Some(name) = &options.run_as_user_name {
        let at = at.field("runAsUserName");
        for detail in user_name(name) {
            errors.invalid(&at, name, &detail);
        }
    }
}

/// What is wrong with `DOMAIN\USER` or `USER`.
fn user_name(name: &str) -> Vec<String> {
    let about = |what: &str| vec![format!("runAsUserName {what}")];
    if name.is_empty() {
        return about("cannot be an empty string");
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return about("cannot contain control characters");
    }
    let (domain, user) = match name.split_once('\\') {
        Some((_, user)) if user.contains('\\') => {
            return about("cannot contain more than one backslash");
        }
        Some((domain, user)) => (Some(domain), user),
        None => (None, name),
    };
    let mut messages = Vec::new();
    let mut say = |wrong: bool, what: &str| {
        if wrong {
            messages.push(format!("runAsUserName's {what}"));
        }
    };
    let length = domain.map_or(0, str::len);
    say(length >= 256, "Domain length must be under 256 characters");
    let unknown = domain.is_some_and(|d| !net_bios(d) && !dns_domain(d));
    say(
        unknown,
        "Domain doesn't match the NetBios nor the DNS format",
    );
    say(user.is_empty(), "User cannot be empty");
    let long = "User length must not be longer than 104 characters";
    say(user.len() > 104, long);
    let dots = !user.is_empty() && user.chars().all(|c| c == '.' || c == ' ');
    say(dots, "User cannot contain only periods or spaces");
    let odd = user.contains(|c| "\"/\\:;|=,+*?<>@[]".contains(c));
    let detail = "User cannot contain the following characters: \"/\\:;|=,+*?<>@[]";
    say(odd, detail);
    messages
}

fn net_bios(domain: &str) -> bool {
    let plain = |c: char| !"\\/:*?\"<>|".contains(c);
    let short = (1..=15).contains(&domain.chars().count());
    short && !domain.starts_with('.') && domain.chars().all(plain)
}

/// Labels of letters, digits and dashes with dots between, in either case.
fn dns_domain(domain: &str) -> bool {
    domain.split('.').all(|label| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty()
            && label.chars().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}
