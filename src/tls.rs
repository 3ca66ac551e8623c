//! TLS of the broker: its certificate, whose certificates clients may show, and the handshake.
//!
//! Owns the files' contents and the choice of what is spoken: TLS 1.3 and 1.2. Never decides what a
//! name in a certificate may do. Its neighbours: the server loads it, and again after SIGHUP; the
//! first bytes of a connection lead here.
//!
//! ```text
//! TCP --16--> handshake (what was read first comes first) --> halves that are boxed, name of the peer
//! ```

mod name;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, join};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::limits::{PREFACE_WAIT, TLS_BUFFER_BYTES, TLS_UNREAD_BYTES};
use crate::net::{ReadHalf, Rewound, WriteHalf, split_duplex};

/// What TLS is spoken with; all files are PEM.
#[derive(Clone, Debug)]
pub struct Options {
    /// The broker's certificate, and those that lead from it to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose clients' certificates are taken; none are asked for without it.
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is refused.
    pub client_required: bool,
    /// Whether a connection without TLS is refused.
    pub required: bool,
}

/// TLS as it is spoken now; cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls {
    config: watch::Receiver<Arc<ServerConfig>>,
    required: bool,
}

/// Puts other certificates in the place of the present ones, for connections to come.
#[derive(Debug)]
pub struct Renewal {
    options: Options,
    config: watch::Sender<Arc<ServerConfig>>,
}

/// A connection behind its TLS handshake.
pub struct Accepted {
    /// What to read from.
    pub read: ReadHalf,
    /// What to write to; only flushing sends what was written.
    pub write: WriteHalf,
    /// The name in the client's certificate, if it has shown one; it was verified.
    pub peer: Option<String>,
}

/// Reads the files.
///
/// # Errors
/// A file is missing or holds something else; key and certificate do not belong together.
pub fn open(options: Options) -> anyhow::Result<(Tls, Renewal)> {
    let (sender, config) = watch::channel(Arc::new(configure(&options)?));
    let tls = Tls {
        config,
        required: options.required,
    };
    let renewal = Renewal {
        options,
        config: sender,
    };
    Ok((tls, renewal))
}

impl Renewal {
    /// Reads the files again; after an error everything stays as it was.
    ///
    /// # Errors
    /// As when they were first read.
    pub fn renew(&self) -> anyhow::Result<()> {
        self.config
            .send_replace(Arc::new(configure(&self.options)?));
        Ok(())
    }
}

impl Tls {
    /// Whether a connection without TLS is refused.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// Answers a handshake whose first bytes are `begun`.
    ///
    /// # Errors
    /// The handshake failed, and the peer was told so, or it took too long.
    pub async fn accept(
        &self,
        begun: BytesMut,
        read: ReadHalf,
        write: WriteHalf,
    ) -> anyhow::Result<Accepted> {
        let deadline = Instant::now() + PREFACE_WAIT;
        let acceptor = TlsAcceptor::from(self.config.borrow().clone());
        let socket = join(Rewound::new(begun, read), write);
        let accepting = acceptor.accept_with(socket, |session| {
            session.set_buffer_limit(Some(TLS_BUFFER_BYTES));
        });
        match timeout_at(deadline, accepting.into_fallible()).await {
            Ok(Ok(stream)) => {
                let shown = stream.get_ref().1.peer_certificates();
                let peer = shown.and_then(|it| it.first()).and_then(name::of);
                let (read, write) = split_duplex(stream);
                Ok(Accepted { read, write, peer })
            }
            Ok(Err((error, socket))) => {
                let _ = timeout_at(deadline, see_off(socket)).await;
                Err(error).context("the TLS handshake failed")
            }
            Err(_) => bail!("the TLS handshake did not end within {PREFACE_WAIT:?}"),
        }
    }
}

/// Lets the peer read why it was refused: closing with bytes unread would take that back.
async fn see_off(mut socket: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    socket.shutdown().await?;
    let mut unread = socket.take(TLS_UNREAD_BYTES);
    tokio::io::copy(&mut unread, &mut tokio::io::sink()).await?;
    Ok(())
}

