//! One direction of a stream within a process: a bounded pipe whose ends tell each other how they
//! ended, as a stream of a real link does.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

pub(crate) struct Pipe {
    state: Mutex<State>,
    /// What its stream takes of the streams that may be open at a time.
    _permit: Arc<OwnedSemaphorePermit>,
}

struct State {
    bytes: VecDeque<u8>,
    bytes_max: usize,
    /// How the writer ended, if it has.
    end: Option<End>,
    /// The reader is gone.
    is_stopped: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, PartialEq, Eq)]
enum End {
    Finished,
    Reset,
    /// The link is gone.
    Lost(String),
}

pub(crate) struct PipeWriter {
    pipe: Arc<Pipe>,
    /// Called with the first byte: only then does the other side hear of the stream.
    announce: Option<Box<dyn FnOnce() + Send>>,
}

pub(crate) struct PipeReader(Arc<Pipe>);

impl Pipe {
    pub(crate) fn new(bytes_max: usize, permit: Arc<OwnedSemaphorePermit>) -> Arc<Self> {
        let (bytes, reader, writer) = (VecDeque::new(), None, None);
        let state = State { bytes, bytes_max, end: None, is_stopped: false, reader, writer };
        Arc::new(Self { state: Mutex::new(state), _permit: permit })
    }

    pub(crate) fn writer(
        self: &Arc<Self>,
        announce: Option<Box<dyn FnOnce() + Send>>,
    ) -> PipeWriter {
        PipeWriter { pipe: self.clone(), announce }
    }

    pub(crate) fn reader(self: &Arc<Self>) -> PipeReader {
        PipeReader(self.clone())
    }

    /// The link under it is gone. What has come can still be read.
    pub(crate) fn lose(&self, reason: &str) {
        self.end(End::Lost(reason.to_owned()));
    }

    fn end(&self, end: End) {
        let mut state = self.state();
        if state.end.is_none() {
            if end == End::Reset {
                state.bytes.clear();
            }
            state.end = Some(end);
        }
        wake(state);
    }

    /// No code panics while it holds the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let wakers = [state.reader.take(), state.writer.take()];
    drop(state);
    wakers.into_iter().flatten().for_each(Waker::wake);
}

fn lost(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, reason)
}

impl AsyncWrite for PipeWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(announce) = self.announce.take() {
            announce();
        }
        let mut state = self.pipe.state();
        if let Some(End::Lost(reason)) = &state.end {
            return Poll::Ready(Err(lost(reason)));
        }
        if state.is_stopped || state.end.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = state.bytes_max - state.bytes.len();
        if room == 0 && !bytes.is_empty() {
            state.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let (written, _) = bytes.split_at(bytes.len().min(room));
        state.bytes.extend(written);
        wake(state);
        Poll::Ready(Ok(written.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(announce) = self.announce.take() {
            announce();
        }
        self.pipe.end(End::Finished);
        Poll::Ready(Ok(()))
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.pipe.end(End::Reset);
    }
}

impl AsyncRead for PipeReader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.state();
        if state.bytes.is_empty() {
            return match &state.end {
                None => {
                    state.reader = Some(context.waker().clone());
                    Poll::Pending
                }
                Some(End::Finished) => Poll::Ready(Ok(())),
                Some(End::Reset) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Some(End::Lost(reason)) => Poll::Ready(Err(lost(reason))),
            };
        }
        let (front, _) = state.bytes.as_slices();
        let count = front.len().min(buffer.remaining());
        buffer.put_slice(front.get(..count).unwrap_or_default());
        state.bytes.drain(..count);
        wake(state);
        Poll::Ready(Ok(()))
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_stopped = true;
        state.bytes.clear();
        wake(state);
    }
}
