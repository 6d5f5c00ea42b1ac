//! Lists of ids in entities: who is in one cannot be deleted (spec gateway-admin 5.4).

use o28m_kong::{Entity, entities};
use o28m_store::Query;

use crate::api::Api;
use crate::object::listed_value;
use crate::problem::Problem;

impl Api {
    /// Refuses when the id is in a list of another entity.
    pub(crate) async fn check_unlisted(&self, entity: &Entity, id: &str) -> Result<(), Problem> {
        for holder in entities() {
            for list in holder.lists.iter().filter(|it| it.entity == entity.name) {
                let start = listed_value(id, "");
                let query = Query {
                    kind: holder.name,
                    by_key: Some(list.field),
                    after: Some(&start),
                    limit: 1,
                    ..Query::default()
                };
                let found = self.store().list(&query).await?;
                let has = |ids: &serde_json::Value| {
                    let mut ids = ids.as_array().into_iter().flatten();
                    ids.any(|it| it == id)
                };
                let holding = found
                    .into_iter()
                    .find(|it| it.body.get(list.field).is_some_and(has));
                if let Some(holding) = holding {
                    return Err(Problem::StillListed {
                        id: id.to_owned(),
                        by: holder.name,
                        holder: holding.id,
                    });
                }
            }
        }
        Ok(())
    }
}
