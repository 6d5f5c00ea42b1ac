//! Roles of realms and clients, composites, and the role lists of users, clients and client scopes.

use o28m_iris::{Error, Rep, RoleContainer, RoleFilter, RoleHolder, representation};

use super::{Context, Entry, entries, percent};
use crate::reply::{Reply, admin_json, no_content};
use crate::router::Route;

/// Served below a realm.
pub(crate) const ROUTES: &[Route<Entry>] = entries! {
    GET "roles" Any Nothing |c| list(c, RoleContainer::Realm).await;
    POST "roles" ManageRealm Json |c| create(c, RoleContainer::Realm, "roles").await;
    GET "roles/{}" ViewRealm Nothing |c| one(c, RoleContainer::Realm, c.arg(0)).await;
    PUT "roles/{}" ManageRealm Json |c| update(c, RoleContainer::Realm, c.arg(0)).await;
    DELETE "roles/{}" ManageRealm Nothing |c| delete(c, RoleContainer::Realm, c.arg(0)).await;
    GET "roles/{}/composites" ViewRealm Nothing |c| composites(c, RoleContainer::Realm, c.arg(0)).await;
    POST "roles/{}/composites" ManageRealm Json |c| compose(c, RoleContainer::Realm, c.arg(0), true).await;
    DELETE "roles/{}/composites" ManageRealm Json |c| compose(c, RoleContainer::Realm, c.arg(0), false).await;
    GET "clients/{}/roles" QueryClients Nothing |c| list(c, RoleContainer::Client(c.arg(0))).await;
    POST "clients/{}/roles" ManageClients Json |c| {
        create(c, RoleContainer::Client(c.arg(0)), &format!("clients/{}/roles", c.arg(0))).await
    };
    GET "clients/{}/roles/{}" ViewClients Nothing |c| one(c, RoleContainer::Client(c.arg(0)), c.arg(1)).await;
    PUT "clients/{}/roles/{}" ManageClients Json |c| update(c, RoleContainer::Client(c.arg(0)), c.arg(1)).await;
    DELETE "clients/{}/roles/{}" ManageClients Nothing |c| delete(c, RoleContainer::Client(c.arg(0)), c.arg(1)).await;
    GET "clients/{}/roles/{}/composites" ViewClients Nothing |c| {
        composites(c, RoleContainer::Client(c.arg(0)), c.arg(1)).await
    };
    POST "clients/{}/roles/{}/composites" ManageClients Json |c| {
        compose(c, RoleContainer::Client(c.arg(0)), c.arg(1), true).await
    };
    DELETE "clients/{}/roles/{}/composites" ManageClients Json |c| {
        compose(c, RoleContainer::Client(c.arg(0)), c.arg(1), false).await
    };
    GET "roles-by-id/{}" ViewRealm Nothing |c| Ok(admin_json(&c.iris.role_by_id(c.realm, c.arg(0)).await?));
    PUT "roles-by-id/{}" ManageRealm Json |c| {
        c.iris.update_role(c.realm, c.arg(0), c.rep(&representation::ROLE)?).await?;
        Ok(no_content())
    };
    DELETE "roles-by-id/{}" ManageRealm Nothing |c| {
        c.iris.delete_role(c.realm, c.arg(0)).await?;
        Ok(no_content())
    };
    GET "roles/{}/composites/realm" ViewRealm Nothing |c| inside(c, RoleContainer::Realm, c.arg(0), RoleContainer::Realm).await;
    GET "roles/{}/composites/clients/{}" ViewRealm Nothing |c| {
        inside(c, RoleContainer::Realm, c.arg(0), RoleContainer::Client(c.arg(1))).await
    };
    GET "roles/{}/users" ViewRealm Nothing |c| with_role(c, RoleContainer::Realm, c.arg(0), false).await;
    GET "roles/{}/groups" ViewRealm Nothing |c| with_role(c, RoleContainer::Realm, c.arg(0), true).await;
    GET "clients/{}/roles/{}/composites/realm" ViewClients Nothing |c| inside(c, RoleContainer::Client(c.arg(0)), c.arg(1), RoleContainer::Realm).await;
    GET "clients/{}/roles/{}/composites/clients/{}" ViewClients Nothing |c| {
        inside(c, RoleContainer::Client(c.arg(0)), c.arg(1), RoleContainer::Client(c.arg(2))).await
    };
    GET "clients/{}/roles/{}/users" ViewClients Nothing |c| with_role(c, RoleContainer::Client(c.arg(0)), c.arg(1), false).await;
    GET "clients/{}/roles/{}/groups" ViewClients Nothing |c| with_role(c, RoleContainer::Client(c.arg(0)), c.arg(1), true).await;
    GET "roles-by-id/{}/composites" ViewRealm Nothing |c| {
        let holder = RoleHolder::Composite(c.arg(0));
        Ok(admin_json(&c.iris.held_roles(c.realm, holder, None, false).await?))
    };
    GET "roles-by-id/{}/composites/realm" ViewRealm Nothing |c| held(c, RoleHolder::Composite(c.arg(0)), false).await;
    GET "roles-by-id/{}/composites/clients/{}" ViewRealm Nothing |c| held(c, RoleHolder::Composite(c.arg(0)), false).await;
    POST "roles-by-id/{}/composites" ManageRealm Json |c| compose_by_id(c, c.arg(0), true).await;
    DELETE "roles-by-id/{}/composites" ManageRealm Json |c| compose_by_id(c, c.arg(0), false).await;
    GET "users/{}/role-mappings" ViewUsers Nothing |c| all(c, RoleHolder::User(c.arg(0))).await;
    GET "users/{}/role-mappings/realm" ViewUsers Nothing |c| held(c, RoleHolder::User(c.arg(0)), false).await;
    GET "users/{}/role-mappings/realm/composite" ViewUsers Nothing |c| held(c, RoleHolder::User(c.arg(0)), true).await;
    GET "users/{}/role-mappings/realm/available" ViewUsers Nothing |c| available(c, RoleHolder::User(c.arg(0))).await;
    POST "users/{}/role-mappings/realm" ManageUsers Json |c| change(c, RoleHolder::User(c.arg(0)), true).await;
    DELETE "users/{}/role-mappings/realm" ManageUsers Json |c| change(c, RoleHolder::User(c.arg(0)), false).await;
    GET "users/{}/role-mappings/clients/{}" ViewUsers Nothing |c| held(c, RoleHolder::User(c.arg(0)), false).await;
    GET "users/{}/role-mappings/clients/{}/composite" ViewUsers Nothing |c| held(c, RoleHolder::User(c.arg(0)), true).await;
    GET "users/{}/role-mappings/clients/{}/available" ViewUsers Nothing |c| available(c, RoleHolder::User(c.arg(0))).await;
    POST "users/{}/role-mappings/clients/{}" ManageUsers Json |c| change(c, RoleHolder::User(c.arg(0)), true).await;
    DELETE "users/{}/role-mappings/clients/{}" ManageUsers Json |c| change(c, RoleHolder::User(c.arg(0)), false).await;
    GET "groups/{}/role-mappings" ViewUsers Nothing |c| all(c, RoleHolder::Group(c.arg(0))).await;
    GET "groups/{}/role-mappings/realm" ViewUsers Nothing |c| held(c, RoleHolder::Group(c.arg(0)), false).await;
    GET "groups/{}/role-mappings/realm/composite" ViewUsers Nothing |c| held(c, RoleHolder::Group(c.arg(0)), true).await;
    GET "groups/{}/role-mappings/realm/available" ViewUsers Nothing |c| available(c, RoleHolder::Group(c.arg(0))).await;
    POST "groups/{}/role-mappings/realm" ManageUsers Json |c| change(c, RoleHolder::Group(c.arg(0)), true).await;
    DELETE "groups/{}/role-mappings/realm" ManageUsers Json |c| change(c, RoleHolder::Group(c.arg(0)), false).await;
    GET "groups/{}/role-mappings/clients/{}" ViewUsers Nothing |c| held(c, RoleHolder::Group(c.arg(0)), false).await;
    GET "groups/{}/role-mappings/clients/{}/composite" ViewUsers Nothing |c| held(c, RoleHolder::Group(c.arg(0)), true).await;
    GET "groups/{}/role-mappings/clients/{}/available" ViewUsers Nothing |c| available(c, RoleHolder::Group(c.arg(0))).await;
    POST "groups/{}/role-mappings/clients/{}" ManageUsers Json |c| change(c, RoleHolder::Group(c.arg(0)), true).await;
    DELETE "groups/{}/role-mappings/clients/{}" ManageUsers Json |c| change(c, RoleHolder::Group(c.arg(0)), false).await;
    GET "clients/{}/scope-mappings" ViewClients Nothing |c| all(c, RoleHolder::Client(c.arg(0))).await;
    GET "clients/{}/scope-mappings/realm" ViewClients Nothing |c| held(c, RoleHolder::Client(c.arg(0)), false).await;
    GET "clients/{}/scope-mappings/realm/available" ViewClients Nothing |c| available(c, RoleHolder::Client(c.arg(0))).await;
    GET "clients/{}/scope-mappings/realm/composite" ViewClients Nothing |c| held(c, RoleHolder::Client(c.arg(0)), true).await;
    POST "clients/{}/scope-mappings/realm" ManageClients Json |c| change(c, RoleHolder::Client(c.arg(0)), true).await;
    DELETE "clients/{}/scope-mappings/realm" ManageClients Json |c| change(c, RoleHolder::Client(c.arg(0)), false).await;
    GET "clients/{}/scope-mappings/clients/{}" ViewClients Nothing |c| held(c, RoleHolder::Client(c.arg(0)), false).await;
    GET "clients/{}/scope-mappings/clients/{}/available" ViewClients Nothing |c| available(c, RoleHolder::Client(c.arg(0))).await;
    GET "clients/{}/scope-mappings/clients/{}/composite" ViewClients Nothing |c| held(c, RoleHolder::Client(c.arg(0)), true).await;
    POST "clients/{}/scope-mappings/clients/{}" ManageClients Json |c| change(c, RoleHolder::Client(c.arg(0)), true).await;
    DELETE "clients/{}/scope-mappings/clients/{}" ManageClients Json |c| change(c, RoleHolder::Client(c.arg(0)), false).await;
    GET "client-scopes/{}/scope-mappings" ViewClients Nothing |c| all(c, RoleHolder::Scope(c.arg(0))).await;
    GET "client-scopes/{}/scope-mappings/realm" ViewClients Nothing |c| held(c, RoleHolder::Scope(c.arg(0)), false).await;
    GET "client-scopes/{}/scope-mappings/realm/available" ViewClients Nothing |c| available(c, RoleHolder::Scope(c.arg(0))).await;
    GET "client-scopes/{}/scope-mappings/realm/composite" ViewClients Nothing |c| held(c, RoleHolder::Scope(c.arg(0)), true).await;
    POST "client-scopes/{}/scope-mappings/realm" ManageClients Json |c| change(c, RoleHolder::Scope(c.arg(0)), true).await;
    DELETE "client-scopes/{}/scope-mappings/realm" ManageClients Json |c| change(c, RoleHolder::Scope(c.arg(0)), false).await;
    GET "client-scopes/{}/scope-mappings/clients/{}" ViewClients Nothing |c| held(c, RoleHolder::Scope(c.arg(0)), false).await;
    GET "client-scopes/{}/scope-mappings/clients/{}/available" ViewClients Nothing |c| available(c, RoleHolder::Scope(c.arg(0))).await;
    POST "client-scopes/{}/scope-mappings/clients/{}" ManageClients Json |c| change(c, RoleHolder::Scope(c.arg(0)), true).await;
    DELETE "client-scopes/{}/scope-mappings/clients/{}" ManageClients Json |c| change(c, RoleHolder::Scope(c.arg(0)), false).await;
};

