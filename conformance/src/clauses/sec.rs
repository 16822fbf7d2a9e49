//! SEC: the front door. Whoever is turned away, those inside notice nothing.

mod descriptors;

pub(super) use descriptors::sec_007_no_descriptors_no_spinning;

use std::sync::Arc;

use eventbus_trait::{ConnectError, Event, PublishError, Subscribe, SubscribeError};

use crate::check;
use crate::harness::{Answer, Caller, Refusal};
use crate::stage::{AtDoor, Author, Context, Reader};
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// More than any clause here needs.
const CONNECTIONS: usize = 50;

/// How many there are inside from the first: the stage's own handle and another.
const INSIDE: usize = 2;

/// A door, and two inside who exchange events all the while.
struct Inside {
    door: AtDoor,
    author: Arc<Author>,
    readers: Vec<Reader>,
}

impl Inside {
    async fn behind(context: &Context, connections: usize) -> Checked<Self> {
        let door = context.door_stage(connections).await?;
        let stage = &door.stage;
        let other = door.member().await?;
        let author = stage.author(&other);
        let readers = vec![
            stage.reader(&stage.bus(), "a.#").await?,
            stage.reader(&other, "a.*").await?,
        ];
        Ok(Self {
            door,
            author,
            readers,
        })
    }

    /// They go on as if nobody were there.
    async fn go_on(&mut self) -> Checked {
        let publishing = self.author.publish_over(&["a.b"], 50);
        let stage = &self.door.stage;
        stage.while_reading(&mut self.readers, publishing).await
    }

    /// This caller is turned away; false, if the phase knows none such.
    async fn turns_away(&mut self, caller: Caller) -> Checked<bool> {
        let who = format!("{caller:?}");
        let reason = match self.door.come(caller).await? {
            Answer::NoSuchCaller => return Ok(false),
            Answer::Out(reason) => reason,
            Answer::In(_) => return Err(Unmet::broken(format_args!("{who} was let in"))),
        };
        let reason = reason.to_string();
        ensure!(!reason.is_empty(), "{who} was not told why");
        self.go_on().await?;
        Ok(true)
    }

    async fn are_well(mut self) -> Checked {
        self.go_on().await?;
        let stage = &self.door.stage;
        stage.drain(&mut self.readers, &[self.author]).await?;
        let history = stage.history();
        check::lost(&history).verdict()?;
        check::duplicates(&history).verdict()?;
        check::phantoms(&history).verdict()
    }
}

/// SEC-001: a socket in the file system is its user's alone, in a directory that is its user's
/// alone; a second broker leaves the first one's alone.
pub(crate) async fn sec_001_the_socket_is_its_users(context: Context) -> Checked {
    let inside = Inside::behind(&context, CONNECTIONS).await?;
    let Some(socket) = inside.door.socket() else {
        return Err(Unmet::unexercised("the front door has no socket file"));
    };
    let (file, directory) = (mode(&socket)?, mode(socket.parent().unwrap_or(&socket))?);
    ensure_eq!(format!("{file:o}"), "600", "mode of the socket");
    ensure_eq!(format!("{directory:o}"), "700", "mode of its directory");
    let second = inside.door.second_broker().await?;
    let Err(reason) = second else {
        return Err(Unmet::broken(
            "a second broker took the socket of a live one",
        ));
    };
    ensure!(!reason.is_empty(), "a second broker was not told why");
    ensure!(socket.exists(), "the socket of a live broker is gone");
    let member = inside.door.member().await?;
    member.shutdown().await?;
    inside.are_well().await
}

#[cfg(unix)]
fn mode(path: &std::path::Path) -> Checked<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = std::fs::metadata(path).map_err(Unmet::broken)?;
    Ok(metadata.permissions().mode() & 0o777)
}

#[cfg(not(unix))]
fn mode(_: &std::path::Path) -> Checked<u32> {
    Err(Unmet::unexercised("files have no modes here"))
}

/// SEC-002: over TCP nobody gets in but by TLS with a certificate that the broker's authority has
/// signed, and that holds now; and nobody is led to another broker.
pub(crate) async fn sec_002_tls_or_nothing(context: Context) -> Checked {
    let mut inside = Inside::behind(&context, CONNECTIONS).await?;
    let callers = [
        Caller::Plain,
        Caller::NoCertificate,
        Caller::ForeignAuthority,
        Caller::Expired,
        Caller::WrongServerName,
    ];
    let mut turned_away = 0;
    for caller in callers.clone() {
        turned_away += usize::from(inside.turns_away(caller).await?);
    }
    if turned_away == 0 {
        return Err(Unmet::unexercised("nobody could come by TLS"));
    }
    ensure_eq!(turned_away, callers.len(), "ways of not getting in");
    inside.are_well().await
}

