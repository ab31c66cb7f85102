//! Snapshot and maintenance windows, in UTC.

const DAY: u32 = 24 * 60;
const WEEK: u32 = 7 * DAY;
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A window: its first minute and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    start: u32,
    minutes: u32,
}

/// `hh24:mi-hh24:mi`, at least an hour.
pub(crate) fn daily(text: &str) -> Result<Window, &'static str> {
    let parts = text.split_once('-').and_then(|(start, end)| Some((minute(start)?, minute(end)?)));
    let (start, end) = parts.ok_or("a snapshot window is hh24:mi-hh24:mi in UTC, such as 05:00-09:00")?;
    let minutes = (end + DAY - start) % DAY;
    if minutes < 60 {
        return Err("Snapshot window must be at least 60 minutes.");
    }
    Ok(Window { start, minutes })
}

/// `ddd:hh24:mi-ddd:hh24:mi`, an hour to a day.
pub(crate) fn weekly(text: &str) -> Result<Window, &'static str> {
    let parts = text.split_once('-').and_then(|(start, end)| Some((week_minute(start)?, week_minute(end)?)));
    let (start, end) =
        parts.ok_or("a maintenance window is ddd:hh24:mi-ddd:hh24:mi in UTC, such as sun:05:00-sun:09:00")?;
    let minutes = (end + WEEK - start) % WEEK;
    if minutes < 60 {
        return Err("the maintenance window must be at least 60 minutes");
    }
    if minutes > DAY {
        return Err("the maintenance window must be at most 24 hours");
    }
    Ok(Window { start, minutes })
}

/// Whether a daily and a weekly window have a minute in common. The end of a window is not in it.
pub(crate) fn overlap(daily: Window, weekly: Window) -> bool {
    // Nine days, so that what wraps around a midnight or the week is met as well.
    (0..9).any(|day| {
        let start = day * DAY + daily.start;
        [weekly.start + DAY, weekly.start + DAY + WEEK]
            .iter()
            .any(|other| start < other + weekly.minutes && *other < start + daily.minutes)
    })
}

fn minute(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str, most: u32| -> Option<u32> {
        let sound = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        sound.then(|| text.parse().ok()).flatten().filter(|number| *number <= most)
    };
    Some(number(hours, 23)? * 60 + number(minutes, 59)?)
}

fn week_minute(text: &str) -> Option<u32> {
    let (day, time) = text.split_once(':')?;
    let day = DAYS.iter().zip(0..).find(|(name, _)| name.eq_ignore_ascii_case(day))?.1;
    Some(day * DAY + minute(time)?)
}

#[cfg(test)]
mod tests {
    use super::{daily, overlap, weekly};

    #[test]
    fn a_window_has_its_form_and_its_length() {
        for (text, sound) in [
            ("05:00-09:00", true),
            ("23:30-00:30", true),
            ("05:00-05:30", false),
            ("05:00", false),
            ("25:00-26:00", false),
            ("5am-9am", false),
            ("", false),
        ] {
            assert_eq!(daily(text).is_ok(), sound, "{text}");
        }
        for (text, sound) in [
            ("sun:05:00-sun:09:00", true),
            ("Sun:05:00-Sun:07:00", true),
            ("sat:23:30-sun:00:30", true),
            ("sun:23:00-mon:01:30", true),
            ("wed:09:25-wed:22:30", true),
            ("sun:05:00-sun:05:30", false),
            ("sun:05:00-tue:05:30", false),
            ("05:00-09:00", false),
            ("xxx:05:00-xxx:09:00", false),
        ] {
            assert_eq!(weekly(text).is_ok(), sound, "{text}");
        }
    }

    #[test]
    fn windows_that_only_touch_do_not_overlap() {
        for (day, week, expected) in [
            ("05:00-06:00", "sun:06:00-sun:07:00", false),
            ("05:00-06:01", "sun:06:00-sun:07:00", true),
            ("23:00-01:00", "sun:00:30-sun:01:30", true),
            ("00:00-01:00", "sat:23:30-sun:00:30", true),
            ("10:00-12:00", "sun:05:00-sun:09:00", false),
        ] {
            assert_eq!(overlap(daily(day).unwrap(), weekly(week).unwrap()), expected, "{day} {week}");
        }
    }
}
