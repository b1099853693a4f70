//! Why a config is refused: always the place, and where there is one, the key.

use std::fmt;
use std::path::PathBuf;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file, at a line counted from 1.
    Line(PathBuf, usize),
    /// In a file, at no line in particular: a value that is missing.
    File(PathBuf),
    /// On the command line, as given.
    Set(String),
    /// Nowhere: a config made in code.
    Code,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(path, line) => write!(f, "{}:{line}", path.display()),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Set(text) => write!(f, "--set {text}"),
            Self::Code => write!(f, "config"),
        }
    }
}

/// Why a config is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The text is not TOML.
    #[error("{place}: {problem}")]
    Syntax {
        /// Where.
        place: Place,
        /// What is wrong there.
        problem: String,
    },
    /// A key that does not exist.
    #[error("{place}: unknown key `{key}`{}", hint(closest.as_deref(), known))]
    UnknownKey {
        /// Where it was written.
        place: Place,
        /// The key, dotted from the root.
        key: String,
        /// The key that was probably meant.
        closest: Option<String>,
        /// All keys that could stand there.
        known: Vec<String>,
    },
    /// A value of the wrong type or out of range.
    #[error("{place}: `{key}`: {problem}")]
    Value {
        /// Where it was written.
        place: Place,
        /// The key, dotted from the root.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A change of an ablation's arm is refused.
    #[error("{place}: arm `{arm}`: {source}")]
    Arm {
        /// Where the arm is written.
        place: Place,
        /// Its name.
        arm: String,
        /// What is wrong with the change.
        source: Box<ConfigError>,
    },
}

fn hint(closest: Option<&str>, known: &[String]) -> String {
    match (closest, known) {
        (Some(closest), _) => format!("; did you mean `{closest}`?"),
        (None, []) => "; nothing can be set there".to_owned(),
        (None, known) => format!("; known are {}", known.join(", ")),
    }
}
