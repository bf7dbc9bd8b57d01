//! A fleet's life: what is built for its hosts, what is published, and how a host takes it.
//!
//! Knows nothing of HTTP servers, terminals or configuration files. The time is an argument
//! everywhere.

pub mod build_plan;
pub mod builders;
pub mod durable;
pub mod host;
pub mod ledger;
pub mod lock;
pub mod night;
pub mod notify;
pub mod plain;
pub mod revision;
pub mod schedule;
pub mod upgrade;
pub mod why;
