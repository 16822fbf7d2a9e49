//! Certificates for a run: an authority of its own, and what it signs.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

/// A certificate authority whose files are below a directory.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
    ca: PathBuf,
}

/// The files of one end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// This end's certificate.
    pub cert: PathBuf,
    /// Its key, which others cannot read.
    pub key: PathBuf,
}

impl Authority {
    /// A new authority. Several may share a directory if their names differ.
    ///
    /// # Errors
    /// In words, what could not be made or written.
    pub fn new(directory: &Path, name: &str) -> Result<Self, String> {
        let mut params = CertificateParams::new(Vec::new()).map_err(in_words)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(in_words)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(in_words)?;
        let directory = directory.join(name);
        fs::create_dir_all(&directory).map_err(in_words)?;
        let ca = directory.join("ca.pem");
        fs::write(&ca, issuer.pem()).map_err(in_words)?;
        Ok(Self {
            issuer,
            directory,
            ca,
        })
    }

    /// The authority's certificate.
    #[must_use]
    pub fn certificate(&self) -> &Path {
        &self.ca
    }

    /// A certificate for `names`, as a client's names or a broker's hosts, and for 127.0.0.1 too.
    /// Its files have the first of the names.
    ///
    /// # Errors
    /// In words, what could not be made or written.
    pub fn issue(&self, names: &[&str]) -> Result<Certificate, String> {
        self.sign(names, params(names)?)
    }

    /// As [`issue`](Self::issue), of a certificate that has expired long ago.
    ///
    /// # Errors
    /// In words, what could not be made or written.
    pub fn issue_expired(&self, names: &[&str]) -> Result<Certificate, String> {
        let mut params = params(names)?;
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.sign(names, params)
    }

    fn sign(&self, names: &[&str], params: CertificateParams) -> Result<Certificate, String> {
        let name = names.first().copied().unwrap_or("nobody");
        let key = KeyPair::generate().map_err(in_words)?;
        let signed = params.signed_by(&key, &self.issuer).map_err(in_words)?;
        let files = Certificate {
            ca: self.ca.clone(),
            cert: self.directory.join(format!("{name}.pem")),
            key: self.directory.join(format!("{name}.key")),
        };
        fs::write(&files.cert, signed.pem()).map_err(in_words)?;
        let mut private = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&files.key)
            .map_err(in_words)?;
        let pem = key.serialize_pem();
        private.write_all(pem.as_bytes()).map_err(in_words)?;
        Ok(files)
    }
}

fn params(names: &[&str]) -> Result<CertificateParams, String> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).map_err(in_words)?;
    let local = SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST));
    params.subject_alt_names.push(local);
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    Ok(params)
}

fn in_words(error: impl std::fmt::Display) -> String {
    format!("no certificates: {error}")
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("ca", &self.ca)
            .finish_non_exhaustive()
    }
}
