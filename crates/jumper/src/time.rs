//! Times in messages.

use o28m_core::Timestamp;

/// `2026-07-20T12:34:56.789Z`. Years before 0 and after 9999 are shown as they are.
pub(crate) fn iso(time: Timestamp) -> String {
    let (millis, seconds) = (time.millis().rem_euclid(1000), time.seconds());
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of a day counted from 1970-01-01. Years are counted from March, so that the
/// leap day is their last one.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// An ISO 8601 duration as Java prints it, such as `PT1M1S`.
pub(crate) fn iso_duration(duration: std::time::Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    let mut text = "PT".to_owned();
    for (amount, unit) in [(seconds / 3600, 'H'), (seconds / 60 % 60, 'M')] {
        if amount > 0 {
            text.push_str(&format!("{amount}{unit}"));
        }
    }
    if millis > 0 {
        let fraction = format!("{millis:03}");
        let fraction = fraction.trim_end_matches('0');
        text.push_str(&format!("{}.{fraction}S", seconds % 60));
    } else if seconds % 60 > 0 || seconds == 0 {
        text.push_str(&format!("{}S", seconds % 60));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_and_durations_read_as_in_java() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_123, "2000-02-29T00:00:00.123Z"),
            (1_784_550_896_789, "2026-07-20T12:34:56.789Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(iso(Timestamp::from_millis(millis)), text);
        }
        for (millis, text) in [
            (61_000, "PT1M1S"),
            (5_000, "PT5S"),
            (3_600_000, "PT1H"),
            (250, "PT0.25S"),
            (0, "PT0S"),
        ] {
            assert_eq!(iso_duration(Duration::from_millis(millis)), text);
        }
    }
}
