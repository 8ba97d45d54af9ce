//! A region's catalog, reduced to the view that it writes for one partition.

use types::{
    ClusterId, DatabaseId, Epoch, Fence, LinkId, Member, Mode, NodeId, Ordinal, PartitionId, Promotion, PromotionId,
    Reign, Revision, Role, SetVersion, StartKind, Timestamp, View,
};

/// The region's view and where its history stands.
#[derive(Clone, Debug)]
pub struct Catalog {
    pub view: View,
    pub revision: Revision,
}

/// What a new reign is for.
pub enum Office {
    /// The role stays what it is.
    Same,
    /// The last promotion is named again.
    Again,
    Promoted(Promotion),
    Follows {
        link: u128,
        forced: bool,
    },
}

impl Catalog {
    pub fn new(cluster: u64, ordinal: i32, nodes: &[Member], members: &[Member], mode: Mode) -> Catalog {
        let view = View {
            partition: PartitionId { database: DatabaseId(cluster), ordinal: Ordinal(ordinal) },
            reign: Reign(0),
            reign_revision: Revision(0),
            version: SetVersion(0),
            primary: members[0],
            members: members.iter().copied().collect(),
            replicas: nodes.iter().map(|member| member.node).collect(),
            promotions: vec![],
            role: writable(cluster, 0, StartKind::Failover, 0),
            losses: 0,
            fence: Fence::None,
            hands_over: false,
            mode,
            failover_after: (!mode.sync_replication).then_some(10_000),
        };
        Catalog { view, revision: Revision(0) }
    }

    fn cluster(&self) -> u64 {
        self.view.partition.database.0
    }

    /// Something changed.
    pub fn changed(&mut self) {
        self.revision.0 += 1;
        self.view.version.0 += 1;
    }

    /// A new reign; `number` is the epoch's, above every one before.
    pub fn grant(&mut self, primary: Member, members: Vec<Member>, office: Office, number: u64, above: u64) {
        self.changed();
        let cluster = self.cluster();
        let view = &mut self.view;
        view.reign.0 += 1;
        view.reign_revision = self.revision;
        view.primary = primary;
        view.members = members.into_iter().collect();
        match office {
            Office::Same => {
                if let Role::Writable { .. } = view.role {
                    view.role = writable(cluster, number, StartKind::Failover, above);
                }
            }
            Office::Again => {
                let Promotion { id, cut } = *view.promotions.last().expect("there was a promotion");
                view.role = writable(cluster, number, StartKind::Promotion { id, cut }, above);
            }
            Office::Promoted(promotion) => {
                view.promotions.push(promotion);
                let start = StartKind::Promotion { id: promotion.id, cut: promotion.cut };
                view.role = writable(cluster, number, start, above);
            }
            Office::Follows { link, forced } => view.role = Role::Sink { link: LinkId(link), forced, broken: false },
        }
    }
}

fn writable(cluster: u64, number: u64, start: StartKind, above: u64) -> Role {
    let epoch = Epoch { number, cluster: ClusterId(cluster), nonce: number };
    Role::Writable { epoch, start, start_above: Timestamp(above) }
}

/// A promotion from its parts.
pub fn promotion(id: u128, cut: u64) -> Promotion {
    Promotion { id: PromotionId(id), cut: Timestamp(cut) }
}

/// The first process of a node.
pub fn first_process(node: u64) -> Member {
    Member { node: NodeId(node), incarnation: types::Incarnation(1) }
}
