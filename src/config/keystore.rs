//! Keys and certificates from files: PEM, JKS and PKCS12, told apart by what is in them and not by their names
//! (classes `DefaultSslEngineFactory`, ZooKeeper's `FileKeyStoreLoader`).
//!
//! Invariant: a store that needs a password and has none, or the wrong one, is an error, never an empty store.

use super::ec_key;
use p12_keystore::{KeyStore as Pkcs12, KeyStoreEntry, Pkcs12ImportPolicy};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    #[error("{path} cannot be read: {source}", path = path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path} is no PEM, JKS or PKCS12 file", path = path.display())]
    UnknownFormat { path: PathBuf },
    #[error("{path}: {reason}; is its password right?", path = path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error("{path} holds no {what}", path = path.display())]
    Missing { path: PathBuf, what: &'static str },
    #[error("{path}: {what}", path = path.display())]
    Unsupported { path: PathBuf, what: &'static str },
}

/// Who one is: a key and the certificates that vouch for it, the own one first.
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// A store and what it is opened with.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreFile {
    pub path: PathBuf,
    pub password: Option<String>,
}

/// The password stays out of logs.
impl std::fmt::Debug for StoreFile {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "StoreFile({})", self.path.display())
    }
}

enum Content {
    Pem(Vec<u8>),
    Jks(jks::KeyStore),
    Pkcs12(Pkcs12),
}

impl StoreFile {
    /// The first key in the store, and its certificates.
    pub fn identity(&self) -> Result<Identity, KeystoreError> {
        let found = match self.open()? {
            Content::Pem(pem) => {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
                if contains(&pem, b"ENCRYPTED PRIVATE KEY") || contains(&pem, b"ENCRYPTED\n") {
                    let what = "encrypted PEM keys are not supported: keep the key in a PKCS12 store, or in the clear";
                    return Err(KeystoreError::Unsupported { path: self.path.clone(), what });
                }
                let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| self.malformed(error))?;
                Some(Identity { chain: chain.map_err(|error| self.malformed(error))?, key })
            }
            Content::Jks(store) => self.identity_of_jks(&store)?,
            Content::Pkcs12(store) => store.private_key_chain().map(|(_, found)| Identity {
                chain: found.certs().iter().map(|cert| CertificateDer::from(cert.as_der().to_vec())).collect(),
                key: PrivatePkcs8KeyDer::from(found.key().as_der().to_vec()).into(),
            }),
        };
        let missing = || KeystoreError::Missing { path: self.path.clone(), what: "private key with its certificate" };
        let Identity { chain, key } = found.ok_or_else(missing)?;
        let key =
            ec_key::complete(key, chain.first().ok_or_else(missing)?).map_err(|_| KeystoreError::Unsupported {
                path: self.path.clone(),
                what: "the key is on a curve that is not supported: secp256r1 and secp384r1 are",
            })?;
        Ok(Identity { chain, key })
    }

    fn identity_of_jks(&self, store: &jks::KeyStore) -> Result<Option<Identity>, KeystoreError> {
        let Some(alias) = store.aliases().into_iter().find(|alias| store.is_private_key_entry(alias)) else {
            return Ok(None);
        };
        let password = self.password.as_deref().unwrap_or_default();
        let entry = store.get_private_key_entry(&alias, password.as_bytes()).map_err(|error| self.malformed(error))?;
        let chain = entry.certificate_chain.into_iter().map(|cert| CertificateDer::from(cert.content)).collect();
        Ok(Some(Identity { chain, key: PrivatePkcs8KeyDer::from(entry.private_key).into() }))
    }

    /// All certificates in the store that are trusted: those that stand alone.
    pub fn trusted(&self) -> Result<Vec<CertificateDer<'static>>, KeystoreError> {
        let found: Vec<_> = match self.open()? {
            Content::Pem(pem) => {
                let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
                all.map_err(|error| self.malformed(error))?
            }
            Content::Jks(store) => {
                let aliases = store.aliases();
                let trusted = aliases.iter().filter_map(|alias| store.get_trusted_certificate_entry(alias).ok());
                trusted.map(|entry| CertificateDer::from(entry.certificate.content)).collect()
            }
            Content::Pkcs12(store) => store
                .entries()
                .filter_map(|(_, entry)| match entry {
                    KeyStoreEntry::Certificate(cert) => Some(CertificateDer::from(cert.as_der().to_vec())),
                    _ => None,
                })
                .collect(),
        };
        match found.is_empty() {
            true => Err(KeystoreError::Missing { path: self.path.clone(), what: "trusted certificate" }),
            false => Ok(found),
        }
    }

    fn open(&self) -> Result<Content, KeystoreError> {
        let unreadable = |source| KeystoreError::Unreadable { path: self.path.clone(), source };
        let bytes = std::fs::read(&self.path).map_err(unreadable)?;
        let password = self.password.as_deref().unwrap_or_default();
        match bytes.first_chunk::<4>() {
            Some([0xfe, 0xed, 0xfe, 0xed]) => {
                let mut store = jks::KeyStore::new();
                let loaded = store.load(bytes.as_slice(), password.as_bytes());
                loaded.map(|()| Content::Jks(store)).map_err(|error| self.malformed(error))
            }
            Some([0x30, ..]) => Pkcs12::from_pkcs12(&bytes, password, Pkcs12ImportPolicy::Strict)
                .map(Content::Pkcs12)
                .map_err(|error| self.malformed(error)),
            _ if is_pem(&bytes) => Ok(Content::Pem(bytes)),
            _ => Err(KeystoreError::UnknownFormat { path: self.path.clone() }),
        }
    }

    fn malformed(&self, error: impl ToString) -> KeystoreError {
        KeystoreError::Malformed { path: self.path.clone(), reason: error.to_string() }
    }
}

fn is_pem(bytes: &[u8]) -> bool {
    contains(bytes, b"-----BEGIN")
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}
