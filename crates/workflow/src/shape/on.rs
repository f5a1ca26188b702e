//! The keys below the events of `on`.
//!
//! Purpose: rows of the table; those of filters are in `filter::events`. Owner: [`super`].

use super::{Key, Others, Reader, Shape, Takes};

pub(crate) static SCHEDULE: Shape = Shape {
    what: "an entry of `schedule`",
    id: "schedule",
    keys: &[
        Key::required("cron", Takes::Word, "Minute, hour, day, month and day of the week."),
        Key {
            name: "timezone",
            takes: Takes::Word,
            need: super::Need::Optional,
            reader: Reader::Ignored(
                "Forgejo reads the zone from the expression: `cron: 'TZ=Europe/Berlin 30 5 * * 1'`",
            ),
            about: "The zone of its hours.",
        },
    ],
    others: Others::Refused,
};

pub(crate) static DISPATCH: Shape = Shape {
    what: "`workflow_dispatch`",
    id: "workflow_dispatch",
    keys: &[Key::new(
        "inputs",
        Takes::Any(&[
            Takes::Names(&Takes::Any(&[Takes::Map(&DISPATCH_INPUT), Takes::Nothing])),
            Takes::Nothing,
        ]),
        "What the person who starts it is asked for.",
    )],
    others: Others::Refused,
};

pub(crate) const DISPATCH_TYPES: [&str; 5] = ["string", "boolean", "number", "choice", "environment"];

pub(crate) const CALL_TYPES: [&str; 3] = ["string", "boolean", "number"];

pub(crate) static DISPATCH_INPUT: Shape = Shape {
    what: "an input",
    id: "dispatch-input",
    keys: &[
        Key::new("description", Takes::Text, "What is asked."),
        Key::new("type", Takes::OneOf(&DISPATCH_TYPES), "Its kind; text without."),
        Key::new("required", Takes::Flag, "Whether it has to be given."),
        Key::new("default", Takes::Text, "Its value when none is given."),
        Key::new("options", Takes::List(&Takes::Text), "The values of a choice."),
        Key::new("deprecationMessage", Takes::Text, "What is said to those who still use it."),
    ],
    others: Others::Refused,
};

pub(crate) static CALL: Shape = Shape {
    what: "`workflow_call`",
    id: "workflow_call",
    keys: &[
        Key::new(
            "inputs",
            Takes::Any(&[
                Takes::Names(&Takes::Any(&[Takes::Map(&CALL_INPUT), Takes::Nothing])),
                Takes::Nothing,
            ]),
            "What a calling job gives by `with`.",
        ),
        Key::new(
            "outputs",
            Takes::Any(&[Takes::Names(&Takes::Map(&CALL_OUTPUT)), Takes::Nothing]),
            "What a calling job has as its outputs.",
        ),
        Key::new(
            "secrets",
            Takes::Any(&[
                Takes::Names(&Takes::Any(&[Takes::Map(&CALL_SECRET), Takes::Nothing])),
                Takes::Nothing,
            ]),
            "What a calling job gives by `secrets`.",
        ),
    ],
    others: Others::Refused,
};

pub(crate) static CALL_INPUT: Shape = Shape {
    what: "an input",
    id: "call-input",
    keys: &[
        Key::new("description", Takes::Text, "What it is."),
        Key::new("type", Takes::OneOf(&CALL_TYPES), "Its kind; GitHub needs it, in Forgejo text without."),
        Key::new("required", Takes::Flag, "Whether it has to be given."),
        Key::new("default", Takes::Text, "Its value when none is given."),
        Key::new("deprecationMessage", Takes::Text, "What is said to those who still use it."),
    ],
    others: Others::Refused,
};

pub(crate) static CALL_OUTPUT: Shape = Shape {
    what: "an output",
    id: "call-output",
    keys: &[
        Key::new("description", Takes::Text, "What it is."),
        Key::required("value", Takes::Text, "Its value, by the outputs of `jobs`."),
    ],
    others: Others::Refused,
};

pub(crate) static CALL_SECRET: Shape = Shape {
    what: "a secret",
    id: "call-secret",
    keys: &[
        Key::new("description", Takes::Text, "What it is."),
        Key::new("required", Takes::Flag, "Whether it has to be given."),
    ],
    others: Others::Refused,
};
