//! Reading real stores of all three Nix versions, and running programs.

#[cfg(test)]
mod build_log;
#[cfg(test)]
mod caches;
#[cfg(test)]
mod cgroup;
#[cfg(test)]
mod command;
#[cfg(test)]
mod database;
#[cfg(test)]
mod dump;
#[cfg(test)]
mod dump_faults;
#[cfg(test)]
mod dump_ranges;
#[cfg(test)]
mod generation;
#[cfg(test)]
mod layout;
#[cfg(test)]
mod query_plans;
#[cfg(test)]
mod realisations;
#[cfg(test)]
mod roots;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod support;
#[cfg(test)]
mod waiting;
