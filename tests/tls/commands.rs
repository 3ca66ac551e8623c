//! The command line over TLS: certificates for trying out, and commands that use them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::broker_with;

fn logdrive(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logdrive"));
    command.current_dir(directory);
    command
}

/// Runs a command; its exit code, and what it said on both.
fn run(command: &mut Command) -> (i32, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let said = [stdout, stderr].map(|it| String::from_utf8(it).unwrap());
    (status.code().unwrap(), said.concat())
}

#[test]
fn generated_certificates_let_a_broker_and_commands_speak_tls() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let generate = ["generate", "cert", "--out", "certs", "--client", "billing"];
    let (code, said) = run(logdrive(here).args(generate));
    assert_eq!(code, 0, "{said}");
    for command in [
        "logdrive serve --tls-cert certs/server.pem",
        "--ca certs/ca.pem ping",
    ] {
        assert!(said.contains(command), "{command}: {said}");
    }
    for (file, mode) in [
        ("ca-key", 0o600),
        ("server-key", 0o600),
        ("client-key", 0o600),
    ] {
        let file = here.join(format!("certs/{file}.pem"));
        let found = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{}", file.display());
    }
    let before = std::fs::read(here.join("certs/ca.pem")).unwrap();
    let (code, said) = run(logdrive(here).args(generate));
    assert_eq!(code, 7, "{said}");
    assert!(said.contains("nothing is overwritten"), "{said}");
    assert_eq!(std::fs::read(here.join("certs/ca.pem")).unwrap(), before);

    let at = |file: &str| here.join("certs").join(file).to_str().unwrap().to_owned();
    let broker = broker_with(&[
        "--tls-cert".to_owned(),
        at("server.pem"),
        "--tls-key".to_owned(),
        at("server-key.pem"),
        "--tls-client-ca".to_owned(),
        at("ca.pem"),
        "--tls-client-required".to_owned(),
        "--tls-required".to_owned(),
    ]);
    let server = broker.address.to_string();
    let shown = [
        "--cert",
        "certs/client.pem",
        "--cert-key",
        "certs/client-key.pem",
    ];
    let (code, said) = run(logdrive(here)
        .args(["--server", &server, "--ca", "certs/ca.pem", "ping"])
        .args(shown));
    assert_eq!(code, 0, "{said}");
    // The same from the environment, and by a name that the certificate has.
    let (code, said) = run(logdrive(here)
        .args(["topic", "create", "app", "--tls-server-name", "localhost"])
        .env("LOGDRIVE_SERVER", &server)
        .env("LOGDRIVE_CA", "certs/ca.pem")
        .env("LOGDRIVE_CERT", "certs/client.pem")
        .env("LOGDRIVE_CERT_KEY", "certs/client-key.pem"));
    assert_eq!(code, 0, "{said}");
    for (arguments, words) in [
        (&["ping"][..], "TLS_REQUIRED"),
        (&["ping", "--ca", "certs/ca.pem"], "demands a certificate"),
        (
            &["ping", "--ca", "certs/nowhere.pem"],
            "cannot read certs/nowhere.pem",
        ),
        (
            &["ping", "--ca", "certs/ca-key.pem"],
            "holds no certificate",
        ),
        (
            &[
                "ping",
                "--ca",
                "certs/ca.pem",
                "--tls-server-name",
                "b.example",
            ],
            "another name",
        ),
    ] {
        let (code, said) = run(logdrive(here).args(["--server", &server]).args(arguments));
        assert!(code == 1 || code == 2, "{code} {said}");
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn a_certificate_logs_a_command_in() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let (code, said) = run(logdrive(here).args(["generate", "cert", "--out", "."]));
    assert_eq!(code, 0, "{said}");
    let at = |file: &str| here.join(file).to_str().unwrap().to_owned();
    let broker = broker_with(&[
        "--auth".to_owned(),
        "--tls-cert".to_owned(),
        at("server.pem"),
        "--tls-key".to_owned(),
        at("server-key.pem"),
        "--tls-client-ca".to_owned(),
        at("ca.pem"),
    ]);
    let server = broker.address.to_string();
    let command = |arguments: &[&str]| {
        let tls = ["--server", &server, "--ca", "ca.pem"];
        run(logdrive(here).args(tls).args(arguments))
    };
    let token = broker.data().join("admin.token");
    let admin = ["--token-file", token.to_str().unwrap()];
    let create = ["principal", "create", "client", "--grant", "admin:app"];
    let (code, said) = command(&[&admin[..], &create].concat());
    assert_eq!(code, 0, "{said}");
    let shown = [
        "--cert",
        "client.pem",
        "--cert-key",
        "client-key.pem",
        "--cert-login",
    ];
    let (code, said) = command(&[&shown[..], &["topic", "create", "app"]].concat());
    assert_eq!(code, 0, "{said}");
    let (code, said) = command(&["--cert-login", "topic", "list"]);
    assert_eq!(code, 8, "{said}");
    assert!(said.contains("AUTHENTICATION_FAILED"), "{said}");
}
