//! What is read from files and standard input: plain or gzip, told apart by the first two bytes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use crate::failure::Failure;

/// The first two bytes of a gzip member (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];
const BUFFER_BYTES: usize = 256 << 10;

/// An opened input.
pub(crate) struct Input {
    /// The bytes, decompressed.
    pub(crate) reader: Box<dyn BufRead + Send>,
    /// The file's size; none for standard input.
    pub(crate) total_bytes: Option<u64>,
    /// Bytes of the file read so far.
    pub(crate) read_bytes: Arc<AtomicU64>,
}

/// Opens a file, or standard input for none and for `-`.
pub(crate) fn open(path: Option<&Path>) -> Result<Input, Failure> {
    let read_bytes = Arc::new(AtomicU64::new(0));
    let (source, total_bytes): (Box<dyn Read + Send>, _) = match path {
        Some(path) if path != Path::new("-") => {
            let failed = |error: io::Error| Failure::Usage(format!("{}: {error}", path.display()));
            let file = File::open(path).map_err(failed)?;
            let metadata = file.metadata().map_err(failed)?;
            (Box::new(file), metadata.is_file().then_some(metadata.len()))
        }
        _ => (Box::new(io::stdin()), None),
    };
    let mut counted = BufReader::with_capacity(BUFFER_BYTES, Counted { source, count: Arc::clone(&read_bytes) });
    let head = counted.fill_buf().map_err(|error| Failure::Usage(format!("the input cannot be read: {error}")))?;
    let reader: Box<dyn BufRead + Send> = if head.starts_with(&GZIP) {
        Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(counted)))
    } else {
        Box::new(counted)
    };
    Ok(Input { reader, total_bytes, read_bytes })
}

struct Counted {
    source: Box<dyn Read + Send>,
    count: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn gzip_is_understood_without_being_told() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut encoder = flate2::write::GzEncoder::new(&mut file, flate2::Compression::fast());
        encoder.write_all(b"one\ntwo\n").unwrap();
        encoder.finish().unwrap();
        let input = open(Some(file.path())).unwrap();
        let lines: Vec<_> = input.reader.lines().map(Result::unwrap).collect();
        assert_eq!(lines, ["one", "two"]);
        assert_eq!(input.total_bytes, Some(input.read_bytes.load(Ordering::Relaxed)));
    }
}
