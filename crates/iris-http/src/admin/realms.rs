//! Realms, their client policies and their keys.

use o28m_iris::schema::Problem;
use o28m_iris::{Error, Export, Permission, RealmFilter, Realms, representation};

use super::{Context, Entry, entries, percent};
use crate::reply::{self, Reply, admin_json, no_content};
use crate::router::Route;

/// Served at `/admin/realms` itself.
pub(crate) const TOP: &[Route<Entry>] = entries! {
    GET "" SignedIn Nothing |c| list(c).await;
    POST "" CreateRealm Json |c| create(c).await;
};

/// Served below a realm.
pub(crate) const ROUTES: &[Route<Entry>] = entries! {
    GET "" Any Nothing |c| {
        let brief = !c.caller.may(Permission::ViewRealm);
        Ok(admin_json(&c.iris.realm_representation(c.realm, brief).await?))
    };
    PUT "" ManageRealm Json |c| {
        c.iris.update_realm(c.realm, c.rep(&representation::REALM)?).await?;
        Ok(no_content())
    };
    DELETE "" ManageRealm Nothing |c| {
        c.iris.delete_realm(c.realm).await?;
        Ok(no_content())
    };
    POST "partial-export" ManageRealm Nothing |c| {
        let clients = c.flag("exportClients");
        if clients && !c.caller.may(Permission::ViewClients) {
            return Err(Error::Forbidden);
        }
        let what = Export {
            clients,
            groups_and_roles: c.flag("exportGroupsAndRoles"),
            users: false,
            secrets: false,
        };
        Ok(admin_json(&c.iris.export_realm(c.realm, what).await?))
    };
    POST "partialImport" ManageRealm Json |c| {
        let rep = c.rep(&representation::PARTIAL_IMPORT)?;
        Ok(admin_json(&c.iris.partial_import(c.realm, rep, c.caller).await?))
    };
    GET "default-groups" ViewRealm Nothing |c| Ok(admin_json(&c.iris.default_groups(c.realm).await?));
    PUT "default-groups/{}" ManageRealm Nothing |c| {
        c.iris.check_may_join(c.caller, c.realm, c.name, c.arg(0)).await?;
        c.iris.change_default_group(c.realm, c.arg(0), true).await?;
        Ok(no_content())
    };
    DELETE "default-groups/{}" ManageRealm Nothing |c| {
        c.iris.change_default_group(c.realm, c.arg(0), false).await?;
        Ok(no_content())
    };
    POST "clear-realm-cache" ManageRealm Nothing |c| clear(c);
    POST "clear-user-cache" ManageRealm Nothing |c| clear(c);
    POST "clear-keys-cache" ManageRealm Nothing |c| clear(c);
    POST "clear-crl-cache" ManageRealm Nothing |c| clear(c);
    GET "client-policies/profiles" ViewRealm Nothing |c| {
        let global = c.flag("include-global-profiles");
        Ok(admin_json(&c.iris.client_profiles(c.realm, global).await?))
    };
    PUT "client-policies/profiles" ManageRealm Json |c| {
        c.iris.set_client_profiles(c.realm, c.rep(&representation::PROFILES)?).await?;
        Ok(no_content())
    };
    GET "client-policies/policies" ViewRealm Nothing |c| {
        let global = c.flag("include-global-policies");
        Ok(admin_json(&c.iris.client_policies(c.realm, global).await?))
    };
    PUT "client-policies/policies" ManageRealm Json |c| {
        c.iris.set_client_policies(c.realm, c.rep(&representation::POLICIES)?).await?;
        Ok(no_content())
    };
    GET "keys" ViewRealm Nothing |c| Ok(admin_json(&c.iris.realm_keys(c.realm).await?));
    GET "components" ViewRealm Nothing |c| {
        Ok(admin_json(&c.iris.components(c.realm, c.query("type"), c.query("name")).await?))
    };
    POST "components" ManageRealm Json |c| {
        let id = c.iris.create_component(c.realm, c.rep(&representation::COMPONENT)?).await?;
        Ok(c.created(&format!("components/{id}")))
    };
    GET "components/{}" ViewRealm Nothing |c| {
        Ok(admin_json(&c.iris.component(c.realm, c.arg(0)).await?))
    };
    PUT "components/{}" ManageRealm Json |c| {
        c.iris.update_component(c.realm, c.arg(0), c.rep(&representation::COMPONENT)?).await?;
        Ok(no_content())
    };
    DELETE "components/{}" ManageRealm Nothing |c| {
        c.iris.delete_component(c.realm, c.arg(0)).await?;
        Ok(no_content())
    };
};

fn clear(context: &Context<'_>) -> Result<Reply, Error> {
    context.iris.forget_all();
    Ok(no_content())
}

async fn list(context: &Context<'_>) -> Result<Reply, Error> {
    let realms = context.caller.realms();
    let may_create = context.caller.may(Permission::CreateRealm);
    if realms == Realms::Named(Vec::new()) && !may_create {
        return Err(Error::Forbidden);
    }
    let filter = RealmFilter {
        search: context.owned("search"),
        first: context.number("first").unwrap_or_default(),
        max: context.number("max"),
        brief: context.flag("briefRepresentation"),
    };
    Ok(admin_json(&context.iris.realms(&realms, &filter).await?))
}

async fn create(context: &Context<'_>) -> Result<Reply, Error> {
    let rep = match context.rep(&representation::REALM) {
        // This call alone reads its body before it parses it, and says so.
        Err(Error::Representation(Problem::Syntax)) => {
            let text = "unable to read contents from stream";
            return Ok(reply::admin_error(http::StatusCode::BAD_REQUEST, text));
        }
        other => other?,
    };
    let name = context.iris.create_realm(rep, Some(context.caller)).await?;
    Ok(context.created(&percent(&name)))
}
