//! What single values may be, with the words for those that are not.
//!
//! Pure. Its neighbour: the [grammar](super), whose arguments these are.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::builder::TypedValueParser;
use logdrive_protocol::Position;
use logdrive_protocol::position::{parse_duration, parse_time};

use crate::limits::{LONGEST_IDLE, SHORTEST_IDLE};

/// How many connections may be open.
pub(super) fn connections() -> impl TypedValueParser<Value = usize> {
    let most = u64::from(u32::MAX);
    clap::value_parser!(u64)
        .range(1..=most)
        .map(|count| usize::try_from(count).unwrap_or(usize::MAX))
}

/// Where to listen.
pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    let port = text.rsplit(':').next().and_then(|port| port.parse().ok());
    let port: u16 = port.unwrap_or(7440);
    text.parse().map_err(|_| {
        format!(
            "it is an address and a port in numbers, no name: 127.0.0.1:{port} for this machine, \
             0.0.0.0:{port} for all"
        )
    })
}

/// How long a connection may be silent; zero is for ever.
pub(super) fn idle(text: &str) -> Result<Duration, String> {
    let idle = match text {
        "0" => Some(Duration::ZERO),
        _ => parse_duration(text).map(Duration::from_micros),
    };
    idle.filter(|idle| idle.is_zero() || (SHORTEST_IDLE..=LONGEST_IDLE).contains(idle))
        .ok_or_else(|| "an idle time is 0, or a duration from 100ms to 24h".to_owned())
}

/// How long a record is to wait.
pub(super) fn delay(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Some(micros) if micros > 0 => Ok(Duration::from_micros(micros)),
        _ => Err("a delay is a duration, such as 5m or 1h30m".to_owned()),
    }
}

/// A time that is to come.
pub(super) fn instant(text: &str) -> Result<SystemTime, String> {
    match text.parse() {
        Ok(Position::Time(micros)) => Ok(UNIX_EPOCH + Duration::from_micros(micros)),
        _ => Err("a time is as in RFC 3339, such as 2030-01-01T12:00:00Z".to_owned()),
    }
}

/// How long a lease lasts.
pub(super) fn lease(text: &str) -> Result<Duration, String> {
    let lasts = parse_duration(text).map(Duration::from_micros);
    lasts
        .filter(|lasts| lasts.as_millis() > 0)
        .ok_or_else(|| "a lease is a duration like 30s or 5m".to_owned())
}

/// A key and its value.
pub(super) fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a setting is KEY=VALUE, such as retention_age=7d".to_owned()),
    }
}

/// A header as it is sent.
pub(super) fn header(text: &str) -> Result<(String, Vec<u8>), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.into())),
        _ => Err("a header is NAME=VALUE, such as host=web-1".to_owned()),
    }
}

/// A header that is to be compared.
pub(super) fn header_text(text: &str) -> Result<(String, String), String> {
    let (name, value) = header(text)?;
    let value = String::from_utf8(value).map_err(|_| "a header to compare is UTF-8".to_owned())?;
    Ok((name, value))
}

/// A time in microseconds since 1970 UTC.
pub(super) fn time(text: &str) -> Result<u64, String> {
    parse_time(text)
        .ok_or_else(|| "a time is like 2026-03-01T12:00:00Z, or microseconds since 1970".to_owned())
}
