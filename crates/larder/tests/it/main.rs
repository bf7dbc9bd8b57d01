//! Tests of the program from the outside.

#[cfg(test)]
mod build;
#[cfg(test)]
mod build_server;
#[cfg(test)]
mod builders;
#[cfg(test)]
mod builders_view;
#[cfg(test)]
mod check;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod config;
#[cfg(test)]
mod init;
#[cfg(test)]
mod keeping;
#[cfg(test)]
mod key;
#[cfg(test)]
mod nights;
#[cfg(test)]
mod push;
#[cfg(test)]
mod queue;
#[cfg(test)]
mod remote_builder;
#[cfg(test)]
mod schedule;
#[cfg(test)]
mod units;
#[cfg(test)]
mod upgrade;
#[cfg(test)]
mod upgrade_view;
#[cfg(test)]
mod upgrade_world;
#[cfg(test)]
mod walls;
#[cfg(test)]
mod whole_run;
#[cfg(test)]
mod why;
#[cfg(test)]
mod why_view;
#[cfg(test)]
mod word;
