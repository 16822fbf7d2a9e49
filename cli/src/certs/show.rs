//! What is in a file of certificates.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use eventbus::tls::CertNames;
use serde::Serialize;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::X509Certificate;
use x509_parser::time::ASN1Time;

use crate::failure::Failure;

/// One certificate, in words.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    subject: String,
    issuer: String,
    /// DNS names and IP addresses.
    names: Vec<String>,
    /// What a client with it may be called on a broker; two hyphens and anything may follow.
    client_names: Vec<String>,
    uses: Vec<&'static str>,
    not_before: String,
    not_after: String,
    valid_now: bool,
    serial: String,
    sha256: String,
}

/// The certificates in a file, at least one.
pub(crate) fn read(path: &Path) -> Result<Vec<Shown>, Failure> {
    let mut shown = Vec::new();
    for pem in pems(path)? {
        if pem.label != "CERTIFICATE" {
            continue;
        }
        let certificate = pem.parse_x509().map_err(|reason| unusable(path, reason))?;
        shown.push(Shown::of(&certificate, &pem.contents));
    }
    if shown.is_empty() {
        return Err(Failure::Flags(format!(
            "no PEM certificate in `{}`",
            path.display()
        )));
    }
    Ok(shown)
}

/// What the first PEM block of a file has in it.
pub(super) fn first_pem(path: &Path) -> Result<Vec<u8>, Failure> {
    match pems(path)?.into_iter().next() {
        Some(pem) => Ok(pem.contents),
        None => Err(Failure::Flags(format!(
            "nothing PEM in `{}`",
            path.display()
        ))),
    }
}

fn pems(path: &Path) -> Result<Vec<Pem>, Failure> {
    let bytes = std::fs::read(path)
        .map_err(|reason| Failure::io(format!("read `{}`", path.display()), reason))?;
    let pems: Result<Vec<_>, _> = Pem::iter_from_buffer(&bytes).collect();
    pems.map_err(|reason| unusable(path, reason))
}

fn unusable(path: &Path, reason: impl fmt::Display) -> Failure {
    Failure::io(format!("use `{}`", path.display()), reason)
}

impl Shown {
    fn of(certificate: &X509Certificate<'_>, der: &[u8]) -> Self {
        let mut names = Vec::new();
        let mut dns = Vec::new();
        if let Ok(Some(extension)) = certificate.subject_alternative_name() {
            for name in &extension.value.general_names {
                match name {
                    GeneralName::DNSName(name) => dns.push(*name),
                    GeneralName::IPAddress(bytes) => names.extend(address(bytes)),
                    other => names.push(other.to_string()),
                }
            }
        }
        names.splice(0..0, dns.iter().map(|name| (*name).to_owned()));
        let validity = certificate.validity();
        Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names,
            client_names: CertNames::new(dns).iter().map(str::to_owned).collect(),
            uses: uses(certificate),
            not_before: date(validity.not_before),
            not_after: date(validity.not_after),
            valid_now: validity.is_valid(),
            serial: hex(certificate.raw_serial()),
            sha256: hex(digest(&SHA256, der).as_ref()),
        }
    }
}

fn uses(certificate: &X509Certificate<'_>) -> Vec<&'static str> {
    let mut uses = Vec::new();
    if certificate.is_ca() {
        uses.push("authority");
    }
    if let Ok(Some(usage)) = certificate.extended_key_usage() {
        if usage.value.client_auth || usage.value.any {
            uses.push("client");
        }
        if usage.value.server_auth || usage.value.any {
            uses.push("server");
        }
    }
    uses
}

fn address(bytes: &[u8]) -> Option<String> {
    let address = match *bytes {
        [a, b, c, d] => IpAddr::from([a, b, c, d]),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    Some(address.to_string())
}

fn date(time: ASN1Time) -> String {
    let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(time).to_string()
}

fn hex(bytes: &[u8]) -> String {
    let pairs: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(":")
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |text: String| {
            if text.is_empty() {
                "none".to_owned()
            } else {
                text
            }
        };
        let clients = CertNames::new(self.client_names.iter().map(String::as_str));
        let now = if self.valid_now {
            ""
        } else {
            "  NOT VALID NOW"
        };
        writeln!(f, "subject      {}", self.subject)?;
        writeln!(f, "issuer       {}", self.issuer)?;
        writeln!(f, "names        {}", or_none(self.names.join(", ")))?;
        writeln!(f, "client names {}", or_none(clients.to_string()))?;
        writeln!(f, "for          {}", or_none(self.uses.join(", ")))?;
        writeln!(f, "valid from   {}", self.not_before)?;
        writeln!(f, "valid until  {}{now}", self.not_after)?;
        writeln!(f, "serial       {}", self.serial)?;
        write!(f, "sha256       {}", self.sha256)
    }
}
