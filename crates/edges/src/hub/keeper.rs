//! The store on a thread of its own: what waits while it works goes into one transaction.

use std::collections::VecDeque;
use std::fmt;
use std::sync::mpsc as std_mpsc;

use router::ids::{BatchId, EntryId, Ticket};
use router::outbound::MaybeSent;
use router::outbox::{Batch, EntrySummary, Novelty, Storage, StorageError, Stored, TargetRef};
use tokio::sync::{mpsc, oneshot};

use crate::crash;
use crate::seam::Clock;

/// The most turns of the hub whose jobs are done together, so that the first of them is not kept waiting for long.
const GROUP: usize = 256;

/// Where the store does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// On a thread of its own.
    Thread,
    /// Inside the hub's loop, so that a simulated world replays (rule 25).
    Inline,
}

/// Something read from the store.
#[derive(Debug)]
pub(super) enum Question {
    /// This entry is to be delivered.
    Deliver { ticket: Ticket, entry: EntryId, maybe_sent: MaybeSent },
    /// Somebody wants to know what a reference means.
    Target { target: TargetRef, reply: oneshot::Sender<Vec<EntrySummary>> },
    /// How much may be written.
    Room,
}

/// What the store has done.
#[derive(Debug)]
pub(super) enum Answer {
    Committed {
        batches: Vec<(BatchId, Vec<Novelty>)>,
        room: Option<u64>,
    },
    Deliver {
        ticket: Ticket,
        entry: EntryId,
        maybe_sent: MaybeSent,
        stored: Option<Box<Stored>>,
    },
    /// Whoever asked has been told.
    Told,
    Room(Option<u64>),
}

#[derive(Debug)]
enum Job {
    Commit(Batch),
    Ask(Question),
}

/// The hub's side of the store.
pub(super) struct Keeper {
    /// What the store has not been given yet: the jobs of one turn of the hub wake its thread once.
    jobs: Vec<Job>,
    kind: Kind,
}

enum Kind {
    Thread {
        todo: std_mpsc::Sender<Vec<Job>>,
        answers: mpsc::UnboundedReceiver<Result<Answer, StorageError>>,
    },
    Inline {
        worker: Box<Worker>,
        answers: VecDeque<Result<Answer, StorageError>>,
    },
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keeper")
    }
}

impl Keeper {
    pub(super) fn new(storage: Box<dyn Storage>, keeping: Keeping, clock: Clock) -> Self {
        let worker = Worker { storage, clock };
        let kind = match keeping {
            Keeping::Inline => Kind::Inline { worker: Box::new(worker), answers: VecDeque::new() },
            Keeping::Thread => {
                // Bounded by what is given: one batch at a time, since the router makes the next when the last is on disk;
                // what is to be delivered (the credit); references, one for each that waits for the answer; and the room.
                let (todo, jobs) = std_mpsc::channel();
                let (done, answers) = mpsc::unbounded_channel();
                // The thread ends with the hub: its jobs have no other sender.
                let spawned =
                    std::thread::Builder::new().name("store".into()).spawn(move || worker.run(&jobs, &done));
                if let Err(error) = spawned {
                    // The first question finds nobody there, and the hub ends with that.
                    tracing::error!(%error, "the thread of the store cannot be started");
                }
                Kind::Thread { todo, answers }
            }
        };
        Self { jobs: Vec::new(), kind }
    }

    pub(super) fn commit(&mut self, batch: Batch) {
        self.jobs.push(Job::Commit(batch));
    }

    pub(super) fn ask(&mut self, question: Question) {
        self.jobs.push(Job::Ask(question));
    }

    /// Gives the store what was said since the last time.
    pub(super) fn hand_over(&mut self) {
        if self.jobs.is_empty() {
            return;
        }
        let jobs = std::mem::take(&mut self.jobs);
        match &mut self.kind {
            // A thread that has ended says so with its last answer, or by the end of its answers.
            Kind::Thread { todo, .. } => drop(todo.send(jobs)),
            Kind::Inline { worker, answers } => worker.work(jobs, &mut |answer| answers.push_back(answer)),
        }
    }

    /// Ends with the store closed: whoever looks at its file then finds all of it there.
    pub(super) async fn close(self) {
        if let Kind::Thread { todo, mut answers } = self.kind {
            drop(todo);
            // The thread gives up the store before its end of the answers.
            while answers.recv().await.is_some() {}
        }
    }

    /// The next answer; waits for ever while nothing was handed over. Cancel safe.
    pub(super) async fn answer(&mut self) -> Result<Answer, StorageError> {
        match &mut self.kind {
            Kind::Thread { answers, .. } => answers.recv().await.unwrap_or_else(|| {
                Err(StorageError { what: "the thread of the store has ended".into(), source: None })
            }),
            Kind::Inline { answers, .. } => match answers.pop_front() {
                Some(answer) => answer,
                None => std::future::pending().await,
            },
        }
    }

    /// An answer that is there already.
    pub(super) fn next(&mut self) -> Option<Result<Answer, StorageError>> {
        match &mut self.kind {
            Kind::Thread { answers, .. } => answers.try_recv().ok(),
            Kind::Inline { answers, .. } => answers.pop_front(),
        }
    }
}

/// Whoever holds the store.
struct Worker {
    storage: Box<dyn Storage>,
    clock: Clock,
}

impl Worker {
    fn run(
        mut self,
        todo: &std_mpsc::Receiver<Vec<Job>>,
        done: &mpsc::UnboundedSender<Result<Answer, StorageError>>,
    ) {
        while let Ok(mut jobs) = todo.recv() {
            // What has come meanwhile goes into the same transaction.
            jobs.extend(todo.try_iter().take(GROUP).flatten());
            let failed = &mut false;
            self.work(jobs, &mut |answer| {
                *failed |= answer.is_err();
                // The hub has ended: nobody needs the answer.
                let _ = done.send(answer);
            });
            if *failed {
                return;
            }
        }
    }

    /// Commits all batches at once, then answers all questions, from what the batches have left.
    fn work(&mut self, jobs: Vec<Job>, done: &mut dyn FnMut(Result<Answer, StorageError>)) {
        let (mut batches, mut questions) = (Vec::new(), Vec::new());
        for job in jobs {
            match job {
                Job::Commit(batch) => batches.push(batch),
                Job::Ask(question) => questions.push(question),
            }
        }
        if !batches.is_empty() {
            crash::commit(&batches, false);
            match self.storage.commit(&batches, self.clock.now()) {
                Ok(novelties) => {
                    crash::commit(&batches, true);
                    let batches = batches.iter().map(|batch| batch.id).zip(novelties).collect();
                    done(Ok(Answer::Committed { batches, room: self.storage.room() }));
                }
                Err(error) => return done(Err(error)),
            }
        }
        for question in questions {
            done(self.look_up(question));
        }
    }

    fn look_up(&mut self, question: Question) -> Result<Answer, StorageError> {
        Ok(match question {
            Question::Deliver { ticket, entry, maybe_sent } => Answer::Deliver {
                ticket,
                entry,
                maybe_sent,
                stored: self.storage.entry(entry)?.map(Box::new),
            },
            Question::Target { target, reply } => {
                // Who asked may be gone.
                let _ = reply.send(self.storage.target(&target)?);
                Answer::Told
            }
            Question::Room => Answer::Room(self.storage.room()),
        })
    }
}
