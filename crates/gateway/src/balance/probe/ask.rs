//! Asks one address how it is, in the way that its upstream says.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Version};
use o28m_kong::{ActiveChecks, CheckType};
use o28m_net::client::{Pool, SendError, Target, Timeouts, TlsPolicy};
use o28m_net::{Body, Scheme};
use tokio::net::TcpStream;

use super::{Probe, grpc};
use crate::balance::{Balancer, Peer, PeerIdentity, Report, bracketed, meaning};
use crate::snapshot::UpstreamTls;

/// Asks one address and counts what it says.
pub(super) async fn ask(pool: &Arc<Pool>, probe: &Probe, trust: &UpstreamTls) {
    let Some(peer) = probe.ring.peer(probe.at) else {
        return;
    };
    let balancer = &probe.balancer;
    let active = &balancer.upstream.healthchecks.active;
    let question = Question {
        balancer,
        peer,
        timeout: Duration::from_secs_f64(active.timeout.max(0.001)),
    };
    let asking = Box::pin(question.ask(pool, trust));
    let answer = tokio::time::timeout(question.timeout, asking).await;
    match answer.unwrap_or(Some(Report::Timeout)) {
        Some(Report::Success) => balancer.saw(peer, Report::Success, &active.healthy.counters),
        Some(failure) => balancer.saw(peer, failure, &active.unhealthy.counters),
        None => {}
    }
}

/// An address and how it is asked.
struct Question<'a> {
    balancer: &'a Balancer,
    peer: &'a Peer,
    timeout: Duration,
}

impl Question<'_> {
    fn active(&self) -> &ActiveChecks {
        &self.balancer.upstream.healthchecks.active
    }

    /// What the address says; `None` is nothing that counts.
    async fn ask(&self, pool: &Arc<Pool>, trust: &UpstreamTls) -> Option<Report> {
        let active = self.active();
        let timeouts = Timeouts {
            connect: self.timeout,
            write: self.timeout,
            read: self.timeout,
        };
        match active.kind {
            CheckType::Tcp => Some(match TcpStream::connect(self.peer.address).await {
                Ok(_) => Report::Success,
                Err(_) => Report::Tcp,
            }),
            CheckType::Http | CheckType::Https => {
                let host = host(self.balancer, self.peer);
                let target = self.target(trust, host.as_ref())?;
                let sent = pool.send(&target, get(active, host), &timeouts);
                let (healthy, unhealthy) = (&active.healthy.counters, &active.unhealthy.counters);
                match sent.await {
                    Ok(response) => meaning(response.status(), healthy, unhealthy),
                    Err(error) => Some(self.failed(&error)),
                }
            }
            CheckType::Grpc | CheckType::Grpcs => {
                let host = host(self.balancer, self.peer);
                let target = self.target(trust, host.as_ref())?;
                let call = grpc::call(headers(active, host));
                let sent = pool.send_http2(&target, call, &timeouts, false);
                Some(match sent.await {
                    Ok(response) => self.judged(grpc::judge(response).await),
                    Err(error) => self.failed(&error),
                })
            }
        }
    }

    /// Where to connect; `None` without the certificate that is to be shown there: a target says
    /// nothing then of how it is to those who have it.
    fn target(&self, trust: &UpstreamTls, host: Option<&HeaderValue>) -> Option<Target> {
        let active = self.active();
        let tls = active.kind.is_tls();
        let identity = match &self.balancer.identity {
            PeerIdentity::Given(identity) => identity.clone().filter(|_| tls),
            PeerIdentity::Missing if tls => return None,
            PeerIdentity::Missing => None,
        };
        Some(Target {
            scheme: if tls { Scheme::Https } else { Scheme::Http },
            host: self.peer.ip.clone(),
            port: self.peer.address.port(),
            tls: TlsPolicy {
                server_name: server_name(active, host),
                identity,
                ..trust.of_probes(active.https_verify_certificate)
            },
        })
    }

    /// Where no answer came.
    fn failed(&self, error: &SendError) -> Report {
        self.tell(error);
        match error {
            SendError::Invalid { .. } => Report::Http,
            SendError::ConnectTimeout { .. } | SendError::Timeout { .. } => Report::Timeout,
            SendError::Resolve { .. }
            | SendError::Connect { .. }
            | SendError::Tls { .. }
            | SendError::RequestBody { .. }
            | SendError::Closed { .. } => Report::Tcp,
        }
    }

    fn judged(&self, verdict: Result<(), grpc::Unwell>) -> Report {
        match verdict {
            Ok(()) => Report::Success,
            Err(unwell) => {
                self.tell(&unwell);
                unwell.report()
            }
        }
    }

    fn tell(&self, error: &dyn std::error::Error) {
        tracing::debug!(
            upstream.name = %self.balancer.upstream.name,
            target.address = %self.peer.address,
            error = %error,
            cause = error.source().map(ToString::to_string).unwrap_or_default(),
            "active check failed"
        );
    }
}

/// The upstream's own host or the target's, without a port, as Kong's checker sends it.
fn host(balancer: &Balancer, peer: &Peer) -> Option<HeaderValue> {
    let own = balancer.upstream.host_header.as_deref();
    let target = || Some(&balancer.targets.get(peer.target)?.host);
    let text = match own {
        Some(own) => own.to_owned(),
        None => bracketed(target()?),
    };
    HeaderValue::try_from(text).ok()
}

fn server_name(active: &ActiveChecks, host: Option<&HeaderValue>) -> Option<Arc<str>> {
    let own = active.https_sni.as_deref();
    own.or_else(|| host.and_then(crate::request::server_name))
        .map(Arc::from)
}

/// The fields of a question: those that are configured, and the host where they have none.
fn headers(active: &ActiveChecks, host: Option<HeaderValue>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, values) in active.headers.iter().flatten() {
        let Ok(name) = HeaderName::try_from(name.as_str()) else {
            continue;
        };
        let values = values
            .iter()
            .filter_map(|it| HeaderValue::try_from(it).ok());
        for value in values {
            headers.append(name.clone(), value);
        }
    }
    if let Some(host) = host {
        headers.entry(HOST).or_insert(host);
    }
    headers
}

fn get(active: &ActiveChecks, host: Option<HeaderValue>) -> Request<Body> {
    let mut headers = headers(active, host);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let mut request = Request::new(Body::Empty);
    *request.version_mut() = Version::HTTP_10;
    *request.uri_mut() = active.http_path.parse().unwrap_or_default();
    *request.headers_mut() = headers;
    request
}
