//! `strftime_now(format)` for templates that print a date: UTC, the directives such templates use.

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::{Error, ErrorKind};

const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The time now, formatted.
pub(super) fn strftime_now(format: &str) -> Result<String, Error> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    strftime(format, seconds)
}

/// Formats seconds since 1970 (UTC). Directives: `Y m d H M S B b A a j y %`.
fn strftime(format: &str, seconds: u64) -> Result<String, Error> {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let month_name = MONTHS[month as usize - 1];
    let day_name = DAYS[(days % 7) as usize];
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let directive = chars.next().unwrap_or('%');
        out += &match directive {
            'Y' => year.to_string(),
            'y' => format!("{:02}", year % 100),
            'm' => format!("{month:02}"),
            'd' => format!("{day:02}"),
            'H' => format!("{:02}", time / 3600),
            'M' => format!("{:02}", time / 60 % 60),
            'S' => format!("{:02}", time % 60),
            'B' => month_name.to_owned(),
            'b' => month_name[..3].to_owned(),
            'A' => day_name.to_owned(),
            'a' => day_name[..3].to_owned(),
            'j' => format!("{:03}", days - days_before(year) + 1),
            '%' => "%".to_owned(),
            other => {
                return Err(Error::new(ErrorKind::InvalidOperation, format!("strftime_now: %{other} is not known")));
            }
        };
    }
    Ok(out)
}

fn leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days from 1970 to the first of January of a year.
fn days_before(year: u64) -> u64 {
    (1970..year).map(|y| 365 + u64::from(leap(y))).sum()
}

/// Year, month and day of a day counted from 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    while days_before(year + 1) <= days {
        year += 1;
    }
    let mut left = days - days_before(year);
    for month in 1..=12 {
        let length = match month {
            2 => 28 + u64::from(leap(year)),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        if left < length {
            return (year, month, left + 1);
        }
        left -= length;
    }
    (year, 12, 31)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::strftime;

    #[test]
    fn known_dates() {
        let format = "%Y-%m-%d %H:%M:%S %A %b %j%%";
        assert_eq!(strftime(format, 0).unwrap(), "1970-01-01 00:00:00 Thursday Jan 001%");
        assert_eq!(strftime(format, 1_709_210_096).unwrap(), "2024-02-29 12:34:56 Thursday Feb 060%");
        assert!(strftime("%Q", 0).is_err());
    }
}
