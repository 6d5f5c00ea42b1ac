//! How routes are matched, which decides on the fields they have.

use std::sync::OnceLock;

/// Kong's `router_flavor`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RouterFlavor {
    /// Routes of hosts, paths and so on, ranked by a number.
    #[default]
    TraditionalCompatible,
    /// The same routes as Kong before 3.0 ranked them: by categories.
    Traditional,
    /// Routes may have an expression instead.
    Expressions,
}

impl RouterFlavor {
    /// All of them.
    pub const ALL: [Self; 3] = [
        Self::TraditionalCompatible,
        Self::Traditional,
        Self::Expressions,
    ];

    /// The value of Kong's setting.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TraditionalCompatible => "traditional_compatible",
            Self::Traditional => "traditional",
            Self::Expressions => "expressions",
        }
    }

    /// The flavour of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flavor| flavor.name() == name)
    }
}

static SETTLED: OnceLock<RouterFlavor> = OnceLock::new();

/// The flavour of this process was settled before, as another one.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("this process matches routes as {} does", .0.name())]
pub struct FlavorSettled(pub RouterFlavor);

/// Makes `flavor` that of this process: as in Kong, it decides on the fields that routes have in
/// [`crate::entities`]. Whoever looks there before settles on the default.
///
/// # Errors
/// [`FlavorSettled`] when it is another one already.
pub fn settle_router_flavor(flavor: RouterFlavor) -> Result<(), FlavorSettled> {
    let settled = *SETTLED.get_or_init(|| flavor);
    if settled == flavor {
        Ok(())
    } else {
        Err(FlavorSettled(settled))
    }
}

/// The flavour of this process.
#[must_use]
pub fn router_flavor() -> RouterFlavor {
    *SETTLED.get_or_init(RouterFlavor::default)
}
