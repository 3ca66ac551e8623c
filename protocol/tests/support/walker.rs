//! Reads bytes by the tables of PROTOCOL.md alone, as somebody without the crate would: every
//! field with its bytes, its path and its value as the document shows it.

use serde_json::{Map, Value, json};

use super::hex;
use super::markdown::Document;

/// One field, as a line of a hex block shows it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) bytes: Vec<u8>,
    pub(crate) path: String,
    pub(crate) shown: String,
}

pub(crate) struct Walker<'a> {
    document: &'a Document,
    rest: &'a [u8],
    pub(crate) fields: Vec<Field>,
    /// The tables that were read by.
    pub(crate) used: Vec<String>,
}

const FRAME_HEADER: [(&str, &str); 4] = [
    ("length", "u32"),
    ("opcode", "hex8"),
    ("flags", "hex8"),
    ("correlation", "u32"),
];

impl<'a> Walker<'a> {
    pub(crate) fn new(document: &'a Document, bytes: &'a [u8]) -> Self {
        Self {
            document,
            rest: bytes,
            fields: Vec::new(),
            used: Vec::new(),
        }
    }

    pub(crate) fn rest(&self) -> &[u8] {
        self.rest
    }

    fn push(&mut self, len: usize, path: &str, shown: impl Into<String>) -> &'a [u8] {
        let (bytes, rest) = self.rest.split_at(len);
        self.rest = rest;
        let (bytes_owned, path) = (bytes.to_vec(), path.to_owned());
        self.fields.push(Field {
            bytes: bytes_owned,
            path,
            shown: shown.into(),
        });
        bytes
    }

    /// A varint at the front: its value and how many bytes it takes.
    fn varint(&self) -> (u64, usize) {
        let len = self.rest.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let value = self.rest[..len]
            .iter()
            .rev()
            .fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f));
        (value, len)
    }

    fn number(&mut self, path: &str) -> u64 {
        let (value, len) = self.varint();
        self.push(len, path, value.to_string());
        value
    }

    /// A length that stands on a line of its own, before what it counts.
    fn length(&mut self, path: &str) -> usize {
        let (value, len) = self.varint();
        self.push(len, path, format!("{value} bytes"));
        usize::try_from(value).unwrap()
    }

    /// Length and content on one line.
    fn counted(&mut self, path: &str, show: impl Fn(&[u8]) -> String) -> &'a [u8] {
        let (value, len) = self.varint();
        let end = len + usize::try_from(value).unwrap();
        let shown = show(&self.rest[len..end]);
        &self.push(end, path, shown)[len..]
    }

    /// The header of a frame, and its body by the table of `name`, as JSON.
    pub(crate) fn frame(&mut self, name: &str) -> Value {
        for (path, kind) in FRAME_HEADER {
            self.fixed_field(path, kind);
        }
        self.body(name, "")
    }

    fn body(&mut self, name: &str, prefix: &str) -> Value {
        let mut values = Map::new();
        let Some(table) = self.document.table(name) else {
            let says = format!("`{name}` has no fields");
            assert!(
                self.document.prose.iter().any(|line| line.contains(&says)),
                "{says}?"
            );
            return Value::Object(values);
        };
        self.used.push(name.to_owned());
        for (field, kind) in table.column(name).into_iter().zip(table.column("type")) {
            values.insert(
                field.to_owned(),
                self.value(kind, &format!("{prefix}{field}")),
            );
        }
        Value::Object(values)
    }

    pub(crate) fn value(&mut self, kind: &str, path: &str) -> Value {
        match kind {
            "u8" => {
                let byte = self.rest[0];
                self.push(1, path, byte.to_string());
                json!(byte)
            }
            "u32" => json!(self.number(path)),
            "u64" => json!(self.number(path).to_string()),
            "boolean" => {
                let value = self.rest[0] == 1;
                self.push(1, path, value.to_string());
                json!(value)
            }
            "string" => json!(text(self.counted(path, quoted))),
            "16 bytes" => json!(hex(self.counted(path, |bytes| format!("x:{}", hex(bytes))))),
            "bytes" => self.bytes(path),
            "Position" => json!({
                "kind": self.value("u8", &format!("{path}.kind")),
                "value": self.value("u64", &format!("{path}.value")),
            }),
            _ => match kind.split_once(" of ") {
                Some(("sequence", element)) => self.sequence(element, path),
                Some(("option", value)) => match self.value("u8", path) {
                    Value::Number(there) if there == 1.into() => self.value(value, path),
                    _ => Value::Null,
                },
                _ => panic!("the type {kind} of {path} is not in the table of types"),
            },
        }
    }

    fn sequence(&mut self, kind: &str, path: &str) -> Value {
        let count = self.number(path);
        let mut values = Vec::new();
        for index in 0..count {
            let path = format!("{path}[{index}]");
            values.push(match kind {
                "string" | "bytes" => self.value(kind, &path),
                _ => {
                    let end = self.length(&path);
                    let after = self.rest.len() - end;
                    let value = self.body(kind, &format!("{path}."));
                    assert_eq!(self.rest.len(), after, "length of {path}");
                    value
                }
            });
        }
        values.into()
    }

    /// Bytes that hold a batch are shown field by field.
    fn bytes(&mut self, path: &str) -> Value {
        let (len, at) = self.varint();
        let content = &self.rest[at..at + usize::try_from(len).unwrap()];
        if content.len() < 96 {
            return json!(hex(self.counted(path, quoted_bytes)));
        }
        let value = json!(hex(content));
        self.length(path);
        let after = &self.rest[content.len()..];
        self.rest = content;
        self.batch(&format!("{path}."));
        self.rest = after;
        value
    }

    /// A batch that fills the rest.
    pub(crate) fn batch(&mut self, prefix: &str) {
        let packed = self.rest.get(49).is_some_and(|codec| codec & 0x07 != 0);
        self.fixed("batch head", prefix);
        if packed {
            let len = self.rest.len();
            self.push(len, &format!("{prefix}packed"), format!("{len} bytes"));
        }
        let mut index = 0;
        while !self.rest.is_empty() {
            self.record(&format!("{prefix}records[{index}]"));
            index += 1;
        }
    }

    fn record(&mut self, path: &str) {
        let end = self.length(path);
        let after = self.rest.len() - end;
        self.number(&format!("{path}.offset_delta"));
        self.number(&format!("{path}.timestamp_delta"));
        self.value("u8", &format!("{path}.severity"));
        let (key, len) = self.varint();
        let key_end = len + usize::try_from(key.saturating_sub(1)).unwrap();
        let shown = if key == 0 {
            "none".to_owned()
        } else {
            quoted_bytes(&self.rest[len..key_end])
        };
        self.push(key_end, &format!("{path}.key"), shown);
        for header in 0..self.number(&format!("{path}.headers")) {
            self.counted(&format!("{path}.headers[{header}].name"), quoted);
            self.counted(&format!("{path}.headers[{header}].value"), quoted_bytes);
        }
        self.counted(&format!("{path}.value"), quoted_bytes);
        assert_eq!(self.rest.len(), after, "length of {path}");
    }

    /// Fields of fixed width by the table of `name`, whose positions are compared.
    pub(crate) fn fixed(&mut self, name: &str, prefix: &str) {
        let table = self
            .document
            .table(name)
            .unwrap_or_else(|| panic!("no table of {name}"));
        self.used.push(name.to_owned());
        let mut at = 0;
        let columns = table.column(name).into_iter().zip(table.column("at"));
        for ((field, stated), kind) in columns.zip(table.column("type")) {
            assert_eq!(stated, at.to_string(), "{name}: where {field} stands");
            at += self.fixed_field(&format!("{prefix}{field}"), kind);
        }
    }

    fn fixed_field(&mut self, path: &str, kind: &str) -> usize {
        let sized = |len: usize| {
            let number = self.rest[..len.min(8)]
                .iter()
                .fold(0, |n, byte| n << 8 | u64::from(*byte));
            (len, number)
        };
        let (len, shown) = match kind {
            "u8" => (1, sized(1).1.to_string()),
            "u16" => (2, sized(2).1.to_string()),
            "u32" => (4, sized(4).1.to_string()),
            "u64" => (8, sized(8).1.to_string()),
            "hex8" => (1, format!("{:#04x}", sized(1).1)),
            "flags" => (2, format!("{:#06x}", sized(2).1)),
            "crc" => (4, format!("{:#010x}", sized(4).1)),
            "3 zeros" => (3, sized(3).1.to_string()),
            _ => {
                let len = kind
                    .strip_suffix(" bytes")
                    .and_then(|len| len.parse().ok())
                    .unwrap();
                (len, format!("x:{}", hex(&self.rest[..len])))
            }
        };
        self.push(len, path, shown);
        len
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn quoted(bytes: &[u8]) -> String {
    json!(text(bytes)).to_string()
}

fn quoted_bytes(bytes: &[u8]) -> String {
    let printable = bytes.iter().all(|byte| (0x20..0x7f).contains(byte));
    if printable {
        quoted(bytes)
    } else {
        format!("x:{}", hex(bytes))
    }
}
