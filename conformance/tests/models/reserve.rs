//! `Room`: no place is given out twice, no waiting publisher is forgotten.
//!
//! Each mutant below has one step of it wrong, and the same model must find that out.

use std::sync::Arc;
use std::task::Waker;

use loom::cell::UnsafeCell;
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread;

use crate::crossbeam::room::{self, NoRoom, Room, Wakes};
use crate::explore::{Bed, Model, must_fail};

/// What the models here stand behind.
const COVERS: &[&str] = &["FLW-001", "FLW-004"];

/// Room in a queue, right or wrong.
trait Places: Send + Sync + Sized + 'static {
    fn of(capacity: u64) -> Self;
    fn room(&self) -> &Room;
    fn reserve(&self) -> Result<(), NoRoom> {
        self.room().reserve()
    }
    fn unreserve(&self) -> Wakes {
        self.room().unreserve()
    }
    fn took(&self) -> Wakes {
        self.room().took()
    }
    fn close(&self) -> Wakes {
        self.room().close()
    }
    fn register(&self, token: u64, waker: &Waker) {
        self.room().register(token, waker);
    }
    fn forget(&self, token: u64) {
        self.room().forget(token);
    }
    /// As `reserve_all`, in terms of the above.
    fn reserve_all(rooms: &[&Self]) -> Result<(), (usize, NoRoom)> {
        for (at, room) in rooms.iter().enumerate() {
            if let Err(reason) = room.reserve() {
                for room in &rooms[..at] {
                    room.unreserve().wake();
                }
                return Err((at, reason));
            }
        }
        Ok(())
    }
}

impl Places for Room {
    fn of(capacity: u64) -> Self {
        Room::new(capacity)
    }
    fn room(&self) -> &Room {
        self
    }
    fn reserve_all(rooms: &[&Self]) -> Result<(), (usize, NoRoom)> {
        room::reserve_all(rooms.iter().copied()).map_err(|(at, reason, wakes)| {
            wakes.wake();
            (at, reason)
        })
    }
}

/// Mutant: taking an event wakes nobody.
struct TakenInSilence(Room);

impl Places for TakenInSilence {
    fn of(capacity: u64) -> Self {
        Self(Room::new(capacity))
    }
    fn room(&self) -> &Room {
        &self.0
    }
    fn took(&self) -> Wakes {
        drop(self.0.took());
        Wakes::default()
    }
}

/// Mutant: giving a reservation back wakes nobody.
struct GivenBackInSilence(Room);

impl Places for GivenBackInSilence {
    fn of(capacity: u64) -> Self {
        Self(Room::new(capacity))
    }
    fn room(&self) -> &Room {
        &self.0
    }
    fn unreserve(&self) -> Wakes {
        drop(self.0.unreserve());
        Wakes::default()
    }
}

/// Mutant: closing wakes nobody.
struct ClosedInSilence(Room);

impl Places for ClosedInSilence {
    fn of(capacity: u64) -> Self {
        Self(Room::new(capacity))
    }
    fn room(&self) -> &Room {
        &self.0
    }
    fn close(&self) -> Wakes {
        drop(self.0.close());
        Wakes::default()
    }
}

/// Mutant: a publisher says that it waits after its last attempt.
struct RegisteredLate(Room, Mutex<Option<(u64, Waker)>>);

impl Places for RegisteredLate {
    fn of(capacity: u64) -> Self {
        Self(Room::new(capacity), Mutex::new(None))
    }
    fn room(&self) -> &Room {
        &self.0
    }
    fn reserve(&self) -> Result<(), NoRoom> {
        let outcome = self.0.reserve();
        if let Some((token, waker)) = self.1.lock().unwrap().take() {
            self.0.register(token, &waker);
        }
        outcome
    }
    fn register(&self, token: u64, waker: &Waker) {
        *self.1.lock().unwrap() = Some((token, waker.clone()));
    }
}

/// A room from first principles, for mutants of its inside.
struct Plain {
    issued: AtomicU64,
    taken: AtomicU64,
    capacity: u64,
    waiting: AtomicBool,
    waiters: Mutex<Vec<Waker>>,
}

