//! Keeping a session: the order of events, and what a refusal proves.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use perennial_transport::error::{Closed, DialError};
use perennial_transport::identity::{Local, Role};
use perennial_transport::limits::Limits;
use perennial_transport::redial::{Event, Redialler};
use perennial_transport::session::Session;
use perennial_transport::tcp::{TcpDialler, TcpListener};
use types::Incarnation;

fn redial(dialler: TcpDialler, address: String, limits: &Limits) -> Redialler {
    let dialler = Arc::new((dialler, address));
    Redialler::start(limits, move || {
        let dialler = dialler.clone();
        async move { dialler.0.dial(&dialler.1, None, Role::Replication).await }
    })
}

async fn reached(redialler: &mut Redialler) -> Session {
    loop {
        match soon(redialler.next()).await {
            Event::Reached(session) => return session,
            Event::Failed { .. } => {}
            Event::Lost { peer, reason } => panic!("{peer}: {reason}"),
        }
    }
}

async fn failed(redialler: &mut Redialler) -> (DialError, Option<Incarnation>) {
    match soon(redialler.next()).await {
        Event::Failed { error, known, .. } => (error, known),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_session_is_dialled_again_at_once() {
    // Were the wait after a failure used, the test would hang.
    let long = Duration::from_secs(1000);
    let limits = Limits { retry_min: long, retry_max: long, ..Limits::default() };
    let mut region = soon(Region::new(Limits::default())).await;
    let mut redialler = redial(region.dialler(2, Limits::default()), region.address.clone(), &limits);
    let near = reached(&mut redialler).await;
    let far = soon(region.listener.accept()).await;
    far.close("a middlebox would do the same");
    match soon(redialler.next()).await {
        Event::Lost { peer, reason } => {
            assert_eq!(peer, *near.peer());
            assert_eq!(reason, Closed::Peer("a middlebox would do the same".into()));
        }
        other => panic!("{other:?}"),
    }
    reached(&mut redialler).await;
    assert_eq!(soon(region.listener.accept()).await.peer().incarnation, Incarnation(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_names_the_incarnation_known_when_its_attempt_began() {
    let limits = Limits { retry_min: Duration::from_millis(1), ..Limits::default() };
    let mut region = soon(Region::new(Limits::default())).await;
    let address = region.listener.address();
    let mut redialler = redial(region.dialler(2, Limits::default()), region.address.clone(), &limits);
    let near = reached(&mut redialler).await;
    let far = soon(region.listener.accept()).await;
    let authority = region.authority;
    drop((region.listener, far, near));
    let Event::Lost { .. } = soon(redialler.next()).await else { panic!("the session was lost") };
    // An attempt may still have met the listener as it went.
    let (error, known) = soon(async {
        loop {
            match redialler.next().await {
                Event::Failed { error, known, .. } if error.is_refused() => return (error, known),
                _ => {}
            }
        }
    })
    .await;
    assert!(error.is_refused(), "{error}");
    assert_eq!(known, Some(Incarnation(1)));
    // What is learnt now does not belong to attempts that have begun before.
    redialler.learn(Incarnation(2));
    let mut seen = Vec::new();
    while seen.last() != Some(&Some(Incarnation(2))) {
        seen.push(failed(&mut redialler).await.1);
    }
    assert!(seen.is_sorted(), "{seen:?}");
    // The next process takes the place: its hello tells.
    let newer = Local { incarnation: Incarnation(2), ..local(1) };
    let mut listener =
        TcpListener::bind(address, newer, &credentials(&authority, 1), Limits::default(), any()).await.unwrap();
    let session = reached(&mut redialler).await;
    assert_eq!(session.peer().incarnation, Incarnation(2));
    soon(listener.accept()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_ends_the_wait() {
    let long = Duration::from_secs(1000);
    let limits = Limits { retry_min: long, retry_max: long, ..Limits::default() };
    let region = soon(Region::new(Limits::default())).await;
    let dialler = region.dialler(2, Limits::default());
    let mut redialler = redial(dialler, "no address".into(), &limits);
    assert!(!failed(&mut redialler).await.0.is_refused());
    redialler.probe_now();
    assert_eq!(failed(&mut redialler).await.1, None, "nothing is known of who was never reached");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_redialler_leaves_its_session() {
    let mut region = soon(Region::new(Limits::default())).await;
    let mut redialler = redial(region.dialler(2, Limits::default()), region.address.clone(), &Limits::default());
    let near = reached(&mut redialler).await;
    let mut far = soon(region.listener.accept()).await;
    drop(redialler);
    near.send(item(3)).await.unwrap();
    assert_eq!(number(&soon(far.recv()).await.unwrap().unwrap()), 3);
}
