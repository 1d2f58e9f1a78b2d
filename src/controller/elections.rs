//! Who leads a partition (class `Election`): the strategies, as functions over what the controller knows.
//!
//! Invariant: a clean strategy never picks a leader outside the ISR, and no strategy empties the ISR.

use crate::base::BrokerId;
use crate::zookeeper::paths::{LeaderRecoveryState, PartitionState};
use std::collections::BTreeSet;

/// Why a leader is elected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Strategy {
    /// The leader is gone, or was never there. `unclean` is asked for by an operator; a topic may also allow it by itself.
    Offline { unclean: bool },
    /// The first replica is to lead again.
    Preferred,
    /// Brokers are about to stop.
    ControlledShutdown,
    /// The leader is not among the replicas that the partition has moved to: those are the assignment by now.
    Reassignment,
}

/// A partition before the election.
pub struct Candidates<'a> {
    /// Replicas in the order of preference.
    pub assignment: &'a [BrokerId],
    pub state: &'a PartitionState,
    /// Replicas whose broker is live, not shutting down, and has the partition's directory.
    pub online: &'a BTreeSet<BrokerId>,
    pub shutting_down: &'a BTreeSet<BrokerId>,
}

/// The outcome of an election.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Elected {
    pub leader: BrokerId,
    pub isr: Vec<BrokerId>,
    pub recovery: LeaderRecoveryState,
    /// Who has to hear of it by LeaderAndIsr.
    pub recipients: Vec<BrokerId>,
}

/// `None` when nobody may lead.
pub fn elect(strategy: &Strategy, unclean_allowed: bool, partition: &Candidates<'_>) -> Option<Elected> {
    match strategy {
        Strategy::Offline { unclean } => offline(*unclean || unclean_allowed, partition),
        Strategy::Preferred => preferred(partition),
        Strategy::ControlledShutdown => controlled_shutdown(partition),
        Strategy::Reassignment => reassignment(partition),
    }
}

/// The first leader of a new partition: all online replicas are in its ISR.
pub fn first(assignment: &[BrokerId], online: &BTreeSet<BrokerId>) -> Option<(BrokerId, Vec<BrokerId>)> {
    let isr: Vec<BrokerId> = assignment.iter().copied().filter(|replica| online.contains(replica)).collect();
    Some((*isr.first()?, isr))
}

fn offline(unclean: bool, partition: &Candidates<'_>) -> Option<Elected> {
    let Candidates { assignment, state, online, .. } = partition;
    let live = || assignment.iter().copied().filter(|replica| online.contains(replica));
    let recipients = live().collect();
    if let Some(leader) = live().find(|replica| state.isr.contains(replica)) {
        let isr = state.isr.iter().copied().filter(|replica| online.contains(replica)).collect();
        return Some(Elected { leader, isr, recovery: state.recovery, recipients });
    }
    let leader = live().next().filter(|_| unclean)?;
    Some(Elected { leader, isr: vec![leader], recovery: LeaderRecoveryState::Recovering, recipients })
}

fn preferred(partition: &Candidates<'_>) -> Option<Elected> {
    let Candidates { assignment, state, online, .. } = partition;
    let leader = *assignment.first()?;
    (online.contains(&leader) && state.isr.contains(&leader)).then(|| Elected {
        leader,
        isr: state.isr.clone(),
        recovery: state.recovery,
        recipients: assignment.to_vec(),
    })
}

fn controlled_shutdown(partition: &Candidates<'_>) -> Option<Elected> {
    let Candidates { assignment, state, online, shutting_down } = partition;
    let present = |replica: &BrokerId| online.contains(replica) || shutting_down.contains(replica);
    let leader = assignment
        .iter()
        .copied()
        .find(|replica| present(replica) && state.isr.contains(replica) && !shutting_down.contains(replica))?;
    let isr = state.isr.iter().copied().filter(|replica| !shutting_down.contains(replica)).collect();
    let recipients = assignment.iter().copied().filter(present).collect();
    Some(Elected { leader, isr, recovery: state.recovery, recipients })
}

fn reassignment(partition: &Candidates<'_>) -> Option<Elected> {
    let Candidates { assignment, state, online, .. } = partition;
    let may_lead = |replica: &&BrokerId| online.contains(replica) && state.isr.contains(replica);
    let leader = *assignment.iter().find(may_lead)?;
    let (isr, recipients) = (state.isr.clone(), assignment.to_vec());
    Some(Elected { leader, isr, recovery: state.recovery, recipients })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ControllerEpoch, LeaderEpoch};

    fn ids(text: &str) -> Vec<BrokerId> {
        text.split_whitespace().map(|id| BrokerId(id.parse().unwrap())).collect()
    }

    /// strategy, assignment, isr, online, shutting down => leader/isr/recipients, `-` for no election.
    #[test]
    fn strategies() {
        let offline = Strategy::Offline { unclean: false };
        let unclean = Strategy::Offline { unclean: true };
        for (strategy, assignment, isr, online, stopping, expected) in [
            (&offline, "1 2 3", "1 2 3", "2 3", "", "2/2 3/2 3"),
            (&offline, "1 2 3", "3 1", "2 3", "", "3/3/2 3"),
            (&offline, "1 2", "1", "2", "", "-"),
            (&offline, "1 2", "1 2", "", "", "-"),
            (&unclean, "1 2 3", "1", "2 3", "", "2/2/2 3"),
            (&unclean, "1 2 3", "3", "2 3", "", "3/3/2 3"),
            (&unclean, "1", "1", "", "", "-"),
            (&Strategy::Preferred, "1 2", "2 1", "1 2", "", "1/2 1/1 2"),
            (&Strategy::Preferred, "1 2", "2", "1 2", "", "-"),
            (&Strategy::Preferred, "1 2", "2 1", "2", "", "-"),
            (&Strategy::ControlledShutdown, "1 2 3", "1 2", "2 3", "1", "2/2/1 2 3"),
            (&Strategy::ControlledShutdown, "1 2", "1", "2", "1", "-"),
            (&Strategy::ControlledShutdown, "1", "1", "", "1", "-"),
            (&Strategy::Reassignment, "3 4", "1 2 4 3", "1 2 3 4", "", "3/1 2 4 3/3 4"),
            (&Strategy::Reassignment, "3 4", "1 4 3", "1 4", "", "4/1 4 3/3 4"),
            (&Strategy::Reassignment, "3 4", "1 3", "1 4", "", "-"),
        ] {
            let state = PartitionState {
                leader: BrokerId(1),
                leader_epoch: LeaderEpoch(4),
                controller_epoch: ControllerEpoch(1),
                isr: ids(isr),
                recovery: LeaderRecoveryState::Recovered,
            };
            let elected = elect(
                strategy,
                false,
                &Candidates {
                    assignment: &ids(assignment),
                    state: &state,
                    online: &ids(online).into_iter().collect(),
                    shutting_down: &ids(stopping).into_iter().collect(),
                },
            );
            let show = |list: &[BrokerId]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let shown = elected.as_ref().map_or("-".to_owned(), |elected| {
                format!("{}/{}/{}", elected.leader, show(&elected.isr), show(&elected.recipients))
            });
            assert_eq!(shown, expected, "{strategy:?} {assignment} isr {isr} online {online} stopping {stopping}");
            let unclean_leader = elected.is_some_and(|elected| elected.recovery == LeaderRecoveryState::Recovering);
            assert_eq!(unclean_leader, expected == "2/2/2 3");
        }
    }
}
