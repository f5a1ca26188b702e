//! The bodies of the fuzz targets, as plain functions so that `cargo test` can replay their corpus.
//!
//! Purpose: no answer may panic or take unbounded memory. Owner: the `fuzz` directory and the tests.

use crate::{
    client,
    connect::refusal,
    convert,
    measure::decode,
    messages::{ping, runner},
};

/// The bytes as the answer to each call, as a refusal, and as the URL of an instance.
pub fn answers(data: &[u8]) {
    let _ = decode::<ping::PingResponse>(data);
    let _ = decode::<runner::RegisterResponse>(data).and_then(client::registered);
    let _ = decode::<runner::DeclareResponse>(data).and_then(convert::declared);
    if let Ok(fetched) = decode::<runner::FetchTaskResponse>(data).and_then(convert::fetched) {
        let _ = format!("{fetched:?}");
    }
    let _ = decode::<runner::FetchSingleTaskResponse>(data).and_then(convert::fetched_single);
    let _ = decode::<runner::UpdateTaskResponse>(data).and_then(convert::updated);
    let _ = decode::<runner::UpdateLogResponse>(data).and_then(convert::acknowledged);
    let _ = decode::<runner::UpdateStepSummaryResponse>(data);
    for status in [302, 401, 500] {
        let _ = refusal(status, data).to_string();
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(instance) = crate::Instance::parse(text)
    {
        let again = instance.to_string();
        assert_eq!(crate::Instance::parse(&again).ok(), Some(instance), "{again}");
    }
}
