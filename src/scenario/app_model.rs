//! AppModel documents: how the containers of some pods behave.
//!
//! Every field but the selector has a default ([`crate::load::model`]). Spans of time may be fixed
//! (`20s`) or drawn: `{lognormal: {p50, p99}}`, `{exponential: {mean}}`, `{uniform: {min, max}}`,
//! `{normal: {mean, sd}}`, `{weibull: {shape, scale}}`, `{empirical: [[0.5, 10ms], [1, 80ms]]}`.

use std::time::Duration;

use super::fields::{Fields, Problems, Value};
use crate::api::Text;
use crate::api::yaml::Node;
use crate::engine::Dist;
use crate::load::model::{
    AppModel, Call, Client, DiskModel, ExitModel, FilesModel, MemoryModel, OnSigterm, ProbeModel,
    ProcessesModel, RequestModel, Warmup,
};

/// An AppModel with what has to be checked against the objects later.
#[derive(Debug)]
pub struct AppDraft<'n> {
    /// The model.
    pub model: AppModel,
    /// `spec.selector`.
    pub selector: Value<'n>,
    /// `service` of every call, and every one of `needs`.
    pub services: Vec<Value<'n>>,
    /// `spec.container`.
    pub container: Option<Value<'n>>,
}

/// Reads an AppModel; `namespace` is that of the scenario.
pub fn read<'n>(doc: &'n Node, namespace: &Text, problems: &mut Problems) -> Option<AppDraft<'n>> {
    let fields = Fields::document(doc);
    let (name, namespace) = super::spec::metadata(&fields, namespace, problems);
    let spec = fields.require("spec", problems)?.fields(problems);
    fields.finish(problems);
    let spec = spec?;
    let selector = spec.require("selector", problems);
    let requirements = selector.as_ref().and_then(|value| value.selector(problems));
    let mut services = Vec::new();
    let standard = AppModel::default();
    let model = AppModel {
        name: name?,
        namespace,
        selector: requirements.unwrap_or_default(),
        container: spec.text("container", problems),
        image_pull: dist(spec.get("imagePull"), problems),
        startup: dist(spec.get("startup"), problems).unwrap_or(standard.startup),
        warmup: spec
            .get("warmup")
            .and_then(|value| warmup(&value, problems)),
        on_sigterm: (spec
            .get("onSIGTERM")
            .and_then(|value| on_sigterm(&value, problems)))
        .unwrap_or_default(),
        request: (spec.fields("request", problems)).map_or_else(RequestModel::default, |f| {
            request(&f, &mut services, problems)
        }),
        probes: (spec.fields("probes", problems))
            .map_or_else(ProbeModel::default, |f| probes(&f, problems)),
        memory: (spec.fields("memory", problems))
            .map_or_else(MemoryModel::default, |f| memory(&f, problems)),
        disk: (spec.fields("disk", problems))
            .map_or_else(DiskModel::default, |f| disk(&f, problems)),
        files: (spec.fields("files", problems))
            .map_or_else(FilesModel::default, |f| files(&f, problems)),
        processes: (spec.fields("processes", problems))
            .map_or_else(ProcessesModel::default, |f| processes(&f, problems)),
        exit: spec
            .fields("exit", problems)
            .and_then(|f| exit(&f, problems)),
        hook: dist(spec.get("hook"), problems).unwrap_or(standard.hook),
        ports: ports(&spec, problems),
        needs: spec.texts("needs", problems),
    };
    services.extend(spec.list("needs", &mut Vec::new()));
    spec.finish(problems);
    Some(AppDraft {
        model,
        selector: selector?,
        services,
        container: spec.get("container"),
    })
}

fn ports(spec: &Fields<'_>, problems: &mut Problems) -> Vec<u16> {
    let mut ports = Vec::new();
    for item in spec.list("ports", problems) {
        let number = item.whole(problems);
        match number.map(u16::try_from) {
            Some(Ok(port)) if port > 0 => ports.push(port),
            Some(_) => problems.push(item.invalid("must be between 1 and 65535, inclusive")),
            None => {}
        }
    }
    ports
}

