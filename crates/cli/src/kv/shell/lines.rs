//! Lines of bounded length.

use std::io::{self, BufRead, BufReader, Read};

/// What a buffer keeps of its size after a long line.
const KEEP: usize = 64 * 1024;

/// One line of the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'b> {
    /// Without its end.
    Request(&'b [u8]),
    /// More than `limit` bytes, which were skipped.
    TooLong {
        /// The longest that a line may be, in bytes.
        limit: u64,
    },
}

/// The lines of an input, none of which takes more memory than the limit.
pub struct Lines<R> {
    input: BufReader<R>,
    limit: u64,
    buffer: Vec<u8>,
}

impl<R: Read> Lines<R> {
    /// Lines of up to `limit` bytes.
    pub fn new(input: R, limit: u64) -> Lines<R> {
        Lines { input: BufReader::new(input), limit, buffer: Vec::new() }
    }

    /// The next line; `None` at the end. The last line need not be ended.
    pub fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        self.buffer.shrink_to(KEEP);
        let room = self.limit.saturating_add(1);
        if self.input.by_ref().take(room).read_until(b'\n', &mut self.buffer)? == 0 {
            return Ok(None);
        }
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
        } else if self.buffer.len() as u64 > self.limit {
            self.skip()?;
            return Ok(Some(Line::TooLong { limit: self.limit }));
        }
        Ok(Some(Line::Request(&self.buffer)))
    }

    /// Skips what is left of the line.
    fn skip(&mut self) -> io::Result<()> {
        loop {
            let block = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                block => block?,
            };
            let end = block.iter().position(|byte| *byte == b'\n');
            let (skipped, done) = (end.map_or(block.len(), |end| end + 1), end.is_some() || block.is_empty());
            self.input.consume(skipped);
            if done {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_where_they_should_and_long_ones_are_skipped() {
        let long = "x".repeat(100_000);
        let text = format!("1234\n12345\n\n{long}\n{long}{long}\nabc\nend");
        let mut lines = Lines::new(text.as_bytes(), 4);
        let mut seen = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            seen.push(match line {
                Line::Request(line) => String::from_utf8(line.to_vec()).unwrap(),
                Line::TooLong { limit } => format!("> {limit}"),
            });
        }
        assert_eq!(seen, ["1234", "> 4", "", "> 4", "> 4", "abc", "end"]);
        assert!(lines.buffer.capacity() <= KEEP);
        let mut cut = Lines::new(&b"too long"[..], 4);
        assert_eq!(cut.next().unwrap(), Some(Line::TooLong { limit: 4 }));
        assert_eq!(cut.next().unwrap(), None);
    }
}
