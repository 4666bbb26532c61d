//! Connections that are given up when the other side takes nothing any more: whoever reads a drop an hour must not hold
//! a transfer for ever. A connection on which nothing is to be sent may rest; others see to that.

use axum_server::accept::Accept;
use std::future::{Future, Ready, ready};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready as poll_ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// What a reader must take within the time that he is given, bytes.
const LEAST: usize = 64 * 1024;

/// Accepts connections that are given up after so long.
#[derive(Clone, Copy, Debug)]
pub struct Patient {
    /// How long a reader has for [`LEAST`] bytes.
    pub time: Duration,
}

impl<S> Accept<TcpStream, S> for Patient {
    type Stream = PatientStream<TcpStream>;
    type Service = S;
    type Future = Ready<io::Result<(Self::Stream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let stream = stream.set_nodelay(true).map(|()| PatientStream::new(stream, self.time));
        ready(stream.map(|stream| (stream, service)))
    }
}

/// A connection that is given up.
pub struct PatientStream<S> {
    inner: S,
    time: Duration,
    /// Bytes taken since the clock was set.
    taken: usize,
    /// Runs while a write waits.
    clock: Option<Pin<Box<Sleep>>>,
}

impl<S> PatientStream<S> {
    /// `inner`, given up when it takes less than [`LEAST`] bytes in `time` while more are to be sent.
    pub fn new(inner: S, time: Duration) -> PatientStream<S> {
        PatientStream { inner, time, taken: 0, clock: None }
    }

    /// What became of a write, and whether it is the last.
    fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
        bytes: usize,
    ) -> Poll<io::Result<T>> {
        self.taken += bytes;
        if written.is_ready() {
            if self.taken >= LEAST {
                (self.taken, self.clock) = (0, None);
            }
            return written;
        }
        let time = self.time;
        let clock = self.clock.get_or_insert_with(|| Box::pin(sleep(time)));
        poll_ready!(clock.as_mut().poll(context));
        if self.taken >= LEAST {
            self.taken = 0;
            clock.as_mut().reset(Instant::now() + time);
            let _ = clock.as_mut().poll(context);
            return Poll::Pending;
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the other side takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PatientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PatientStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        let taken = if let Poll::Ready(Ok(bytes)) = &written { *bytes } else { 0 };
        self.judge(context, written, taken)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        let taken = if let Poll::Ready(Ok(bytes)) = &written { *bytes } else { 0 };
        self.judge(context, written, taken)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        self.judge(context, flushed, 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_given_up_and_who_takes_a_little_all_the_time_is_not() {
        let (ours, mut theirs) = duplex(64 * 1024);
        let mut ours = PatientStream::new(ours, Duration::from_secs(30));
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; 32 * 1024];
            for _ in 0..40 {
                tokio::time::sleep(Duration::from_secs(10)).await;
                theirs.read_exact(&mut buffer).await.expect("goes on");
            }
            tokio::time::sleep(Duration::from_secs(3600)).await;
            drop(theirs);
        });
        ours.write_all(&vec![1; 40 * 32 * 1024]).await.expect("slow is good enough");
        let begun = Instant::now();
        let stuck = ours.write_all(&vec![1; 1 << 20]).await.expect_err("nothing is taken");
        assert_eq!(stuck.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() <= Duration::from_secs(200), "{:?}", begun.elapsed());
        reader.abort();
    }
}
