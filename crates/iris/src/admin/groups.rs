//! Groups: the tree, its members, and the groups new users join (Keycloak 26.5 `GroupsResource`).

use o28m_store::{Filter, Query, Test, Write};
use serde_json::{Value, json};

use crate::admin::{Others, check_length, taken};
use crate::model::{Fields as _, GroupBody, RealmBody, Rep, Stored as _, UserBody, kind, role_key};
use crate::{Caller, Error, Invalid, Iris, Thing, representation};

/// Sub-groups a list gives unless it says otherwise (Keycloak 26.5).
const CHILDREN_DEFAULT: u32 = 10;
/// Groups a path may go through.
const DEPTH_MAX: usize = 64;

/// Which groups to list.
#[derive(Clone, Debug, Default)]
pub struct GroupFilter {
    /// Only names that contain this.
    pub search: Option<String>,
    /// Compare whole names.
    pub exact: bool,
    /// Leave out this many first.
    pub first: u32,
    /// At most this many.
    pub max: Option<u32>,
    /// Without attributes and roles.
    pub brief: bool,
    /// Show what a search finds below the groups it is in.
    pub hierarchy: bool,
}

/// The path of a group below another one's.
fn path_below(path: &str, name: &str) -> String {
    format!("{path}/{name}")
}

fn key(group: &GroupBody) -> String {
    role_key(group.container(), &group.name)
}

/// A pattern of folded names.
fn pattern(filter: &GroupFilter) -> Option<String> {
    let text = filter.search.as_ref()?.to_lowercase();
    Some(if filter.exact {
        text
    } else {
        format!("*{text}*")
    })
}

fn named<'a>(pattern: Option<&'a String>) -> Vec<Vec<Filter<'a>>> {
    let filter = pattern.map(|pattern| Filter {
        path: vec!["find"],
        test: Test::Fits(pattern),
    });
    filter.map(|filter| vec![filter]).into_iter().collect()
}

/// Sets what was sent; the name is checked.
fn apply(group: &mut GroupBody, rep: &Rep) -> Result<(), Error> {
    if let Some(name) = rep.text("name") {
        if name.is_empty() {
            return Err(Error::Invalid(Invalid::Required("name")));
        }
        check_length("name", name)?;
        name.clone_into(&mut group.name);
    }
    check_length("description", rep.text("description").unwrap_or_default())?;
    for field in ["description", "attributes"] {
        if let Some(value) = rep.get(field) {
            group.rep.insert(field.to_owned(), value.clone());
        }
    }
    Ok(())
}

/// A group to make.
pub(crate) fn draft(
    realm_id: &str,
    parent: Option<String>,
    rep: &Rep,
    ambient: &o28m_core::Ambient,
) -> Result<GroupBody, Error> {
    let sent = rep.text("id").filter(|id| o28m_core::id::is_uuid(id));
    let mut group = GroupBody {
        id: sent.map_or_else(|| ambient.uuid(), str::to_owned),
        realm: realm_id.to_owned(),
        parent,
        ..GroupBody::default()
    };
    if rep.text("name").is_none() {
        return Err(Error::Invalid(Invalid::Required("name")));
    }
    apply(&mut group, rep)?;
    Ok(group)
}

impl Iris {
    pub(crate) async fn group_body(&self, realm_id: &str, id: &str) -> Result<GroupBody, Error> {
        let found = self.read::<GroupBody>(kind::GROUP, realm_id, id).await?;
        found
            .map(|(body, _)| body)
            .ok_or(Error::Missing(Thing::Group))
    }

    async fn path_of(&self, group: &GroupBody) -> Result<String, Error> {
        let above = match &group.parent {
            Some(parent) => self.group(&group.realm, parent).await?,
            None => None,
        };
        let above = above.map(|group| group.path.clone()).unwrap_or_default();
        Ok(path_below(&above, &group.name))
    }

    async fn children_count(&self, realm_id: &str, group: &str) -> Result<u64, Error> {
        let query = Query {
            kind: kind::GROUP,
            owner: Some(realm_id),
            reference: Some(("container", group)),
            ..Query::default()
        };
        Ok(self.store.count(&query).await?)
    }

