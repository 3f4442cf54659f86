//! The routes: who may ask, what each answers.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::body::{BODY_BYTES_MAX, JsonBody};
use super::chat::Chat;
use super::completions::{Completions, Prompt};
use super::errors::ApiError;
use super::fields::Fields;
use super::shape::Shape;
use super::{Job, Served, chat, completions, stream, tokens};

/// By which requests are counted; what asks for none of them is counted as another.
const ROUTES: [&str; 7] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/models",
    "/tokenize",
    "/detokenize",
    "/health",
    "/metrics",
];

/// Everything that a server answers.
pub fn router(served: Arc<Served>) -> Router {
    let guarded = Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completions))
        .route("/v1/models", get(models))
        .route("/v1/models/{*name}", get(model))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route_layer(from_fn_with_state(served.clone(), guard));
    guarded
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(served.clone(), count))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(served)
}

/// Lets through who has the key, if there is one. Which key was sent is told nobody.
async fn guard(State(served): State<Arc<Served>>, request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).map(|value| value.as_bytes());
    let sent = header.and_then(|value| value.strip_prefix(b"Bearer "));
    match &served.key {
        Some(key) if !sent.is_some_and(|sent| key.is(sent)) => {
            let message = "expected the server's key as a bearer token, found another or none";
            ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message).into_response()
        }
        _ => next.run(request).await,
    }
}

async fn count(State(served): State<Arc<Served>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let route = ROUTES.iter().find(|route| **route == path).copied().unwrap_or("other");
    let response = next.run(request).await;
    served.metrics.answered(route, response.status().as_u16());
    response
}

async fn no_route(method: Method, uri: Uri) -> ApiError {
    let message = format!("{method} {}: there is no such route", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
}

async fn no_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{method} {}: the route is there for another method", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

async fn chat(State(served): State<Arc<Served>>, body: JsonBody) -> Result<Response, ApiError> {
    let fields = Fields(&body.map);
    let (conversation, asked) = chat::read(&fields, || served.seed())?;
    served.check_model(&fields)?;
    let prompt = served.rendered(conversation).await?;
    drop(body);
    let tokenizer = served.policy().tokenizer.clone();
    let shape = Chat { tokenizer, tell: asked.tell, prompt: prompt.clone() };
    answer(served, Job { prompts: vec![prompt], asked }, shape).await
}

async fn completions(
    State(served): State<Arc<Served>>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let fields = Fields(&body.map);
    let vocab_size = served.policy().config.vocab_size;
    let (given, asked) = completions::read(&fields, vocab_size, || served.seed())?;
    served.check_model(&fields)?;
    let texts = given.iter().filter_map(|prompt| match prompt {
        Prompt::Text(text) => Some(text.clone()),
        Prompt::Ids(_) => None,
    });
    let mut encoded = served.encoded(texts.collect()).await?.into_iter();
    let prompts = given.into_iter().map(|prompt| match prompt {
        Prompt::Text(_) => encoded.next().unwrap_or_default().into(),
        Prompt::Ids(ids) => ids.into(),
    });
    let prompts: Vec<Arc<[u32]>> = prompts.collect();
    drop(body);
    let shape = Completions {
        tokenizer: served.policy().tokenizer.clone(),
        tell: asked.tell,
        prompts: prompts.clone(),
        choices: asked.choices,
    };
    answer(served, Job { prompts, asked }, shape).await
}

async fn answer<S: Shape>(served: Arc<Served>, job: Job, shape: S) -> Result<Response, ApiError> {
    job.check(&served)?;
    if let Some(options) = job.asked.stream {
        return stream::respond(served, job, shape, options).await;
    }
    let mut answers = job.start::<S>(&served)?;
    let choices = answers.whole().await?;
    let whole = shape.whole(&served.head::<S>(), &choices, answers.usage());
    Ok(Json(whole).into_response())
}

async fn models(State(served): State<Arc<Served>>) -> Json<Value> {
    Json(json!({"object": "list", "data": [described(&served)]}))
}

async fn model(
    State(served): State<Arc<Served>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    served.check_name(&name)?;
    Ok(Json(described(&served)))
}

fn described(served: &Served) -> Value {
    json!({
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "orcapack",
        "max_model_len": served.context_tokens_max(),
    })
}

/// Whether it is worth asking anything else.
async fn health(State(served): State<Arc<Served>>) -> Result<Json<Value>, ApiError> {
    match served.engine.ended() {
        None => Ok(Json(json!({"status": "ok"}))),
        Some(error) => Err(ApiError::of_engine(&error, "prompt")),
    }
}

async fn metrics(State(served): State<Arc<Served>>) -> impl IntoResponse {
    let kept_tokens_max = served.settings().kept_tokens_max;
    let text = served.metrics.text(&served.engine.stats(), kept_tokens_max);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
