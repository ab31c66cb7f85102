//! A kube-apiserver of one's own, with nothing behind it but etcd: what it says of a definition or an object is what Kubernetes says.
//!
//! The programs are those of the local cluster (`local/cluster programs` builds them).

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kube::config::AuthInfo;
use kube::{Client, Config};

const TOKEN: &str = "a-token-of-a-test";

/// etcd and kube-apiserver on loopback, ended when this goes.
pub(crate) struct Apiserver {
    pub(crate) client: Client,
    processes: Vec<Child>,
    _directory: tempfile::TempDir,
}

impl Drop for Apiserver {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Apiserver {
    /// Starts both and waits until objects can be written.
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let (client_port, peer_port, port) = (free_port(), free_port(), free_port());
        let store = format!("http://127.0.0.1:{client_port}");
        let peer = format!("http://127.0.0.1:{peer_port}");
        let etcd = run(
            &program("etcd", "etcd"),
            &at("etcd.log"),
            &[
                ("data-dir", &at("data")),
                ("listen-client-urls", &store),
                ("advertise-client-urls", &store),
                ("listen-peer-urls", &peer),
                ("initial-advertise-peer-urls", &peer),
                ("initial-cluster", &format!("default={peer}")),
                ("unsafe-no-fsync", "true"),
            ],
        );
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(at("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(at("public.pem"), key.public_key_pem()).unwrap();
        std::fs::write(at("tokens.csv"), format!("{TOKEN},test,test,system:masters\n")).unwrap();
        let apiserver = run(
            &program("kubernetes", "kube-apiserver"),
            &at("apiserver.log"),
            &[
                ("etcd-servers", &store),
                ("bind-address", "127.0.0.1"),
                ("advertise-address", "127.0.0.1"),
                ("secure-port", &port.to_string()),
                ("cert-dir", &at("certificates")),
                ("token-auth-file", &at("tokens.csv")),
                ("anonymous-auth", "false"),
                ("authorization-mode", "AlwaysAllow"),
                ("disable-admission-plugins", "ServiceAccount"),
                ("service-account-issuer", "https://kubernetes.default.svc"),
                ("service-account-key-file", &at("public.pem")),
                ("service-account-signing-key-file", &at("key.pem")),
                ("service-cluster-ip-range", "10.0.0.0/24"),
            ],
        );
        let mut config = Config::new(format!("https://127.0.0.1:{port}").parse().unwrap());
        config.accept_invalid_certs = true;
        config.auth_info = AuthInfo { token: Some(TOKEN.to_owned().into()), ..AuthInfo::default() };
        let mut server = Self {
            client: Client::try_from(config).unwrap(),
            processes: vec![etcd, apiserver],
            _directory: directory,
        };
        server.ready().await;
        server
    }

    async fn ready(&mut self) {
        let began = Instant::now();
        loop {
            let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> =
                kube::Api::all(self.client.clone());
            if namespaces.get("default").await.is_ok() {
                return;
            }
            for process in &mut self.processes {
                assert!(process.try_wait().unwrap().is_none(), "{}", self.logs());
            }
            assert!(began.elapsed() < Duration::from_secs(90), "not ready in time: {}", self.logs());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn logs(&self) -> String {
        let read =
            |name: &str| std::fs::read_to_string(self._directory.path().join(name)).unwrap_or_default();
        let tail = |text: &str| text.lines().rev().take(15).collect::<Vec<_>>().join("\n");
        format!("etcd:\n{}\nkube-apiserver:\n{}", tail(&read("etcd.log")), tail(&read("apiserver.log")))
    }
}

fn run(program: &Path, log: &str, flags: &[(&str, &str)]) -> Child {
    let log = std::fs::File::create(log).unwrap();
    Command::new(program)
        .args(flags.iter().map(|(flag, value)| format!("--{flag}={value}")))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// A program of the local cluster, of the version that `local/versions` names.
fn program(package: &str, name: &str) -> PathBuf {
    let versions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../local/versions");
    let wanted = format!("{}_VERSION=", package.to_ascii_uppercase());
    let text = std::fs::read_to_string(versions).unwrap();
    let version = text.lines().find_map(|line| line.strip_prefix(&wanted)).unwrap().to_owned();
    let cache = std::env::var_os("KAGAMI_CACHE").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/kagami");
    let path = cache.unwrap_or_else(home).join("programs").join(format!("{package}-{version}")).join(name);
    assert!(path.is_file(), "no {name} to test with: run `local/cluster programs`");
    path
}
