//! Entry points of the fuzz targets: each takes any bytes and panics when a promise is broken. The same
//! functions run over the committed inputs in an ordinary test.

use std::sync::Arc;

use o28m_kong::expression::Expression;
use o28m_kong::{Route, RouterFlavor};

use super::{Slow, random};
use crate::host::{Host, HostPattern};
use crate::{Calculation, RequestHead, Router, normalise_path, upstream_path};

/// What takes an input; it panics when a promise is broken.
pub type Target = fn(&[u8]);

/// Name and entry point of each target.
pub const TARGETS: &[(&str, Target)] = &[
    ("path", path),
    ("host", host),
    ("expression", expression),
    ("router", router),
];

/// A request path: it is normalised once and for all, climbs nowhere, and can be sent.
///
/// # Panics
/// When that is not so.
pub fn path(data: &[u8]) {
    let Ok(raw) = std::str::from_utf8(data) else {
        return;
    };
    let (raw, service) = raw.split_once('\n').unwrap_or((raw, "/"));
    let Ok(normal) = normalise_path(raw) else {
        return;
    };
    assert!(
        normal.starts_with('/') && !normal.contains("//"),
        "{normal:?}"
    );
    let climbs = |path: &str| path.split('/').any(|it| matches!(it, "." | ".."));
    assert!(!climbs(&normal), "{normal:?}");
    assert!(
        normalise_path(&normal).is_ok_and(|again| again == normal),
        "{normal:?} is not the end of it"
    );
    for (matched, strip) in [("", false), ("/", true), (&*normal, true)] {
        let target = upstream_path(Some(service), &normal, matched, strip);
        assert!(target.bytes().all(|it| it.is_ascii_graphic()), "{target:?}");
        let own = upstream_path(None, &normal, matched, strip);
        assert!(own.starts_with('/') && !climbs(&own), "{own:?}");
        let mut v1 = String::new();
        crate::write_upstream_path_v1(&mut v1, None, &normal, matched, strip);
        assert!(
            v1.starts_with('/') && !v1.starts_with("//") && !climbs(&v1),
            "{v1:?}"
        );
    }
    // What is sent means what was matched.
    let sent = upstream_path(None, &normal, "", false);
    assert!(
        normalise_path(&sent).is_ok_and(|again| again == normal),
        "{normal:?} is sent as {sent:?}"
    );
}

/// A `Host` value, and a route's host after a line break: names and ports are taken apart without loss,
/// and the index finds what a comparison does.
///
/// # Panics
/// When that is not so.
pub fn host(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (value, pattern) = text.split_once('\n').unwrap_or((text, "*.example.com"));
    let refused = o28m_kong::route_host_complaint(pattern).is_some();
    if !value.bytes().all(|it| it.is_ascii_graphic()) || refused {
        return;
    }
    let parsed = Host::parse(value, 8000);
    let rest = value.strip_prefix(parsed.raw).unwrap_or("\0");
    let port = rest.strip_prefix(':').unwrap_or(rest);
    assert!(port.bytes().all(|it| it.is_ascii_digit()), "{value:?}");
    assert!(
        parsed.name.bytes().all(|it| !it.is_ascii_uppercase()),
        "{value:?}"
    );
    let again = HostPattern::parse(value);
    if !value.contains('*') && !parsed.name.is_empty() {
        assert!(again.matches(&parsed), "{value:?} is not itself");
    }
    let route = Arc::new(Route {
        id: "5be9e150-ffe6-4b42-adfe-144e91cc656d".to_owned(),
        hosts: Some(vec![pattern.to_owned()]),
        ..Route::default()
    });
    for flavor in RouterFlavor::ALL {
        compare(std::slice::from_ref(&route), flavor, &|router, slow| {
            let request = random::request(&mut |_| 0);
            let head = RequestHead {
                host: value,
                ..request.head()
            };
            same(router, slow, &head);
        });
    }
}

/// An expression: it prints as what it was read from, and can be evaluated when it is sound.
///
/// # Panics
/// When that is not so.
pub fn expression(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let expression = match Expression::parse(text) {
        Ok(expression) => expression,
        Err(error) => {
            assert!(
                error.to_string().contains("-->"),
                "a refusal shows the place"
            );
            return;
        }
    };
    let printed = expression.to_string();
    assert!(
        Expression::parse(&printed).is_ok_and(|again| again == expression),
        "{text:?} prints as {printed:?}"
    );
    let route = Arc::new(Route {
        id: "5be9e150-ffe6-4b42-adfe-144e91cc656d".to_owned(),
        expression: Some(text.to_owned()),
        ..Route::default()
    });
    compare(
        std::slice::from_ref(&route),
        RouterFlavor::Expressions,
        &|router, slow| {
            let mut state = 0;
            for _ in 0..8 {
                let request = random::request(&mut |below| next(&mut state) % below);
                same(router, slow, &request.head());
            }
        },
    );
}

/// A set of routes and requests: the index finds what a look at every route does, whatever was added and
/// removed before.
///
/// # Panics
/// When that is not so.
pub fn router(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let flavor = match first % 3 {
        0 => RouterFlavor::TraditionalCompatible,
        1 => RouterFlavor::Traditional,
        _ => RouterFlavor::Expressions,
    };
    let mut bytes = rest.iter();
    let mut choose = |below: usize| usize::from(bytes.next().copied().unwrap_or(0)) % below;
    let routes = random::routes(&mut choose, flavor, 8);
    let requests: Vec<_> = (0..6).map(|_| random::request(&mut choose)).collect();
    compare(&routes, flavor, &|router, slow| {
        for request in &requests {
            same(router, slow, &request.head());
        }
    });
}

/// Under both calculations, and again after everything was replaced and half of it removed.
fn compare(routes: &[Arc<Route>], flavor: RouterFlavor, check: &dyn Fn(&Router, &Slow)) {
    for calculation in [Calculation::Original, Calculation::Strict] {
        let mut router = Router::with(flavor, calculation);
        let sound: Vec<_> = routes
            .iter()
            .filter(|it| router.check(it).is_ok())
            .cloned()
            .collect();
        for route in sound.iter().chain(&sound) {
            assert!(router.add(route.clone()).is_ok(), "it was sound");
        }
        let slow = Slow::new(&sound, flavor, calculation);
        check(&router, &slow);
        let (gone, kept) = sound.split_at_checked(sound.len() / 2).unwrap_or_default();
        for route in gone {
            router.take_out(&route.id);
        }
        check(
            &router,
            &slow.among(&|id| kept.iter().any(|it| it.id == id)),
        );
        for route in kept {
            router.take_out(&route.id);
        }
        assert!(
            router.is_empty() && router.is_clean(),
            "nothing is left behind"
        );
    }
}

fn same(router: &Router, slow: &Slow, head: &RequestHead<'_>) {
    let found = router.find(head);
    let found = found.map(|it| (it.route.id.clone(), it.prefix_length));
    assert_eq!(
        found,
        slow.find(head),
        "{} {} {} {:?}",
        head.method,
        head.host,
        head.path,
        head.server_name
    );
}

/// A sequence of numbers that looks random.
pub(crate) fn next(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    usize::try_from((mixed ^ (mixed >> 31)) >> 33).unwrap_or_default()
}
