//! The ways to reach a peer that the bench of links compares: each a client whose server, in the
//! same process, answers calls with what they brought, counts casts, and can be told not to read.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use orcapack_cluster::address::Role;
use orcapack_cluster::credentials::Credentials;
use orcapack_cluster::fixture::{TestAuthority, TestCredentials};
use orcapack_cluster::lane::{Lane, LaneConfig, LaneReceiver, LaneSender};
use orcapack_cluster::link::{Link, Priority, Purpose, Transport};
use orcapack_cluster::quic::{QuicConfig, QuicTransport, ResetKey};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

/// What the server has seen of casts, and whether it reads them.
#[derive(Default)]
pub struct Counted {
    messages: AtomicU64,
    stalled: watch::Sender<bool>,
}

impl Counted {
    pub fn stall(&self) {
        self.stalled.send_replace(true);
    }

    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Acquire)
    }

    /// A cast has come.
    fn count(&self) {
        self.messages.fetch_add(1, Ordering::Release);
    }

    async fn wait_unless_stalled(&self) {
        let is_stalled = *self.stalled.borrow();
        if is_stalled {
            std::future::pending::<()>().await;
        }
    }
}

pub trait Peer: Send + Sync {
    /// Answered with the same bytes.
    fn call(&self, body: Vec<u8>) -> BoxFuture<'_, Vec<u8>>;

    /// Beside the others, where there is such a way.
    fn ping(&self, body: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
        self.call(body)
    }

    fn cast(&self, body: Vec<u8>) -> BoxFuture<'_, ()>;

    fn counted(&self) -> &Arc<Counted>;
}

/// Calls that wait for their answers, by the number in their first 8 bytes.
#[derive(Default)]
struct Calls {
    last: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Vec<u8>>>>,
}

/// The number of casts.
const CAST: u64 = 0;

impl Calls {
    fn begin(&self, mut body: Vec<u8>) -> (Vec<u8>, oneshot::Receiver<Vec<u8>>) {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        body[..8].copy_from_slice(&number.to_le_bytes());
        let (answered, answer) = oneshot::channel();
        self.waiting.lock().unwrap().insert(number, answered);
        (body, answer)
    }

    fn end(&self, body: Vec<u8>) {
        let answered = self.waiting.lock().unwrap().remove(&number(&body));
        // Nobody may wait for it any more.
        drop(answered.map(|answered| answered.send(body)));
    }
}

fn number(body: &[u8]) -> u64 {
    u64::from_le_bytes(body[..8].try_into().expect("8 bytes"))
}

