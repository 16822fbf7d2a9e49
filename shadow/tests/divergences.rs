//! The divergence file: every divergence is in it, its verdict can be made again from there, no
//! payload is, and neither a full disk nor a full file disturbs anybody.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::{WATCHDOG, assert_law, crossbeam, subscribe, take, whole, within};
use eventbus_trait::{Event, EventBus};
use shadow::sabotage::{Sabotage, SabotageBus};
use shadow::{DivergenceFile, Report, ShadowBus, ShadowOptions, Verdict, replay};

const EVENTS: u64 = 1_500;

/// A directory of its own, gone at the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let name = format!("shadow-{name}-{}", std::process::id());
        let place = std::env::temp_dir().join(name);
        fs::create_dir_all(&place).unwrap();
        Self(place)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn sabotaged(kind: Sabotage, file: DivergenceFile) -> Report {
    let grace = Duration::from_millis(50);
    let saboteur = SabotageBus::with_grace(crossbeam(), kind, 0.02, 5, grace);
    let options = ShadowOptions {
        grace,
        divergence_file: Some(file),
        ..whole()
    };
    let bus = ShadowBus::new(crossbeam(), Arc::clone(&saboteur) as _, options);
    let mut events = subscribe(&*bus, "#").await;
    for n in 0..EVENTS {
        let topic = ["t.a", "t.b"][n as usize % 2];
        let event = Event::new(topic, format!("secret {n}").into_bytes()).unwrap();
        bus.publish(event).await.unwrap();
    }
    let read = take(&mut events, EVENTS as usize).await;
    assert_eq!(read.len() as u64, EVENTS);
    let report = within(bus.detach(WATCHDOG)).await.unwrap();
    assert_law(&report);
    assert!(saboteur.injected() > 0);
    assert_eq!(report.diverged(), saboteur.injected(), "{kind}");
    report
}

fn replayed(path: &Path) -> shadow::Replay {
    replay(fs::read(path).unwrap().as_slice()).unwrap()
}

#[tokio::test]
async fn every_verdict_comes_out_again() {
    let place = Place::new("replay");
    for kind in Sabotage::ALL {
        let path = place.file(&kind.to_string());
        let report = sabotaged(kind, DivergenceFile::new(&path)).await;
        let file = report.divergence_file.as_ref().unwrap();
        assert_eq!((file.dropped, &file.error), (0, &None));
        // What was missing first and then late is there twice.
        assert!(file.written >= report.diverged(), "{kind}: {file:?}");
        let again = replayed(&path);
        assert_eq!(again.otherwise, [], "{kind}");
        assert_eq!(again.reproduced, file.written, "{kind}");
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("secret"), "{kind}: a payload is in the file");
        if kind == Sabotage::Reorder {
            assert_eq!(report.displaced.events, report.reordered);
            assert_eq!(
                (report.displaced.max, report.displaced.sum),
                (1, report.reordered)
            );
        }
    }
}

#[tokio::test]
async fn what_is_not_so_is_told_otherwise() {
    let place = Place::new("otherwise");
    let path = place.file("drop");
    sabotaged(Sabotage::Drop, DivergenceFile::new(&path)).await;
    let text = fs::read_to_string(&path).unwrap();
    let tampered = text.replacen("\"missing\"", "\"reordered\"", 1);
    let again = replay(tampered.as_bytes()).unwrap();
    assert_eq!(again.otherwise.len(), 1);
    assert_eq!(again.otherwise[0].line, 1);
    let error = replay(&b"{}\n"[..]).unwrap_err().to_string();
    assert!(error.starts_with("line 1 is no divergence: "), "{error}");
    let other = text.replacen("divergence/1", "divergence/2", 1);
    let error = replay(other.as_bytes()).unwrap_err().to_string();
    assert!(
        error.contains("its format is `eventbus-divergence/2`"),
        "{error}"
    );
}

#[tokio::test]
async fn a_full_file_is_counted() {
    let place = Place::new("bounded");
    let path = place.file("drop");
    let file = DivergenceFile {
        max_bytes: 4096,
        ..DivergenceFile::new(&path)
    };
    let report = sabotaged(Sabotage::Drop, file).await;
    let said = report.divergence_file.as_ref().unwrap();
    assert!(fs::metadata(&path).unwrap().len() <= 4096);
    assert_eq!(replayed(&path).reproduced, said.written);
    assert_eq!(said.written + said.dropped, report.missing);
    assert!(said.dropped > 0 && said.error.is_none(), "{said:?}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_told_and_disturbs_nobody() {
    for (path, error) in [
        ("/dev/full", "No space left"),
        ("/nowhere/at/all", "No such file"),
    ] {
        let report = sabotaged(Sabotage::Drop, DivergenceFile::new(path)).await;
        let said = report.divergence_file.as_ref().unwrap();
        assert_eq!(
            (said.written, said.dropped),
            (0, report.missing),
            "{said:?}"
        );
        assert!(said.error.as_ref().unwrap().contains(error), "{said:?}");
        assert_eq!(report.verdict, Verdict::Diverged);
        assert!(report.table().contains(error), "{}", report.table());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_is_there_becomes_its_owners_alone() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let place = Place::new("owner");
    let (path, link) = (place.file("drop"), place.file("link"));
    fs::write(&path, "what was there\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let report = sabotaged(Sabotage::Drop, DivergenceFile::new(&path)).await;
    assert_eq!(replayed(&path).reproduced, report.missing, "made anew");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let before = fs::read(&path).unwrap();
    symlink(&path, &link).unwrap();
    let report = sabotaged(Sabotage::Drop, DivergenceFile::new(&link)).await;
    let said = report.divergence_file.as_ref().unwrap();
    assert!(said.written == 0 && said.error.is_some(), "{said:?}");
    assert_eq!(fs::read(&path).unwrap(), before, "a link is not followed");
}

#[tokio::test]
async fn the_next_comparison_goes_on_in_the_file() {
    let place = Place::new("again");
    let path = place.file("drop");
    let grace = Duration::from_millis(50);
    let options = ShadowOptions {
        grace,
        divergence_file: Some(DivergenceFile::new(&path)),
        ..whole()
    };
    let bus = ShadowBus::alone(crossbeam(), options);
    let mut events = subscribe(&*bus, "#").await;
    let mut missing = 0;
    for seed in [5, 6] {
        let candidate = SabotageBus::with_grace(crossbeam(), Sabotage::Drop, 0.02, seed, grace);
        bus.attach(candidate).unwrap();
        for n in 0..EVENTS {
            bus.publish(Event::new("t.a", n.to_string().into_bytes()).unwrap())
                .await
                .unwrap();
        }
        take(&mut events, EVENTS as usize).await;
        let report = within(bus.detach(WATCHDOG)).await.unwrap();
        assert!(report.missing > 0);
        missing += report.missing;
    }
    assert_eq!(replayed(&path).reproduced, missing);
}
