//! Every path of the Admin API, generated from the declared entities.

use o28m_kong::{Entity, Foreign, entities, entity};

use crate::operations::Operation;
use crate::targets::{self, TargetEndpoint};

/// What a path leads to.
#[derive(Clone, Copy)]
pub(crate) enum Endpoint {
    /// A fixed answer for GET.
    Page(Page),
    /// All entities of a kind, or those of a parent.
    Collection(Place),
    /// One of them.
    Single(Place),
    /// The entity that `place.entity`'s foreign key points to.
    Target(&'static Entity, &'static Foreign),
    /// Below an upstream.
    Targets(TargetEndpoint),
    /// `/tags` and `/tags/{tags}`.
    Tags,
    /// `/schemas/{entity}/validate`
    Validate,
    /// `/config`, without a database.
    Config,
    /// What looks into or acts on the node.
    Operation(Operation),
    /// Not available in this mode: status 400 with this message, whatever the method.
    Unavailable(&'static str),
}

/// Answers that need no body.
#[derive(Clone, Copy)]
pub(crate) enum Page {
    Root,
    Status,
    Endpoints,
    EnabledPlugins,
    ConfigVersion,
    EntitySchema,
    PluginSchema,
    VaultSchema,
    FilterSchema,
    Robots,
}

/// Where entities live.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) entity: &'static Entity,
    /// The entity in front of it in the path, and the key that points there.
    pub(crate) parent: Option<(&'static Entity, &'static Foreign)>,
}

impl Endpoint {
    /// Allowed methods, sorted, without HEAD and OPTIONS.
    pub(crate) const fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Page(_) => &["GET"],
            Self::Collection(_) => &["GET", "POST"],
            Self::Single(_) | Self::Target(..) | Self::Tags => &["DELETE", "GET", "PATCH", "PUT"],
            Self::Targets(endpoint) => endpoint.methods(),
            Self::Operation(operation) => operation.methods(),
            Self::Validate => &["POST"],
            Self::Unavailable(_) => &["DELETE", "GET", "PATCH", "POST", "PUT"],
            Self::Config => &["GET", "POST"],
        }
    }

    /// The value of `Allow`.
    pub(crate) fn allow(self) -> String {
        let mut methods = self.methods().to_vec();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        methods.push("OPTIONS");
        methods.sort_unstable();
        methods.join(", ")
    }
}

/// A path with parameters as `{name}`.
pub(crate) struct Pattern {
    pub(crate) segments: Vec<String>,
    pub(crate) endpoint: Endpoint,
}

impl Pattern {
    pub(crate) fn new(path: &str, endpoint: Endpoint) -> Self {
        let segments = path.split('/').filter(|segment| !segment.is_empty());
        Self {
            segments: segments.map(str::to_owned).collect(),
            endpoint,
        }
    }

    /// The path as `GET /endpoints` shows it.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.segments.join("/"))
    }

    /// The parameters when `segments` fit.
    fn find(&self, segments: &[String]) -> Option<Vec<String>> {
        if self.segments.len() != segments.len() {
            return None;
        }
        let mut parameters = Vec::new();
        for (own, given) in self.segments.iter().zip(segments) {
            if own.starts_with('{') {
                parameters.push(given.clone());
            } else if own != given {
                return None;
            }
        }
        Some(parameters)
    }
}

/// All paths; literal segments win over parameters.
pub(crate) struct Table {
    patterns: Vec<Pattern>,
}

const NO_CONTROL_PLANE: &str = "this endpoint is only available when Kong is configured to run as Control Plane for the cluster";
const HAS_DATABASE: &str =
    "this endpoint is only available when Kong is configured to not use a database";
const NO_WASM: &str = "this endpoint is only available when wasm is enabled";

