//! A collector of traces and figures: it keeps what is sent to it, as it was sent.

use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};

/// What was sent.
pub struct Export {
    /// To which of its paths: `/v1/traces` or `/v1/metrics`.
    pub path: String,
    /// A message of OTLP.
    pub body: Vec<u8>,
}

/// Takes exports (OTLP over HTTP) at the URL for as long as the process lives; they come by the receiver.
pub fn collector() -> Result<(String, Receiver<Export>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    let (sender, exports) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sender = sender.clone();
            // A client that breaks off is done.
            std::thread::spawn(move || take(stream, &sender));
        }
    });
    Ok((url, exports))
}

fn take(stream: TcpStream, sender: &Sender<Export>) -> Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut line) = (0, String::new());
        reader.read_line(&mut line)?;
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        line.clear();
        while reader.read_line(&mut line)? > 2 {
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        if length == 0 || sender.send(Export { path, body }).is_err() {
            return Ok(());
        }
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        reader.get_mut().write_all(answer.as_bytes())?;
    }
}
