//! A broker that runs already, as an address and the flags and configuration beside it name it.

use std::path::PathBuf;

use ::conformance::phases::{Address, Running, TlsOptions};
use eventbus::{Config, OpenError, Phase, Tls};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Where it is, and how it is reached; another process can be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    Unix(PathBuf),
    Tcp {
        host: String,
        port: u16,
        tls: Certificates,
    },
}

/// The files of [`Tls`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Certificates {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    server_name: Option<String>,
    crl: Option<PathBuf>,
}

/// What flags say of certificates.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flags<'a> {
    pub(crate) config: Option<&'a PathBuf>,
    pub(crate) ca: Option<&'a PathBuf>,
    pub(crate) cert: Option<&'a PathBuf>,
    pub(crate) key: Option<&'a PathBuf>,
}

impl Place {
    /// Where `phase` says that a broker is.
    pub(crate) fn of(phase: &Phase, flags: Flags<'_>) -> Result<Self, Failure> {
        match phase {
            Phase::Unix(path) => Ok(Self::Unix(path.clone())),
            Phase::Tcp { host, port } => Ok(Self::Tcp {
                host: host.clone(),
                port: *port,
                tls: flags.tls(phase)?.into(),
            }),
            other => Err(Failure::Flags(format!(
                "no broker runs at `{other}`; expected `unix:///path` or `tcp://host:port`"
            ))),
        }
    }

    /// Buses there, each in a namespace of its own.
    ///
    /// # Errors
    /// In words, why there can be none.
    pub(crate) fn running(&self) -> Result<Running, String> {
        Running::at(match self {
            Self::Unix(path) => Address::Unix(path.clone()),
            Self::Tcp { host, port, tls } => {
                let mut options = TlsOptions::new(&tls.ca, &tls.cert, &tls.key);
                options.server_name.clone_from(&tls.server_name);
                options.crl.clone_from(&tls.crl);
                Address::Tcp {
                    host: host.clone(),
                    port: *port,
                    tls: options,
                }
            }
        })
    }
}

impl Flags<'_> {
    /// Flags above the environment above the file.
    fn tls(&self, phase: &Phase) -> Result<Tls, Failure> {
        let mut figment = match self.config {
            Some(file) => Config::figment_from(file)?,
            None => Config::figment()?,
        };
        for (key, file) in [
            ("tls.ca", self.ca),
            ("tls.cert", self.cert),
            ("tls.key", self.key),
        ] {
            if let Some(file) = file {
                figment = figment.merge((key, file));
            }
        }
        let tls = Config::from_figment(&figment)?.tls;
        tls.ok_or_else(|| {
            let phase = phase.to_string();
            Failure::Open(OpenError::NoCertificates { phase })
        })
    }
}

impl From<Tls> for Certificates {
    fn from(tls: Tls) -> Self {
        Self {
            ca: tls.ca,
            cert: tls.cert,
            key: tls.key,
            server_name: tls.server_name,
            crl: tls.crl,
        }
    }
}

impl From<&Certificates> for Tls {
    fn from(files: &Certificates) -> Self {
        let mut tls = Self::new(&files.ca, &files.cert, &files.key);
        tls.server_name.clone_from(&files.server_name);
        tls.crl.clone_from(&files.crl);
        tls
    }
}
