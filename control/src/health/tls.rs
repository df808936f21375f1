//! TLS beneath HTTP and gRPC, by rustls.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::runner::Progress;
use super::{Failure, Tls};

/// What bytes are sent and received by: TCP, or TLS over it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The connection itself, or TLS over it.
pub(super) async fn over(
    stream: TcpStream,
    tls: Option<&Tls>,
    alpn: &'static [u8],
    address: SocketAddr,
    progress: &Progress,
) -> Result<Box<dyn Stream>, Failure> {
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    progress.at("waiting for the TLS handshake");
    let name = match &tls.server_name {
        Some(name) => {
            ServerName::try_from(name.clone()).map_err(|_| format!("{name:?} is no server name"))?
        }
        // Not sent, since SNI is for names alone (RFC 6066).
        None => ServerName::IpAddress(address.ip().into()),
    };
    let connector = tokio_rustls::TlsConnector::from(config(tls, alpn).map_err(Failure::Own)?);
    let stream = connector.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
    Ok(Box::new(stream))
}

/// What a configuration depends on: whether and by what certificates are verified, and what protocol is spoken.
type Trust = (bool, Option<PathBuf>, &'static [u8]);

/// Checks that trust the same share one configuration: the system's certificates take much memory.
fn config(tls: &Tls, alpn: &'static [u8]) -> Result<Arc<ClientConfig>, String> {
    static CONFIGS: Mutex<Option<HashMap<Trust, Arc<ClientConfig>>>> = Mutex::new(None);
    let trust = (tls.verify, tls.ca_file.clone(), alpn);
    let mut configs = CONFIGS.lock().unwrap_or_else(PoisonError::into_inner);
    let configs = configs.get_or_insert_default();
    if let Some(config) = configs.get(&trust) {
        return Ok(config.clone());
    }
    let config = Arc::new(build(tls, alpn)?);
    configs.insert(trust, config.clone());
    Ok(config)
}

fn build(tls: &Tls, alpn: &[u8]) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?;
    let mut config = if tls.verify {
        builder.with_root_certificates(roots(tls.ca_file.as_deref())?).with_no_client_auth()
    } else {
        let anyone = Arc::new(Anyone(schemes));
        builder.dangerous().with_custom_certificate_verifier(anyone).with_no_client_auth()
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    // Each check is to see the certificate.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|error| format!("{}: {error}", file.display()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err("there are no certificates to trust: install ca-certificates, or set ca_file".to_owned());
    }
    Ok(roots)
}

/// The certificates of a file in PEM.
pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error: rustls::pki_types::pem::Error| format!("{}: {error}", file.display());
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).map_err(wrong)?.collect();
    let certificates = certificates.map_err(wrong)?;
    if certificates.is_empty() {
        return Err(format!("{}: there is no certificate in it", file.display()));
    }
    Ok(certificates)
}

/// Takes every certificate: a check asks whether a real server works, not who it is.
#[derive(Debug)]
struct Anyone(Vec<SignatureScheme>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
