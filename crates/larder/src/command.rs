//! One verb a file: its arguments, and one function that does it.

pub(crate) mod build;
pub(crate) mod builders;
pub(crate) mod cache;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod gc;
pub(crate) mod hook;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod notify;
pub(crate) mod pin;
pub(crate) mod proxy;
pub(crate) mod push;
pub(crate) mod report;
pub(crate) mod schedule;
pub(crate) mod serve;
pub(crate) mod token;
pub(crate) mod upgrade;
pub(crate) mod why;
