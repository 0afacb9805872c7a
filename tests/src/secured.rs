//! TLS before a service that speaks without: what comes sealed goes on in the clear.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// What a client of PostgreSQL sends before it seals (<https://www.postgresql.org/docs/15/protocol-message-formats.html>, `SSLRequest`).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Ports of this machine, each with another before it that takes nothing but TLS.
pub(crate) struct Secured {
    /// Who has signed for the ports, in PEM.
    pub(crate) authority: PathBuf,
    fronts: HashMap<u16, u16>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Secured {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Secured {
    /// Secures these ports; the authority's certificate lies in `folder`.
    pub(crate) async fn new(folder: &Path, ports: &[u16]) -> Result<Self> {
        let mut ours = CertificateParams::new(Vec::new())?;
        ours.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(ours, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let authority = folder.join("authority.pem");
        std::fs::write(&authority, issuer.pem())?;
        let mut secured = Self { authority, fronts: HashMap::new(), tasks: Vec::new() };
        for port in ports {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            secured.fronts.insert(*port, listener.local_addr()?.port());
            secured.tasks.push(tokio::spawn(serve(listener, acceptor.clone(), *port)));
        }
        Ok(secured)
    }

    /// The URL of a service over TLS, by its URL without.
    pub(crate) fn url(&self, plain: &str) -> Result<String> {
        let known = |(behind, before): (&u16, &u16)| {
            plain
                .contains(&format!(":{behind}"))
                .then(|| plain.replacen(&format!(":{behind}"), &format!(":{before}"), 1))
        };
        let url = self.fronts.iter().find_map(known).context("a port that is secured")?;
        let sealed = |plain: &str, sealed: &str| url.strip_prefix(plain).map(|rest| format!("{sealed}{rest}"));
        let postgres =
            || url.contains("sslmode=disable").then(|| url.replace("sslmode=disable", "sslmode=verify-full"));
        sealed("amqp:", "amqps:").or_else(|| sealed("redis:", "rediss:")).or_else(postgres).context("a service's URL")
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, port: u16) {
    while let Ok((client, _)) = listener.accept().await {
        // A client that does not seal, or breaks off, gets nothing.
        tokio::spawn(carry(client, acceptor.clone(), port));
    }
}

async fn carry(mut client: TcpStream, acceptor: TlsAcceptor, port: u16) -> std::io::Result<()> {
    let mut first = [0; 8];
    if client.peek(&mut first).await? == 8 && first == SSL_REQUEST {
        client.read_exact(&mut first).await?;
        client.write_all(b"S").await?;
    }
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}
