//! Bodies of fuzz targets.

use serde::{Serialize, de::DeserializeOwned};

use super::{
    frame::{Decoder, Frame, NoFrame, put_bytes, put_end, put_message, put_output},
    link::parse,
    message::{Ask, Hello, Order, Say},
};

/// All frames of what arrives in pieces of that size, and what is wrong behind them.
fn all(data: &[u8], piece: usize) -> (Vec<Frame>, Option<NoFrame>) {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for piece in data.chunks(piece) {
        decoder.buffer().extend_from_slice(piece);
        loop {
            match decoder.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

/// The first byte chooses the pieces.
pub(crate) fn frames(data: &[u8]) {
    let Some((size, data)) = data.split_first() else { return };
    let (whole, wrong) = all(data, data.len().max(1));
    assert_eq!(all(data, usize::from(*size).max(1)), (whole.clone(), wrong), "it depends on the pieces");
    let mut again = Vec::new();
    for frame in &whole {
        match frame {
            Frame::Message(json) => put_message(&mut again, json),
            Frame::Output { stream, time, bytes } => put_output(&mut again, *stream, *time, bytes),
            Frame::Bytes(bytes) => put_bytes(&mut again, bytes),
            Frame::End => put_end(&mut again),
        }
    }
    assert!(data.starts_with(&again), "what was read is written in another way");
}

/// What is read is written and read again as the same.
pub(crate) fn messages(data: &[u8]) {
    again::<Hello>(data);
    again::<Ask>(data);
    again::<Order>(data);
    again::<Say>(data);
}

fn again<T: Serialize + DeserializeOwned>(data: &[u8]) {
    let Ok(message) = parse::<T>(data) else { return };
    // a path that is not UTF-8 cannot come out of JSON
    let json = serde_json::to_vec(&message).expect("what was read is written");
    let read = parse::<T>(&json).map(|read| serde_json::to_vec(&read).expect("it is written"));
    assert_eq!(read.ok(), Some(json), "what is read is not what was written");
}