/// The container a mapping path names: the client of its second segment, else the realm.
fn container<'a>(context: &'a Context<'_>) -> RoleContainer<'a> {
    match context.arg(1) {
        "" => RoleContainer::Realm,
        client => RoleContainer::Client(client),
    }
}

fn id(rep: &Rep) -> &str {
    rep.get("id")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default()
}

async fn list(context: &Context<'_>, of: RoleContainer<'_>) -> Result<Reply, Error> {
    let filter = RoleFilter {
        search: context.query("search").map(str::to_owned),
        first: context.number("first").unwrap_or_default(),
        max: context.number("max"),
        brief: context.query("briefRepresentation") != Some("false"),
    };
    Ok(admin_json(
        &context.iris.roles(context.realm, of, &filter).await?,
    ))
}

async fn create(context: &Context<'_>, of: RoleContainer<'_>, below: &str) -> Result<Reply, Error> {
    let rep = context.rep(&representation::ROLE)?;
    let name = context.iris.create_role(context.realm, of, rep).await?;
    Ok(context.created(&format!("{below}/{}", percent(&name))))
}

async fn one(context: &Context<'_>, of: RoleContainer<'_>, name: &str) -> Result<Reply, Error> {
    Ok(admin_json(
        &context.iris.role_by_name(context.realm, of, name).await?,
    ))
}

