//! Publishes three events and prints what comes back, on whatever bus the configuration names:
//! `EVENTBUS_PHASE=unix:///tmp/x/bus.sock cargo run --features busrt --example hello`

use std::process::ExitCode;

use eventbus::{Config, Event, Subscribe};

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
    let mut events = bus.subscribe(Subscribe::to("events.process.#")?).await?;
    for pid in 1..=3_u32 {
        bus.publish(Event::json("events.process.new", &pid)?)
            .await?;
    }
    bus.shutdown().await?;
    while let Some(event) = events.recv().await {
        println!("{} {}", event.topic(), event.decode_json::<u32>()?);
    }
    println!("received over {}", bus.backend());
    Ok(())
}