fn localhost() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// Our lanes over QUIC.
pub struct Lanes {
    work: LaneCalls,
    /// Casts and long messages.
    casts: LaneSender,
    /// Pings: a lane of its own, on the data connection or the control connection, or the casts'.
    pings: LaneCalls,
    counted: Arc<Counted>,
    _kept: (QuicTransport, QuicTransport, Vec<Arc<dyn Link>>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PingsOn {
    OwnLane,
    Control,
    SameLane,
}

#[derive(Clone)]
struct LaneCalls {
    sender: LaneSender,
    calls: Arc<Calls>,
}

const LANE: LaneConfig = LaneConfig { message_bytes_max: 320 << 20, queue_bytes_max: 1 << 20 };

impl Lanes {
    pub async fn new(pings_on: PingsOn) -> Self {
        let authority = TestAuthority::default();
        let transport = |name, key| {
            let config = QuicConfig::new(localhost(), ResetKey::new([key; ResetKey::BYTES]));
            QuicTransport::bind(config, authority.issue(name, Role::Worker)).expect("it binds")
        };
        let (a, b) = (transport("a", 1), transport("b", 2));
        let (data, data_there) = Self::links(&a, &b, Purpose::Data).await;
        let (control, control_there) = Self::links(&a, &b, Purpose::Control).await;
        let counted = Arc::new(Counted::default());
        let work = Self::lane(&data, &data_there, &counted).await;
        let casts = Self::lane(&data, &data_there, &counted).await;
        let pings = match pings_on {
            PingsOn::OwnLane => Self::lane(&data, &data_there, &counted).await,
            PingsOn::Control => Self::lane(&control, &control_there, &counted).await,
            PingsOn::SameLane => casts.clone(),
        };
        let links = vec![data, data_there, control, control_there];
        Self { work, casts: casts.sender, pings, counted, _kept: (a, b, links) }
    }

    async fn links(
        a: &QuicTransport,
        b: &QuicTransport,
        purpose: Purpose,
    ) -> (Arc<dyn Link>, Arc<dyn Link>) {
        let node = "b".parse().expect("a name");
        let (dialled, accepted) = tokio::join!(a.dial(&node, b.local_addr(), purpose), b.accept());
        (dialled.expect("it answers"), accepted.expect("it is open"))
    }

    async fn lane(from: &Arc<dyn Link>, to: &Arc<dyn Link>, counted: &Arc<Counted>) -> LaneCalls {
        let mut lane = Lane::new(from.open(Priority::Normal).await.expect("a stream"), LANE);
        lane.sender.send(vec![0; 8]).await.expect("it is open");
        let mut there = Lane::new(to.accept().await.expect("a stream"), LANE);
        there.receiver.receive().await.expect("the first message");
        tokio::spawn(serve(there, counted.clone()));
        let calls = Arc::new(Calls::default());
        let answered = calls.clone();
        let sender = lane.sender.clone();
        tokio::spawn(async move { answers(&mut lane.receiver, &answered).await });
        LaneCalls { sender, calls }
    }
}

async fn serve(mut lane: Lane, counted: Arc<Counted>) {
    while let Ok(Some(body)) = lane.receiver.receive().await {
        if number(&body) == CAST {
            counted.count();
            counted.wait_unless_stalled().await;
        } else if lane.sender.send(body).await.is_err() {
            return;
        }
    }
}

async fn answers(receiver: &mut LaneReceiver, calls: &Calls) {
    while let Ok(Some(body)) = receiver.receive().await {
        calls.end(body);
    }
}

impl LaneCalls {
    async fn call(&self, body: Vec<u8>) -> Vec<u8> {
        let (body, answer) = self.calls.begin(body);
        self.sender.send(body).await.expect("the lane is open");
        answer.await.expect("an answer")
    }
}

impl Peer for Lanes {
    fn call(&self, body: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
        Box::pin(self.work.call(body))
    }

    fn ping(&self, body: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
        Box::pin(self.pings.call(body))
    }

    fn cast(&self, body: Vec<u8>) -> BoxFuture<'_, ()> {
        Box::pin(async { self.casts.send(body).await.expect("the lane is open") })
    }

    fn counted(&self) -> &Arc<Counted> {
        &self.counted
    }
}

/// Quinn as it comes: a stream for each request, one in one direction for each cast.
pub struct Streams {
    connection: quinn::Connection,
    counted: Arc<Counted>,
    _kept: [quinn::Endpoint; 2],
}

impl Streams {
    pub async fn new() -> Self {
        let authority = TestAuthority::default();
        let credentials: [Arc<TestCredentials>; 2] =
            ["a", "b"].map(|name| authority.issue(name, Role::Worker));
        let server = QuicServerConfig::try_from(credentials[1].server_config()).expect("TLS 1.3");
        let server = quinn::ServerConfig::with_crypto(Arc::new(server));
        let server = quinn::Endpoint::server(server, localhost()).expect("it binds");
        let client = QuicClientConfig::try_from(credentials[0].client_config(Purpose::Data));
        let client = quinn::ClientConfig::new(Arc::new(client.expect("TLS 1.3")));
        let endpoint = quinn::Endpoint::client(localhost()).expect("it binds");
        let name = credentials[0].server_name(&"b".parse().expect("a name"));
        let at = server.local_addr().expect("it is bound");
        let connecting = endpoint.connect_with(client, at, &name.to_str()).expect("it dials");
        let accepted = async { server.accept().await.expect("it is open").await };
        let (connection, there) = tokio::join!(connecting, accepted);
        let (connection, there) = (connection.expect("it answers"), there.expect("it connects"));
        let counted = Arc::new(Counted::default());
        tokio::spawn(Self::serve_calls(there.clone()));
        tokio::spawn(Self::serve_casts(there, counted.clone()));
        Self { connection, counted, _kept: [endpoint, server] }
    }

    async fn serve_calls(connection: quinn::Connection) {
        while let Ok((mut send, mut receive)) = connection.accept_bi().await {
            tokio::spawn(async move {
                let body = receive.read_to_end(LANE.message_bytes_max).await.expect("a request");
                send.write_all(&body).await.expect("the client reads");
            });
        }
    }

    async fn serve_casts(connection: quinn::Connection, counted: Arc<Counted>) {
        while let Ok(mut receive) = connection.accept_uni().await {
            counted.wait_unless_stalled().await;
            let counted = counted.clone();
            tokio::spawn(async move {
                receive.read_to_end(LANE.message_bytes_max).await.expect("a message");
                counted.count();
            });
        }
    }
}

impl Peer for Streams {
    fn call(&self, body: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
        Box::pin(async move {
            let (mut send, mut receive) = self.connection.open_bi().await.expect("a stream");
            send.write_all(&body).await.expect("the server reads");
            send.finish().expect("it is open");
            receive.read_to_end(LANE.message_bytes_max).await.expect("an answer")
        })
    }

