// The small form of a fuzz target: the kept corpus, and random changes of it. Included by the
// tests of each crate that has properties, because only there can they be reached.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};

/// Longest input that is made from nothing.
const RANDOM_BYTES: usize = 300;

/// How one input is made from another.
#[derive(Clone, Debug)]
enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    Cut(Index, Index),
    Insert(Index, Vec<u8>),
    Truncate(Index),
    /// The rest of another input from there on.
    Splice(Index, Vec<u8>, Index),
}

fn change(corpus: &[Vec<u8>]) -> impl Strategy<Value = Change> + use<> {
    let others = if corpus.is_empty() {
        vec![Vec::new()]
    } else {
        corpus.to_vec()
    };
    prop_oneof![
        4 => (any::<Index>(), 0_u8..8).prop_map(|(at, bit)| Change::Flip(at, 1 << bit)),
        4 => (any::<Index>(), prop_oneof![Just(0), Just(0x7f), Just(0x80), Just(0xff), any::<u8>()])
            .prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => any::<(Index, Index)>().prop_map(|(from, to)| Change::Cut(from, to)),
        1 => (any::<Index>(), prop::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => any::<Index>().prop_map(Change::Truncate),
        1 => (any::<Index>(), select(others), any::<Index>())
            .prop_map(|(at, other, from)| Change::Splice(at, other, from)),
    ]
}

fn apply(mut bytes: Vec<u8>, change: Change) -> Vec<u8> {
    // One more than its length, so that the end is a place too.
    let place = |at: Index, bytes: &[u8]| at.index(bytes.len() + 1);
    match change {
        Change::Flip(at, mask) if !bytes.is_empty() => {
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
        }
        Change::Set(at, byte) if !bytes.is_empty() => {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        Change::Flip(..) | Change::Set(..) => {}
        Change::Cut(from, to) => {
            let (one, other) = (place(from, &bytes), place(to, &bytes));
            bytes.drain(one.min(other)..one.max(other));
        }
        Change::Insert(at, more) => {
            let at = place(at, &bytes);
            bytes.splice(at..at, more);
        }
        Change::Truncate(at) => bytes.truncate(place(at, &bytes)),
        Change::Splice(at, other, from) => {
            bytes.truncate(place(at, &bytes));
            bytes.extend_from_slice(&other[place(from, &other)..]);
        }
    }
    bytes
}

/// The inputs that were found worth keeping.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    // Crates of the workspace lie beside `fuzz/`, its root above it.
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = [manifest.join("fuzz"), manifest.join("../fuzz")]
        .map(|fuzz| fuzz.join("corpus").join(target));
    let folder = folder.iter().find(|it| it.is_dir());
    let folder = folder.unwrap_or_else(|| panic!("fuzz/corpus/{target} is missing"));
    let mut files: Vec<_> = folder
        .read_dir()
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "fuzz/corpus/{target} is empty");
    files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

/// Calls `property` with the corpus of `target`, and with so many random inputs, unless
/// `PROPTEST_CASES` says otherwise.
pub(super) fn check(target: &str, cases: u32, property: fn(&[u8])) {
    let corpus = corpus(target);
    for input in &corpus {
        property(input);
    }
    let random = prop::collection::vec(any::<u8>(), 0..RANDOM_BYTES);
    let changed = (
        select(corpus.clone()),
        prop::collection::vec(change(&corpus), 0..6),
    )
        .prop_map(|(input, changes)| changes.into_iter().fold(input, apply));
    let input = prop_oneof![1 => random, 9 => changed];
    let mut config = Config::with_source_file(file!());
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    // What fails is printed; it belongs into the corpus.
    config.failure_persistence = None;
    let outcome = TestRunner::new(config).run(&input, |input| {
        property(&input);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
