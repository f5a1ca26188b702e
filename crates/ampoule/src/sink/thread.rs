//! The thread that writes what a run says.
//!
//! ```text
//!  jobs ──bounded──▶ [Out::send] ──bounded──▶ thread ──▶ Sink ──▶ stdout
//!                       │                        │
//!                       └── given up: dropped    └── failed: `broken` is cancelled
//! ```
//! Invariants: what was accepted is written in its order, and no time is earlier than that of the row before; [`Writer::finish`] returns after the last row is
//! out; a writer that is stuck in a stopped terminal can be left behind.

use std::{io, thread::JoinHandle};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Say, Sink, Timed};

/// Rows under way, at most.
const QUEUE: usize = 256;

/// Where rows are put in; cheap to clone.
pub struct Out<T = Say> {
    queue: mpsc::Sender<T>,
    given_up: CancellationToken,
}

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), given_up: self.given_up.clone() }
    }
}

/// The thread.
pub struct Writer<T = Say> {
    out: Option<Out<T>>,
    thread: JoinHandle<io::Result<()>>,
    broken: CancellationToken,
}

impl<T: Timed + Send + 'static> Writer<T> {
    /// Starts it.
    pub fn start(mut sink: Box<dyn Sink<T>>) -> io::Result<Self> {
        let (queue, mut rows) = mpsc::channel::<T>(QUEUE);
        let broken = CancellationToken::new();
        let failed = broken.clone();
        let thread = std::thread::Builder::new().name("output".to_owned()).spawn(move || {
            let result = write_all(sink.as_mut(), &mut rows);
            if result.is_err() {
                failed.cancel();
            }
            result
        })?;
        Ok(Self { out: Some(Out { queue, given_up: CancellationToken::new() }), thread, broken })
    }

    /// Where rows are put in.
    #[must_use]
    pub fn out(&self) -> Out<T> {
        match &self.out {
            Some(out) => out.clone(),
            None => unreachable!("a writer is finished by value"),
        }
    }

    /// Cancelled when nobody reads our output any more.
    #[must_use]
    pub fn broken(&self) -> CancellationToken {
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

fn write_all<T: Timed>(sink: &mut dyn Sink<T>, rows: &mut mpsc::Receiver<T>) -> io::Result<()> {
    let mut latest = Timestamp::MIN;
    loop {
        let mut say = match rows.try_recv() {
            Ok(say) => say,
            Err(_) => {
                sink.flush()?;
                match rows.blocking_recv() {
                    Some(say) => say,
                    None => return sink.flush(),
                }
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
            _ = self.queue.send(say) => {}
        }
    }

    /// From now on nobody waits for a slow reader.
    pub fn give_up(&self) {
        self.given_up.cancel();
    }

    /// What [`Out::give_up`] cancels: the way to give up for whoever must not keep the queue open.
    #[must_use]
    pub fn surrender(&self) -> CancellationToken {
        self.given_up.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as std_mpsc;

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

    struct Broken;
    impl Sink for Broken {
        fn say(&mut self, _: &Say) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
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
    async fn a_reader_that_is_gone_is_told() {
        let writer = Writer::start(Box::new(Broken)).unwrap();
        let out = writer.out();
        out.send(Say::Notice(String::new())).await;
        writer.broken().cancelled().await;
        out.send(Say::Notice(String::new())).await;
        drop(out);
        assert_eq!(writer.finish().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
