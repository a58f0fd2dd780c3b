//! The messages of the Postgres protocol, version 3: bytes to requests, answers to bytes.
//!
//! A client's bytes are cut into frames first ([`take_frame`], which bounds their length before any of
//! it is kept), and a frame is read by a cursor that checks each step ([`Request::parse`]). Whatever
//! the bytes are, the outcome is a request or a [`Violation`]; nothing here panics or allocates by a
//! count that a client made up.
//!
//! Function calls and replication are not spoken.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest frame of a client that has proved who it is, in bytes.
pub(super) const FRAME_BYTES_MAX: usize = 16 << 20;

/// The longest frame before that, in bytes.
pub(super) const STARTUP_BYTES_MAX: usize = 10_000;

/// The codes that stand where a version would.
const SSL_REQUEST: i32 = 80_877_103;
const GSS_REQUEST: i32 = 80_877_104;
const CANCEL_REQUEST: i32 = 80_877_102;

/// Bytes that are not of the protocol.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation(pub String);

type Parsed<T> = std::result::Result<T, Violation>;

fn violation<T>(message: impl Into<String>) -> Parsed<T> {
    Err(Violation(message.into()))
}

/// How a connection begins.
#[derive(Debug)]
pub(super) enum Opening {
    Tls,
    Gss,
    Cancel {
        process: i32,
        secret: i32,
    },
    /// The minor version of protocol 3, and the parameters.
    Session {
        minor: i32,
        parameters: Vec<(String, String)>,
    },
}

impl Opening {
    /// Takes the first frame, which has no type, off `buffer`; `None` if it is not there yet.
    pub(super) fn take(buffer: &mut BytesMut) -> Parsed<Option<Self>> {
        let Some(mut body) = take_body(buffer, 0, STARTUP_BYTES_MAX)? else { return Ok(None) };
        let mut cursor = Cursor(&mut body);
        match cursor.i32()? {
            SSL_REQUEST => Ok(Some(Self::Tls)),
            GSS_REQUEST => Ok(Some(Self::Gss)),
            CANCEL_REQUEST => {
                Ok(Some(Self::Cancel { process: cursor.i32()?, secret: cursor.i32()? }))
            }
            version if version >> 16 == 3 => {
                let mut parameters = Vec::new();
                loop {
                    let name = cursor.text()?;
                    if name.is_empty() {
                        break;
                    }
                    parameters.push((name, cursor.text()?));
                }
                Ok(Some(Self::Session { minor: version & 0xffff, parameters }))
            }
            version => violation(format!(
                "protocol {}.{} is not spoken: 3.0 is",
                version >> 16,
                version & 0xffff
            )),
        }
    }
}

/// What a client asks for.
#[derive(Debug)]
pub(super) enum Request {
    Query(String),
    Parse {
        name: String,
        text: String,
        types: Vec<u32>,
    },
    Bind {
        portal: String,
        statement: String,
        formats: Vec<i16>,
        values: Vec<Option<Bytes>>,
        results: Vec<i16>,
    },
    Describe {
        what: Named,
        name: String,
    },
    Execute {
        portal: String,
        /// 0 is no limit.
        rows_max: usize,
    },
    Close {
        what: Named,
        name: String,
    },
    Flush,
    Sync,
    Terminate,
    /// Of a copy that has ended already: others are read where they are copied.
    Copied,
}

/// What a name is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Statement,
    Portal,
}

impl Request {
    /// Reads the frame of type `kind`.
    pub(super) fn parse(kind: u8, mut body: Bytes) -> Parsed<Self> {
        let mut cursor = Cursor(&mut body);
        let request = match kind {
            b'Q' => Self::Query(cursor.text()?),
            b'P' => {
                let (name, text) = (cursor.text()?, cursor.text()?);
                let types = cursor.many(Cursor::u32)?;
                Self::Parse { name, text, types }
            }
            b'B' => Self::Bind {
                portal: cursor.text()?,
                statement: cursor.text()?,
                formats: cursor.many(Cursor::i16)?,
                values: cursor.many(Cursor::value)?,
                results: cursor.many(Cursor::i16)?,
            },
            b'D' => Self::Describe { what: cursor.named()?, name: cursor.text()? },
            b'E' => Self::Execute {
                portal: cursor.text()?,
                rows_max: usize::try_from(cursor.i32()?).unwrap_or(0),
            },
            b'C' => Self::Close { what: cursor.named()?, name: cursor.text()? },
            b'H' => Self::Flush,
            b'S' => Self::Sync,
            b'X' => Self::Terminate,
            b'd' | b'c' | b'f' => return Ok(Self::Copied),
            b'F' => return violation("function calls are not spoken"),
            other => return violation(format!("a message of type {other:#04x}")),
        };
        match body.is_empty() {
            true => Ok(request),
            false => violation(format!("{} bytes after the end of a message", body.len())),
        }
    }
}

