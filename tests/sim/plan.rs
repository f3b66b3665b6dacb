//! What a seed makes of the world: which queues are used, how slow the disk is, how often something fails.

use super::queues::{KINDS, SOURCES};
use super::random::Random;

/// The settings of one simulation.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) clients: usize,
    pub(super) steps: u64,
    /// Queues that messages are published to.
    pub(super) queues: Vec<usize>,
    /// Those of them that the fanout exchange has.
    pub(super) fanned: Vec<usize>,
    /// How often channels publish, publish with confirms, work in transactions, consume, define.
    pub(super) roles: [u64; 5],
    /// How often the writer takes a step, while others take a hundred.
    pub(super) writer_speed: u64,
    /// One in so many transactions reaches the store late; 0 for none.
    pub(super) late_one_in: u64,
    /// One fault in so many steps.
    pub(super) fault_one_in: u64,
    /// How often queues leave to the disk what is there.
    pub(super) spills: u64,
    /// Messages may be large.
    pub(super) large: bool,
}

impl Plan {
    pub(super) fn new(random: &mut Random) -> Self {
        let mut queues: Vec<usize> = Vec::new();
        while queues.len() < 3 || random.once_in(2) && queues.len() < 6 {
            let queue = random.index(SOURCES);
            if !queues.contains(&queue) {
                queues.push(queue);
            }
        }
        let fanned = queues.iter().copied().filter(|_| random.once_in(2)).collect();
        Self {
            clients: 3 + random.index(5),
            steps: random.between(300, 1500),
            queues,
            fanned,
            roles: [
                random.between(0, 2),
                random.between(1, 4),
                random.between(0, 4),
                random.between(2, 5),
                random.between(0, 1),
            ],
            writer_speed: [1, 5, 30, 200][random.index(4)],
            late_one_in: [0, 0, 10, 3][random.index(4)],
            fault_one_in: [30, 80, 200][random.index(3)],
            spills: [0, 1, 6][random.index(3)],
            large: random.once_in(10),
        }
    }

    /// One of the queues in use, or of those with their dead letters.
    pub(super) fn any_queue(&self, random: &mut Random) -> usize {
        let queue = *random.one_of(&self.queues).expect("there are queues");
        KINDS[queue].dead.filter(|_| random.once_in(3)).unwrap_or(queue)
    }

    /// How long a body is, beside the message's number.
    pub(super) fn body_len(&self, random: &mut Random) -> usize {
        match random.between(0, 30) {
            0 => random.index(9000),
            1 if self.large => random.index(200_000),
            _ => random.index(40),
        }
    }
}
