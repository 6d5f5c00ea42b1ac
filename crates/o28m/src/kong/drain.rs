//! `kong drain`: readiness goes false while requests are still served.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::anyhow;
use http::{HeaderValue, Request, StatusCode};
use o28m_net::client::{Pool, Target, Timeouts, TlsPolicy};
use o28m_net::{Body, Scheme};

use super::cli::Options;
use super::{configuration, say};
use crate::exit::Outcome;

/// How long the gateway has for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn drain(options: &Options) -> Outcome {
    let config = configuration(options)?;
    let listeners = config.listeners("status.listen");
    // One that expects a load balancer in front would not understand.
    let listen = listeners.iter().find(|it| !it.proxy_protocol);
    let listen =
        listen.ok_or_else(|| anyhow!("there is no status listener to tell: set status_listen"))?;
    let host = match listen.address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        address => address,
    };
    let target = Target {
        scheme: if listen.ssl {
            Scheme::Https
        } else {
            Scheme::Http
        },
        host: host.to_string().into(),
        port: listen.address.port(),
        // It is the gateway on this machine, with whatever certificate.
        tls: TlsPolicy::default(),
    };
    let status = tell(&target).await?;
    if status != StatusCode::NO_CONTENT {
        return Err(anyhow!("the gateway at {target} answered {status}").into());
    }
    say(options, "Kong's status successfully changed to 'draining'");
    Ok(())
}

async fn tell(target: &Target) -> anyhow::Result<StatusCode> {
    let request = Request::post("/status/ready")
        .header("host", HeaderValue::from_static("localhost"))
        .header("content-type", HeaderValue::from_static("application/json"))
        .body(Body::full(r#"{"status":"draining"}"#))?;
    let timeouts = Timeouts {
        connect: PATIENCE,
        write: PATIENCE,
        read: PATIENCE,
    };
    let sent = Pool::new().send(target, request, &timeouts).await;
    match sent {
        Ok(response) => Ok(response.status()),
        Err(error) => Err(anyhow!("the gateway was not told: {error}")),
    }
}
