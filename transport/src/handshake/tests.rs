use proptest::prelude::*;
use tokio::io::{DuplexStream, duplex};

use super::*;

fn local(node: u64, min: u16, max: u16) -> Local {
    Local { versions: VersionRange { min, max }, ..Local::new(ClusterId(9), NodeId(node), Incarnation(3)) }
}

fn believe(_: ClusterId, _: NodeId) -> Result<Proof, String> {
    Ok(Proof::Certificate)
}

async fn meet(
    dialler: Local,
    listener: Local,
    expected: Expected,
    admit: Result<(), String>,
) -> (Result<Greeting, DialCause>, Result<Greeting, DialCause>) {
    let (mut near, mut far) = duplex(1 << 16);
    let dialling = async {
        let result = dial(&mut near, &dialler, Role::Calls, expected, &believe).await;
        drop(near);
        result
    };
    let listening = async {
        let result = listen(&mut far, &listener, &believe, |_| admit).await;
        drop(far);
        result
    };
    tokio::join!(dialling, listening)
}

#[tokio::test]
async fn both_learn_the_other_and_the_highest_common_version() {
    let (near, far) = meet(local(1, 1, 4), local(2, 3, 9), Expected::default(), Ok(())).await;
    let (near, far) = (near.unwrap(), far.unwrap());
    assert_eq!((near.node, near.version, near.role), (NodeId(2), 4, Role::Calls));
    assert_eq!((far.node, far.version, far.role), (NodeId(1), 4, Role::Calls));
    assert_eq!(far.incarnation, Incarnation(3));
}

#[tokio::test]
async fn versions_apart_are_named_on_both_sides() {
    let (near, far) = meet(local(1, 1, 2), local(2, 3, 9), Expected::default(), Ok(())).await;
    let (low, high) = (VersionRange { min: 1, max: 2 }, VersionRange { min: 3, max: 9 });
    assert_eq!(near.unwrap_err(), DialCause::Version { ours: low, theirs: high });
    let far = far.unwrap_err();
    assert_eq!(far, DialCause::Version { ours: high, theirs: low });
    assert_eq!(far.to_string(), "it speaks protocol versions 1 to 2, this node 3 to 9: upgrade the older one");
}

#[tokio::test]
async fn a_hello_of_a_future_shape_still_tells_its_versions() {
    let (mut near, mut far) = duplex(1 << 16);
    let mut hello = MAGIC.to_vec();
    hello.extend([200, 0, 210, 0, 1, 2, 3]);
    write(&mut near, Kind::HELLO, hello.into()).await.unwrap();
    let theirs = VersionRange { min: 200, max: 210 };
    let found = listen(&mut far, &local(2, 1, 1), &believe, |_| Ok(())).await.unwrap_err();
    assert_eq!(found, DialCause::Version { ours: VersionRange { min: 1, max: 1 }, theirs });
    let answer = Hello::decode(&read(&mut near, Kind::HELLO).await.unwrap(), theirs).unwrap();
    assert_eq!(answer.versions, VersionRange { min: 1, max: 1 }, "the newer side learns what the older speaks");
}

#[tokio::test]
async fn a_peer_turned_away_hears_why() {
    let reason = "incarnation 3 is older than 4".to_owned();
    let (near, far) = meet(local(1, 1, 1), local(2, 1, 1), Expected::default(), Err(reason.clone())).await;
    assert_eq!(near.unwrap_err(), DialCause::Rejected(reason.clone()));
    assert_eq!(far.unwrap_err(), DialCause::Rejected(reason));
}

#[tokio::test]
async fn the_wrong_node_or_cluster_is_noticed() {
    let node = Expected { node: Some(NodeId(7)), cluster: None };
    let (near, _) = meet(local(1, 1, 1), local(2, 1, 1), node, Ok(())).await;
    assert_eq!(near.unwrap_err(), DialCause::WrongPeer("expected node 7, found node 2 of cluster 9".into()));
    let cluster = Expected { node: None, cluster: Some(ClusterId(8)) };
    let (near, _) = meet(local(1, 1, 1), local(2, 1, 1), cluster, Ok(())).await;
    assert_eq!(near.unwrap_err(), DialCause::WrongPeer("expected cluster 8, found 9".into()));
}

#[tokio::test]
async fn an_unknown_role_is_refused_by_number() {
    let (mut near, mut far): (DuplexStream, DuplexStream) = duplex(1 << 16);
    let hello = Hello { role: 77, ..Hello::of(&local(1, 1, 1), 0) };
    write(&mut near, Kind::HELLO, hello.encode()).await.unwrap();
    let error = listen(&mut far, &local(2, 1, 1), &believe, |_| Ok(())).await.unwrap_err();
    assert_eq!(error, DialCause::Rejected("a session of role 77 is not known here".into()));
}

#[tokio::test]
async fn a_long_reason_is_cut_at_a_character() {
    let reason = "é".repeat(CONTROL_BYTES_MAX);
    let (near, _) = meet(local(1, 1, 1), local(2, 1, 1), Expected::default(), Err(reason)).await;
    let Err(DialCause::Rejected(heard)) = near else { panic!("{near:?}") };
    assert!(heard.chars().all(|c| c == 'é') && heard.len() > CONTROL_BYTES_MAX - 4, "{} bytes", heard.len());
}

proptest! {
    #[test]
    fn hello_round_trip(min: u16, max: u16, cluster: u64, node: u64, incarnation: u64, role: u8, more: Vec<u8>) {
        let hello = Hello {
            versions: VersionRange { min, max },
            cluster: ClusterId(cluster),
            node: NodeId(node),
            incarnation: Incarnation(incarnation),
            role,
        };
        let bytes = [hello.encode().to_vec(), more].concat();
        prop_assert_eq!(Hello::decode(&bytes, VersionRange::OURS), Ok(hello), "later versions may add fields");
    }

    #[test]
    fn garbage_is_no_hello(bytes: Vec<u8>) {
        prop_assert!(Hello::decode(&bytes, VersionRange::OURS).is_err());
    }

    #[test]
    fn agreement_is_symmetric_and_inside_both(a: (u16, u16), b: (u16, u16)) {
        let range = |(x, y): (u16, u16)| VersionRange { min: x.min(y), max: x.max(y) };
        let (a, b) = (range(a), range(b));
        prop_assert_eq!(a.agree(b), b.agree(a));
        match a.agree(b) {
            Some(v) => prop_assert!(v >= a.min && v <= a.max && v >= b.min && v <= b.max),
            None => prop_assert!(a.max < b.min || b.max < a.min),
        }
    }
}
