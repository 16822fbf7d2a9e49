//! A service that others can call, and that says on the bus what it has done.
//!
//! What it runs on is configuration. At a broker, `eventbus call calculator double 21` asks it, and
//! `eventbus tail 'events.#'` shows what it says.

use std::sync::Arc;

use eventbus::rpc::{Call, Methods, Reply, Service};
use eventbus::{Config, Event, EventBus};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = eventbus::open(&Config::load()?).await?;
    let _serving = bus.serve(Service::new("calculator", methods(&bus))).await?;
    println!("serving `calculator` on {}", bus.backend());
    // Until it is killed.
    std::future::pending().await
}

fn methods(bus: &Arc<dyn EventBus>) -> Methods {
    let bus = Arc::clone(bus);
    Methods::new().on("double", move |call: Call| {
        let bus = Arc::clone(&bus);
        async move {
            let double = *call.decode_json::<i64>()? * 2;
            if let Ok(event) = Event::json("events.calculator.doubled", &double) {
                // Nobody has to listen.
                let _ = bus.publish(event).await;
            }
            Ok(Reply::json(&double)?)
        }
    })
}
