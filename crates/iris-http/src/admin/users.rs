//! Users.

use o28m_iris::{UserFilter, representation};

use super::{Context, Entry, entries};
use crate::reply::{admin_json, no_content};
use crate::router::Route;

/// Served below a realm.
pub(crate) const ROUTES: &[Route<Entry>] = entries! {
    GET "users" ViewUsers Nothing |c| Ok(admin_json(&c.iris.users(c.realm, &filter(c)).await?));
    GET "users/count" ViewUsers Nothing |c| Ok(admin_json(&c.iris.user_count(c.realm, &filter(c)).await?));
    POST "users" ManageUsers Json |c| {
        let id = c.iris.create_user(c.realm, c.rep(&representation::USER)?).await?;
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
};

fn filter(context: &Context<'_>) -> UserFilter {
    let text = |name: &str| context.query(name).map(str::to_owned);
    UserFilter {
        search: text("search"),
        username: text("username"),
        email: text("email"),
        exact: context.flag("exact"),
        first: context.number("first").unwrap_or_default(),
        max: context.number("max"),
        brief: context.flag("briefRepresentation"),
    }
}
