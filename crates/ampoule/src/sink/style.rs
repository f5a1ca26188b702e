//! What our own text looks like, and whether there are colours at all.

use std::{env, fmt, io::IsTerminal};

use anstyle::{AnsiColor, Style};
use job::event::Outcome;

use crate::sanitise::Colours;

/// The look of one output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    colours: Colours,
}

impl Look {
    /// Colours in a terminal, unless `NO_COLOR` is set; `CLICOLOR_FORCE` asks for them elsewhere.
    pub fn of(output: &impl IsTerminal) -> Self {
        let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
        let plain = set("NO_COLOR") || env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self::new(if set("CLICOLOR_FORCE") || output.is_terminal() && !plain {
            Colours::Keep
        } else {
            Colours::Drop
        })
    }

    /// A look with or without colours.
    #[must_use]
    pub const fn new(colours: Colours) -> Self {
        Self { colours }
    }

    /// What is done with colours of guests.
    #[must_use]
    pub const fn colours(self) -> Colours {
        self.colours
    }

    /// Text in a style.
    pub fn paint<T: fmt::Display>(self, style: Style, text: T) -> Painted<T> {
        Painted { style: if self.colours == Colours::Keep { style } else { Style::new() }, text }
    }

    /// Text that matters more.
    pub fn bold<T: fmt::Display>(self, text: T) -> Painted<T> {
        self.paint(Style::new().bold(), text)
    }

    /// Text that matters less.
    pub fn dim<T: fmt::Display>(self, text: T) -> Painted<T> {
        self.paint(Style::new().dimmed(), text)
    }

    /// Text in the colour of an outcome.
    pub fn outcome<T: fmt::Display>(self, outcome: Outcome, text: T) -> Painted<T> {
        let colour = match outcome {
            Outcome::Success => AnsiColor::Green,
            Outcome::Failure => AnsiColor::Red,
            Outcome::Cancelled => AnsiColor::Yellow,
            Outcome::Skipped => AnsiColor::BrightBlack,
        };
        self.paint(colour.on_default(), text)
    }

    /// `error:` in front of a message.
    pub fn error(self) -> Painted<&'static str> {
        self.paint(AnsiColor::Red.on_default().bold(), "error:")
    }

    /// `warning:` in front of a message.
    pub fn warning(self) -> Painted<&'static str> {
        self.paint(AnsiColor::Yellow.on_default().bold(), "warning:")
    }
}

/// Text with its style around it.
pub struct Painted<T> {
    style: Style,
    text: T,
}

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.style.render(), self.text, self.style.render_reset())
    }
}

/// The sign of an outcome.
pub(super) const fn sign(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "✓",
        Outcome::Failure => "✗",
        Outcome::Cancelled => "◼",
        Outcome::Skipped => "○",
    }
}
