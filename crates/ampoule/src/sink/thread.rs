//! The thread that writes what a run says.
//!
//! ```text
//!  jobs ──bounded──▶ [Out::send] ──bounded──▶ thread ──▶ Sink ──▶ stdout
//!                       │                        │  └── held: waits
//!                       └── given up: dropped    └── failed: [Broken] says how
//! ```
//! Invariants: what was accepted is written in its order, and no time is earlier than that of the row before;
//! [`Writer::finish`] returns after the last row is out; a writer that is stuck in a stopped terminal can be left
//! behind. While it is held nothing is written, and as much as the queue has room for is kept.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc as std_mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Say, Sink, Timed};
use crate::signals::Signal;

/// Rows under way, at most.
const QUEUE: usize = 256;

/// What goes through the queue.
enum Item<T> {
    Say(T),
    /// Everything before it is to be on the terminal, which is then somebody else's for a while.
    Hold {
        held: oneshot::Sender<()>,
        released: std_mpsc::Receiver<()>,
    },
}

/// As long as this lives nothing is written.
#[derive(Debug)]
pub struct Held {
    _release: std_mpsc::Sender<()>,
}

/// How far the thread is.
#[derive(Debug, Default)]
struct Progress {
    /// What it has done.
    turns: AtomicU64,
    /// It has nothing to do.
    idle: AtomicBool,
}

impl Progress {
    fn turn(&self, idle: bool) {
        self.idle.store(idle, Ordering::Relaxed);
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// What it has done, where it has something to do.
    fn busy(&self) -> Option<u64> {
        (!self.idle.load(Ordering::Relaxed)).then(|| self.turns.load(Ordering::Relaxed))
    }
}

/// The way to give up for whoever must not keep the queue open.
#[derive(Debug)]
pub struct Surrender {
    given_up: CancellationToken,
    progress: Arc<Progress>,
}

impl Surrender {
    /// Gives up as soon as a row waits for longer than `limit` for its reader.
    pub async fn when_stuck(self, limit: Duration) {
        loop {
            let before = self.progress.busy();
            tokio::time::sleep(limit).await;
            if before.is_some() && before == self.progress.busy() {
                return self.given_up.cancel();
            }
        }
    }
}

/// Where rows are put in; cheap to clone.
pub struct Out<T = Say> {
    queue: mpsc::Sender<Item<T>>,
    given_up: CancellationToken,
    progress: Arc<Progress>,
}

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            given_up: self.given_up.clone(),
            progress: Arc::clone(&self.progress),
        }
    }
}

/// That nothing can be written any more; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Broken {
    is: CancellationToken,
    how: Arc<OnceLock<Signal>>,
}

impl Broken {
    fn because(&self, error: &io::Error) {
        let _ = self.how.set(Signal::of_output(error));
        self.is.cancel();
    }

    /// Waits for it, perhaps for ever; what it is to the run.
    pub async fn how(&self) -> Signal {
        self.is.cancelled().await;
        self.how.get().copied().unwrap_or(Signal::OutputFailed)
    }

    /// Whether it is so.
    #[must_use]
    pub fn is(&self) -> bool {
        self.is.is_cancelled()
    }
}

/// The thread.
pub struct Writer<T = Say> {
    out: Option<Out<T>>,
    thread: JoinHandle<io::Result<()>>,
    broken: Broken,
}

impl<T: Timed + Send + 'static> Writer<T> {
    /// Starts it.
    pub fn start(mut sink: Box<dyn Sink<T>>) -> io::Result<Self> {
        let (queue, mut rows) = mpsc::channel::<Item<T>>(QUEUE);
        let broken = Broken::default();
        let failed = broken.clone();
        let progress = Arc::new(Progress::default());
        let seen = Arc::clone(&progress);
        let thread = std::thread::Builder::new().name("output".to_owned()).spawn(move || {
            let result = write_all(sink.as_mut(), &mut rows, &seen);
            if let Err(error) = &result {
                failed.because(error);
            }
            result
        })?;
        let out = Out { queue, given_up: CancellationToken::new(), progress };
        Ok(Self { out: Some(out), thread, broken })
    }

    /// Where rows are put in.
    #[must_use]
    pub fn out(&self) -> Out<T> {
        match &self.out {
            Some(out) => out.clone(),
            None => unreachable!("a writer is finished by value"),
        }
    }

    /// Says when nothing can be written any more.
    #[must_use]
    pub fn broken(&self) -> Broken {
        self.broken.clone()
    }

    /// Waits until every row is written. All clones of [`Out`] have to be gone.
    pub async fn finish(mut self) -> io::Result<()> {
        let given_up = self.out.take().map(|out| out.given_up);
        let thread = self.thread;
        let written = tokio::task::spawn_blocking(move || thread.join());
        let Some(given_up) = given_up else { return Ok(()) };
        tokio::select! {
            result = written => match result {
                Ok(Ok(result)) => result,
                _ => Err(io::Error::other("the thread that writes the output panicked")),
            },
            () = given_up.cancelled() => Ok(()),
        }
    }
}

