//! The RFC's example, and everything that either side must not take from the other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                            s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn exchange() -> Exchange {
    static KEYS: std::sync::OnceLock<(Keys, Vec<u8>)> = std::sync::OnceLock::new();
    let (keys, salt) = KEYS.get_or_init(keys_of_rfc).clone();
    let opening = Opening::parse(CLIENT_FIRST.as_bytes()).unwrap();
    assert_eq!(opening.name, "user");
    let (exchange, first) = opening.challenge(keys.verifier(&salt, 4096), SERVER_NONCE);
    assert_eq!(first, SERVER_FIRST);
    exchange
}

#[test]
fn the_example_of_rfc_7677_comes_out_on_both_sides() {
    let start = Start::new("user", CLIENT_NONCE);
    assert_eq!(start.message(), CLIENT_FIRST);
    let challenged = start.challenged(SERVER_FIRST.as_bytes()).unwrap();
    let keys = Keys::derive("pencil", &challenged.salt, challenged.iterations).unwrap();
    let (proven, last) = challenged.prove(&keys);
    assert_eq!(last, CLIENT_FINAL);
    let signature = exchange().finish(last.as_bytes()).unwrap();
    assert_eq!(signature, SERVER_FINAL);
    proven.check(signature.as_bytes()).unwrap();
}

