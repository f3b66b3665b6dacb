//! What goes wrong: lost connections, clients that stop reading, crashes, disks that fail, restarts.

use super::client::Phase;
use super::world::World;
use crate::engine::queue::SpillPlan;
use crate::error::AmqpError;
use crate::server::work::Work;

impl World {
    /// Something goes wrong.
    pub(super) fn fault(&mut self) {
        let at = self.random.index(self.clients.len());
        match self.random.between(0, 11) {
            0..=2 => self.lose(at),
            3 | 4 => {
                self.clients[at].stalled = !self.clients[at].stalled;
                self.trace.note(format!("client {at} is stalled: {}", self.clients[at].stalled));
            }
            5 => self.crash(),
            6 => self.restart(),
            7 => {
                let operations = self.random.between(0, 40);
                self.trace.note(format!("the disk will fail after {operations} operations"));
                self.disk.fail_after(operations);
            }
            8..=10 => self.calm(),
            _ => self.pass(5000),
        }
    }

    /// A connection is lost, after some of the octets that were on their way.
    fn lose(&mut self, at: usize) {
        if self.clients[at].phase == Phase::Away {
            return;
        }
        let travelling = self.clients[at].wire.travelling();
        let after = self.random.index(travelling + 1);
        self.trace.note(format!("the connection of client {at} is lost after {after} octets of {travelling}"));
        self.clients[at].wire.lose(after);
        self.clients[at].gone(&mut self.book);
        self.book.counts.connections_lost += 1;
    }

    /// Queues forget messages that they can read back.
    pub(super) fn spill(&mut self) {
        let Some(broker) = &self.broker else { return };
        let mut work = Work::default();
        let spill_memory = self.random.once_in(2);
        for cell in broker.registry.all_queues() {
            let plan = SpillPlan { window_bytes: 1, spill_memory, spilled: broker.registry.store.spilled() };
            let is_stored = |ticket| broker.registry.store.is_stored(ticket);
            if !cell.delays {
                cell.turn(&broker.registry, &mut work, |queue, fx| queue.spill(plan, is_stored, fx));
            }
        }
        broker.registry.finish(&mut work, None);
        self.trace.note("queues leave their messages to the disk".to_owned());
    }

    /// The broker is killed, and started on what the disk has.
    pub(super) fn crash(&mut self) {
        self.trace.note("the broker is killed".to_owned());
        self.disk = self.disk.crash(&mut self.random);
        self.kill();
        self.book.restarted(true);
        self.start();
        self.set_up();
    }

    /// The broker is gone with everything that it had in memory.
    pub(super) fn kill(&mut self) {
        self.book.stopping = true;
        for client in &mut self.clients {
            client.gone(&mut self.book);
            client.forgotten(&mut self.book);
        }
        if let Some(mut broker) = self.broker.take() {
            // What tasks say while they are torn down is heard by nobody.
            broker.tasks.clear();
        }
    }

    /// The broker is stopped in good order, and started again.
    pub(super) fn restart(&mut self) {
        self.trace.note("the broker is stopped".to_owned());
        let Some(broker) = &self.broker else { return };
        self.book.stopping = true;
        let reason = AmqpError::ConnectionForced("broker forced connection closure with reason 'shutdown'".to_owned());
        broker.registry.close_connections(&reason);
        for at in 0..self.clients.len() {
            // Some take leave of it, others are cut off.
            self.poll(at);
            if self.random.once_in(2) {
                self.read(at, usize::MAX);
                self.poll(at);
            }
        }
        for client in &mut self.clients {
            client.gone(&mut self.book);
            client.forgotten(&mut self.book);
        }
        let Some(mut broker) = self.broker.take() else { return };
        broker.tasks.clear();
        broker.registry.close();
        drop(broker.late);
        if broker.store.close() {
            self.book.restarted(false);
            self.disk = self.disk.reopened();
        } else {
            self.trace.note("the last commit failed".to_owned());
            self.book.restarted(true);
            self.disk = self.disk.crash(&mut self.random);
        }
        drop(broker.registry);
        self.start();
        self.set_up();
    }
}
