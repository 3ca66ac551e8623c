//! Peers over TLS: the client that programs use, and one that says exactly what a test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use logdrive_client::{Error, Identity, Options, Tls, blocking::Client};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};

use crate::support::binary;

/// Bytes in both directions, encrypted; blocking.
pub(crate) struct Encrypted(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl Encrypted {
    /// Connects to a broker at 127.0.0.1 whose certificate an authority has signed.
    pub(crate) fn open(
        address: SocketAddr,
        ca: &Path,
        version: &'static SupportedProtocolVersion,
    ) -> Self {
        Self::open_again(address, &remembering(ca, version, None))
    }

    /// The same with what earlier connections have left to resume.
    pub(crate) fn open_again(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let session = ClientConnection::new(config.clone(), name).unwrap();
        let socket = binary::socket(address);
        Self(BufReader::new(StreamOwned::new(session, socket)))
    }

    /// Whether the handshake, which is over, has shown certificates or resumed a session.
    pub(crate) fn handshake(&self) -> HandshakeKind {
        self.0.get_ref().conn.handshake_kind().unwrap()
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// The next line without its end; none once the broker has ended the session in order.
    pub(crate) fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).unwrap();
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// Everything up to the end of the session, which must be one in order.
    pub(crate) fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        rest
    }

    /// Says that nothing more will be sent, as TLS says it.
    pub(crate) fn finish(&mut self) {
        let stream = self.0.get_mut();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        stream.sock.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes the socket's sending side without a word of TLS, as somebody between could.
    pub(crate) fn cut(&mut self) {
        self.0.get_ref().sock.shutdown(Shutdown::Write).unwrap();
    }
}

/// What connections of one peer share: it trusts an authority, shows a certificate or none, and
/// resumes sessions where it may.
pub(crate) fn remembering(
    ca: &Path,
    version: &'static SupportedProtocolVersion,
    shows: Option<&Identity>,
) -> Arc<ClientConfig> {
    let mut authorities = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(ca).unwrap();
    authorities.add(ca).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(authorities);
    Arc::new(match shows {
        None => config.with_no_client_auth(),
        Some(identity) => {
            let certificate = CertificateDer::from_pem_file(&identity.certificate).unwrap();
            let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
            config
                .with_client_auth_cert(vec![certificate], key)
                .unwrap()
        }
    })
}

/// The client that programs use.
pub(crate) fn client(address: SocketAddr, tls: Option<Tls>) -> Result<Client, Error> {
    let options = Options {
        tls,
        ..Options::default()
    };
    Client::connect_with(address, options)
}
