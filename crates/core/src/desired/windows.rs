//! The windows for snapshots and maintenance (rule V16): they are recorded, and still have to be windows.

use kagami_api::v1alpha1::ReplicationGroupSpec;

use super::Refusals;

const DAY: u32 = 24 * 60;
const WEEK: u32 = 7 * DAY;
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A span of minutes that may wrap around its day or week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    start: u32,
    length: u32,
}

pub(super) fn check(spec: &ReplicationGroupSpec, refusals: &mut Refusals) {
    let daily = spec.snapshot_window.as_deref().map(parse_daily);
    match daily {
        Some(None) => {
            refusals
                .value("snapshotWindow", "snapshotWindow must be a daily window in UTC such as 05:00-06:00.");
        }
        Some(Some(window)) if window.length < 60 => {
            refusals.value("snapshotWindow", "Snapshot window must be at least 60 minutes.");
        }
        _ => {}
    }
    let weekly = spec.preferred_maintenance_window.as_deref().map(parse_weekly);
    match weekly {
        Some(None) => refusals.value(
            "preferredMaintenanceWindow",
            "preferredMaintenanceWindow must be a weekly window in UTC such as sun:05:00-sun:06:00.",
        ),
        Some(Some(window)) if !(60..=DAY).contains(&window.length) => refusals.value(
            "preferredMaintenanceWindow",
            "preferredMaintenanceWindow must be at least 60 minutes and at most 24 hours.",
        ),
        _ => {}
    }
    if let (Some(Some(daily)), Some(Some(weekly))) = (daily, weekly)
        && overlap(daily, weekly)
    {
        refusals
            .combination("snapshotWindow", "The snapshot window and maintenance window must not overlap.");
    }
}

/// Both windows are half open, so that one may begin when the other ends.
fn overlap(daily: Window, weekly: Window) -> bool {
    (0..7).any(|day| {
        let start = day * DAY + daily.start;
        let meets = |a: u32, length: u32, b: u32| (b + WEEK - a) % WEEK < length;
        meets(start, daily.length, weekly.start) || meets(weekly.start, weekly.length, start)
    })
}

fn parse_daily(text: &str) -> Option<Window> {
    let (start, end) = text.split_once('-')?;
    let (start, end) = (parse_time(start)?, parse_time(end)?);
    Some(Window { start, length: (end + DAY - start) % DAY })
}

fn parse_weekly(text: &str) -> Option<Window> {
    let (start, end) = text.split_once('-')?;
    let (start, end) = (parse_day_and_time(start)?, parse_day_and_time(end)?);
    Some(Window { start, length: (end + WEEK - start) % WEEK })
}

fn parse_day_and_time(text: &str) -> Option<u32> {
    let (day, time) = text.split_once(':')?;
    let day = DAYS.iter().position(|name| name.eq_ignore_ascii_case(day))?;
    Some(u32::try_from(day).ok()? * DAY + parse_time(time)?)
}

fn parse_time(text: &str) -> Option<u32> {
    let number = |part: &str| match part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit()) {
        true => part.parse::<u32>().ok(),
        false => None,
    };
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlaps(daily: &str, weekly: &str) -> bool {
        overlap(parse_daily(daily).unwrap(), parse_weekly(weekly).unwrap())
    }

    #[test]
    fn windows_that_touch_do_not_overlap() {
        assert!(!overlaps("05:00-06:00", "sun:06:00-sun:07:00"));
        assert!(!overlaps("07:00-08:00", "sun:06:00-sun:07:00"));
        assert!(overlaps("06:59-08:00", "sun:06:00-sun:07:00"));
        assert!(overlaps("05:00-09:00", "sun:06:00-sun:07:00"));
        assert!(overlaps("06:10-06:50", "mon:06:00-mon:07:00"));
    }

    #[test]
    fn windows_that_wrap_around_midnight_and_the_week_are_seen() {
        assert!(overlaps("23:30-00:30", "sun:00:00-sun:01:00"));
        assert!(overlaps("00:15-01:15", "sat:23:30-sun:00:30"));
        assert!(!overlaps("01:00-02:00", "sat:23:30-sun:00:30"));
    }

    #[test]
    fn what_is_no_window_is_none() {
        for text in ["", "5:00-6:00", "05:00", "24:00-01:00", "05:60-06:00", "05:00-06:00-07:00", "é"] {
            assert_eq!(parse_daily(text), None, "{text}");
        }
        for text in ["05:00-06:00", "son:05:00-son:06:00", "sun:05:00", "sun-mon"] {
            assert_eq!(parse_weekly(text), None, "{text}");
        }
        assert_eq!(parse_weekly("Sun:05:00-Sun:07:00").unwrap().length, 120);
    }
}
