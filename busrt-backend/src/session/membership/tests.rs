//! Coming, staying away, coming back and being given up, with a clock of the test's own.

use std::sync::atomic::Ordering;

use eventbus_trait::{Event, Limits, Subscribe, TopicFilter};
use tokio::sync::mpsc;

use super::super::acks::InLink;
use super::super::link::LinkState;
use super::super::outbox::Accepted;
use super::super::run::Taken;
use super::*;
use crate::work::Tasks;

const LINK_TIMEOUT: Duration = Duration::from_secs(60);

/// A runtime that runs nothing.
fn nowhere() -> tokio::runtime::Handle {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().handle().clone()
}

fn node() -> (Node, mpsc::Receiver<super::super::command::Command>) {
    let (commands, receiver) = mpsc::channel(8);
    let node = Node::new(
        "me".into(),
        PublisherId([1; 16]),
        Limits::default(),
        LINK_TIMEOUT,
        commands,
        Tasks::Runtime(nowhere()),
    );
    (node, receiver)
}

fn member(client: &str) -> Member {
    Member {
        client: client.to_owned(),
    }
}

fn info(id: u64, received: u64) -> SubscriptionInfo {
    SubscriptionInfo {
        id,
        name: format!("s{id}"),
        filters: vec![TopicFilter::new("a").unwrap()],
        link: 1,
        received,
        received_bytes: 0,
        credit: 10,
        credit_bytes: 1 << 20,
    }
}

/// A node that is in step with `peer`, which has a subscription to `a`.
fn in_step() -> (Node, mpsc::Receiver<super::super::command::Command>) {
    let (node, commands) = node();
    node.on_members(vec![member("me"), member("peer")]);
    node.check_up();
    assert!(!node.state.lock().up, "the peer has not answered");
    node.on_welcome("peer", PublisherId([2; 16]), vec![info(1, 0)]);
    node.check_up();
    assert!(node.state.lock().up);
    (node, commands)
}

fn publish(node: &Node) -> Vec<Arc<super::super::link::Link>> {
    let mut offer = Some(Event::new("a", "x").unwrap());
    match node.outbox.accept(&mut offer, &mut None) {
        Accepted::Queued(places) => places.all().into_iter().map(|(link, _)| link).collect(),
        _ => panic!("there is room"),
    }
}

#[test]
fn a_peer_is_given_up_after_the_link_timeout() {
    let (node, _commands) = in_step();
    let link = publish(&node).remove(0);
    node.on_lost("peer");
    let away = node.state.lock().peers["peer"].away.unwrap();
    node.expire(away + LINK_TIMEOUT - Duration::from_millis(1));
    assert_eq!(link.state(), LinkState::Open);
    node.expire(away + LINK_TIMEOUT);
    assert_eq!(link.state(), LinkState::Lost);
    assert_eq!(node.given_up.load(Ordering::Relaxed), 1);
    assert!(publish(&node).is_empty(), "nobody is waited for any more");
    assert!(node.state.lock().peers.contains_key("peer"));
}

#[test]
fn where_a_link_stood_is_remembered_however_long_its_publisher_is_away() {
    let (node, _commands) = in_step();
    let (id, _, inbox) = node.enter(&Subscribe::to("b").unwrap()).unwrap();
    node.announce(id);
    let link = {
        let state = node.state.lock();
        Arc::clone(&state.subscriptions[&id].links["peer"])
    };
    inbox.push(
        Some(&link),
        vec![Event::new("b", "x").unwrap(); 3].into(),
        0,
    );
    link.receive(3, 300);
    let granted = || node.granted.events.load(Ordering::Relaxed);
    let before = granted();
    node.on_lost("peer");
    let away = node.state.lock().peers["peer"].away.unwrap();
    node.expire(away + LINK_TIMEOUT * 2);
    assert!(granted() < before, "its credit is for others");
    node.on_joined("peer");
    node.on_hello("peer", PublisherId([2; 16]), vec![info(1, 0)]);
    assert_eq!(granted(), before);
    let mut taken = Taken::default();
    node.outbox.take(&mut taken);
    let offered = taken.urgent.iter().find_map(|(_, message)| match message {
        Control::Welcome { subscriptions, .. } => Some(subscriptions[0].received),
        _ => None,
    });
    assert_eq!(offered, Some(3), "nothing is to come twice");
}

#[test]
fn the_time_that_we_were_away_is_nobody_elses_absence() {
    let (node, _commands) = in_step();
    let link = publish(&node).remove(0);
    node.on_lost("peer");
    node.go_down("test");
    let down = Clock::now() - LINK_TIMEOUT * 3;
    node.state.lock().down_since = Some(down);
    node.on_members(vec![member("me")]);
    node.expire(Clock::now());
    assert_eq!(link.state(), LinkState::Open);
}

#[test]
fn a_subscription_that_was_refused_does_not_refuse_others() {
    let (node, _commands) = in_step();
    let named = Subscribe::to("b").unwrap().named("s7");
    let (id, ..) = node.enter(&named).unwrap();
    node.announce(id);
    node.on_refused("peer", id, Refusal::NameInUse);
    node.on_open("peer", info(7, 0));
    assert!(node.outbox.has_link("peer", 7));
}

#[test]
fn an_old_refusal_does_not_end_the_next_connection() {
    let (node, _commands) = in_step();
    node.state.lock().refused = Some(Refusal::TooManyMembers);
    node.go_down("test");
    node.on_members(vec![member("me")]);
    assert_eq!(node.state.lock().refused, None);
}

