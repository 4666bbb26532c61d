//! Which workload cluster a call speaks for, and the provider that answers it.
//!
//! The protocol does not say whose autoscaler calls; the client's certificate or the port does. A cluster that does not
//! exist is refused, whoever asks.

use crate::metrics::Metrics;
use crate::service::Provider;
use crate::store::{ClusterKey, KubeStore, Watched};
use crate::wire::cloud_provider_server::CloudProviderServer;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What follows a cluster's name and namespace in a client certificate's DNS name.
const SUFFIX: &str = ".autoscaler.rackwright.dev";

/// Who says which cluster a call speaks for.
#[derive(Clone, Debug)]
pub enum Whose {
    /// The address that was called.
    Fixed(ClusterKey),
    /// The client's certificate.
    Certificate,
}

/// The providers of all workload clusters that have called.
pub struct Tenants {
    watched: Arc<Watched>,
    providers: RwLock<HashMap<ClusterKey, Provider>>,
    metrics: Arc<Metrics>,
}

impl Tenants {
    /// None has called yet.
    pub fn new(watched: Arc<Watched>) -> Tenants {
        Tenants { watched, providers: RwLock::default(), metrics: Arc::default() }
    }

    /// Counters of all calls.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// Every provider takes over what is known now.
    pub async fn look_again(&self) {
        let all: Vec<_> = {
            let mut providers = self.providers.write().unwrap_or_else(PoisonError::into_inner);
            providers.retain(|cluster, _| self.watched.knows(cluster));
            providers.values().cloned().collect()
        };
        for provider in all {
            provider.look_again().await;
        }
    }

    /// The service on an address.
    pub fn service(self: &Arc<Self>, whose: Whose) -> Dispatch {
        Dispatch { tenants: self.clone(), whose }
    }

    fn provider(&self, cluster: &ClusterKey) -> Result<Provider, Status> {
        if let Some(known) = self.providers.read().unwrap_or_else(PoisonError::into_inner).get(cluster) {
            return Ok(known.clone());
        }
        if !self.watched.knows(cluster) {
            return Err(Status::permission_denied(format!("there is no Cluster {cluster}")));
        }
        let store = KubeStore { watched: self.watched.clone(), cluster: cluster.clone() };
        let provider = Provider::new(Arc::new(store), self.metrics.clone());
        let mut providers = self.providers.write().unwrap_or_else(PoisonError::into_inner);
        Ok(providers.entry(cluster.clone()).or_insert(provider).clone())
    }
}

/// Hands each call to the provider of the cluster that it speaks for.
#[derive(Clone)]
pub struct Dispatch {
    tenants: Arc<Tenants>,
    whose: Whose,
}

impl NamedService for Dispatch {
    const NAME: &'static str = <CloudProviderServer<Provider> as NamedService>::NAME;
}

type Answer = http::Response<Body>;

impl Service<http::Request<Body>> for Dispatch {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let cluster = match &self.whose {
            Whose::Fixed(cluster) => Ok(cluster.clone()),
            Whose::Certificate => certified(&request),
        };
        match cluster.and_then(|cluster| self.tenants.provider(&cluster)) {
            Ok(provider) => CloudProviderServer::new(provider).call(request),
            Err(status) => {
                let refused: Ready<Result<Answer, Infallible>> = ready(Ok(status.into_http()));
                Box::pin(refused)
            }
        }
    }
}

/// The cluster that the client's certificate names.
fn certified(request: &http::Request<Body>) -> Result<ClusterKey, Status> {
    let connection = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
    let certificates = connection.and_then(TlsConnectInfo::peer_certs);
    let own = certificates.as_ref().and_then(|chain| chain.first());
    let own = own.ok_or_else(|| Status::unauthenticated("no client certificate"))?;
    named(own).ok_or_else(|| {
        Status::permission_denied(format!(
            "the client certificate has no DNS name CLUSTER.NAMESPACE{SUFFIX}, or more than one"
        ))
    })
}

/// The one cluster that a certificate names. A certificate that names two is of neither.
fn named(certificate: &[u8]) -> Option<ClusterKey> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut clusters = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => {
            let (name, namespace) = name.strip_suffix(SUFFIX)?.rsplit_once('.')?;
            Some(ClusterKey { namespace: namespace.into(), name: name.into() })
        }
        _ => None,
    });
    let found = clusters.next()?;
    clusters.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> Vec<u8> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(names).expect("names");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn a_certificate_names_one_cluster_or_none() {
        let of = |names: &[&str]| named(&certificate(names)).map(|cluster| cluster.to_string());
        assert_eq!(of(&["prod.metal.autoscaler.rackwright.dev"]).as_deref(), Some("metal/prod"));
        assert_eq!(of(&["eu.prod.metal.autoscaler.rackwright.dev", "other"]).as_deref(), Some("metal/eu.prod"));
        for wrong in [&[][..], &["prod.metal"], &["prod.autoscaler.rackwright.dev"]] {
            assert_eq!(of(wrong), None, "{wrong:?}");
        }
        let both = ["a.metal.autoscaler.rackwright.dev", "b.metal.autoscaler.rackwright.dev"];
        assert_eq!(of(&both), None);
        assert_eq!(named(b"nothing"), None);
    }
}