fn write_all<T: Timed>(
    sink: &mut dyn Sink<T>,
    rows: &mut mpsc::Receiver<Item<T>>,
    progress: &Progress,
) -> io::Result<()> {
    let mut latest = Timestamp::MIN;
    loop {
        let item = match rows.try_recv() {
            Ok(item) => item,
            Err(_) => {
                sink.flush()?;
                progress.turn(true);
                match rows.blocking_recv() {
                    Some(item) => item,
                    None => return sink.flush(),
                }
            }
        };
        progress.turn(false);
        let mut say = match item {
            Item::Say(say) => say,
            Item::Hold { held, released } => {
                sink.flush()?;
                if held.send(()).is_ok() {
                    // nothing is ever sent: its end is what is waited for
                    let _ = released.recv();
                }
                continue;
            }
        };
        // the guests of two jobs have clocks of their own, and rows take their ways
        if let Some(time) = say.time_mut() {
            latest = latest.max(*time);
            *time = latest;
        }
        sink.say(&say)?;
    }
}

impl<T> Out<T> {
    /// Puts a row in; waits while the reader is slow. Rows are dropped once it is given up or broken.
    pub async fn send(&self, say: T) {
        tokio::select! {
            biased;
            () = self.given_up.cancelled() => {}
            // a closed queue is a broken output: the run is being cancelled for it
            _ = self.queue.send(Item::Say(say)) => {}
        }
    }

    /// Waits until everything that was put in before is out, and lets nothing more out until what it returns
    /// is dropped. None where nobody reads any more. Cancel-safe.
    pub async fn hold(&self) -> Option<Held> {
        let (held, is_held) = oneshot::channel();
        let (release, released) = std_mpsc::channel();
        let holding = async {
            self.queue.send(Item::Hold { held, released }).await.ok()?;
            is_held.await.ok()
        };
        tokio::select! {
            biased;
            () = self.given_up.cancelled() => None,
            is_held = holding => is_held.map(|()| Held { _release: release }),
        }
    }

    /// From now on nobody waits for a slow reader.
    pub fn give_up(&self) {
        self.given_up.cancel();
    }

