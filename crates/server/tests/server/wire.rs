//! Bytes on a connection, for what no client would send.

use crate::app::{App, PATIENCE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection that was opened by hand.
pub struct Wire(TcpStream);

impl Wire {
    pub async fn open(app: &App) -> Self {
        Wire(TcpStream::connect(app.address).await.expect("the server listens"))
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("the server reads");
    }

    /// Everything until the server closes.
    pub async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        // A reset after the answer ends it as well.
        drop(tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut bytes)).await.expect("the server closes"));
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The head of a request with the key and version of the app.
pub fn head(app: &App, request_line: &str, more: &[&str]) -> String {
    let more: String = more.iter().map(|line| format!("{line}\r\n")).collect();
    format!(
        "{request_line} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nAlguna-Version: 2026-04-01\r\n{more}\r\n",
        app.address, app.key
    )
}
