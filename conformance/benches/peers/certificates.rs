//! Certificates for a program that is broker and client, in a directory that goes with them.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;

use busrt_backend::tls::TlsOptions;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// For `127.0.0.1`, and for clients called `collector`.
pub(crate) fn for_broker_and_client() -> io::Result<(TlsOptions, TempDir)> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let certificate = params.self_signed(&key).map_err(io::Error::other)?;
    std::fs::write(path("ca.pem"), certificate.pem())?;
    let issuer = Issuer::new(params, key);

    let names = ["collector".to_owned(), "127.0.0.1".to_owned()];
    let params = CertificateParams::new(names).map_err(io::Error::other)?;
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let certificate = params.signed_by(&key, &issuer).map_err(io::Error::other)?;
    std::fs::write(path("own.pem"), certificate.pem())?;
    std::fs::write(path("own.key"), key.serialize_pem())?;
    std::fs::set_permissions(path("own.key"), Permissions::from_mode(0o600))?;
    let tls = TlsOptions::new(path("ca.pem"), path("own.pem"), path("own.key"));
    Ok((tls, directory))
}
