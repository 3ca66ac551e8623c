//! Authorities and certificates of a test's own, as files.

use std::path::{Path, PathBuf};

use logdrive_client::{Identity, Tls};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;

/// An authority, and the directory of everything that it signs.
pub(crate) struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// From when to when a certificate is valid, in years.
pub(crate) type Years = (i32, i32);

pub(crate) const NOW: Years = (2020, 2090);
pub(crate) const PAST: Years = (2020, 2021);
pub(crate) const FUTURE: Years = (2089, 2090);

impl Authority {
    /// A new one, which signs nothing that another one signs.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority");
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        Self {
            directory,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for this name; the files `name.pem` and `name-key.pem` are new or replaced.
    pub(crate) fn sign(&self, file: &str, name: &str, (from, to): Years) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let identity = self.files(file);
        std::fs::write(&identity.certificate, certificate.pem()).unwrap();
        std::fs::write(&identity.key, key.serialize_pem()).unwrap();
        identity
    }

    fn files(&self, file: &str) -> Identity {
        Identity {
            certificate: self.path(&format!("{file}.pem")),
            key: self.path(&format!("{file}-key.pem")),
        }
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// A client that trusts this authority, and shows nothing.
    pub(crate) fn trusted(&self) -> Tls {
        Tls {
            ca: Some(self.path("ca.pem")),
            ..Tls::default()
        }
    }
}

/// What a broker with this certificate is started with.
pub(crate) fn arguments(identity: &Identity) -> Vec<String> {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    vec![
        "--tls-cert".to_owned(),
        text(&identity.certificate),
        "--tls-key".to_owned(),
        text(&identity.key),
    ]
}
