//! Calendar windows in UTC and the limits on them (spec gateway-plugins 3.1).

use http::header::HeaderName;
use o28m_core::Timestamp;
use serde::Deserialize;

const DAY_S: i64 = 86_400;

/// A unit of time that requests are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Period {
    Second,
    Minute,
    Hour,
    Day,
    Month,
    Year,
}

impl Period {
    pub(super) const COUNT: usize = 6;

    /// Kong's name, part of the counter's key.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// Life time of a counter in seconds; a month has 30 days and a year 365, as in Kong.
    pub(super) const fn length_s(self) -> i64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => DAY_S,
            Self::Month => 30 * DAY_S,
            Self::Year => 365 * DAY_S,
        }
    }

    /// Beginning of the window that holds `now`.
    pub(super) fn start(self, now: Timestamp) -> Timestamp {
        let seconds = now.seconds();
        let floor = |unit: i64| seconds - seconds.rem_euclid(unit);
        Timestamp::from_seconds(match self {
            Self::Second => seconds,
            Self::Minute => floor(60),
            Self::Hour => floor(3600),
            Self::Day => floor(DAY_S),
            Self::Month => {
                let (day_of_month, _) = place_in_calendar(seconds.div_euclid(DAY_S));
                floor(DAY_S) - day_of_month * DAY_S
            }
            Self::Year => {
                let (_, day_of_year) = place_in_calendar(seconds.div_euclid(DAY_S));
                floor(DAY_S) - day_of_year * DAY_S
            }
        })
    }

    /// Names of the headers with the limit and what remains of it.
    pub(super) const fn headers(self) -> (HeaderName, HeaderName) {
        let (limit, remaining) = match self {
            Self::Second => ("x-ratelimit-limit-second", "x-ratelimit-remaining-second"),
            Self::Minute => ("x-ratelimit-limit-minute", "x-ratelimit-remaining-minute"),
            Self::Hour => ("x-ratelimit-limit-hour", "x-ratelimit-remaining-hour"),
            Self::Day => ("x-ratelimit-limit-day", "x-ratelimit-remaining-day"),
            Self::Month => ("x-ratelimit-limit-month", "x-ratelimit-remaining-month"),
            Self::Year => ("x-ratelimit-limit-year", "x-ratelimit-remaining-year"),
        };
        (
            HeaderName::from_static(limit),
            HeaderName::from_static(remaining),
        )
    }
}

/// Days since the first of the month and since the first of January, for a day counted from the epoch
/// (Gregorian calendar; years are taken to begin in March, so that the leap day is the last one).
fn place_in_calendar(day: i64) -> (i64, i64) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    /// From the first of March of year 0 to the epoch.
    const EPOCH: i64 = 719_468;
    let in_era = (day + EPOCH).rem_euclid(DAYS_OF_400_YEARS);
    let year_of_era =
        (in_era - in_era / 1460 + in_era / 36_524 - in_era / (DAYS_OF_400_YEARS - 1)) / 365;
    let since_march = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * since_march + 2) / 153;
    let day_of_month = since_march - (153 * month_from_march + 2) / 5;
    let is_leap = year_of_era % 4 == 0 && (year_of_era % 100 != 0 || year_of_era == 0);
    let march_first = 31 + 28 + i64::from(is_leap);
    let day_of_year = if month_from_march < 10 {
        march_first + since_march
    } else {
        since_march - 306
    };
    (day_of_month, day_of_year)
}

/// How many requests each period admits.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Limits {
    second: Option<f64>,
    minute: Option<f64>,
    hour: Option<f64>,
    day: Option<f64>,
    month: Option<f64>,
    year: Option<f64>,
}

impl Limits {
    /// The limits that are set, shortest period first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Period, f64)> + use<> {
        [
            (Period::Second, self.second),
            (Period::Minute, self.minute),
            (Period::Hour, self.hour),
            (Period::Day, self.day),
            (Period::Month, self.month),
            (Period::Year, self.year),
        ]
        .into_iter()
        .filter_map(|(period, limit)| Some((period, limit?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_begin_where_the_calendar_says() {
        for (now, period, start) in [
            (1_800_000_059, Period::Second, 1_800_000_059),
            (1_800_000_059, Period::Minute, 1_800_000_000),
            (1_800_003_601, Period::Hour, 1_800_003_600),
            (1_800_000_000, Period::Day, 1_799_971_200),
            // 15 January 2027
            (1_800_000_000, Period::Month, 1_798_761_600),
            (1_800_000_000, Period::Year, 1_798_761_600),
            // 29 February 2024, and the last second of that year
            (1_709_208_000, Period::Month, 1_706_745_600),
            (1_709_208_000, Period::Year, 1_704_067_200),
            (1_735_689_599, Period::Month, 1_733_011_200),
            (1_735_689_599, Period::Year, 1_704_067_200),
            // 1 March of 2100, which has no leap day, and of 2000, which has one
            (4_107_542_400, Period::Month, 4_107_542_400),
            (4_107_542_400, Period::Year, 4_102_444_800),
            (951_868_800, Period::Month, 951_868_800),
            (951_868_800, Period::Year, 946_684_800),
        ] {
            let found = period.start(Timestamp::from_seconds(now));
            assert_eq!(found.seconds(), start, "{period:?} of {now}");
        }
        let millis = Timestamp::from_millis(1_800_000_059_999);
        assert_eq!(Period::Second.start(millis).millis(), 1_800_000_059_000);
    }
}
