//! Values of options that are two things: `K=V`, `K[=V]`, `K:V`.
//!
//! Invariant: no error and no `Debug` of these types shows a secret's value.

use std::fmt;

use secrecy::SecretString;

/// `K=V` of `--input` and `--var`.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// What stands before the first `=`; not empty.
    pub key: String,
    /// The rest.
    pub value: String,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=…", self.key)
    }
}

/// Why a value is not of its option's form.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// There is no `=`.
    #[error("expected `NAME=VALUE`, and there is no `=`")]
    NoEquals,
    /// There is no `:`.
    #[error("expected `NAME:VALUE`, and there is no `:`")]
    NoColon,
    /// Nothing stands before the separator.
    #[error("the name is empty")]
    NoName,
    /// A name that no workflow could write.
    #[error("a name consists of letters, digits, `_` and `-`, and does not begin with a digit")]
    BadName,
}

impl Pair {
    /// Splits at the first `=`.
    pub fn parse(text: &str) -> Result<Self, PairError> {
        let (key, value) = text.split_once('=').ok_or(PairError::NoEquals)?;
        let key = key.trim();
        if key.is_empty() {
            return Err(PairError::NoName);
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// `K[=V]` of `--env`.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvArg {
    /// What stands before the first `=`, or all; not empty.
    pub key: String,
    /// The rest, unless it is to be looked up in the environment.
    pub value: Option<String>,
}

impl fmt::Debug for EnvArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=…", self.key)
    }
}

impl EnvArg {
    /// Splits at the first `=`, if there is one.
    pub fn parse(text: &str) -> Result<Self, PairError> {
        match Pair::parse(text) {
            Ok(Pair { key, value }) => Ok(Self { key, value: Some(value) }),
            Err(PairError::NoEquals) if !text.trim().is_empty() => {
                Ok(Self { key: text.trim().to_owned(), value: None })
            }
            Err(PairError::NoEquals) => Err(PairError::NoName),
            Err(error) => Err(error),
        }
    }
}

/// `K[=V]` of `--secret`; the name is upper-cased as the server does it.
#[derive(Clone)]
pub struct SecretArg {
    /// The upper-cased name.
    pub name: String,
    /// The name as it was written: what the environment is asked for first.
    pub written: String,
    /// Its value, unless it is to be looked up.
    pub value: Option<SecretString>,
}

impl fmt::Debug for SecretArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=…", self.name)
    }
}

impl SecretArg {
    /// Splits at the first `=`, if there is one.
    pub fn parse(text: &str) -> Result<Self, PairError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(SecretString::from(value))),
            None => (text, None),
        };
        check_name(name)?;
        Ok(Self { name: name.to_ascii_uppercase(), written: name.to_owned(), value })
    }
}

/// Whether `name` can be a secret or a variable.
pub fn check_name(name: &str) -> Result<(), PairError> {
    if name.is_empty() {
        return Err(PairError::NoName);
    }
    let fits = |(at, c): (usize, char)| {
        c.is_ascii_alphabetic() || c == '_' || at > 0 && (c.is_ascii_digit() || c == '-')
    };
    if name.char_indices().all(fits) { Ok(()) } else { Err(PairError::BadName) }
}

/// `K:V` of `--matrix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatrixFilter {
    /// The key in the matrix.
    pub key: String,
    /// The value that it must have, as text.
    pub value: String,
}

impl MatrixFilter {
    /// Splits at the first `:`.
    pub fn parse(text: &str) -> Result<Self, PairError> {
        let (key, value) = text.split_once(':').ok_or(PairError::NoColon)?;
        let key = key.trim();
        if key.is_empty() {
            return Err(PairError::NoName);
        }
        Ok(Self { key: key.to_owned(), value: value.trim().to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_pair_is_split_at_the_first_sign() {
        let pair = Pair::parse("A=b=c").unwrap();
        assert_eq!((pair.key.as_str(), pair.value.as_str()), ("A", "b=c"));
        assert!(Pair::parse("A").is_err());
        assert!(Pair::parse("=b").is_err());
        let filter = MatrixFilter::parse("python: 3.12").unwrap();
        assert_eq!((filter.key.as_str(), filter.value.as_str()), ("python", "3.12"));
    }

    #[test]
    fn a_secret_has_an_upper_case_name_and_never_shows() {
        let secret = SecretArg::parse("token=hunter2=x").unwrap();
        assert_eq!(secret.name, "TOKEN");
        assert_eq!(secret.value.as_ref().unwrap().expose_secret(), "hunter2=x");
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert!(!format!("{:?}", Pair::parse("A=hunter2").unwrap()).contains("hunter2"));
        assert!(SecretArg::parse("1A=x").is_err());
        assert!(SecretArg::parse("").is_err());
        assert!(SecretArg::parse("a b=x").is_err());
    }
}
