//! Plugin instances and the rule which of them runs (spec gateway-plugins 1.2).

use std::sync::Arc;

use o28m_kong::PluginEntity;
use rpds::{HashTrieMapSync, RedBlackTreeSetSync};
use serde_json::Value;

use super::interned::Interned;
use super::{Id, QuickHash, number};
use crate::{BadConfig, Plugin, PluginKind};

/// The kinds of plugins of this process in execution order. The place in that order is the kind's
/// rank, and a set of ranks is a bit mask.
pub(crate) struct Kinds {
    kinds: Vec<Arc<dyn PluginKind>>,
    interned: Interned,
}

/// A kind with its rank.
pub(super) type Ranked<'a> = (u8, &'a Arc<dyn PluginKind>);

/// A set of ranks.
pub(crate) type Ranks = u128;

/// The highest rank is kept for plugins without a kind.
const CLOSED_RANK_MAX: u8 = 127;
const KINDS_MAX: usize = CLOSED_RANK_MAX as usize;

impl Kinds {
    pub(crate) fn new(mut kinds: Vec<Arc<dyn PluginKind>>) -> Self {
        kinds.sort_by(|left, right| {
            let key = |kind: &Arc<dyn PluginKind>| (kind.priority(), kind.name());
            key(right).cmp(&key(left))
        });
        if kinds.len() > KINDS_MAX {
            tracing::error!("more plugin kinds than can be ranked; the last ones are left out");
            kinds.truncate(KINDS_MAX);
        }
        Self {
            kinds,
            interned: Interned::default(),
        }
    }

    /// An instance for this entity, which may be one that others have already.
    pub(super) fn instantiate(
        &self,
        kind: &dyn PluginKind,
        entity: &PluginEntity,
    ) -> Result<Arc<dyn Plugin>, BadConfig> {
        if !kind.is_shareable() {
            return kind.instantiate(entity);
        }
        self.interned
            .get(kind.name(), &entity.config, || kind.instantiate(entity))
    }

    /// The rank of what stands in for plugins without a kind: the last, when the caller is known as
    /// well as can be.
    pub(super) fn closed_rank(&self) -> u8 {
        u8::try_from(self.kinds.len()).unwrap_or(CLOSED_RANK_MAX)
    }

    pub(super) fn find(&self, name: &str) -> Option<Ranked<'_>> {
        let at = self.kinds.iter().position(|kind| kind.name() == name)?;
        Some((u8::try_from(at).ok()?, self.kinds.get(at)?))
    }
}

/// A configured plugin.
pub(crate) struct Instance {
    pub(crate) rank: u8,
    pub(crate) name: &'static str,
    /// Id of the entity, for the log.
    pub(crate) id: Arc<str>,
    pub(crate) plugin: Arc<dyn Plugin>,
    /// Version of the entity it was made from.
    pub(super) version: i64,
    sound: bool,
    scope: Scope,
}

impl Instance {
    pub(super) fn new(
        entity: &PluginEntity,
        rank: u8,
        name: &'static str,
        plugin: Arc<dyn Plugin>,
        version: i64,
    ) -> Self {
        Self {
            rank,
            name,
            id: Arc::from(entity.id.as_str()),
            plugin,
            version,
            sound: true,
            scope: Scope::of(entity),
        }
    }

    /// Marks one that stands in for a plugin that cannot be configured.
    pub(super) fn unsound(mut self) -> Self {
        self.sound = false;
        self
    }

    /// It is what the entity asks for.
    pub(super) fn is_sound(&self) -> bool {
        self.sound
    }

    /// Stands in for a plugin without a kind.
    pub(super) fn closed(
        id: &str,
        rank: u8,
        scope: Scope,
        plugin: Arc<dyn Plugin>,
        version: i64,
    ) -> Self {
        Self {
            rank,
            name: "unusable",
            id: Arc::from(id),
            plugin,
            version,
            sound: false,
            scope,
        }
    }
}

/// What an instance is limited to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    route: Option<Id>,
    service: Option<Id>,
    consumer: Option<Id>,
}

impl Scope {
    fn of(entity: &PluginEntity) -> Self {
        let id = |key: &Option<o28m_kong::ForeignKey>| key.as_ref().map(|it| number(&it.id));
        Self {
            route: id(&entity.route),
            service: id(&entity.service),
            consumer: id(&entity.consumer),
        }
    }