async fn update(context: &Context<'_>, of: RoleContainer<'_>, name: &str) -> Result<Reply, Error> {
    let known = context.iris.role_by_name(context.realm, of, name).await?;
    let rep = context.rep(&representation::ROLE)?;
    context
        .iris
        .update_role(context.realm, id(&known), rep)
        .await?;
    Ok(no_content())
}

async fn delete(context: &Context<'_>, of: RoleContainer<'_>, name: &str) -> Result<Reply, Error> {
    let known = context.iris.role_by_name(context.realm, of, name).await?;
    context.iris.delete_role(context.realm, id(&known)).await?;
    Ok(no_content())
}

async fn composites(
    context: &Context<'_>,
    of: RoleContainer<'_>,
    name: &str,
) -> Result<Reply, Error> {
    let known = context.iris.role_by_name(context.realm, of, name).await?;
    let holder = RoleHolder::Composite(id(&known));
    Ok(admin_json(
        &context
            .iris
            .held_roles(context.realm, holder, None, false)
            .await?,
    ))
}

async fn compose(
    context: &Context<'_>,
    of: RoleContainer<'_>,
    name: &str,
    add: bool,
) -> Result<Reply, Error> {
    let known = context.iris.role_by_name(context.realm, of, name).await?;
    compose_by_id(context, id(&known), add).await
}

