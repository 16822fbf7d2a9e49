//! The authority: a directory with its certificate, its key, and its list of what was revoked.
//!
//! Invariant: whoever has an [`Authority`] has the directory for itself, by a lock on it that the
//! kernel gives back, and a certificate that was issued stays on record until it is revoked.

use std::fs::{self, DirBuilder, File};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rand::RngExt as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber,
};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustls_pki_types::DnsName;
use tempfile::NamedTempFile;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use crate::certs::args::IssueArgs;
use crate::failure::Failure;

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";
const REVOKED: &str = "crl.pem";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the authority is valid, and its list of what was revoked.
const AUTHORITY_DAYS: u32 = 3650;
/// Clocks of other machines may be behind.
const SKEW: Duration = Duration::from_secs(60 * 60);

/// Modes of what is written.
const PUBLIC: u32 = 0o644;
const SECRET: u32 = 0o600;

/// An authority that can sign.
pub(crate) struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    _lock: File,
}

impl Authority {
    /// Makes one in `directory`.
    pub(crate) fn make(directory: &Path, name: &str, force: bool) -> Result<Self, Failure> {
        if !directory.exists() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(|reason| cannot("make directory", directory, reason))?;
        }
        let lock = lock(directory)?;
        unless_there(directory, &[CERTIFICATE, KEY, REVOKED], force)?;
        let key = KeyPair::generate().map_err(|reason| Failure::io("make a key", reason))?;
        let mut params = params(name, AUTHORITY_DAYS);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(signing)?;
        let this = Self {
            directory: directory.to_owned(),
            issuer: Issuer::new(params, key),
            _lock: lock,
        };
        this.write(KEY, SECRET, &this.issuer.key().serialize_pem(), force)?;
        this.write(CERTIFICATE, PUBLIC, &certificate.pem(), force)?;
        this.write_revoked(Vec::new(), 1, force)?;
        Ok(this)
    }

    /// The one in `directory`.
    pub(crate) fn open(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join(KEY);
        // One that nobody lets us see is none of which to say that it is not there.
        if matches!(path.try_exists(), Ok(false)) {
            let directory = directory.display();
            return Err(Failure::Flags(format!(
                "no authority in `{directory}`; make one with `eventbus certs init --dir {directory}`"
            )));
        }
        let lock = lock(directory)?;
        let key =
            KeyPair::from_pem(&read(&path)?).map_err(|reason| cannot("use key", &path, reason))?;
        let path = directory.join(CERTIFICATE);
        let issuer = Issuer::from_ca_cert_pem(&read(&path)?, key)
            .map_err(|reason| cannot("use certificate", &path, reason))?;
        Ok(Self {
            directory: directory.to_owned(),
            issuer,
            _lock: lock,
        })
    }

    /// Makes a certificate and its key; returns the last day of its time.
    pub(crate) fn issue(&self, args: &IssueArgs) -> Result<String, Failure> {
        let name = args.name.0.as_str();
        let files = [format!("{name}.pem"), format!("{name}.key")];
        unless_there(&self.directory, &files, args.force)?;
        let mut params = params(name, args.days);
        params.subject_alt_names = vec![alternative(name)?];
        for further in args.further() {
            let further = alternative(&further)?;
            if !params.subject_alt_names.contains(&further) {
                params.subject_alt_names.push(further);
            }
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if args.server {
            let server = ExtendedKeyUsagePurpose::ServerAuth;
            params.extended_key_usages.push(server);
        }
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(|reason| Failure::io("make a key", reason))?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(signing)?;
        let [pem, secret] = &files;
        self.keep(name)?;
        self.write(secret, SECRET, &key.serialize_pem(), args.force)?;
        self.write(pem, PUBLIC, &certificate.pem(), args.force)?;
        Ok(params.not_after.date().to_string())
    }

    /// Keeps a certificate that is to be replaced: nothing else knows its serial number.
    fn keep(&self, name: &str) -> Result<(), Failure> {
        let path = self.directory.join(format!("{name}.pem"));
        if !path.exists() {
            return Ok(());
        }
        let serial: String = serial(&path)?.iter().map(|b| format!("{b:02x}")).collect();
        self.write(&format!("{name}.{serial}.pem"), PUBLIC, &read(&path)?, true)
    }

    /// Adds a certificate to the list; returns how many are in it.
    pub(crate) fn revoke(&self, name: &str) -> Result<usize, Failure> {
        let path = self.directory.join(format!("{name}.pem"));
        let serial = serial(&path)?;

        let path = self.directory.join(REVOKED);
        let pem = super::show::first_pem(&path)?;
        let (_, list) = CertificateRevocationList::from_der(&pem)
            .map_err(|reason| cannot("use revocation list", &path, reason))?;
        let mut revoked: Vec<_> = list
            .iter_revoked_certificates()
            .map(|entry| {
                revoked(
                    entry.raw_serial(),
                    entry.revocation_date.to_datetime().into(),
                )
            })
            .collect();
        let serial = revoked_now(&serial);
        if revoked
            .iter()
            .any(|r| r.serial_number == serial.serial_number)
        {
            return Err(Failure::Flags(format!("`{name}` is revoked already")));
        }
        revoked.push(serial);
        let number = list
            .crl_number()
            .and_then(|number| u64::try_from(number).ok())
            .unwrap_or_default();
        let count = revoked.len();
        self.write_revoked(revoked, number.saturating_add(1), true)?;
        Ok(count)
    }

    fn write_revoked(
        &self,
        revoked_certs: Vec<RevokedCertParams>,
        number: u64,
        force: bool,
    ) -> Result<(), Failure> {
        let now = SystemTime::now();
        let list = CertificateRevocationListParams {
            this_update: (now - SKEW).into(),
            next_update: (now + DAY * AUTHORITY_DAYS).into(),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let pem = list
            .signed_by(&self.issuer)
            .and_then(|list| list.pem())
            .map_err(signing)?;
        self.write(REVOKED, PUBLIC, &pem, force)
    }

    /// Writes a file whole, or not at all.
    fn write(&self, file: &str, mode: u32, text: &str, force: bool) -> Result<(), Failure> {
        let path = self.directory.join(file);
        let whole = || -> std::io::Result<()> {
            // Errors of a file made otherwise have the name that it has only until it is whole.
            let mut made = tempfile::Builder::new().make_in(&self.directory, |path| {
                let mut options = File::options();
                options.write(true).create_new(true).mode(mode).open(path)
            })?;
            made.as_file_mut().write_all(text.as_bytes())?;
            made.as_file().sync_all()?;
            place(made, &path, force)
        };
        whole().map_err(|reason| cannot("write", &path, reason))
    }
}

/// The serial number of a certificate.
fn serial(path: &Path) -> Result<Vec<u8>, Failure> {
    let pem = super::show::first_pem(path)?;
    let (_, certificate) = X509Certificate::from_der(&pem)
        .map_err(|reason| cannot("use certificate", path, reason))?;
    Ok(certificate.raw_serial().to_vec())
}

/// Waits for the directory.
fn lock(directory: &Path) -> Result<File, Failure> {
    let cannot = |reason: Errno| cannot("lock directory", directory, std::io::Error::from(reason));
    // Opening anything else may wait for ever.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let file = rustix::fs::open(directory, flags, Mode::empty()).map_err(cannot)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(cannot)?;
    Ok(file.into())
}

fn place(made: NamedTempFile<File>, path: &Path, force: bool) -> std::io::Result<()> {
    let placed = if force {
        made.persist(path)
    } else {
        made.persist_noclobber(path)
    };
    placed.map(drop).map_err(|e| e.error)
}

/// Refuses to write over what is there, before anything is written.
fn unless_there(directory: &Path, files: &[impl AsRef<Path>], force: bool) -> Result<(), Failure> {
    let there = files.iter().map(|file| directory.join(file));
    match there.into_iter().find(|path| path.exists()) {
        Some(path) if !force => Err(Failure::Flags(format!(
            "`{}` is there already; --force writes over it",
            path.display()
        ))),
        _ => Ok(()),
    }
}

fn params(name: &str, days: u32) -> CertificateParams {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.not_before = (now - SKEW).into();
    params.not_after = (now + DAY * days).into();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // Positive, and of the same length always.
    let mut serial: [u8; 16] = rand::rng().random();
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}

fn alternative(name: &str) -> Result<SanType, Failure> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let is_dns = DnsName::try_from(name).is_ok();
    match name.try_into() {
        Ok(dns) if is_dns => Ok(SanType::DnsName(dns)),
        _ => Err(Failure::Flags(format!(
            "`{name}` is neither a DNS name nor an IP address"
        ))),
    }
}

fn revoked(serial: &[u8], at: SystemTime) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from_slice(serial),
        revocation_time: at.into(),
        reason_code: None,
        invalidity_date: None,
    }
}

fn revoked_now(serial: &[u8]) -> RevokedCertParams {
    revoked(serial, SystemTime::now())
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|reason| cannot("read", path, reason))
}

fn cannot(action: &str, path: &Path, reason: impl std::fmt::Display) -> Failure {
    Failure::io(format!("{action} `{}`", path.display()), reason)
}

fn signing(reason: rcgen::Error) -> Failure {
    Failure::io("sign", reason)
}
