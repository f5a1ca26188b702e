//! A forge behind TLS with a certificate that no system knows.

use std::{path::Path, sync::Arc};

use forgejo::{Certificates, Client, Error, Instance, Options};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use testkit::forge::Forge;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer},
};

/// A listener with a certificate for `localhost` that passes what it gets to the forge; gives its URL, and the CA.
async fn behind_tls(forge: &Forge) -> (String, String) {
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).expect("CA");
    let issuer = Issuer::new(params, key);
    let leaf_key = KeyPair::generate().expect("key");
    let leaf = CertificateParams::new(vec!["localhost".to_owned()])
        .expect("params")
        .signed_by(&leaf_key, &issuer)
        .expect("leaf");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(leaf_key.serialize_der().into()))
        .expect("config");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("bind");
    let url = format!("https://localhost:{}", listener.local_addr().expect("address").port());
    let to = forge.address();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accept");
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // whoever does not trust the certificate hangs up
                let Ok(mut inside) = acceptor.accept(stream).await else { return };
                let mut outside = TcpStream::connect(to).await.expect("the forge");
                let _ = copy_bidirectional(&mut inside, &mut outside).await;
            });
        }
    });
    (url, ca.pem())
}

fn client(url: &str, ca_file: Option<&Path>, certificates: Certificates) -> Client {
    let instance = Instance::parse(url).expect("url");
    let ca_file = ca_file.map(Path::to_owned);
    Client::new(&Options { ca_file, certificates, ..Options::new(instance, "test") }).expect("client")
}

#[tokio::test]
async fn an_own_ca_is_trusted_and_no_other() {
    let forge = Forge::start().await;
    let (url, ca) = behind_tls(&forge).await;
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, ca).expect("CA file");

    let trusting = client(&url, Some(&path), Certificates::Verify);
    assert_eq!(trusting.ping("tls").await.expect("ping"), "Hello, tls!");
    let strict = client(&url, None, Certificates::Verify).ping("x").await.expect_err("unknown CA");
    assert!(matches!(strict, Error::Connect(_)), "{strict:?}");
    let other_name = url.replace("localhost", "127.0.0.1");
    let wrong =
        client(&other_name, Some(&path), Certificates::Verify).ping("x").await.expect_err("another name");
    assert!(matches!(wrong, Error::Connect(_)), "{wrong:?}");
    assert_eq!(forge.calls().len(), 1);

    let lax = client(&other_name, None, Certificates::AcceptAny);
    assert_eq!(lax.ping("any").await.expect("ping"), "Hello, any!");
}
