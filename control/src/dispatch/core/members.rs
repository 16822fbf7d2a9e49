//! What follows when members come, change and go.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

use super::super::doing::Place;
use super::super::spec::AttemptEnd;
use super::{Core, Step};
use crate::registry::{Change, Member, Removal};

impl Core {
    /// Members have changed.
    pub(in super::super) fn change(&mut self, change: Change, now: Instant, steps: &mut Vec<Step>) {
        match change {
            Change::Resync(members) => {
                let there: BTreeSet<&str> = members
                    .iter()
                    .map(|member| &*member.identity.name)
                    .collect();
                for name in self.roster.names() {
                    if !there.contains(&*name) {
                        self.gone(&name, None, now, steps);
                    }
                }
                for member in &members {
                    self.there(member, now, steps);
                }
            }
            Change::Joined(member)
            | Change::Changed(member)
            | Change::Degraded(member)
            | Change::Recovered(member) => self.there(&member, now, steps),
            Change::Removed { member, reason } => {
                let name = &member.identity.name;
                if self.roster.instance(name) == Some(&*member.identity.instance) {
                    self.gone(name, Some(reason), now, steps);
                }
            }
        }
    }

    fn there(&mut self, member: &Member, now: Instant, steps: &mut Vec<Step>) {
        let identity = &member.identity;
        let known = self.roster.instance(&identity.name);
        if known.is_some_and(|known| known != identity.instance) {
            self.gone(&identity.name, Some(Removal::Replaced), now, steps);
        }
        self.roster.put(identity, member.is_available());
        for capability in &identity.capabilities {
            self.place(capability, now, steps);
        }
    }

    fn gone(&mut self, name: &str, reason: Option<Removal>, now: Instant, steps: &mut Vec<Step>) {
        self.roster.remove(name);
        let theirs = self
            .tasks
            .iter()
            .filter_map(|(id, doing)| match &doing.place {
                Place::At { seat, .. } if seat.member.name == name => Some(Arc::clone(id)),
                _ => None,
            });
        let mut theirs: Vec<_> = theirs.collect();
        theirs.sort_by_key(|id| self.tasks.get(id).map(|doing| doing.turn));
        for id in theirs {
            let Some(doing) = self.tasks.get_mut(&id) else {
                continue;
            };
            let Place::At { seat, .. } = std::mem::replace(&mut doing.place, Place::Waiting) else {
                continue;
            };
            // It may be there all the same, and only not be heard.
            steps.extend(self.call_off(&id, seat.clone()));
            self.note(&id, &seat, AttemptEnd::Gone { reason }, now, steps);
        }
    }
}