/// Whether a frame of this type is one that a client may send once it is let in.
pub(super) fn is_request(kind: u8) -> bool {
    b"QPBDECHSXdcfF".contains(&kind)
}

/// Takes a frame with a type off `buffer`; `None` if it is not all there yet.
pub(super) fn take_frame(buffer: &mut BytesMut, bytes_max: usize) -> Parsed<Option<(u8, Bytes)>> {
    let Some(&kind) = buffer.first() else { return Ok(None) };
    Ok(take_body(buffer, 1, bytes_max)?.map(|body| (kind, body)))
}

/// Takes a frame whose length is behind `offset` bytes, and returns what is behind the length.
fn take_body(buffer: &mut BytesMut, offset: usize, bytes_max: usize) -> Parsed<Option<Bytes>> {
    let Some(length) = buffer.get(offset..offset + 4) else { return Ok(None) };
    let length = i32::from_be_bytes(length.try_into().expect("it is of four bytes"));
    // The length counts itself.
    let length = match usize::try_from(length) {
        Ok(length) if (4..=bytes_max).contains(&length) => length,
        _ => return violation(format!("a message of {length} bytes: the most is {bytes_max}")),
    };
    if buffer.len() < offset + length {
        return Ok(None);
    }
    let mut frame = buffer.split_to(offset + length).freeze();
    frame.advance(offset + 4);
    Ok(Some(frame))
}

/// Reads a body from its beginning.
struct Cursor<'a>(&'a mut Bytes);

impl Cursor<'_> {
    fn i16(&mut self) -> Parsed<i16> {
        self.0.try_get_i16().or_else(|_| violation("a message ends too early"))
    }

    fn i32(&mut self) -> Parsed<i32> {
        self.0.try_get_i32().or_else(|_| violation("a message ends too early"))
    }

    fn u32(&mut self) -> Parsed<u32> {
        self.i32().map(i32::cast_unsigned)
    }

    fn bytes(&mut self, length: usize) -> Parsed<Bytes> {
        match length <= self.0.len() {
            true => Ok(self.0.split_to(length)),
            false => violation("a message ends too early"),
        }
    }

    /// Reads a text up to its zero byte.
    fn text(&mut self) -> Parsed<String> {
        let Some(end) = memchr::memchr(0, self.0) else {
            return violation("a text has no end");
        };
        let text = self.0.split_to(end);
        self.0.advance(1);
        match std::str::from_utf8(&text) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => violation("a text is not in UTF-8"),
        }
    }

    fn value(&mut self) -> Parsed<Option<Bytes>> {
        match self.i32()? {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) => self.bytes(length).map(Some),
                Err(_) => violation("a value of negative length"),
            },
        }
    }

    /// Reads what comes after its number.
    fn many<T>(&mut self, mut read: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let count = self.i16()?.cast_unsigned();
        // Not allocated by a number that nothing may follow.
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(read(self)?);
        }
        Ok(all)
    }

    fn named(&mut self) -> Parsed<Named> {
        match self.0.try_get_u8() {
            Ok(b'S') => Ok(Named::Statement),
            Ok(b'P') => Ok(Named::Portal),
            _ => violation("neither a statement nor a portal"),
        }
    }
}

/// What a column is, to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub name: String,
    pub type_oid: u32,
    /// In bytes; negative if it varies.
    pub type_size: i16,
    pub is_binary: bool,
}

/// Whether statements are in a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    None,
    Open,
    /// A statement failed: the transaction can only be rolled back.
    Failed,
}

/// Answers, put behind each other into `out`.
pub(super) trait Answers {
    /// Puts a message of type `kind`.
    fn message(&mut self, kind: u8, body: impl FnOnce(&mut BytesMut));

    fn empty(&mut self, kind: u8) {
        self.message(kind, |_| ());
    }

    fn authentication(&mut self, code: i32, data: &[u8]) {
        self.message(b'R', |out| {
            out.put_i32(code);
            out.put_slice(data);
        });
    }

    fn parameter(&mut self, name: &str, value: &str) {
        self.message(b'S', |out| {
            put_text(out, name);
            put_text(out, value);
        });
    }

