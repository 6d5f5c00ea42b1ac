//! Realms, their client policies and their keys.

use o28m_iris::schema::Problem;
use o28m_iris::{Error, Permission, representation};

use super::{Context, Entry, entries, percent};
use crate::reply::{self, Reply, admin_json, no_content};
use crate::router::Route;

/// Served at `/admin/realms` itself.
pub(crate) const TOP: &[Route<Entry>] = entries! {
    GET "" CreateRealm Nothing |c| Ok(admin_json(&c.iris.realms(c.flag("briefRepresentation")).await?));
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

async fn create(context: &Context<'_>) -> Result<Reply, Error> {
    let rep = match context.rep(&representation::REALM) {
        // This call alone reads its body before it parses it, and says so.
        Err(Error::Representation(Problem::Syntax)) => {
            let text = "unable to read contents from stream";
            return Ok(reply::admin_error(http::StatusCode::BAD_REQUEST, text));
        }
        other => other?,
    };
    let name = context.iris.create_realm(rep).await?;
    Ok(context.created(&percent(&name)))
}
