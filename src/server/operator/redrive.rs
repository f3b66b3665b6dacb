//! Redrives: messages of a dead-letter queue sent back to where they came from, or elsewhere.
//!
//! A redrive is a job of its own beside the traffic. It goes through what is in the queue when it starts, in bounded steps;
//! each step is one transaction, in which messages leave the one queue and come into the others, and the next step begins
//! when that is on disk. So a crash neither loses nor doubles a message, and ends the job: it is started again, and finds
//! what is left. A job that is cancelled, or stopped with the broker, ends between two steps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use super::messages::{
    Choice, Destination, FAILURES_MAX, Failure, Headers, MessageState, Mover, STEP_BYTES, STEP_MESSAGES, Walk,
    parsed_condition,
};
use super::{Operator, OperatorError};
use crate::engine::message::Timestamp;
use crate::engine::queue::{Queue, Seen};
use crate::server::clock;
use crate::server::queue_cell::QueueCell;
use crate::server::transfer::{Load, Parcel, Stays};
use crate::server::work::Work;

/// Jobs at once.
const RUNNING_MAX: usize = 16;
/// Jobs that ended and are still shown.
const ENDED_MAX: usize = 100;
/// Queues of which it is counted how many messages they got.
const TARGETS_MAX: usize = 100;
/// How long a job searches before it says how far it is.
const SLICE: Duration = Duration::from_millis(200);
/// How often a message is tried that a full queue refuses, and how long to wait before each time.
const FULL_TRIES: u32 = 25;
const FULL_PAUSE: Duration = Duration::from_millis(200);
/// How long who cancels a job waits for its end.
const CANCEL_PATIENCE: Duration = Duration::from_secs(2);

/// What a redrive is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RedriveOrder {
    /// Where to.
    pub(crate) to: Destination,
    /// Which messages: an expression.
    #[serde(rename = "where")]
    pub(crate) condition: Option<String>,
    /// Which messages: an object.
    pub(crate) filter: Map<String, Value>,
    /// This many at most.
    pub(crate) limit: Option<u64>,
    /// This many a second at most.
    pub(crate) rate: Option<u32>,
    /// The headers that tell of deaths stay.
    pub(crate) keep_headers: bool,
    /// Only count.
    pub(crate) dry_run: bool,
}

impl Default for RedriveOrder {
    fn default() -> Self {
        Self {
            to: Destination::SOURCE,
            condition: None,
            filter: Map::new(),
            limit: None,
            rate: None,
            keep_headers: false,
            dry_run: false,
        }
    }
}

/// How a job stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RedriveState {
    #[default]
    Running,
    Done,
    Cancelled,
    Failed,
}

/// A redrive as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RedriveInfo {
    pub(crate) id: u64,
    pub(crate) vhost: String,
    pub(crate) queue: String,
    #[serde(flatten)]
    pub(crate) order: RedriveOrder,
    #[serde(flatten)]
    pub(crate) progress: Progress,
    /// Milliseconds since 1970.
    pub(crate) started_at: u64,
    /// Messages moved a second, so far.
    pub(crate) moved_rate: f64,
}

/// How far a job is.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Progress {
    pub(crate) state: RedriveState,
    /// Messages looked at.
    pub(crate) scanned: u64,
    /// Messages that are in their new queues, on disk; of a dry run those that would be.
    pub(crate) moved: u64,
    /// Messages that were to be moved and stay, with the reasons of some of them.
    pub(crate) failed: u64,
    pub(crate) failures: Vec<Failure>,
    /// Messages not looked at yet, of those that were there at the start.
    pub(crate) remaining: u64,
    /// How many each queue got.
    pub(crate) targets: BTreeMap<String, u64>,
    /// Milliseconds since 1970.
    pub(crate) finished_at: Option<u64>,
    /// Why it failed.
    pub(crate) error: Option<String>,
}

#[derive(Debug)]
struct Job {
    id: u64,
    cell: Arc<QueueCell>,
    order: RedriveOrder,
    started_at: Timestamp,
    started: Instant,
    progress: Mutex<Progress>,
    cancel: CancellationToken,
    ended: CancellationToken,
}

