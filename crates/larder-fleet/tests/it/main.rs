//! Tests of the fleet's parts, each by itself.

#[cfg(test)]
mod build_plan;
#[cfg(test)]
mod builders;
#[cfg(test)]
mod durable;
#[cfg(test)]
mod flake_source;
#[cfg(test)]
mod hold_search;
#[cfg(test)]
mod host;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod notify;
#[cfg(test)]
mod revision;
#[cfg(test)]
mod run_lock;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod schedule;
#[cfg(test)]
mod upgrade_plan;
#[cfg(test)]
mod why;
