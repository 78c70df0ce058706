//! StressChaos and DNSChaos.

use super::{percent_of, refused};
use crate::fault::{Action, CpuStressor, MemoryStressor, Stressors, WrongAnswer};
use crate::scenario::fields::{Fields, Problems, Value};

/// `spec` of a StressChaos.
pub fn stress_action(spec: &Fields<'_>, problems: &mut Problems) -> Option<Action> {
    let containers = spec.texts("containerNames", problems);
    if let Some(value) = spec.get("stressngStressors") {
        problems.push(refused(&value, "stressngStressors"));
        return None;
    }
    let value = spec.get("stressors");
    let parts = ["cpu", "memory"];
    let options = |part: &&str| value.as_ref()?.node.get(part)?.get("options");
    if let (Some(value), true) = (&value, parts.iter().any(|part| options(part).is_some())) {
        problems.push(refused(value, "options of a stressor"));
        return None;
    }
    let stressors = stressors(spec, problems)?;
    Some(Action::Stress {
        stressors,
        containers,
    })
}

/// `stressors`: CPU, memory, or both.
pub fn stressors(spec: &Fields<'_>, problems: &mut Problems) -> Option<Stressors> {
    let value = spec.require("stressors", problems)?;
    let fields = value.fields(problems)?;
    let mut found = Stressors::default();
    if let Some(cpu) = fields.fields("cpu", problems) {
        let load = match cpu.get("load") {
            Some(value) => percent_of(&value, problems)?,
            None => 100,
        };
        let workers = workers(&cpu, problems)?;
        found.cpu = Some(CpuStressor { workers, load });
        cpu.finish(problems);
    }
    if let Some(memory) = fields.fields("memory", problems) {
        // All workers together take the size, and within one container the kernel ends all
        // processes or none, so that neither number decides anything.
        let _ = workers(&memory, problems)?;
        memory.allow(&["oomScoreAdj"]);
        found.memory = Some(match memory.get("size") {
            Some(value) => size(&value, problems)?,
            None => MemoryStressor::Percent(100),
        });
        memory.finish(problems);
    }
    fields.finish(problems);
    if found == Stressors::default() {
        problems.push(value.invalid("needs `cpu` or `memory`"));
        return None;
    }
    Some(found)
}

fn workers(stressor: &Fields<'_>, problems: &mut Problems) -> Option<u32> {
    const MOST: u32 = 8192;
    let value = stressor.require("workers", problems)?;
    let count = value.count(problems)?;
    if !(1..=MOST).contains(&count) {
        problems.push(value.invalid(format!("must be between 1 and {MOST}, inclusive")));
        return None;
    }
    Some(count)
}

/// `256MB`, `64MiB`, `50%`: multiples of 1000 without an `i`, of 1024 with one.
fn size(value: &Value<'_>, problems: &mut Problems) -> Option<MemoryStressor> {
    let text = value.scalar(problems)?;
    let text = text.trim();
    if text.ends_with('%') {
        return percent_of(value, problems).map(MemoryStressor::Percent);
    }
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.'));
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let unit = unit.trim().to_ascii_lowercase();
    let base: u64 = if unit.contains('i') { 1024 } else { 1000 };
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => Some(0),
        "k" => Some(1),
        "m" => Some(2),
        "g" => Some(3),
        "t" => Some(4),
        _ => None,
    };
    let bytes = number.parse::<f64>().ok().zip(power);
    let bytes = bytes.map(|(number, power)| number * base.pow(power) as f64);
    match bytes.filter(|bytes| (1.0..=1e15).contains(bytes)) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range was checked"
        )]
        Some(bytes) => Some(MemoryStressor::Bytes(bytes as u64)),
        None => {
            let wrong = value.invalid("must be a size in bytes, or a percentage of the memory");
            problems.push(wrong.hint("256MB, 64MiB or 50%"));
            None
        }
    }
}

/// `spec` of a DNSChaos.
pub fn dns_action(spec: &Fields<'_>, problems: &mut Problems) -> Option<Action> {
    let value = spec.require("action", problems)?;
    let answer = match value.word(&["error", "random"], problems)? {
        "error" => WrongAnswer::Error,
        _ => WrongAnswer::Random,
    };
    for value in spec.list("patterns", problems) {
        // `api/v1alpha1/dnschaos_webhook.go`: a star stands at the end alone.
        let text = value.text(problems)?;
        if text.trim_end_matches('*').contains('*') || text.ends_with("**") {
            problems.push(value.invalid("may have `*` at its end alone"));
            return None;
        }
    }
    let patterns = spec.texts("patterns", problems);
    spec.allow(&["containerNames"]);
    Some(Action::Dns { patterns, answer })
}
