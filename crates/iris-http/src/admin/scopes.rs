//! Client scopes, and where they are assigned.

use o28m_iris::{Error, ScopeAssignment, ScopeHolder, representation};

use super::{Context, Entry, entries};
use crate::reply::{Reply, admin_json, no_content};
use crate::router::Route;

/// Served below a realm.
pub(crate) const ROUTES: &[Route<Entry>] = entries! {
    GET "client-scopes" QueryClients Nothing |c| Ok(admin_json(&c.iris.client_scopes(c.realm).await?));
    POST "client-scopes" ManageClients Json |c| {
        let id = c.iris.create_client_scope(c.realm, c.rep(&representation::CLIENT_SCOPE)?).await?;
        Ok(c.created(&format!("client-scopes/{id}")))
    };
    GET "client-scopes/{}" ViewClients Nothing |c| {
        Ok(admin_json(&c.iris.client_scope(c.realm, c.arg(0)).await?))
    };
    PUT "client-scopes/{}" ManageClients Json |c| {
        let rep = c.rep(&representation::CLIENT_SCOPE)?;
        c.iris.update_client_scope(c.realm, c.arg(0), rep).await?;
        Ok(no_content())
    };
    DELETE "client-scopes/{}" ManageClients Nothing |c| {
        c.iris.delete_client_scope(c.realm, c.arg(0)).await?;
        Ok(no_content())
    };
    GET "default-default-client-scopes" ViewClients Nothing |c| {
        list(c, ScopeHolder::Realm, ScopeAssignment::Default).await
    };
    PUT "default-default-client-scopes/{}" ManageClients Nothing |c| {
        assign(c, ScopeHolder::Realm, c.arg(0), ScopeAssignment::Default).await
    };
    DELETE "default-default-client-scopes/{}" ManageClients Nothing |c| {
        assign(c, ScopeHolder::Realm, c.arg(0), ScopeAssignment::None).await
    };
    GET "default-optional-client-scopes" ViewClients Nothing |c| {
        list(c, ScopeHolder::Realm, ScopeAssignment::Optional).await
    };
    PUT "default-optional-client-scopes/{}" ManageClients Nothing |c| {
        assign(c, ScopeHolder::Realm, c.arg(0), ScopeAssignment::Optional).await
    };
    DELETE "default-optional-client-scopes/{}" ManageClients Nothing |c| {
        assign(c, ScopeHolder::Realm, c.arg(0), ScopeAssignment::None).await
    };
    GET "clients/{}/default-client-scopes" ViewClients Nothing |c| {
        list(c, ScopeHolder::Client(c.arg(0)), ScopeAssignment::Default).await
    };
    PUT "clients/{}/default-client-scopes/{}" ManageClients Nothing |c| {
        assign(c, ScopeHolder::Client(c.arg(0)), c.arg(1), ScopeAssignment::Default).await
    };
    DELETE "clients/{}/default-client-scopes/{}" ManageClients Nothing |c| {
        assign(c, ScopeHolder::Client(c.arg(0)), c.arg(1), ScopeAssignment::None).await
    };
    GET "clients/{}/optional-client-scopes" ViewClients Nothing |c| {
        list(c, ScopeHolder::Client(c.arg(0)), ScopeAssignment::Optional).await
    };
    PUT "clients/{}/optional-client-scopes/{}" ManageClients Nothing |c| {
        assign(c, ScopeHolder::Client(c.arg(0)), c.arg(1), ScopeAssignment::Optional).await
    };
    DELETE "clients/{}/optional-client-scopes/{}" ManageClients Nothing |c| {
        assign(c, ScopeHolder::Client(c.arg(0)), c.arg(1), ScopeAssignment::None).await
    };
};

async fn list(
    context: &Context<'_>,
    holder: ScopeHolder<'_>,
    of: ScopeAssignment,
) -> Result<Reply, Error> {
    Ok(admin_json(
        &context
            .iris
            .assigned_scopes(context.realm, holder, of)
            .await?,
    ))
}

async fn assign(
    context: &Context<'_>,
    holder: ScopeHolder<'_>,
    scope: &str,
    to: ScopeAssignment,
) -> Result<Reply, Error> {
    context
        .iris
        .assign_scope(context.realm, holder, scope, to)
        .await?;
    Ok(no_content())
}
