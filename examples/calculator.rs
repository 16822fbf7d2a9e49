//! A service that others can call, and that says on the bus what it has done.
//!
//! What it runs on is configuration. At a broker, `eventbus call calculator double 21` asks it, and
//! `eventbus tail 'events.#'` shows what it says.

use std::process::ExitCode;
use std::sync::Arc;

use eventbus::rpc::{Call, Failure, Methods, Reply, Service};
use eventbus::{Config, Event, EventBus};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        // Errors are sentences; returned from `main` they would be shown as Rust values.
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
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
            let double = *call.decode_json::<i64>()?;
            let double = double.checked_mul(2);
            let double = double.ok_or_else(|| Failure::new(1, "that is too much to double"))?;
            if let Ok(event) = Event::json("events.calculator.doubled", &double) {
                // Nobody has to listen.
                let _ = bus.publish(event).await;
            }
            Ok(Reply::json(&double)?)
        }
    })
}
