//! Clients, their secrets, and the mappers of clients and client scopes.

use o28m_iris::{ClientFilter, Error, MapperHolder, Rep, representation};
use serde_json::{Value, json};

use super::{Context, Entry, entries};
use crate::reply::{Reply, admin_json, no_content};
use crate::router::Route;

/// Served below a realm.
pub(crate) const ROUTES: &[Route<Entry>] = entries! {
    GET "clients" QueryClients Nothing |c| list(c).await;
    POST "clients" ManageClients Json |c| {
        let id = c.iris.create_client(c.realm, c.rep(&representation::CLIENT)?).await?;
        Ok(c.created(&format!("clients/{id}")))
    };
    GET "clients/{}" ViewClients Nothing |c| {
        Ok(admin_json(&c.iris.client_representation(c.realm, c.arg(0)).await?))
    };
    PUT "clients/{}" ManageClients Json |c| {
        c.iris.update_client(c.realm, c.arg(0), c.rep(&representation::CLIENT)?).await?;
        Ok(no_content())
    };
    DELETE "clients/{}" ManageClients Nothing |c| {
        c.iris.delete_client(c.realm, c.arg(0)).await?;
        Ok(no_content())
    };
    GET "clients/{}/client-secret" ViewClients Nothing |c| {
        Ok(admin_json(&secret(c.iris.client_secret(c.realm, c.arg(0)).await?)))
    };
    POST "clients/{}/client-secret" ManageClients Nothing |c| {
        Ok(admin_json(&secret(Some(c.iris.renew_client_secret(c.realm, c.arg(0)).await?))))
    };
    GET "clients/{}/client-secret/rotated" ViewClients Nothing |c| {
        Ok(admin_json(&secret(Some(c.iris.rotated_client_secret(c.realm, c.arg(0)).await?))))
    };
    DELETE "clients/{}/client-secret/rotated" ManageClients Nothing |c| {
        c.iris.forget_rotated_secret(c.realm, c.arg(0)).await?;
        Ok(no_content())
    };
    GET "clients/{}/service-account-user" ViewClients Nothing |c| {
        Ok(admin_json(&c.iris.service_account(c.realm, c.arg(0)).await?))
    };
    GET "clients/{}/protocol-mappers/models" ViewClients Nothing |c| mappers(c, MapperHolder::Client).await;
    GET "clients/{}/protocol-mappers/models/{}" ViewClients Nothing |c| mapper(c, MapperHolder::Client).await;
    GET "clients/{}/protocol-mappers/protocol/{}" ViewClients Nothing |c| mappers(c, MapperHolder::Client).await;
    POST "clients/{}/protocol-mappers/models" ManageClients Json |c| add_mapper(c, MapperHolder::Client).await;
    POST "clients/{}/protocol-mappers/add-models" ManageClients Json |c| add_mappers(c, MapperHolder::Client).await;
    PUT "clients/{}/protocol-mappers/models/{}" ManageClients Json |c| update_mapper(c, MapperHolder::Client).await;
    DELETE "clients/{}/protocol-mappers/models/{}" ManageClients Nothing |c| delete_mapper(c, MapperHolder::Client).await;
    GET "client-scopes/{}/protocol-mappers/models" ViewClients Nothing |c| mappers(c, MapperHolder::Scope).await;
    GET "client-scopes/{}/protocol-mappers/models/{}" ViewClients Nothing |c| mapper(c, MapperHolder::Scope).await;
    GET "client-scopes/{}/protocol-mappers/protocol/{}" ViewClients Nothing |c| mappers(c, MapperHolder::Scope).await;
    POST "client-scopes/{}/protocol-mappers/models" ManageClients Json |c| add_mapper(c, MapperHolder::Scope).await;
    POST "client-scopes/{}/protocol-mappers/add-models" ManageClients Json |c| add_mappers(c, MapperHolder::Scope).await;
    PUT "client-scopes/{}/protocol-mappers/models/{}" ManageClients Json |c| update_mapper(c, MapperHolder::Scope).await;
    DELETE "client-scopes/{}/protocol-mappers/models/{}" ManageClients Nothing |c| delete_mapper(c, MapperHolder::Scope).await;
};

/// A secret credential; without a value when the client has none.
fn secret(value: Option<String>) -> Value {
    match value {
        Some(value) => json!({"type": "secret", "value": value}),
        None => json!({"type": "secret"}),
    }
}

async fn list(context: &Context<'_>) -> Result<Reply, Error> {
    if !context.caller.may(o28m_iris::Permission::ViewClients) {
        return Ok(admin_json(&Vec::<Rep>::new()));
    }
    let filter = ClientFilter {
        client_id: context.query("clientId").map(str::to_owned),
        search: context.flag("search"),
        first: context.number("first").unwrap_or_default(),
        max: context.number("max"),
    };
    Ok(admin_json(
        &context.iris.clients(context.realm, &filter).await?,
    ))
}

async fn mappers(context: &Context<'_>, holder: MapperHolder) -> Result<Reply, Error> {
    let mut found = context
        .iris
        .mappers(context.realm, holder, context.arg(0))
        .await?;
    if !context.arg(1).is_empty() {
        found.retain(|mapper| {
            mapper
                .get("protocol")
                .is_some_and(|it| it == context.arg(1))
        });
    }
    Ok(admin_json(&found))
}

async fn mapper(context: &Context<'_>, holder: MapperHolder) -> Result<Reply, Error> {
    let (id, mapper) = (context.arg(0), context.arg(1));
    Ok(admin_json(
        &context
            .iris
            .mapper(context.realm, holder, id, mapper)
            .await?,
    ))
}

async fn add_mapper(context: &Context<'_>, holder: MapperHolder) -> Result<Reply, Error> {
    let rep = context.rep(&representation::MAPPER)?;
    let ids = context
        .iris
        .add_mappers(context.realm, holder, context.arg(0), vec![rep])
        .await?;
    let of = match holder {
        MapperHolder::Client => "clients",
        MapperHolder::Scope => "client-scopes",
    };
    let id = ids.first().map_or("", String::as_str);
    Ok(context.created(&format!(
        "{of}/{}/protocol-mappers/models/{id}",
        context.arg(0)
    )))
}

async fn add_mappers(context: &Context<'_>, holder: MapperHolder) -> Result<Reply, Error> {
    let reps = context.reps(&representation::MAPPER)?;
    context
        .iris
        .add_mappers(context.realm, holder, context.arg(0), reps)
        .await?;
    Ok(no_content())
}

async fn update_mapper(context: &Context<'_>, holder: MapperHolder) -> Result<Reply, Error> {
    let rep = context.rep(&representation::MAPPER)?;
    let (id, mapper) = (context.arg(0), context.arg(1));
    context
        .iris
        .update_mapper(context.realm, holder, id, mapper, rep)
        .await?;
    Ok(no_content())
}

async fn delete_mapper(context: &Context<'_>, holder: MapperHolder) -> Result<Reply, Error> {
    let (id, mapper) = (context.arg(0), context.arg(1));
    context
        .iris
        .delete_mapper(context.realm, holder, id, mapper)
        .await?;
    Ok(no_content())
}
