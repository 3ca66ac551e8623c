//! Bodies of frames: fields in order, by the rules that PROTOCOL.md calls *Bodies*.
//!
//! Owns reading and writing of single fields, which postcard does. It never allocates from a
//! length that was read: bytes are split from the frame, sequences grow as elements arrive.
//!
//! ```text
//! unsigned  varint            option    00, or 01 and the value
//! byte      one byte          sequence  varint count, then each element as bytes
//! boolean   00 or 01          bytes     varint length, then the bytes
//! string    bytes in UTF-8
//! ```
//!
//! A body may end after any field: what is missing is zero, false, none or empty. Bytes after the
//! last known field are skipped. So bodies grow at their end, in both directions.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A body, or an element of a sequence, that does not follow the rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` {fault}")]
pub struct Malformed {
    /// The field's name in PROTOCOL.md.
    pub field: &'static str,
    /// What is wrong with it.
    pub fault: &'static str,
}

/// A value that is written as fields in a fixed order.
pub trait Body: Sized {
    /// Appends all fields.
    fn encode(&self, out: &mut Writer);
    /// Takes all fields, skipping nothing between them.
    fn decode(body: &mut Reader) -> Result<Self, Malformed>;

    /// Decodes a whole body; unknown bytes after the last field are skipped.
    fn from_bytes(bytes: BytesMut) -> Result<Self, Malformed> {
        Self::decode(&mut Reader::new(bytes))
    }
}

/// Takes fields off the front of a body without copying bytes.
#[derive(Debug)]
pub struct Reader {
    rest: BytesMut,
}

impl Reader {
    /// Reads `bytes` from the front.
    pub fn new(bytes: BytesMut) -> Self {
        Self { rest: bytes }
    }

    fn take<T>(&mut self, field: &'static str, fault: &'static str) -> Result<T, Malformed>
    where
        T: DeserializeOwned + Default,
    {
        if self.rest.is_empty() {
            return Ok(T::default());
        }
        let (value, rest) =
            postcard::take_from_bytes::<T>(&self.rest).map_err(|_| Malformed { field, fault })?;
        let used = self.rest.len() - rest.len();
        self.rest.advance(used);
        Ok(value)
    }

    /// An unsigned number of at most 64 bits.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, Malformed> {
        self.take(field, "is not a varint of at most 64 bits")
    }

    /// An unsigned number of at most 32 bits.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, Malformed> {
        self.take(field, "is not a varint of at most 32 bits")
    }

    /// One byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, Malformed> {
        self.take(field, "is not a byte")
    }

    /// `00` or `01`.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, Malformed> {
        self.take(field, "is not a boolean, 00 or 01")
    }

    /// Length-prefixed bytes, split from the body.
    pub fn bytes(&mut self, field: &'static str) -> Result<BytesMut, Malformed> {
        let len = self.u64(field)?;
        match usize::try_from(len) {
            Ok(len) if len <= self.rest.len() => Ok(self.rest.split_to(len)),
            _ => Err(Malformed {
                field,
                fault: "is longer than its body",
            }),
        }
    }

    /// Length-prefixed UTF-8.
    pub fn string(&mut self, field: &'static str) -> Result<String, Malformed> {
        let bytes = self.bytes(field)?;
        std::str::from_utf8(&bytes)
            .map(str::to_owned)
            .map_err(|_| Malformed {
                field,
                fault: "is not UTF-8",
            })
    }

    /// A value that may be absent.
    pub fn option<T>(
        &mut self,
        field: &'static str,
        value: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        match self.u8(field)? {
            0 => Ok(None),
            1 => value(self).map(Some),
            _ => Err(Malformed {
                field,
                fault: "is not an option, 00 or 01 and a value",
            }),
        }
    }

    /// A counted sequence whose elements are length-prefixed; it grows as elements are found.
    pub fn sequence<T>(
        &mut self,
        field: &'static str,
        element: impl Fn(BytesMut) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.u64(field)?;
        // Every element takes at least its own length byte, so the bytes present bound the loop.
        if count > self.rest.len() as u64 {
            return Err(Malformed {
                field,
                fault: "counts more elements than its body holds",
            });
        }
        let mut elements = Vec::new();
        for _ in 0..count {
            if self.rest.is_empty() {
                return Err(Malformed {
                    field,
                    fault: "counts more elements than its body holds",
                });
            }
            let bytes = self.bytes(field)?;
            elements.push(element(bytes)?);
        }
        Ok(elements)
    }
}

/// Room for a body that most bodies fit into.
const SHORT_BODY_BYTES: usize = 54;

