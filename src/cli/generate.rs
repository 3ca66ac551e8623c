//! `logdrive generate cert`: certificates and keys for trying TLS out.
//!
//! Owns what is in them and the files that they go to. Nothing is overwritten, and nobody but the
//! owner can read a key.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

use super::args::{Cert, Generate};
use super::exit::{Exit, Fault};

/// Names of a broker that is tried out, where none is given.
const HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Days for which the certificates are valid, from yesterday on: clocks differ.
const DAYS: i64 = 366;

/// Runs the command.
pub(crate) fn run(generate: Generate) -> Result<Exit, Fault> {
    let Generate::Cert(arguments) = generate;
    let made = certificates(&arguments).map_err(|error| {
        let hint = "a host is a name like broker.example, or an address like 10.0.0.7";
        Fault::new(Exit::Usage, format_args!("no certificate: {error}")).hint(hint)
    })?;
    write_all(&arguments.out, &made)?;
    print!("{}", usage(&arguments));
    Ok(Exit::Done)
}

/// Names of files, and what goes into them; keys have names that end so.
type Files = [(&'static str, String); 6];

const KEY: &str = "-key.pem";

fn certificates(arguments: &Cert) -> Result<Files, rcgen::Error> {
    let ca_key = KeyPair::generate()?;
    let mut ca = params("logdrive trial authority", &[])?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_certificate = ca.self_signed(&ca_key)?.pem();
    let ca_pem = ca_key.serialize_pem();
    let ca = Issuer::new(ca, ca_key);

    let hosts: Vec<String> = if arguments.hosts.is_empty() {
        HOSTS.map(str::to_owned).into()
    } else {
        arguments.hosts.clone()
    };
    let (server_key, client_key) = (KeyPair::generate()?, KeyPair::generate()?);
    let mut server = params(&hosts[0], &hosts)?;
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut client = params(&arguments.client, &[])?;
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok([
        ("ca.pem", ca_certificate),
        ("ca-key.pem", ca_pem),
        ("server.pem", server.signed_by(&server_key, &ca)?.pem()),
        ("server-key.pem", server_key.serialize_pem()),
        ("client.pem", client.signed_by(&client_key, &ca)?.pem()),
        ("client-key.pem", client_key.serialize_pem()),
    ])
}

fn params(common_name: &str, hosts: &[String]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let day = |date: Date| {
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        date_time_ymd(date.year().into(), month, day)
    };
    params.not_before = day(today.saturating_sub(1.day()));
    params.not_after = day(today.saturating_add(DAYS.days()));
    Ok(params)
}

fn write_all(directory: &Path, files: &Files) -> Result<(), Fault> {
    let cannot = |path: &Path, error: &io::Error| {
        Fault::new(
            Exit::Failed,
            format_args!("cannot write {}: {error}", path.display()),
        )
    };
    fs::create_dir_all(directory).map_err(|error| cannot(directory, &error))?;
    // All or none: a key that fits no certificate helps nobody.
    for (name, _) in files {
        let path = directory.join(name);
        if path.symlink_metadata().is_ok() {
            return Err(
                Fault::new(Exit::Exists, format_args!("{} exists", path.display()))
                    .hint("nothing is overwritten; choose another directory: --out DIR"),
            );
        }
    }
    for (name, content) in files {
        let path = directory.join(name);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        if name.ends_with(KEY) {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        options
            .open(&path)
            .and_then(|mut file| file.write_all(content.as_bytes()))
            .map_err(|error| cannot(&path, &error))?;
    }
    Ok(())
}

/// The commands that use what was written.
fn usage(arguments: &Cert) -> String {
    let file = |name: &str| arguments.out.join(name).display().to_string();
    let (ca, cert, key) = (file("ca.pem"), file("server.pem"), file("server-key.pem"));
    let (client, client_key) = (file("client.pem"), file("client-key.pem"));
    let host = arguments.hosts.first().map_or("127.0.0.1", String::as_str);
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let mut text = String::new();
    let _ = write!(
        text,
        "wrote a certificate authority, and certificates of a broker and of the client \"{name}\", \
         to {directory}\n\
         for trying out only: whoever has ca-key.pem can be anybody\n\n\
         the broker:\n  \
         logdrive serve --tls-cert {cert} --tls-key {key}\n  \
         logdrive serve --tls-cert {cert} --tls-key {key} --tls-client-ca {ca} --tls-required\n\
         a client, without and with its certificate:\n  \
         logdrive --server {host}:7440 --ca {ca} ping\n  \
         logdrive --server {host}:7440 --ca {ca} --cert {client} --cert-key {client_key} ping\n\
         by hand:\n  \
         openssl s_client -quiet -connect {host}:7440 -CAfile {ca}\n",
        name = arguments.client,
        directory = arguments.out.display(),
    );
    text
}
