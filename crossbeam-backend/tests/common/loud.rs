//! A payload that publishes once more when it is let go of, which is its own affair.

use eventbus_trait::{Event, Publisher};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Loud {
    #[serde(skip)]
    publisher: Option<Publisher>,
}

impl Drop for Loud {
    fn drop(&mut self) {
        if let Some(publisher) = self.publisher.take() {
            publisher.try_publish(publisher.event("dropped")).unwrap();
        }
    }
}

/// An event of `publisher`, by which its payload publishes.
pub(crate) fn loud(publisher: &Publisher) -> Event {
    let payload = Loud {
        publisher: Some(publisher.clone()),
    };
    Event::typed(publisher.topic().clone(), payload).unwrap()
}
