//! Standard output that does not forget what went wrong with it.

use std::io::{self, BufWriter, ErrorKind, Write};

use super::command::Complaint;

/// Buffers what is written. After an error nothing more goes out, and the first one is kept to be told at the end.
pub(super) struct Stdout<W: Write> {
    inner: BufWriter<W>,
    failed: Option<io::Error>,
}

impl<W: Write> Stdout<W> {
    pub(super) fn new(inner: W) -> Stdout<W> {
        Stdout { inner: BufWriter::new(inner), failed: None }
    }

    /// Writes what is left. Whoever reads may have had enough of it, as `head` has, and of that nothing is said.
    ///
    /// # Errors
    /// What is to be said when something was not written for another reason.
    pub(super) fn finish(&mut self) -> Result<(), Complaint> {
        let _ = self.flush();
        match self.failed.take() {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => {
                let text = format!("cannot write to standard output: {error}");
                Err(Complaint { text, status: 1, ends: true })
            }
            _ => Ok(()),
        }
    }

    fn keep<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let kind = error.kind();
            if kind != ErrorKind::Interrupted {
                self.failed.get_or_insert(error);
            }
            kind.into()
        })
    }

    fn usable(&self) -> io::Result<()> {
        self.failed.as_ref().map_or(Ok(()), |error| Err(error.kind().into()))
    }
}

impl<W: Write> Write for Stdout<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.usable()?;
        let written = self.inner.write(bytes);
        self.keep(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.usable()?;
        let flushed = self.inner.flush();
        self.keep(flushed)
    }
}