/// All jobs. Their locks are leaves.
#[derive(Debug, Default)]
pub(super) struct Redrives {
    table: Mutex<Table>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Table {
    last_id: u64,
    jobs: BTreeMap<u64, Arc<Job>>,
}

impl Job {
    fn is_running(&self) -> bool {
        self.progress.lock().state == RedriveState::Running
    }

    fn info(&self) -> RedriveInfo {
        let progress = self.progress.lock().clone();
        let ended = progress.finished_at.map(|at| at.saturating_sub(self.started_at.as_millis()));
        let elapsed = ended.map_or_else(
            || clock::instant().saturating_duration_since(self.started).as_secs_f64(),
            |ms| Duration::from_millis(ms).as_secs_f64(),
        );
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let moved_rate = if elapsed > 0.0 { (progress.moved as f64 / elapsed * 10.0).round() / 10.0 } else { 0.0 };
        RedriveInfo {
            id: self.id,
            vhost: self.cell.vhost.name.to_string(),
            queue: self.cell.name.to_string(),
            order: self.order.clone(),
            progress,
            started_at: self.started_at.as_millis(),
            moved_rate,
        }
    }

    /// Notes how far it is.
    fn note(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.lock());
    }

    /// Waits; false if the job is to end.
    async fn pause(&self, time: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => false,
            () = tokio::time::sleep(time) => true,
        }
    }
}

impl Table {
    /// Makes room for another job.
    fn prune(&mut self) {
        let ended: Vec<u64> = self.jobs.values().filter(|job| !job.is_running()).map(|job| job.id).collect();
        for id in ended.iter().take(ended.len().saturating_sub(ENDED_MAX)) {
            self.jobs.remove(id);
        }
    }
}

impl Operator {
    /// Starts to send messages of a queue back.
    pub(crate) fn redrive(&self, vhost: &str, queue: &str, order: RedriveOrder) -> Result<RedriveInfo, OperatorError> {
        let cell = self.queue_cell(vhost, queue)?;
        if cell.stream.is_some() {
            return Err(OperatorError::Unsupported("messages of a stream cannot be redriven".to_owned()));
        }
        if order.rate == Some(0) {
            return Err(OperatorError::Invalid("a rate of 0 would never end".to_owned()));
        }
        parsed_condition(order.condition.as_deref(), &order.filter)?;
        let headers = Headers::Redriven { keep: order.keep_headers };
        let mover = Mover::new(self, &cell, &order.to, headers)?;
        let redrives = &self.node.redrives;
        let job = {
            let mut table = redrives.table.lock();
            table.prune();
            let mut running = table.jobs.values().filter(|job| job.is_running());
            if let Some(same) = running.clone().find(|job| job.cell.id == cell.id) {
                let id = same.id;
                return Err(OperatorError::Exists(format!("redrive {id} of queue '{queue}' is running")));
            }
            if redrives.stop.is_cancelled() || running.nth(RUNNING_MAX - 1).is_some() {
                return Err(OperatorError::Unsupported(format!("no more than {RUNNING_MAX} redrives run at once")));
            }
            table.last_id += 1;
            let remaining = cell.read(Queue::ready).unwrap_or(0);
            let job = Arc::new(Job {
                id: table.last_id,
                cell,
                order,
                started_at: clock::now(),
                started: clock::instant(),
                progress: Mutex::new(Progress { remaining, ..Progress::default() }),
                cancel: redrives.stop.child_token(),
                ended: CancellationToken::new(),
            });
            table.jobs.insert(job.id, job.clone());
            job
        };
        info!(redrive = job.id, queue, vhost, dry_run = job.order.dry_run, "redrive started");
        redrives.tasks.spawn(self.clone().run_redrive(job.clone(), mover));
        Ok(job.info())
    }

    /// The jobs, oldest first: those that run, and those that ended lately.
    pub(crate) fn redrives(&self) -> Vec<RedriveInfo> {
        let jobs: Vec<_> = self.node.redrives.table.lock().jobs.values().cloned().collect();
        jobs.iter().map(|job| job.info()).collect()
    }

