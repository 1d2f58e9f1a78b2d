//! TLS towards ZooKeeper, by `zookeeper.ssl.*` (class `ClientX509Util`).
//!
//! Invariant: a server is trusted only if its certificate leads to the trust store and, unless
//! `zookeeper.ssl.endpoint.identification.algorithm` is empty, names the host of `zookeeper.connect`.

use crate::config::keystore::KeystoreError;
use crate::config::zookeeper::TlsSettings;
use crate::zookeeper::ZkError;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion, version,
};
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Makes TLS connections.
#[derive(Clone)]
pub struct TlsClient {
    connector: TlsConnector,
    /// To hand on to the session guardian.
    pub settings: Arc<TlsSettings>,
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.settings.fmt(to)
    }
}

fn unusable(error: impl ToString) -> ZkError {
    ZkError::Tls(error.to_string())
}

impl From<KeystoreError> for ZkError {
    fn from(error: KeystoreError) -> ZkError {
        unusable(error)
    }
}

impl TlsClient {
    pub fn new(settings: TlsSettings) -> Result<TlsClient, ZkError> {
        let provider = Arc::new(provider(&settings.cipher_suites)?);
        let truststore = settings.truststore.as_ref();
        let truststore = truststore.ok_or_else(|| unusable("zookeeper.ssl.truststore.location has to be set"))?;
        let mut roots = RootCertStore::empty();
        for certificate in truststore.trusted()? {
            roots.add(certificate).map_err(unusable)?;
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let verifier = verifier.build().map_err(unusable)?;
        let verifier: Arc<dyn ServerCertVerifier> =
            if settings.verify_host { verifier } else { Arc::new(AnyHost(verifier)) };
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_protocol_versions(&versions(&settings.protocols)?).map_err(unusable)?;
        let config = config.dangerous().with_custom_certificate_verifier(verifier);
        let config = match &settings.keystore {
            None => config.with_no_client_auth(),
            Some(store) => {
                let identity = store.identity()?;
                config.with_client_auth_cert(identity.chain, identity.key).map_err(unusable)?
            }
        };
        Ok(TlsClient { connector: TlsConnector::from(Arc::new(config)), settings: Arc::new(settings) })
    }

    pub async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.connector.connect(name, stream).await
    }
}

fn versions(names: &[String]) -> Result<Vec<&'static SupportedProtocolVersion>, ZkError> {
    let mut found = Vec::new();
    for name in names {
        match name.as_str() {
            "TLSv1.3" => found.push(&version::TLS13),
            "TLSv1.2" => found.push(&version::TLS12),
            other => return Err(unusable(format!("zookeeper.ssl.enabled.protocols: {other} is not supported"))),
        }
    }
    Ok(if found.is_empty() { vec![&version::TLS13, &version::TLS12] } else { found })
}

fn provider(names: &[String]) -> Result<CryptoProvider, ZkError> {
    let mut provider = ring::default_provider();
    // JSSE calls those of TLS 1.3 without the version.
    let known = |suite: &rustls::SupportedCipherSuite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
    for name in names {
        if !provider.cipher_suites.iter().any(|suite| known(suite) == *name) {
            return Err(unusable(format!("zookeeper.ssl.cipher.suites: {name} is not supported")));
        }
    }
    if !names.is_empty() {
        provider.cipher_suites.retain(|suite| names.contains(&known(suite)));
    }
    Ok(provider)
}

/// Everything is checked but the host's name.
#[derive(Debug)]
struct AnyHost(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.0.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The name is looked at last: all else was right.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
