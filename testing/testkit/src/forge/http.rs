//! The socket, and what happens to an answer on its way.
//!
//! Purpose: HTTP/1.1 with protobuf bodies, gzip from 1024 bytes as Forgejo does it, and the planned faults.
//! Owner: one task per connection, which ends with it; all end with the server's.
//!
//! Invariants: a call is entered and applied under one lock, so the record's order is that of the effects.

use std::{
    io::{self, Write as _},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use flate2::{Compression, write::GzEncoder};
use forgejo::Code;
use http_body_util::{BodyExt as _, Limited};
use hyper::{
    HeaderMap,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use prost::{DecodeError, Message};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};

use super::{
    Shared,
    faults::{Call, Fault, Method, Request, status},
    rules::{Caller, Refused},
};

/// The largest request, as of a proxy that lets much through.
const MAX_REQUEST: usize = 64 << 20;
/// From here on an answer is compressed.
const MIN_GZIP: usize = 1024;

type HttpResponse = hyper::Response<Answered>;

/// Answers until it is aborted.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
            // a dropped connection is what some tests are about
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// The connection ends here, by a fault.
#[derive(Debug, thiserror::Error)]
#[error("the connection drops")]
struct Dropped;

async fn answer(request: hyper::Request<Incoming>, shared: Arc<Shared>) -> Result<HttpResponse, Dropped> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().strip_prefix(shared.settings.prefix.as_str());
    let Some(method) = path.and_then(Method::of).filter(|_| head.method == hyper::Method::POST) else {
        return plain(404, "no such page\n");
    };
    if header(&head.headers, CONTENT_TYPE.as_str()).as_deref() != Some("application/proto") {
        return plain(415, "");
    }
    let Ok(body) = Limited::new(body, MAX_REQUEST).collect().await else {
        return plain(413, "");
    };
    let caller = Caller {
        uuid: header(&head.headers, "x-runner-uuid"),
        token: header(&head.headers, "x-runner-token"),
        request_key: header(&head.headers, "x-runner-request-key"),
    };
    let applied = apply(&shared, method, decode(method, &body.to_bytes()), &caller);
    let gzip = header(&head.headers, ACCEPT_ENCODING.as_str()).is_some_and(|kinds| kinds.contains("gzip"));
    applied.travel(gzip).await
}

/// What the server did, and what happens to the answer.
struct Applied {
    result: Result<Vec<u8>, Refused>,
    fault: Option<Fault>,
}

fn apply(shared: &Shared, method: Method, request: Result<Request, DecodeError>, caller: &Caller) -> Applied {
    shared.change(|state| {
        let call = Call {
            method,
            request: request.as_ref().ok().cloned(),
            runner: caller.uuid.clone(),
            request_key: caller.request_key.clone(),
            status: None,
        };
        let (place, fault) = state.record().enter(call);
        let result = match (&request, &fault) {
            (Err(_), _) => Err(Refused(Code::InvalidArgument, "unmarshal message")),
            (_, Some(Fault::Refuse(code))) => Err(Refused(*code, "planned")),
            // not applied: the answer is not the server's
            (_, Some(Fault::LoseRequest | Fault::Answer(_))) => {
                return Applied { result: Ok(Vec::new()), fault };
            }
            (Ok(request), Some(Fault::ApplyAndRefuse(code))) => {
                let _ = state.apply(request, caller);
                Err(Refused(*code, "planned"))
            }
            (Ok(request), Some(Fault::Twice)) => {
                let _ = state.apply(request, caller);
                state.apply(request, caller)
            }
            (Ok(request), None | Some(Fault::LoseAnswer | Fault::CutAnswer | Fault::Delay(_))) => {
                state.apply(request, caller)
            }
        };
        state.record().answered(place, result.as_ref().map_or_else(|refused| status(refused.0), |_| 200));
        Applied { result, fault }
    })
}