    /// A job.
    pub(crate) fn redrive_info(&self, id: u64) -> Result<RedriveInfo, OperatorError> {
        self.find_redrive(id).map(|job| job.info())
    }

    /// Ends a job. What it has moved stays where it is.
    pub(crate) async fn cancel_redrive(&self, id: u64) -> Result<RedriveInfo, OperatorError> {
        let job = self.find_redrive(id)?;
        job.cancel.cancel();
        // A job that waits for the disk ends when that has answered.
        let _late = tokio::time::timeout(CANCEL_PATIENCE, job.ended.cancelled()).await;
        Ok(job.info())
    }

    fn find_redrive(&self, id: u64) -> Result<Arc<Job>, OperatorError> {
        let job = self.node.redrives.table.lock().jobs.get(&id).cloned();
        job.ok_or_else(|| OperatorError::NotFound(format!("no redrive {id}")))
    }

    /// Ends all jobs, for a broker that stops.
    pub(in crate::server) async fn stop_redrives(&self, patience: Duration) {
        let redrives = &self.node.redrives;
        redrives.stop.cancel();
        redrives.tasks.close();
        if tokio::time::timeout(patience, redrives.tasks.wait()).await.is_err() {
            info!("a redrive that waits for the disk is cut off");
        }
    }

    async fn run_redrive(self, job: Arc<Job>, mover: Mover) {
        let outcome = self.go_through(&job, &mover).await;
        job.note(|progress| {
            progress.state = match outcome {
                Ok(state) => state,
                Err(cause) => {
                    progress.error = Some(cause.to_string());
                    RedriveState::Failed
                }
            };
            progress.finished_at = Some(clock::now().as_millis());
        });
        let Progress { state, moved, failed, .. } = job.progress.lock().clone();
        let (queue, vhost) = (&job.cell.name, &job.cell.vhost.name);
        info!(redrive = job.id, %queue, %vhost, ?state, moved, failed, dry_run = job.order.dry_run, "redrive ended");
        job.ended.cancel();
    }

    async fn go_through(&self, job: &Job, mover: &Mover) -> Result<RedriveState, OperatorError> {
        let RedriveOrder { condition, filter, limit, rate, dry_run, .. } = &job.order;
        let choice = Choice {
            state: MessageState::Ready,
            condition: condition.clone(),
            filter: filter.clone(),
            ..Choice::default()
        };
        let mut walk = Walk::new(&self.registry, &job.cell, &choice, clock::now())?;
        walk.stop_at_end_of_now();
        let there = job.progress.lock().remaining;
        let (mut chosen, limit) = (0, limit.unwrap_or(u64::MAX));
        let mut pace = Pace::new(*rate);
        // A dry run moves nothing, so what comes into a queue with a limit adds up.
        let mut load = Load::default();
        let mut tries = FULL_TRIES;
        loop {
            walk.renew(SLICE);
            let (mut step, mut octets): (Vec<Seen>, u64) = (Vec::new(), 0);
            while step.len() < pace.step() && octets < STEP_BYTES && chosen < limit {
                let next = tokio::select! {
                    biased;
                    () = job.cancel.cancelled() => return Ok(RedriveState::Cancelled),
                    next = walk.next() => next?,
                };
                let Some((_, seen)) = next else { break };
                chosen += 1;
                octets += seen.message().body_len() as u64;
                step.push(seen);
            }
            let at_end = chosen >= limit || walk.cursor().is_none();
            let count = step.len();
            if *dry_run {
                count_only(job, mover, &step, &mut load);
            } else if count > 0 && (!pace.wait(job, count).await || !self.move_step(job, mover, step, &mut tries).await)
            {
                return Ok(RedriveState::Cancelled);
            }
            let scanned = walk.scanned();
            job.note(|progress| {
                progress.scanned = scanned;
                progress.remaining = there.saturating_sub(scanned).min(limit - chosen);
            });
            if at_end {
                return Ok(RedriveState::Done);
            }
        }
    }

