//! Everything a request needs to know of the configuration: immutable, swapped as a whole, updated
//! incrementally with structural sharing.

use std::sync::Arc;

use o28m_kong::Consumer;

/// The configuration of the data plane at one version.
pub struct Snapshot {}

impl Snapshot {
    /// The consumer of that id.
    #[must_use]
    pub fn consumer(&self, id: &str) -> Option<&Arc<Consumer>> {
        let _ = id;
        todo!()
    }

    /// The consumer of that custom id.
    #[must_use]
    pub fn consumer_by_custom_id(&self, custom_id: &str) -> Option<&Arc<Consumer>> {
        let _ = custom_id;
        todo!()
    }

    /// The consumer of that user name.
    #[must_use]
    pub fn consumer_by_username(&self, username: &str) -> Option<&Arc<Consumer>> {
        let _ = username;
        todo!()
    }

    /// ACL groups of a consumer, in the order they were made.
    #[must_use]
    pub fn groups(&self, consumer_id: &str) -> &[Arc<str>] {
        let _ = consumer_id;
        todo!()
    }
}