    /// The scope of a document that is no plugin, so that it can be closed off. A reference that cannot
    /// be read limits nothing: the scope is too wide then, never too narrow.
    pub(super) fn guess(document: &Value) -> Self {
        let id = |field: &str| {
            let key = document.get(field)?;
            let id = key.get("id").unwrap_or(key);
            id.as_str().map(number)
        };
        Self {
            route: id("route"),
            service: id("service"),
            consumer: id("consumer"),
        }
    }
}

/// The instances of one scope: at most one for each rank.
#[derive(Clone, Default)]
pub(crate) struct Slots {
    ranks: Ranks,
    /// In order of rank, one for each bit.
    instances: Vec<Arc<Instance>>,
}

impl Slots {
    fn place(&self, rank: u8) -> usize {
        let below = (1_u128 << rank) - 1;
        (self.ranks & below).count_ones() as usize
    }

    fn get(&self, rank: u8) -> Option<&Arc<Instance>> {
        if self.ranks & (1 << rank) == 0 {
            return None;
        }
        self.instances.get(self.place(rank))
    }

    fn put(&mut self, instance: Arc<Instance>) {
        let (rank, place) = (instance.rank, self.place(instance.rank));
        if self.ranks & (1 << rank) == 0 {
            self.instances.insert(place, instance);
            self.ranks |= 1 << rank;
        } else if let Some(slot) = self.instances.get_mut(place) {
            *slot = instance;
        }
    }

    fn remove(&mut self, instance: &Instance) {
        let place = self.place(instance.rank);
        if self
            .get(instance.rank)
            .is_some_and(|it| it.id == instance.id)
        {
            self.instances.remove(place);
            self.ranks &= !(1 << instance.rank);
        }
    }
}

/// Every instance that is enabled.
#[derive(Clone, Default)]
pub(crate) struct Plugins {
    by_id: HashTrieMapSync<Arc<str>, Arc<Instance>>,
    by_scope: HashTrieMapSync<Scope, Slots, QuickHash>,
    global: Slots,
    /// The instances of a scope that stand in for plugins without a kind: these share a rank.
    closed: HashTrieMapSync<Scope, RedBlackTreeSetSync<Arc<str>>>,
    /// Instances by name.
    named: Vec<(&'static str, usize)>,
    /// Instances that need to know the bytes of each request.
    traffic: usize,
    /// Instances that show the health of targets.
    upstream_health: usize,
}

impl Plugins {
    pub(super) fn get(&self, id: &str) -> Option<&Arc<Instance>> {
        self.by_id.get(id)
    }

    /// An instance of that name is configured.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.named
            .iter()
            .any(|(it, count)| *it == name && *count > 0)
    }

    pub(crate) fn needs_traffic(&self) -> bool {
        self.traffic > 0
    }

    pub(crate) fn needs_upstream_health(&self) -> bool {
        self.upstream_health > 0
    }

    /// Counts an instance that came or went.
    fn count(&mut self, instance: &Instance, change: fn(usize, usize) -> usize) {
        let needs = instance.plugin.needs();
        self.traffic = change(self.traffic, needs.traffic.into());
        self.upstream_health = change(self.upstream_health, needs.upstream_health.into());
        match self.named.iter_mut().find(|(it, _)| *it == instance.name) {
            Some((_, count)) => *count = change(*count, 1),
            None => self.named.push((instance.name, change(0, 1))),
        }
    }

    pub(super) fn put(&mut self, instance: Arc<Instance>) {
        self.remove(&instance.id);
        self.count(&instance, usize::saturating_add);
        self.by_id.insert_mut(instance.id.clone(), instance.clone());
        self.put_in_slot(instance);
    }

    /// Takes in an instance of which a scope may have several.
    pub(super) fn put_closed(&mut self, instance: Arc<Instance>) {
        let (id, scope) = (instance.id.clone(), instance.scope);
        self.remove(&id);
        self.count(&instance, usize::saturating_add);
        self.by_id.insert_mut(id.clone(), instance);
        match self.closed.get_mut(&scope) {
            Some(ids) => ids.insert_mut(id),
            None => self.closed.insert_mut(scope, std::iter::once(id).collect()),
        }
        self.close(scope);
    }