impl Table {
    /// The fixed paths and those of every entity.
    pub(crate) fn new(has_database: bool) -> Self {
        let config = if has_database {
            Endpoint::Unavailable(HAS_DATABASE)
        } else {
            Endpoint::Config
        };
        let mut patterns: Vec<_> = [
            ("/", Endpoint::Page(Page::Root)),
            ("/status", Endpoint::Page(Page::Status)),
            ("/endpoints", Endpoint::Page(Page::Endpoints)),
            ("/plugins/enabled", Endpoint::Page(Page::EnabledPlugins)),
            ("/config-version", Endpoint::Page(Page::ConfigVersion)),
            ("/schemas/{name}", Endpoint::Page(Page::EntitySchema)),
            (
                "/schemas/plugins/{name}",
                Endpoint::Page(Page::PluginSchema),
            ),
            ("/schemas/vaults/{name}", Endpoint::Page(Page::VaultSchema)),
            (
                "/schemas/filters/{name}",
                Endpoint::Page(Page::FilterSchema),
            ),
            ("/plugins/schema/{name}", Endpoint::Page(Page::PluginSchema)),
            ("/robots.txt", Endpoint::Page(Page::Robots)),
            ("/schemas/{name}/validate", Endpoint::Validate),
            ("/schemas/plugins/validate", Endpoint::Validate),
            ("/schemas/vaults/validate", Endpoint::Validate),
            ("/timers", Endpoint::Operation(Operation::Timers)),
            ("/cache", Endpoint::Operation(Operation::Cache)),
            ("/cache/{key}", Endpoint::Operation(Operation::CacheKey)),
            ("/metrics", Endpoint::Operation(Operation::Metrics)),
            (
                "/debug/node/log-level",
                Endpoint::Operation(Operation::LogLevel),
            ),
            (
                "/debug/node/log-level/{log_level}",
                Endpoint::Operation(Operation::SetLogLevel { all_nodes: false }),
            ),
            (
                "/debug/cluster/log-level/{log_level}",
                Endpoint::Operation(Operation::SetLogLevel { all_nodes: true }),
            ),
            ("/tags", Endpoint::Tags),
            ("/tags/{tags}", Endpoint::Tags),
            ("/config", config),
            (
                "/clustering/status",
                Endpoint::Unavailable(NO_CONTROL_PLANE),
            ),
            (
                "/clustering/data-planes",
                Endpoint::Unavailable(NO_CONTROL_PLANE),
            ),
            ("/filter-chains", Endpoint::Unavailable(NO_WASM)),
            (
                "/filter-chains/{filter_chains}",
                Endpoint::Unavailable(NO_WASM),
            ),
            (
                "/routes/{routes}/filter-chains",
                Endpoint::Unavailable(NO_WASM),
            ),
            (
                "/services/{services}/filter-chains",
                Endpoint::Unavailable(NO_WASM),
            ),
        ]
        .into_iter()
        .map(|(path, endpoint)| Pattern::new(path, endpoint))
        .collect();
        for entity in entities() {
            patterns.extend(of_entity(entity));
        }
        // Literals before parameters, position by position.
        patterns.sort_by_key(|pattern| {
            let parameters = pattern
                .segments
                .iter()
                .map(|segment| segment.starts_with('{'));
            parameters.collect::<Vec<_>>()
        });
        Self { patterns }
    }

    /// The pattern of a path and its parameters.
    pub(crate) fn find(&self, segments: &[String]) -> Option<(&Pattern, Vec<String>)> {
        self.patterns
            .iter()
            .find_map(|pattern| Some((pattern, pattern.find(segments)?)))
    }

    /// Every path, sorted segment by segment.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut patterns: Vec<_> = self.patterns.iter().collect();
        patterns.sort_by(|a, b| a.segments.cmp(&b.segments));
        patterns.into_iter().map(Pattern::path).collect()
    }
}

fn of_entity(own: &'static Entity) -> Vec<Pattern> {
    if own.name == "targets" {
        return targets::patterns();
    }
    let parameter = |entity: &Entity| format!("{{{}}}", entity.name);
    let mut patterns = Vec::new();
    let mut place = |prefix: String, segment: &str, parent| {
        let place = Place {
            entity: own,
            parent,
        };
        let collection = format!("{prefix}/{segment}");
        let single = format!("{collection}/{}", parameter(own));
        patterns.push(Pattern::new(&collection, Endpoint::Collection(place)));
        patterns.push(Pattern::new(&single, Endpoint::Single(place)));
    };
    place(String::new(), own.path, None);
    for foreign in own.foreign {
        if let Some(parent) = entity(foreign.entity) {
            let prefix = format!("/{}/{}", parent.path, parameter(parent));
            place(prefix, own.nested_path, Some((parent, foreign)));
        }
    }
    // Kong does not lead from a server name to its certificate.
    for foreign in own.foreign.iter().filter(|_| own.name != "snis") {
        let path = format!("/{}/{}/{}", own.path, parameter(own), foreign.field);
        patterns.push(Pattern::new(&path, Endpoint::Target(own, foreign)));
    }
    patterns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(path: &str) -> Option<(Endpoint, Vec<String>)> {
        let segments: Vec<_> = path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(str::to_owned)
            .collect();
        let table = Table::new(true);
        let (pattern, parameters) = table.find(&segments)?;
        Some((pattern.endpoint, parameters))
    }

    #[test]
    fn paths_follow_from_the_declarations() {
        let (endpoint, parameters) = find("/routes/r/plugins/p").unwrap();
        assert_eq!(parameters, ["r", "p"]);
        assert_eq!(endpoint.allow(), "DELETE, GET, HEAD, OPTIONS, PATCH, PUT");
        assert!(matches!(
            endpoint,
            Endpoint::Single(Place {
                parent: Some(_),
                ..
            })
        ));
        assert!(matches!(
            find("/routes/r/service"),
            Some((Endpoint::Target(..), _))
        ));
        assert!(matches!(
            find("/plugins/enabled"),
            Some((Endpoint::Page(_), _))
        ));
        assert_eq!(
            find("/routes").unwrap().0.allow(),
            "GET, HEAD, OPTIONS, POST"
        );
        assert_eq!(find("/").unwrap().0.allow(), "GET, HEAD, OPTIONS");
        assert!(find("/nope").is_none());
        assert!(find("/workspaces").is_none());
    }

    #[test]
    fn the_list_of_paths_is_sorted() {
        let paths = Table::new(true).paths();
        assert_eq!(&paths[..3], ["/", "/acls", "/acls/{acls}"]);
        assert!(paths.contains(&"/consumers/{consumers}/acls/{acls}".to_owned()));
    }
}
