//! The name in a certificate: its subject's common name, or else its first DNS or URI name.
//!
//! Looks into certificates that were verified, never into others: who signed it answers for what
//! it says. A certificate with two common names has none.

use tokio_rustls::rustls::pki_types::CertificateDer;

/// DER: a sequence of elements.
const SEQUENCE: u8 = 0x30;
/// DER: a set of elements.
const SET: u8 = 0x31;
/// DER: an object identifier.
const OBJECT: u8 = 0x06;
/// DER: texts that are UTF-8 or a part of it: `UTF8String`, `PrintableString`, `IA5String`.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];
/// The identifier of common names, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// Whose certificate it is, if it says.
pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let name = common_name(certificate.subject())
        .or_else(|| certificate.valid_dns_names().next())
        .or_else(|| certificate.valid_uri_names().next())?;
    let fits = !name.is_empty() && !name.contains(char::is_control);
    fits.then(|| name.to_owned())
}

/// The common name among the parts of a subject: sets of pairs of an identifier and a text.
fn common_name(mut subject: &[u8]) -> Option<&str> {
    let mut found = None;
    while !subject.is_empty() {
        let mut part = element(SET, &mut subject)?;
        while !part.is_empty() {
            let mut pair = element(SEQUENCE, &mut part)?;
            if element(OBJECT, &mut pair)? != COMMON_NAME {
                continue;
            }
            let tag = *pair.first()?;
            let text = element(tag, &mut pair)?;
            if found.is_some() || !TEXTS.contains(&tag) {
                return None;
            }
            found = Some(std::str::from_utf8(text).ok()?);
        }
    }
    found
}

/// Takes an element with this tag off the beginning; its content.
fn element<'a>(tag: u8, der: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (&[first, length], rest) = der.split_first_chunk()?;
    // Longer lengths are those with the high bit: it counts the bytes that they take.
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => {
            let (&bytes, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(bytes)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *der = rest;
    (first == tag).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType};

    /// The name in a certificate with these common names and further names, or `-`.
    fn check(common: &[DnValue], names: &[SanType], expected: &str) {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "logdrive");
        for name in common {
            params
                .distinguished_name
                .push(DnType::CommonName, name.clone());
        }
        params.subject_alt_names = names.to_vec();
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(of(certificate.der()).as_deref().unwrap_or("-"), expected);
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    #[test]
    fn a_certificate_is_its_common_names_or_else_its_first_other_name() {
        let host = [dns("web-1.example"), dns("other.example")];
        check(&["billing".into()], &host, "billing");
        check(&["müller".into()], &[], "müller");
        let long = "x".repeat(300);
        check(&[long.as_str().into()], &[], &long);
        let printable = DnValue::PrintableString("billing".try_into().unwrap());
        check(&[printable], &[], "billing");
        check(&[], &host, "web-1.example");
        let uri = SanType::URI("spiffe://example/billing".try_into().unwrap());
        check(&[], &[uri], "spiffe://example/billing");
        check(&[], &[], "-");
        check(&["two\nlines".into()], &[], "-");
    }

    #[test]
    fn a_subject_that_is_cut_or_names_two_has_no_name() {
        // SET { SEQUENCE { 2.5.4.3, UTF8String "ab" } }
        let one = [0x31, 11, 0x30, 9, 6, 3, 0x55, 4, 3, 0x0c, 2, b'a', b'b'];
        assert_eq!(common_name(&one), Some("ab"));
        for cut in 1..one.len() {
            assert_eq!(common_name(&one[..cut]), None, "{cut}");
        }
        assert_eq!(common_name(&[one, one].concat()), None);
        assert_eq!(common_name(&[]), None);
        assert_eq!(common_name(&[0x31, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