    /// The representation of a group, without its sub-groups.
    pub(crate) async fn render_group(&self, group: GroupBody, brief: bool) -> Result<Rep, Error> {
        let path = self.path_of(&group).await?;
        let count = self.children_count(&group.realm, &group.id).await?;
        let mut rep = Rep::new();
        let mut set = |name: &str, value: Value| rep.insert(name.to_owned(), value);
        set("id", json!(group.id));
        set("name", json!(group.name));
        if let Some(text) = group.rep.get("description") {
            set("description", text.clone());
        }
        set("path", json!(path));
        if let Some(parent) = &group.parent {
            set("parentId", json!(parent));
        }
        set("subGroupCount", json!(count));
        set("subGroups", json!([]));
        let access = json!({
            "view": true, "viewMembers": true, "manageMembers": true, "manage": true,
            "manageMembership": true,
        });
        set("access", access);
        if !brief {
            let attributes = group.rep.get("attributes").cloned();
            set("attributes", attributes.unwrap_or_else(|| json!({})));
            let (realm, clients) = self.role_names(&group.realm, &group.roles).await?;
            set("realmRoles", json!(realm));
            set("clientRoles", json!(clients));
        }
        Ok(representation::GROUP.arrange(rep))
    }

    /// Names of roles: those of the realm, and those of clients by `clientId`.
    pub(crate) async fn role_names(
        &self,
        realm_id: &str,
        ids: &[String],
    ) -> Result<(Vec<String>, std::collections::BTreeMap<String, Vec<String>>), Error> {
        let mut realm = Vec::new();
        let mut clients = std::collections::BTreeMap::<String, Vec<String>>::new();
        for id in ids {
            let Some(role) = self.role(realm_id, id).await? else {
                continue;
            };
            let name = role.body.name.clone();
            match &role.client_id {
                Some(client) => clients.entry(client.clone()).or_default().push(name),
                None => realm.push(name),
            }
        }
        Ok((realm, clients))
    }

    async fn render_groups(&self, groups: Vec<GroupBody>, brief: bool) -> Result<Vec<Rep>, Error> {
        let mut reps = Vec::new();
        for group in groups {
            reps.push(self.render_group(group, brief).await?);
        }
        Ok(reps)
    }