/// Where a head stands that is filled in when what follows it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    part: usize,
    at: usize,
}

/// Appends fields; bytes that are shared already are linked in, not copied.
#[derive(Debug, Default)]
pub struct Writer {
    parts: Vec<Bytes>,
    open: BytesMut,
    parts_len: usize,
}

impl Writer {
    /// Leaves room for a head of so many bytes, to be filled in by [`Writer::complete`].
    pub(crate) fn begin(&mut self, head: usize) -> Mark {
        // Most bodies are short: one piece of memory for head and body.
        self.open.reserve(head + SHORT_BODY_BYTES);
        let mark = Mark {
            part: self.parts.len(),
            at: self.open.len(),
        };
        self.open.put_bytes(0, head);
        mark
    }

    /// Fills in a head.
    pub(crate) fn complete(&mut self, mark: Mark, head: &[u8]) {
        let range = mark.at..mark.at + head.len();
        match self.parts.get_mut(mark.part) {
            // The head stands in a part that was closed for a shared one: it is short, copy it.
            Some(part) => {
                let mut whole = BytesMut::from(&part[..]);
                whole[range].copy_from_slice(head);
                *part = whole.freeze();
            }
            None => self.open[range].copy_from_slice(head),
        }
    }

    fn put<T: Serialize>(&mut self, value: T) {
        // A number always fits its longest varint, so this cannot fail.
        let mut number = [0; crate::varint::MAX_LEN];
        if let Ok(encoded) = postcard::to_slice(&value, &mut number) {
            self.open.put_slice(encoded);
        }
    }

    /// An unsigned number of at most 64 bits.
    pub fn u64(&mut self, value: u64) {
        self.put(value);
    }

    /// An unsigned number of at most 32 bits.
    pub fn u32(&mut self, value: u32) {
        self.put(value);
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.put(value);
    }

    /// `00` or `01`.
    pub fn bool(&mut self, value: bool) {
        self.put(value);
    }

    /// Length-prefixed bytes, copied.
    pub fn bytes(&mut self, value: &[u8]) {
        self.put(value.len() as u64);
        self.open.put_slice(value);
    }

    /// Length-prefixed bytes, shared.
    pub fn shared(&mut self, value: Bytes) {
        self.put(value.len() as u64);
        let open = self.open.split().freeze();
        self.parts_len += open.len() + value.len();
        self.parts.push(open);
        self.parts.push(value);
    }