impl Plain {
    fn of(capacity: u64) -> Self {
        Self {
            issued: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            capacity,
            waiting: AtomicBool::new(false),
            waiters: Mutex::new(Vec::new()),
        }
    }
    fn is_full(&self, issued: u64) -> bool {
        issued >= self.taken.load(Ordering::Acquire) + self.capacity
    }
    fn took(&self) -> Wakes {
        self.taken.fetch_add(1, Ordering::AcqRel);
        let mut wakes = Wakes::default();
        if self.waiting.load(Ordering::Relaxed) {
            self.waiting.store(false, Ordering::Relaxed);
            let waiting: Vec<_> = self.waiters.lock().unwrap().drain(..).collect();
            waiting.into_iter().for_each(|waker| wakes.push(waker));
        }
        wakes
    }
}

/// Mutant: nothing orders saying that one waits and looking at the receiver's count.
struct Unordered(Plain);

impl Places for Unordered {
    fn of(capacity: u64) -> Self {
        Self(Plain::of(capacity))
    }
    fn room(&self) -> &Room {
        unreachable!("this mutant has a room of its own")
    }
    fn reserve(&self) -> Result<(), NoRoom> {
        let issued = self.0.issued.load(Ordering::Acquire);
        if self.0.is_full(issued) {
            return Err(NoRoom::Full);
        }
        self.0.issued.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }
    fn took(&self) -> Wakes {
        self.0.took()
    }
    fn register(&self, _: u64, waker: &Waker) {
        let mut waiters = self.0.waiters.lock().unwrap();
        waiters.push(waker.clone());
        self.0.waiting.store(true, Ordering::Relaxed);
    }
    fn forget(&self, _: u64) {}
}

/// Mutant: reserving looks first and counts afterwards, in two steps.
struct CheckThenAct(Plain);

impl Places for CheckThenAct {
    fn of(capacity: u64) -> Self {
        Self(Plain::of(capacity))
    }
    fn room(&self) -> &Room {
        unreachable!("this mutant has a room of its own")
    }
    fn reserve(&self) -> Result<(), NoRoom> {
        let issued = self.0.issued.load(Ordering::Acquire);
        if self.0.is_full(issued) {
            return Err(NoRoom::Full);
        }
        self.0.issued.store(issued + 1, Ordering::Release);
        Ok(())
    }
}

/// Takes a place in all rooms, and sleeps while one has none: as `wait::publish` does it.
fn reserve_or_sleep<R: Places>(rooms: &[&R], token: u64) -> Result<(), NoRoom> {
    let mut at = match R::reserve_all(rooms) {
        Ok(()) => return Ok(()),
        Err((_, NoRoom::Closed)) => return Err(NoRoom::Closed),
        Err((at, NoRoom::Full)) => at,
    };
    let bed = Arc::new(Bed::default());
    let waker = Waker::from(Arc::clone(&bed));
    loop {
        rooms[at].register(token, &waker);
        match R::reserve_all(rooms) {
            Ok(()) => {
                rooms[at].forget(token);
                return Ok(());
            }
            Err((_, NoRoom::Closed)) => return Err(NoRoom::Closed),
            Err((full, NoRoom::Full)) if full == at => bed.rest(),
            Err((full, NoRoom::Full)) => {
                rooms[at].forget(token);
                at = full;
            }
        }
    }
}

/// A room of one, which is taken.
fn full<R: Places>() -> Arc<R> {
    let room = Arc::new(R::of(1));
    room.reserve().unwrap();
    room
}

/// The receiver takes the only event while a publisher waits for its place. The cell stands for
/// the place in the channel: loom refuses a publisher that enters while the receiver is at it.
fn one_waits_for_the_receiver<R: Places>() {
    let room = full::<R>();
    let place = Arc::new(UnsafeCell::new(()));
    let publisher = thread::spawn({
        let (room, place) = (Arc::clone(&room), Arc::clone(&place));
        move || {
            reserve_or_sleep(&[&*room], 1).unwrap();
            place.with_mut(|_| ());
        }
    });
    place.with_mut(|_| ());
    room.took().wake();
    publisher.join().unwrap();
    assert_eq!(
        room.reserve(),
        Err(NoRoom::Full),
        "the place is taken again"
    );
}

