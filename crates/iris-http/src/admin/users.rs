//! Users.

use o28m_iris::{Error, Permission, Rep, UserFilter, representation};
use serde_json::json;

use super::{Context, Entry, entries, pairs};
use crate::reply::{self, Reply, admin_json, no_content};
use crate::router::Route;

/// Served below a realm.
pub(crate) const ROUTES: &[Route<Entry>] = entries! {
    GET "users" QueryUsers Nothing |c| list(c).await;
    GET "users/count" QueryUsers Nothing |c| {
        if !c.caller.may(Permission::ViewUsers) {
            return Ok(admin_json(&json!(0)));
        }
        Ok(admin_json(&c.iris.user_count(c.realm, &filter(c)).await?))
    };
    GET "users/profile" ViewUsers Nothing |_c| Ok(admin_json(&super::statics::user_profile()));
    GET "users/profile/metadata" ViewUsers Nothing |_c| {
        Ok(admin_json(&super::statics::user_profile_metadata()))
    };
    POST "users" ManageUsers Json |c| {
        let rep = c.rep(&representation::USER)?;
        let id = c.iris.create_user(c.realm, rep, Some(c.caller)).await?;
        Ok(c.created(&format!("users/{id}")))
    };
    GET "users/{}" ViewUsers Nothing |c| {
        Ok(admin_json(&c.iris.user_representation(c.realm, c.arg(0)).await?))
    };
    PUT "users/{}" ManageUsers Json |c| {
        c.iris.update_user(c.realm, c.arg(0), c.rep(&representation::USER)?).await?;
        Ok(no_content())
    };
    DELETE "users/{}" ManageUsers Nothing |c| {
        c.iris.delete_user(c.realm, c.arg(0)).await?;
        Ok(no_content())
    };
    PUT "users/{}/reset-password" ManageUsers Json |c| {
        let rep = c.rep(&representation::CREDENTIAL)?;
        c.iris.reset_password(c.realm, c.arg(0), &rep).await?;
        Ok(no_content())
    };
    GET "users/{}/credentials" ViewUsers Nothing |c| {
        Ok(admin_json(&c.iris.credentials(c.realm, c.arg(0)).await?))
    };
    DELETE "users/{}/credentials/{}" ManageUsers Nothing |c| {
        c.iris.delete_credential(c.realm, c.arg(0), c.arg(1)).await?;
        Ok(no_content())
    };
    PUT "users/{}/credentials/{}/userLabel" ManageUsers Nothing |c| {
        let label = c.text().unwrap_or_default();
        c.iris.label_credential(c.realm, c.arg(0), c.arg(1), label).await?;
        Ok(no_content())
    };
    // There is one credential at most, which is first already.
    POST "users/{}/credentials/{}/moveToFirst" ManageUsers Nothing |c| {
        c.iris.check_credential(c.realm, c.arg(0), c.arg(1)).await?;
        Ok(no_content())
    };
    GET "users/{}/configured-user-storage-credential-types" ViewUsers Nothing |c| {
        c.iris.user_representation(c.realm, c.arg(0)).await?;
        Ok(admin_json(&json!([])))
    };
    PUT "users/{}/disable-credential-types" ManageUsers Json |c| disable(c).await;
    GET "users/{}/consents" ViewUsers Nothing |c| {
        Ok(admin_json(&c.iris.consents(c.target()?, c.arg(0)).await?))
    };
    DELETE "users/{}/consents/{}" ManageUsers Nothing |c| {
        c.iris.revoke_consent(c.target()?, c.arg(0), c.arg(1)).await?;
        Ok(no_content())
    };
    GET "users/{}/federated-identity" ViewUsers Nothing |c| {
        c.iris.user_representation(c.realm, c.arg(0)).await?;
        Ok(admin_json(&json!([])))
    };
    GET "users/{}/unmanagedAttributes" ViewUsers Nothing |c| {
        let user = c.iris.user_representation(c.realm, c.arg(0)).await?;
        Ok(admin_json(&user.get("attributes").cloned().unwrap_or_else(|| json!({}))))
    };
};

async fn list(context: &Context<'_>) -> Result<Reply, Error> {
    if !context.caller.may(Permission::ViewUsers) {
        return Ok(admin_json(&Vec::<Rep>::new()));
    }
    // A list of ids instead of a search.
    if let Some(ids) = context
        .query("search")
        .and_then(|text| text.strip_prefix("id:"))
    {
        let mut found = Vec::new();
        for id in ids.split_whitespace().take(100) {
            match context.iris.user_representation(context.realm, id).await {
                Ok(rep) => found.push(rep),
                Err(Error::Missing(_)) => {}
                Err(error) => return Err(error),
            }
        }
        return Ok(admin_json(&found));
    }
    Ok(admin_json(
        &context.iris.users(context.realm, &filter(context)).await?,
    ))
}

async fn disable(context: &Context<'_>) -> Result<Reply, Error> {
    let types = serde_json::from_slice::<Vec<String>>(context.body);
    let Ok(types) = types else {
        let text = "Cannot parse the JSON";
        return Ok(reply::oauth(
            http::StatusCode::BAD_REQUEST,
            "unknown_error",
            text,
        ));
    };
    context
        .iris
        .user_representation(context.realm, context.arg(0))
        .await?;
    if types.iter().any(|it| it == "password") {
        context
            .iris
            .disable_password(context.realm, context.arg(0))
            .await?;
    }
    Ok(no_content())
}

fn filter(context: &Context<'_>) -> UserFilter {
    UserFilter {
        search: context.owned("search"),
        username: context.owned("username"),
        email: context.owned("email"),
        first_name: context.owned("firstName"),
        last_name: context.owned("lastName"),
        exact: context.flag("exact"),
        enabled: context.truth("enabled"),
        email_verified: context.truth("emailVerified"),
        attributes: pairs(context.query("q").unwrap_or_default()),
        brokered: context.query("idpAlias").is_some() || context.query("idpUserId").is_some(),
        first: context.number("first").unwrap_or_default(),
        max: context.number("max"),
        brief: context.flag("briefRepresentation"),
    }
}
