//! Errors in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Why a request is not answered.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    kind: &'static str,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), param: None, code: None }
    }

    /// The request is at fault, at this field.
    pub(super) fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        let refusal = Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message);
        Self { param: Some(param.into()), ..refusal }
    }

    /// The request is at fault.
    pub(super) fn request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// The conversation is longer than the model can read.
    pub(super) fn too_long(tokens: usize, context: usize) -> Self {
        let message = format!("the conversation has {tokens} tokens, the maximum context length is {context}");
        Self { code: Some("context_length_exceeded"), ..Self::field("messages", message) }
    }

    /// The body is too large.
    pub(super) fn too_large(most: usize) -> Self {
        let message = format!("the request has more than {} MiB", most >> 20);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message)
    }

    /// The body did not come in time.
    pub(super) fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", "the request did not come in time")
    }

    /// The token is not the one.
    pub(super) fn unauthorized() -> Self {
        let message = "expected the server's token as `Authorization: Bearer …`";
        let refusal = Self::new(StatusCode::UNAUTHORIZED, "authentication_error", message);
        Self { code: Some("invalid_api_key"), ..refusal }
    }

    /// The request names a host that this server is not.
    pub(super) fn other_host() -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_error", "this server answers on loopback only")
    }

    /// There is nothing at this address.
    pub(super) fn no_route(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", format!("there is no {what}"))
    }

    /// The address takes another method.
    pub(super) fn method(what: &str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", format!("not a method of {what}"))
    }

    /// Another model is asked for.
    pub(super) fn no_model(name: &str, served: &str) -> Self {
        let short: String = name.chars().take(80).collect();
        let refusal = Self::new(
            StatusCode::NOT_FOUND,
            "invalid_request_error",
            format!("there is no model {short:?}, this is {served:?}"),
        );
        Self { param: Some("model".to_owned()), code: Some("model_not_found"), ..refusal }
    }

    /// The body is not JSON by its own account.
    pub(super) fn media_type() -> Self {
        let message = "expected `Content-Type: application/json`";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", message)
    }

    /// Too many wait already.
    pub(super) fn busy(most: usize) -> Self {
        let message = format!("{most} requests are waiting or served already, come again");
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message);
        Self { code: Some("rate_limit_exceeded"), ..refusal }
    }

    /// The server failed.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The error object.
    pub(super) fn json(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}})
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.json())).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
