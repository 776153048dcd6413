//! Filter expressions: CEL over one record. An expression that cannot be evaluated for a record, or is not a truth, does not
//! match it. Must never take more than a bounded time: no loops, few concatenations, no large bodies; and what a record says
//! is read once, however many expressions look at it.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, IdedExpr, SourceInfo, operators};
use cel::{Context, Env, Value};
use lakefall_queue::error::{Error, Result};
use lakefall_queue::queue::FILTER_MAX_BYTES;
use lakefall_queue::{StoredRecord, TopicName, ValueKind};

/// How deep an expression may nest.
const DEPTH_MAX: u16 = 32;
/// Most operators and functions of an expression.
const CALLS_MAX: usize = 256;
/// Most additions: each may join strings as long as a body.
const ADDITIONS_MAX: usize = 8;
/// Larger values are not read: `value` is null.
const VALUE_MAX_BYTES: usize = 1 << 20;
/// What an expression may speak of.
const VARIABLES: [&str; 7] = ["key", "headers", "value", "topic", "partition", "offset", "timestamp"];
/// What it may call besides operators.
const FUNCTIONS: [&str; 9] = ["size", "contains", "startsWith", "endsWith", "string", "int", "uint", "double", "bool"];

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));

/// An expression made ready.
pub(crate) struct Expression {
    parsed: IdedExpr,
    /// Which of [`VARIABLES`] it speaks of, so that others are not made.
    speaks_of: [bool; VARIABLES.len()],
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Expression")
    }
}

impl Expression {
    /// Reads an expression. `field` is named where it is refused, and the reason says where it is wrong.
    pub(crate) fn compile(field: &str, text: &str) -> Result<Self> {
        let refused = |reason: String| Error::invalid(field, reason);
        if text.len() > FILTER_MAX_BYTES {
            return Err(refused(format!("the expression has {} bytes: at most {FILTER_MAX_BYTES} are allowed", text.len())));
        }
        let parser = || ENV.parser().max_recursion_depth(DEPTH_MAX).error_recovery_limit(4);
        let (parsed, source) = match guarded(|| parser().parse_with_source_info(text)) {
            Some(Ok(parsed)) => parsed,
            Some(Err(errors)) => return Err(refused(told(&errors))),
            None => return Err(refused("the expression cannot be read".to_owned())),
        };
        let mut seen = Seen { text, source: &source, calls: 0, additions: 0 };
        seen.walk(&parsed, 0).map_err(refused)?;
        let speaks_of = VARIABLES.map(|name| parsed.references().has_variable(name));
        Ok(Self { parsed, speaks_of })
    }

    /// Whether it is true for a record.
    pub(crate) fn matches(&self, record: &Spoken<'_>) -> bool {
        guarded(|| self.evaluate(record)).unwrap_or(false)
    }

    fn evaluate(&self, record: &Spoken<'_>) -> bool {
        let mut context = Context::with_env(Arc::clone(&ENV));
        for (at, name) in VARIABLES.iter().enumerate().filter(|(at, _)| self.speaks_of[*at]) {
            context.add_variable_from_value(*name, record.value(at));
        }
        matches!(Value::resolve(&self.parsed, &context), Ok(Value::Bool(true)))
    }
}

/// A record as expressions see it: each of [`VARIABLES`] is made when one first speaks of it, and kept for the others.
pub(crate) struct Spoken<'a> {
    topic: &'a TopicName,
    record: &'a StoredRecord,
    values: [OnceCell<Value>; VARIABLES.len()],
}

impl<'a> Spoken<'a> {
    pub(crate) fn new(topic: &'a TopicName, record: &'a StoredRecord) -> Self {
        Self { topic, record, values: std::array::from_fn(|_| OnceCell::new()) }
    }

    /// Whatever is large in it is shared.
    fn value(&self, at: usize) -> Value {
        self.values[at].get_or_init(|| variable(VARIABLES[at], self.topic, self.record)).clone()
    }
}

/// The parser and the interpreter are others' code that sees what strangers wrote: a defect of theirs costs a match at most.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// The first errors of the parser, each with its place.
fn told(errors: &cel::ParseErrors) -> String {
    let one = |error: &cel::ParseError| {
        let what: String = error.msg.lines().next().unwrap_or_default().chars().take(200).collect();
        format!("line {}, column {}: {what}", error.pos.0.max(1), error.pos.1.max(1))
    };
    let errors: Vec<String> = errors.errors.iter().take(3).map(one).collect();
    format!("the expression cannot be read: {}", errors.join("; "))
}

