//! A group's certificates and passwords: made once, by libraries, and never written anywhere but into two Secrets.
//!
//! The operator's Secret holds the certificate authority and the operator's own certificate; the agents' Secret holds what
//! is mounted into the pods. So a pod that was broken into can answer as an agent, and can order nobody.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kagami_protocol::AGENT_SERVER_NAME;
use rand::Rng;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Ten years: rotation without a restart is a later issue, and an expired certificate would park the whole group.
const VALID_DAYS: i64 = 3650;

/// Why certificates could not be made or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// The certificate library refused.
    #[error("certificates could not be made")]
    Make(#[from] rcgen::Error),
    /// A key is missing.
    #[error("the Secret has no {0}")]
    Missing(&'static str),
    /// Not PEM.
    #[error("the Secret's {0} cannot be read")]
    Pem(&'static str, #[source] rustls::pki_types::pem::Error),
    /// TLS refused it.
    #[error("the certificates do not fit")]
    Tls(#[from] rustls::Error),
    /// The trust anchors cannot be used.
    #[error("the certificate authority cannot be used")]
    Roots(#[from] rustls::client::VerifierBuilderError),
}

type Data = BTreeMap<String, String>;

/// The operator's part: made first, because it holds the authority.
pub(crate) fn operator_data(group: &str) -> Result<Data, SecretError> {
    let key = KeyPair::generate()?;
    let ca = authority(group)?.self_signed(&key)?;
    let issuer = Issuer::new(authority(group)?, KeyPair::from_pem(&key.serialize_pem())?);
    let (certificate, own) =
        issue(&issuer, "operator", "operator.kagami", ExtendedKeyUsagePurpose::ClientAuth)?;
    Ok(BTreeMap::from([
        ("ca.crt".into(), ca.pem()),
        ("ca.key".into(), key.serialize_pem()),
        ("tls.crt".into(), certificate),
        ("tls.key".into(), own),
    ]))
}

/// What the authority is called and may do; with its key this is all that signing needs.
fn authority(group: &str) -> Result<CertificateParams, SecretError> {
    let mut params = named(&format!("{group} authority"), Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// The agents' part, signed by the authority in the operator's part.
pub(crate) fn agent_data(group: &str, operator: &Secret) -> Result<Data, SecretError> {
    let ca = text(operator, "ca.crt")?;
    let issuer = Issuer::new(authority(group)?, KeyPair::from_pem(&text(operator, "ca.key")?)?);
    let (certificate, key) = issue(&issuer, "agent", AGENT_SERVER_NAME, ExtendedKeyUsagePurpose::ServerAuth)?;
    Ok(BTreeMap::from([
        ("ca.crt".into(), ca),
        ("tls.crt".into(), certificate),
        ("tls.key".into(), key),
        ("agent-password".into(), password()),
        ("replication-password".into(), password()),
    ]))
}

fn issue(
    issuer: &Issuer<'_, KeyPair>,
    common: &str,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(String, String), SecretError> {
    let key = KeyPair::generate()?;
    let mut params = named(common, vec![name.to_owned()])?;
    params.extended_key_usages = vec![usage];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    Ok((params.signed_by(&key, issuer)?.pem(), key.serialize_pem()))
}

fn named(common: &str, names: Vec<String>) -> Result<CertificateParams, SecretError> {
    let mut params = CertificateParams::new(names)?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "kagami");
    subject.push(DnType::CommonName, common);
    params.distinguished_name = subject;
    let now = std::time::SystemTime::now();
    let day = std::time::Duration::from_secs(24 * 3600);
    // A node's clock may be behind the operator's.
    params.not_before = (now - day).into();
    params.not_after = (now + day * u32::try_from(VALID_DAYS).unwrap_or(3650)).into();
    Ok(params)
}

/// 256 bits, in hexadecimal: no character that a configuration file would have to quote.
fn password() -> String {
    let mut bytes = [0u8; 32];
    rand::rng().fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(secret: &Secret, key: &'static str) -> Result<String, SecretError> {
    let data = secret.data.as_ref().and_then(|data| data.get(key)).ok_or(SecretError::Missing(key))?;
    String::from_utf8(data.0.clone()).map_err(|_| SecretError::Missing(key))
}

fn bytes(secret: &Secret, key: &'static str) -> Result<ByteString, SecretError> {
    secret.data.as_ref().and_then(|data| data.get(key)).cloned().ok_or(SecretError::Missing(key))
}

/// How the operator dials the agents of a group.
pub(crate) fn client_config(operator: &Secret) -> Result<Arc<rustls::ClientConfig>, SecretError> {
    let certificates = |key: &'static str| -> Result<Vec<CertificateDer<'static>>, SecretError> {
        CertificateDer::pem_slice_iter(&bytes(operator, key)?.0)
            .collect::<Result<_, _>>()
            .map_err(|error| SecretError::Pem(key, error))
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates("ca.crt")? {
        roots.add(certificate)?;
    }
    let key = PrivateKeyDer::from_pem_slice(&bytes(operator, "tls.key")?.0)
        .map_err(|error| SecretError::Pem("tls.key", error))?;
    let config = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates("tls.crt")?, key)?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_can_be_used_to_dial() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let operator = Secret {
            data: Some(
                operator_data("g")
                    .unwrap()
                    .into_iter()
                    .map(|(k, v)| (k, ByteString(v.into_bytes())))
                    .collect(),
            ),
            ..Secret::default()
        };
        client_config(&operator).unwrap();
        let agent = agent_data("g", &operator).unwrap();
        assert_ne!(agent["agent-password"], agent["replication-password"]);
        assert!(!agent.contains_key("ca.key"), "what is mounted into pods must sign nothing");
    }
}
