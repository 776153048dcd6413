//! The fields of a line, as they stand in it. Must be flat: one object per line, absent fields where they say nothing.

use serde::{Deserialize, Serialize};

use crate::history::{Dump, Name, Status};

/// Consecutive ids: producer, first count, how many.
pub(super) type IdRun = (u32, u64, u32);
/// Consecutive rows: first offset, how many, producer and first count where the values tell.
pub(super) type Row = (u64, u32, Option<(u32, u64)>);
/// A delivery: partition, offset, attempt, producer and count, sum.
pub(super) type Got = (u32, u64, u32, Option<(u32, u64)>, u64);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    #[default]
    Invoke,
    Ok,
    Fail,
    Info,
    Fault,
    Calm,
    Dead,
    Dump,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Function {
    Send,
    Commit,
    Read,
    Tail,
    Cursor,
    QSend,
    Receive,
    Ack,
    Nack,
    Extend,
    Reject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ErrorShape {
    Mismatch,
    Fenced,
    Trimmed,
}

fn no(of: &bool) -> bool {
    !of
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AppendShape {
    pub(super) topic: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) partition: Option<u32>,
    #[serde(default, skip_serializing_if = "no")]
    pub(super) once: bool,
    #[serde(default, skip_serializing_if = "no")]
    pub(super) pipelined: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expect: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) fence: Option<u64>,
    pub(super) ids: Vec<IdRun>,
    pub(super) sums: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) keys: Vec<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MoveShape {
    pub(super) cursor: Name,
    pub(super) topic: Name,
    pub(super) offsets: Vec<(u32, u64)>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AcksShape {
    pub(super) queue: Name,
    pub(super) leases: Vec<(u32, u64, u32)>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MessageShape {
    pub(super) id: (u32, u64),
    pub(super) sum: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<u64>,
    #[serde(default, skip_serializing_if = "zero")]
    pub(super) delay_ns: u64,
    #[serde(default, skip_serializing_if = "no")]
    pub(super) once: bool,
}

fn zero(of: &u64) -> bool {
    *of == 0
}

/// Declares the line: each field with the type that an absent one has as default, and what is left of it once everything that
/// belongs to the line's type was taken.
macro_rules! line {
    ($($field:ident: $kind:ty,)*) => {
        #[derive(Debug, Default, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct Line {
            pub(super) t_ns: u64,
            #[serde(rename = "type")]
            pub(super) kind: Kind,
            #[serde(default, skip_serializing_if = "no")]
            pub(super) last: bool,
            #[serde(default, skip_serializing_if = "no")]
            pub(super) seek: bool,
            #[serde(default, skip_serializing_if = "no")]
            pub(super) drain: bool,
            $(#[serde(default, skip_serializing_if = "Option::is_none")]
            pub(super) $field: Option<$kind>,)*
        }

        impl Line {
            /// Refuses a line of which something was not taken, as it does not belong there.
            pub(super) fn spent(&self) -> Result<(), String> {
                let left = [$((stringify!($field), self.$field.is_some()),)* ("last", self.last), ("seek", self.seek), ("drain", self.drain)];
                match left.iter().find(|(_, is)| *is) {
                    Some((field, _)) => Err(format!("field `{field}` does not belong to this line")),
                    None => Ok(()),
                }
            }
        }
    };
}

line! {
    op_id: u64,
    proc: u32,
    f: Function,
    append: AppendShape,
    appends: Vec<AppendShape>,
    moves: Vec<MoveShape>,
    acks: Vec<AcksShape>,
    topic: Name,
    partition: u32,
    reader: u32,
    from: u64,
    cursor: Name,
    offsets: Vec<(u32, u64)>,
    queue: Name,
    messages: Vec<MessageShape>,
    lease_ns: u64,
    delay_ns: u64,
    leases: Vec<(u32, u64, u32)>,
    at: Vec<(u32, u64, u32)>,
    ats: Vec<Vec<(u32, u64, u32)>>,
    rows: Vec<Row>,
    sums: Vec<u64>,
    end: u64,
    start: u64,
    got: Vec<Got>,
    statuses: Vec<Status>,
    error: ErrorShape,
    fence: u64,
    fault: Name,
    target: Name,
    calm: bool,
    offset: u64,
    id: (u32, u64),
    attempts: u32,
    reason: String,
    dump: Dump,
}