fn configure(options: &Options) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .context("choosing versions of TLS")?;
    let builder = match &options.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut authorities = RootCertStore::empty();
            for authority in certificates(file)? {
                let added = authorities.add(authority);
                added.with_context(|| format!("{} holds no authority", file.display()))?;
            }
            let authorities = Arc::new(authorities);
            let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider);
            let verifier = if options.client_required {
                verifier
            } else {
                verifier.allow_unauthenticated()
            };
            builder.with_client_cert_verifier(verifier.build().context("verifying clients")?)
        }
    };
    let (certificate, key) = (&options.certificate, &options.key);
    let mut config = builder
        .with_single_cert(certificates(certificate)?, private_key(key)?)
        .with_context(|| {
            let (certificate, key) = (certificate.display(), key.display());
            format!("cannot use {certificate} with {key}; is that its key?")
        })?;
    if options.client_ca.is_some() {
        // A session that is resumed brings its certificate along, and nobody looks at it again: an
        // expired one would log in for as long as there is a session to resume.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let pem = read(file)?;
    let certificates: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates =
        certificates.map_err(|error| anyhow!("{} is no PEM file: {error}", file.display()))?;
    if certificates.is_empty() {
        bail!("{} holds no certificate", file.display());
    }
    Ok(certificates)
}

fn private_key(file: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|error| match error {
        pem::Error::NoItemsFound => anyhow!("{} holds no private key", file.display()),
        error => anyhow!("{} is no PEM file: {error}", file.display()),
    })
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| {
        let hint = "logdrive generate cert makes files for trying out";
        format!("cannot read {} ({hint})", file.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::ClientConfig;
    use tokio_rustls::rustls::pki_types::ServerName;

    /// Files of an authority, and of a certificate that it has signed for `client-7` and `localhost`.
    fn files(directory: &Path) -> Options {
        let (key, own) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "client-7");
        let ca = authority.self_signed(&key).unwrap().pem();
        let certificate = params
            .signed_by(&own, &Issuer::new(authority, key))
            .unwrap();
        let write = |name: &str, content: String| {
            let path = directory.join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        Options {
            certificate: write("a.pem", certificate.pem()),
            key: write("a-key.pem", own.serialize_pem()),
            client_ca: Some(write("ca.pem", ca)),
            client_required: false,
            required: false,
        }
    }

    /// The name under which a client is known that shows its certificate or nothing.
    async fn check(shows: bool, expected: Option<&str>) {
        let directory = tempfile::tempdir().unwrap();
        let options = files(directory.path());
        let mut authorities = RootCertStore::empty();
        for ca in certificates(options.client_ca.as_ref().unwrap()).unwrap() {
            authorities.add(ca).unwrap();
        }
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(authorities);
        let client = if shows {
            let own = certificates(&options.certificate).unwrap();
            let key = private_key(&options.key).unwrap();
            client.with_client_auth_cert(own, key).unwrap()
        } else {
            client.with_no_client_auth()
        };
        let (tls, _renewal) = open(options).unwrap();
        let (socket, peer) = tokio::io::duplex(1000);
        let dialed = tokio::spawn(async move {
            let name = ServerName::try_from("localhost").unwrap();
            let connector = TlsConnector::from(Arc::new(client));
            let mut stream = connector.connect(name, peer).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.flush().await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            said
        });
        let (mut read, write) = net::split_duplex(socket);
        let mut begun = BytesMut::new();
        read.read_buf(&mut begun).await.unwrap();
        let Accepted {
            mut read,
            mut write,
            peer,
        } = tls.accept(begun, read, write).await.unwrap();
        assert_eq!(peer.as_deref(), expected);
        let mut heard = [0; 5];
        read.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
        write.write_all(b"goodbye").await.unwrap();
        write.shutdown().await.unwrap();
        assert_eq!(dialed.await.unwrap(), "goodbye");
    }

    #[tokio::test]
    async fn a_peer_is_known_by_the_name_in_the_certificate_that_it_has_shown() {
        check(true, Some("client-7")).await;
        check(false, None).await;
    }
}
