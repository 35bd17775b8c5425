//! Standard output: a reader that went away ends the work, and is no failure.

use std::io::{self, BufWriter, StdoutLock, Write};

use alluvium_contracts::{Contract, Envelope};

use crate::failure::Failure;

/// Buffered standard output that remembers whether its reader went away.
pub struct Stdout {
    inner: BufWriter<StdoutLock<'static>>,
    closed: bool,
}

impl Stdout {
    /// Takes standard output.
    pub fn take() -> Self {
        // More than one page: answers of `sql` can be long.
        Self { inner: BufWriter::with_capacity(64 * 1024, io::stdout().lock()), closed: false }
    }

    /// Flushes after writing ended with `written`. A reader that went away counts as done.
    pub fn finish<E>(mut self, written: Result<(), E>) -> Result<(), Failure>
    where
        E: Into<Failure>,
    {
        match written {
            Err(_) if self.closed => return self.give_up(),
            Err(error) => {
                // What was written before the error still belongs to the reader; the error is what is told.
                let _ = self.flush();
                return Err(error.into());
            }
            Ok(()) => {}
        }
        match self.flush() {
            Err(_) if self.closed => self.give_up(),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(()),
        }
    }

    /// Drops what is buffered without trying to write it again.
    fn give_up(self) -> Result<(), Failure> {
        let _ = self.inner.into_parts();
        Ok(())
    }

    fn noticed<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if matches!(&result, Err(error) if error.kind() == io::ErrorKind::BrokenPipe) {
            self.closed = true;
        }
        result
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.inner.write(bytes);
        self.noticed(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.inner.flush();
        self.noticed(result)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::failed("cannot write to standard output".to_owned()).because(error)
    }
}

/// Prints `text`, which ends its own lines.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = Stdout::take();
    let written = stdout.write_all(text.as_bytes());
    stdout.finish(written)
}

/// Prints `payload` in its envelope.
pub fn print_document<T: Contract>(payload: T) -> Result<(), Failure> {
    let mut stdout = Stdout::take();
    let written = serde_json::to_writer_pretty(&mut stdout, &Envelope::new(payload))
        .map_err(io::Error::from)
        .and_then(|()| stdout.write_all(b"\n"));
    stdout.finish(written)
}
