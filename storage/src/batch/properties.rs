//! How a record's properties travel as headers. Nothing is lost: what cannot be read as a property stays a header.

use std::sync::Arc;

use lakefall_queue::{Properties, Timestamp};

const DEDUP_ID: &str = "lakefall.dedup_id";
const ORDERING_KEY: &str = "lakefall.ordering_key";
const PRIORITY: &str = "lakefall.priority";
const DELIVER_AT: &str = "lakefall.deliver_at";
const EXPIRES_AT: &str = "lakefall.expires_at";
const CORRELATION_ID: &str = "lakefall.correlation_id";
const REPLY_TO: &str = "lakefall.reply_to";
const FOR_QUEUE: &str = "lakefall.for_queue";
const SCHEMA_ERROR: &str = "lakefall.schema_error";
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// Calls `each` with the name and value of every header that `properties` become. Times are decimal milliseconds.
pub(crate) fn for_each(properties: &Properties, mut each: impl FnMut(&str, &str)) {
    let Properties {
        dedup_id,
        ordering_key,
        priority,
        deliver_at,
        expires_at,
        correlation_id,
        reply_to,
        for_queue,
        schema_error,
        traceparent,
        tracestate,
    } = properties;
    let texts = [
        (DEDUP_ID, dedup_id),
        (ORDERING_KEY, ordering_key),
        (CORRELATION_ID, correlation_id),
        (REPLY_TO, reply_to),
        (FOR_QUEUE, for_queue),
        (SCHEMA_ERROR, schema_error),
        (TRACEPARENT, traceparent),
        (TRACESTATE, tracestate),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            each(name, text);
        }
    }
    if let Some(priority) = priority {
        each(PRIORITY, &priority.to_string());
    }
    for (name, time) in [(DELIVER_AT, deliver_at), (EXPIRES_AT, expires_at)] {
        if let Some(time) = time {
            each(name, &time.as_millis().to_string());
        }
    }
}

/// Takes a header into `properties`; false if it is none of them, is unreadable, or is there already.
pub(crate) fn absorb(properties: &mut Option<Box<Properties>>, name: &[u8], value: Option<&[u8]>) -> bool {
    // Cheap refusal for the headers of the world.
    if !name.starts_with(Properties::RESERVED_PREFIX.as_bytes()) && !name.starts_with(b"trace") {
        return false;
    }
    let (Ok(name), Some(Ok(value))) = (std::str::from_utf8(name), value.map(std::str::from_utf8)) else {
        return false;
    };
    // A header that turns out to be none must not leave an empty box behind.
    let was_absent = properties.is_none();
    let into = properties.get_or_insert_default();
    let taken = match name {
        DEDUP_ID => text(&mut into.dedup_id, value),
        ORDERING_KEY => text(&mut into.ordering_key, value),
        CORRELATION_ID => text(&mut into.correlation_id, value),
        REPLY_TO => text(&mut into.reply_to, value),
        FOR_QUEUE => text(&mut into.for_queue, value),
        SCHEMA_ERROR => text(&mut into.schema_error, value),
        TRACEPARENT => text(&mut into.traceparent, value),
        TRACESTATE => text(&mut into.tracestate, value),
        PRIORITY => number(&mut into.priority, value, |priority: u8| priority),
        DELIVER_AT => number(&mut into.deliver_at, value, Timestamp::from_millis),
        EXPIRES_AT => number(&mut into.expires_at, value, Timestamp::from_millis),
        _ => false,
    };
    if !taken && was_absent {
        *properties = None;
    }
    taken
}

fn text(slot: &mut Option<Arc<str>>, value: &str) -> bool {
    let free = slot.is_none();
    if free {
        *slot = Some(value.into());
    }
    free
}

fn number<N: std::str::FromStr + ToString, T>(slot: &mut Option<T>, value: &str, make: impl Fn(N) -> T) -> bool {
    match value.parse::<N>() {
        // "+7" and "007" read as 7 but would not be written back so: they stay headers.
        Ok(number) if slot.is_none() && number.to_string() == value => {
            *slot = Some(make(number));
            true
        }
        _ => false,
    }
}