async fn compose_by_id(context: &Context<'_>, role: &str, add: bool) -> Result<Reply, Error> {
    let roles = context.reps(&representation::ROLE)?;
    check_gift(context, &roles).await?;
    let holder = RoleHolder::Composite(role);
    context
        .iris
        .change_held_roles(context.realm, holder, None, &roles, add)
        .await?;
    Ok(no_content())
}

/// Administration roles are given and taken only by who has them.
async fn check_gift(context: &Context<'_>, roles: &[Rep]) -> Result<(), Error> {
    let ids: Vec<String> = roles.iter().map(|role| id(role).to_owned()).collect();
    let (realm, name) = (context.realm, context.name);
    context
        .iris
        .check_may_give(context.caller, realm, name, &ids)
        .await
}

/// The roles of a container that a composite contains.
async fn inside(
    context: &Context<'_>,
    of: RoleContainer<'_>,
    name: &str,
    container: RoleContainer<'_>,
) -> Result<Reply, Error> {
    let known = context.iris.role_by_name(context.realm, of, name).await?;
    let holder = RoleHolder::Composite(id(&known));
    let found = context
        .iris
        .held_roles(context.realm, holder, Some(container), false)
        .await?;
    Ok(admin_json(&found))
}

/// Who has a role themselves.
async fn with_role(
    context: &Context<'_>,
    of: RoleContainer<'_>,
    name: &str,
    groups: bool,
) -> Result<Reply, Error> {
    let known = context.iris.role_by_name(context.realm, of, name).await?;
    let first = context.number("first").unwrap_or_default();
    let max = context.number("max");
    let role = id(&known);
    let found = if groups {
        let brief = context.flag_unless_off("briefRepresentation");
        context
            .iris
            .groups_with_role(context.realm, role, first, max, brief)
            .await?
    } else {
        let brief = context.flag("briefRepresentation");
        context
            .iris
            .users_with_role(context.realm, role, first, max, brief)
            .await?
    };
    Ok(admin_json(&found))
}

async fn all(context: &Context<'_>, holder: RoleHolder<'_>) -> Result<Reply, Error> {
    Ok(admin_json(
        &context.iris.all_held_roles(context.realm, holder).await?,
    ))
}

async fn held(
    context: &Context<'_>,
    holder: RoleHolder<'_>,
    effective: bool,
) -> Result<Reply, Error> {
    let of = Some(container(context));
    Ok(admin_json(
        &context
            .iris
            .held_roles(context.realm, holder, of, effective)
            .await?,
    ))
}

async fn available(context: &Context<'_>, holder: RoleHolder<'_>) -> Result<Reply, Error> {
    let of = container(context);
    Ok(admin_json(
        &context
            .iris
            .available_roles(context.realm, holder, of)
            .await?,
    ))
}

async fn change(context: &Context<'_>, holder: RoleHolder<'_>, add: bool) -> Result<Reply, Error> {
    let roles = context.reps(&representation::ROLE)?;
    if matches!(holder, RoleHolder::User(_) | RoleHolder::Group(_)) {
        check_gift(context, &roles).await?;
    }
    let of = Some(container(context));
    context
        .iris
        .change_held_roles(context.realm, holder, of, &roles, add)
        .await?;
    Ok(no_content())
}