#[test]
fn nobody_is_given_up_while_we_are_away_ourselves() {
    let (node, _commands) = in_step();
    let link = publish(&node).remove(0);
    node.go_down("test");
    node.expire(Clock::now() + LINK_TIMEOUT * 10);
    assert_eq!(link.state(), LinkState::Open);
    // Back, without the peer: from now on it is waited for.
    node.on_members(vec![member("me")]);
    node.check_up();
    assert!(node.state.lock().up);
    let away = node.state.lock().peers["peer"].away.unwrap();
    node.expire(away + LINK_TIMEOUT);
    assert_eq!(link.state(), LinkState::Lost);
}

#[test]
fn a_peer_that_comes_back_goes_on_where_it_was() {
    let (node, _commands) = in_step();
    let first = publish(&node).remove(0);
    node.on_lost("peer");
    let second = publish(&node).remove(0);
    assert!(Arc::ptr_eq(&first, &second), "its events wait for it");
    node.on_joined("peer");
    node.on_hello("peer", PublisherId([2; 16]), vec![info(1, 1)]);
    assert_eq!(first.received(), 1);
    assert_eq!(first.state(), LinkState::Open);
    let third = publish(&node).remove(0);
    assert!(Arc::ptr_eq(&first, &third));
}

#[test]
fn another_life_ends_the_links_of_the_one_before() {
    let (node, _commands) = in_step();
    let link = publish(&node).remove(0);
    node.on_lost("peer");
    node.on_joined("peer");
    node.on_hello("peer", PublisherId([3; 16]), vec![info(2, 0)]);
    assert_eq!(link.state(), LinkState::Lost);
    let after = publish(&node);
    assert_eq!(after.len(), 1);
    assert_eq!(after[0].subscription, 2);
}

#[test]
fn a_subscription_that_ended_while_apart_is_waited_for_by_nobody() {
    let (node, _commands) = in_step();
    let link = publish(&node).remove(0);
    node.on_lost("peer");
    node.on_joined("peer");
    node.on_hello("peer", PublisherId([2; 16]), Vec::new());
    assert_eq!(link.state(), LinkState::Closed);
}

#[test]
fn a_stranger_says_hello_in_vain_unless_the_broker_announces_nobody() {
    let (node, _commands) = node();
    node.on_members(vec![member("me")]);
    node.on_hello("eb-x", PublisherId([2; 16]), vec![info(1, 0)]);
    assert!(publish(&node).is_empty());
    node.state.lock().polled = true;
    node.on_hello("eb-x", PublisherId([2; 16]), vec![info(1, 0)]);
    assert_eq!(publish(&node).len(), 1);
}

#[test]
fn an_outdated_list_of_a_stock_broker_does_not_lose_a_peer_for_long() {
    let (node, _commands) = node();
    node.state.lock().polled = true;
    node.on_listed(vec!["me".to_owned(), "eb-x".to_owned()]);
    node.on_welcome("eb-x", PublisherId([2; 16]), vec![info(1, 0)]);
    node.on_listed(vec!["me".to_owned()]);
    assert!(node.state.lock().peers["eb-x"].away.is_some());
    node.on_listed(vec!["me".to_owned(), "eb-x".to_owned()]);
    let state = node.state.lock();
    assert!(state.peers["eb-x"].away.is_none());
    assert!(state.peers["eb-x"].knows_us, "it was said hello to again");
}

/// Subscriptions, each with a link for the peer; their numbers.
fn subscribed(node: &Node, count: usize) -> Vec<u64> {
    let subscribe = |_| {
        let (id, ..) = node.enter(&Subscribe::to("b").unwrap()).unwrap();
        node.announce(id);
        id
    };
    (0..count).map(subscribe).collect()
}

fn link_of(node: &Node, id: u64) -> Arc<InLink> {
    Arc::clone(&node.state.lock().subscriptions[&id].links["peer"])
}

#[test]
fn links_begin_with_windows_that_leave_others_room() {
    let (node, _commands) = in_step();
    let windows: Vec<u64> = subscribed(&node, 16)
        .into_iter()
        .map(|id| link_of(&node, id).cursor().credit)
        .collect();
    assert!(windows.iter().all(|window| *window >= 128), "{windows:?}");
}

#[test]
fn a_link_on_which_much_is_sent_gets_more_credit_and_returns_it() {
    let (node, _commands) = in_step();
    let granted = || node.granted.events.load(Ordering::Relaxed);
    let before = granted();
    let ids = subscribed(&node, 10);
    let (idle, busy) = (ids[8], ids[9]);
    let link = link_of(&node, busy);
    let untouched = link_of(&node, idle).cursor().credit;
    let first = link.cursor().credit;
    let mut next = 0;
    let mut acknowledged = |events: u64| {
        next += events;
        link.receive(events, 0);
        node.acks.note(&link, &node.outbox.wake);
        let acks = node.acks.take(|link| node.allot_more(link));
        acks[0].1.credit
    };
    assert_eq!(acknowledged(1), first, "little is sent");
    let credits: Vec<u64> = (0..4).map(|_| acknowledged(first)).collect();
    assert!(credits.is_sorted(), "{credits:?}");
    assert!(
        credits.last().is_some_and(|last| *last >= 2 * first),
        "{first}: {credits:?}"
    );
    assert!(granted() <= 32_768);
    assert_eq!(link_of(&node, idle).cursor().credit, untouched);
    ids.into_iter().for_each(|id| node.end_subscription(id));
    assert_eq!(granted(), before, "all of it is returned");
}