/// A span of time, fixed or drawn.
pub fn dist(value: Option<Value<'_>>, problems: &mut Problems) -> Option<Dist> {
    let value = value?;
    if value.node.as_map().is_none() {
        return value.duration(problems).map(Dist::Fixed);
    }
    let fields = value.fields(problems)?;
    let words = [
        "fixed",
        "uniform",
        "exponential",
        "lognormal",
        "normal",
        "weibull",
    ];
    let given = words
        .iter()
        .filter(|word| fields.get(word).is_some())
        .count();
    let dist = match fields.get("empirical") {
        Some(points) if given == 0 => empirical(&points, problems),
        None if given == 1 => words.iter().find_map(|word| {
            let parameters = fields.get(word)?;
            parametric(word, &parameters, problems)
        }),
        _ => {
            let wrong = value.invalid("must name one distribution");
            let (keys, _) = keys(&value);
            let known = words.into_iter().chain(["empirical"]);
            problems.push(match keys.first() {
                Some(key) if given == 0 => wrong.suggest(key, known),
                _ => wrong.hint(
                    "one of: fixed, uniform, exponential, lognormal, normal, weibull, empirical",
                ),
            });
            return None;
        }
    };
    fields.finish(problems);
    let dist = dist?;
    if let Err(error) = dist.check() {
        problems.push(value.invalid(error));
        return None;
    }
    Some(dist)
}

fn keys<'n>(value: &Value<'n>) -> (Vec<&'n str>, usize) {
    let keys: Vec<&str> =
        (value.node.as_map()).map_or_else(Vec::new, |map| map.keys().map(|key| &**key).collect());
    let count = keys.len();
    (keys, count)
}

fn parametric(word: &str, value: &Value<'_>, problems: &mut Problems) -> Option<Dist> {
    if word == "fixed" {
        return value.duration(problems).map(Dist::Fixed);
    }
    let fields = value.fields(problems)?;
    let span = |key, problems: &mut Problems| -> Option<Duration> {
        fields.require(key, problems)?.duration(problems)
    };
    let dist = match word {
        "uniform" => {
            let (min, max) = (span("min", problems), span("max", problems));
            min.zip(max).map(|(min, max)| Dist::Uniform { min, max })
        }
        "exponential" => span("mean", problems).map(|mean| Dist::Exponential { mean }),
        "lognormal" => {
            let (p50, p99) = (span("p50", problems), span("p99", problems));
            p50.zip(p99).map(|(p50, p99)| Dist::LogNormal { p50, p99 })
        }
        "normal" => {
            let (mean, sd) = (span("mean", problems), span("sd", problems));
            mean.zip(sd).map(|(mean, sd)| Dist::Normal { mean, sd })
        }
        _ => {
            let scale = span("scale", problems);
            let shape = (fields.require("shape", problems))
                .and_then(|value| value.number(0.0, f64::INFINITY, problems));
            scale
                .zip(shape)
                .map(|(scale, shape)| Dist::Weibull { shape, scale })
        }
    };
    fields.finish(problems);
    dist
}

fn empirical(value: &Value<'_>, problems: &mut Problems) -> Option<Dist> {
    let mut points = Vec::new();
    for item in value.list(problems) {
        let pair = item.list(problems);
        let [share, span] = pair.as_slice() else {
            problems.push(item.invalid("must be a probability and a duration: [0.5, 10ms]"));
            return None;
        };
        points.push((share.number(0.0, 1.0, problems)?, span.duration(problems)?));
    }
    Some(Dist::Empirical(points))
}

