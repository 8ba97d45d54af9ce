//! What a replica's log keeps: its front is cut off, as far as a rule of the seed allows.
//!
//! | rule | what goes |
//! |---|---|
//! | `All` | nothing |
//! | `Needed` | what is in the state's files, and no follower, replica that is away, or region may ask for |
//! | `Little` | whatever is in the state's files: limits of retention that give everybody up at once |
//!
//! Under every rule all must hold; `Little` makes copies where `Needed` needs none. The rules of the daemon, which count
//! time and bytes besides, are in its own tests.

use replication::Input;
use types::entry::Entry;
use types::{Body, Lsn, PartitionId, Timestamp};

use crate::disk::LogImage;
use crate::options::Keep;
use crate::say;
use crate::world::World;

impl World {
    /// Lets the front of a log go.
    pub(crate) fn trim(&mut self, index: usize, id: PartitionId) {
        let Some(to) = self.trimmable(index, id) else { return };
        say!(self, "{} {id} trims its log to {to}", self.label(index));
        self.append_entry(index, id, Entry::Trim { below: to.next() });
        self.feed(index, id, Input::Trimmed { to });
    }

    /// The last record that may go, if there is one.
    fn trimmable(&self, index: usize, id: PartitionId) -> Option<Lsn> {
        let node = &self.nodes[index];
        let hosted = node.hosted(id)?;
        let disk = &node.disks[&id];
        if self.options.keep == Keep::All || hosted.rewind.is_some() || hosted.copying.is_some() || disk.rotten {
            return None;
        }
        let own = disk.flushed.min(hosted.replica.cursors().applied);
        let to = if self.options.keep == Keep::Little { own } else { own.min(self.needed(index, id)?) };
        (to > hosted.log.trimmed()).then_some(to)
    }

    /// Above this somebody may need the log. `None`: a replica of the region is away, all is kept for it.
    fn needed(&self, index: usize, id: PartitionId) -> Option<Lsn> {
        let node = &self.nodes[index];
        let hosted = node.hosted(id)?;
        let catalog = &self.regions[node.region].catalog;
        let partition = &catalog.partitions[&id];
        let followed = match hosted.replica.status().leading {
            Some(leading) => leading.followed,
            None if catalog.databases[&id.database].mode.sync_replication
                && partition.members.len() < partition.replicas.len() =>
            {
                return None;
            }
            None => Lsn(u64::MAX),
        };
        let pinned = catalog.pin(id.database).map_or(Lsn(u64::MAX), |cut| at_cut(&hosted.log, cut));
        Some(followed.min(pinned))
    }
}

/// A position that every region reaches that has this cut on disk, with nothing above the cut below it.
fn at_cut(log: &LogImage, cut: Timestamp) -> Lsn {
    let mut at = log.trimmed();
    for record in &log.records {
        match (&record.body, record.body.timestamp()) {
            (_, Some(ts)) if ts > cut => break,
            // Its bound may be the very mark that it came after.
            (Body::Prepare { .. }, _) | (_, None) => {}
            (_, Some(_)) => at = record.lsn,
        }
    }
    at
}