/// Two publishers wait for room, and the receiver takes an event for each.
fn two_wait_for_the_receiver<R: Places>() {
    let room = Arc::new(R::of(2));
    room.reserve().unwrap();
    room.reserve().unwrap();
    let publishers = [1, 2].map(|token| {
        let room = Arc::clone(&room);
        thread::spawn(move || reserve_or_sleep(&[&*room], token).unwrap())
    });
    room.took().wake();
    room.took().wake();
    for publisher in publishers {
        publisher.join().unwrap();
    }
    assert_eq!(
        room.reserve(),
        Err(NoRoom::Full),
        "both places are taken again"
    );
}

/// Two publishers try to get the only place.
fn two_try_for_one_place<R: Places>() {
    let room = Arc::new(R::of(1));
    let other = thread::spawn({
        let room = Arc::clone(&room);
        move || room.reserve().is_ok()
    });
    let won = room.reserve().is_ok();
    assert_ne!(won, other.join().unwrap(), "over capacity, or under it");
}

/// Two publishers want a place in the same two rooms of one, in opposite orders; each takes its
/// own events out again. Neither enters one room without the other, and neither sleeps for ever.
fn two_want_two_rooms<R: Places>() {
    let rooms = Arc::new([R::of(1), R::of(1)]);
    let queued = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let both = |rooms: Arc<[R; 2]>, queued: Arc<[AtomicU64; 2]>, order: [usize; 2]| {
        let wanted = order.map(|at| &rooms[at]);
        reserve_or_sleep(&wanted, order[0] as u64).unwrap();
        for at in order {
            assert_eq!(
                queued[at].fetch_add(1, Ordering::AcqRel),
                0,
                "over capacity"
            );
        }
        for at in order {
            queued[at].fetch_sub(1, Ordering::AcqRel);
            rooms[at].took().wake();
        }
    };
    let other = thread::spawn({
        let (rooms, queued) = (Arc::clone(&rooms), Arc::clone(&queued));
        move || both(rooms, queued, [1, 0])
    });
    both(rooms, queued, [0, 1]);
    other.join().unwrap();
}

/// A subscription ends while a publisher waits for its room.
fn one_waits_for_a_room_that_closes<R: Places>() {
    let room = full::<R>();
    let publisher = thread::spawn({
        let room = Arc::clone(&room);
        move || reserve_or_sleep(&[&*room], 1)
    });
    room.close().wake();
    assert_eq!(publisher.join().unwrap(), Err(NoRoom::Closed));
    assert_eq!(room.reserve(), Err(NoRoom::Closed));
}

/// Covers `Room::took` and `Room::register`.
#[test]
fn a_place_given_back_wakes_the_publisher() {
    Model::new("room-given-back", COVERS)
        .preemptions(3)
        .explore(50, one_waits_for_the_receiver::<Room>);
}

/// Covers `Room::reserve` by several publishers.
#[test]
fn each_place_given_back_goes_to_one_publisher() {
    Model::new("room-one-place", COVERS)
        .preemptions(3)
        .explore(10, two_try_for_one_place::<Room>);
    Model::new("room-two-wait", COVERS).explore(50_000, two_wait_for_the_receiver::<Room>);
}

/// Covers `reserve_all` and `Room::unreserve`.
#[test]
fn two_rooms_are_entered_both_or_neither() {
    Model::new("room-all-or-none", COVERS)
        .preemptions(3)
        .explore(5_000, two_want_two_rooms::<Room>);
}

/// Covers `Room::close`.
#[test]
fn closing_wakes_the_publisher() {
    Model::new("room-closes", COVERS)
        .preemptions(3)
        .explore(30, one_waits_for_a_room_that_closes::<Room>);
}

#[test]
fn the_model_sees_a_place_given_back_in_silence() {
    must_fail("deadlock", one_waits_for_the_receiver::<TakenInSilence>);
    must_fail("deadlock", two_want_two_rooms::<GivenBackInSilence>);
    must_fail(
        "deadlock",
        one_waits_for_a_room_that_closes::<ClosedInSilence>,
    );
}

#[test]
fn the_model_sees_a_publisher_that_registers_late() {
    must_fail("deadlock", one_waits_for_the_receiver::<RegisteredLate>);
}

#[test]
fn the_model_sees_a_publisher_that_reads_an_old_count() {
    must_fail("deadlock", one_waits_for_the_receiver::<Unordered>);
}

#[test]
fn the_model_sees_a_reservation_in_two_steps() {
    must_fail("over capacity", two_try_for_one_place::<CheckThenAct>);
}
