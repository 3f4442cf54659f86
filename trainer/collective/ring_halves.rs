//! The two halves of a rank's ring: one writes to the next rank, one reads from the previous.

use std::io::{self, IoSlice};

use bytemuck::{cast_slice, cast_slice_mut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::caps::FAREWELL_BYTES_MAX;
use crate::collective::CollectiveError;
use crate::collective::farewell::Farewell;
use crate::collective::flow::{Flow, Half};
use crate::collective::frame::{Content, HEADER_BYTES, Header, Kind, Segment, checksum};
use crate::collective::ring::Wire;
use crate::collective::schedule::{Move, Operation, Schedule, Use};
use crate::collective::sums;

/// One call as its rank makes it.
pub(super) struct Call {
    pub(super) epoch: u64,
    pub(super) number: u64,
    /// What errors call the neighbours.
    pub(super) previous: usize,
    pub(super) next: usize,
    pub(super) wire: Wire,
    pub(super) schedule: Schedule,
}

impl Call {
    pub(super) fn neighbour(&self, half: Half) -> usize {
        match half {
            Half::Sender => self.next,
            Half::Receiver => self.previous,
        }
    }

    fn kind(&self, purpose: Use) -> Kind {
        match (purpose, self.wire, self.schedule.operation()) {
            (Use::Add, ..) => Kind::Add,
            (Use::Copy, Wire::Bf16, Operation::AllReduce) => Kind::CopyBf16,
            (Use::Copy, ..) => Kind::Copy,
        }
    }

    /// All of a frame's header but the payload's checksum.
    #[expect(clippy::cast_possible_truncation, reason = "segments are capped, and fewer than 2^32")]
    fn header(&self, of: &Move, values: usize) -> Header {
        let kind = self.kind(of.purpose);
        let width = if kind == Kind::CopyBf16 { size_of::<u16>() } else { size_of::<f32>() };
        let segment = Segment {
            kind,
            operation: self.schedule.operation(),
            call: self.number,
            len: self.schedule.len() as u64,
            chunk: of.chunk as u32,
            number: of.number as u32,
        };
        let (content, bytes) = (Content::Segment(segment), (values * width) as u32);
        Header { epoch: self.epoch, content, bytes, checksum: 0 }
    }
}

pub(super) struct Sender {
    stream: Box<dyn AsyncWrite + Send + Unpin>,
    /// Of one segment; empty until it is needed.
    narrow: Vec<u16>,
}

impl Sender {
    pub(super) fn new(stream: Box<dyn AsyncWrite + Send + Unpin>) -> Self {
        Self { stream, narrow: Vec::new() }
    }

    /// Until all is sent, or until the next rank knows why it is not.
    pub(super) async fn run(&mut self, flow: &Flow<'_>, call: &Call) {
        if let Err(error) = self.send(flow, call).await {
            let why = format!("nothing more can be sent to it: {error}");
            flow.fail(CollectiveError::PeerLost { rank: call.next, why }, false);
        }
        flow.mute();
    }

    async fn send(&mut self, flow: &Flow<'_>, call: &Call) -> io::Result<()> {
        let mut made = 0;
        let mut is_all = true;
        for of in call.schedule.sends() {
            let Some(segment) = flow.take(Half::Sender, &of).await else {
                is_all = false;
                break;
            };
            self.segment(segment, &of, call).await?;
            flow.give_back(Half::Sender, &of, segment);
            made += 1;
        }
        if is_all {
            if made > 0 {
                flow.waits(Half::Sender, true);
                self.stream.flush().await?;
                flow.waits(Half::Sender, false);
            }
            flow.complete(Half::Sender);
        }
        while let Some(farewell) = flow.to_tell().await {
            self.farewell(&farewell, call.epoch).await?;
        }
        Ok(())
    }

    async fn segment(&mut self, segment: &mut [f32], of: &Move, call: &Call) -> io::Result<()> {
        let header = call.header(of, segment.len());
        let payload: &[u8] = match call.kind(of.purpose) {
            Kind::CopyBf16 => {
                self.narrow.resize(segment.len(), 0);
                // Its owner keeps what the others get. For them it is rounded already.
                sums::round_to_bf16(segment, &mut self.narrow);
                cast_slice(&self.narrow)
            }
            Kind::Add | Kind::Copy => cast_slice(segment),
        };
        let header = Header { checksum: checksum(payload), ..header }.encode();
        write_both(&mut self.stream, &header, payload).await
    }

    /// Between calls: nothing more comes.
    pub(super) async fn close(
        &mut self,
        told: Option<CollectiveError>,
        epoch: u64,
    ) -> io::Result<()> {
        if let Some(cause) = told {
            self.farewell(&Farewell { cause, hops: 1 }, epoch).await?;
        }
        self.stream.shutdown().await
    }

    #[expect(clippy::cast_possible_truncation, reason = "a farewell is capped")]
    async fn farewell(&mut self, farewell: &Farewell, epoch: u64) -> io::Result<()> {
        let payload = farewell.encode();
        let (bytes, checksum) = (payload.len() as u32, checksum(&payload));
        let header = Header { epoch, content: Content::Farewell, bytes, checksum }.encode();
        write_both(&mut self.stream, &header, &payload).await?;
        self.stream.flush().await
    }
}

/// In one write where the stream takes it.
async fn write_both(
    stream: &mut (impl AsyncWrite + Unpin),
    mut header: &[u8],
    mut payload: &[u8],
) -> io::Result<()> {
    while !header.is_empty() || !payload.is_empty() {
        let parts = [IoSlice::new(header), IoSlice::new(payload)];
        let parts = if header.is_empty() { &parts[1..] } else { &parts };
        let written = stream.write_vectored(parts).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let of_header = written.min(header.len());
        (header, payload) = (&header[of_header..], &payload[written - of_header..]);
    }
    Ok(())
}

pub(super) struct Receiver {
    stream: Box<dyn AsyncRead + Send + Unpin>,
    /// Of one segment.
    scratch: Vec<f32>,
}

/// Why nothing more is received.
enum End {
    /// The previous rank has said why.
    Told(Farewell),
    Failed(CollectiveError),
}

impl Receiver {
    pub(super) fn new(stream: Box<dyn AsyncRead + Send + Unpin>, segment_len: usize) -> Self {
        Self { stream, scratch: vec![0.0; segment_len] }
    }

    /// Until all is received, or until no more can be learned of why it is not.
    pub(super) async fn run(&mut self, flow: &Flow<'_>, call: &Call) {
        match self.receive(flow, call).await {
            Ok(()) => {}
            Err(End::Told(farewell)) => flow.heard(farewell),
            Err(End::Failed(cause)) => flow.fail(cause, true),
        }
        if flow.in_doubt().await {
            // It ends with the stream; how does not matter any more.
            let _ = self.listen(flow, call).await;
        }
        flow.deaf();
        if flow.cause().is_none() {
            return;
        }
        tokio::select! {
            () = flow.is_mute() => {}
            // Who cannot write to this rank may not read either, and has to be told.
            () = self.discard() => flow.is_mute().await,
        }
    }

    /// All that still comes.
    async fn discard(&mut self) {
        let scratch: &mut [u8] = cast_slice_mut(&mut self.scratch);
        while self.stream.read(scratch).await.is_ok_and(|read| read > 0) {}
    }

    async fn receive(&mut self, flow: &Flow<'_>, call: &Call) -> Result<(), End> {
        for of in call.schedule.receives() {
            let Some(segment) = flow.take(Half::Receiver, &of).await else { return Ok(()) };
            let received = self.segment(segment, &of, call).await;
            flow.waits(Half::Receiver, false);
            received?;
            flow.give_back(Half::Receiver, &of, segment);
        }
        flow.complete(Half::Receiver);
        Ok(())
    }

    async fn segment(&mut self, segment: &mut [f32], of: &Move, call: &Call) -> Result<(), End> {
        let expected = call.header(of, segment.len());
        let header = self.header(call).await?;
        if (Header { checksum: 0, ..header }) != expected {
            let what = format!("{header} instead of {expected}");
            return Err(End::Failed(CollectiveError::Mismatch { rank: call.previous, what }));
        }
        let scratch = &mut self.scratch[..segment.len()];
        let payload = match call.kind(of.purpose) {
            Kind::Add => cast_slice_mut(scratch),
            Kind::Copy => cast_slice_mut(segment),
            Kind::CopyBf16 => &mut cast_slice_mut(scratch)[..expected.bytes as usize],
        };
        let read = self.stream.read_exact(payload).await;
        read.map_err(|error| lost(call, &error))?;
        if checksum(payload) != header.checksum {
            return Err(corrupt(call, format!("the checksum of {expected} is wrong")));
        }
        match call.kind(of.purpose) {
            Kind::Add => sums::add(segment, &self.scratch),
            Kind::Copy => {}
            Kind::CopyBf16 => sums::widen_bf16(segment, cast_slice(&self.scratch)),
        }
        Ok(())
    }

    /// Of the next segment.
    async fn header(&mut self, call: &Call) -> Result<Header, End> {
        let mut bytes = [0; HEADER_BYTES];
        let read = self.stream.read_exact(&mut bytes).await;
        read.map_err(|error| lost(call, &error))?;
        let header = Header::decode(&bytes);
        let header = header.map_err(|error| corrupt(call, error.to_string()))?;
        if header.content != Content::Farewell {
            return Ok(header);
        }
        let mut payload = vec![0; (header.bytes as usize).min(FAREWELL_BYTES_MAX)];
        let read = self.stream.read_exact(&mut payload).await;
        read.map_err(|error| lost(call, &error))?;
        if checksum(&payload) != header.checksum {
            return Err(corrupt(call, "the checksum of a farewell is wrong".to_owned()));
        }
        let farewell = Farewell::decode(&payload);
        Err(farewell.map_or_else(|| corrupt(call, "not a farewell".to_owned()), End::Told))
    }

    /// To what the previous rank says of why the call has failed, past what it still sends.
    async fn listen(&mut self, flow: &Flow<'_>, call: &Call) -> Result<(), End> {
        loop {
            match self.header(call).await {
                Ok(header) => {
                    let mut rest = header.bytes as usize;
                    let scratch: &mut [u8] = cast_slice_mut(&mut self.scratch);
                    while rest > 0 {
                        let piece = rest.min(scratch.len());
                        let read = self.stream.read_exact(&mut scratch[..piece]).await;
                        read.map_err(|error| lost(call, &error))?;
                        rest -= piece;
                    }
                }
                Err(End::Told(farewell)) => flow.heard(farewell),
                Err(failed) => return Err(failed),
            }
        }
    }
}

fn lost(call: &Call, error: &io::Error) -> End {
    let why = match error.kind() {
        io::ErrorKind::UnexpectedEof => "its stream has ended".to_owned(),
        _ => format!("its stream has failed: {error}"),
    };
    End::Failed(CollectiveError::PeerLost { rank: call.previous, why })
}

fn corrupt(call: &Call, what: String) -> End {
    End::Failed(CollectiveError::Corrupt { rank: call.previous, what })
}
