//! TLS to a broker: whom the client trusts, what it shows, and what can go wrong.
//!
//! Owns the handshake alone; what is encrypted passes through the same connection as without. Files
//! are read for each attempt to connect, so that renewed certificates are used from then on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as TlsError, RootCertStore,
};
use tokio_util::either::Either;

use crate::error::TlsFault;
use crate::net::Socket;
use crate::{Error, ErrorKind};

/// How a client speaks TLS, 1.3 or 1.2. The default trusts whom the machine trusts, expects the host
/// of the address as the broker's name, and shows no certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// A PEM file of the authorities that are trusted; default `None`: those of the machine.
    pub ca: Option<PathBuf>,
    /// The name that the broker's certificate must have; default `None`: the host of the address.
    pub server_name: Option<String>,
    /// What the client shows of itself; default `None`: nothing.
    pub identity: Option<Identity>,
}

/// A client's certificate and key, both PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and those that lead from it to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Tls {
    /// The handshake on a socket that is connected to `address`.
    pub(crate) async fn connect(&self, address: &str, socket: Socket) -> Result<Socket, Error> {
        let name = self.name(address)?;
        let own = self.clone();
        let configured = tokio::task::spawn_blocking(move || own.configure()).await;
        let config = configured.unwrap_or_else(|_| {
            let what = "reading certificates was given up";
            Err(Error::new(ErrorKind::Closed, what))
        })?;
        let connector = TlsConnector::from(Arc::new(config));
        match connector.connect(name, socket).await {
            Ok(stream) => Ok(Either::Right(Box::new(stream))),
            Err(error) => Err(fault(address, &error).unwrap_or_else(|| {
                let what = format!("cannot reach {address}: TLS handshake: {error}");
                Error::new(ErrorKind::Unreachable, what)
                    .with_hint("is this a logdrive broker, and does it speak TLS?")
            })),
        }
    }

    fn name(&self, address: &str) -> Result<ServerName<'static>, Error> {
        let host = || {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            host.trim_start_matches('[').trim_end_matches(']')
        };
        let name = self.server_name.as_deref().unwrap_or_else(host);
        ServerName::try_from(name.to_owned()).map_err(|_| {
            let what = format!("\"{name}\" is no name that a certificate can have");
            Error::new(ErrorKind::Invalid, what)
                .with_hint("a name is like broker.example or 127.0.0.1 (--tls-server-name NAME)")
        })
    }

    fn configure(&self) -> Result<ClientConfig, Error> {
        let broken = |error: TlsError| Error::new(ErrorKind::Invalid, format!("TLS: {error}"));
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(broken)?
            .with_root_certificates(self.authorities()?);
        let Some(Identity { certificate, key }) = &self.identity else {
            return Ok(builder.with_no_client_auth());
        };
        let own = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| match error {
            pem::Error::NoItemsFound => unusable(key, "holds no private key"),
            error => unusable(key, &format!("is no PEM file: {error}")),
        })?;
        builder
            .with_client_auth_cert(certificates(certificate)?, own)
            .map_err(|error| {
                let (certificate, key) = (certificate.display(), key.display());
                let what = format!("cannot use {certificate} with {key}: {error}");
                Error::new(ErrorKind::Invalid, what).with_hint("is that its key?")
            })
    }

    fn authorities(&self) -> Result<RootCertStore, Error> {
        let mut authorities = RootCertStore::empty();
        let Some(file) = &self.ca else {
            let found = rustls_native_certs::load_native_certs();
            authorities.add_parsable_certificates(found.certs);
            if authorities.is_empty() {
                let what = "this machine names nobody whose certificates it trusts";
                return Err(Error::new(ErrorKind::Invalid, what).with_hint(NAME_CA));
            }
            return Ok(authorities);
        };
        for authority in certificates(file)? {
            authorities
                .add(authority)
                .map_err(|error| unusable(file, &format!("holds no authority: {error}")))?;
        }
        Ok(authorities)
    }
}