/// What the broker makes of a first message: the name, or why not.
fn opened(message: &str) -> String {
    match Opening::parse(message.as_bytes()) {
        Ok(opening) => opening.name,
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_broker_reads_first_messages_strictly() {
    for (message, expected) in [
        ("n,,n=user,r=abc", "user"),
        ("y,,n=user,r=abc", "user"),
        ("n,a=user,n=user,r=abc", "user"),
        ("n,,n=user,r=abc,x=1,Y=more", "user"),
        ("n,,n=a=2Cb=3Dc,r=abc", "a,b=c"),
        ("n,,n==3D=2C,r=abc", "=,"),
    ] {
        assert_eq!(opened(message), expected, "{message}");
    }
    for (message, expected) in [
        ("p=tls-unique,,n=user,r=abc", "channel binding"),
        ("p=tls-server-end-point,,n=user,r=abc", "channel binding"),
        ("n,,m=ext,n=user,r=abc", "extension m="),
        ("n,,n=user,m=ext,r=abc", "extension m="),
        ("n,,n=user,r=abc,m=ext", "extension m="),
        ("n,a=admin,n=user,r=abc", "act as another"),
        ("n,user,n=user,r=abc", "a= or nothing"),
        ("", "begins with n or y"),
        ("x,,n=user,r=abc", "begins with n or y"),
        ("nn,,n=user,r=abc", "begins with n or y"),
        ("p,,n=user,r=abc", "begins with n or y"),
        ("n", "header of two parts"),
        ("n,n=user,r=abc", "name n="),
        ("n,,", "name n="),
        ("n,,n", "name n="),
        ("n,,r=abc,n=user", "name n="),
        ("n,,n=,r=abc", "a name is not empty"),
        ("n,,n=a\0b,r=abc", "a name is not empty"),
        ("n,,n=a=b,r=abc", "=3D"),
        ("n,,n=a=2c,r=abc", "=3D"),
        ("n,,n=a=,r=abc", "=3D"),
        ("n,,n=user", "nonce r="),
        ("n,,n=user,", "nonce r="),
        ("n,,n=user,r", "nonce r="),
        ("n,,n=user,r=", "printable"),
        ("n,,n=user,r=a b", "printable"),
        ("n,,n=user,r=\u{e4}", "printable"),
        ("n,,n=user,r=abc,", "a letter, = and a value"),
        ("n,,n=user,r=abc,x=", "a letter, = and a value"),
        ("n,,n=user,r=abc,1=x", "a letter, = and a value"),
    ] {
        assert!(
            opened(message).contains(expected),
            "{message}: {}",
            opened(message)
        );
    }
    let long = format!("n,,n=user,r={}", "x".repeat(MAX_SCRAM_BYTES));
    assert_eq!(
        Opening::parse(long.as_bytes()).unwrap_err(),
        ScramError::TooLong
    );
    assert!(Opening::parse(&[b'n', b',', b',', 0xff]).is_err());
}

/// What the broker makes of a last message.
fn finished(message: &str) -> String {
    match exchange().finish(message.as_bytes()) {
        Ok(signature) => signature,
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_broker_takes_only_the_proof_of_this_exchange() {
    assert_eq!(finished(CLIENT_FINAL), SERVER_FINAL);
    let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    for (message, expected) in [
        // One bit of the proof.
        (
            format!("c=biws,r={nonce},p=eHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
            "proof is wrong",
        ),
        // The proof covers what is passed by.
        (format!("c=biws,r={nonce},x=1,p={proof}"), "proof is wrong"),
        // Another exchange's nonce, the client's half of it, and one too long.
        (format!("c=biws,r=other,p={proof}"), "nonce is not that"),
        (
            format!("c=biws,r={CLIENT_NONCE},p={proof}"),
            "nonce is not that",
        ),
        (format!("c=biws,r={nonce}x,p={proof}"), "nonce is not that"),
        // The header says something else than the first message did: `y,,` and `p=...`.
        (format!("c=eSws,r={nonce},p={proof}"), "channel binding"),
        (
            format!("c=cD10bHMtdW5pcXVlLCw=,r={nonce},p={proof}"),
            "channel binding",
        ),
        (format!("c=,r={nonce},p={proof}"), "channel binding"),
        (format!("c=bi ws,r={nonce},p={proof}"), "header is base64"),
        (format!("r={nonce},c=biws,p={proof}"), "header c="),
        (format!("c=biws,p={proof},r={nonce}"), "nonce r="),
        (format!("c=biws,r={nonce}"), "proof p="),
        (format!("c=biws,r={nonce},p={proof},x=1"), "comes last"),
        (format!("c=biws,r={nonce},p={proof}="), "32 bytes"),
        (format!("c=biws,r={nonce},p=dHzb"), "32 bytes"),
        (format!("c=biws,r={nonce},p="), "32 bytes"),
        (format!("c=biws,r={nonce},m=ext,p={proof}"), "extension m="),
        (format!("m=ext,c=biws,r={nonce},p={proof}"), "extension m="),
        (String::new(), "header c="),
        (CLIENT_FIRST.to_owned(), "header c="),
        ("x".repeat(MAX_SCRAM_BYTES + 1), "longer than"),
    ] {
        assert!(
            finished(&message).contains(expected),
            "{message}: {}",
            finished(&message)
        );
    }
}

#[test]
fn an_old_exchange_is_of_no_use_in_a_new_one() {
    let (keys, salt) = keys_of_rfc();
    let opening = Opening::parse(CLIENT_FIRST.as_bytes()).unwrap();
    let (again, _) = opening.challenge(keys.verifier(&salt, 4096), "anotherNonce");
    assert_eq!(
        again.finish(CLIENT_FINAL.as_bytes()),
        Err(ScramError::Nonce)
    );
}

#[test]
fn a_header_that_says_y_has_to_come_back() {
    let (keys, salt) = keys_of_rfc();
    let opening = Opening::parse(b"y,,n=user,r=abc").unwrap();
    let (exchange, first) = opening.challenge(keys.verifier(&salt, 4096), "def");
    let signed = format!("n=user,r=abc,{first},c=eSws,r=abcdef");
    let proof = xor(
        &keys.client,
        &hmac(&sha256(&keys.client), signed.as_bytes()),
    );
    let last = format!("c=eSws,r=abcdef,p={}", encode(&proof));
    assert!(exchange.finish(last.as_bytes()).is_ok());
}

/// What the client makes of the broker's first message.
fn challenged(message: &str) -> String {
    let start = Start::new("user", CLIENT_NONCE);
    match start.challenged(message.as_bytes()) {
        Ok(challenged) => format!("{} rounds", challenged.iterations),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_client_distrusts_the_brokers_first_message() {
    let nonce = format!("{CLIENT_NONCE}more");
    for (message, expected) in [
        (format!("r={nonce},s=c2FsdA==,i=4096"), "4096 rounds"),
        (format!("r={nonce},s=c2FsdA==,i=4096,x=1"), "4096 rounds"),
        (format!("r={nonce},s=c2FsdA==,i=4095"), "too few"),
        (format!("r={nonce},s=c2FsdA==,i=1"), "too few"),
        (
            format!("r={nonce},s=c2FsdA==,i=4194305"),
            "more than a client",
        ),
        (
            format!("r={nonce},s=c2FsdA==,i=99999999999"),
            "more than a client",
        ),
        (format!("r={nonce},s=c2FsdA==,i=0"), "a number"),
        (format!("r={nonce},s=c2FsdA==,i=-4096"), "a number"),
        (format!("r={nonce},s=c2FsdA==,i=+4096"), "a number"),
        (format!("r={nonce},s=c2FsdA==,i="), "a number"),
        (format!("r={nonce},s=c2FsdA==,i=4096x"), "a number"),
        (
            format!("r={CLIENT_NONCE},s=c2FsdA==,i=4096"),
            "nonce is not that",
        ),
        ("r=other,s=c2FsdA==,i=4096".to_owned(), "nonce is not that"),
        (format!("r=x{nonce},s=c2FsdA==,i=4096"), "nonce is not that"),
        (format!("r={nonce},s=,i=4096"), "salt is empty"),
        (format!("r={nonce},s=c2Fsd,i=4096"), "salt is base64"),
        (format!("s=c2FsdA==,r={nonce},i=4096"), "nonce r="),
        (format!("r={nonce},i=4096,s=c2FsdA=="), "salt s="),
        (format!("r={nonce},s=c2FsdA=="), "rounds i="),
        (format!("m=ext,r={nonce},s=c2FsdA==,i=4096"), "extension m="),
        ("e=unknown-user".to_owned(), "refused: unknown-user"),
        (String::new(), "nonce r="),
        ("x".repeat(MAX_SCRAM_BYTES + 1), "longer than"),
    ] {
        let got = challenged(&message);
        assert!(got.contains(expected), "{message}: {got}");
    }
}

#[test]
fn the_client_takes_nobodys_signature_but_the_brokers() {
    let proven = || {
        let start = Start::new("user", CLIENT_NONCE);
        let challenged = start.challenged(SERVER_FIRST.as_bytes()).unwrap();
        challenged.prove(&keys_of_rfc().0).0
    };
    for (message, expected) in [
        (
            "v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            "signature is wrong",
        ),
        (
            "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "signature is wrong",
        ),
        ("v=6rri", "32 bytes"),
        ("v=", "32 bytes"),
        ("", "signature v="),
        ("e=invalid-proof", "refused: invalid-proof"),
        ("e=a\nb", "refused: a\\nb"),
        (
            "m=x,v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            "extension m=",
        ),
    ] {
        let got = proven().check(message.as_bytes()).unwrap_err().to_string();
        assert!(got.contains(expected), "{message}: {got}");
    }
    proven().check(SERVER_FINAL.as_bytes()).unwrap();
}

#[test]
fn nobody_is_challenged_as_everybody_is_and_always_with_the_same_salt() {
    let secret = [7; HASH_BYTES];
    let nobody = Verifier::of_nobody(&secret, "user");
    assert!(nobody.fits());
    assert_eq!(nobody, Verifier::of_nobody(&secret, "user"));
    assert_ne!(nobody.salt, Verifier::of_nobody(&secret, "other").salt);
    assert_ne!(
        nobody.salt,
        Verifier::of_nobody(&[8; HASH_BYTES], "user").salt
    );
}

#[test]
fn passwords_are_prepared_and_what_is_prohibited_is_refused() {
    let keys = |password: &str| Keys::derive(password, b"salt", 1);
    // RFC 4013, section 3: a soft hyphen is dropped, and forms of compatibility are one.
    assert_eq!(keys("I\u{ad}X"), keys("IX"));
    assert_eq!(keys("\u{2168}"), keys("IX"));
    assert_ne!(keys("ix"), keys("IX"));
    let long = "x".repeat(MAX_PASSWORD_BYTES + 1);
    for password in ["", "\u{7}", "\u{627}1", "\u{ad}", long.as_str()] {
        assert_eq!(keys(password), Err(ScramError::Password), "{password:?}");
    }
}

proptest::proptest! {
    /// What is nearly a message, and what is none at all.
    #[test]
    fn no_message_makes_either_side_panic(
        text in "[nypcrsimvea=,. -~]{0,40}|[nyp],[a=x]{0,4},(n=[=2C3Dx,]{0,9})?,?(r=.{0,5})?,?(.{0,5})",
        bytes in proptest::collection::vec(0_u8.., 0..40),
    ) {
        for message in [text.as_bytes(), bytes.as_slice()] {
            if let Ok(opening) = Opening::parse(message) {
                let again = opening.challenge(Verifier::of_nobody(&[0; HASH_BYTES], "x"), "n").0;
                let _ = again.finish(message);
            }
            let _ = exchange().finish(message);
            if let Ok(challenged) = Start::new("user", "n").challenged(message) {
                let _ = challenged.prove(&Keys::derive("x", b"s", 1).unwrap()).0.check(message);
            }
        }
    }
}

#[test]
fn nothing_that_is_printed_holds_a_key() {
    let verifier = Verifier::of("pencil", [1; SALT_BYTES]).unwrap();
    assert!(verifier.fits());
    let shown = format!("{verifier:?} {:?}", keys_of_rfc().0);
    assert!(
        shown.contains("stored_key: ..., server_key: ..."),
        "{shown}"
    );
    assert!(shown.ends_with("Keys(...)"), "{shown}");
}
