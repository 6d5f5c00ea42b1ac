//! Groups and their members.

use http::StatusCode;
use http::header::LOCATION;
use o28m_iris::{Error, GroupFilter, representation};
use serde_json::json;

use super::{Context, Entry, entries};
use crate::reply::{self, Reply, admin_json, no_content};
use crate::router::Route;

/// Served below a realm.
pub(crate) const ROUTES: &[Route<Entry>] = entries! {
    GET "groups" QueryGroups Nothing |c| Ok(admin_json(&c.iris.groups(c.realm, &filter(c)).await?));
    POST "groups" ManageUsers Json |c| put(c, None).await;
    GET "groups/count" QueryGroups Nothing |c| {
        let count = c.iris.group_count(c.realm, c.query("search"), c.flag("top")).await?;
        Ok(admin_json(&json!({"count": count})))
    };
    GET "group-by-path/{*}" ViewUsers Nothing |c| Ok(admin_json(&c.iris.group_by_path(c.realm, c.arg(0)).await?));
    GET "groups/{}" ViewUsers Nothing |c| {
        Ok(admin_json(&c.iris.group_representation(c.realm, c.arg(0)).await?))
    };
    PUT "groups/{}" ManageUsers Json |c| {
        c.iris.update_group(c.realm, c.arg(0), &c.rep(&representation::GROUP)?).await?;
        Ok(no_content())
    };
    DELETE "groups/{}" ManageUsers Nothing |c| {
        c.iris.delete_group(c.realm, c.arg(0)).await?;
        Ok(no_content())
    };
    GET "groups/{}/children" ViewUsers Nothing |c| {
        Ok(admin_json(&c.iris.child_groups(c.realm, c.arg(0), &filter(c)).await?))
    };
    POST "groups/{}/children" ManageUsers Json |c| put(c, Some(c.arg(0))).await;
    GET "groups/{}/members" ViewUsers Nothing |c| {
        let (first, max) = (c.number("first").unwrap_or_default(), c.number("max"));
        let brief = c.flag("briefRepresentation");
        Ok(admin_json(&c.iris.group_members(c.realm, c.arg(0), first, max, brief).await?))
    };
    GET "users/{}/groups" ViewUsers Nothing |c| {
        Ok(admin_json(&c.iris.user_groups(c.realm, c.arg(0), &filter(c)).await?))
    };
    GET "users/{}/groups/count" ViewUsers Nothing |c| {
        let all = GroupFilter { search: c.owned("search"), brief: true, ..GroupFilter::default() };
        let count = c.iris.user_groups(c.realm, c.arg(0), &all).await?.len();
        Ok(admin_json(&json!({"count": count})))
    };
    PUT "users/{}/groups/{}" ManageUsers Nothing |c| member(c, true).await;
    DELETE "users/{}/groups/{}" ManageUsers Nothing |c| member(c, false).await;
};

fn filter(context: &Context<'_>) -> GroupFilter {
    GroupFilter {
        search: context.owned("search"),
        exact: context.flag("exact"),
        first: context.number("first").unwrap_or_default(),
        max: context.number("max"),
        brief: context.flag_unless_off("briefRepresentation"),
        hierarchy: context.flag_unless_off("populateHierarchy"),
    }
}

/// Makes a group, or moves it here.
async fn put(context: &Context<'_>, parent: Option<&str>) -> Result<Reply, Error> {
    let rep = context.rep(&representation::GROUP)?;
    if let (Some(parent), true) = (parent, rep.contains_key("id")) {
        // Members of what moves here get what the groups above give.
        let (realm, name) = (context.realm, context.name);
        context
            .iris
            .check_may_join(context.caller, realm, name, parent)
            .await?;
    }
    let (id, made) = context.iris.put_group(context.realm, parent, &rep).await?;
    if !made {
        return Ok(no_content());
    }
    let created = context.created(&format!("groups/{id}"));
    if parent.is_none() {
        return Ok(created);
    }
    let rep = context
        .iris
        .group_representation(context.realm, &id)
        .await?;
    let mut reply = admin_json(&rep);
    *reply.status_mut() = StatusCode::CREATED;
    let url = created.headers().get(LOCATION);
    let url = url
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    Ok(reply::with(reply, LOCATION, url))
}

async fn member(context: &Context<'_>, join: bool) -> Result<Reply, Error> {
    let (user, group) = (context.arg(0), context.arg(1));
    if join {
        let (realm, name) = (context.realm, context.name);
        context
            .iris
            .check_may_join(context.caller, realm, name, group)
            .await?;
    }
    context
        .iris
        .change_membership(context.realm, user, group, join)
        .await?;
    Ok(no_content())
}
