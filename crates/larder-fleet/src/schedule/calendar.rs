//! The times of a schedule, as people write them.

use std::{fmt, str::FromStr};

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{SignedDuration, Zoned, civil::date};

/// Times of the wall clock: `02:00`, every day, or an expression of cron's five fields (minute, hour, day of the month,
/// month, day of the week).
///
/// A time that does not exist on a day, since the clock is put forward over it, is the first moment after that; one that
/// is there twice is the first of the two. (In an expression with `*` or `/` in minutes or hours, what the clock
/// leaves out is left out, and what it does twice is there twice: hours go on being hours.)
#[derive(Clone, Debug)]
pub struct Calendar {
    text: String,
    cron: Cron,
}

/// Not a calendar expression.
#[derive(Debug, thiserror::Error)]
pub enum CalendarError {
    /// Neither of the two forms.
    #[error("it is neither a time of day nor five fields")]
    Form,
    /// Cron's fields do not hold together.
    #[error("{0}")]
    Fields(String),
    /// There is no such day.
    #[error("that never comes")]
    Never,
}

impl Calendar {
    /// The first of its times after this one.
    #[must_use]
    pub fn after(&self, time: &Zoned) -> Option<Zoned> {
        self.cron.find_next_occurrence(time, false).ok()
    }

    /// The longest time between two of its days, of those that come after this time.
    #[must_use]
    pub fn longest_pause(&self, time: &Zoned) -> SignedDuration {
        // A year of days, or ten years of those that are rarer.
        const DAYS: usize = 366;
        const YEARS: i16 = 10;
        let next_day = |time: &Zoned| {
            let end = time.date().tomorrow().ok()?.to_zoned(time.time_zone().clone()).ok()?;
            self.cron.find_next_occurrence(&end, true).ok()
        };
        let days: Vec<Zoned> = std::iter::successors(self.after(time), next_day)
            .take_while(|day| day.year() - time.year() <= YEARS)
            .take(DAYS)
            .collect();
        let pauses = days.windows(2).map(|pair| pair[1].duration_since(&pair[0]));
        pauses.max().unwrap_or_default()
    }

    /// The last of its times that is not after this one.
    #[must_use]
    pub fn until(&self, time: &Zoned) -> Option<Zoned> {
        self.cron.find_previous_occurrence(time, true).ok()
    }

    /// The last of its times before this one.
    #[must_use]
    pub fn before(&self, time: &Zoned) -> Option<Zoned> {
        self.cron.find_previous_occurrence(time, false).ok()
    }
}

impl FromStr for Calendar {
    type Err = CalendarError;

    fn from_str(text: &str) -> Result<Self, CalendarError> {
        let fields = match time_of_day(text) {
            Some((hour, minute)) => format!("{minute} {hour} * * *"),
            None => text.to_owned(),
        };
        if fields.split_ascii_whitespace().count() != 5 {
            return Err(CalendarError::Form);
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed);
        let cron = parser
            .build()
            .parse(&fields)
            .map_err(|error| CalendarError::Fields(error.to_string()))?;
        let calendar = Self { text: text.to_owned(), cron };
        // The 30th of February is looked for in vain from anywhere.
        let some_day = date(2025, 1, 1).in_tz("UTC").map_err(|_| CalendarError::Never)?;
        calendar.after(&some_day).ok_or(CalendarError::Never)?;
        Ok(calendar)
    }
}

/// Hour and minute of `02:00`.
fn time_of_day(text: &str) -> Option<(u8, u8)> {
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |text: &str| {
        let plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<u8>().ok()).flatten()
    };
    let (hour, minute) = (two_digits(hour)?, two_digits(minute)?);
    (hour < 24 && minute < 60).then_some((hour, minute))
}

impl fmt::Display for Calendar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl PartialEq for Calendar {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Calendar {}
