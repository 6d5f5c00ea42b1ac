//! Logins of users and clients, and previews of what a client's tokens contain.

use http::StatusCode;
use o28m_iris::{Error, Example, GrantError, RoleContainer, SessionsOf};
use serde_json::json;

use super::{Context, Entry, entries};
use crate::errors;
use crate::reply::{Reply, admin_json, no_content};
use crate::router::Route;

/// Served below a realm.
pub(crate) const ROUTES: &[Route<Entry>] = entries! {
    GET "users/{}/sessions" ViewUsers Nothing |c| list(c, SessionsOf::User(c.arg(0)), false).await;
    GET "users/{}/offline-sessions/{}" ViewUsers Nothing |c| {
        let mut all = c.iris.sessions(c.realm, SessionsOf::User(c.arg(0)), true, 0, None).await?;
        all.retain(|session| {
            session.get("clients").is_some_and(|clients| clients.get(c.arg(1)).is_some())
        });
        Ok(admin_json(&all))
    };
    POST "users/{}/logout" ManageUsers Nothing |c| {
        c.iris.logout_user(c.target()?, c.arg(0), c.origin()).await?;
        Ok(no_content())
    };
    DELETE "sessions/{}" ManageUsers Nothing |c| {
        c.iris.delete_login(c.target()?, c.arg(0), c.origin()).await?;
        Ok(no_content())
    };
    POST "logout-all" ManageUsers Nothing |c| {
        c.iris.logout_all(c.realm).await?;
        Ok(admin_json(&json!({})))
    };
    POST "push-revocation" ManageRealm Nothing |c| {
        // Nobody is told: every token is checked against the time when it is used here.
        c.target()?;
        Ok(admin_json(&json!({})))
    };
    GET "client-session-stats" ViewRealm Nothing |c| {
        Ok(admin_json(&c.iris.client_session_stats(c.realm).await?))
    };
    GET "clients/{}/session-count" ViewClients Nothing |c| count(c, false).await;
    GET "clients/{}/offline-session-count" ViewClients Nothing |c| count(c, true).await;
    GET "clients/{}/user-sessions" ViewClients Nothing |c| list(c, SessionsOf::Client(c.arg(0)), false).await;
    GET "clients/{}/offline-sessions" ViewClients Nothing |c| list(c, SessionsOf::Client(c.arg(0)), true).await;
    POST "clients/{}/push-revocation" ManageClients Nothing |c| {
        c.iris.client_representation(c.realm, c.arg(0)).await?;
        Ok(admin_json(&json!({})))
    };
    GET "clients/{}/evaluate-scopes/protocol-mappers" ViewClients Nothing |c| {
        let found = c.iris.evaluate_mappers(c.target()?, c.arg(0), c.query("scope")).await?;
        Ok(admin_json(&found))
    };
    GET "clients/{}/evaluate-scopes/scope-mappings/{}/granted" ViewClients Nothing |c| roles(c, true).await;
    GET "clients/{}/evaluate-scopes/scope-mappings/{}/not-granted" ViewClients Nothing |c| roles(c, false).await;
    GET "clients/{}/evaluate-scopes/generate-example-access-token" ViewClients Nothing |c| {
        example(c, Example::Access).await
    };
    GET "clients/{}/evaluate-scopes/generate-example-id-token" ViewClients Nothing |c| example(c, Example::Id).await;
    GET "clients/{}/evaluate-scopes/generate-example-userinfo" ViewClients Nothing |c| {
        example(c, Example::UserInfo).await
    };
};

async fn list(context: &Context<'_>, of: SessionsOf<'_>, offline: bool) -> Result<Reply, Error> {
    let first = context.number("first").unwrap_or_default();
    let max = context.number("max");
    let found = context
        .iris
        .sessions(context.realm, of, offline, first, max)
        .await?;
    Ok(admin_json(&found))
}

async fn count(context: &Context<'_>, offline: bool) -> Result<Reply, Error> {
    let count = context
        .iris
        .session_count(context.realm, context.arg(0), offline)
        .await?;
    Ok(admin_json(&json!({"count": count})))
}

/// The container is a client's id, or the realm's name or id.
async fn roles(context: &Context<'_>, granted: bool) -> Result<Reply, Error> {
    let named = context.arg(1);
    let of = if named == context.name || named == context.realm {
        RoleContainer::Realm
    } else {
        RoleContainer::Client(named)
    };
    let (realm, scope) = (context.target()?, context.query("scope"));
    let found = context
        .iris
        .evaluate_roles(realm, context.arg(0), scope, of, granted)
        .await?;
    Ok(admin_json(&found))
}

async fn example(context: &Context<'_>, of: Example) -> Result<Reply, Error> {
    // Whoever sees the token sees the user.
    if !context.caller.may(o28m_iris::Permission::ViewUsers) {
        return Err(Error::Forbidden);
    }
    let Some(user) = context.query("userId") else {
        let text = "No userId provided";
        return Ok(crate::reply::prose(StatusCode::NOT_FOUND, text));
    };
    let (realm, scope) = (context.target()?, context.query("scope"));
    let made = context
        .iris
        .evaluate_token(realm, context.arg(0), user, scope, context.origin(), of)
        .await;
    match made {
        Ok(claims) => Ok(admin_json(&claims)),
        Err(GrantError::Failed(error)) => Err(error),
        Err(error) => Ok(errors::grant(&error)),
    }
}
