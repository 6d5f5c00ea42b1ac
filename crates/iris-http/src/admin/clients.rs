//! Clients, their secrets, and the mappers of clients and client scopes.

use o28m_iris::{ClientFilter, Error, MapperHolder, Permission, Rep, representation};
use serde_json::{Value, json};

use super::{Context, Entry, entries, pairs};
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
        let rep = c.iris.client_representation(c.realm, c.arg(0)).await?;
        Ok(admin_json(&hide(c, rep)))
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
        let value = c.iris.client_secret(c.realm, c.arg(0)).await?;
        Ok(admin_json(&secret(value.map(|value| masked(c, value)))))
    };
    POST "clients/{}/client-secret" ManageClients Nothing |c| {
        Ok(admin_json(&secret(Some(c.iris.renew_client_secret(c.realm, c.arg(0)).await?))))
    };
    GET "clients/{}/client-secret/rotated" ViewClients Nothing |c| {
        let value = c.iris.rotated_client_secret(c.realm, c.arg(0)).await?;
        Ok(admin_json(&secret(Some(masked(c, value)))))
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

/// What stands for a secret that the caller may not see.
const MASK: &str = "**********";

/// A secret, for those who could change it.
fn masked(context: &Context<'_>, value: String) -> String {
    if context.caller.may(Permission::ManageClients) {
        value
    } else {
        MASK.to_owned()
    }
}

/// Hides the secrets of a client from those who may only look.
fn hide(context: &Context<'_>, mut rep: Rep) -> Rep {
    if context.caller.may(Permission::ManageClients) {
        return rep;
    }
    if let Some(secret) = rep.get_mut("secret") {
        *secret = json!(MASK);
    }
    let attributes = rep.get_mut("attributes").and_then(Value::as_object_mut);
    if let Some(rotated) = attributes.and_then(|it| it.get_mut("client.secret.rotated")) {
        *rotated = json!(MASK);
    }
    if let Some(access) = rep.get_mut("access").and_then(Value::as_object_mut) {
        access.insert("configure".to_owned(), json!(false));
        access.insert("manage".to_owned(), json!(false));
    }
    rep
}

/// A secret credential; without a value when the client has none.
fn secret(value: Option<String>) -> Value {
    match value {
        Some(value) => json!({"type": "secret", "value": value}),
        None => json!({"type": "secret"}),
    }
}

async fn list(context: &Context<'_>) -> Result<Reply, Error> {
    if !context.caller.may(Permission::ViewClients) {
        return Ok(admin_json(&Vec::<Rep>::new()));
    }
    let filter = ClientFilter {
        client_id: context.query("clientId").map(str::to_owned),
        search: context.flag("search"),
        first: context.number("first").unwrap_or_default(),
        max: context.number("max"),
        attributes: pairs(context.query("q").unwrap_or_default()),
    };
    let found = context.iris.clients(context.realm, &filter).await?;
    let shown: Vec<Rep> = found.into_iter().map(|rep| hide(context, rep)).collect();
    Ok(admin_json(&shown))
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