    /// Length-prefixed UTF-8.
    pub fn string(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    /// A value that may be absent.
    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// A counted sequence of length-prefixed elements.
    pub fn sequence<T>(&mut self, elements: &[T], write: impl Fn(&mut Self, &T)) {
        self.u64(elements.len() as u64);
        for element in elements {
            let mut inner = Self::default();
            write(&mut inner, element);
            self.bytes(&inner.into_bytes());
        }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.parts_len + self.open.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was written, as the pieces it was made of, for a vectored write.
    pub fn into_parts(mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.parts.push(self.open.freeze());
        }
        self.parts
    }

    /// What was written, in one piece.
    pub fn into_bytes(self) -> BytesMut {
        if self.parts.is_empty() {
            return self.open;
        }
        let mut whole = BytesMut::with_capacity(self.len());
        for part in self.into_parts() {
            whole.put_slice(&part);
        }
        whole
    }
}

/// A value that stands as one field of a body.
pub trait Field: Sized {
    /// Appends it.
    fn put(&self, out: &mut Writer);
    /// Takes it; `name` is the field's name in errors.
    fn take(body: &mut Reader, name: &'static str) -> Result<Self, Malformed>;
}

macro_rules! number_fields {
    ($($ty:ident)*) => {$(
        impl Field for $ty {
            fn put(&self, out: &mut Writer) {
                out.$ty(*self);
            }
            fn take(body: &mut Reader, name: &'static str) -> Result<Self, Malformed> {
                body.$ty(name)
            }
        }
    )*};
}
number_fields! { u8 u32 u64 bool }

macro_rules! id_fields {
    ($($ty:ident)*) => {$(
        impl Field for crate::ids::$ty {
            fn put(&self, out: &mut Writer) {
                out.u64(self.0);
            }
            fn take(body: &mut Reader, name: &'static str) -> Result<Self, Malformed> {
                body.u64(name).map(Self)
            }
        }
    )*};
}
id_fields! { TopicId ProducerId ConsumerId WorkerId NodeId }

impl Field for String {
    fn put(&self, out: &mut Writer) {
        out.string(self);
    }
    fn take(body: &mut Reader, name: &'static str) -> Result<Self, Malformed> {
        body.string(name)
    }
}

impl Field for Bytes {
    fn put(&self, out: &mut Writer) {
        out.bytes(self);
    }
    fn take(body: &mut Reader, name: &'static str) -> Result<Self, Malformed> {
        body.bytes(name).map(BytesMut::freeze)
    }
}

impl Field for [u8; 16] {
    fn put(&self, out: &mut Writer) {
        out.bytes(self);
    }
    fn take(body: &mut Reader, name: &'static str) -> Result<Self, Malformed> {
        let bytes = body.bytes(name)?;
        if bytes.is_empty() {
            return Ok([0; 16]);
        }
        bytes.as_ref().try_into().map_err(|_| Malformed {
            field: name,
            fault: "is not 16 bytes",
        })
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Writer) {
        out.option(self.as_ref(), |out, value| value.put(out));
    }
    fn take(body: &mut Reader, name: &'static str) -> Result<Self, Malformed> {
        body.option(name, |body| T::take(body, name))
    }
}

impl<T: Body> Field for Vec<T> {
    fn put(&self, out: &mut Writer) {
        out.sequence(self, |out, element| element.encode(out));
    }
    fn take(body: &mut Reader, name: &'static str) -> Result<Self, Malformed> {
        body.sequence(name, T::from_bytes)
    }
}

impl Field for Vec<String> {
    fn put(&self, out: &mut Writer) {
        out.u64(self.len() as u64);
        for element in self {
            out.string(element);
        }
    }
    fn take(body: &mut Reader, name: &'static str) -> Result<Self, Malformed> {
        body.sequence(name, |bytes| {
            String::from_utf8(bytes.into()).map_err(|_| Malformed {
                field: name,
                fault: "is not UTF-8",
            })
        })
    }
}

impl Field for Vec<Bytes> {
    fn put(&self, out: &mut Writer) {
        out.u64(self.len() as u64);
        for element in self {
            out.shared(element.clone());
        }
    }
    fn take(body: &mut Reader, name: &'static str) -> Result<Self, Malformed> {
        body.sequence(name, |bytes| Ok(bytes.freeze()))
    }
}

/// Declares structs whose fields are written in the order in which they stand: one line a field,
/// for both directions.
#[macro_export]
macro_rules! bodies {
    ($($(#[$doc:meta])* pub struct $name:ident {
        $($(#[$field_doc:meta])* pub $field:ident: $ty:ty,)*
    })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $ty,)*
        }

        impl $crate::body::Body for $name {
            #[allow(unused_variables, reason = "a body may have no fields")]
            fn encode(&self, out: &mut $crate::body::Writer) {
                $($crate::body::Field::put(&self.$field, out);)*
            }

            #[allow(unused_variables, reason = "a body may have no fields")]
            fn decode(
                body: &mut $crate::body::Reader,
            ) -> Result<Self, $crate::body::Malformed> {
                Ok(Self {
                    $($field: $crate::body::Field::take(body, stringify!($field))?,)*
                })
            }
        }
    )*};
}
pub use bodies;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_ends_early_reads_as_zero_false_none_and_empty() {
        let mut body = Reader::new(BytesMut::new());
        assert_eq!(body.u64("a"), Ok(0));
        assert_eq!(body.bool("b"), Ok(false));
        assert_eq!(body.string("c"), Ok(String::new()));
        assert_eq!(body.option("d", |r| r.u64("d")), Ok(None));
        assert_eq!(body.sequence("e", Ok), Ok(vec![]));
    }

    #[test]
    fn a_length_beyond_the_body_is_refused_and_allocates_nothing() {
        let huge =
            BytesMut::from(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01][..]);
        assert_eq!(
            Reader::new(huge.clone())
                .bytes("value")
                .unwrap_err()
                .to_string(),
            "field `value` is longer than its body"
        );
        assert_eq!(
            Reader::new(huge)
                .sequence("topics", Ok)
                .unwrap_err()
                .to_string(),
            "field `topics` counts more elements than its body holds"
        );
    }

    #[test]
    fn shared_bytes_are_linked_and_read_back_in_place() {
        let mut out = Writer::default();
        out.u64(300);
        let value = Bytes::from_static(b"a batch");
        out.shared(value.clone());
        out.string("end");
        let parts = out.into_parts();
        assert_eq!(parts[1].as_ptr(), value.as_ptr(), "not copied");
        let mut body = Reader::new(parts.concat().as_slice().into());
        assert_eq!(body.u64("n"), Ok(300));
        assert_eq!(body.bytes("v").unwrap(), value);
        assert_eq!(body.string("s").unwrap(), "end");
    }
}