impl Applied {
    async fn travel(self, gzip: bool) -> Result<HttpResponse, Dropped> {
        let mut ending = Ending::Whole;
        match self.fault {
            Some(Fault::LoseRequest | Fault::LoseAnswer) => return Err(Dropped),
            Some(Fault::CutAnswer) => ending = Ending::Cut,
            Some(Fault::Delay(time)) => sleep(time).await,
            Some(Fault::Answer(answer)) => {
                let mut response = hyper::Response::builder().status(answer.status);
                for (name, value) in &answer.headers {
                    response = response.header(name, value);
                }
                return response.body(Answered::new(answer.body, Ending::Whole)).map_err(|_invalid| Dropped);
            }
            Some(Fault::Refuse(_) | Fault::ApplyAndRefuse(_) | Fault::Twice) | None => {}
        }
        match self.result {
            Ok(body) => proto(body, gzip, ending),
            Err(Refused(code, message)) => {
                let body = serde_json::json!({ "code": code.as_str(), "message": message }).to_string();
                respond(status(code), "application/json", body.into_bytes(), Ending::Whole)
            }
        }
    }
}

fn proto(body: Vec<u8>, gzip: bool, ending: Ending) -> Result<HttpResponse, Dropped> {
    if !gzip || body.len() < MIN_GZIP {
        return respond(200, "application/proto", body, ending);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let body = encoder.write_all(&body).and_then(|()| encoder.finish()).map_err(|_never| Dropped)?;
    let mut response = respond(200, "application/proto", body, ending)?;
    response.headers_mut().insert(CONTENT_ENCODING, hyper::header::HeaderValue::from_static("gzip"));
    Ok(response)
}

fn plain(status: u16, text: &str) -> Result<HttpResponse, Dropped> {
    respond(status, "text/plain; charset=utf-8", text.as_bytes().to_vec(), Ending::Whole)
}

fn respond(status: u16, kind: &str, body: Vec<u8>, ending: Ending) -> Result<HttpResponse, Dropped> {
    hyper::Response::builder()
        .status(status)
        .header(CONTENT_TYPE, kind)
        .body(Answered::new(body, ending))
        .map_err(|_invalid| Dropped)
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

fn decode(method: Method, body: &[u8]) -> Result<Request, DecodeError> {
    Ok(match method {
        Method::Ping => Request::Ping(Message::decode(body)?),
        Method::Register => Request::Register(Message::decode(body)?),
        Method::Declare => Request::Declare(Message::decode(body)?),
        Method::FetchTask => Request::FetchTask(Message::decode(body)?),
        Method::FetchSingleTask => Request::FetchSingleTask(Message::decode(body)?),
        Method::UpdateTask => Request::UpdateTask(Message::decode(body)?),
        Method::UpdateLog => Request::UpdateLog(Message::decode(body)?),
        Method::UpdateStepSummary => Request::UpdateStepSummary(Message::decode(body)?),
    })
}

/// Whether a body comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Whole,
    Cut,
}

/// The body of an answer. One that is cut says its whole length, sends the first half, and fails.
struct Answered {
    body: Bytes,
    length: u64,
    ending: Ending,
}

impl Answered {
    fn new(body: Vec<u8>, ending: Ending) -> Self {
        let mut body = Bytes::from(body);
        // an empty body cannot be cut, so one that is to be is promised a byte
        let length = (body.len() as u64).max(u64::from(ending == Ending::Cut));
        if ending == Ending::Cut {
            body.truncate(body.len() / 2);
        }
        Self { body, length, ending }
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if !self.body.is_empty() {
            let body = std::mem::take(&mut self.body);
            return Poll::Ready(Some(Ok(Frame::data(body))));
        }
        Poll::Ready(match self.ending {
            Ending::Whole => None,
            Ending::Cut => Some(Err(io::ErrorKind::ConnectionReset.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ending == Ending::Whole && self.body.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}
