//! What a client's scopes lead to: the mappers and roles in effect, and example tokens (Keycloak 26.5
//! `ClientScopeEvaluateResource`).

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::admin::roles;
use crate::model::{Client, Fields as _, Realm, Rep, Scope, UserBody, kind};
use crate::token::{Issue, Origin, apply_scopes};
use crate::{Error, GrantError, Iris, RoleContainer, RoleFilter, Thing};

/// Which example token to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Example {
    /// An access token.
    Access,
    /// An ID token.
    Id,
    /// The answer of the userinfo endpoint.
    UserInfo,
}

impl Iris {
    async fn evaluated(
        &self,
        realm: &Realm,
        id: &str,
        scope: Option<&str>,
    ) -> Result<(Arc<Client>, Vec<Arc<Scope>>), Error> {
        let body = self.client_body(realm.id(), id).await?;
        let client = self.client(realm.id(), &body.client_id).await?;
        let client = client.ok_or(Error::Missing(Thing::Client))?;
        let asked = o28m_oauth::Scopes::parse(scope);
        let default = client.body.default_scopes.iter();
        let optional = client.body.optional_scopes.iter().filter(|id| {
            let scope = realm.scopes.get(*id);
            scope.is_some_and(|scope| asked.contains(&scope.body.name))
        });
        let ids = default.chain(optional);
        let scopes = ids.filter_map(|id| realm.scopes.get(id).cloned()).collect();
        Ok((client, scopes))
    }

    /// The mappers that apply to a client's tokens, with what each belongs to.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn evaluate_mappers(
        &self,
        realm: &Realm,
        id: &str,
        scope: Option<&str>,
    ) -> Result<Vec<Value>, Error> {
        let (client, scopes) = self.evaluated(realm, id, scope).await?;
        let show = |of: &str, name: &str, id: &str, mapper: &Rep| {
            json!({
                "mapperId": mapper.get("id"), "mapperName": mapper.get("name"),
                "containerId": id, "containerName": name, "containerType": of,
                "protocolMapper": mapper.get("protocolMapper"),
            })
        };
        let mut all = Vec::new();
        let body = &client.body;
        for mapper in &body.mappers {
            all.push(show("client", &body.client_id, &body.id, mapper));
        }
        for scope in scopes {
            for mapper in &scope.body.mappers {
                let (name, id) = (&scope.body.name, &scope.body.id);
                all.push(show("client-scope", name, id, mapper));
            }
        }
        Ok(all)
    }

    /// The roles of a container that may, or may not, be in a client's tokens.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn evaluate_roles(
        &self,
        realm: &Realm,
        id: &str,
        scope: Option<&str>,
        container: RoleContainer<'_>,
        granted: bool,
    ) -> Result<Vec<Rep>, Error> {
        let (client, scopes) = self.evaluated(realm, id, scope).await?;
        if client.body.rep.flag("fullScopeAllowed") {
            if !granted {
                return Ok(Vec::new());
            }
            let filter = RoleFilter {
                brief: true,
                ..RoleFilter::default()
            };
            return self.roles(realm.id(), container, &filter).await;
        }
        let scoped = scopes.iter().flat_map(|scope| &scope.body.scope_roles);
        let ids: Vec<String> = scoped.chain(&client.body.scope_roles).cloned().collect();
        let visible = self.expand(realm.id(), &ids).await?;
        let is_visible = |id: &str| visible.iter().any(|role| role.body.id == id);
        let own = RoleContainer::Client(&client.body.id) == container;
        if granted && !own {
            let inside = visible
                .iter()
                .filter(|role| roles::is_in(&role.body, container));
            return Ok(inside.map(|role| roles::render(&role.body, true)).collect());
        }
        let filter = RoleFilter {
            brief: true,
            ..RoleFilter::default()
        };
        let mut all = self.roles(realm.id(), container, &filter).await?;
        all.retain(|role| {
            let seen = own || is_visible(role.text("id").unwrap_or_default());
            seen == granted
        });
        Ok(all)
    }

    /// The claims that a client would get for a user.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`GrantError::Scope`] for a scope the client does not have.
    pub async fn evaluate_token(
        &self,
        realm: &Arc<Realm>,
        id: &str,
        user: &str,
        scope: Option<&str>,
        origin: Origin<'_>,
        example: Example,
    ) -> Result<Map<String, Value>, GrantError> {
        let (client, _) = self.evaluated(realm, id, scope).await?;
        let found = self.read::<UserBody>(kind::USER, realm.id(), user).await?;
        let (body, _) = found.ok_or(Error::Missing(Thing::User))?;
        let user = self.user(realm.id(), &body.id).await?;
        let user = user.ok_or(Error::Missing(Thing::User))?;
        let applied = apply_scopes(realm, &client, &user, scope)?;
        let issue = Issue {
            realm,
            client: &client,
            user: &user,
            applied: &applied,
            origin,
            notes: &[],
            login: None,
            nonce: None,
            audience: &[],
            grant: "na",
        };
        Ok(self.example(&issue, example).await?)
    }
}