    fn key(&mut self, process: i32, secret: i32) {
        self.message(b'K', |out| {
            out.put_i32(process);
            out.put_i32(secret);
        });
    }

    fn ready(&mut self, block: Block) {
        self.message(b'Z', |out| {
            out.put_u8(match block {
                Block::None => b'I',
                Block::Open => b'T',
                Block::Failed => b'E',
            });
        });
    }

    fn complete(&mut self, tag: &str) {
        self.message(b'C', |out| put_text(out, tag));
    }

    fn columns(&mut self, columns: &[Column]) {
        self.message(b'T', |out| {
            out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
            for column in columns {
                put_text(out, &column.name);
                // Of no table that is known by number.
                out.put_i32(0);
                out.put_i16(0);
                out.put_u32(column.type_oid);
                out.put_i16(column.type_size);
                out.put_i32(-1);
                out.put_i16(column.is_binary.into());
            }
        });
    }

    /// Begins to copy lines: to the client (`H`), or from it (`G`).
    fn copies(&mut self, kind: u8, columns: usize) {
        self.message(kind, |out| {
            out.put_u8(0);
            let columns = u16::try_from(columns).unwrap_or(u16::MAX);
            out.put_u16(columns);
            (0..columns).for_each(|_| out.put_u16(0));
        });
    }

    fn parameter_types(&mut self, types: &[u32]) {
        self.message(b't', |out| {
            out.put_u16(u16::try_from(types.len()).unwrap_or(u16::MAX));
            types.iter().for_each(|oid| out.put_u32(*oid));
        });
    }

    /// Puts an error (`E`) or a notice (`N`) of these fields.
    fn fields(&mut self, kind: u8, fields: &[(u8, &str)]) {
        self.message(kind, |out| {
            for (field, text) in fields {
                out.put_u8(*field);
                put_text(out, text);
            }
            out.put_u8(0);
        });
    }
}

impl Answers for BytesMut {
    fn message(&mut self, kind: u8, body: impl FnOnce(&mut BytesMut)) {
        self.put_u8(kind);
        let begin = self.len();
        self.put_i32(0);
        body(self);
        set_length(self, begin, self.len() - begin);
    }
}

/// Writes a length into the four bytes at `at`.
pub(super) fn set_length(out: &mut BytesMut, at: usize, length: usize) {
    let length = i32::try_from(length).unwrap_or(i32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

fn put_text(out: &mut BytesMut, text: &str) {
    // A zero byte would end it.
    out.put_slice(text.split('\0').next().unwrap_or_default().as_bytes());
    out.put_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, body: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        out.message(kind, |out| out.put_slice(body));
        out
    }

    fn parse(kind: u8, body: &'static [u8]) -> Parsed<Request> {
        Request::parse(kind, Bytes::from_static(body))
    }

    #[test]
    fn frames_are_cut_where_their_length_says() {
        let mut buffer = frame(b'Q', b"SELECT 1\0");
        let whole = buffer.clone();
        for cut in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..cut]);
            assert_eq!(take_frame(&mut part, 1000), Ok(None), "{cut}");
        }
        buffer.extend_from_slice(b"S");
        let (kind, body) = take_frame(&mut buffer, 1000).unwrap().unwrap();
        assert_eq!((kind, &body[..], &buffer[..]), (b'Q', &b"SELECT 1\0"[..], &b"S"[..]));
    }

    #[test]
    fn lengths_are_bounded_before_anything_is_kept() {
        for length in [i32::MIN, -1, 0, 3, 1001, i32::MAX] {
            let mut buffer = BytesMut::from(&b"Q"[..]);
            buffer.put_i32(length);
            assert!(take_frame(&mut buffer, 1000).is_err(), "{length}");
        }
    }

    #[test]
    fn what_is_cut_short_or_has_more_is_a_violation() {
        let bind: &[u8] = b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\0";
        assert!(Request::parse(b'B', Bytes::from_static(bind)).is_ok());
        for cut in 0..bind.len() {
            assert!(Request::parse(b'B', Bytes::copy_from_slice(&bind[..cut])).is_err(), "{cut}");
        }
        for (kind, body) in [
            (b'Q', &b"no end"[..]),
            (b'Q', b"a\0b"),
            (b'Q', b"\xff\0"),
            (b'P', b"\0\0\xff\xff"),
            (b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff"),
            (b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe"),
            (b'D', b"X\0"),
            (b'z', b""),
        ] {
            assert!(parse(kind, body).is_err(), "{kind} {body:?}");
        }
    }
}
