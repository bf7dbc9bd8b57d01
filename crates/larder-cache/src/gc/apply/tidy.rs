//! What a collection does before it removes anything: clocks are compared, and the records put in order.

use std::{collections::HashSet, sync::Arc};

use larder_formats::{
    nar_file::NarFile,
    store_path::{StorePath, StorePathHash},
};
use tokio::time::timeout;

use super::{CollectError, Collector};
use crate::{
    collection,
    gc::{orphans, plan::Plan},
    lease,
    names::Names,
    pin,
};

impl Collector {
    /// Announces nothing, to see what time that bears. A clock that is far ahead would make all leases expired, all pins
    /// ended and everything old.
    pub(super) async fn compare_clocks(&mut self) -> Result<(), CollectError> {
        let announced = self.announce(Names::default()).await?;
        let there = announced.written_at_another_time().await?;
        announced.end().await?;
        match there {
            None => Ok(()),
            Some(there) => Err(CollectError::Clocks {
                url: self.storage.url().to_owned(),
                here: (self.clock)(),
                there,
            }),
        }
    }

    /// Puts the records in order: notes orphans, forgets what is not true any more, removes what others
    /// left.
    pub(super) async fn tidy(&mut self, plan: &Plan) -> Result<(), CollectError> {
        let (snapshot, _, looked) = self.look().await?;
        let storage = Arc::clone(&self.storage);
        let orphans: HashSet<NarFile> = snapshot.orphans().map(|nar| nar.file).collect();
        let is_orphan = |nar: &NarFile| orphans.contains(nar);
        let id = self.next();
        looked.noted.compact(&*storage, &id, is_orphan).await?;
        let new: Vec<NarFile> = plan.orphans.iter().filter(|nar| is_orphan(nar)).copied().collect();
        let id = self.next();
        orphans::note(&*storage, &id, (self.clock)(), &new).await?;
        let is_there = |path: &StorePathHash| snapshot.position(path).is_some();
        let id = self.next();
        looked.written.compact(&*storage, &id, is_there).await?;
        self.drop_pins(&looked.ended).await?;
        let now = (self.clock)();
        lease::sweep(&*storage, now).await?;
        Ok(collection::sweep(&*storage, now).await?)
    }

    /// Removes pins that have ended. Whoever sets one of them anew sees that this is announced, or is seen.
    async fn drop_pins(&mut self, ended: &[pin::Pin]) -> Result<(), CollectError> {
        if ended.is_empty() {
            return Ok(());
        }
        let paths = ended.iter().flat_map(|pin| pin.paths.iter().map(StorePath::hash));
        let mut announced = self.announce(Names::of_paths(paths)).await?;
        announced.during(self.settle()).await?;
        let mut is_certain = true;
        for pin in ended {
            // A failure shows in that there is no time left.
            let _ = announced.renew().await;
            if !announced.has(self.pace.longest()) {
                break;
            }
            let dropped = pin::drop_ended(&*self.storage, &pin.name, (self.clock)());
            match timeout(self.pace.removal, dropped).await {
                Ok(dropped) => dropped?,
                Err(_) => is_certain = false,
            }
        }
        self.ended(announced, is_certain).await
    }
}