const NAME_CA: &str = "name the broker's authority: --ca FILE, or the field `ca` of Tls";

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read(file)?;
    let certificates: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(none) if none.is_empty() => Err(unusable(file, "holds no certificate")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unusable(file, &format!("is no PEM file: {error}"))),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|error| {
        let what = format!("cannot read {}: {error}", file.display());
        Error::new(ErrorKind::Invalid, what)
    })
}

fn unusable(file: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("{} {why}", file.display()))
        .with_hint("a file of a certificate or key is PEM: -----BEGIN CERTIFICATE-----")
}

/// What went wrong, if it is an affair of TLS.
pub(crate) fn fault(address: &str, error: &io::Error) -> Option<Error> {
    let cause = error.get_ref()?.downcast_ref::<TlsError>()?;
    let (fault, what, hint) = match cause {
        TlsError::InvalidCertificate(error) => distrust(error),
        TlsError::InvalidMessage(_) => (
            TlsFault::NotSpoken,
            "it does not speak TLS".to_owned(),
            "connect without TLS, or start the broker with --tls-cert FILE --tls-key FILE",
        ),
        TlsError::AlertReceived(AlertDescription::CertificateRequired) => (
            TlsFault::CertificateRequired,
            "it demands a certificate of the client".to_owned(),
            "show one: --cert FILE --cert-key FILE, or the field `identity` of Tls",
        ),
        TlsError::AlertReceived(alert) if is_about_certificate(*alert) => (
            TlsFault::CertificateRefused,
            format!("it refuses the client's certificate ({alert:?})"),
            "the broker's --tls-client-ca must have signed it, and it must be valid now",
        ),
        other => (
            TlsFault::Failed,
            format!("the TLS handshake failed: {other}"),
            "is this a logdrive broker, and is nothing between that changes what is sent?",
        ),
    };
    let what = format!("no TLS connection to {address}: {what}");
    Some(Error::new(ErrorKind::Tls(fault), what).with_hint(hint))
}

fn distrust(error: &CertificateError) -> (TlsFault, String, &'static str) {
    use CertificateError as Because;
    match error {
        Because::Expired
        | Because::ExpiredContext { .. }
        | Because::NotValidYet
        | Because::NotValidYetContext { .. } => (
            TlsFault::Expired,
            format!("the broker's certificate is not valid now: {error}"),
            "renew it, then SIGHUP the broker; or is a clock wrong?",
        ),
        Because::NotValidForName | Because::NotValidForNameContext { .. } => (
            TlsFault::WrongName,
            format!("the broker's certificate is for another name: {error}"),
            "connect by a name that is in it, or give that name: --tls-server-name NAME",
        ),
        // Another authority of the same name.
        Because::UnknownIssuer | Because::BadSignature => (
            TlsFault::Untrusted,
            "nobody that is trusted has signed the broker's certificate".to_owned(),
            NAME_CA,
        ),
        other => (
            TlsFault::Untrusted,
            format!("the broker's certificate cannot be trusted: {other}"),
            NAME_CA,
        ),
    }
}

fn is_about_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name that a broker at this address must have.
    fn check(address: &str, given: Option<&str>, expected: &str) {
        let tls = Tls {
            server_name: given.map(str::to_owned),
            ..Tls::default()
        };
        let got = match tls.name(address) {
            Ok(name) => name.to_str().into_owned(),
            Err(error) => error.to_string(),
        };
        assert!(got.contains(expected), "{address}: {got}");
    }

    #[test]
    fn the_name_to_expect_is_the_host_of_the_address_unless_another_is_given() {
        check("broker.example:7440", None, "broker.example");
        check("127.0.0.1:7440", None, "127.0.0.1");
        check("[::1]:7440", None, "::1");
        check("127.0.0.1:7440", Some("broker.example"), "broker.example");
        check(
            "not a host:1",
            None,
            "is no name that a certificate can have",
        );
    }
}
