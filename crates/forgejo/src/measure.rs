//! Counts what is in an answer before anything is made of it.
//!
//! Purpose: two bytes on the wire can become a hundred in memory. An answer's fields are counted, and its depth
//! is checked, by a walk over the bytes that allocates nothing; only then is it decoded.
//! Owner: the transport.
//!
//! Invariants: a [`Shape`] names each field that is a message; the walk stops at the first field too many and
//! at the first byte that is not well formed.

use prost::{
    Message,
    encoding::{WireType, decode_key, decode_varint},
};

use crate::{
    Error, Result,
    messages::{ping, runner},
};

/// How many fields an answer can have.
pub(crate) const FIELDS: usize = 250_000;

/// How deep messages can stand in each other; the decoder gives up at 100.
const DEPTH: usize = 100;

/// Which fields of a message are messages themselves.
pub(crate) struct Shape(&'static [(u32, &'static Shape)]);

static FLAT: Shape = Shape(&[]);
static STRUCT: Shape = Shape(&[(1, &STRUCT_ENTRY)]);
static STRUCT_ENTRY: Shape = Shape(&[(2, &VALUE)]);
static VALUE: Shape = Shape(&[(5, &STRUCT), (6, &LIST)]);
static LIST: Shape = Shape(&[(1, &VALUE)]);
static NEED: Shape = Shape(&[(1, &FLAT)]);
static NEED_ENTRY: Shape = Shape(&[(2, &NEED)]);
static TASK: Shape = Shape(&[(3, &STRUCT), (4, &FLAT), (6, &NEED_ENTRY), (7, &FLAT)]);
static STEP: Shape = Shape(&[(3, &FLAT), (4, &FLAT)]);
static STATE: Shape = Shape(&[(3, &FLAT), (4, &FLAT), (5, &STEP)]);
static WITH_RUNNER: Shape = Shape(&[(1, &FLAT)]);
static FETCHED: Shape = Shape(&[(1, &TASK), (3, &TASK)]);
static FETCHED_SINGLE: Shape = Shape(&[(2, &TASK)]);
static UPDATED: Shape = Shape(&[(1, &STATE)]);

/// An answer, whose shape is known.
pub(crate) trait Measured: Message + Default {
    /// The shape.
    fn shape() -> &'static Shape;
}

macro_rules! measured {
    ($($message:ty => $shape:ident),* $(,)?) => {
        $(impl Measured for $message {
            fn shape() -> &'static Shape {
                &$shape
            }
        })*
    };
}

measured! {
    ping::PingResponse => FLAT,
    runner::RegisterResponse => WITH_RUNNER,
    runner::DeclareResponse => WITH_RUNNER,
    runner::FetchTaskResponse => FETCHED,
    runner::FetchSingleTaskResponse => FETCHED_SINGLE,
    runner::UpdateTaskResponse => UPDATED,
    runner::UpdateLogResponse => FLAT,
    runner::UpdateStepSummaryResponse => FLAT,
}

/// Decodes an answer that is not too much.
pub(crate) fn decode<A: Measured>(body: &[u8]) -> Result<A> {
    let mut left = FIELDS;
    match walk(body, A::shape(), &mut left, DEPTH) {
        Ok(()) => A::decode(body).map_err(Error::Decode),
        Err(Stop::TooMany) => Err(Error::TooMany { limit: FIELDS }),
        // not left to the decoder: where the two disagreed, what follows would be uncounted
        Err(Stop::IllFormed) => Err(Error::Malformed { part: "encoding" }),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Stop {
    TooMany,
    IllFormed,
}

impl From<prost::DecodeError> for Stop {
    fn from(_which: prost::DecodeError) -> Self {
        Self::IllFormed
    }
}

fn walk(mut body: &[u8], shape: &Shape, left: &mut usize, depth: usize) -> Result<(), Stop> {
    let depth = depth.checked_sub(1).ok_or(Stop::IllFormed)?;
    while !body.is_empty() {
        *left = left.checked_sub(1).ok_or(Stop::TooMany)?;
        let (field, wire_type) = decode_key(&mut body)?;
        match wire_type {
            WireType::Varint => drop(decode_varint(&mut body)?),
            WireType::SixtyFourBit => body = body.get(8..).ok_or(Stop::IllFormed)?,
            WireType::ThirtyTwoBit => body = body.get(4..).ok_or(Stop::IllFormed)?,
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut body)?).map_err(|_large| Stop::IllFormed)?;
                let (inner, rest) = body.split_at_checked(length).ok_or(Stop::IllFormed)?;
                body = rest;
                if let Some((_, shape)) = shape.0.iter().find(|(number, _)| *number == field) {
                    walk(inner, shape, left, depth)?;
                }
            }
            // no message of proto3 has groups
            WireType::StartGroup | WireType::EndGroup => return Err(Stop::IllFormed),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::{ListValue, Struct, Value, value::Kind};

    fn task(context: Value) -> Vec<u8> {
        let task = runner::Task {
            id: 1,
            context: Some(Struct { fields: [("k".to_owned(), context)].into() }),
            ..runner::Task::default()
        };
        runner::FetchTaskResponse { task: Some(task), ..runner::FetchTaskResponse::default() }.encode_to_vec()
    }

    fn list(values: Vec<Value>) -> Value {
        Value { kind: Some(Kind::ListValue(ListValue { values })) }
    }

    fn fetched(body: &[u8]) -> Result<runner::FetchTaskResponse> {
        decode(body)
    }

    #[test]
    fn two_bytes_that_become_many_are_counted() {
        assert!(fetched(&task(list(vec![Value::default(); FIELDS - 100]))).is_ok());
        let bomb = fetched(&task(list(vec![Value::default(); FIELDS])));
        assert!(matches!(bomb, Err(Error::TooMany { .. })), "{bomb:?}");
    }

    #[test]
    fn depth_is_an_error_and_no_stack() {
        let deep = |levels| (0..levels).fold(Value::default(), |value, _| list(vec![value]));
        assert!(fetched(&task(deep(40))).is_ok());
        for levels in [60, 2000] {
            let refused = fetched(&task(deep(levels)));
            assert!(
                matches!(refused, Err(Error::Malformed { .. } | Error::Decode(_))),
                "{levels}: {refused:?}"
            );
        }
    }

    #[test]
    fn nothing_follows_uncounted_behind_what_is_ill_formed() {
        let group = [0xa3, 0x06, 0x1a, 0x01, 0xff, 0xa4, 0x06];
        let whole = task(Value::default());
        assert!(fetched(&whole).is_ok());
        for bytes in [&group[..], &[0xff; 12], &[0x0a, 0x7f], &[0x08], &[0x09, 1], &[0x0d, 1], &[0x00]] {
            let body: Vec<u8> = bytes.iter().chain(&whole).copied().collect();
            let end: Vec<u8> = whole.iter().chain(bytes).copied().collect();
            for body in [body, end] {
                let refused = fetched(&body);
                assert!(
                    matches!(refused, Err(Error::Malformed { .. } | Error::Decode(_))),
                    "{body:?}: {refused:?}"
                );
            }
        }
    }
}
