//! Looks at the page headers of a column before the library decodes it. The library allocates what a header says: here every
//! length is held against the bytes that are there and the bounds that the format has.
//!
//! Page headers are Thrift structs in the compact protocol (parquet-format, `PageHeader`). A [`super::ParquetWriter`] makes
//! only ones of numbers, and nothing else is read.

use super::{MAX_GROUP_BYTES, ParquetError};

/// Fields of `PageHeader`, then of the headers in it, where the number of values is the first of each.
const TYPE: i64 = 1;
const UNCOMPRESSED: i64 = 2;
const COMPRESSED: i64 = 3;
const DATA_PAGE: i64 = 5;
const DICTIONARY_PAGE: i64 = 7;
const VALUES: i64 = 1;

/// `PageType`s.
const IS_DATA: i64 = 0;
const IS_DICTIONARY: i64 = 2;

/// Thrift's types.
const STOP: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const I32: u8 = 5;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// Most nodes of a schema: the columns, and 1,000 typed ones. The library walks a schema by recursion.
pub(super) const MAX_SCHEMA_NODES: usize = 1_024;

/// Checks the pages of a column chunk, which is `chunk` as a whole and should have `values`.
/// Returns the bytes that its pages have after decompression.
pub(super) fn check(chunk: &[u8], values: usize) -> Result<usize, ParquetError> {
    let mut rest = Cursor(chunk);
    let (mut found, mut bytes) = (0, 0_usize);
    while !rest.0.is_empty() {
        let page = Page::read(&mut rest)?;
        rest.skip(page.compressed)?;
        bytes += page.uncompressed;
        if bytes > MAX_GROUP_BYTES {
            return Err(malformed("a column of a row group is larger than the format allows"));
        }
        match page.kind {
            IS_DATA => found += page.values,
            // A dictionary's entry takes a length or a number of four bytes at least.
            IS_DICTIONARY if page.values <= page.uncompressed / 4 => {}
            _ => return Err(malformed("a page is of a kind that the format does not have")),
        }
        if found > values {
            break;
        }
    }
    if found == values { Ok(bytes) } else { Err(malformed("a column's pages do not have the values that its metadata count")) }
}

/// Checks that Parquet's file metadata hold no larger schema than [`MAX_SCHEMA_NODES`].
pub(super) fn check_schema(metadata: &[u8]) -> Result<(), ParquetError> {
    let mut cursor = Cursor(metadata);
    let version = cursor.field(0)?;
    if version != (1, I32) {
        return Err(malformed("its metadata do not begin with a version"));
    }
    cursor.integer()?;
    if cursor.field(1)? != (2, LIST) {
        return Err(malformed("its metadata have no schema"));
    }
    let size = match cursor.byte()? >> 4 {
        15 => cursor.varint()?,
        small => u64::from(small),
    };
    if size > MAX_SCHEMA_NODES as u64 { Err(malformed("its schema is larger than the format allows")) } else { Ok(()) }
}

struct Page {
    kind: i64,
    compressed: usize,
    uncompressed: usize,
    values: usize,
}

impl Page {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, ParquetError> {
        let (mut kind, mut compressed, mut uncompressed, mut values) = (None, None, None, None);
        let mut id = 0;
        loop {
            let field_type;
            (id, field_type) = cursor.field(id)?;
            match (id, field_type) {
                (_, STOP) => break,
                (TYPE, I32) => kind = Some(cursor.integer()?),
                (UNCOMPRESSED, I32) => uncompressed = Some(cursor.integer()?),
                (COMPRESSED, I32) => compressed = Some(cursor.integer()?),
                (DATA_PAGE | DICTIONARY_PAGE, STRUCT) => values = Some(cursor.page_values()?),
                _ => return Err(malformed("a page header has a field that the format does not have")),
            }
        }
        let size = |number: Option<i64>| {
            let size = number.and_then(|number| usize::try_from(number).ok());
            size.filter(|size| *size <= MAX_GROUP_BYTES).ok_or(malformed("a page header has no possible length"))
        };
        Ok(Self { kind: kind.unwrap_or(-1), compressed: size(compressed)?, uncompressed: size(uncompressed)?, values: size(values)? })
    }
}

/// Walks Thrift's compact protocol.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    /// The next field's id and type.
    fn field(&mut self, last: i64) -> Result<(i64, u8), ParquetError> {
        let header = self.byte()?;
        let field_type = header & 0x0f;
        if field_type == STOP {
            return if header == STOP { Ok((last, STOP)) } else { Err(malformed("a Thrift struct does not end")) };
        }
        match header >> 4 {
            0 => Err(malformed("a Thrift struct's fields do not ascend")),
            delta => Ok((last + i64::from(delta), field_type)),
        }
    }

    /// The number of values in the header of a data or dictionary page, of which everything is a number or a truth.
    fn page_values(&mut self) -> Result<i64, ParquetError> {
        let mut values = None;
        let mut id = 0;
        loop {
            let field_type;
            (id, field_type) = self.field(id)?;
            match field_type {
                STOP => return values.ok_or(malformed("a page header does not count its values")),
                I32 if id == VALUES => values = Some(self.integer()?),
                I32 => drop(self.integer()?),
                // In a struct, the type is the value.
                TRUE | FALSE => {}
                _ => return Err(malformed("a page header has a field that the format does not have")),
            }
        }
    }

    fn byte(&mut self) -> Result<u8, ParquetError> {
        let (first, rest) = self.0.split_first().ok_or(malformed("a Thrift struct is cut off"))?;
        self.0 = rest;
        Ok(*first)
    }

    fn varint(&mut self) -> Result<u64, ParquetError> {
        let mut number = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(malformed("a Thrift number is too long"))
    }

    /// A zigzag number of 32 bits.
    fn integer(&mut self) -> Result<i64, ParquetError> {
        let number = self.varint()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn skip(&mut self, bytes: usize) -> Result<(), ParquetError> {
        self.0 = self.0.get(bytes..).ok_or(malformed("a page is cut off"))?;
        Ok(())
    }
}

fn malformed(what: &str) -> ParquetError {
    ParquetError::Corrupt(what.to_owned())
}