/// SEC-003: a client's name is its certificate's.
pub(crate) async fn sec_003_a_name_is_its_certificates(context: Context) -> Checked {
    let mut inside = Inside::behind(&context, CONNECTIONS).await?;
    if !inside.turns_away(Caller::AnothersName).await? {
        let reason = "nobody could come under another's name";
        return Err(Unmet::unexercised(reason));
    }
    inside.are_well().await
}

/// SEC-004: what a client may not do is an error that says so, to that client, and nothing comes of
/// it; what it may do, it can.
pub(crate) async fn sec_004_denied_is_an_error(context: Context) -> Checked {
    let inside = Inside::behind(&context, CONNECTIONS).await?;
    let stage = &inside.door.stage;
    let guest = match inside.door.come(Caller::Guest).await? {
        Answer::In(guest) => guest,
        other => return Err(Unmet::unexercised(format_args!("no guest: {other:?}"))),
    };
    let denied = guest.publish(Event::new("a.b", "by a guest")?).await;
    let reason = denied.err().map(|refused| refused.into_parts().1);
    let topic = "a.b".to_owned();
    ensure_eq!(reason, Some(PublishError::Denied { topic }), "publishing");
    for filter in ["a.#", "#", "*.b", "open"] {
        let denied = guest.subscribe(Subscribe::to(filter)?).await.err();
        let allowed = filter == "open";
        let as_due = match &denied {
            Some(SubscribeError::Denied { filter: named }) => !allowed && named == filter,
            None => allowed,
            Some(_) => false,
        };
        ensure!(as_due, "subscribing to `{filter}`: {denied:?}");
    }
    // And the rest of it works: the guest and a member hear each other on `open.#`.
    let mut readers = vec![
        stage.reader_without_fences(&guest, "open.#").await?,
        stage.reader_without_fences(&stage.bus(), "#").await?,
    ];
    let words = stage.author(&guest);
    let publishing = words.publish_over(&["open.b"], 20);
    stage.while_reading(&mut readers, publishing).await?;
    for reader in &mut readers {
        reader.read_until_matched(20).await?;
    }
    inside.are_well().await
}

/// SEC-005: who sends garbage, halves or too much is thrown out; nobody else notices.
pub(crate) async fn sec_005_garbage_is_thrown_out(context: Context) -> Checked {
    let mut inside = Inside::behind(&context, CONNECTIONS).await?;
    let greeting = [0xEB, 1, 0];
    let with = |rest: &[u8]| [&greeting[..], rest].concat();
    let garbage: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        (0..4096_u32).map(|n| (n * 31 % 251) as u8).collect(),
        vec![0; 4096],
        vec![0xFF; 4096],
        // A name of sixty thousand bytes, and one with a NUL.
        with(&[&[0x60, 0xEA][..], &vec![b'x'; 60_000]].concat()),
        with(&[4, 0, b'a', 0, b'b', b'c']),
    ];
    let mut thrown_out = 0;
    for bytes in garbage {
        thrown_out += usize::from(inside.turns_away(Caller::Bytes(bytes)).await?);
    }
    if thrown_out == 0 {
        return Err(Unmet::unexercised("nobody could come with bytes"));
    }
    inside.are_well().await
}

/// SEC-006: who comes when there is no room is turned away and told, and has room when somebody has
/// left.
pub(crate) async fn sec_006_connections_are_limited(context: Context) -> Checked {
    const ROOM: usize = 5;
    let mut inside = Inside::behind(&context, ROOM).await?;
    let mut members = Vec::new();
    // Not one fewer than there is room for, and not one more.
    for place in INSIDE..ROOM {
        match inside.door.come(Caller::Member).await? {
            Answer::In(member) => members.push(member),
            Answer::Out(reason) => {
                let text =
                    format_args!("{place} of {ROOM} were inside, and no more came: {reason}");
                return Err(Unmet::broken(text));
            }
            Answer::NoSuchCaller => return Err(Unmet::unexercised("nobody could come")),
        }
    }
    let refusal = match inside.door.come(Caller::Member).await? {
        Answer::Out(reason) => reason,
        _ => return Err(Unmet::broken(format_args!("more than {ROOM} came in"))),
    };
    ensure!(
        matches!(refusal, Refusal::Connect(ConnectError::Refused { .. })),
        "who found no room was told: {refusal}"
    );
    inside.go_on().await?;
    let Some(leaving) = members.pop() else {
        return Err(Unmet::unexercised("there was no room for anybody"));
    };
    leaving.shutdown().await?;
    let stage = inside.door.stage.clone();
    let coming = async {
        let mut beat = tokio::time::interval(std::time::Duration::from_millis(10));
        loop {
            beat.tick().await;
            if let Answer::In(member) = inside.door.come(Caller::Member).await? {
                return Ok::<_, Unmet>(member);
            }
        }
    };
    stage.wait("room to be given back", coming).await??;
    inside.are_well().await
}
