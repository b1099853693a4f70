//! What a template may take: it is a program from a downloaded folder. Steps, the length of the prompt and the width of formatted
//! numbers and words have bounds that no chat comes near.

use std::cell::Cell;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use minijinja::value::Rest;
use minijinja::{Error, ErrorKind, State, Value, filters};
use minijinja_contrib::pycompat;

/// Instructions of a rendering.
pub(super) const STEPS: u64 = 20_000_000;
/// Bytes of a prompt.
const LONGEST: usize = 64 << 20;
/// Digits of a width or precision in a format.
const DIGITS: usize = 4;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread runs a template now. A panic of the template engine becomes an error then, so a program's panic hook
/// has nothing to tell.
pub fn renders() -> bool {
    INSIDE.get()
}

/// Runs the engine. It panics on some templates (`messages[::-1]` without messages, say), which is an error of the template and not of the program.
pub(super) fn contained<T>(run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let outer = INSIDE.replace(true);
    let done = catch_unwind(AssertUnwindSafe(run));
    INSIDE.set(outer);
    done.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        let line = text.unwrap_or_default().lines().next().unwrap_or_default();
        Err(refusal(format!("the template engine gave up ({line})")))
    })
}

/// The prompt while it is written; more than [`LONGEST`] bytes are refused.
#[derive(Default)]
pub(super) struct Text {
    bytes: Vec<u8>,
    too_long: bool,
}

impl Text {
    /// The prompt, if rendering went well.
    pub(super) fn finish(self, rendered: Result<(), Error>) -> Result<String, Error> {
        if self.too_long {
            return Err(refusal(format!("writes more than {LONGEST} bytes")));
        }
        match rendered {
            Err(error) if error.kind() == ErrorKind::OutOfFuel => {
                Err(refusal(format!("takes more than {STEPS} steps")))
            }
            Err(error) => Err(error),
            Ok(()) => String::from_utf8(self.bytes).map_err(|error| refusal(error.to_string())),
        }
    }
}

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > LONGEST {
            self.too_long = true;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The filter `format`, as in Jinja.
pub(super) fn format(state: &State<'_, '_>, text: &Value, arguments: Rest<Value>) -> Result<Value, Error> {
    narrow(text)?;
    filters::format(state, text, arguments)
}

/// Python's methods of strings, lists and maps.
pub(super) fn unknown_method(
    state: &State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    if method == "format" {
        narrow(value)?;
    }
    pycompat::unknown_method_callback(state, value, method, arguments)
}

/// No field of a format may be wider than 9999.
fn narrow(text: &Value) -> Result<(), Error> {
    let digits = |run: &str| run.len() > DIGITS;
    let wide = text.as_str().is_some_and(|text| text.split(|c: char| !c.is_ascii_digit()).any(digits));
    if wide { Err(refusal("formats with a width or precision above 9999".to_owned())) } else { Ok(()) }
}

fn refusal(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
