//! The grammar of filters, what matches, and what is taken out of batches.

use logdrive_protocol::TopicId;
use logdrive_protocol::batch::{self, BatchBuilder, NewRecord, Origin, Place, check_delivered};
use logdrive_protocol::operations::Delivered;

use std::sync::Arc;

use bytes::Bytes;

use super::selection::ASK_BYTES;
use super::*;
use crate::limits::MAX_RANGES;
use crate::topic::consumer::taking::{Enough, Found, Looks};

const TOPIC: TopicId = TopicId(3);

/// Settings of words like `severity=warn`.
fn settings(words: &[&str]) -> Vec<Setting> {
    let setting = |word: &&str| {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        Setting {
            key: key.to_owned(),
            value: value.to_owned(),
        }
    };
    words.iter().map(setting).collect()
}

fn filter(words: &[&str]) -> Filter {
    Filter::parse(&settings(words)).unwrap().unwrap_or_default()
}

fn verdict(words: &[&str]) -> String {
    match Filter::parse(&settings(words)) {
        Ok(None) => "no filter".to_owned(),
        Ok(Some(_)) => "a filter".to_owned(),
        Err(failure) => {
            assert_eq!(failure.code, ErrorCode::InvalidFilter);
            failure.message
        }
    }
}

#[test]
fn the_grammar_has_five_keys_and_what_does_not_fit_is_named() {
    let long = format!("grep={}", "a".repeat(257));
    let long_name = format!("header.{}=x", "a".repeat(257));
    let cases: &[(&[&str], &str)] = &[
        (&[], "no filter"),
        (
            &["severity=warn", "since=1", "until=2026-03-01T12:00:00Z"],
            "a filter",
        ),
        (&["severity=13", "grep=^a(b|c)+$"], "a filter"),
        (
            &["header.host=a", "header.host=b", "header.=x="],
            "the header to compare has no name",
        ),
        (&["header.host=a", "header.host=b"], "a filter"),
        (
            &["header.host=a", "header.host=a"],
            "header.host is given twice",
        ),
        (&["severity=warn", "severity=13"], "severity is given twice"),
        (&["grep=a", "grep=b"], "grep is given twice"),
        (&["color=red"], "there is no filter color"),
        (&["description=x"], "there is no filter description"),
        (&["severity=loud"], "severity=loud is none"),
        (&["severity=0"], "severity=0 is none"),
        (&["since=2h"], "since=2h is no time"),
        (
            &["since=5", "until=5"],
            "no time lies between since and until",
        ),
        (&["until=0"], "no time lies between since and until"),
        (&["grep="], "grep has no expression"),
        (
            &["grep=(a"],
            "the regular expression does not parse: unclosed group",
        ),
        (
            &[r"grep=(a)\1"],
            "the regular expression does not parse: backreferences are not supported",
        ),
        (
            &[r"grep=(\w{100}){100}"],
            "the regular expression is too large: compiled it takes more than 524288 bytes",
        ),
        (&[&long], "grep is longer than 256 bytes"),
        (
            &[&long_name],
            &format!("header.{} is longer than 256 bytes", "a".repeat(33)),
        ),
    ];
    for (words, expected) in cases {
        assert_eq!(verdict(words), *expected, "{words:?}");
    }
    let many: Vec<String> = (0..33).map(|number| format!("header.a={number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(verdict(&many), "33 filters are more than 32");
}

#[test]
fn filters_are_found_among_other_settings() {
    let among = Filter::among(&settings(&["description=x", "severity=warn"])).unwrap();
    assert_eq!(among.map(|it| it.severity), Some(13));
    assert!(
        Filter::among(&settings(&["description=x"]))
            .unwrap()
            .is_none()
    );
    assert!(Filter::among(&settings(&["description=x", "grep=("])).is_err());
}

/// A stored batch of records like `10 warn host=a value`, from an offset: timestamp, severity, a
/// header, and the value.
fn batch(base_offset: u64, records: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::default();
    for text in records {
        let words: Vec<&str> = text.splitn(4, ' ').collect();
        let (name, value) = words[2].split_once('=').unwrap();
        builder.push(&NewRecord {
            timestamp: words[0].parse().unwrap(),
            severity: words[1].parse::<Severity>().unwrap().0,
            headers: &[(name.to_owned(), value.as_bytes().to_vec())],
            value: words[3].as_bytes(),
            ..NewRecord::default()
        });
    }
    let mut batch = builder.finish(Origin::default());
    let place = Place {
        topic: TOPIC,
        base_offset,
        append_time: 1,
        leader_epoch: 0,
    };
    batch::place(&mut batch, place);
    batch.freeze()
}

/// Offsets 0 to 4 and 5 to 7, times 10 to 17.
fn sample() -> Vec<Bytes> {
    vec![
        batch(
            0,
            &[
                "10 info host=a started",
                "11 warn host=b request timed out",
                "12 error host=a timeout",
                "13 info host=b done",
                "14 warn2 host=a slow",
            ],
        ),
        batch(
            5,
            &[
                "15 info host=a timeout",
                "16 debug host=c idle",
                "17 info host=c \u{fc}ber",
            ],
        ),
    ]
}

fn shown_selected(selected: &Selected) -> String {
    let mut words: Vec<String> = selected
        .ranges
        .iter()
        .map(|range| format!("{}..{}", range.from, range.to))
        .collect();
    words.push(format!(
        "in {} next {} content {} of {}",
        selected.batches.len(),
        selected.next,
        selected.content,
        selected.passed
    ));
    words.join(" ")
}

#[test]
fn records_match_when_they_fulfil_all_filters() {
    let check = |words: &[&str], expected: &[u64]| {
        let selected = select(&filter(words), 0, 8, 0, 1 << 20, sample().into_iter());
        assert_eq!(selected.next, 8);
        let mut delivered = Delivered {
            next: 8,
            ranges: selected.ranges,
            batches: selected.batches,
            ..Delivered::default()
        };
        delivered.check(TOPIC).unwrap();
        let offsets: Vec<u64> = delivered.records().map(|it| it.offset).collect();
        assert_eq!(offsets, expected, "{words:?}");
    };
    check(&["severity=debug"], &[0, 1, 2, 3, 4, 5, 6, 7]);
    check(&["severity=warn"], &[1, 2, 4]);
    check(&["severity=14"], &[2, 4]);
    check(&["severity=fatal"], &[]);
    check(&["grep=time"], &[1, 2, 5]);
    check(&["grep=^time(d )?out$"], &[2, 5]);
    check(&["grep=(?i)STARTED"], &[0]);
    check(&["grep=^.ber$"], &[7]);
    check(&["grep=time", "severity=warn", "header.host=b"], &[1]);
    check(&["header.host=a"], &[0, 2, 4, 5]);
    check(&["header.host=A"], &[]);
    check(&["header.host=a", "header.host=b"], &[]);
    check(&["header.name=a"], &[]);
    check(&["since=13"], &[3, 4, 5, 6, 7]);
    check(&["until=13"], &[0, 1, 2]);
    check(&["since=12", "until=16", "grep=o"], &[2, 3, 4, 5]);
    check(&["since=100"], &[]);
}

#[test]
fn a_head_rules_a_batch_out_only_when_no_record_can_match() {
    let heads: Vec<Head> = sample().iter().map(|it| Head::parse(it).unwrap()).collect();
    let check = |words: &[&str], expected: [bool; 2]| {
        let filter = filter(words);
        let got: Vec<bool> = heads.iter().map(|it| filter.may_match(it)).collect();
        assert_eq!(got, expected, "{words:?}");
    };
    check(&["severity=info"], [true, true]);
    check(&["severity=warn"], [true, false]);
    check(&["since=14"], [true, true]);
    check(&["since=15"], [false, true]);
    check(&["until=15"], [true, false]);
    check(&["until=16"], [true, true]);
    check(&["since=18"], [false, false]);
    check(&["grep=x", "header.a=b"], [true, true]);
}

#[test]
fn limits_cut_where_the_search_can_go_on() {
    let check = |(from, end), max_records, max_bytes, expected: &str| {
        let filter = filter(&["header.host=a"]);
        let batches = sample().into_iter();
        let selected = select(&filter, from, end, max_records, max_bytes, batches);
        assert_eq!(shown_selected(&selected), expected);
    };
    let all = 1 << 20;
    check(
        (0, 8),
        0,
        all,
        "0..1 2..3 4..6 in 2 next 8 content 45 of 95",
    );
    check((0, 8), 1, all, "0..1 in 1 next 2 content 12 of 34");
    check(
        (0, 8),
        3,
        all,
        "0..1 2..3 4..5 in 1 next 5 content 33 of 64",
    );
    check((3, 8), 1, all, "4..5 in 1 next 5 content 9 of 18");
    check((0, 8), 0, 1, "0..1 2..3 4..5 in 1 next 5 content 33 of 64");
    check(
        (0, 5),
        0,
        all,
        "0..1 2..3 4..5 in 1 next 5 content 33 of 64",
    );
    check((1, 3), 0, all, "2..3 in 1 next 3 content 12 of 34");
    check((6, 8), 0, all, "in 0 next 8 content 0 of 19");
}

#[test]
fn few_records_of_a_long_batch_travel_without_the_others() {
    let long = "x".repeat(2_000);
    let records: Vec<String> = (0..20)
        .map(|number| format!("{} info host={number} {long}", 10 + number))
        .collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let stored = batch(30, &records);
    let check = |words: &[&str], ranges: &str, is_rebuilt: bool| {
        let selected = select(&filter(words), 30, 50, 0, 1, [stored.clone()].into_iter());
        assert!(shown_selected(&selected).starts_with(ranges), "{words:?}");
        let (head, _) = check_delivered(&selected.batches[0], TOPIC).unwrap();
        assert_eq!(u64::from(head.count) == selected.record_count(), is_rebuilt);
        assert_eq!(selected.batches[0] != stored, is_rebuilt);
        assert_eq!(selected.batches[0].len() < 5_000, is_rebuilt);
    };
    check(&["header.host=7"], "37..38 ", true);
    check(&["until=12"], "30..32 ", true);
    check(&["since=20"], "40..50 ", false);
}

#[test]
fn an_answer_names_a_bounded_number_of_ranges_and_goes_on_behind_them() {
    let records: Vec<String> = (0..2 * MAX_RANGES + 10)
        .map(|number| format!("1 info host={} v", number % 2))
        .collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let end = records.len() as u64;
    let stored = batch(0, &records);
    let odd = filter(&["header.host=1"]);
    let first = select(&odd, 0, end, 0, 1 << 22, [stored.clone()].into_iter());
    assert_eq!(first.ranges.len(), MAX_RANGES);
    assert_eq!(first.next, 2 * MAX_RANGES as u64 + 1);
    let rest = select(&odd, first.next, end, 0, 1 << 22, [stored].into_iter());
    assert_eq!(rest.record_count(), 5);
    assert_eq!(rest.next, end);
}

#[test]
fn a_consume_names_as_many_ranges_and_goes_on_behind_them() {
    let records: Vec<String> = (0..2 * MAX_RANGES + 10)
        .map(|number| format!("1 info host={} v", number % 2))
        .collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let end = records.len() as u64;
    let looks = Looks {
        keyed: false,
        filter: Some(Arc::new(filter(&["header.host=1"]))),
    };
    let enough = Enough {
        ranges: MAX_RANGES,
        ..Enough::NEVER
    };
    let stored = [batch(0, &records)];
    let wanted = |found: &[Found]| found.iter().filter(|it| it.wanted).count();
    let first = looks.look(&stored, 0..end, enough);
    assert_eq!(wanted(&first), MAX_RANGES);
    let next = first.last().unwrap().entry.offset + 1;
    assert_eq!(next, 2 * MAX_RANGES as u64 + 1);
    let rest = looks.look(&stored, next..end, enough);
    assert_eq!(wanted(&rest), 5);
}

#[test]
fn a_selection_whose_time_is_up_ends_between_records_and_always_moves() {
    let long = "x".repeat(ASK_BYTES);
    let records: Vec<String> = (0..4)
        .map(|number| format!("{number} info host=a {long}"))
        .collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let stored = batch(0, &records);
    let (mut from, mut ends) = (0, Vec::new());
    while from < 4 {
        let mut selection = Selection::new(from, 4, 0, 1 << 20);
        let went_on = selection.look(&filter(&["grep=y"]), &stored, &|| true);
        assert_eq!(went_on, selection.selected.next == 4);
        from = selection.selected.next;
        ends.push(from);
    }
    assert_eq!(ends, [1, 2, 3, 4]);
}
