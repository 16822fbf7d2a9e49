//! The bus under test, with something between it and its broker.

use std::sync::Arc;
use std::time::Duration;

use conformance::check::{self, Within};
use conformance::stage::{Author, Faulty, Reader};
use conformance::{Checked, Context, Fault, Harness, Opening, Patience, Unmet};
use eventbus_trait::BusState;
use tokio::sync::watch;

use super::model::Operation;
use crate::programs::{Outcome, on_a_runtime, unless_empty};

const PATIENCE: Patience = Patience(Duration::from_secs(20));

/// Runs a program and judges what came of it.
pub(crate) fn run(harness: &Arc<dyn Harness>, program: &[Operation], step: impl Fn()) -> Outcome {
    let context = Context::new(Arc::clone(harness), PATIENCE);
    on_a_runtime(&context, async {
        let faulty = context.fault_stage().await?;
        let far = faulty.open(Opening::default()).await?;
        let authors = [
            faulty.stage.author(&faulty.stage.bus()),
            faulty.stage.author(&far),
        ];
        let mut machine = Machine {
            faulty,
            authors,
            readers: Vec::new(),
            numbers: Vec::new(),
            made: 0,
            hurt: None,
            noticing: Vec::new(),
        };
        for operation in program {
            step();
            let performed = machine.perform(operation).await;
            performed.map_err(|unmet| Unmet::broken(format_args!("{operation:?}: {unmet}")))?;
        }
        machine.finish().await
    })
}

struct Machine {
    faulty: Faulty,
    authors: [Arc<Author>; 2],
    readers: Vec<Reader>,
    /// Which subscription of the program each reader is.
    numbers: Vec<usize>,
    made: usize,
    hurt: Option<Fault>,
    /// The states of handles whose connection was broken.
    noticing: Vec<watch::Receiver<BusState>>,
}

impl Machine {
    async fn perform(&mut self, operation: &Operation) -> Checked {
        match operation {
            Operation::Subscribe { handle, filter } => {
                // SUB-001 is about publishers that are connected.
                self.settle().await?;
                let bus = self.authors[*handle].bus();
                let reader = self.faulty.stage.reader(bus, filter).await?;
                self.readers.push(reader);
                self.numbers.push(self.made);
                self.made += 1;
                Ok(())
            }
            Operation::Unsubscribe { subscription } => {
                let Some(at) = self.numbers.iter().position(|n| n == subscription) else {
                    return Ok(());
                };
                self.numbers.remove(at);
                self.readers.remove(at).unsubscribe().await.map(|_| ())
            }
            Operation::Publish {
                handle,
                topic,
                events,
            } => {
                let topics = [*topic];
                let publishing = self.authors[*handle].insist_over(&topics, *events);
                let stage = &self.faulty.stage;
                stage.while_reading(&mut self.readers, publishing).await
            }
            Operation::Strike(fault) => self.strike(*fault).await,
            Operation::Heal => self.heal().await,
        }
    }

    async fn strike(&mut self, fault: Fault) -> Checked {
        self.settle().await?;
        let hurt = match fault {
            Fault::BrokerKilled => &self.authors[..],
            fault if fault.breaks_the_connection() => &self.authors[..1],
            _ => &[],
        };
        for author in hurt {
            let mut state = author.bus().state();
            state.mark_unchanged();
            // A wrapper whose state never changes has nothing to come back from.
            if state.has_changed().is_ok() {
                self.noticing.push(state);
            }
        }
        let before = self.faulty.struck();
        self.hurt = Some(fault);
        self.faulty.strike(fault).await?;
        if !super::model::lasts(fault) {
            let faulty = &self.faulty;
            let struck = || faulty.struck() > before;
            faulty.stage.until("the fault to strike", struck).await?;
            self.hurt = None;
        }
        Ok(())
    }

    async fn heal(&mut self) -> Checked {
        self.hurt = None;
        self.faulty.heal().await
    }

    /// Waits until the fault before is over for every handle: who was hurt has noticed, and is
    /// connected again.
    async fn settle(&mut self) -> Checked {
        for mut state in self.noticing.drain(..) {
            let noticing = self
                .faulty
                .stage
                .wait("a handle to notice", state.changed());
            noticing.await?.map_err(Unmet::broken)?;
        }
        for author in &self.authors {
            let mut state = author.bus().state();
            let connected = state.wait_for(|state| *state == BusState::Connected);
            let connected = self
                .faulty
                .stage
                .wait("a handle to be connected", connected);
            connected.await?.map_err(Unmet::broken)?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Checked {
        if self.hurt.is_some() {
            self.heal().await?;
        }
        self.settle().await?;
        let stage = &self.faulty.stage;
        stage.drain(&mut self.readers, &self.authors).await?;
        let history = stage.history();
        for findings in [
            check::lost(&history),
            check::duplicates(&history),
            check::phantoms(&history),
            check::refused(&history),
            check::corrupted(&history),
            check::nonmonotonic(&history, Within::Topic),
            check::skips(&history, Within::Topic),
            check::stamps(&history, Within::Topic),
            check::uncounted(&history),
        ] {
            unless_empty(&findings)?;
        }
        for reader in &mut self.readers {
            reader.counted(|stats| stats.is_conserved()).await?;
        }
        Ok(())
    }
}
