//! The first bytes of a binary connection, in both directions: who speaks which versions.
//!
//! ```text
//! client, 20 bytes                            broker, 6 + n bytes
//!  0 magic    D4 4C 4F 47                      0 magic    D4 4C 4F 47
//!  4 lowest version   u16                      4 length   u16, n
//!  6 highest version  u16                      6 version  u16, 0 = none in common
//!  8 features         u64                      8 lowest, highest version  u16, u16
//! 16 reserved, 0      u32                     12 features u64
//!                                             20 cluster id 16 bytes, 0 = none
//!                                             36 node id  u64
//!                                             44 frame, window, batch, record limits  4 x u32
//!                                             60 batches in flight  u32
//!                                             64 longest wait, ms   u32
//!                                             68 idle time, ms      u32   (n = 66)
//! ```
//!
//! Numbers are big-endian. A client skips what follows the fields that it knows.

use bytes::{Buf, BufMut, BytesMut};

use crate::error::{ErrorCode, Failure};
use crate::limits;

/// What a binary connection begins with; its first byte is neither ASCII nor 0xFF.
pub const MAGIC: [u8; 4] = [0xd4, b'L', b'O', b'G'];
/// The version of the protocol that this crate speaks; not the crate's own version.
pub const VERSION: u16 = 1;
/// Bytes of a client's preface.
pub const CLIENT_PREFACE_BYTES: usize = 20;
/// Bytes of the broker's preface up to and including its length field.
pub const BROKER_PREFACE_HEAD_BYTES: usize = 6;
/// Bytes of the broker's preface after its length field.
const BROKER_PREFACE_BYTES: u16 = 66;
/// The fewest that a broker may send: those of before there was an idle time.
const SHORTEST_BROKER_PREFACE_BYTES: u16 = 62;

/// What a client opens with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientPreface {
    /// Lowest version that the client speaks.
    pub lowest: u16,
    /// Highest version that the client speaks.
    pub highest: u16,
    /// Features that the client would use; none are defined.
    pub features: u64,
}

impl Default for ClientPreface {
    fn default() -> Self {
        Self {
            lowest: VERSION,
            highest: VERSION,
            features: 0,
        }
    }
}

impl ClientPreface {
    /// Appends the 20 bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_slice(&MAGIC);
        out.put_u16(self.lowest);
        out.put_u16(self.highest);
        out.put_u64(self.features);
        out.put_u32(0);
    }

    /// Takes the preface off `input`; `None` as long as it is a beginning of one.
    ///
    /// # Errors
    /// `BAD_PREFACE` as soon as a byte differs from the magic.
    pub fn decode(input: &mut BytesMut) -> Result<Option<Self>, Failure> {
        let known = input.len().min(MAGIC.len());
        if input[..known] != MAGIC[..known] {
            return Err(Failure::new(
                ErrorCode::BadPreface,
                "the connection began with neither a preface nor text",
            )
            .hint("a binary client sends D4 4C 4F 47 first; a person types HELP"));
        }
        if input.len() < CLIENT_PREFACE_BYTES {
            return Ok(None);
        }
        let mut preface = input.split_to(CLIENT_PREFACE_BYTES);
        preface.advance(MAGIC.len());
        Ok(Some(Self {
            lowest: preface.get_u16(),
            highest: preface.get_u16(),
            features: preface.get_u64(),
        }))
    }

    /// The version that both sides speak, or 0.
    pub fn negotiate(&self) -> u16 {
        if (self.lowest..=self.highest).contains(&VERSION) {
            VERSION
        } else {
            0
        }
    }
}

/// What the broker answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerPreface {
    /// The version that the connection goes on in; 0 if there is none, and the connection ends.
    pub version: u16,
    /// Lowest version that the broker speaks.
    pub lowest: u16,
    /// Highest version that the broker speaks.
    pub highest: u16,
    /// Features in force; none are defined.
    pub features: u64,
    /// Which cluster this is; all zero for a broker that stands alone.
    pub cluster: [u8; 16],
    /// Which broker this is.
    pub node: u64,
    /// What the broker accepts.
    pub limits: Limits,
}

/// The limits that a client must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest frame, in bytes after its length field.
    pub frame_bytes: u32,
    /// Bytes of requests and answers under way on one connection.
    pub window_bytes: u32,
    /// Longest batch, in bytes with its head.
    pub batch_bytes: u32,
    /// Largest record, in bytes of key, headers and value.
    pub record_bytes: u32,
    /// Unanswered batches of one producer.
    pub batches_in_flight: u32,
    /// Longest wait of a fetch or consume, in milliseconds.
    pub wait_ms: u32,
    /// A connection on which nothing is said for so long may be ended, in milliseconds; 0 = it is not.
    pub idle_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: limits::MAX_FRAME_BYTES,
            window_bytes: limits::WINDOW_BYTES,
            batch_bytes: limits::MAX_BATCH_BYTES,
            record_bytes: limits::MAX_RECORD_BYTES,
            batches_in_flight: limits::MAX_BATCHES_IN_FLIGHT,
            wait_ms: limits::MAX_WAIT_MS,
            idle_ms: limits::IDLE_MS,
        }
    }
}

