//! The parts of the path that exist for the event platform.

use std::sync::Arc;

use http::header::{AUTHORIZATION, HOST};
use http::{Method, Request, Response};
use o28m_net::{Body, Connection};

use super::{Pipeline, Work, set_authorization};
use crate::admission::Route;
use crate::capture::BODY_BYTES_MAX;
use crate::failure::Failure;
use crate::headers::{self, last};
use crate::incoming::{self, TokenError};
use crate::plan;
use crate::spectre::{Call, Subscription, renamed, set_length, take_listener};
use crate::trace::Trace;

impl Pipeline {
    /// The call as events tell about it, when somebody listens to this consumer.
    pub(super) fn listened(
        &self,
        work: &Work,
        parts: &http::request::Parts,
        connection: &Connection,
    ) -> Option<Arc<Call>> {
        let consumer = work.consumer().filter(|_| work.route == Route::Listener)?;
        let listener = work.plan.listeners.route_listener.get(consumer)?;
        Some(Arc::new(Call {
            subscription: Subscription {
                issue: listener.issue.clone().unwrap_or_default(),
                provider: listener.service_owner.clone().unwrap_or_default(),
                consumer: consumer.to_owned(),
                realm: work.plan.realm.clone(),
            },
            method: parts.method.clone(),
            trace: work.trace.clone(),
            tardis_trace_id: parts.headers.get("x-tardis-traceid").cloned(),
            pool: Arc::clone(&connection.pool),
        }))
    }

    /// A callback of the event platform: passed back to it under the listener's name.
    pub(super) async fn callback(
        &self,
        request: Request<Body>,
        connection: &Connection,
    ) -> Result<Response<Body>, Failure> {
        let (mut parts, mut body) = request.into_parts();
        let authorization = last(&parts.headers, AUTHORIZATION.as_str());
        let environment = match authorization {
            None => "default".to_owned(),
            Some(token) => {
                let claims = incoming::parse(Some(&token), self.ambient.now())?;
                let issuer = claims.iss.ok_or(TokenError::Payload)?;
                plan::realm_of(&issuer).to_owned()
            }
        };
        let (listener, query) = take_listener(parts.uri.query().unwrap_or_default());
        let listener = listener.ok_or(Failure::Event("missing query parameter listener"))?;
        let destination = self.spectre.destination(&environment, query.as_deref())?;
        let trace = Trace::of(&parts.headers, self.ambient.rng.as_ref());
        let headers = &mut parts.headers;
        headers::remove_hop_by_hop(headers);
        if parts.method == Method::POST {
            let _place = self.spectre.callback_place().await;
            let event = body.collect(BODY_BYTES_MAX).await;
            let event = event.map_err(|_| Failure::Event("body cannot be read"))?;
            let event = renamed(&event, &listener)?;
            set_length(headers, &event);
            body = Body::full(event);
        }
        set_authorization(headers, self.spectre.publisher_token(&environment).await?);
        trace.apply(headers, self.ambient.rng.as_ref());
        headers.insert(HOST, destination.host.clone());
        parts.uri = destination.path_and_query.clone().into();
        let request = Request::from_parts(parts, body);
        self.forward(&destination, request, connection).await
    }
}