    /// Top-level groups; with a search, every group that it finds.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn groups(&self, realm_id: &str, filter: &GroupFilter) -> Result<Vec<Rep>, Error> {
        let pattern = pattern(filter);
        let query = Query {
            kind: kind::GROUP,
            owner: Some(realm_id),
            reference: pattern.is_none().then_some(("container", realm_id)),
            by_key: Some("name"),
            filters: named(pattern.as_ref()),
            ..Query::default()
        };
        let found = self
            .read_by_name(kind::GROUP, query, filter.first, filter.max, key)
            .await?;
        if pattern.is_none() || !filter.hierarchy {
            return self.render_groups(found, filter.brief).await;
        }
        let mut tops: Vec<Node> = Vec::new();
        for group in found {
            self.plant(&mut tops, group, filter.brief).await?;
        }
        Ok(tops.into_iter().map(Node::into_rep).collect())
    }

    /// Puts a group into a forest, below the groups it is in.
    async fn plant(
        &self,
        tops: &mut Vec<Node>,
        group: GroupBody,
        brief: bool,
    ) -> Result<(), Error> {
        let mut chain = Vec::new();
        if let Some(compiled) = self.group(&group.realm, &group.id).await? {
            chain.extend(compiled.above.iter().rev().cloned());
        }
        chain.push(group);
        let mut level = tops;
        for group in chain {
            let known = level.iter().position(|node| node.id == group.id);
            let at = known.unwrap_or(level.len());
            if known.is_none() {
                let id = group.id.clone();
                let rep = self.render_group(group, brief).await?;
                let below = Vec::new();
                level.push(Node { id, rep, below });
            }
            let Some(node) = level.get_mut(at) else {
                return Ok(());
            };
            level = &mut node.below;
        }
        Ok(())
    }

    /// How many groups a realm has, or a search finds.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn group_count(
        &self,
        realm_id: &str,
        search: Option<&str>,
        top: bool,
    ) -> Result<u64, Error> {
        let pattern = search.map(|text| format!("*{}*", text.to_lowercase()));
        let query = Query {
            kind: kind::GROUP,
            owner: Some(realm_id),
            reference: top.then_some(("container", realm_id)),
            filters: named(pattern.as_ref()),
            ..Query::default()
        };
        Ok(self.store.count(&query).await?)
    }

    /// One group.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn group_representation(&self, realm_id: &str, id: &str) -> Result<Rep, Error> {
        let group = self.group_body(realm_id, id).await?;
        self.render_group(group, false).await
    }

    /// The id of the group at a path such as `a/b`.
    pub(crate) async fn group_at(
        &self,
        realm_id: &str,
        path: &str,
    ) -> Result<Option<String>, Error> {
        let mut container = realm_id.to_owned();
        let names = path.split('/').filter(|name| !name.is_empty());
        let mut found = None;
        for name in names.take(DEPTH_MAX) {
            let key = role_key(&container, name);
            let group = self
                .read_by_key::<GroupBody>(kind::GROUP, realm_id, "name", &key)
                .await?;
            let Some(group) = group else { return Ok(None) };
            container.clone_from(&group.id);
            found = Some(group.id);
        }
        Ok(found)
    }

    /// The group at a path.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn group_by_path(&self, realm_id: &str, path: &str) -> Result<Rep, Error> {
        let found = self.group_at(realm_id, path).await?;
        let id = found.ok_or(Error::Missing(Thing::GroupPath))?;
        self.group_representation(realm_id, &id).await
    }

    /// The groups in a group.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn child_groups(
        &self,
        realm_id: &str,
        id: &str,
        filter: &GroupFilter,
    ) -> Result<Vec<Rep>, Error> {
        self.group_body(realm_id, id).await?;
        let pattern = pattern(filter);
        let query = Query {
            kind: kind::GROUP,
            owner: Some(realm_id),
            reference: Some(("container", id)),
            by_key: Some("name"),
            filters: named(pattern.as_ref()),
            ..Query::default()
        };
        let max = Some(filter.max.unwrap_or(CHILDREN_DEFAULT));
        let found = self
            .read_by_name(kind::GROUP, query, filter.first, max, key)
            .await?;
        self.render_groups(found, filter.brief).await
    }

    /// Makes a group in another one or at the top, or moves the one whose id was sent there; gives its
    /// id and whether it was made.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Exists`], [`Error::Invalid`].
    pub async fn put_group(
        &self,
        realm_id: &str,
        parent: Option<&str>,
        rep: &Rep,
    ) -> Result<(String, bool), Error> {
        if let Some(parent) = parent {
            self.group_body(realm_id, parent).await?;
        }
        let thing = if parent.is_some() {
            Thing::ChildGroup
        } else {
            Thing::Group
        };
        if let Some(id) = rep.text("id")
            && let Some(known) = self.group(realm_id, id).await?
        {
            self.move_group(realm_id, &known.body, parent, thing)
                .await?;
            return Ok((known.body.id.clone(), false));
        }
        let group = draft(realm_id, parent.map(str::to_owned), rep, &self.ambient)?;
        match self
            .write(realm_id, vec![Write::Insert(group.object())])
            .await
        {
            Ok(()) => Ok((group.id, true)),
            Err(error) => Err(taken(error, thing, &group.name, false)),
        }
    }

    async fn move_group(
        &self,
        realm_id: &str,
        group: &GroupBody,
        parent: Option<&str>,
        thing: Thing,
    ) -> Result<(), Error> {
        if let Some(parent) = parent {
            let above = self.group(realm_id, parent).await?;
            let above = above.ok_or(Error::Missing(Thing::Group))?;
            let circle = std::iter::once(&above.body)
                .chain(&above.above)
                .any(|body| body.id == group.id);
            if circle {
                return Err(Error::Invalid(Invalid::GroupCircle));
            }
        }
        let change = |body: &mut GroupBody| -> Result<Others, Error> {
            body.parent = parent.map(str::to_owned);
            Ok(Vec::new())
        };
        let changed = self
            .change::<GroupBody>(realm_id, &group.id, Thing::Group, change)
            .await;
        match changed {
            Ok(_) => Ok(()),
            Err(Error::Store(error)) => Err(taken(error, thing, &group.name, false)),
            Err(error) => Err(error),
        }
    }

    /// Changes name, description and attributes of a group.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Exists`], [`Error::Invalid`].
    pub async fn update_group(&self, realm_id: &str, id: &str, rep: &Rep) -> Result<(), Error> {
        let name = rep.text("name").unwrap_or_default();
        let change = |group: &mut GroupBody| apply(group, rep).map(|()| Vec::new());
        match self
            .change::<GroupBody>(realm_id, id, Thing::Group, change)
            .await
        {
            Ok(_) => Ok(()),
            Err(Error::Store(error)) => Err(taken(error, Thing::ChildGroup, name, true)),
            Err(error) => Err(error),
        }
    }

    /// Deletes a group with those in it; its members stay.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn delete_group(&self, realm_id: &str, id: &str) -> Result<(), Error> {
        self.group_body(realm_id, id).await?;
        let step = Write::Delete {
            kind: kind::GROUP,
            id: id.to_owned(),
        };
        Ok(self.write(realm_id, vec![step]).await?)
    }

    /// The direct members of a group.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn group_members(
        &self,
        realm_id: &str,
        id: &str,
        first: u32,
        max: Option<u32>,
        brief: bool,
    ) -> Result<Vec<Rep>, Error> {
        self.group_body(realm_id, id).await?;
        self.users_pointing(realm_id, ("group", id), first, max, brief)
            .await
    }

    /// The groups a user is a direct member of.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn user_groups(
        &self,
        realm_id: &str,
        user: &str,
        filter: &GroupFilter,
    ) -> Result<Vec<Rep>, Error> {
        let found = self.read::<UserBody>(kind::USER, realm_id, user).await?;
        let (user, _) = found.ok_or(Error::Missing(Thing::User))?;
        let search = filter.search.as_ref().map(|text| text.to_lowercase());
        let mut groups = Vec::new();
        for id in &user.groups {
            if let Some(group) = self.group(realm_id, id).await? {
                groups.push(group);
            }
        }
        groups.retain(|group| {
            let name = group.body.name.to_lowercase();
            search.as_ref().is_none_or(|text| name.contains(text))
        });
        groups.sort_by(|one, other| one.path.cmp(&other.path));
        let max = filter.max.map_or(usize::MAX, |max| max as usize);
        let page = groups.iter().skip(filter.first as usize).take(max);
        let bodies = page.map(|group| group.body.clone()).collect();
        self.render_groups(bodies, filter.brief).await
    }

    /// Refuses to put somebody into a group whose roles the caller may not give.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Forbidden`].
    pub async fn check_may_join(
        &self,
        caller: &Caller,
        realm_id: &str,
        realm: &str,
        group: &str,
    ) -> Result<(), Error> {
        let group = self.group(realm_id, group).await?;
        let group = group.ok_or(Error::Missing(Thing::Group))?;
        let all = std::iter::once(&group.body).chain(&group.above);
        let roles: Vec<String> = all.flat_map(|body| body.roles.iter().cloned()).collect();
        self.check_may_give(caller, realm_id, realm, &roles).await
    }

    /// Puts a user into a group, or takes them out.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn change_membership(
        &self,
        realm_id: &str,
        user: &str,
        group: &str,
        join: bool,
    ) -> Result<(), Error> {
        self.group_body(realm_id, group).await?;
        let change = |user: &mut UserBody| -> Result<Others, Error> {
            user.groups.retain(|id| id != group);
            if join {
                user.groups.push(group.to_owned());
            }
            Ok(Vec::new())
        };
        self.change::<UserBody>(realm_id, user, Thing::User, change)
            .await?;
        Ok(())
    }

    /// The groups new users join.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn default_groups(&self, realm_id: &str) -> Result<Vec<Rep>, Error> {
        let realm = self.realm_body(realm_id).await?;
        let mut groups = Vec::new();
        for id in &realm.default_groups {
            if let Some(group) = self.group(realm_id, id).await? {
                groups.push(group.body.clone());
            }
        }
        self.render_groups(groups, true).await
    }

    /// Makes new users join a group, or no longer.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn change_default_group(
        &self,
        realm_id: &str,
        group: &str,
        join: bool,
    ) -> Result<(), Error> {
        self.group_body(realm_id, group).await?;
        let change = |realm: &mut RealmBody| -> Result<Others, Error> {
            realm.default_groups.retain(|id| id != group);
            if join {
                realm.default_groups.push(group.to_owned());
            }
            Ok(Vec::new())
        };
        self.change::<RealmBody>(realm_id, realm_id, Thing::Realm, change)
            .await?;
        Ok(())
    }
}

/// A group in a tree that is being shown.
struct Node {
    id: String,
    rep: Rep,
    below: Vec<Node>,
}

impl Node {
    fn into_rep(mut self) -> Rep {
        let below: Vec<Rep> = self.below.into_iter().map(Self::into_rep).collect();
        self.rep.insert("subGroups".to_owned(), json!(below));
        self.rep
    }
}
