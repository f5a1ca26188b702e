//! How a result is written: `{"ok": …}` or `{"error": …}`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Answer, Failure};

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Borrowed<'a> {
    Ok(&'a Answer),
    Error(&'a Failure),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Owned {
    Ok(Answer),
    Error(Failure),
}

pub(super) fn serialize<S: Serializer>(
    result: &Result<Answer, Failure>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match result {
        Ok(answer) => Borrowed::Ok(answer),
        Err(failure) => Borrowed::Error(failure),
    }
    .serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Result<Answer, Failure>, D::Error> {
    Ok(match Owned::deserialize(deserializer)? {
        Owned::Ok(answer) => Ok(answer),
        Owned::Error(failure) => Err(failure),
    })
}
