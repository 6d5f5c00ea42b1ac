//! Warnings of routes whose rank surprises those who have read Kong's documentation.

use super::Snapshot;

/// Pairs of routes that are named at once.
const WARNINGS_MAX: usize = 20;

impl Snapshot {
    /// Warns of pairs of routes one of which wins by Kong's arithmetic and the other by its
    /// documentation: of all that there are, or of those that one of `routes` takes part in.
    pub(crate) fn warn_of_divergences(&self, routes: Option<&[String]>) {
        let found = match routes {
            Some(ids) => {
                let ids = ids.iter().map(String::as_str);
                self.router.divergences(ids, WARNINGS_MAX)
            }
            None => self.router.all_divergences(WARNINGS_MAX),
        };
        for pair in &found {
            tracing::warn!(
                route.original = %pair.original.id,
                route.strict = %pair.strict.id,
                "which of the two routes wins depends on route_match_calculation"
            );
        }
        if found.len() == WARNINGS_MAX {
            tracing::warn!("further routes may depend on route_match_calculation");
        }
    }
}
