//! The bridge between JSON and the crate's types, by field names, for the tests of vectors and of
//! the document. It owns no expectation of its own.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod markdown;
pub(crate) mod walker;

use std::any::type_name;

use bytes::{Bytes, BytesMut};
use logdrive_protocol::body::{Body, Malformed};
use logdrive_protocol::operations::*;
use logdrive_protocol::{
    ConsumerId, ErrorCode, Failure, NodeId, Position, ProducerId, Rights, Secret, TopicId,
    WorkerId, frame,
};
use serde_json::{Map, Value, json};

/// A value as the vectors write it: u64 and ids as decimal strings, bytes as hex.
pub(crate) trait Json: Sized {
    fn to_json(&self) -> Value;
    fn from_json(value: &Value) -> Self;
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap();
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)])
        .collect()
}

/// Bytes of hexadecimal digits, between which spaces may stand.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
    assert!(
        digits.len().is_multiple_of(2),
        "odd number of digits: {text}"
    );
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

pub(crate) fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not a string: {value}"))
}

/// A u32 or u8 is a JSON number.
pub(crate) fn small<T: TryFrom<u64>>(value: &Value) -> T {
    let number = value.as_u64().and_then(|number| T::try_from(number).ok());
    number.unwrap_or_else(|| panic!("not a number of its type: {value}"))
}

/// A u64 is a JSON string.
pub(crate) fn large(value: &Value) -> u64 {
    text(value).parse().unwrap()
}

macro_rules! plain {
    ($($ty:ty, $it:ident => $to:expr, $value:ident => $from:expr;)*) => {$(
        impl Json for $ty {
            fn to_json(&self) -> Value {
                let $it = self;
                $to
            }
            fn from_json($value: &Value) -> Self {
                $from
            }
        }
    )*};
}

plain! {
    u8, it => json!(it), value => small(value);
    u32, it => json!(it), value => small(value);
    u64, it => json!(it.to_string()), value => large(value);
    bool, it => json!(it), value => value.as_bool().unwrap();
    String, it => json!(it), value => text(value).to_owned();
    [u8; 16], it => json!(hex(it)), value => unhex(text(value)).try_into().unwrap();
    Bytes, it => json!(hex(it)), value => unhex(text(value)).into();
    Payload, it => json!(hex(it.as_slice())), value => Payload::Shared(Bytes::from_json(value));
    TopicId, it => it.0.to_json(), value => Self(large(value));
    ProducerId, it => it.0.to_json(), value => Self(large(value));
    ConsumerId, it => it.0.to_json(), value => Self(large(value));
    WorkerId, it => it.0.to_json(), value => Self(large(value));
    NodeId, it => it.0.to_json(), value => Self(large(value));
    Rights, it => json!(it.0), value => Self(small(value));
    Secret, it => json!(hex(it.expose())), value => unhex(text(value)).into();
    ErrorCode, it => json!(it.number()), value => Self::from_number(small(value));
}

impl<T: Json> Json for Vec<T> {
    fn to_json(&self) -> Value {
        self.iter().map(Json::to_json).collect()
    }
    fn from_json(value: &Value) -> Self {
        value.as_array().unwrap().iter().map(T::from_json).collect()
    }
}

impl<T: Json> Json for Option<T> {
    fn to_json(&self) -> Value {
        self.as_ref().map_or(Value::Null, Json::to_json)
    }
    fn from_json(value: &Value) -> Self {
        (!value.is_null()).then(|| T::from_json(value))
    }
}

impl Json for Position {
    fn to_json(&self) -> Value {
        let (kind, value) = match *self {
            Self::Earliest => (0, 0),
            Self::Latest => (1, 0),
            Self::Offset(offset) => (2, offset),
            Self::Last(count) => (3, count),
            Self::Time(time) => (4, time),
            Self::Ago(age) => (5, age),
            Self::Unknown(kind) => (kind, 0),
        };
        json!({ "kind": kind, "value": value.to_string() })
    }
    fn from_json(value: &Value) -> Self {
        let number = large(&value["value"]);
        match small(&value["kind"]) {
            0 => Self::Earliest,
            1 => Self::Latest,
            2 => Self::Offset(number),
            3 => Self::Last(number),
            4 => Self::Time(number),
            5 => Self::Ago(number),
            other => Self::Unknown(other),
        }
    }
}

/// How one kind of body is read and written through JSON.
pub(crate) struct Codec {
    pub(crate) decode: fn(BytesMut) -> Result<Value, Malformed>,
    /// Opcode, flags, correlation id and fields to a whole frame.
    pub(crate) encode: fn(u8, u8, u32, &Value) -> Vec<u8>,
}

fn decode<T: Body + Json>(bytes: BytesMut) -> Result<Value, Malformed> {
    T::from_bytes(bytes).map(|body| body.to_json())
}

fn encode<T: Body + Json>(opcode: u8, flags: u8, correlation: u32, fields: &Value) -> Vec<u8> {
    frame::encode(opcode, flags, correlation, &T::from_json(fields)).concat()
}