    /// Moves messages, and waits until that is on disk. A queue that is full is tried `tries` times, and but once from the time
    /// on when that was in vain, until it takes something again. False if the job is to end.
    async fn move_step(&self, job: &Job, mover: &Mover, mut step: Vec<Seen>, tries: &mut u32) -> bool {
        for attempt in 1.. {
            let now = clock::now();
            let (mut load, mut parcels, mut full, mut failures) = (Load::default(), Vec::new(), Vec::new(), Vec::new());
            for seen in step {
                match mover.pack(&job.cell, &seen, now, &mut load) {
                    Ok(parcel) => parcels.push(parcel),
                    Err(Stays::Full) if attempt < *tries => full.push(seen),
                    Err(stays) => {
                        if stays == Stays::Full {
                            *tries = 1;
                        }
                        failures.push(failure(&seen, stays));
                    }
                }
            }
            if !parcels.is_empty() {
                let mut work = Work::default();
                let taken = self.registry.carry_over(&job.cell, &parcels, now, &mut work);
                self.registry.finish(&mut work, None);
                tokio::select! {
                    () = self.registry.flushed() => {}
                    // It is in order, and will be on disk with the rest.
                    () = job.cancel.cancelled() => {}
                }
                let gone = parcels.iter().zip(taken).filter(|(_, taken)| *taken).map(|(parcel, _)| parcel);
                job.note(|progress| gone.for_each(|parcel| progress.count(parcel)));
                if full.is_empty() && failures.is_empty() {
                    *tries = FULL_TRIES;
                }
            }
            job.note(|progress| progress.fail(failures));
            if job.cancel.is_cancelled() {
                return false;
            }
            if full.is_empty() {
                return true;
            }
            step = full;
            if !job.pause(FULL_PAUSE).await {
                return false;
            }
        }
        true
    }
}

fn failure(seen: &Seen, stays: Stays) -> Failure {
    Failure { id: seen.id.to_string(), reason: stays.to_string() }
}

/// Counts what would be moved.
fn count_only(job: &Job, mover: &Mover, step: &[Seen], load: &mut Load) {
    let now = clock::now();
    let mut failures = Vec::new();
    for seen in step {
        match mover.pack(&job.cell, seen, now, load) {
            Ok(parcel) => job.note(|progress| progress.count(&parcel)),
            Err(stays) => failures.push(failure(seen, stays)),
        }
    }
    job.note(|progress| progress.fail(failures));
}

impl Progress {
    fn count(&mut self, parcel: &Parcel) {
        self.moved += 1;
        for cell in parcel.queues() {
            let name = cell.name.to_string();
            if self.targets.len() < TARGETS_MAX || self.targets.contains_key(&name) {
                *self.targets.entry(name).or_default() += 1;
            }
        }
    }

    fn fail(&mut self, failures: Vec<Failure>) {
        self.failed += failures.len() as u64;
        let room = FAILURES_MAX.saturating_sub(self.failures.len());
        self.failures.extend(failures.into_iter().take(room));
    }
}

/// Not more than so many messages a second.
#[derive(Debug)]
struct Pace {
    rate: Option<u32>,
    next: Instant,
}

impl Pace {
    fn new(rate: Option<u32>) -> Self {
        Self { rate, next: clock::instant() }
    }

    /// Messages of a step at most: ten steps a second are smooth enough.
    fn step(&self) -> usize {
        let share = self.rate.map_or(usize::MAX, |rate| usize::try_from(rate / 10).unwrap_or(usize::MAX));
        share.clamp(1, STEP_MESSAGES)
    }

    /// Waits until so many messages may be moved; false if the job is to end.
    async fn wait(&mut self, job: &Job, count: usize) -> bool {
        let Some(rate) = self.rate else { return !job.cancel.is_cancelled() };
        let now = clock::instant();
        let goes_on = job.pause(self.next.saturating_duration_since(now)).await;
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.next = self.next.max(now) + Duration::from_secs(1) * count / rate;
        goes_on
    }
}
