//! Lines that are wrong: each is answered with one line that says what to type.

use crate::Bystander;
use crate::support::Broker;

/// A connection that breaks in the middle of a PRODUCE once left the beginning of the value in the
/// topic, as if it had been meant.
#[test]
fn a_line_that_was_cut_off_is_not_carried_out() {
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    let mut peer = broker.text();
    peer.write(b"PRODUCE undisturbed a value that was cu");
    peer.finish();
    assert_eq!(
        peer.rest(),
        "- SYNTAX the last line has no end: nothing was done; try: end each command with LF\n"
    );
    bystander.goes_on();
}

#[test]
fn a_wrong_line_is_answered_with_its_cause_and_the_session_goes_on() {
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    let mut peer = broker.text();
    for (line, answer) in [
        (
            "XYZZY",
            "- UNKNOWN_COMMAND there is no command \"XYZZY\"; try: HELP",
        ),
        (
            "PRODUSE app x",
            "- UNKNOWN_COMMAND there is no command \"PRODUSE\"; try: PRODUCE",
        ),
        (
            "PRODUCE",
            "- SYNTAX PRODUCE needs a topic; try: PRODUCE topic rest-of-the-line-is-the-value",
        ),
        (
            "PRODUCE undistrbed x",
            "- TOPIC_NOT_FOUND there is no topic \"undistrbed\"; did you mean \"undisturbed\"?",
        ),
        (
            "CREATE a/b",
            "- INVALID_TOPIC_NAME \"a/b\" (3 bytes) cannot name a topic; use 1 to 128 of A-Z a-z 0-9 . _ - and no dot at the start",
        ),
        (
            "CREATE t color=red",
            "- INVALID_CONFIG there is no setting color; the settings are description, max_record_bytes, \
             retention_age, retention_bytes, retention_records, retention_until_consumed",
        ),
        (
            "CREATE t color",
            "- SYNTAX \"color\" is not key=value; try: CREATE topic [key=value]... | \
             PRINCIPAL name [quota=value]...",
        ),
        (
            "FETCH undisturbed",
            "- SYNTAX FETCH needs a position; try: FETCH topic W [n=10] [wait=5s] \
             [severity=warn] [header.K=V] [since=T] [until=T] [grep=rest-of-line]",
        ),
        (
            "FETCH undisturbed 99",
            "- OFFSET_OUT_OF_RANGE offset 99 is beyond the end of \"undisturbed\", 1; use latest to wait for what comes next",
        ),
        (
            "FETCH undisturbed 0 n=0",
            "- SYNTAX n is 1 to 10000; try: FETCH topic W [n=10] [wait=5s] \
             [severity=warn] [header.K=V] [since=T] [until=T] [grep=rest-of-line]",
        ),
        (
            "FETCH undisturbed 0 wait=soon",
            "- SYNTAX wait is a duration like 5s or 1m30s; try: FETCH topic W [n=10] [wait=5s] \
             [severity=warn] [header.K=V] [since=T] [until=T] [grep=rest-of-line]",
        ),
        (
            "SIZE undisturbed nobody",
            "- CONSUMER_NOT_FOUND topic \"undisturbed\" has no consumer \"nobody\"; register it first",
        ),
        (
            "ACK undisturbed nobody 7 9-5",
            "- SYNTAX \"9-5\" is no offset or range; try: ACK topic consumer lease offset|from-to|-to",
        ),
        (
            "CONSUME undisturbed nobody lease=0s",
            "- INVALID_LEASE a lease lasts at least 1ms",
        ),
        (
            "ALTER undisturbed nobody",
            "- SYNTAX \"nobody\" is not key=value; try: ALTER topic [key=value]... | \
             CONSUMER topic consumer [key=value]... | PRINCIPAL name [quota=value]...",
        ),
        (
            "DELETE undisturbed",
            "- SYNTAX deleting takes all records: say it twice; try: DELETE undisturbed CONFIRM undisturbed",
        ),
        (
            "UNREGISTER PRODUCER undisturbed",
            "- PRODUCER_NOT_FOUND this session registered no producer for \"undisturbed\"; try: REGISTER PRODUCER undisturbed",
        ),
        (
            "PING PONG",
            "- SYNTAX \"PONG\" is one word too many; try: PING",
        ),
    ] {
        peer.check(line, answer);
    }
    peer.write(b"SIZE \xff\xfe c\n");
    assert_eq!(peer.hear().unwrap(), "- SYNTAX the line is not UTF-8");
    peer.write(b"CREATE a\0b\n");
    let refused = peer.hear().unwrap();
    assert!(
        refused.starts_with("- INVALID_TOPIC_NAME \"a\\u{0}b\""),
        "{refused}"
    );
    let position = peer.ask("FETCH undisturbed yesterday");
    assert!(
        position.starts_with("- INVALID_POSITION \"yesterday\" is no position: use earliest"),
        "{position}"
    );
    peer.check("PING", "+ pong state=ok");
    bystander.goes_on();
}

#[test]
fn a_line_without_an_end_is_stopped_at_its_limit_and_told_so() {
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    let before = broker.resident_bytes();
    let mut peer = broker.text();
    peer.write(b"PRODUCE undisturbed ");
    // The broker reads no further than its limit, so that a part of this may never be taken.
    peer.sends_all(&vec![b'x'; 8 << 20]);
    let rest = peer.rest();
    assert_eq!(
        rest,
        "- LINE_TOO_LONG a command has at most 1048576 bytes; send large records with a client, \
         or with: logdrive produce\n"
    );
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more");
    bystander.goes_on();
}

#[test]
fn a_value_of_any_bytes_comes_back_as_they_are() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let mut text = broker.text();
    text.write(b"PRODUCE app \xff\x00 \x16 HTTP/1.1\r\n");
    assert_eq!(text.hear().unwrap(), "+ offset=0 synced");
    assert_eq!(peer.all(topic)[0].1, b"\xff\x00 \x16 HTTP/1.1");
}