macro_rules! structs {
    ($($name:ident { $($field:ident)* })*) => {
        $(impl Json for $name {
            fn to_json(&self) -> Value {
                #[allow(unused_mut, reason = "a body may have no fields")]
                let mut fields = Map::new();
                $(fields.insert(stringify!($field).to_owned(), self.$field.to_json());)*
                Value::Object(fields)
            }
            #[allow(unused_variables, reason = "a body may have no fields")]
            fn from_json(value: &Value) -> Self {
                let count = <[&str]>::len(&[$(stringify!($field)),*]);
                assert_eq!(value.as_object().unwrap().len(), count, "fields of {value}");
                Self { $($field: Json::from_json(&value[stringify!($field)]),)* }
            }
        })*

        /// The codec of a body by its name in PROTOCOL.md.
        pub(crate) fn codec(name: &str) -> Codec {
            match name {
                $(stringify!($name) => Codec { decode: decode::<$name>, encode: encode::<$name> },)*
                "Error" => Codec { decode: decode::<Failure>, encode: encode::<Failure> },
                other => panic!("no body is called {other}"),
            }
        }
    };
}

structs! {
    Failure { code message hint first second address }
    Setting { key value }
    CreateTopic { name settings if_not_exists }
    TopicCreated { topic created }
    DeleteTopic { topic }
    TopicDeleted {}
    ListTopics { glob after limit }
    TopicsListed { topics more }
    TopicSummary { name topic log_start high_watermark records bytes }
    DescribeTopic { name after limit }
    TopicDescribed {
        topic name settings created_at log_start high_watermark records bytes last_append_time
        producers consumer_count consumers more held_by owner
    }
    AlterTopic { topic set unset }
    TopicAltered { settings }
    PurgeTopic { topic before }
    TopicPurged { log_start records bytes }
    ConsumerSummary { name consumer cursor records bytes workers }
    RegisterProducer { topic name producer instance create_topic }
    ProducerRegistered { topic producer epoch next_sequence topic_created }
    UnregisterProducer { topic producer epoch }
    ProducerUnregistered {}
    Produce { topic leader_epoch ack not_before batch }
    Produced { base_offset append_time durability leader_epoch }
    Fetch { topic from max_records max_bytes max_wait_ms leader_epoch filter }
    ProduceAll { parts consumed }
    Part { topic batch }
    Consumed { topic consumer worker settled }
    ProducedAll { parts acked }
    Delivered { status leader_epoch high_watermark log_start next gaps ranges batches }
    Range { from to deliveries lease }
    Gap { from to records bytes first_time last_time reason }
    RegisterConsumer { topic name from settings create }
    ConsumerRegistered { topic consumer cursor created }
    UnregisterConsumer { topic consumer }
    ConsumerUnregistered {}
    Consume {
        topic consumer worker sequence max_records max_bytes max_wait_ms lease_ms leader_epoch
    }
    Seek { topic consumer to }
    Sought { cursor }
    UnregisterWorker { topic consumer worker }
    WorkerUnregistered {}
    Ack { topic consumer worker settled }
    Acked { records }
    Nack { topic consumer worker settled delay_ms }
    Nacked { records }
    Settled { lease from to }
    Extend { topic consumer worker lease lease_ms }
    Extended {}
    Requeue { topic consumer dead_letters ranges }
    Requeued { records }
    Offsets { from to }
    AlterConsumer { topic consumer set unset pause }
    ConsumerAltered { settings paused }
    DescribeConsumer { topic consumer after limit }
    ConsumerDescribed {
        name settings paused cursor next records bytes leased waiting gaps workers held_by
        held_offset held_key leases more
    }
    LeaseSummary { lease worker records from left_ms }
    Size { topic consumer }
    Measured { records bytes oldest_age leased delayed gaps }
    Hello { client version }
    Greeted { broker version cluster node started_at limits }
    Ping {}
    Pinged { state now free_bytes }
    Metadata { topics }
    Located { nodes topics }
    Node { id address }
    TopicPlace { name id leader leader_epoch }
    Authenticate { mechanism data }
    Authenticated { done data principal }
    CreatePrincipal { name grants quotas tokens password }
    PrincipalCreated { tokens }
    Grant { rights topics }
    Verifier { salt iterations stored_key server_key }
    IssuedToken { label token }
    AlterPrincipal {
        name grant revoke set unset tokens forget_tokens password forget_password
    }
    PrincipalAltered { tokens }
    DeletePrincipal { name }
    PrincipalDeleted {}
    ListPrincipals { glob after limit }
    PrincipalsListed { principals more }
    PrincipalSummary { name created_at grants quotas tokens password usage }
    TokenSummary { label created_at }
    Cancel { topic correlation }
    CancelPassed {}
    Stats { topic }
    Counted { counters }
    Counter { name value }
    GoingAway { deadline_ms reason }
    StateChanged { state topic }
}

macro_rules! answers {
    ($($request:ident)*) => {
        /// The name of an operation's answer, from the operation's own type.
        pub(crate) fn answer_name(operation: &str) -> &'static str {
            let path = match operation {
                $(stringify!($request) => type_name::<<$request as Operation>::Answer>(),)*
                other => panic!("no operation is called {other}"),
            };
            path.rsplit("::").next().unwrap()
        }
    };
}

answers! {
    Hello Ping Metadata Cancel Stats CreateTopic DeleteTopic ListTopics DescribeTopic AlterTopic
    PurgeTopic RegisterProducer UnregisterProducer Produce ProduceAll Fetch RegisterConsumer UnregisterConsumer Consume
    Seek Size UnregisterWorker Ack Nack Extend Requeue AlterConsumer DescribeConsumer Authenticate
    CreatePrincipal AlterPrincipal DeletePrincipal ListPrincipals
}
