//! Login events, admin events and brute force protection.

use o28m_iris::{Error, EventFilter, Permission, representation};

use super::{Context, Entry, entries};
use crate::reply::{admin_json, no_content};
use crate::router::Route;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Served below a realm.
pub(crate) const ROUTES: &[Route<Entry>] = entries! {
    GET "events" ViewEvents Nothing |c| {
        let filter = EventFilter {
            kinds: c.all("type"),
            client: c.owned("client"),
            user: c.owned("user"),
            address: c.owned("ipAddress"),
            ..common(c)
        };
        Ok(admin_json(&c.iris.login_events(c.realm, &filter).await?))
    };
    DELETE "events" ManageEvents Nothing |c| {
        c.iris.clear_events(c.realm, false).await?;
        Ok(no_content())
    };
    GET "admin-events" ViewEvents Nothing |c| {
        let filter = EventFilter {
            kinds: c.all("operationTypes"),
            resources: c.all("resourceTypes"),
            realm: c.owned("authRealm"),
            client: c.owned("authClient"),
            user: c.owned("authUser"),
            address: c.owned("authIpAddress"),
            path: c.owned("resourcePath"),
            ..common(c)
        };
        Ok(admin_json(&c.iris.admin_events(c.realm, &filter).await?))
    };
    DELETE "admin-events" ManageEvents Nothing |c| {
        c.iris.clear_events(c.realm, true).await?;
        Ok(no_content())
    };
    GET "events/config" ViewEvents Nothing |c| Ok(admin_json(&c.iris.events_config(c.realm).await?));
    PUT "events/config" ManageEvents Json |c| {
        c.iris.update_realm(c.realm, c.rep(&representation::EVENTS_CONFIG)?).await?;
        Ok(no_content())
    };
    GET "attack-detection/brute-force/users/{}" QueryUsers Nothing |c| {
        may_view(c)?;
        Ok(admin_json(&c.iris.brute_force_status(c.realm, c.arg(0)).await?))
    };
    DELETE "attack-detection/brute-force/users/{}" ManageUsers Nothing |c| {
        c.iris.clear_failures(c.realm, Some(c.arg(0))).await?;
        Ok(no_content())
    };
    DELETE "attack-detection/brute-force/users" ManageUsers Nothing |c| {
        c.iris.clear_failures(c.realm, None).await?;
        Ok(no_content())
    };
};

fn may_view(context: &Context<'_>) -> Result<(), Error> {
    let may = context.caller.may(Permission::ViewUsers);
    may.then_some(()).ok_or(Error::Forbidden)
}

/// The parts of a filter that both kinds of events have.
fn common(context: &Context<'_>) -> EventFilter {
    EventFilter {
        from_ms: context.query("dateFrom").and_then(|text| time(text, 0)),
        to_ms: context
            .query("dateTo")
            .and_then(|text| time(text, DAY_MS - 1)),
        ascending: context.query("direction") == Some("asc"),
        first: context.number("first").unwrap_or_default(),
        max: context.number("max"),
        ..EventFilter::default()
    }
}

/// Milliseconds since the epoch: a number of them, or a day such as `2026-05-17` and `rest` of it.
fn time(text: &str, rest: i64) -> Option<i64> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let mut parts = text.split('-').map(str::parse::<i64>);
    let (year, month, day) = (
        parts.next()?.ok()?,
        parts.next()?.ok()?,
        parts.next()?.ok()?,
    );
    let fits = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && parts.next().is_none();
    fits.then(|| days(year, month, day) * DAY_MS + rest)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years start in March here, so that a leap day is the last one of its year.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_milliseconds_are_times() {
        assert_eq!(time("1970-01-02", 0), Some(DAY_MS));
        assert_eq!(time("2000-03-01", 0), Some(951_868_800_000));
        assert_eq!(time("2026-11-24", DAY_MS - 1), Some(1_795_564_799_999));
        assert_eq!(time("1234", 5), Some(1234));
        for bad in ["", "2026", "2026-13-01", "x-y-z", "2026-01-01-01"] {
            assert!(bad == "2026" || time(bad, 0).is_none(), "{bad}");
        }
    }
}