impl BrokerPreface {
    /// Appends the preface.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_slice(&MAGIC);
        out.put_u16(BROKER_PREFACE_BYTES);
        out.put_u16(self.version);
        out.put_u16(self.lowest);
        out.put_u16(self.highest);
        out.put_u64(self.features);
        out.put_slice(&self.cluster);
        out.put_u64(self.node);
        out.put_u32(self.limits.frame_bytes);
        out.put_u32(self.limits.window_bytes);
        out.put_u32(self.limits.batch_bytes);
        out.put_u32(self.limits.record_bytes);
        out.put_u32(self.limits.batches_in_flight);
        out.put_u32(self.limits.wait_ms);
        out.put_u32(self.limits.idle_ms);
    }

    /// Takes the preface off `input`; `None` as long as it is a beginning of one.
    ///
    /// # Errors
    /// `BAD_PREFACE` if this is not a logdrive broker, `UNSUPPORTED_VERSION` if it speaks no
    /// version of ours.
    pub fn decode(input: &mut BytesMut) -> Result<Option<Self>, Failure> {
        let known = input.len().min(MAGIC.len());
        if input[..known] != MAGIC[..known] {
            return Err(Failure::new(
                ErrorCode::BadPreface,
                "the other side is not logdrive",
            ));
        }
        let Some(mut length) = input.get(MAGIC.len()..BROKER_PREFACE_HEAD_BYTES) else {
            return Ok(None);
        };
        let length = length.get_u16();
        if length < SHORTEST_BROKER_PREFACE_BYTES {
            return Err(Failure::new(
                ErrorCode::BadPreface,
                "the broker's preface is too short",
            ));
        }
        let whole = BROKER_PREFACE_HEAD_BYTES + usize::from(length);
        if input.len() < whole {
            return Ok(None);
        }
        let mut preface = input.split_to(whole);
        preface.advance(BROKER_PREFACE_HEAD_BYTES);
        let (version, lowest, highest) = (preface.get_u16(), preface.get_u16(), preface.get_u16());
        if version != VERSION {
            return Err(Failure::new(
                ErrorCode::UnsupportedVersion,
                format!("the broker speaks versions {lowest} to {highest}, this client {VERSION}"),
            )
            .hint("use a client of the broker's version"));
        }
        let features = preface.get_u64();
        let mut cluster = [0; 16];
        preface.copy_to_slice(&mut cluster);
        let node = preface.get_u64();
        let limits = Limits {
            frame_bytes: preface.get_u32(),
            window_bytes: preface.get_u32(),
            batch_bytes: preface.get_u32(),
            record_bytes: preface.get_u32(),
            batches_in_flight: preface.get_u32(),
            wait_ms: preface.get_u32(),
            idle_ms: preface.try_get_u32().unwrap_or_default(),
        };
        Ok(Some(Self {
            version,
            lowest,
            highest,
            features,
            cluster,
            node,
            limits,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker() -> BrokerPreface {
        BrokerPreface {
            version: VERSION,
            lowest: VERSION,
            highest: VERSION,
            features: 0,
            cluster: [0; 16],
            node: 1,
            limits: Limits::default(),
        }
    }

    #[test]
    fn prefaces_are_read_back_from_any_cut() {
        let mut client = BytesMut::new();
        ClientPreface::default().encode(&mut client);
        assert_eq!(client.len(), CLIENT_PREFACE_BYTES);
        for cut in 0..client.len() {
            assert_eq!(ClientPreface::decode(&mut client[..cut].into()), Ok(None));
        }
        assert_eq!(
            ClientPreface::decode(&mut client),
            Ok(Some(ClientPreface::default()))
        );

        let mut answer = BytesMut::new();
        broker().encode(&mut answer);
        for cut in 0..answer.len() {
            assert_eq!(BrokerPreface::decode(&mut answer[..cut].into()), Ok(None));
        }
        assert_eq!(BrokerPreface::decode(&mut answer), Ok(Some(broker())));
    }

    #[test]
    fn no_common_version_is_zero_and_names_both_sides() {
        assert_eq!(
            ClientPreface {
                lowest: 2,
                highest: 9,
                features: 0
            }
            .negotiate(),
            0
        );
        let mut answer = BytesMut::new();
        BrokerPreface {
            version: 0,
            lowest: 7,
            highest: 8,
            ..broker()
        }
        .encode(&mut answer);
        let failure = BrokerPreface::decode(&mut answer).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "UNSUPPORTED_VERSION the broker speaks versions 7 to 8, this client 1"
        );
    }
}
