//! Connections: accepted up to a number, each with a time for the heads of its requests, and ended in order.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::GLANCE;

/// The time in which the head of a request must come. A connection that rests as long is closed.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Once nobody is let in any more: how long nothing may happen before clients that do not send or read on are left.
const LEAVE_TIME: Duration = Duration::from_secs(5);

/// Serves connections, at most `most` at once, until `stopped` says so. Those that are there then are served to their end, but for
/// clients that keep the server waiting while it is `idle`.
pub(super) async fn run(
    listener: TcpListener,
    app: Router,
    most: u32,
    stopped: impl Fn() -> bool,
    idle: impl Fn() -> bool,
) {
    let places = Arc::new(Semaphore::new(most as usize));
    let (stopping, watching) = watch::channel(());
    tokio::select! {
        () = accept(&listener, &app, &places, &watching) => {}
        () = until(&stopped) => {}
    }
    drop(listener);
    drop(stopping);
    tokio::select! {
        _ = places.acquire_many(most) => {}
        () = nothing_happens(&idle) => {}
    }
}

async fn until(condition: &impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(GLANCE).await;
    }
}

async fn nothing_happens(idle: &impl Fn() -> bool) {
    let mut rest = Duration::ZERO;
    while rest < LEAVE_TIME {
        tokio::time::sleep(GLANCE).await;
        rest = if idle() { rest + GLANCE } else { Duration::ZERO };
    }
}

async fn accept(listener: &TcpListener, app: &Router, places: &Arc<Semaphore>, stopping: &watch::Receiver<()>) {
    while let Ok(place) = Arc::clone(places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, app.clone(), stopping.clone(), place))),
            // Who hung up at once, or too many open files: others come later.
            Err(_) => tokio::time::sleep(GLANCE).await,
        }
    }
}

async fn serve(stream: TcpStream, app: Router, mut stopping: watch::Receiver<()>, _place: OwnedSemaphorePermit) {
    // A token is sent when it is there. Where that cannot be set, some come together.
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut connection = std::pin::pin!(connection);
    // A connection that breaks off concerns its client alone.
    tokio::select! {
        _ = connection.as_mut() => return,
        // The sender is dropped.
        _ = stopping.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
