//! What `eventbus certs` is asked.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use eventbus::tls::CertNames;

#[derive(Debug, Args)]
pub(crate) struct CertsArgs {
    #[command(subcommand)]
    pub(crate) command: CertsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Make an authority that signs certificates: `ca.pem`, `ca.key`, and an empty `crl.pem`.
    Init(InitArgs),
    /// Make a certificate that the authority signs: `NAME.pem` and `NAME.key`.
    Issue(IssueArgs),
    /// Revoke the certificate `NAME.pem`: add it to `crl.pem`.
    Revoke(RevokeArgs),
    /// Print what is in a file of certificates.
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Directory to write to; made if it is not there
    #[arg(long, default_value = "certs")]
    pub(crate) dir: PathBuf,

    /// Name of the authority
    #[arg(long, default_value = "eventbus development CA", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) name: String,

    /// Write over an authority that is there, so that everything it signed is worth nothing
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct IssueArgs {
    /// Name of the client: 1 to 46 of `A-Z a-z 0-9 _ -`, without `--`
    pub(crate) name: ClientName,

    /// Make it for a broker, too
    #[arg(long)]
    pub(crate) server: bool,

    /// A further name of the certificate: what clients dial
    /// [default with --server: localhost, 127.0.0.1, ::1]
    #[arg(long, value_name = "DNS|IP")]
    pub(crate) san: Vec<String>,

    /// Days for which it is valid
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) days: u32,

    /// Directory of the authority
    #[arg(long, default_value = "certs")]
    pub(crate) dir: PathBuf,

    /// Replace a certificate that is there; it is kept as `NAME.SERIAL.pem`
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// Name of the client, or, of an earlier certificate of it, `NAME.SERIAL`
    pub(crate) name: Issued,

    /// Directory of the authority
    #[arg(long, default_value = "certs")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// A file of certificates, in PEM
    pub(crate) file: PathBuf,

    /// Print one JSON document instead
    #[arg(long)]
    pub(crate) json: bool,
}

/// A name that a certificate can entitle to, and that is no file of the authority's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientName(pub(crate) String);

impl FromStr for ClientName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if matches!(text, "ca" | "crl") {
            return Err("that is a file of the authority's own".to_owned());
        }
        if CertNames::can_be_one(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(
                "expected 1 to 46 of A-Z a-z 0-9 _ - without `--`, with no `-` at an end, and \
                 not beginning with `eb-`"
                    .to_owned(),
            )
        }
    }
}

/// A file of a certificate, without its ending: the client's name, and the serial number if another
/// has taken its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Issued(pub(crate) String);

impl FromStr for Issued {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, serial) = text.split_once('.').unwrap_or((text, "0"));
        name.parse::<ClientName>()?;
        let hexadecimal = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if serial.is_empty() || !serial.bytes().all(hexadecimal) {
            return Err("expected a serial number of 0-9 a-f after the dot".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl IssueArgs {
    /// Names of the certificate besides the client's.
    pub(crate) fn further(&self) -> Vec<String> {
        if self.server && self.san.is_empty() {
            return ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        }
        let bare = |san: &String| match san.strip_prefix('[').and_then(|s| s.strip_suffix(']')) {
            Some(inner) if inner.parse::<IpAddr>().is_ok() => inner.to_owned(),
            _ => san.clone(),
        };
        self.san.iter().map(bare).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_a_client_can_have() {
        for name in ["collector", "a_b-C9"] {
            assert_eq!(name.parse(), Ok(ClientName(name.to_owned())));
        }
        for name in [
            "",
            "a--b",
            "a.b",
            "../x",
            "ca",
            "crl",
            "-a",
            "a-",
            "eb-directory",
        ] {
            assert!(name.parse::<ClientName>().is_err(), "{name}");
        }
    }
}
