//! A signed assertion that stands in for a password (RFC 7523), with RS256.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;

/// What an assertion claims.
#[derive(Serialize)]
pub(crate) struct Claims<'a> {
    /// The issuer: the client id.
    pub(crate) iss: &'a str,
    /// The subject: the user.
    pub(crate) sub: &'a str,
    /// The audience: the authorization server.
    pub(crate) aud: &'a str,
    /// Seconds since 1970 when it ends.
    pub(crate) exp: i64,
}

/// The assertion, signed with a private key in PEM (PKCS #8 or PKCS #1).
pub(crate) fn sign(claims: &Claims<'_>, pem: &str) -> Result<String, String> {
    let unusable = |reason: &str| format!("the private key cannot be used: {reason}");
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| unusable("it is no PEM private key"))?;
    let pair = match &key {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err(unusable("it is no RSA key")),
    };
    let pair = pair.map_err(|error| unusable(&error.to_string()))?;
    let claims = serde_json::to_vec(claims).map_err(|error| error.to_string())?;
    let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"RS256","typ":"JWT"}"#);
    let mut token = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature)
        .map_err(|_| unusable("it does not sign"))?;
    token.push('.');
    token.push_str(&URL_SAFE_NO_PAD.encode(signature));
    Ok(token)
}