    /// The way to give up for whoever must not keep the queue open.
    #[must_use]
    pub fn surrender(&self) -> Surrender {
        Surrender { given_up: self.given_up.clone(), progress: Arc::clone(&self.progress) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use job::Event;

    struct Stuck(std_mpsc::Receiver<()>);
    impl Sink for Stuck {
        fn say(&mut self, _: &Say) -> io::Result<()> {
            let _ = self.0.recv();
            Ok(())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Failing(io::ErrorKind);
    impl Sink for Failing {
        fn say(&mut self, _: &Say) -> io::Result<()> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_stuck_reader_can_be_left_behind() {
        let (release, held) = std_mpsc::channel();
        let writer = Writer::start(Box::new(Stuck(held))).unwrap();
        let out = writer.out();
        let give_up = out.clone();
        let sender = tokio::spawn(async move {
            for _ in 0..QUEUE * 2 {
                out.send(Say::Notice(String::new())).await;
            }
        });
        tokio::task::yield_now().await;
        assert!(!sender.is_finished());
        give_up.give_up();
        sender.await.unwrap();
        drop(give_up);
        writer.finish().await.unwrap();
        drop(release);
    }

    #[tokio::test]
    async fn who_is_slow_is_given_up_and_who_has_nothing_to_say_is_not() {
        let (release, held) = std_mpsc::channel();
        let writer = Writer::start(Box::new(Stuck(held))).unwrap();
        let limit = Duration::from_millis(10);
        let out = writer.out();
        while !out.progress.idle.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        // the job takes its time, and nothing is stuck
        let waited = tokio::time::timeout(limit * 10, out.surrender().when_stuck(limit)).await;
        assert!(waited.is_err() && !out.given_up.is_cancelled());
        out.send(Say::Notice(String::new())).await;
        out.surrender().when_stuck(limit).await;
        assert!(out.given_up.is_cancelled());
        drop(out);
        writer.finish().await.unwrap();
        drop(release);
    }

    /// Says which notices were written, and which were only taken.
    struct Slow(std_mpsc::Sender<String>, Vec<String>);
    impl Sink for Slow {
        fn say(&mut self, say: &Say) -> io::Result<()> {
            if let Say::Notice(text) = say {
                self.1.push(text.clone());
            }
            Ok(())
        }
        fn flush(&mut self) -> io::Result<()> {
            for text in self.1.drain(..) {
                let _ = self.0.send(text);
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_was_put_in_before_a_hold_is_out_and_nothing_later() {
        let (told, texts) = std_mpsc::channel();
        let writer = Writer::start(Box::new(Slow(told, Vec::new()))).unwrap();
        let out = writer.out();
        for n in 0..100 {
            out.send(Say::Notice(n.to_string())).await;
        }
        let held = out.hold().await.unwrap();
        assert_eq!(texts.try_iter().count(), 100);
        out.send(Say::Notice("later".to_owned())).await;
        assert!(texts.recv_timeout(Duration::from_millis(100)).is_err(), "it is held");
        // The rest of the queue is what it keeps, and then those who say more wait.
        let other = out.clone();
        let sender = tokio::spawn(async move {
            for _ in 0..QUEUE {
                other.send(Say::Notice("more".to_owned())).await;
            }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!sender.is_finished(), "it keeps without end");
        drop(held);
        sender.await.unwrap();
        drop(out);
        writer.finish().await.unwrap();
        let texts: Vec<_> = texts.try_iter().collect();
        assert_eq!((texts.len(), texts[0].as_str()), (QUEUE + 1, "later"));
    }

    #[tokio::test]
    async fn a_hold_that_nobody_waits_for_holds_nothing() {
        let (release, stuck) = std_mpsc::channel();
        let writer = Writer::start(Box::new(Stuck(stuck))).unwrap();
        let out = writer.out();
        out.send(Say::Notice(String::new())).await;
        let waited = tokio::time::timeout(Duration::from_millis(50), out.hold()).await;
        assert!(waited.is_err());
        release.send(()).unwrap();
        out.send(Say::Notice(String::new())).await;
        release.send(()).unwrap();
        drop(out);
        writer.finish().await.unwrap();
        let writer = Writer::start(Box::new(Failing(io::ErrorKind::BrokenPipe))).unwrap();
        writer.out().send(Say::Notice(String::new())).await;
        writer.broken().how().await;
        assert!(writer.out().hold().await.is_none());
    }

    struct Times(std_mpsc::Sender<Timestamp>);
    impl Sink for Times {
        fn say(&mut self, say: &Say) -> io::Result<()> {
            let mut say = say.clone();
            let _ = say.time_mut().map(|time| self.0.send(*time));
            Ok(())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn time_never_goes_back_from_one_job_to_another() {
        let (told, times) = std_mpsc::channel();
        let writer = Writer::start(Box::new(Times(told))).unwrap();
        let out = writer.out();
        for second in [5, 3, 7, 6] {
            let time = Timestamp::from_second(second).unwrap();
            let kind = job::EventKind::JobStart;
            out.send(Say::Job(Event { time, job: second.to_string(), kind })).await;
        }
        drop(out);
        writer.finish().await.unwrap();
        let seconds: Vec<_> = times.iter().map(|time| time.as_second()).collect();
        assert_eq!(seconds, [5, 5, 7, 7]);
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_is_told_and_a_full_disk_is_none() {
        for (kind, how) in [
            (io::ErrorKind::BrokenPipe, Signal::OutputGone),
            (io::ErrorKind::StorageFull, Signal::OutputFailed),
        ] {
            let writer = Writer::start(Box::new(Failing(kind))).unwrap();
            let out = writer.out();
            assert!(!writer.broken().is());
            out.send(Say::Notice(String::new())).await;
            assert_eq!(writer.broken().how().await, how);
            out.send(Say::Notice(String::new())).await;
            drop(out);
            assert_eq!(writer.finish().await.unwrap_err().kind(), kind);
        }
    }
}