    fn cast(&self, body: Vec<u8>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut send = self.connection.open_uni().await.expect("a stream");
            send.write_all(&body).await.expect("the server reads");
        })
    }

    fn counted(&self) -> &Arc<Counted> {
        &self.counted
    }
}

/// One TCP connection, each message behind its length, a write each; no TLS.
pub struct Tcp {
    write: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    calls: Arc<Calls>,
    counted: Arc<Counted>,
}

impl Tcp {
    pub async fn new() -> Self {
        let listener = TcpListener::bind(localhost()).await.expect("it binds");
        let at = listener.local_addr().expect("it is bound");
        let (here, there) = tokio::join!(TcpStream::connect(at), listener.accept());
        let (here, (there, _)) = (here.expect("it answers"), there.expect("it connects"));
        for stream in [&here, &there] {
            stream.set_nodelay(true).expect("TCP has it");
        }
        let (counted, calls) = (Arc::new(Counted::default()), Arc::new(Calls::default()));
        let (read, write) = there.into_split();
        tokio::spawn(Self::serve(read, write, counted.clone()));
        let (read, write) = here.into_split();
        let answered = calls.clone();
        tokio::spawn(async move {
            let mut read = BufReader::with_capacity(64 << 10, read);
            while let Some(body) = Self::read(&mut read).await {
                answered.end(body);
            }
        });
        Self { write: Arc::new(tokio::sync::Mutex::new(write)), calls, counted }
    }

    async fn serve(read: OwnedReadHalf, mut write: OwnedWriteHalf, counted: Arc<Counted>) {
        let mut read = BufReader::with_capacity(64 << 10, read);
        while let Some(body) = Self::read(&mut read).await {
            if number(&body) == CAST {
                counted.count();
                counted.wait_unless_stalled().await;
            } else {
                Self::write(&mut write, &body).await;
            }
        }
    }

    async fn read(read: &mut BufReader<OwnedReadHalf>) -> Option<Vec<u8>> {
        let mut body = vec![0; read.read_u32_le().await.ok()? as usize];
        read.read_exact(&mut body).await.ok()?;
        Some(body)
    }

    async fn write(write: &mut OwnedWriteHalf, body: &[u8]) {
        let length = u32::try_from(body.len()).expect("a length");
        let frame = [&length.to_le_bytes()[..], body].concat();
        write.write_all(&frame).await.expect("the other side reads");
    }
}

impl Peer for Tcp {
    fn call(&self, body: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
        Box::pin(async move {
            let (body, answer) = self.calls.begin(body);
            Self::write(&mut *self.write.lock().await, &body).await;
            answer.await.expect("an answer")
        })
    }

    fn cast(&self, body: Vec<u8>) -> BoxFuture<'_, ()> {
        Box::pin(async move { Self::write(&mut *self.write.lock().await, &body).await })
    }

    fn counted(&self) -> &Arc<Counted> {
        &self.counted
    }
}

/// An actor in this process: what no wire can reach.
pub struct Local {
    actor: ActorRef<Message>,
    counted: Arc<Counted>,
}

pub enum Message {
    Call(Vec<u8>, RpcReplyPort<Vec<u8>>),
    Cast(Vec<u8>),
}

struct Echo;

impl Actor for Echo {
    type Msg = Message;
    type State = Arc<Counted>;
    type Arguments = Arc<Counted>;

    async fn pre_start(
        &self,
        _: ActorRef<Message>,
        counted: Arc<Counted>,
    ) -> Result<Arc<Counted>, ActorProcessingErr> {
        Ok(counted)
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        counted: &mut Arc<Counted>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Call(body, reply) => reply.send(body)?,
            Message::Cast(body) => {
                drop(body);
                counted.count();
                counted.wait_unless_stalled().await;
            }
        }
        Ok(())
    }
}

impl Local {
    pub async fn new() -> Self {
        let counted = Arc::new(Counted::default());
        let (actor, _) = Actor::spawn(None, Echo, counted.clone()).await.expect("it starts");
        Self { actor, counted }
    }
}

impl Peer for Local {
    fn call(&self, body: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
        Box::pin(async move {
            let answer = self.actor.call(|reply| Message::Call(body, reply), None).await;
            answer.expect("it lives").expect("an answer")
        })
    }

    fn cast(&self, body: Vec<u8>) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.actor.cast(Message::Cast(body)).expect("it lives") })
    }

    fn counted(&self) -> &Arc<Counted> {
        &self.counted
    }
}