/// Looks through an expression for what it may not do.
struct Seen<'a> {
    text: &'a str,
    source: &'a SourceInfo,
    calls: usize,
    additions: usize,
}

impl Seen<'_> {
    fn walk(&mut self, node: &IdedExpr, depth: u16) -> Result<(), String> {
        if depth > DEPTH_MAX * 4 {
            return Err(format!("{}: the expression nests too deep", self.place(node)));
        }
        match &node.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) if VARIABLES.contains(&name.as_str()) => Ok(()),
            Expr::Ident(name) => {
                Err(format!("{}: there is no {name:?}: an expression may speak of {}", self.place(node), VARIABLES.join(", ")))
            }
            Expr::Select(select) => self.walk(&select.operand, depth + 1),
            Expr::Call(call) => {
                self.count(node, &call.func_name)?;
                call.target.iter().map(|target| &**target).chain(&call.args).try_for_each(|part| self.walk(part, depth + 1))
            }
            Expr::List(list) => list.elements.iter().try_for_each(|part| self.walk(part, depth + 1)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => [&entry.key, &entry.value].into_iter().try_for_each(|part| self.walk(part, depth + 1)),
                EntryExpr::StructField(field) => self.walk(&field.value, depth + 1),
            }),
            Expr::Comprehension(_) => Err(format!(
                "{}: all, exists, exists_one, map and filter are not allowed in a filter: their cost has no bound",
                self.place(node)
            )),
            Expr::Struct(_) => Err(format!("{}: messages cannot be constructed in a filter", self.place(node))),
        }
    }

    fn count(&mut self, node: &IdedExpr, function: &str) -> Result<(), String> {
        let operator = function.contains('_') || function == operators::IN;
        if !operator && !FUNCTIONS.contains(&function) {
            return Err(format!("{}: there is no function {function:?}: use {}", self.place(node), FUNCTIONS.join(", ")));
        }
        self.calls += 1;
        self.additions += usize::from(function == operators::ADD);
        if self.calls > CALLS_MAX {
            return Err(format!("the expression has more than {CALLS_MAX} operators and functions"));
        }
        if self.additions > ADDITIONS_MAX {
            return Err(format!("the expression has more than {ADDITIONS_MAX} additions"));
        }
        Ok(())
    }

    fn place(&self, node: &IdedExpr) -> String {
        let start = self.source.offset_for(node.id).map_or(0, |(start, _)| start as usize);
        let before: String = self.text.chars().take(start).collect();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("line {line}, column {column}")
    }
}

/// What a record says of a variable.
fn variable(name: &str, topic: &TopicName, record: &StoredRecord) -> Value {
    match name {
        "key" => record.key.as_ref().map_or(Value::Null, |key| text(key)),
        "headers" => {
            // Of a name that occurs more than once, the first counts.
            let headers = record.headers.iter().rev().map(|header| {
                let value = header.value.as_ref().map_or(Value::Null, |value| text(value));
                (header.name.to_string(), value)
            });
            headers.collect::<HashMap<String, Value>>().into()
        }
        "value" => body(record),
        "topic" => topic.as_str().into(),
        "partition" => Value::Int(i64::from(record.partition.0)),
        "offset" => Value::Int(i64::try_from(record.offset.0).unwrap_or(i64::MAX)),
        _ => Value::Int(record.timestamp.as_millis()),
    }
}

/// Text where it is text, else bytes.
fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => bytes.to_vec().into(),
    }
}

#[cfg(test)]
thread_local! {
    /// Bodies read by this thread.
    pub(crate) static BODIES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

fn body(record: &StoredRecord) -> Value {
    #[cfg(test)]
    BODIES.set(BODIES.get() + 1);
    let Some(value) = record.value.as_ref().filter(|value| value.len() <= VALUE_MAX_BYTES) else { return Value::Null };
    match record.kind {
        // Webhooks and Kafka's producers do not say that they send JSON; what reads as a JSON object or list is one.
        ValueKind::Opaque if !matches!(value.first(), Some(b'{' | b'[')) => text(value),
        ValueKind::Opaque | ValueKind::Json => match serde_json::from_slice(value) {
            Ok(json) => from_json(json),
            Err(_) => text(value),
        },
    }
}

/// As deep as `serde_json` lets values nest: 128.
fn from_json(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => Value::Bool(truth),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::UInt(number),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => text.into(),
        serde_json::Value::Array(items) => items.into_iter().map(from_json).collect::<Vec<_>>().into(),
        serde_json::Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, from_json(value))).collect::<HashMap<String, Value>>().into()
        }
    }
}

#[cfg(test)]
#[path = "expression_tests.rs"]
mod tests;
