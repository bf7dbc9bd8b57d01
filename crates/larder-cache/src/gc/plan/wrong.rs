//! What has to go because it is wrong.

use std::collections::HashSet;

use larder_formats::{nar_file::NarFile, store_path::StorePathHash};

use super::{Known, Needs, Plan, Reason, Removal, What, kept, order, staged_nar};
use crate::gc::snapshot::Snapshot;

/// What a check found that cannot be mended.
#[derive(Clone, Debug, Default)]
pub struct Wrong {
    /// Paths.
    pub paths: HashSet<StorePathHash>,
    /// NAR files with wrong bytes.
    pub nars: HashSet<NarFile>,
}

/// The removal of what is wrong, with all that refers to it, referrers first; and those wrong paths that stay because
/// a pin or a lease reaches them. What refers to those stays, too: it is whole again when they are mended.
#[must_use]
pub fn wrong(snapshot: &Snapshot, known: &Known, wrong: &Wrong) -> (Plan, Vec<StorePathHash>) {
    let held = kept(snapshot, known, |_| false);
    let count = snapshot.paths().len();
    let is_wrong = |position: usize| wrong.paths.contains(&snapshot.paths()[position].hash);
    let (stay, go): (Vec<_>, Vec<_>) =
        (0..count).filter(|position| is_wrong(*position)).partition(|position| held[*position]);
    // For each that goes: the wrong one that it refers to, however far.
    let mut because = vec![None; count];
    go.iter().for_each(|position| because[*position] = Some(*position));
    let mut order: Vec<usize> = (0..count).collect();
    let ranks = order::ranks(snapshot);
    order.sort_unstable_by_key(|position| ranks[*position]);
    // References come last in the order, so one round will do unless narinfos refer to each other in a circle.
    loop {
        let mut is_changed = false;
        for position in order.iter().rev() {
            if because[*position].is_none()
                && let Some(reason) = snapshot.references(*position).find_map(|to| because[to])
            {
                because[*position] = Some(reason);
                is_changed = true;
            }
        }
        if !is_changed {
            break;
        }
    }
    let mut needs = Needs::of(snapshot);
    let mut plan = Plan {
        count,
        kept: held.iter().filter(|held| **held).count(),
        size: needs.size,
        ..Plan::default()
    };
    for position in order {
        let Some(reason) = because[position] else { continue };
        let entry = &snapshot.paths()[position];
        needs.without(snapshot, position);
        plan.paths.push(Removal {
            what: What::Path(entry.hash, entry.path.clone()),
            size: entry.size,
            written: entry.written,
            reason: match reason {
                it if it == position => Reason::Wrong,
                it => Reason::RefersTo(snapshot.paths()[it].hash),
            },
        });
    }
    plan.size_after = needs.size;
    plan.nars = nars(snapshot, &needs, &wrong.nars);
    plan.objects = records(snapshot, &plan.nars);
    (plan, stay.into_iter().map(|position| snapshot.paths()[position].hash).collect())
}

/// The files with wrong bytes that nothing will need: no grace, since they are of use to nobody.
fn nars(snapshot: &Snapshot, needs: &Needs, wrong: &HashSet<NarFile>) -> Vec<Removal> {
    let nars = snapshot.nars().iter().zip(&needs.by_nar);
    let go = nars.filter(|(nar, needed)| **needed == 0 && wrong.contains(&nar.file));
    go.map(|(nar, _)| Removal {
        what: What::Nar(nar.file),
        size: nar.size,
        written: nar.written,
        reason: Reason::Wrong,
    })
    .collect()
}

/// What was recorded of those when they were uploaded: it is not so any more.
fn records(snapshot: &Snapshot, nars: &[Removal]) -> Vec<Removal> {
    let file = |removal: &Removal| match removal.what {
        What::Nar(file) => Some(file),
        What::Path(..) | What::Object(..) => None,
    };
    let nars: HashSet<NarFile> = nars.iter().filter_map(file).collect();
    let objects = snapshot.objects().iter();
    let go = objects.filter(|object| staged_nar(object).is_some_and(|nar| nars.contains(&nar)));
    go.map(|object| Removal {
        what: What::Object(object.key.clone(), object.kind),
        size: object.size,
        written: object.written,
        reason: Reason::Wrong,
    })
    .collect()
}
