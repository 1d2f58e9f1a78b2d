//! Keys on elliptic curves as Java writes them: without their public half, which RFC 5915 leaves to the writer and ring insists on. It is
//! taken from the certificate.
//!
//! Invariant: a key of any other kind, and one that lies in the file in another way than these, comes back as it was.

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const CONTEXT_0: u8 = 0xa0;
const CONTEXT_1: u8 = 0xa1;

/// The object identifier `id-ecPublicKey`, tag and length included, and those of the curves with the bytes of their private keys.
const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const CURVES: [(&[u8], usize); 2] = [
    (&[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], 32),
    (&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22], 48),
];

/// The key is on a curve that is neither P-256 nor P-384.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownCurve;

/// The key with its public half, as PKCS#8.
pub fn complete(
    key: PrivateKeyDer<'static>,
    certificate: &CertificateDer<'_>,
) -> Result<PrivateKeyDer<'static>, UnknownCurve> {
    let Some((algorithm, point)) = public_half(certificate) else { return Ok(key) };
    let Some(curve) = algorithm.strip_prefix(EC_PUBLIC_KEY) else { return Ok(key) };
    let private = match &key {
        PrivateKeyDer::Pkcs8(key) => of_pkcs8(key.secret_pkcs8_der()),
        PrivateKeyDer::Sec1(key) => of_sec1(key.secret_sec1_der()),
        _ => None,
    };
    let Some(private) = private else { return Ok(key) };
    let (_, size) = CURVES.iter().find(|(known, _)| *known == curve).ok_or(UnknownCurve)?;
    Ok(PrivatePkcs8KeyDer::from(pkcs8(algorithm, &fixed(private, *size), point)).into())
}

/// The algorithm with its parameters, and the bits of the key, of a certificate.
fn public_half<'a>(certificate: &'a CertificateDer<'_>) -> Option<(&'a [u8], &'a [u8])> {
    let mut outer = Der(Der(certificate.as_ref()).take(SEQUENCE)?);
    let mut body = Der(outer.take(SEQUENCE)?);
    if body.is_next(CONTEXT_0) {
        body.take(CONTEXT_0)?;
    }
    body.take(INTEGER)?;
    // Signature algorithm, issuer, validity, subject.
    for _ in 0..4 {
        body.take(SEQUENCE)?;
    }
    let mut info = Der(body.take(SEQUENCE)?);
    Some((info.take(SEQUENCE)?, info.take(BIT_STRING)?))
}

fn of_pkcs8(der: &[u8]) -> Option<&[u8]> {
    let mut outer = Der(Der(der).take(SEQUENCE)?);
    outer.take(INTEGER)?;
    outer.take(SEQUENCE)?.starts_with(EC_PUBLIC_KEY).then_some(())?;
    of_sec1(outer.take(OCTET_STRING)?)
}

fn of_sec1(der: &[u8]) -> Option<&[u8]> {
    let mut inner = Der(Der(der).take(SEQUENCE)?);
    inner.take(INTEGER)?;
    inner.take(OCTET_STRING)
}

/// As many bytes as the curve has, zeros before the number.
fn fixed(number: &[u8], size: usize) -> Vec<u8> {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let digits = number.get(start..).unwrap_or_default();
    let mut out = vec![0; size.saturating_sub(digits.len())];
    out.extend_from_slice(digits);
    out
}

fn pkcs8(algorithm: &[u8], private: &[u8], point: &[u8]) -> Vec<u8> {
    let public = element(CONTEXT_1, &[&element(BIT_STRING, &[point])]);
    let key = element(SEQUENCE, &[&[INTEGER, 1, 1], &element(OCTET_STRING, &[private]), &public]);
    element(SEQUENCE, &[&[INTEGER, 1, 0], &element(SEQUENCE, &[algorithm]), &element(OCTET_STRING, &[&key])])
}

/// One element of DER. What is made here is shorter than 64 KiB.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let size: usize = parts.iter().map(|part| part.len()).sum();
    let [high, low] = (size as u16).to_be_bytes();
    let mut out = match size {
        0..=0x7f => vec![tag, low],
        0x80..=0xff => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// Elements of DER one after another.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn is_next(&self, tag: u8) -> bool {
        self.0.first() == Some(&tag)
    }

    /// What is in the next element, which has to have this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (size, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (digits.iter().fold(0, |size, digit| size << 8 | usize::from(*digit)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(size)?;
        self.0 = rest;
        (*found == tag).then_some(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::PrivateSec1KeyDer;

    const POINT: [u8; 66] = [4; 66];

    fn certificate(curve: &[u8]) -> CertificateDer<'static> {
        let info = element(SEQUENCE, &[&element(SEQUENCE, &[EC_PUBLIC_KEY, curve]), &element(BIT_STRING, &[&POINT])]);
        let part = element(SEQUENCE, &[&[7; 300]]);
        let version = element(CONTEXT_0, &[&[INTEGER, 1, 2]]);
        let body = element(SEQUENCE, &[&version, &[INTEGER, 1, 9], &part, &part, &part, &part, &info]);
        element(SEQUENCE, &[&body, &part]).into()
    }

    #[test]
    fn every_form_becomes_the_same_key_with_its_public_half() {
        let (curve, size) = CURVES[0];
        let certificate = certificate(curve);
        // Java drops zeros in front of the number.
        let short = element(SEQUENCE, &[&[INTEGER, 1, 1], &element(OCTET_STRING, &[&[5; 31]])]);
        let algorithm = [EC_PUBLIC_KEY, curve].concat();
        let wrapped = [&[INTEGER, 1, 0], &*element(SEQUENCE, &[&algorithm]), &*element(OCTET_STRING, &[&short])];
        let wrapped = element(SEQUENCE, &wrapped);
        let wanted = pkcs8(&algorithm, &fixed(&[5; 31], size), &POINT);
        let forms: [PrivateKeyDer<'static>; 3] = [
            PrivateSec1KeyDer::from(short).into(),
            PrivatePkcs8KeyDer::from(wrapped).into(),
            PrivatePkcs8KeyDer::from(wanted.clone()).into(),
        ];
        for form in forms {
            assert_eq!(complete(form, &certificate).expect("a known curve").secret_der(), wanted);
        }
    }

    #[test]
    fn other_keys_stay_and_other_curves_are_told() {
        let short = element(SEQUENCE, &[&[INTEGER, 1, 1], &element(OCTET_STRING, &[&[5; 66]])]);
        let p521: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];
        let key = || PrivateKeyDer::from(PrivateSec1KeyDer::from(short.clone()));
        assert_eq!(complete(key(), &certificate(p521)), Err(UnknownCurve));
        let (curve, _) = CURVES[0];
        for (odd, certificate) in [
            (vec![], certificate(curve)),
            (vec![0x30, 0x84, 1, 2, 3, 4], certificate(curve)),
            (short.clone(), vec![0x30, 0x05, 1].into()),
            (short.clone(), vec![].into()),
        ] {
            let key = || PrivateKeyDer::from(PrivatePkcs8KeyDer::from(odd.clone()));
            assert_eq!(complete(key(), &certificate), Ok(key()));
        }
    }
}