fn warmup(value: &Value<'_>, problems: &mut Problems) -> Option<Warmup> {
    let fields = value.fields(problems)?;
    let factor = fields.require("factor", problems)?;
    let factor = factor.number(1.0, 1_000_000.0, problems);
    let over = fields.require("over", problems)?.duration(problems);
    fields.finish(problems);
    Some(Warmup {
        factor_milli: thousandths(factor?),
        over: over?,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the caller has bounded it"
)]
fn thousandths(number: f64) -> u32 {
    (number * 1000.0).round() as u32
}

/// `exit`, `ignore`, `{mode: exit}`, `{drain: 10s}`, `{linger: 5s}`.
fn on_sigterm(value: &Value<'_>, problems: &mut Problems) -> Option<OnSigterm> {
    let plain = |word| match word {
        "exit" => OnSigterm::Exit,
        _ => OnSigterm::Ignore,
    };
    if value.node.as_map().is_none() {
        return value.word(&["exit", "ignore"], problems).map(plain);
    }
    let fields = value.fields(problems)?;
    let mode = fields
        .get("mode")
        .and_then(|v| v.word(&["exit", "ignore"], problems));
    let drain = fields.duration("drain", problems);
    let linger = fields.duration("linger", problems);
    fields.finish(problems);
    match (mode, drain, linger) {
        (Some(mode), None, None) => Some(plain(mode)),
        (None, Some(drain), None) => Some(OnSigterm::Drain(drain)),
        (None, None, Some(linger)) => Some(OnSigterm::Linger(linger)),
        _ => {
            let wrong = value.invalid("must hold one of mode, drain and linger");
            problems.push(wrong.hint("{mode: exit}, {mode: ignore}, {drain: 10s} or {linger: 5s}"));
            None
        }
    }
}

fn request<'n>(
    fields: &Fields<'n>,
    services: &mut Vec<Value<'n>>,
    problems: &mut Problems,
) -> RequestModel {
    let standard = RequestModel::default();
    let mut calls = Vec::new();
    for item in fields.list("calls", problems) {
        calls.extend(call(&item, services, problems));
    }
    let at_least_one = |key, standard, problems: &mut Problems| {
        let Some(value) = fields.get(key) else {
            return standard;
        };
        match value.count(problems) {
            Some(0) => problems.push(value.invalid("must be greater than 0")),
            Some(count) => return count,
            None => {}
        }
        standard
    };
    let concurrency = at_least_one("concurrency", standard.concurrency, problems);
    let threads = at_least_one("threads", standard.threads, problems);
    let model = RequestModel {
        cpu: dist(fields.get("cpu"), problems).unwrap_or(standard.cpu),
        threads,
        wait: dist(fields.get("wait"), problems),
        concurrency,
        queue: fields.count("queue", problems).unwrap_or(standard.queue),
        calls,
        errors_per_million: (fields.get("errorRate"))
            .and_then(|value| value.number(0.0, 1.0, problems))
            .map_or(0, |share| thousandths(share * 1000.0)),
        response_bytes: bytes(fields, "responseSize", problems).unwrap_or(0),
        notices_cancel: fields.flag("noticesCancel", problems).unwrap_or(false),
    };
    fields.finish(problems);
    model
}

fn call<'n>(
    item: &Value<'n>,
    services: &mut Vec<Value<'n>>,
    problems: &mut Problems,
) -> Option<Call> {
    let fields = item.fields(problems)?;
    let service = fields.require("service", problems);
    services.extend(service.clone());
    let standard = Client {
        timeout: Duration::from_secs(1),
        ..Client::default()
    };
    let call = Call {
        service: service
            .and_then(|value| value.name(problems))
            .unwrap_or_default(),
        client: client(&fields, &standard, problems),
        optional: fields.flag("optional", problems).unwrap_or(false),
    };
    fields.finish(problems);
    Some(call)
}

/// The fields of a client, which stand among others.
pub fn client(fields: &Fields<'_>, standard: &Client, problems: &mut Problems) -> Client {
    let connections = fields.count("connections", problems);
    if connections == Some(0) {
        problems.extend(
            fields
                .get("connections")
                .map(|v| v.invalid("must be greater than 0")),
        );
    }
    let budget = (fields.get("retryBudget"))
        .and_then(|value| value.number(0.0, 1000.0, problems))
        .map(thousandths);
    Client {
        connections: connections.unwrap_or(standard.connections),
        keep_alive: fields
            .flag("keepAlive", problems)
            .unwrap_or(standard.keep_alive),
        multiplex: fields
            .flag("multiplex", problems)
            .unwrap_or(standard.multiplex),
        timeout: fields
            .duration("timeout", problems)
            .unwrap_or(standard.timeout),
        retries: fields
            .count("retries", problems)
            .unwrap_or(standard.retries),
        backoff: fields
            .duration("backoff", problems)
            .unwrap_or(standard.backoff),
        backoff_max: fields
            .duration("backoffMax", problems)
            .unwrap_or(standard.backoff_max),
        jitter: fields.flag("jitter", problems).unwrap_or(standard.jitter),
        retry_budget_permille: budget,
        retry_elsewhere: (fields.flag("retryElsewhere", problems))
            .unwrap_or(standard.retry_elsewhere),
        max_connection_age: fields.duration("maxConnectionAge", problems),
        addresses: fields
            .count("addresses", problems)
            .unwrap_or(standard.addresses),
    }
}