    /// Puts the first of the instances that close a scope into its slot.
    fn close(&mut self, scope: Scope) {
        let ids = self.closed.get(&scope);
        let first = ids.and_then(|it| self.by_id.get(it.first()?)).cloned();
        match first {
            Some(first) => self.put_in_slot(first),
            None => drop(self.closed.remove_mut(&scope)),
        }
    }

    fn put_in_slot(&mut self, instance: Arc<Instance>) {
        if instance.scope == Scope::default() {
            self.global.put(instance);
        } else if let Some(slots) = self.by_scope.get_mut(&instance.scope) {
            slots.put(instance);
        } else {
            let (scope, mut slots) = (instance.scope, Slots::default());
            slots.put(instance);
            self.by_scope.insert_mut(scope, slots);
        }
    }

    pub(super) fn remove(&mut self, id: &str) {
        let Some(instance) = self.by_id.get(id).cloned() else {
            return;
        };
        self.by_id.remove_mut(id);
        self.count(&instance, usize::saturating_sub);
        self.take_from_slot(&instance);
        if !self.closed.is_empty() {
            self.take_from_closed(&instance);
        }
    }

    fn take_from_slot(&mut self, instance: &Instance) {
        if instance.scope == Scope::default() {
            self.global.remove(instance);
            return;
        }
        if let Some(slots) = self.by_scope.get_mut(&instance.scope) {
            slots.remove(instance);
            if slots.ranks == 0 {
                self.by_scope.remove_mut(&instance.scope);
            }
        }
    }

    /// The scope stays closed for as long as there is another instance that closes it.
    fn take_from_closed(&mut self, instance: &Instance) {
        let ids = self.closed.get_mut(&instance.scope);
        if ids.is_some_and(|it| it.remove_mut(&instance.id)) {
            self.close(instance.scope);
        }
    }

    /// The scopes that apply without a consumer.
    pub(crate) fn scopes(&self, route: Option<Id>, service: Option<Id>) -> Scopes<'_> {
        let mut scopes = Scopes {
            plugins: self,
            route,
            service,
            by_precedence: [None; 8],
            ranks: 0,
        };
        let find = |route, service| self.find(route, service, None);
        scopes.by_precedence = [
            None,
            None,
            None,
            route.and(service).and_then(|_| find(route, service)),
            None,
            route.and_then(|_| find(route, None)),
            service.and_then(|_| find(None, service)),
            Some(&self.global),
        ];
        scopes.count();
        scopes
    }

    fn find(&self, route: Option<Id>, service: Option<Id>, consumer: Option<Id>) -> Option<&Slots> {
        if self.by_scope.is_empty() {
            return None;
        }
        self.by_scope.get(&Scope {
            route,
            service,
            consumer,
        })
    }
}

/// The scopes that apply to a request, most specific first.
pub(crate) struct Scopes<'a> {
    plugins: &'a Plugins,
    route: Option<Id>,
    service: Option<Id>,
    by_precedence: [Option<&'a Slots>; 8],
    ranks: Ranks,
}

impl<'a> Scopes<'a> {
    /// Takes the caller into account from now on.
    pub(crate) fn set_consumer(&mut self, consumer_id: &str) {
        let consumer = Some(number(consumer_id));
        let (route, service) = (self.route, self.service);
        let find = |route, service| self.plugins.find(route, service, consumer);
        let both = route.and(service).and_then(|_| find(route, service));
        let with_route = route.and_then(|_| find(route, None));
        let with_service = service.and_then(|_| find(None, service));
        let alone = find(None, None);
        let [first, second, third, _, fifth, ..] = &mut self.by_precedence;
        (*first, *second, *third, *fifth) = (both, with_route, with_service, alone);
        self.count();
    }

    fn count(&mut self) {
        let present = self.by_precedence.iter().flatten();
        self.ranks = present.fold(0, |ranks, slots| ranks | slots.ranks);
    }

    /// The first rank at or after `from` that has an instance, and the most specific one of it.
    pub(crate) fn next(&self, from: u32) -> Option<&'a Arc<Instance>> {
        let left = self.ranks.checked_shr(from)?.checked_shl(from)?;
        if left == 0 {
            return None;
        }
        let rank = u8::try_from(left.trailing_zeros()).ok()?;
        let mut present = self.by_precedence.iter().flatten();
        present.find_map(|slots| slots.get(rank))
    }
}