fn probes(fields: &Fields<'_>, problems: &mut Problems) -> ProbeModel {
    let standard = ProbeModel::default();
    let share = fields
        .get("share")
        .and_then(|v| v.word(&["requests", "dedicated"], problems));
    let model = ProbeModel {
        share: share.map_or(standard.share, |word| word == "requests"),
        cpu: dist(fields.get("cpu"), problems).unwrap_or(standard.cpu),
        dedicated: dist(fields.get("dedicated"), problems).unwrap_or(standard.dedicated),
        readiness_calls: fields.flag("readinessCalls", problems).unwrap_or(false),
    };
    if !model.share
        && model.readiness_calls
        && let Some(value) = fields.get("readinessCalls")
    {
        let why = "has no effect with `share: dedicated`: only probes that queue with requests make \
                   their calls; say `share: requests` or leave it out";
        problems.push(value.invalid(why));
    }
    fields.finish(problems);
    model
}

fn bytes(fields: &Fields<'_>, key: &'static str, problems: &mut Problems) -> Option<u64> {
    let value: Value<'_> = fields.get(key)?;
    let bytes = u64::try_from(value.quantity(problems)?.value()).ok();
    if bytes.is_none() {
        problems.push(value.invalid("must be greater than or equal to 0"));
    }
    bytes
}

fn disk(fields: &Fields<'_>, problems: &mut Problems) -> DiskModel {
    let mut amount = |key| bytes(fields, key, problems).unwrap_or_default();
    let model = DiskModel {
        base: amount("base"),
        per_request: amount("perRequest"),
        per_second: amount("perSecond"),
        volume: fields.text("volume", problems).map(|name| name.to_string()),
    };
    fields.finish(problems);
    model
}

fn files(fields: &Fields<'_>, problems: &mut Problems) -> FilesModel {
    let mut amount = |key| bytes(fields, key, problems).unwrap_or_default();
    let model = FilesModel {
        base: amount("base"),
        per_request: amount("perRequest"),
        per_second: amount("perSecond"),
    };
    fields.finish(problems);
    model
}

fn processes(fields: &Fields<'_>, problems: &mut Problems) -> ProcessesModel {
    let mut amount = |key| bytes(fields, key, problems);
    let model = ProcessesModel {
        base: amount("base").unwrap_or(ProcessesModel::default().base),
        per_request: amount("perRequest").unwrap_or_default(),
        leak_per_request: amount("leakPerRequest").unwrap_or_default(),
        leak_per_second: amount("leakPerSecond").unwrap_or_default(),
    };
    fields.finish(problems);
    model
}

fn memory(fields: &Fields<'_>, problems: &mut Problems) -> MemoryModel {
    let standard = MemoryModel::default();
    let bytes = |key, problems: &mut Problems| bytes(fields, key, problems);
    let model = MemoryModel {
        base: bytes("base", problems),
        per_request: bytes("perRequest", problems).unwrap_or(standard.per_request),
        leak_per_request: bytes("leakPerRequest", problems).unwrap_or_default(),
        leak_per_second: bytes("leakPerSecond", problems).unwrap_or_default(),
    };
    fields.finish(problems);
    model
}

fn exit(fields: &Fields<'_>, problems: &mut Problems) -> Option<ExitModel> {
    let after = fields.require("after", problems);
    let from = fields
        .get("from")
        .and_then(|v| v.word(&["start", "listening"], problems));
    let code = fields.get("code");
    let number = code
        .as_ref()
        .and_then(|value| value.whole(problems))
        .unwrap_or(0);
    let Ok(code) = u8::try_from(number) else {
        problems.extend(code.map(|value| value.invalid("must be between 0 and 255, inclusive")));
        return None;
    };
    let model = ExitModel {
        after: dist(after, problems)?,
        from_listening: from == Some("listening"),
        code,
    };
    fields.finish(problems);
    Some(model)
}
